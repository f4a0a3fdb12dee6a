"""What every fault needs: a victim, a way to hurt it, and the event that shows the effect. Waits always have an end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from orchestree_testing.torture_agents import give_order

from orchestree.supervisor import AgentCrashed, AgentMessage, AgentState, Event, EventType

from .trees import Tree

PATIENCE_S: Final = 30.0
"""Seconds after which what has not happened never will."""
READY_S: Final = 2.0
"""Seconds within which some agent should be ready."""
ENDS: Final = (
    EventType.AGENT_CRASHED,
    EventType.AGENT_RESTARTING,
    EventType.AGENT_TERMINATED,
    EventType.AGENT_PARKED,
)


class Missed(Exception):
    """The fault came to nothing, because something else has happened to the victim; it is dealt again."""


@dataclass(frozen=True, slots=True)
class Victim:
    """One incarnation of an agent that was ready when all events up to `since` had been published."""

    path: str
    executor: str
    incarnation: int
    pid: int
    since: int


@dataclass
class Scene:
    """What all hands share.

    Attributes:
        folder: where the FIFOs are.
        orders: numbers that no order had before.
        problems: what must never be, one line each.
        claimed: path and incarnation of those whose end is somebody's doing already.
        frozen: path and incarnation of those that were stopped, who can do nothing else any more.
        servers: held by whoever needs that fork servers neither die nor start.
        handlers: held by whoever blocks a handler of its own.
        stdout: held by whoever has taken it away.
        clock: held by whoever sets it.
    """

    tree: Tree
    folder: Path
    orders: Iterator[int] = field(default_factory=lambda: count(1))
    problems: list[str] = field(default_factory=list)
    claimed: set[tuple[str, int]] = field(default_factory=set)
    frozen: set[tuple[str, int]] = field(default_factory=set)
    claiming: threading.Lock = field(default_factory=threading.Lock)
    servers: threading.Lock = field(default_factory=threading.Lock)
    handlers: threading.Lock = field(default_factory=threading.Lock)
    stdout: threading.Lock = field(default_factory=threading.Lock)
    clock: threading.Lock = field(default_factory=threading.Lock)


class Hand:
    """One of those who torture, each in a thread of its own."""

    def __init__(self, scene: Scene, draw: random.Random) -> None:
        self.scene, self.tree, self.draw = scene, scene.tree, draw

    def victim(self, *executors: str) -> Victim:
        """Choose a steady agent that is ready, of one of these executors (all, if none is named); wait for one."""
        deadline = time.monotonic() + READY_S
        while True:
            since = self.tree.events.latest
            if (found := self._ready(executors, since)) is not None:
                return found
            self.event(EventType.AGENT_READY, lambda event: True, since, deadline - time.monotonic())

    def _ready(self, executors: Sequence[str], since: int) -> Victim | None:
        for each in self.draw.sample(self.tree.steady, len(self.tree.steady)):
            status = self.tree.status(each)
            assert status.executor is not None
            is_frozen = (each, status.incarnation) in self.scene.frozen
            is_wanted = not is_frozen and (not executors or status.executor in executors)
            if is_wanted and status.state is AgentState.READY:
                return Victim(each, status.executor, status.incarnation, status.pid or 0, since)
        return None

    def signal(self, victim: Victim, number: signal.Signals) -> None:
        """Send a signal to the process, which cannot be another one."""
        with pidfd_of(victim.pid) as pidfd:
            if self.tree.status(victim.path).pid != victim.pid:
                raise Missed("it has just ended")
            signal.pidfd_send_signal(pidfd, number)

    def order(self, victim: Victim, words: str, *more: int) -> int:
        """Give an order with a new number; return that."""
        number = next(self.scene.orders)
        with trying():
            give_order(self.scene.folder, victim.path, " ".join(map(str, (words, number, *more))))
        return number

    def sign_of(self, victim: Victim, fits: Callable[[Event], bool] = lambda event: False) -> Event:
        """Return the first event of this incarnation that fits or says that it has ended; that must come."""

        def shows(event: Event) -> bool:
            is_meant = event.path == victim.path and event.incarnation == victim.incarnation
            return is_meant and (event.type in ENDS or fits(event))

        kinds = (*ENDS, EventType.AGENT_MESSAGE)
        try:
            return self.tree.events.wait_for(kinds, victim.path, where=shows, since=victim.since, timeout=PATIENCE_S)
        except TimeoutError:
            raise Missed(f"no sign of {victim}: {self.tree.status(victim.path)}") from None

    def message_of(self, victim: Victim, name: str, burst: int, least: int = 0) -> None:
        """Return when a message of this name and order has come, of a flood one with at least this number."""

        def fits(event: Event) -> bool:
            if not isinstance(event.data, AgentMessage):
                return False
            data = event.data.data
            number = data.get("number", 0)
            return event.data.name == name and data["burst"] == burst and isinstance(number, int) and number >= least

        event = self.sign_of(victim, fits)
        if event.type is not EventType.AGENT_MESSAGE:
            raise Missed(f"it has ended: {event.data}")

    def end_of(self, victim: Victim) -> Event:
        """Return the first event that says that this incarnation has ended. That there is none is a problem."""
        try:
            return self.sign_of(victim)
        except Missed as missed:
            status = self.tree.status(victim.path)
            if status.incarnation == victim.incarnation and status.state is AgentState.READY:
                self.scene.problems.append(f"its end was not noticed: {missed}")
            raise

    def crash_of(self, victim: Victim, fits: Callable[[AgentCrashed], bool]) -> AgentCrashed:
        """Return the crash, which must fit; any other end means that the fault came too late."""
        data, run = self.end_of(victim).data, (victim.path, victim.incarnation)
        if not (isinstance(data, AgentCrashed) and fits(data)):
            raise Missed(f"another end: {data}")
        with self.scene.claiming:
            if run in self.scene.claimed:
                raise Missed("somebody else has done the same")
            self.scene.claimed.add(run)
        return data

    def event(
        self, kinds: EventType | Sequence[EventType], fits: Callable[[Event], bool], since: int, timeout: float = 5.0
    ) -> Event:
        """Return the first such event after `since`."""
        try:
            return self.tree.events.wait_for(kinds, where=fits, since=since, timeout=timeout)
        except TimeoutError as error:
            raise Missed(str(error)) from None


@contextmanager
def trying() -> Iterator[None]:
    """A system call that fails here may do so: somebody else takes the descriptors away, or the victim ends."""
    try:
        yield
    except OSError as error:
        raise Missed(str(error)) from None


@contextmanager
def pidfd_of(pid: int) -> Iterator[int]:
    """Open it for the block."""
    with trying():
        pidfd = os.pidfd_open(pid)
    try:
        with trying():
            yield pidfd
    finally:
        os.close(pidfd)


@contextmanager
def alone(lock: threading.Lock) -> Iterator[None]:
    """Hold the lock, or miss: who waits here would only delay its own next fault."""
    if not lock.acquire(timeout=PATIENCE_S):
        raise Missed("somebody else is at it")
    try:
        yield
    finally:
        lock.release()
