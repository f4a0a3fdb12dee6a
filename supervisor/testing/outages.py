"""When the agents of a supervised tree were down, from when on they should have come back, and what kept them from it.

Read off what has happened; nothing here knows what a policy would say.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from orchestree.agents.ends import Cause
from orchestree.strategies.restart import Restart
from orchestree.supervisor.events import AgentReady, AgentStarting
from orchestree.supervisor.phrases import duration, listed
from orchestree.supervisor.simulation.faults import Hang
from orchestree.supervisor.simulation.result import GaveUp, Simulation
from orchestree.supervisor.simulation.simulator import Simulator, StateChange
from orchestree.supervisor.states import AgentState

from .touches import Touches, above, is_at_or_below

if TYPE_CHECKING:
    from .supervised_tree import SupervisedTree

_S = AgentState
_GIVEN_UP: Final = frozenset({_S.PARKED, _S.FAILED})
"""Who is in one of these states, or below one who is, does not come back by itself."""
_OVER: Final = frozenset({_S.STOPPED, _S.COMPLETED})
"""States of a supervisor that has ended."""
_SAME_RUN: Final = frozenset({_S.STOPPING, _S.WEDGED})


@dataclass(frozen=True, slots=True)
class Outage:
    """An agent was down.

    Attributes:
        begin: when it went down.
        end: when it was ready again, or was meant to be down; infinity if it is not over.
        counts_from: from when on it should have come back; infinity while a fault without an end keeps it down.
        why: what keeps it down now, one clause; empty if it is over.
        is_for_good: nothing that is going on brings it back.
        was_stopped: it was over because it was meant to be down, not because it was ready.
    """

    path: str
    begin: float
    end: float
    counts_from: float
    why: str
    is_for_good: bool
    was_stopped: bool

    @property
    def is_open(self) -> bool:
        """Whether the agent is still down."""
        return self.end == math.inf

    def is_longer_than(self, seconds: float, now: float) -> bool:
        """Return whether it was not over so many seconds after it should have begun to be, or never will."""
        deadline = self.counts_from + seconds
        if self.is_for_good:
            return now >= self.counts_from
        return now >= deadline if self.is_open else self.end > deadline

    def worded(self, seconds: float) -> str:
        """Return one line about an outage that was longer than `seconds`."""
        since = "" if self.counts_from == self.begin else f" (and counts from {duration(self.counts_from)})"
        went = f"{self.path!r} went down at {duration(self.begin)}{since} and"
        if self.is_for_good:
            return f"{went} does not come back: {self.why}"
        if self.is_open:
            return f"{went} is not ready {duration(seconds)} later: {self.why}"
        if self.was_stopped:
            return f"{went} was not ready when it was stopped {duration(self.end - self.counts_from)} later"
        return f"{went} was ready again only {duration(self.end - self.counts_from)} later"


class _Span(NamedTuple):
    begin: float
    end: float
    was_stopped: bool = False


def outages(tree: SupervisedTree) -> Iterator[Outage]:
    """Yield the times for which agents were down so far and should not have been, agent by agent, oldest first."""
    return _Reader(tree).outages()


class _Reader:
    """Reads one tree as it is now."""

    def __init__(self, tree: SupervisedTree) -> None:
        self._tree = tree
        self._simulator: Simulator = tree.simulator
        self._simulation: Simulation = tree.simulation
        self._first_ready: dict[str, float] = {}
        for now, emit in tree.simulator.log:
            if emit.kind is AgentReady:
                self._first_ready.setdefault(emit.path, now)
        self._touches = Touches(self._simulator)
        self._holds: dict[str, Sequence[_Span]] = {}

    def outages(self) -> Iterator[Outage]:
        for path, habits in self._simulator.executors.habits.items():
            if habits.entry.restart is not Restart.TEMPORARY:
                for span in self._down(path):
                    yield from (self._outage(path, part) for part in self._not_meant(path, span))

    def _outage(self, path: str, span: _Span) -> Outage:
        counts_from = self._counts_from(path, span)
        is_open = span.end == math.inf
        state = self._simulator.states[path][-1].state
        is_for_good = self._given_up_at(path) < math.inf or (
            state is _S.WEDGED and any(spell.end == math.inf for spell in self._spans_of_faults(path))
        )
        return Outage(
            path,
            span.begin,
            span.end,
            counts_from,
            self._why(path) if is_open else "",
            is_open and is_for_good,
            span.was_stopped,
        )

    # When it was down

    def _down(self, path: str) -> Iterator[_Span]:
        """Yield when the agent was down; one that completed meanwhile was not."""
        crashes = self._simulator.crashes.get(path, [])
        begin: float | None = None
        before: AgentState | None = None
        for change, until in self._stretches(path):
            if change.state in (_S.READY, _S.COMPLETED):
                if begin is not None and change.state is _S.READY:
                    yield _Span(begin, change.at)
                begin = None
            elif begin is None and before is not _S.COMPLETED and self._first_ready.get(path, math.inf) <= change.at:
                begin = change.at
            elif begin is None:  # it goes down when its start fails
                crash = bisect_left(crashes, change.at)
                begin = crashes[crash] if crash < len(crashes) and crashes[crash] < until else None
            before = change.state
        if begin is not None:
            yield _Span(begin, math.inf)

    def _stretches(self, path: str) -> Iterator[tuple[StateChange, float]]:
        """Yield each state that it had, and until when."""
        changes = self._simulator.states.get(path, [])
        ends = [change.at for change in changes[1:]]
        return zip(changes, [*ends, math.inf], strict=True)

    def _not_meant(self, path: str, span: _Span) -> Iterator[_Span]:
        """Yield the parts of a span in which nobody wanted it to be down."""
        begin = span.begin
        for stop in self._stops(path, span):
            if stop.end > begin and stop.begin <= span.end:
                if begin < stop.begin:
                    yield _Span(begin, stop.begin, was_stopped=True)
                begin = stop.end
        if begin < span.end:
            yield span._replace(begin=begin)

    def _stops(self, path: str, span: _Span) -> Iterator[_Span]:
        """Yield when an operator wanted it, or one that it waited for, to be down, or its supervisor ended in order."""
        waited = self._touches.waited_for(path, span.begin, span.end)
        for wanted in dict.fromkeys([path, *waited]):
            orders = [order for order in self._tree.orders if is_at_or_below(wanted, order.path)]
            for place, order in enumerate(orders):
                if order.name == "stop":
                    later = (other.at for other in orders[place + 1 :] if other.name != "stop")
                    yield _Span(order.at, max(next(later, math.inf), math.nextafter(order.at, math.inf)))
        last = self._simulator.states[path][-1]
        states = [self._simulator.states[one][-1].state for one in above(path)]
        if last.state is _S.STOPPED and self._given_up_at(path) == math.inf and not _OVER.isdisjoint(states):
            yield _Span(last.at, math.inf)

    # From when on it should have come back

    def _counts_from(self, path: str, span: _Span) -> float:
        latest = span.begin
        is_given_up = span.end == math.inf and self._given_up_at(path) < math.inf
        for other in {path} if is_given_up else self._touches.touched(path, span.begin, span.end):
            crashes = self._simulator.crashes.get(other, [])
            if count := bisect_right(crashes, span.end):
                latest = max(latest, crashes[count - 1])
            ends = [held.end for held in self._held(other) if held.begin < span.end and held.end > span.begin]
            latest = max([latest, *ends])
        return latest

    def _given_up_at(self, path: str) -> float:
        """Return when the tree has given it up for good; infinity if it has not."""
        for one in (path, *above(path)):
            at, state = self._simulator.states[one][-1]
            if state in _GIVEN_UP:
                return at
            fall = self._fall(path, at) if state is _S.STOPPED else None
            if fall is not None and self._simulator.states[fall.path][-1].state in _GIVEN_UP | _OVER:
                return at
        return math.inf

    def _held(self, path: str) -> Sequence[_Span]:
        """Return when a fault kept the agent down, but not longer than the tree went on trying."""
        if path not in self._holds:
            last, given_up = self._simulator.states[path][-1], self._given_up_at(path)
            wedged = last.at if last.state is _S.WEDGED else math.inf
            spans = list(self._spans_of_faults(path))
            ends = [min(span.end if span.end < math.inf else wedged, given_up) for span in spans]
            self._holds[path] = [_Span(span.begin, end) for span, end in zip(spans, ends, strict=True)]
        return self._holds[path]

    def _spans_of_faults(self, path: str) -> Iterator[_Span]:
        """Yield when a fault kept the agent down, whatever anybody decided."""
        habits = self._simulator.executors.habits[path]
        yield from (_Span(spell.at, spell.until) for spell in habits.down)
        yield from (_Span(spell.at, spell.until) for spell in habits.slow if spell.takes == math.inf)
        for change, until in self._stretches(path):
            if change.state in _SAME_RUN:
                spells = [_Span(max(change.at, spell.at), min(until, spell.until)) for spell in habits.stubborn]
                yield from (span for span in spells if span.begin < span.end)
        for struck in self._simulation.struck:
            if struck.path == path and isinstance(struck.fault, Hang):
                end = self._end_of_run(path, struck.now)
                yield _Span(struck.now, min(struck.now + struck.fault.lasts, end))

    def _end_of_run(self, path: str, moment: float) -> float:
        """Return when the run that was alive at `moment` had ended, as far as one can see; infinity: it has not."""
        starts = (now for now, emit in self._simulator.log if emit.path == path and emit.kind is AgentStarting)
        next_start = next((now for now in starts if now > moment), math.inf)
        changes = self._simulator.states[path]
        others = (change.at for change in changes if change.at > moment and change.state not in _SAME_RUN)
        return min(next_start, next(others, math.inf))

    # What keeps it down now

    def _fall(self, path: str, since: float) -> GaveUp | None:
        """Return the latest time that a supervisor above it gave up, since then."""
        falls = [fall for fall in self._simulation.gave_up if fall.at >= since and fall.path in above(path)]
        return falls[-1] if falls else None

    def _why(self, path: str) -> str:
        last, node = self._simulator.states[path][-1], self._simulator.core.world.nodes.get(path)
        match last.state:
            case AgentState.PARKED:
                why = next((parked.why for parked in reversed(self._simulation.parked) if parked.path == path), "")
                return f"it was parked at {duration(last.at)}: {why}"
            case AgentState.FAILED:
                return f"it failed at {duration(last.at)} and is not restarted"
            case AgentState.STOPPED if (fall := self._fall(path, last.at)) is not None:
                return _worded(fall)
            case AgentState.STOPPED:
                return "its supervisor is not up"
            case AgentState.BACKOFF if node is not None and node.group is not None:
                return f"it starts again in {duration(node.group.due_at - self._tree.now)}"
            case AgentState.WAITING if node is not None:
                return f"it waits for {listed(node.waiting_for)}"
            case AgentState.QUEUED:
                return "it waits for a worker slot"
            case AgentState.WEDGED:
                return "its run does not end and cannot be killed"
            case state:
                return f"it is in state {state}"


def _worded(fall: GaveUp) -> str:
    who = f"supervisor {fall.path!r}" if fall.path else "the root supervisor"
    offender = repr(fall.offender) if fall.offender else "a child"
    why = "too many restarts" if fall.cause is Cause.MAX_RESTARTS else "a policy said so"
    return f"{who} gave up at {duration(fall.at)}: {why}, the last failure was that of {offender}"
