"""What the text about a simulation leaves out where a tree is large, and what it never does; and odd rows."""

from __future__ import annotations

import pytest
from simulated import STEADY, agent, simulated
from virtual import supervisor

from orchestree import Simulation, SupervisorEntry, simulate
from orchestree.supervisor.simulation.shown.chart import Course, legend, row
from orchestree.supervisor.simulation.shown.timeline import timeline
from orchestree.supervisor.simulation.simulator import StateChange
from orchestree.supervisor.states import AgentState

pytestmark = pytest.mark.policy


def many(count: int, *faults: str, until: str = "24h") -> Simulation:
    """Return what becomes of `count` agents ``w10``, ``w11`` and so on below one root that stands a lot."""
    children = [agent(f"w{number}", executor="process") for number in range(10, 10 + count)]
    return simulate(SupervisorEntry("", max_restarts=1000, children=children), faults, until=until)


def lines(simulation: Simulation) -> list[str]:
    return timeline(simulation, width=80).splitlines()


def names(simulation: Simulation) -> list[str]:
    """Return who has a row in the chart."""
    chart = timeline(simulation, width=80).split("\n\n")[1]
    return [line.split()[0] for line in chart.splitlines()[1:] if line.startswith(("/", "w", "pool"))]


def test_up_to_twenty_agents_have_a_row_each_whatever_happened_to_them() -> None:
    assert len(names(many(20, "w11: crash at 1h"))) == 20
    assert names(many(21, "w11: crash at 1h")) == ["w11"]
    assert "20 agents to which nothing happened" in lines(many(21, "w11: crash at 1h"))


def test_of_many_in_trouble_the_twenty_that_were_down_longest_have_a_row() -> None:
    simulation = many(40, "/: crash at 1h", *(f"w{number}: down from 2h to 3h" for number in range(10, 30)))
    assert names(simulation) == [f"w{number}" for number in range(10, 30)]
    assert "20 more agents, each with at most 1 crash and down for at most 0 s" in lines(simulation)


def test_who_has_no_row_is_either_in_trouble_or_not() -> None:
    simulation = many(60, *(f"w{number}: crash at 1h" for number in range(10, 35)))
    assert len(names(simulation)) == 20
    assert "35 agents to which nothing happened" in lines(simulation)
    assert "5 more agents, each with at most 1 crash and down for at most 0 s" in lines(simulation)


def test_sixteen_notable_things_are_told_and_of_seventeen_the_middle_one_is_left_out() -> None:
    sixteen, seventeen = (lines(many(count, "/: crash at 1h")) for count in (16, 17))
    assert sum("CRASHED" in line for line in sixteen) == 16
    assert not [line for line in sixteen if "..." in line]
    told = [line.partition("for the")[0].split()[-2:] for line in seventeen if "CRASHED" in line or "..." in line]
    assert told[7:10] == [["CRASHED", "w17"], ["1", "more"], ["CRASHED", "w19"]]


def test_five_supervisors_that_gave_up_are_named_and_six_are_counted() -> None:
    def last_line(count: int) -> str:
        pools = [supervisor(f"p{number}", agent("a"), max_restarts=0, backoff=STEADY) for number in range(count)]
        return lines(simulate(pools, ["/: crash at 10s"], until=60.0))[-1]

    assert last_line(5) == (
        f"Ran to the end (1m); {'; '.join(f'p{number} gave up once' for number in range(5))}; "
        f"nothing is parked, failed or wedged."
    )
    assert last_line(6) == "Ran to the end (1m); 6 supervisors gave up; nothing is parked, failed or wedged."


def test_a_supervisor_that_gave_up_and_was_back_at_once_has_a_row() -> None:
    pool = supervisor("pool", agent("w"), max_restarts=0, backoff=None)
    assert names(simulate([pool], ["pool/w: crash at 10s"], until=60.0)) == ["pool", "pool/w"]


def test_a_hang_that_a_watchdog_has_noticed_is_no_longer_one_that_nobody_has() -> None:
    text = lines(simulated("w: hang at 20s", until=60.0, watchdog=10.0))
    assert text[-1] == "Ran to the end (1m); 1 wedged."
    chart = text[3].removeprefix("w  ")
    assert chart.count("h") == pytest.approx(len(chart) / 6, abs=2)
    assert chart.index("h") == pytest.approx(len(chart) / 3, abs=2)


def test_less_than_a_thousandth_of_the_time_is_told_as_that() -> None:
    text = lines(simulated("w: crash at 1h", "w: crash at 3601s", until=86400.0))
    assert next(line for line in text if line.startswith("w ") and "<" in line).split() == [
        *("w", "3", "2", "2", "0.25", "s", "<0.1%", "0.25", "s", "ready")
    ]


def test_a_crash_after_which_it_was_down_for_just_more_than_half_a_stretch_says_so() -> None:
    def crashed(at: float) -> str:
        changes = [StateChange(0.0, AgentState.READY), StateChange(at, AgentState.BACKOFF)]
        back = StateChange(30.0, AgentState.READY)
        return row(Course(changes=[*changes, back], crashes=[at]), end=100.0, width=10)

    assert (crashed(25.0), crashed(24.5)) == ("==x=======", "==X=======")


def test_blank_rows_need_no_legend() -> None:
    assert legend(["   "], 80) == []


def test_a_line_that_is_too_long_goes_on_below_without_cutting_a_name() -> None:
    root = SupervisorEntry("", children=[agent("data-of-the-north-wing")], max_restarts=0)
    text = timeline(simulate(root, ["/: crash at 5s"], until=60.0), width=70).splitlines()
    begins = next(place for place, line in enumerate(text) if "GAVE UP" in line)
    assert [line[38:] for line in text[begins : begins + 3]] == [
        *("too many restarts in a short", "time, the last one for", "data-of-the-north-wing")
    ]
