"""Whether and when one child comes back: restart type, rules, stop, window, delay. Virtual time, exact numbers."""

from __future__ import annotations

import itertools

import pytest
import tenacity
from checked import CheckedTree
from tenacity import stop_after_attempt, stop_after_delay, wait_chain, wait_fixed
from virtual import agent, process, supervisor

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, ExitReason, abnormal
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.events import AgentParked, AgentRestarting, AgentTerminated
from orchestree.supervisor.states import RunMode
from orchestree.supervisor.streaks import current_streak
from orchestree.supervisor.tree import AgentNode
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

CRASH = abnormal(Cause.EXCEPTION)
KILLED = abnormal(Cause.SIGNAL)
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "dependents")


def starts(tree: CheckedTree, path: str) -> list[float]:
    return [now for now, _ in tree.events("AGENT_STARTING", path)]


def crash_times(tree: CheckedTree, path: str, count: int) -> list[float]:
    """Crash an agent `count` times, each time as soon as it runs; return when it started."""
    for _ in range(count):
        tree.crash(path)
        while tree.state(path) == "backoff":
            tree.advance((tree.core.next_deadline() or 0.0) - tree.now)
    return starts(tree, path)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("restart", "reason", "comes_back", "state"),
    [
        ("permanent", NORMAL, True, "ready"),
        ("permanent", SHUTDOWN, True, "ready"),
        ("permanent", CRASH, True, "ready"),
        ("permanent", KILLED, True, "ready"),
        ("transient", NORMAL, False, "completed"),
        ("transient", SHUTDOWN, False, "completed"),
        ("transient", CRASH, True, "ready"),
        ("transient", KILLED, True, "ready"),
        ("temporary", NORMAL, False, "gone"),
        ("temporary", SHUTDOWN, False, "gone"),
        ("temporary", CRASH, False, "gone"),
        ("temporary", KILLED, False, "gone"),
    ],
)
def test_restart_type_and_reason_decide_under_every_strategy(
    strategy: str, restart: str, reason: ExitReason, comes_back: bool, state: str
) -> None:
    tree = CheckedTree(agent("before"), agent("it", restart=restart), agent("behind"), strategy=strategy)
    tree.end("it", reason)
    assert tree.states().get("it", "gone") == state
    group = {"one_for_all": {"before", "behind"}, "rest_for_one": {"behind"}}.get(strategy, set())
    for name in ("before", "behind"):
        assert tree.state(name) == "ready"
        assert tree.node(name).incarnation == (2 if comes_back and name in group else 1)
    assert tree.core.world.root.window.count(tree.now) == int(comes_back)
    crashed = reason in (CRASH, KILLED)
    assert len(tree.events("AGENT_CRASHED", "it")) == int(crashed)
    assert len(tree.events("AGENT_RESTARTING", "it")) == int(comes_back)
    assert len(tree.events("AGENT_TERMINATED", "it")) == int(not comes_back)


@pytest.mark.parametrize(("reason", "state"), [(NORMAL, "completed"), (SHUTDOWN, "completed"), (CRASH, "failed")])
def test_a_temporary_agent_leaves_the_tree_and_its_last_outcome_stays(reason: ExitReason, state: str) -> None:
    tree = CheckedTree(agent("it", restart="temporary"), agent("other"))
    tree.end("it", reason)
    root = tree.core.world.root
    assert [child.name for child in root.sequence] == ["other"]
    assert "it" not in tree.core.world.nodes
    assert root.departed["it"].state.value == state
    ((_, data),) = tree.events("AGENT_TERMINATED", "it")
    assert isinstance(data, AgentTerminated)
    assert (data.reason, data.state.value) == (reason, state)


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_an_agent_that_ignores_its_start_is_never_restarted(restart: str) -> None:
    tree = CheckedTree(agent("it", restart=restart), agent("other"))
    tree.ignore("it")
    assert tree.states().get("it", "gone") == ("gone" if restart == "temporary" else "completed")
    assert tree.core.world.root.window.count(0.0) == 0


def test_an_agent_that_ignores_its_restart_stays_listed_and_is_counted_once() -> None:
    tree = CheckedTree(agent("it", restart="permanent"))
    tree.crash("it")
    tree.ignore("it")
    tree.advance(100.0)
    assert tree.state("it") == "completed"
    assert tree.core.world.root.window.count(0.0) == 1
    assert len(starts(tree, "it")) == 2


