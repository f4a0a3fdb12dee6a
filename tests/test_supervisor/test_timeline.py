"""The text that a simulation is told in: whole texts for small trees, and the rules of the chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest
from tenacity import stop_after_attempt

from orchestree.agents import Agent
from orchestree.strategies import Backoff
from orchestree.supervisor import AgentEntry, Orchestrator, RunMode, SupervisorEntry, simulate
from orchestree.supervisor.simulation.result import Simulation
from orchestree.supervisor.simulation.shown.chart import Course, Spell, axis, legend, row
from orchestree.supervisor.simulation.shown.highlights import MOST_LINES
from orchestree.supervisor.simulation.shown.timeline import timeline
from orchestree.supervisor.simulation.simulator import StateChange
from orchestree.supervisor.states import AgentState as S

pytestmark = pytest.mark.policy

WIDTH: Final = 76
STEADY: Final = Backoff(jitter=0.0)


class Worker(Agent):
    def execute(self) -> None: ...


def entry(name: str, **fields: Any) -> AgentEntry:
    return AgentEntry(Worker, name, **fields)


def told(simulation: Simulation, width: int = WIDTH) -> str:
    return timeline(simulation, width=width) + "\n"


PARKED: Final = """\
Simulated 4m with seed 0:

        |0               |1m              |2m              |3m
worker  ==x==x==x==x==PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP
api     ==================================x=================================

One character is 3.53 s:
=  ready                             P  parked
x  crashed, ready most of the time

AGENT   STARTS  CRASHES  RESTARTS        DOWN  SHARE    LONGEST  AT THE END
worker       5        5         4  3 min 10 s  79.2%  3 min 8 s  parked at 52 s: failed 5 times in a row
api          2        1         1           -      -          -  ready

 10 s  CRASHED  worker        for the first time: RuntimeError: simulated
 52 s  PARKED   worker        failed 5 times in a row; stays down until it
                              is started by hand
2 min  CRASHED  api           for the first time: RuntimeError: simulated

Ran to the end (4m); 1 parked.
"""
FALLEN: Final = """\
Simulated 3 min 11 s of 1d with seed 0:

        |0        |30s       |1m        |1m30s    |2m        |2m30s     |3m
/       ===================================================================G
worker  ==================================================================xx
api     ====================================================================

One character is 2.81 s:
=  ready                             G  gave up
x  crashed, ready most of the time

AGENT   STARTS  CRASHES  RESTARTS         DOWN  SHARE      LONGEST  AT THE END
worker       4        4         3  23 h 56 min  99.8%  23 h 56 min  stopped
api          1        0         0  23 h 56 min  99.8%  23 h 56 min  stopped

 3 min 8 s  CRASHED  worker        for the first time: RuntimeError:
                                   simulated
3 min 11 s  GAVE UP  orchestrator  too many restarts in a short time, the
                                   last one for worker
3 min 11 s  STOPPED  orchestrator  exit code 70

The tree fell after 3 min 11 s: the root supervisor gave up, worker was one restart too many (max_restarts 3 in 5s).
"""
DEPENDENCY_DOWN: Final = """\
Simulated 1h with seed 0:

                  |0       |10m      |20m      |30m     |40m      |50m
ingest/db         =========xXXXXXXXXXXXXXXXXXXX=============================
ingest/collector  ==========wwwwwwwwwwwwwwwwwww=============================

One character is 1 min 2 s:
=  ready                             X  crashed, down most of the time
x  crashed, ready most of the time   w  waits for others to be ready

AGENT             STARTS  CRASHES  RESTARTS        DOWN  SHARE     LONGEST  AT THE END
ingest/db             48       47        47  20 min 2 s  33.4%  20 min 2 s  ready
ingest/collector       2        0         1  20 min 2 s  33.4%  20 min 2 s  ready

10 min  CRASHED  ingest/db     for the first time: ConnectionError: what it
                               needs is down (simulated)

Ran to the end (1h); nothing is parked, failed or wedged.
"""
BATCH: Final = """\
Simulated 20 s of 1h with seed 0:

       |0               |5s              |10s             |15s
job-1  ===================================cccccccccccccccccccccccccccccccccc
job-2  ===================================cccccccccccccccccccccccccccccccccc
job-3  qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq==================================

One character is 0.29 s:
=  ready                 c  completed
q  queued: max_workers

