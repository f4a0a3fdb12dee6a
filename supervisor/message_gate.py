"""What keeps a flood of messages from filling the memory of the supervision thread."""

from __future__ import annotations

import threading
from typing import Final

MAX_PENDING_MESSAGES: Final = 1_000
"""``AGENT_MESSAGE``s that may wait for the supervision thread; what comes beyond is dropped, and counted."""


class MessageGate:
    """Lets messages in until too many wait for the supervision thread; then none until all of those were taken."""

    def __init__(self) -> None:
        """Begin with nobody inside."""
        self._lock = threading.Lock()
        self._inside = 0
        self._dropped = 0

    def enter(self) -> bool:
        """Return whether a message may come in; one that may not is counted. Any thread."""
        with self._lock:
            if self._dropped or self._inside >= MAX_PENDING_MESSAGES:
                self._dropped += 1
                return False
            self._inside += 1
            return True

    def leave(self) -> int:
        """Note that a message was taken; return how many were dropped if it was the last before a gap, else 0."""
        with self._lock:
            self._inside -= 1
            if self._inside:
                return 0
            dropped, self._dropped = self._dropped, 0
            return dropped
