"""Signals for the processes of a tree's agents, and never for any other process.

A pidfd never means another process than when it was opened: it is opened first, then it is checked that the process is
one of an agent below this program, and still that of the agent that is meant; only then the signal goes through it.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from orchestree.agents.process.descendants import NoDescriptors, is_zombie, marks_of, parent_of
from orchestree.agents.process.guardian import is_readable
from orchestree.strategies.errors import NotFound
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.states import RUNNING_STATES
from orchestree.supervisor.status import Status


class Spared(Exception):
    """Nothing was done, because of what the message says."""


@dataclass(frozen=True, slots=True)
class Victim:
    """One run of an agent, in a process of its own."""

    path: str
    incarnation: int
    pid: int


@dataclass(slots=True)
class _Hold:
    """A process that stands still, until `until`; `pidfd` is ours to close."""

    pidfd: int
    until: float


class Victims:
    """Sends the signals. One thread. When the ``with`` block is left, whoever stands still goes on.

    All moments are seconds on the caller's clock, whichever that is.
    """

    def __init__(self, orchestrator: Orchestrator) -> None:
        """Hurt nobody yet."""
        self._orchestrator = orchestrator
        self._held: dict[Victim, _Hold] = {}

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(self, *error: object) -> None:
        """Have everybody go on."""
        self.release()

    @property
    def next_release(self) -> float:
        """When the next of those that stand still is to go on; infinity if none is."""
        return min((hold.until for hold in self._held.values()), default=math.inf)

    def end(self, path: str, number: signal.Signals) -> Victim:
        """Send the agent's process a signal that ends it, also if it stands still.

        Raises:
            Spared: it does not run.
        """
        with self._pidfd_of(path) as (victim, pidfd):
            _send(pidfd, number)
            if (hold := self._held.pop(victim, None)) is not None:
                _go_on(hold)  # a process that stands still takes no signal but SIGKILL
        return victim

    def hold(self, path: str, until: float) -> Victim:
        """Have the agent's process stand still until then; the latest such moment counts.

        Raises:
            Spared: it does not run.
        """
        with self._pidfd_of(path) as (victim, pidfd):
            if (hold := self._held.get(victim)) is not None:
                hold.until = max(hold.until, until)
                return victim
            # Kept first: whatever comes in between, somebody knows whom to let go on.
            self._held[victim] = _Hold(os.dup(pidfd), until)
            _send(pidfd, signal.SIGSTOP)
        return victim

    def release(self, now: float = math.inf) -> list[Victim]:
        """Have those go on whose time has come by `now`; return who really did, which is not who has ended since."""
        due = [victim for victim, hold in self._held.items() if hold.until <= now]
        return [victim for victim in due if _go_on(self._held.pop(victim))]

    @contextmanager
    def _pidfd_of(self, path: str) -> Iterator[tuple[Victim, int]]:
        victim = self._running(path)
        try:
            pidfd = os.pidfd_open(victim.pid)
        except OSError as error:
            raise Spared(f"its process could not be had: {error.strerror}") from None
        try:
            if not _is_of_an_agent(victim.pid) or self._running(path) != victim:
                raise Spared("its run has just ended")
            yield victim, pidfd
        finally:
            os.close(pidfd)

    def _running(self, path: str) -> Victim:
        try:
            status: Status = self._orchestrator.status(path)
        except NotFound:
            raise Spared("it is not in the tree any more") from None
        if status.state not in RUNNING_STATES:
            raise Spared(f"it did not run then, it was {status.state}")
        if status.pid is None:
            raise Spared("its process is not known before it is ready")
        return Victim(path, status.incarnation, status.pid)


def _is_of_an_agent(pid: int) -> bool:
    """Return whether the process runs, descends from this one and carries the mark of a run."""
    parent = None if is_zombie(pid) else parent_of(pid)
    while parent is not None and parent > 1 and parent != os.getpid():
        parent = parent_of(parent)
    try:
        return parent == os.getpid() and bool(marks_of(pid))
    except NoDescriptors:
        return False


def _send(pidfd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise Spared("its run has just ended") from None


def _go_on(hold: _Hold) -> bool:
    try:
        if is_readable(hold.pidfd):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(hold.pidfd, signal.SIGCONT)
        return True
    finally:
        os.close(hold.pidfd)