AGENT  STARTS  CRASHES  RESTARTS  DOWN  SHARE  LONGEST  AT THE END
job-1       1        0         0     -      -        -  completed
job-2       1        0         0     -      -        -  completed
job-3       1        0         0  10 s  50.0%     10 s  completed

20 s  STOPPED  orchestrator  exit code 0

The tree ended by itself after 20 s, exit code 0; nothing is parked, failed or wedged.
"""
WEDGED: Final = """\
Simulated 1m with seed 0:

        |0         |10s       |20s        |30s       |40s       |50s
deaf    ======================rtttttWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
worker  ======================x.....========================================

One character is 0.88 s:
=  ready                             .  waits for its restart
x  crashed, ready most of the time   t  stops
r  restarted, no crash of its own    W  wedged

AGENT   STARTS  CRASHES  RESTARTS   DOWN  SHARE  LONGEST  AT THE END
deaf         1        0         0   40 s  66.7%     40 s  wedged at 25 s
worker       2        1         1  5.1 s   8.5%    5.1 s  ready

20 s  CRASHED  worker        for the first time: RuntimeError: simulated
25 s  WEDGED   deaf          did not stop in time and cannot be killed
                             (another one of its group failed)

Ran to the end (1m); 1 wedged.
"""
MANY: Final = """\
Simulated 1d with seed 0:

           |0              |6h             |12h            |18h
sensor-7   ================hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh
sensor-20  ==x==x==x=x==x==x=x==x==x==x=x==x==x=x==x==x==x=x==x==x=x==x==x=x
sensor-41  XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX
57 agents to which nothing happened

One character is 22 min 9 s:
=  ready                             X  crashed, down most of the time
x  crashed, ready most of the time   h  hangs, and nobody has noticed yet

AGENT      STARTS  CRASHES  RESTARTS  DOWN   SHARE  LONGEST  AT THE END
sensor-7        1        0         0     -       -        -  ready
sensor-20      25       24        24     -       -        -  ready
sensor-41     963      962       962   1 d  100.0%      1 d  starting

1 min  CRASHED  sensor-41     for the first time: setup() did not return
                              within 60 s (in setup)
  1 h  CRASHED  sensor-20     for the first time: RuntimeError: simulated

