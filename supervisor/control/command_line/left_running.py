"""What a file leaves running when it has been loaded: threads and child processes, in words for one line."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psutil

ENDING_S: Final = 0.2
"""Seconds that a thread which does nothing of the user's own has for its end."""
_HELPER_OF_MULTIPROCESSING = "resource_tracker"
"""Started by whoever makes a lock or shared memory; it does no work of its own and ends with us."""


@dataclass(frozen=True, slots=True)
class LeftRunning:
    """The threads (ids) and child processes that there are at one moment."""

    threads: frozenset[int]
    children: tuple[psutil.Process, ...]

    @classmethod
    def now(cls) -> LeftRunning:
        """Return what runs beside this thread, C code that knows nothing of Python left out."""
        return cls(frozenset(sys._current_frames()) - {threading.get_ident()}, tuple(filter(_works, _children())))

    def since(self, before: LeftRunning) -> LeftRunning:
        """Return what of it did not run at the moment of `before`."""
        new = self.threads - before.threads
        return LeftRunning(
            frozenset(ident for ident in new if not _is_on_its_way_out(ident)),
            tuple(child for child in self.children if child not in before.children),
        )

    def __bool__(self) -> bool:
        """Say whether anything runs."""
        return bool(self.threads or self.children)

    def __str__(self) -> str:
        """Return ``thread 'poller' (app.py:7), process 'sleep 60' (pid 4711)``."""
        return ", ".join([*map(_thread, sorted(self.threads)), *map(_process, self.children)])

    def end_processes(self) -> None:
        """Ask the child processes to end: otherwise they would outlive a command that was only to look."""
        for child in self.children:
            with suppress(psutil.Error):
                child.terminate()


def _children() -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process().children()
    return []


def _works(child: psutil.Process) -> bool:
    try:
        is_helper = any(_HELPER_OF_MULTIPROCESSING in word for word in child.cmdline())
        return child.status() != psutil.STATUS_ZOMBIE and not is_helper
    except psutil.Error:
        return False


def _is_on_its_way_out(ident: int) -> bool:
    """Return whether a thread has done its work: nothing of the user's own is left, and it ends within a moment."""
    from .target import own_place

    if own_place(sys._current_frames().get(ident)):
        return False
    for thread in threading.enumerate():
        if thread.ident == ident:
            thread.join(ENDING_S)  # such as one of a pool that nobody refers to any more
            return not thread.is_alive()
    return True


def _thread(ident: int) -> str:
    """Return its name, and where in the user's own code, or else where at all, it is now."""
    from .target import own_place

    name = next((thread.name for thread in threading.enumerate() if thread.ident == ident), "")
    place = own_place(sys._current_frames().get(ident))
    return f"thread {name!r}{f' ({place})' if place else ''}"


def _process(child: psutil.Process) -> str:
    try:
        words = " ".join(child.cmdline()) or child.name()
    except psutil.Error:
        words = "ended"
    shown = " ".join(words.split())
    return f"process '{shown if len(shown) <= 60 else shown[:57] + '...'}' (pid {child.pid})"
