"""A way into an event loop from other threads, in order; a burst of posts costs one wake-up of the loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context


class Inbox:
    """What other threads want to be done in a loop.

    Attributes:
        closed: nothing will be done any more. Set before the owner looks for what is left undone, and read by
            others after a post, so that one of the two sides sees each post.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lag: Callable[[float], None] | None = None) -> None:
        """Post into `loop`, running or not.

        `on_lag` is called in the loop, once for each wake-up and after what that was for, with the seconds from it
        until the loop turned; it must neither block nor raise.
        """
        self.loop = loop
        self.closed = False
        self._on_lag = on_lag
        self._actions: deque[Callable[[], None]] = deque()
        self._context = Context()  # nothing done here takes place in the context of whoever happened to post
        self._woken = False
        self._woken_at = 0.0
        self._urgent: deque[Callable[[], None]] = deque()
        self._hurried = False

    @property
    def unread_s(self) -> float:
        """Seconds for which the loop has not turned since the oldest post that waits; 0 if none does. Any thread."""
        return time.monotonic() - self._woken_at if self._woken else 0.0

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called in the loop; what it raises goes to the loop's exception handler. Any thread."""
        self._actions.append(action)
        if not self._woken:  # read after the append, cleared before the deque is emptied: no post is overlooked
            self._woken_at = time.monotonic()
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._drain, context=self._context)
        if self.loop.is_closed():
            self.closed = True

    def post_first(self, action: Callable[[], None]) -> None:
        """Have `action` called before all that the loop has to do already, as soon as its present step is over.

        A loop that does not keep what is ready in a deque, as asyncio's do, calls it in the order of `post`.
        """
        self._urgent.append(action)
        if not self._hurried:
            self._hurried = True
            ready = getattr(self.loop, "_ready", None)
            if isinstance(ready, deque):
                ready.appendleft(asyncio.Handle(self._hurry, (), self.loop, self._context))
        self.post(self._hurry)

    def _hurry(self) -> None:
        self._hurried = False
        while self._urgent:
            self._call(self._urgent.popleft())

    def _drain(self) -> None:
        lag = self.unread_s if self._on_lag is not None else 0.0
        self._woken = False
        for _ in range(len(self._actions)):  # what comes meanwhile has to wait for the loop's timers and readers
            self._call(self._actions.popleft())
        if self._on_lag is not None:
            self._on_lag(lag)

    def _call(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.loop.call_exception_handler({"message": "an action failed", "exception": error})