Ran to the end (1d); 1 starting, 1 hanging unnoticed.
"""


def test_an_agent_that_crashes_again_and_again_is_shown_until_it_parks() -> None:
    patient = Backoff(jitter=0.0, stop=stop_after_attempt(5))
    children = [entry("worker", backoff=patient), entry("api", backoff=STEADY)]
    faults = ["worker: crash 10s after ready", "api: crash at 2m"]
    assert told(simulate(children, faults, until="4m")) == PARKED


def fallen_tree() -> Simulation:
    children = [entry("worker", backoff=None), entry("api", depends_on=["worker"])]
    root = SupervisorEntry("", children=children, max_restarts=3, max_seconds=5.0)
    return simulate(root, ["worker: crash every 1s from 3m8s"], until="24h")


def test_a_tree_that_falls_is_shown_up_to_its_end_with_who_was_one_restart_too_many() -> None:
    assert told(fallen_tree()) == FALLEN


def test_an_outage_is_shown_with_those_that_wait_for_its_end() -> None:
    children = [entry("db", backoff=STEADY), entry("collector", depends_on=["db"])]
    ingest = SupervisorEntry("ingest", strategy="dependents", children=children)
    assert told(simulate([ingest], ["ingest/db: down from 10m to 30m"], until="1h")) == DEPENDENCY_DOWN


def batch() -> Orchestrator:
    config = Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY, max_workers=2, control=False)
    return Orchestrator(config, [entry("job-1"), entry("job-2"), entry("job-3")])


def test_a_batch_is_shown_up_to_the_end_of_its_last_job() -> None:
    assert told(simulate(batch(), ["/: complete 10s after ready"], until="1h")) == BATCH


def test_a_thread_that_cannot_be_stopped_is_shown_as_wedged() -> None:
    root = SupervisorEntry("", strategy="one_for_all", children=[entry("deaf"), entry("worker", backoff=STEADY)])
    faults = ["deaf: ignore stop from 10s", "worker: crash at 20s"]
    assert told(simulate(root, faults, until="1m")) == WEDGED


def many(*faults: str) -> Simulation:
    children = [entry(f"sensor-{number}", backoff=STEADY, executor="process") for number in range(60)]
    return simulate(SupervisorEntry("", max_restarts=1000, children=children), faults, until="24h")


def test_of_many_agents_those_to_which_nothing_happened_share_a_line() -> None:
    faults = ["sensor-7: hang at 6h", "sensor-20: crash every 1h", "sensor-41: slow start forever"]
    assert told(many(*faults)) == MANY


def test_of_many_agents_in_trouble_the_worst_off_are_shown_and_the_rest_are_bounded() -> None:
    text = told(many("/: crash every 1h", "sensor-55: down from 2h to 3h"))
    rows = [line for line in text.splitlines() if line.startswith("sensor-")]
    assert len(rows) == 2 * 20
    assert any(line.startswith("sensor-55 ") for line in rows)
    assert "40 more agents, each with at most 24 crashes and down for at most 0 s" in text
    assert text.count("CRASHED  ") == MOST_LINES
    assert f"...  {60 - MOST_LINES} more" in text


def test_a_supervisor_that_gave_up_and_came_back_has_a_row_above_its_children() -> None:
    ingest = SupervisorEntry("ingest", max_restarts=3, max_seconds=5.0, children=[entry("worker", backoff=None)])
    faults = ["ingest/worker: crash every 1s from 30s to 40s"]
    text = told(simulate([entry("api"), ingest], faults, until="1h"))
    rows = [line.split()[0] for line in text.splitlines()[3:6]]
    assert rows == ["api", "ingest", "ingest/worker"]
    assert text.splitlines()[4].split()[1].startswith("G=")
    assert "Ran to the end (1h); ingest gave up 2 times; nothing is parked, failed or wedged." in text


def test_a_policy_that_escalates_is_named_as_what_made_the_tree_fall() -> None:
    fragile = Backoff(stop=stop_after_attempt(1), on_give_up="escalate")
    text = told(simulate([entry("worker", backoff=fragile)], ["worker: crash at 5s"], until="1h"))
    last = text.splitlines()[-1]
    assert last.startswith("The tree fell after 5 s: the root supervisor gave up, as worker failed for good")


def test_a_fault_that_never_happened_is_named() -> None:
    text = told(simulate([entry("worker")], ["worker: crash 5s after ready from 10s"], until="1h"))
    assert text.splitlines()[-2] == "This never happened: worker: crash 5s after ready from 10s"


def test_a_simulation_that_was_cut_short_says_so() -> None:
    text = told(simulate([entry("worker")], ["worker: crash every 1s"], until="24h", max_events=100))
    assert text.splitlines()[-1].startswith("Stopped by max_events after ")
    assert " of 1d; " in text.splitlines()[-1]


def test_a_tree_that_ends_at_once_has_no_chart() -> None:
    text = told(simulate(Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY)), [], until="1h"))
    assert "|0" not in text
    assert text.splitlines()[-1] == (
        "The tree ended by itself after 0 s, exit code 0; nothing is parked, failed or wedged."
    )


def test_long_paths_are_shortened_from_the_left() -> None:
    tree = SupervisorEntry("measurements", children=[SupervisorEntry("laboratory", children=[entry("collector")])])
    text = told(simulate([tree], [], until="1h"))
    assert "\n../laboratory/collector  ====" in text
    assert "\nmeasurements/laboratory/collector  ====" in told(simulate([tree], [], until="1h"), 200)


def alike() -> Simulation:
    """Return a simulation of agents with long names that differ at their beginning or in the middle."""
    name = "the-worker-of-the-partition-in-the-north"
    children = [SupervisorEntry(f"part-{number}", children=[entry(name)]) for number in range(3)]
    regions = [entry(f"{kind}-worker-of-region-{place}-in-the-west") for place, kind in enumerate(("pay", "mail"))]
    faults = ["/: crash at 10m", f"{regions[0].name}: down from 40m to 50m"]
    return simulate([*children, *regions, entry(name)], faults, until="1h")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_two_agents_have_the_same_name_however_it_is_shortened(width: int) -> None:
    blocks = told(alike(), width).split("\n\n")
    shown = [line.split()[0] for line in blocks[1].splitlines()[1:]]
    assert len({*shown}) == len(shown) == 6
    assert max(map(len, shown)) <= width // 3
    assert [line.split()[0] for line in blocks[3].splitlines()[1:]] == shown
    assert {line.split()[3] for line in blocks[4].splitlines() if "CRASHED" in line} == {*shown}


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_what_happened_is_told_in_columns_and_lines_that_are_not_too_long(width: int) -> None:
    lines = told(alike(), width).split("\n\n")[4].splitlines()
    assert max(map(len, lines)) <= width
    begins = [line.index("for the") for line in lines if "for the" in line]
    assert len({*begins}) <= 1
    assert "".join(" ".join(lines).split()).count("forthefirsttime:RuntimeError:simulated") == 6


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_of_the_chart_is_longer_than_asked_for(width: int) -> None:
    chart = told(fallen_tree(), width).split("\n\n")[1]
    assert max(map(len, chart.splitlines())) == width
    assert chart.isascii()


def test_two_simulations_with_one_seed_are_told_in_the_same_words() -> None:
    def text() -> str:
        return told(simulate([entry("worker"), entry("api")], ["/: crash about every 2s"], until="5m", seed=42))

    assert text() == text()


def spelled(*changes: tuple[float, S], end: float = 100.0, width: int = 10, **course: Sequence[Any]) -> str:
    return row(Course(changes=[StateChange(*change) for change in changes], **course), end=end, width=width)


def test_each_sign_stands_for_the_worst_of_its_stretch_of_time() -> None:
    assert spelled((0.0, S.READY)) == "=" * 10
    assert spelled((0.0, S.READY), crashes=[20.0, 35.0]) == "==xx======"
    assert spelled((0.0, S.READY), (25.0, S.BACKOFF), (26.0, S.READY), crashes=[25.0]) == "==x======="
    assert spelled((0.0, S.READY), (22.0, S.BACKOFF), (47.0, S.READY), crashes=[22.0]) == "==X..====="
    assert spelled((0.0, S.READY), (22.0, S.BACKOFF), (23.0, S.READY)) == "==r======="
    assert spelled((0.0, S.READY), (29.0, S.PARKED)) == "==PPPPPPPP"
    assert spelled((0.0, S.READY), (29.0, S.WEDGED), (31.0, S.READY), crashes=[33.0]) == "==WW======"
    assert spelled((0.0, S.READY), (55.0, S.READY), gave_up=[55.0], crashes=[55.0]) == "=====G===="


def test_what_came_at_the_very_end_is_shown_although_it_lasted_no_time() -> None:
    assert spelled((0.0, S.READY), (100.0, S.PARKED), crashes=[100.0]) == "=========P"


def test_before_it_was_there_and_after_it_has_ended_a_row_is_blank() -> None:
    assert spelled((50.0, S.READY)) == "     ====="


def test_a_hang_is_shown_as_long_as_nobody_has_noticed() -> None:
    assert spelled((0.0, S.READY), hangs=[Spell(20.0, 45.0)]) == "==hhh====="


def test_of_states_the_one_that_lasted_longest_is_shown() -> None:
    assert spelled((0.0, S.QUEUED), (7.0, S.STARTING), (19.0, S.READY)) == "qs========"
    assert spelled((0.0, S.WAITING), (30.0, S.READY), (60.0, S.STOPPING), (80.0, S.STOPPED)) == "www===tt--"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (60.0, "|0          |15s        |30s        |45s"),
        (86400.0, "|0          |6h         |12h        |18h"),
        (1.0, "|0       |200ms    |400ms   |600ms    |800ms"),
        (191.0, "|0             |1m            |2m            |3m"),
        (365 * 86400.0, "|0         |90d        |180d       |270d"),
        (36500 * 86400.0, "|0       |7300d    |14600d  |21900d   |29200d"),
    ],
)
def test_the_axis_has_round_moments_each_at_its_place(end: float, expected: str) -> None:
    assert axis(end, 48) == expected


def test_a_legend_explains_the_signs_that_occur_and_no_other() -> None:
    assert legend(["==x", "=c"], 80) == [
        "=  ready                             c  completed",
        "x  crashed, ready most of the time",
    ]
    assert legend(["==x", "=c"], 40) == ["=  ready", "x  crashed, ready most of the time", "c  completed"]


def test_what_one_character_is_of_a_short_time_is_not_rounded_to_nothing() -> None:
    for until, said in (("10ms", "0.00014 s"), ("3s", "0.042 s"), ("1m", "0.83 s")):
        assert f"One character is {said}:" in timeline(simulate([AgentEntry(Worker, "w")], until=until), width=75)
