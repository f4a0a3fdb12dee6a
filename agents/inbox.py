"""A way into an event loop from other threads, in order; a burst of posts costs one wake-up of the loop."""

from __future__ import annotations

import asyncio
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

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Post into `loop`, running or not."""
        self.loop = loop
        self.closed = False
        self._actions: deque[Callable[[], None]] = deque()
        self._context = Context()  # nothing done here takes place in the context of whoever happened to post
        self._woken = False

    def post(self, action: Callable[[], None]) -> None:
        """Have `action` called in the loop; what it raises goes to the loop's exception handler. Any thread."""
        self._actions.append(action)
        if not self._woken:  # read after the append, cleared before the deque is emptied: no post is overlooked
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._drain, context=self._context)
        if self.loop.is_closed():
            self.closed = True

    def _drain(self) -> None:
        self._woken = False
        for _ in range(len(self._actions)):  # what comes meanwhile has to wait for the loop's timers and readers
            try:
                self._actions.popleft()()
            except Exception as error:
                self.loop.call_exception_handler({"message": "an action failed", "exception": error})
