"""What a child was doing at a moment, and why, read off a replay. Pure but for the time zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestree.strategies.errors import NotFound, SpecError, did_you_mean
from orchestree.supervisor.events import (
    AgentQueued,
    AgentRegistered,
    AgentRestarting,
    AgentWaiting,
    AgentWedged,
    Command,
    Event,
    OrchestratorStarted,
    OrchestratorStopped,
    PolicyChanged,
    SupervisorRestarting,
)
from orchestree.supervisor.phrases import MOST_NAMES, listed
from orchestree.supervisor.simulation.limits import FARTHEST_S

from .decisions import EndDecided
from .lives import Life, latest_life
from .reasons import Reason, Reasons
from .told_states import ABSENT, State
from .wording import made_from, when

if TYPE_CHECKING:
    from .replay_result import Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a child was doing at a moment, and why. Moments are wall seconds since 1970; of a simulation virtual ones.

    Attributes:
        path: of the child; ``""`` is the root.
        asked_at: the moment that was asked for.
        told_at: the moment that is told: the end of what was replayed, if that is earlier.
        state: in which it was then; not in the tree is, too, what was unregistered, and what is not kept: a temporary
            child, or one of a dynamic supervisor, that has ended for good, or whose supervisor has.
        since: when that began; None if it had not been in the tree yet.
        decision: about an end, its own or of another child, from which that followed; None if it followed from none.
        earlier: what was decided when it had last ended by itself, if there is no `decision`.
        lines: all of this in words.
    """

    path: str
    asked_at: float
    told_at: float
    state: State
    since: float | None = None
    decision: EndDecided | None = None
    earlier: EndDecided | None = None
    lines: tuple[str, ...]


def account_of(replay: Replay, path: str, at: float | None) -> Account:
    """Return what `Replay.why` tells, as values, and raise what it raises."""
    if path not in replay.paths:
        raise NotFound(f"{path!r}: no such agent or supervisor in the log{did_you_mean(path, replay.paths)}")
    if at is not None and (isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) < FARTHEST_S):
        raise SpecError(f"at={at!r}: must be seconds since 1970, as in an event's time")
    past = _Past(replay, at)
    life = past.life(path)
    lines, reason, earlier = [past.headline(path)], Reason(), None
    if life is not None:
        reason = Reasons(path, life, past.events, past.decisions, virtual=past.virtual).latest()
        lines += [*past.waited_for(life), *reason.lines]
        if reason.decision is not None:
            lines += made_from(reason.decision, virtual=past.virtual)
        elif (earlier := past.last_end(path, life)) is not None:
            lines += ["before that, when it last ended by itself:", *made_from(earlier, virtual=past.virtual)]
    return Account(
        path=path,
        asked_at=past.asked_at,
        told_at=past.told_at,
        state=ABSENT if life is None else life.state,
        since=None if life is None else life.since.time,
        decision=reason.decision,
        earlier=earlier,
        lines=tuple(past.framed(lines)),
    )


class _Past:
    """What a replay knows of all that had happened until a moment."""

    def __init__(self, replay: Replay, at: float | None) -> None:
        self._replay = replay
        self._end = max(event.time for event in replay.events)
        self.virtual = replay.events[0].time == replay.events[0].monotonic
        self.asked_at = self._end if at is None else at
        self.told_at = min(self.asked_at, self._end)
        self.events = [event for event in replay.events if event.time <= self.told_at]
        self.decisions = [decision for decision in replay.decisions if decision.time <= self.told_at]
        if not self.events:
            begin = self._when(replay.events[0].time)
            raise SpecError(f"at: the run begins at {begin}, and {self._when(self.asked_at)} is before that")
        # What was replayed says nothing of what came after it has parted from the log.
        self._shown_at = self.asked_at if replay.divergence is None else self.told_at

    def life(self, path: str) -> Life | None:
        """Return what is at `path`, or was there last; None if it is not in the tree yet."""
        return latest_life(path, self.events, frozenset(self._replay.left.get(path, ())))

    def last_end(self, path: str, life: Life) -> EndDecided | None:
        """Return what was decided when it last ended by itself; None if it never has."""
        own = (one for one in reversed(self.decisions) if one.path == path and one.number > life.begin)
        return next(own, None)

    def headline(self, path: str) -> str:
        """Return what it was doing."""
        life, name, moment = self.life(path), path or "/", self._when(self._shown_at)
        if life is None:
            return f"{name} was not in the tree yet at {moment}"
        return f"{name} at {moment}: {self._doing(life)}"

    def waited_for(self, life: Life) -> list[str]:
        """Return what those are doing for which it waits."""
        last = life.last
        if life.left is not None or not isinstance(last.data, AgentWaiting):
            return []
        parent = last.path.rpartition("/")[0]
        paths = [f"{parent}/{name}" if parent else name for name in last.data.waiting_for[:MOST_NAMES]]
        return [self.headline(path) for path in paths if path in self._replay.paths]

    def framed(self, lines: list[str]) -> list[str]:
        """Return the lines, with what is to be said if they do not reach to the moment that was asked for."""
        divergence = self._replay.divergence
        if divergence is not None and self.asked_at >= divergence.event.time:
            return [*lines, f"what came later is not told: {divergence}"]
        if divergence is None and self.asked_at > self._end:
            lines = [f"the log ends at {self._when(self._end)}: {lines[0]}", *lines[1:]]
        if divergence is None and self.asked_at >= self._end and not self._is_whole():
            return [*lines, "the log tells no end of the run: the program still runs, or it was killed"]
        return lines

    def _is_whole(self) -> bool:
        return self.virtual or isinstance(self._replay.events[-1].data, OrchestratorStopped)

    def _doing(self, life: Life) -> str:
        """Return what it was doing since its last event, or since when it is not in the tree any more."""
        last, since = life.last, f"since {self._when(life.since.time)}"
        if life.unregistered is not None:
            return f"not in the tree {since}: it was unregistered"
        if life.left is not None:
            return f"not in the tree {since}: {life.told}, and not kept"
        match last.data:
            case AgentRestarting(delay=delay) | SupervisorRestarting(delay=delay) if delay:
                return f"in backoff until {self._when(self._start_due(last, delay))}, {since}"
            case AgentRestarting() | SupervisorRestarting():
                return f"about to start {since}"
            case AgentWaiting(names):
                return f"waiting for {listed(names)} {since}"
            case AgentQueued(most):
                return f"waiting for a worker slot (max_workers {most}) {since}"
            case AgentWedged():
                return f"wedged {since}: it did not stop in time and cannot be killed"
            case AgentRegistered() | Command() | OrchestratorStarted():
                return "registered, and not started yet"
            case _:
                return f"{life.told} {since}"

    def _start_due(self, last: Event, delay: float) -> float:
        """Return when a delay ends that may have been changed while it ran."""
        due = last.time + delay
        for event in self.events:
            if event.path == last.path and event.seq > last.seq and isinstance(event.data, PolicyChanged):
                due = due if event.data.delay is None else event.time + event.data.delay
        return due

    def _when(self, time: float) -> str:
        return when(time, virtual=self.virtual)