def test_the_default_delays_are_0_then_a_quarter_of_a_second_doubling_up_to_30() -> None:
    tree = CheckedTree(agent("it"), max_restarts=1000)
    for _ in range(11):
        tree.crash("it")
        tree.advance(30.0 if tree.state("it") == "backoff" else 0.0)
    told = [data for _, data in tree.events("AGENT_RESTARTING", "it")]
    assert [data.delay for data in told if isinstance(data, AgentRestarting)] == [
        0, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30,
    ]  # fmt: skip
    assert [data.attempt for data in told if isinstance(data, AgentRestarting)] == list(range(1, 12))


def test_the_agent_starts_at_the_very_moment_its_delay_ends() -> None:
    tree = CheckedTree(agent("it"))
    tree.crash("it")
    tree.crash("it")
    assert tree.core.next_deadline() == 0.25
    tree.advance(0.2499)
    assert tree.state("it") == "backoff"
    tree.advance(0.0001)
    assert starts(tree, "it") == [0.0, 0.0, 0.25]


def test_jitter_comes_from_the_source_that_was_handed_in() -> None:
    draws = itertools.cycle((0.0, 1.0, 0.5))
    tree = CheckedTree(agent("it"), settings=Settings(draw=lambda: next(draws), backoff=Backoff(wait=wait_fixed(8))))
    assert crash_times(tree, "it", 3) == [0.0, 8.0, 14.0, 21.0]


def test_one_flapping_agent_alone_sets_at_most_7_stamps_in_any_10_s_and_never_exhausts_the_window() -> None:
    tree = CheckedTree(agent("it"), settings=Settings(draw=lambda: 1.0))
    for _ in range(200):
        tree.crash("it")
        assert tree.exit_code is None
        deadline = tree.core.next_deadline()
        if deadline is not None and tree.state("it") == "backoff":
            tree.advance(deadline - tree.now)
    stamps = [now for now, _ in tree.events("AGENT_RESTARTING", "it")]
    assert len(stamps) == 200
    assert max(sum(now <= stamp <= now + 10.0 for stamp in stamps) for now in stamps) == 7


def test_a_streak_returns_to_0_after_stable_after_seconds_of_being_ready() -> None:
    backoff = Backoff(stable_after=5.0)
    tree = CheckedTree(agent("it", backoff=backoff))
    for _ in range(3):
        tree.crash("it")
        tree.advance(0.5)
    assert tree.node("it").streak.failures == 3
    tree.advance(4.9 - 0.5 + 0.5)
    tree.crash("it")
    assert tree.node("it").streak.failures == 4
    tree.advance(1.0)
    tree.advance(5.0)
    tree.crash("it")
    assert tree.node("it").streak.failures == 1


def test_waiting_for_a_restart_is_not_uptime() -> None:
    tree = CheckedTree(agent("it", backoff=Backoff(wait=wait_fixed(100), stable_after=50.0)))
    for count in range(1, 4):
        tree.crash("it")
        assert tree.node("it").streak.failures == count
        tree.advance(100.0)


def test_being_slow_to_become_ready_is_not_uptime() -> None:
    tree = CheckedTree(agent("it", start_timeout=None, backoff=Backoff(stable_after=5.0)))
    tree.crash("it")
    tree.manual.add("it")
    tree.crash("it")
    tree.advance(10.0)
    tree.crash("it")
    assert tree.node("it").streak.failures == 3


def test_stop_after_attempt_5_parks_on_the_5th_failure_after_4_restarts() -> None:
    tree = CheckedTree(agent("it", backoff=Backoff(stop=stop_after_attempt(5))), agent("other"))
    crash_times_ = []
    for _ in range(5):
        tree.crash("it")
        tree.advance(5.0)
        crash_times_.append(tree.state("it"))
    assert crash_times_ == ["ready"] * 4 + ["parked"]
    assert tree.node("it").restarts_total == 4
    ((_, data),) = tree.events("AGENT_PARKED", "it")
    assert data == AgentParked("failed 5 times in a row", 5)
    assert tree.state("other") == "ready"
    tree.advance(1000.0)
    assert tree.state("it") == "parked"


def test_parking_sets_no_stamp() -> None:
    tree = CheckedTree(agent("it", backoff=Backoff(stop=stop_after_attempt(1))), max_restarts=0)
    tree.crash("it")
    assert tree.state("it") == "parked"
    assert tree.core.world.root.window.count(0.0) == 0
    assert tree.exit_code is None


