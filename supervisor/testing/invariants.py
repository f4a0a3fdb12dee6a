"""What must hold of every tree, whatever happens to it: invariants for `SupervisedTree.check`.

An invariant is a function: it gets the supervised tree and returns or yields a text for each thing that is wrong. It
may move the clock on if it has to know what comes next. None of these knows a policy: they look at what has happened.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from orchestree.strategies import checks
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.events import AgentStarting
from orchestree.supervisor.phrases import counted, duration
from orchestree.supervisor.simulation.run_model import Executors
from orchestree.supervisor.simulation.simulator import Simulator

from .outages import outages

if TYPE_CHECKING:
    from .supervised_tree import SupervisedTree

Invariant = Callable[["SupervisedTree"], Iterable[str] | None]
"""One text (a ``str``) for one thing that is wrong will do, too."""

MINUTE_S = 60.0


def never_two_live(tree: SupervisedTree) -> Iterator[str]:
    """No agent ever has two live runs at a time.

    That can only be where somebody asked for it: ``replace_wedged=True`` starts a run beside one that cannot be ended.
    """
    for at, path in _simulator(tree).executors.doubled:
        yield f"{path!r} was started at {duration(at)} while an earlier run of it was still alive"


def recovers_within(seconds: float) -> Invariant:
    """Whoever goes down is ready again within `seconds`, that moment included.

    An agent goes down when it was ready and no longer is, or when its start fails. The time counts from then; or,
    where that is later, from its latest crash, or from the end of a fault that kept it down: what it needs was down,
    its run hung or ignored the stop, or its starts took for ever. While such a fault holds nothing is said.
    The crashes and faults of another count too if that one touched it meanwhile: both were stopped or restarted
    together, or this one waited for the other (or for a worker slot, then all count), or for one whom it touched.
    It is wrong at once when nothing brings the agent back: it was parked, failed, its supervisor gave up for good, or
    its run is wedged by a fault without an end. That ends the time of the fault for those who wait for it, too.

    None of its business: who completes, whom an operator stops (`SupervisedTree.stop_agent`) and who waits for such a
    one, agents with ``restart="temporary"``, and those whose supervisor ends in order: with its significant children,
    or in a restart of its own siblings if it is temporary. A hung run is only seen where a ``watchdog`` looks.

    The check moves the clock on until it can tell of all who are down, or hang with a watchdog.
    """
    checks.seconds("seconds", _value(seconds, "recovers_within(60)"))

    def invariant(tree: SupervisedTree) -> Iterator[str]:
        executors = _simulator(tree).executors
        down = (one for one in outages(tree) if one.is_open and not one.is_longer_than(seconds, tree.now))
        deadlines = [moment + seconds for moment in (*(one.counts_from for one in down), *_hangs(executors))]
        tree.advance_to(max([tree.now, *filter(math.isfinite, deadlines)]))
        yield from (one.worded(seconds) for one in outages(tree) if one.is_longer_than(seconds, tree.now))

    invariant.__name__ = f"recovers_within({seconds:g})"
    return invariant


def _hangs(executors: Executors) -> Iterator[float]:
    """Yield when the watchdogs of the runs that hang look, at the latest."""
    for path, run in executors.live.items():
        watchdog = executors.habits[path].entry.watchdog
        if run.silent_since is not None and watchdog is not None:
            yield run.silent_since + watchdog


def stays_within(*, max_starts_per_minute: int) -> Invariant:
    """No agent is started more often than so within any 60 seconds; its first start counts, too.

    Of two starts 60 s apart only one is in the same minute.
    """
    checks.count("max_starts_per_minute", max_starts_per_minute, least=1)

    def invariant(tree: SupervisedTree) -> Iterator[str]:
        starts: dict[str, list[float]] = {}
        for now, emit in _simulator(tree).log:
            if emit.kind is AgentStarting:
                starts.setdefault(emit.path, []).append(now)
        for path, moments in starts.items():
            counts = [bisect_left(moments, begin + MINUTE_S) - place for place, begin in enumerate(moments)]
            if (most := max(counts)) > max_starts_per_minute:
                begin = moments[counts.index(most)]
                yield f"{path!r} was started {counted(most, 'time')} in the minute from {duration(begin)} on"

    invariant.__name__ = f"stays_within(max_starts_per_minute={max_starts_per_minute})"
    return invariant


def _simulator(tree: SupervisedTree) -> Simulator:
    simulator = getattr(tree, "simulator", None)
    if not isinstance(simulator, Simulator):
        raise SpecError(f"{tree!r}: must be the tree of `with supervised(...) as t`; t.check() hands it in")
    return simulator


def _value(value: float, example: str) -> float:
    if not isinstance(value, (int, float)):
        raise SpecError(f"recovers_within({value!r}): say within how many seconds, such as {example}")
    return value
