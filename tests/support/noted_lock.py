"""A lock at which a test can see who has come."""

from __future__ import annotations

import threading


class NotedLock:
    """A lock that notes who comes to it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.came = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.came.release()
        self.lock.acquire()

    def __exit__(self, *failure: object) -> None:
        self.lock.release()
