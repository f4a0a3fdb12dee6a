"""A simulated log beside a live one: what counts as the same, what differs, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import pytest
from orchestree_testing.process_agents import Sleeper

from orchestree.strategies import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.supervisor import AgentEntry, AgentMessage, AgentParked, Event, EventType, OrchestratorStopping
from orchestree.supervisor.events import AgentCrashed, AgentRestarting, OrchestratorStopped
from orchestree.supervisor.predicting import simulate
from orchestree.supervisor.simulation.faults import Crash
from orchestree.supervisor.simulation.result import Simulation
from orchestree.supervisor.simulation.shown.comparing import compare
from orchestree.supervisor.simulation.shown.comparison import Comparison, Row, Step

pytestmark = pytest.mark.policy

BEGAN: Final = 1000.0
"""When the live trees start, on their clock."""
E = EventType


def simulated(*crashes: float, until: float = 10.0) -> Simulation:
    """Return what becomes of `a`, which crashes at these times, beside `b`, which does not."""
    entries = [AgentEntry(Sleeper, name, executor="process", backoff=Backoff(jitter=0.0)) for name in "ab"]
    faults = [Crash("a", at=at, cause="signal") for at in crashes]
    return simulate(entries, faults, until=until)


def live(simulation: Simulation, change: Callable[[Event], Event | None] = lambda event: event) -> list[Event]:
    """Return the same log on the clock of a live tree, each event changed, or left out."""
    events = (replace(event, monotonic=event.monotonic + BEGAN) for event in simulation.events)
    return [changed for event in events if (changed := change(event)) is not None]


def later(event: Event, seconds: float) -> Event:
    return replace(event, monotonic=event.monotonic + seconds)


def kinds(comparison: Comparison) -> dict[str, tuple[int, str]]:
    return {each.kind: (each.number, each.how) for each in comparison.differences}


def whats(rows: Sequence[Row]) -> list[tuple[str | None, str | None]]:
    return [(row.simulated.what if row.simulated else None, row.live.what if row.live else None) for row in rows]


def test_equal_logs_have_no_differences() -> None:
    simulation = simulated(1.0, 2.0)
    comparison = compare(simulation, live(simulation), ended_at=10.0)
    assert comparison.is_same
    assert comparison.differences == ()
    assert whats(comparison.rows["a"]) == [
        (what, what)
        for what in (
            "agent_starting", "agent_ready", "agent_crashed signal", "agent_restarting failure 1",
            "agent_starting", "agent_ready", "agent_crashed signal", "agent_restarting failure 2",
            "agent_starting", "agent_ready",
        )
    ]  # fmt: skip
    assert all(row.later == 0.0 for rows in comparison.rows.values() for row in rows)
    assert str(comparison).endswith("The same decisions, in the same order, for 3 of 3 agents and supervisors.")
    assert "Where they differ" not in str(comparison)


def test_a_longer_delay_explains_the_later_start_and_no_more() -> None:
    def change(event: Event) -> Event:
        if isinstance(event.data, AgentRestarting) and event.data.attempt == 2:
            return replace(event, data=replace(event.data, delay=event.data.delay + 0.125))
        is_after = event.path == "a" and event.monotonic > BEGAN + 2.0
        return later(event, 0.125 + 0.015625) if is_after else event

    simulation = simulated(1.0, 2.0)
    comparison = compare(simulation, live(simulation, change), ended_at=10.0)
    assert comparison.is_same
    assert kinds(comparison) == {"delays": (1, "by up to 0.125 s"), "times": (2, "by up to 0.016 s")}
    lines = str(comparison).splitlines()
    assert "  agent_restarting failure 2                 2.000     2.000    +0.000   in 0.250 / 0.375 s" in lines
    assert "  agent_starting                             2.250     2.391    +0.141" in lines
    assert "  1 step with other delays, by up to 0.125 s:" in lines


def test_other_words_about_a_crash_are_no_other_decision() -> None:
    def change(event: Event) -> Event:
        if not isinstance(event.data, AgentCrashed):
            return event
        return replace(event, data=replace(event.data, report=replace(event.data.report, message="killed, pid 7")))

    simulation = simulated(1.0)
    comparison = compare(simulation, live(simulation, change), ended_at=10.0)
    assert comparison.is_same
    assert kinds(comparison) == {"texts": (1, "such as 'killed by SIGKILL' and 'killed, pid 7'")}


def test_a_decision_that_is_in_one_log_only_is_said_of_whom_and_when() -> None:
    simulation = simulated(1.0, 2.0)
    comparison = compare(simulation, live(simulated(1.0)), ended_at=10.0)
    assert (comparison.is_same, comparison.apart) == (False, ("a",))
    assert kinds(comparison) == {"steps": (4, "the first at 2.000 s")}
    assert whats(comparison.rows["a"])[-4:] == [
        ("agent_crashed signal", None),
        ("agent_restarting failure 2", None),
        ("agent_starting", None),
        ("agent_ready", None),
    ]
    lines = str(comparison).splitlines()
    assert "  agent_crashed signal                       2.000         -" in lines
    assert lines[-1] == "The same decisions, in the same order, for 2 of 3 agents and supervisors; not for a."


def test_another_decision_stands_in_two_rows() -> None:
    def change(event: Event) -> Event | None:
        if isinstance(event.data, AgentRestarting):
            return replace(event, type=E.AGENT_PARKED, data=AgentParked("it was given up on", 1))
        return event if event.monotonic <= BEGAN + 1.0 and event.incarnation < 2 else None

    simulation = simulated(1.0)
    comparison = compare(simulation, live(simulation, change), ended_at=10.0)
    assert whats(comparison.rows["a"])[3:] == [
        ("agent_restarting failure 1", None),
        ("agent_starting", None),
        ("agent_ready", None),
        (None, "agent_parked failure 1"),
    ]


def test_what_comes_after_the_end_of_the_other_log_is_not_compared() -> None:
    simulation = simulated(1.0, 2.0)
    early = [event for event in live(simulation) if event.monotonic < BEGAN + 1.5]
    assert compare(simulation, early, ended_at=1.5).is_same
    assert compare(simulation, early).is_same
    assert not compare(simulation, early, ended_at=10.0).is_same
    assert compare(simulated(1.0, until=1.5), live(simulation)).is_same


def test_a_tree_that_has_ended_has_nothing_more_to_come() -> None:
    simulation = simulated(1.0, 2.0)
    early = [event for event in live(simulation) if event.monotonic < BEGAN + 1.5]
    ended = replace(early[-1], type=E.ORCHESTRATOR_STOPPED, path="", data=OrchestratorStopped(70, "max_restarts"))
    assert not compare(simulation, [*early, ended]).is_same


def test_messages_and_what_follows_a_stop_from_outside_are_left_out() -> None:
    simulation = simulated(1.0)
    log = live(simulation)
    message = replace(log[-1], type=E.AGENT_MESSAGE, data=AgentMessage("hello", {}))
    stopping = replace(log[-1], type=E.ORCHESTRATOR_STOPPING, path="", data=OrchestratorStopping("command"))
    assert compare(simulation, [*log, message, stopping, log[3], log[4]]).is_same
    assert not compare(simulation, [*log, log[3], log[4]]).is_same


def test_a_log_that_does_not_begin_with_the_start_of_the_tree_is_refused() -> None:
    simulation = simulated(1.0)
    with pytest.raises(SpecError, match="must begin with the ORCHESTRATOR_STARTED"):
        compare(simulation, [event for event in live(simulation) if event.type is not E.ORCHESTRATOR_STARTED])


def test_a_row_of_one_log_has_no_difference() -> None:
    assert Row(Step(at=1.0, what="agent_ready"), None).later is None
