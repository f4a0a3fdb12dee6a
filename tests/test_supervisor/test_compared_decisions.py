"""Which decisions a comparison of a simulated and a live log takes for others, and how its table reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
from simulated import STEADY, agent
from virtual import supervisor

from orchestree import ChildEntry, Event, Simulation, simulate
from orchestree.agents.ends import NORMAL
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.event_types import RestartCause, StopCause
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentParked,
    AgentRestarting,
    AgentStopping,
    AgentTerminated,
    AgentWaiting,
    AgentWedged,
    EventData,
    SupervisorRestarting,
    SupervisorTerminated,
)
from orchestree.supervisor.simulation.shown.comparing import compare
from orchestree.supervisor.simulation.shown.comparison import Comparison

pytestmark = pytest.mark.policy

BEGAN: Final = 100.0


def a_tree() -> Simulation:
    """Return what becomes of a tree in which everything that is compared happens."""
    pool = supervisor(
        "pool", agent("a"), agent("b", depends_on=["a"]), strategy="dependents", max_restarts=1, backoff=STEADY
    )
    children: list[ChildEntry] = [
        pool,
        agent("brief", restart="temporary"),
        agent("deaf", shutdown=0.5, depends_on=["pool"]),
        agent("all", strategy="one_for_all"),
    ]
    faults = [
        "pool/a: crash at 1s",
        "pool/a: crash at 2s",
        "brief: crash at 3s",
        "deaf: ignore stop from 4s",
        "all: crash at 4s",
        "all: crash with exit code 78 at 5s",
    ]
    return simulate(children, faults, until=10.0)


def live(simulation: Simulation, change: Callable[[EventData], EventData] = lambda data: data) -> list[Event]:
    return [replace(event, monotonic=BEGAN + event.monotonic, data=change(event.data)) for event in simulation.events]


CHANGES: Final[dict[type, Callable[..., EventData]]] = {
    AgentCrashed: lambda data: replace(data, reason=NORMAL),
    AgentTerminated: lambda data: replace(data, reason=NORMAL),
    SupervisorTerminated: lambda data: replace(data, reason=NORMAL),
    AgentRestarting: lambda data: replace(data, cause=RestartCause.COMMAND),
    SupervisorRestarting: lambda data: replace(data, attempt=7),
    AgentStopping: lambda data: replace(data, cause=StopCause.COMMAND),
    AgentWaiting: lambda data: replace(data, waiting_for=("x", "y")),
    AgentWedged: lambda data: replace(data, cause=StopCause.COMMAND),
    AgentParked: lambda data: replace(data, attempt=7),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_another_cause_number_or_name_is_another_decision(kind: type) -> None:
    simulation = a_tree()
    changed = {event.path for event in simulation.events if isinstance(event.data, kind)}
    assert changed, "the tree has no such event"
    log = live(simulation, lambda data: CHANGES[kind](data) if isinstance(data, kind) else data)
    assert set(compare(simulation, log).apart) == changed


def test_a_live_log_without_somebody_lacks_all_their_steps() -> None:
    simulation = a_tree()
    comparison = compare(simulation, [event for event in live(simulation) if event.path != "brief"])
    assert comparison.apart == ("brief",)
    assert [row.live for row in comparison.rows["brief"]] == [None, None, None, None]


def test_what_comes_just_when_the_simulation_has_ended_is_not_compared() -> None:
    short = simulate(agent(), [], until=5.0)
    longer = live(simulate(agent(), ["w: crash at 5s"], until=5.0))
    assert compare(short, longer).is_same


def test_the_table_says_where_two_logs_differ_and_why() -> None:
    def change(data: EventData) -> EventData:
        if isinstance(data, AgentCrashed):
            return replace(data, report=replace(data.report, message="ValueError: no such sensor"))
        return replace(data, delay=0.5) if isinstance(data, AgentRestarting) else data

    entries = [agent(), agent("x"), agent("y")]
    log = live(simulate(entries, ["w: crash at 5s"], until=10.0), change)
    assert str(compare(simulate(entries, ["w: crash at 5s", "/: crash at 7s"], until=10.0), log, ended_at=10.0)) == (
        """\
                                         simulated      live     later
(the root)
  supervisor_started                         0.000     0.000    +0.000
  supervisor_ready                           0.000     0.000    +0.000
w
  agent_starting                             0.000     0.000    +0.000
  agent_ready                                0.000     0.000    +0.000
  agent_crashed exception                    5.000     5.000    +0.000
  agent_restarting failure 1                 5.000     5.000    +0.000   in 0.000 / 0.500 s
  agent_starting                             5.000     5.000    +0.000
  agent_ready                                5.000     5.000    +0.000
  agent_crashed exception                    7.000         -
  agent_restarting failure 2                 7.000         -   in 0.250 s
  agent_starting                             7.250         -
  agent_ready                                7.250         -
x
  agent_starting                             0.000     0.000    +0.000
  agent_ready                                0.000     0.000    +0.000
  agent_crashed exception                    7.000         -
  agent_restarting failure 1                 7.000         -   in 0.000 s
  agent_starting                             7.000         -
  agent_ready                                7.000         -
y
  agent_starting                             0.000     0.000    +0.000
  agent_ready                                0.000     0.000    +0.000
  agent_crashed exception                    7.000         -
  agent_restarting failure 1                 7.000         -   in 0.000 s
  agent_starting                             7.000         -
  agent_ready                                7.000         -
Where they differ, and why:
  12 steps in one log only, the first at 7.000 s:
      a fault met another state than was foreseen, or something happened that nobody has simulated
  1 step with other delays, by up to 0.500 s:
      each log draws its own jitter, and whoever took time to stop has less of the delay left
  2 steps with other times, by up to 0.500 s:
      real starts and ends take time, signals and timers come a little late, who hangs was silent before
  1 step with other texts, such as 'RuntimeError: simulated' and 'ValueError: no such sensor':
      the words of a simulated crash are made up; what a real one says nobody knows before
The same decisions, in the same order, for 1 of 4 agents and supervisors; not for w, x, y."""
    )


def test_two_empty_comparisons_are_the_same() -> None:
    assert Comparison({}, ()).is_same


def test_a_log_without_the_start_of_the_tree_is_refused_word_for_word() -> None:
    with pytest.raises(SpecError) as caught:
        compare(a_tree(), [])
    assert str(caught.value) == ("events: must begin with the ORCHESTRATOR_STARTED of a live run; it is not among them")