def test_stop_after_delay_parks_when_the_streak_has_lasted_that_long() -> None:
    tree = CheckedTree(agent("it", backoff=Backoff(wait=wait_fixed(4), stop=stop_after_delay(10))))
    for _ in range(3):
        tree.crash("it")
        tree.advance(4.0)
    assert tree.state("it") == "ready"
    tree.crash("it")
    assert (tree.now, tree.state("it")) == (12.0, "parked")


def test_a_chain_of_waits_is_taken_one_by_one() -> None:
    chain = wait_chain(*[wait_fixed(1)] * 3, wait_fixed(30))
    tree = CheckedTree(agent("it", backoff=Backoff(wait=chain)))
    crash_times(tree, "it", 5)
    assert starts(tree, "it") == [0, 1, 2, 3, 33, 63]


def test_an_incrementing_wait_is_taken_as_it_is() -> None:
    wait = tenacity.wait_incrementing(start=2, increment=3)
    tree = CheckedTree(agent("it", backoff=Backoff(wait=wait)))
    assert crash_times(tree, "it", 3) == [0, 2, 7, 15]


def test_a_permanent_agent_that_ends_normally_goes_through_window_and_backoff_and_can_be_parked() -> None:
    tree = CheckedTree(agent("it", restart="permanent", backoff=Backoff(stop=stop_after_attempt(3))))
    for _ in range(2):
        tree.complete("it")
        tree.advance(1.0)
    assert tree.core.world.root.window.count(tree.now) == 2
    assert [data.delay for _, data in tree.events("AGENT_RESTARTING") if isinstance(data, AgentRestarting)] == [0, 0.25]
    tree.complete("it")
    assert tree.state("it") == "parked"


def test_without_a_policy_an_agent_restarts_at_once_always_and_without_rules() -> None:
    tree = CheckedTree(agent("it", backoff=None), max_restarts=30)
    for _ in range(30):
        tree.crash("it", exit_code=78)
    assert starts(tree, "it") == [0.0] * 31


def test_an_entry_without_a_policy_takes_the_orchestrators() -> None:
    settings = Settings(backoff=Backoff(wait=wait_fixed(7)))
    tree = CheckedTree(agent("its_own", backoff=Backoff(wait=wait_fixed(3))), agent("inherits"), settings=settings)
    tree.crash("its_own")
    tree.crash("inherits")
    tree.advance(10.0)
    assert (starts(tree, "its_own"), starts(tree, "inherits")) == ([0, 3], [0, 7])


def test_exit_code_78_parks_and_75_restarts_whatever_stop_is_set() -> None:
    tree = CheckedTree(process("config"), process("again"))
    tree.end("config", abnormal(Cause.EXIT), exit_code=78)
    tree.end("again", abnormal(Cause.EXIT), exit_code=75)
    assert tree.states() == {"config": "parked", "again": "ready"}


def test_a_rule_that_says_restart_goes_on_to_stop_window_and_delay() -> None:
    backoff = Backoff(rules=(Rule(action="restart", exit_code=78),), stop=stop_after_attempt(2))
    tree = CheckedTree(process("it", backoff=backoff))
    tree.end("it", abnormal(Cause.EXIT), exit_code=78)
    assert tree.state("it") == "ready"
    tree.end("it", abnormal(Cause.EXIT), exit_code=78)
    assert tree.state("it") == "parked"


def test_rules_come_before_stop_and_the_restart_type_before_rules() -> None:
    backoff = Backoff(rules=(Rule(action="escalate", cause="exception"),), stop=stop_after_attempt(1))
    tree = CheckedTree(
        supervisor("team", agent("it", backoff=backoff)),
        agent("temporary", restart="temporary", backoff=backoff),
        max_restarts=5,
    )
    tree.crash("temporary")
    assert tree.core.world.root.departed["temporary"].state.value == "failed"
    tree.crash("team/it")
    assert tree.lines("SUPERVISOR_TERMINATED", "AGENT_PARKED") == ["SUPERVISOR_TERMINATED team"]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_more_than_max_restarts_within_max_seconds_ends_the_supervisor(limit: int) -> None:
    tree = CheckedTree(agent("a", backoff=None), agent("b", backoff=None), max_restarts=limit, max_seconds=5.0)
    for number in range(limit):
        tree.crash("ab"[number % 2])
        assert tree.exit_code is None
    tree.crash("a")
    assert tree.exit_code == 70


