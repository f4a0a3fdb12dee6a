"""Callbacks that are called with events: each in a thread of its own, or as a task of an asyncio program.

Nothing here runs in the supervision thread, and what one callback does or raises concerns no other.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, cast

from orchestree.strategies.errors import SpecError

from .event_readers import EventIterator, EventReader, EventStream, LoopBell, ThreadBell
from .events import Event, EventType

EventCallback = Callable[[Event], object]
"""A function of one event, or an ``async def`` of one event. Its result is ignored."""

Report = Callable[[str, BaseException], object]
"""Told of a call that raised: the callback's name and what it raised."""


class Subscription(ABC):
    """One subscribed callback; events reach it one after another, in order.

    Attributes:
        handler: name of the callback, ``module.qualname``.
        failures: how many calls have raised.
    """

    def __init__(
        self, handler: str, reader: EventReader, report: Report, forget: Callable[[Subscription], object]
    ) -> None:
        """`forget` is told when the last call is over."""
        self.handler = handler
        self.failures = 0
        self._reader = reader
        self._report = report
        self._forget = forget

    @property
    def closed(self) -> bool:
        """Whether no more events come in; the callback may still be busy with those that did."""
        return self._reader.closed

    def close(self) -> None:
        """Take no more events. Any thread, any number of times; does not wait.

        The callback still gets what was published before; then its thread or task ends.
        """
        self._reader.close()

    def __enter__(self) -> Self:
        """Return the subscription."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @abstractmethod
    def begin(self) -> None:
        """Start to call. Once."""

    def _failed(self, event: Event, error: BaseException) -> None:
        self.failures += 1
        # A callback that also fails on the event about its own failure would go round for ever.
        if event.type is not EventType.HANDLER_FAILED:
            self._report(self.handler, error)


class ThreadSubscription(Subscription):
    """A callback in a daemon thread of its own."""

    def __init__(
        self,
        callback: EventCallback,
        reader: EventReader,
        bell: ThreadBell,
        report: Report,
        forget: Callable[[Subscription], object],
    ) -> None:
        """`reader` rings `bell`."""
        super().__init__(handler_name(callback), reader, report, forget)
        self._callback = callback
        self._events = EventIterator(reader, bell)
        self._thread = threading.Thread(target=self._run, name=f"orchestree-handler {self.handler}", daemon=True)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout: float) -> bool:
        """Wait until the thread has ended; False when `timeout` seconds were not enough.

        True at once in that thread itself, and when it never began.
        """
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        for event in self._events:
            try:
                self._callback(event)
            except BaseException as error:  # `sys.exit()` too ends this call, not the subscription
                self._failed(event, error)
        self._forget(self)


class TaskSubscription(Subscription):
    """An ``async def`` callback, as a task of the loop that subscribed.

    Attributes:
        task: None until the subscription begins.
    """

    def __init__(
        self,
        callback: EventCallback,
        reader: EventReader,
        bell: LoopBell,
        report: Report,
        forget: Callable[[Subscription], object],
    ) -> None:
        """`reader` rings `bell`."""
        super().__init__(handler_name(callback), reader, report, forget)
        self.task: asyncio.Task[None] | None = None
        self._callback = cast(Callable[[Event], Awaitable[object]], callback)
        self._events = EventStream(reader, bell)

    def begin(self) -> None:
        """Start the task in the running loop.

        Raises:
            SpecError: no loop runs in this thread.
        """
        if running_loop() is None:
            raise SpecError(
                f"{self.handler} is an 'async def' and needs an event loop: "
                "subscribe it, or start the orchestrator, in a coroutine"
            )
        self.task = asyncio.create_task(self._run(), name=f"orchestree-handler {self.handler}")

    async def _run(self) -> None:
        try:
            async for event in self._events:
                await self._call(event)
        finally:
            self.close()
            self._forget(self)

    async def _call(self, event: Event) -> None:
        try:
            await self._callback(event)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the program ends; otherwise the callback has cancelled itself
            self._failed(event, error)
        except Exception as error:
            self._failed(event, error)


def handler_name(callback: EventCallback) -> str:
    """Return ``module.qualname`` of a callback, or of its class when it has no name itself."""
    named = callback if hasattr(callback, "__qualname__") else type(callback)
    return f"{named.__module__}.{named.__qualname__}"


def is_async(callback: EventCallback) -> bool:
    """Return whether `callback` is an ``async def``, or an object whose ``__call__`` is one."""
    return inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
