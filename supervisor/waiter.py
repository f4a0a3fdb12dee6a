"""Somebody who waits for the tree, in whichever thread, and how that ends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

from .world import World


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who waits until something is true of the tree."""

    holds: Callable[[World], bool]
    done: Future[None] = field(default_factory=Future)


def set_result(done: Future[None]) -> None:
    """Let go of whoever waits, if that has not been done."""
    with suppress(InvalidStateError):  # whoever waited has cancelled it, or the tree has ended first
        done.set_result(None)


def set_exception(done: Future[None], error: BaseException) -> None:
    """Have it raised where somebody waits, if that has not been let go."""
    with suppress(InvalidStateError):
        done.set_exception(error)
