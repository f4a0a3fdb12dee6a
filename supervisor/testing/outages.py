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

if TYPE_CHECKING:
    from .supervised_tree import SupervisedTree

_S = AgentState
_FOR_GOOD: Final = frozenset({_S.PARKED, _S.FAILED, _S.STOPPED})
"""Who is in one of these states, or below one who is, does not come back by itself."""
_SAME_RUN: Final = frozenset({_S.STOPPING, _S.WEDGED})


@dataclass(frozen=True, slots=True)
class Outage:
    """An agent was down.

    Attributes:
        begin: when it went down.
        end: when it was ready again; infinity if it is not.
        counts_from: from when on it should have come back; infinity while a fault without an end keeps it down.
        why: what keeps it down now, one clause; empty if it is ready again.
    """

    path: str
    begin: float
    end: float
    counts_from: float
    why: str

    @property
    def is_open(self) -> bool:
        """Whether the agent is still down."""
        return self.end == math.inf

    def is_longer_than(self, seconds: float, now: float) -> bool:
        """Return whether it was not over so many seconds after it should have begun to be."""
        deadline = self.counts_from + seconds
        return now >= deadline if self.is_open else self.end > deadline

    def worded(self, seconds: float) -> str:
        """Return one line about an outage that was longer than `seconds`."""
        since = "" if self.counts_from == self.begin else f" (and counts from {duration(self.counts_from)})"
        went = f"{self.path!r} went down at {duration(self.begin)}{since} and"
        if self.is_open:
            return f"{went} is not ready {duration(seconds)} later: {self.why}"
        return f"{went} was ready again only {duration(self.end - self.counts_from)} later"


class _Span(NamedTuple):
    begin: float
    end: float


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
        self._held = {path: list(self._spans_of_faults(path)) for path in self._simulator.executors.habits}

    def outages(self) -> Iterator[Outage]:
        for path, habits in self._simulator.executors.habits.items():
            if habits.entry.restart is Restart.TEMPORARY:
                continue
            for span in self._down(path):
                if not self._is_meant(path, span):
                    why = self._why(path) if span.end == math.inf else ""
                    yield Outage(path, span.begin, span.end, self._counts_from(path, span), why)

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

    def _is_meant(self, path: str, span: _Span) -> bool:
        """Return whether an operator wanted that, or its supervisor ended in order."""
        if any(span.begin < asked.end and asked.begin <= span.end for asked in self._stops(path)):
            return True
        last = self._simulator.states[path][-1]
        return span.end == math.inf and last.state is _S.STOPPED and self._fall(path, last.at) is None

    def _stops(self, path: str) -> Iterator[_Span]:
        """Yield when an operator wanted it to be down."""
        orders = [order for order in self._tree.orders if _is_at_or_below(path, order.path)]
        for place, order in enumerate(orders):
            if order.name == "stop":
                later = (other.at for other in orders[place + 1 :] if other.name != "stop")
                yield _Span(order.at, max(next(later, math.inf), math.nextafter(order.at, math.inf)))

    # From when on it should have come back

    def _counts_from(self, path: str, span: _Span) -> float:
        scope = path if span.end == math.inf and self._is_given_up(path) else self._scope(path, span)
        latest = span.begin
        for other, crashes in self._simulator.crashes.items():
            if _is_at_or_below(other, scope) and (count := bisect_right(crashes, span.end)):
                latest = max(latest, crashes[count - 1])
        for other, spans in self._held.items():
            if _is_at_or_below(other, scope):
                ends = [held.end for held in spans if held.begin < span.end and held.end > span.begin]
                latest = max([latest, *ends])
        return latest

    def _is_given_up(self, path: str) -> bool:
        return any(self._simulator.states[one][-1].state in _FOR_GOOD for one in (path, *_above(path)))

    def _scope(self, path: str, span: _Span) -> str:
        """Return the lowest supervisor above it that was ready all the time: whoever kept it down is below that."""
        if any(change.state is _S.QUEUED and until > span.begin for change, until in self._stretches(path)):
            return ""  # worker slots are the whole tree's
        for above in _above(path):
            for change, until in self._stretches(above):
                if change.state is _S.READY and change.at <= span.begin and until > min(span.end, self._tree.now):
                    return above
        return ""

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
        falls = [fall for fall in self._simulation.gave_up if fall.at >= since and fall.path in _above(path)]
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


def _above(path: str) -> Sequence[str]:
    """Return the paths of the supervisors above, the nearest first; the root's is ``""``."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts) - 1, -1, -1)] if path else []


def _is_at_or_below(path: str, above: str) -> bool:
    return not above or path == above or path.startswith(f"{above}/")


def _worded(fall: GaveUp) -> str:
    who = f"supervisor {fall.path!r}" if fall.path else "the root supervisor"
    offender = repr(fall.offender) if fall.offender else "a child"
    why = "too many restarts" if fall.cause is Cause.MAX_RESTARTS else "a policy said so"
    return f"{who} gave up at {duration(fall.at)}: {why}, the last failure was that of {offender}"
