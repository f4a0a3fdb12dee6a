"""What comes of it when all agents below a supervisor fail at one moment. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestree.supervisor.event_types import RestartCause
from orchestree.supervisor.events import AgentRestarting, SupervisorRestarting, SupervisorTerminated
from orchestree.supervisor.outcome import crashed
from orchestree.supervisor.simulation.faults import Crash, Down
from orchestree.supervisor.simulation.simulator import Simulator

from .parts import SHORTEST, Parts, end_of
from .places import standing_everything

SHARED_FAILURE_S: Final = 600.0
"""Seconds for which what all children need stays down."""
_BEGINS: Final = 1.0
_MOST_EVENTS: Final = 20_000
"""After so many it is looked at no longer."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What comes of a failure of all agents below a supervisor.

    Attributes:
        watched_s: seconds that were simulated, less in a large tree in which nothing ends.
        failures: of all of them together, until the supervisor ended, or in all.
        ends_after_s: seconds until the supervisor ended by its own decision; None if it did not.
        why: it did, in one word of the core's; empty if it did not.
        tree_ends: whether the root did, too.
    """

    watched_s: float
    failures: int
    ends_after_s: float | None
    why: str
    tree_ends: bool


def all_fail_once(parts: Parts, path: str) -> Shared:
    """Return what happens when all agents below the supervisor at `path` fail once, at one moment."""
    simulator = parts.of(path, SHORTEST, settings=parts.with_slots)
    _strike_all(simulator)
    return _shared(simulator, path)


def all_stay_down(parts: Parts, path: str) -> Shared:
    """Return what happens when each start of all agents below it fails, too, for `SHARED_FAILURE_S`."""
    simulator = parts.of(path, SHORTEST, settings=parts.with_slots)
    simulator.plan(Down(path, at=_BEGINS))
    simulator.start()
    simulator.max_events = len(simulator.log) + _MOST_EVENTS + 10 * len(parts.entries)
    simulator.advance_to(_BEGINS + SHARED_FAILURE_S)
    return _shared(simulator, path)


def restarts_at_once(parts: Parts, path: str) -> int:
    """Return how many restarts of its children the supervisor at `path` decides when all agents below fail once."""
    simulator = parts.of(path, SHORTEST, standing_everything, settings=parts.with_slots)
    _strike_all(simulator)
    return sum(
        emit.path.rpartition("/")[0] == path
        and isinstance(emit.data, (AgentRestarting, SupervisorRestarting))
        and emit.data.cause is RestartCause.FAILURE
        for _, emit in simulator.log
    )


def _strike_all(simulator: Simulator) -> None:
    simulator.start()
    simulator.advance_to(_BEGINS)
    live = simulator.executors.live
    for agent, run in tuple(live.items()):
        if live.get(agent) is run:  # and not stopped meanwhile because of another one's failure
            simulator.strike(Crash(agent, at=0.0), agent)


def _shared(simulator: Simulator, path: str) -> Shared:
    end, watched_s = end_of(simulator, path), simulator.now - _BEGINS
    if end is None:
        return Shared(watched_s, sum(map(len, simulator.crashes.values())), None, "", False)
    failures = sum(emit.kind is crashed for _, emit in simulator.log[: simulator.log.index(end)])
    data = end.emit.data
    assert isinstance(data, SupervisorTerminated)
    return Shared(watched_s, failures, end.now - _BEGINS, data.reason.cause.value, simulator.exit_code is not None)
