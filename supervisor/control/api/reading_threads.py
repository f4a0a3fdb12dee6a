"""Threads for reads that may take a while, each with a deadline.

What is read may run code of a user (the `repr` of a result), which may never return. Such a read costs its client
the deadline and everybody else one of few threads; it keeps neither the program from ending nor a command from being
carried out, since these threads are daemons and no command needs one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from .problems import Problem

READ_S: Final = 10.0
"""Seconds in which a read has to be done, its wait for a thread included."""

AT_ONCE: Final = 8
"""Threads of each kind in the whole program."""

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    look: Callable[[], Any]
    found: Future[Any] = field(default_factory=Future)

    def run(self) -> None:
        if self.found.set_running_or_notify_cancel():  # else nobody waits for it any more
            try:
                self.found.set_result(self.look())
            except Exception as error:
                self.found.set_exception(error)
            except BaseException as error:  # code of a user ran; a SystemExit would end the loop that waits
                self.found.set_exception(RuntimeError(f"it raised {type(error).__name__}"))


class ReadingThreads:
    """Calls what is slow in threads that end when there is nothing to do. For any number of event loops."""

    def __init__(self, most: int = AT_ONCE) -> None:
        """Begin without a thread; there will be at most so many."""
        self._most = most
        self._lock = threading.Lock()  # for the two below
        self._running = 0
        self._waiting: deque[_Read] = deque()

    async def call(self, look: Callable[[], _Found]) -> _Found:
        """Return what `look` returns, which runs in a thread.

        Raises:
            Problem: ``timeout``: it is not done within `READ_S`, and goes on for nobody. ``ended``: the program ends.
        """
        read = _Read(look)
        self._begin(read)
        try:
            async with asyncio.timeout(READ_S) as limit:
                found: _Found = await asyncio.wrap_future(read.found)
                return found
        except TimeoutError:
            if not limit.expired():  # it is an error of its own
                raise
            raise Problem(
                "timeout", f"not read within {READ_S:g} s; perhaps a value of an agent hangs when it is looked at"
            ) from None
        finally:
            with self._lock, suppress(ValueError):
                self._waiting.remove(read)

    def _begin(self, read: _Read) -> None:
        with self._lock:
            if self._running >= self._most:
                self._waiting.append(read)
                return
            self._running += 1
        try:
            threading.Thread(target=self._work, args=(read,), name="orchestree-control-read", daemon=True).start()
        except RuntimeError:  # newer Pythons start no thread once the interpreter ends; or there is none left
            with self._lock:
                self._running -= 1
            raise Problem("ended", "the program ends, or can have no further thread") from None

    def _work(self, read: _Read) -> None:
        while True:
            read.run()
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                read = self._waiting.popleft()


VALUES: Final = ReadingThreads()
"""For what looks at values of users: results, configurations, data of events."""

TREES: Final = ReadingThreads()
"""For what does not, and so never hangs."""