def test_the_window_is_inclusive_and_exact() -> None:
    tree = CheckedTree(agent("a", backoff=None), max_restarts=1, max_seconds=5.0)
    tree.crash("a")
    tree.advance(5.0)
    tree.crash("a")
    assert tree.exit_code == 70
    tree = CheckedTree(agent("a", backoff=None), max_restarts=1, max_seconds=5.0)
    tree.crash("a")
    tree.advance(5.000001)
    tree.crash("a")
    assert tree.exit_code is None


def test_with_max_restarts_0_a_permanent_agents_normal_end_ends_the_supervisor() -> None:
    tree = CheckedTree(agent("a", restart="permanent"), max_restarts=0)
    tree.complete("a")
    assert tree.exit_code == 70


def test_what_is_no_automatic_restart_sets_no_stamp() -> None:
    tree = CheckedTree(agent("a"), agent("t", restart="temporary"), max_restarts=0)
    tree.complete("a")
    tree.start_agent("a")
    tree.stop_agent("a")
    tree.start_agent("a")
    tree.restart_agent("a")
    tree.crash("t")
    tree.register("", agent("new", restart="temporary"))
    tree.crash("new")
    assert tree.exit_code is None
    assert tree.core.world.root.window.count(0.0) == 0


def test_each_failed_start_is_one_more_failure_with_its_own_stamp() -> None:
    tree = CheckedTree(agent("a"), max_restarts=4)
    tree.failing.add("a")
    tree.crash("a")
    tree.advance(60.0)
    assert tree.exit_code == 70
    assert starts(tree, "a") == [0, 0, 0.25, 0.75, 1.75]


def test_a_failed_first_start_is_a_failure_like_any_other() -> None:
    tree = CheckedTree(agent("a"), agent("t", restart="temporary"), started=False)
    tree.failing |= {"a", "t"}
    tree.start()
    assert tree.states() == {"a": "backoff"}
    assert starts(tree, "a") == [0.0, 0.0]
    assert tree.node("a").streak.failures == 2


def test_a_run_that_took_longer_to_start_than_start_timeout_is_a_failure() -> None:
    tree = CheckedTree(process("a", start_timeout=3.0), started=False)
    tree.manual.add("a")
    tree.start()
    tree.advance(3.0)
    assert tree.lines()[3:] == ["STARTING a", "STOPPING a", "CRASHED a", "RESTARTING a", "STARTING a"]
    node = tree.node("a")
    assert isinstance(node, AgentNode)
    assert node.last_crash is not None
    assert (node.last_crash.cause, node.last_crash.phase, node.last_crash.uptime_s) == ("start_timeout", "setup", 3.0)
    assert starts(tree, "a") == [0.0, 3.0]


def test_without_a_start_timeout_a_start_may_take_for_ever() -> None:
    tree = CheckedTree(agent("a", start_timeout=None), started=False)
    tree.manual.add("a")
    tree.start()
    assert tree.core.next_deadline() is None
    tree.advance(1e6)
    assert tree.state("a") == "starting"


def test_in_stop_on_empty_the_core_takes_the_policy_it_is_given() -> None:
    settings = Settings(run_mode=RunMode.STOP_ON_EMPTY, backoff=Backoff(stop=stop_after_attempt(5)))
    tree = CheckedTree(agent("a"), settings=settings)
    tree.failing.add("a")
    tree.crash("a")
    tree.advance(60.0)
    assert tree.state("a") == "parked"
    assert tree.exit_code == 1


def test_the_streak_that_is_shown_does_not_end_while_the_agent_waits() -> None:
    tree = CheckedTree(agent("it", backoff=Backoff(wait=wait_fixed(100))))
    tree.crash("it")
    tree.advance(99.0)
    assert current_streak(tree.node("it"), tree.now).failures == 1
    tree.advance(31.0)
    assert current_streak(tree.node("it"), tree.now).failures == 0


def _broken(state: object) -> float:
    raise ZeroDivisionError("half way")


@pytest.mark.parametrize("backoff", [Backoff(wait=_broken), Backoff(stop=_broken)], ids=["wait", "stop"])  # type: ignore[arg-type]
def test_a_backoff_policy_that_raises_parks_the_agent_and_nothing_else(backoff: Backoff) -> None:
    tree = CheckedTree(agent("a", backoff=backoff), agent("b"))
    tree.crash("a")
    assert tree.states() == {"a": "parked", "b": "ready"}
    [(_, data)] = tree.events("AGENT_PARKED", "a")
    assert isinstance(data, AgentParked)
    assert data.why == "its backoff policy raised ZeroDivisionError: half way"
