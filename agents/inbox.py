"""A way into an event loop from other threads, in order; a burst of posts costs one wake-up of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress


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
        self._woken = False

    def post(self, action: Callable[[], None]) -> None:
        """Have `action`, which must not raise, called in the loop. Any thread."""
        self._actions.append(action)
        if not self._woken:  # read after the append, cleared before the deque is emptied: no post is overlooked
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._drain)
        if self.loop.is_closed():
            self.closed = True

    def _drain(self) -> None:
        self._woken = False
        while self._actions:
            self._actions.popleft()()
