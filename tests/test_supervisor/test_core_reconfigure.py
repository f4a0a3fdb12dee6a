"""`reconfigure` in the core: what runs goes on, what is decided next goes by the new policy."""

from __future__ import annotations

import pytest
from tenacity import RetryCallState, stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process, refused, supervisor

from orchestree.strategies.backoff import Backoff, WaitPolicy
from orchestree.strategies.errors import NotFound, NotRunning, SpecError
from orchestree.strategies.restart import Restart
from orchestree.supervisor.events import AgentRestarting, PolicyChange, PolicyChanged
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy


def fixed(seconds: float, **fields: object) -> Backoff:
    return Backoff(wait=wait_fixed(seconds), jitter=0.0, **fields)  # type: ignore[arg-type]


def due(tree: VirtualTree, path: str) -> float:
    """Return at which moment the agent that waits for its restart starts."""
    before = tree.node(path).incarnation
    while tree.node(path).incarnation == before:
        deadline = tree.core.next_deadline()
        assert deadline is not None
        tree.advance(deadline - tree.now)
    return tree.now


def test_a_change_of_policy_touches_nothing_that_runs_and_is_one_event() -> None:
    tree = VirtualTree(agent("a"), agent("b"))
    since = tree.mark()
    tree.reconfigure("a", restart="permanent", shutdown=2)
    [(_, kind, path, data)] = tree.log[since:]
    assert (kind, path) == ("POLICY_CHANGED", "a")
    changes = (PolicyChange("restart", "transient", "permanent"), PolicyChange("shutdown", "5.0", "2.0"))
    assert data == PolicyChanged(changes)
    assert tree.incarnations() == {"a": 1, "b": 1}
    tree.complete("a")
    assert tree.state("a") == "ready"
    assert tree.node("a").entry.restart is Restart.PERMANENT


def test_what_is_the_same_already_is_no_event() -> None:
    tree = VirtualTree(agent("a"))
    since = tree.mark()
    tree.reconfigure("a", restart="transient", shutdown=5)
    tree.reconfigure("", max_restarts=10)
    assert tree.lines(since=since) == []


@pytest.mark.parametrize(("seconds", "moment"), [(4.0, 4.0), (30.0, 30.0), (1.0, 3.0)])
def test_a_restart_delay_that_runs_is_computed_anew_from_when_it_began(seconds: float, moment: float) -> None:
    tree = VirtualTree(agent("a", backoff=fixed(10)))
    tree.crash("a")
    tree.advance(3)
    tree.reconfigure("a", backoff=fixed(seconds))
    [(_, data)] = tree.events("POLICY_CHANGED")
    assert isinstance(data, PolicyChanged)
    assert data.delay == max(0.0, seconds - 3)
    if seconds > 3:
        assert due(tree, "a") == moment
    else:
        assert (tree.state("a"), tree.now) == ("ready", moment)


def test_a_delay_anew_keeps_the_failure_the_streak_and_the_draw_it_had() -> None:
    draws = iter([0.5, 0.9])
    tree = VirtualTree(agent("a", backoff=fixed(10)), settings=Settings(draw=lambda: next(draws)))
    tree.crash("a")
    tree.reconfigure("a", backoff=Backoff(wait=lambda state: 8.0 * state.attempt_number + state.idle_for, jitter=0.5))
    assert due(tree, "a") == 8.0 * (1 - 0.5 * 0.5)
    streak = tree.node("a").streak
    assert (streak.failures, streak.waited_s) == (1, 6.0)


def test_without_a_policy_the_delay_that_runs_is_over_at_once() -> None:
    tree = VirtualTree(agent("a", backoff=fixed(10)))
    tree.crash("a")
    tree.reconfigure("a", backoff=None)
    assert tree.state("a") == "ready"


def test_a_new_delay_holds_for_the_whole_group_and_never_undercuts_that_of_another_failure() -> None:
    tree = VirtualTree(agent("a", backoff=fixed(10)), agent("b", backoff=fixed(6)), strategy="one_for_all")
    tree.manual |= {"b"}
    tree.crash("a")
    tree.advance(1)
    tree.complete("b")
    assert tree.states() == {"a": "backoff", "b": "backoff"}
    tree.reconfigure("a", backoff=fixed(2))
    assert due(tree, "a") == 2.0
    assert tree.incarnations() == {"a": 2, "b": 2}


def test_a_member_that_only_waits_with_the_group_has_no_delay_of_its_own() -> None:
    tree = VirtualTree(agent("a", backoff=fixed(10)), agent("b"), strategy="one_for_all")
    tree.crash("a")
    tree.reconfigure("b", backoff=fixed(1))
    [(_, data)] = tree.events("POLICY_CHANGED")
    assert isinstance(data, PolicyChanged)
    assert data.delay is None
    assert due(tree, "b") == 10.0


def test_two_failures_that_merged_start_at_the_later_of_their_new_times() -> None:
    tree = VirtualTree(
        agent("a", backoff=fixed(10)),
        agent("b", backoff=fixed(4), strategy="one_for_all"),
        agent("c"),
    )
    tree.crash("a")
    tree.advance(1)
    tree.crash("b")
    assert set(tree.states().values()) == {"backoff"}
    tree.reconfigure("a", backoff=fixed(2))
    assert due(tree, "a") == 5.0
    assert tree.incarnations() == {"a": 2, "b": 2, "c": 2}


def test_one_that_left_its_group_has_no_delay_left_to_change() -> None:
    tree = VirtualTree(agent("a", backoff=fixed(10)), agent("b"), strategy="one_for_all")
    tree.crash("a")
    tree.stop_agent("a")
    tree.reconfigure("a", backoff=fixed(1))
    assert due(tree, "b") == 10.0
    assert tree.state("a") == "stopped"


def test_giving_up_is_decided_by_the_policy_of_the_moment() -> None:
    tree = VirtualTree(agent("a", backoff=fixed(0)))
    tree.crash("a")
    tree.reconfigure("a", backoff=fixed(0, stop=stop_after_attempt(2)))
    assert tree.state("a") == "ready"
    tree.crash("a")
    assert tree.state("a") == "parked"


def test_a_supervisors_own_delay_is_computed_anew_as_well() -> None:
    tree = VirtualTree(supervisor("s", agent("a", backoff=None), max_restarts=0, backoff=fixed(10)))
    tree.crash("s/a")
    assert tree.state("s") == "backoff"
    tree.advance(1)
    tree.reconfigure("s", backoff=fixed(3))
    tree.advance(1.9)
    assert tree.state("s") == "backoff"
    tree.advance(0.1)
    assert tree.state("s") == "ready"


def test_the_window_keeps_its_stamps_and_counts_them_by_the_new_bounds() -> None:
    tree = VirtualTree(agent("a", backoff=None), max_restarts=5, max_seconds=10)
    for _ in range(3):
        tree.crash("a")
    tree.reconfigure("", max_restarts=3)
    assert tree.exit_code is None
    tree.crash("a")
    assert tree.exit_code == 70


def test_a_wider_window_forgives_what_the_old_one_would_not() -> None:
    tree = VirtualTree(agent("a", backoff=None), max_restarts=1, max_seconds=10)
    tree.crash("a")
    tree.reconfigure("", max_restarts=2, max_seconds=20)
    tree.crash("a")
    assert tree.exit_code is None
    tree.advance(15)
    tree.crash("a")
    assert tree.exit_code == 70


def test_a_new_strategy_acts_on_the_next_crash() -> None:
    tree = VirtualTree(agent("a", backoff=None), agent("b"))
    tree.reconfigure("", strategy="one_for_all")
    tree.crash("a")
    assert tree.incarnations() == {"a": 2, "b": 2}


def test_nobody_waits_for_the_one_before_it_any_more_when_rest_for_one_is_left() -> None:
    tree = VirtualTree(agent("a"), agent("b"), agent("c", depends_on=["a"]), strategy="rest_for_one", started=False)
    tree.manual |= {"a"}
    tree.start()
    assert tree.states() == {"a": "starting", "b": "waiting", "c": "waiting"}
    tree.reconfigure("", strategy="one_for_one")
    assert tree.states() == {"a": "starting", "b": "ready", "c": "waiting"}


def test_the_time_for_a_start_that_runs_counts_from_when_it_began() -> None:
    tree = VirtualTree(process("a", start_timeout=None, backoff=fixed(100)), started=False)
    tree.manual |= {"a"}
    tree.start()
    tree.advance(7)
    tree.reconfigure("a", start_timeout=10)
    tree.advance(2.9)
    assert tree.state("a") == "starting"
    tree.advance(0.1)
    assert tree.state("a") == "backoff"
    [(moment, _)] = tree.events("AGENT_CRASHED")
    assert moment == 10.0


def test_the_time_for_a_stop_that_runs_counts_from_when_it_began() -> None:
    tree = VirtualTree(process("a", shutdown="infinity"))
    tree.stubborn |= {"a"}
    tree.stop_agent("a")
    tree.advance(3)
    tree.reconfigure("a", shutdown=5)
    tree.advance(1.9)
    assert tree.state("a") == "stopping"
    tree.advance(0.1)
    assert tree.state("a") == "stopped"


def test_a_stop_that_takes_too_long_already_is_over_at_once() -> None:
    tree = VirtualTree(process("a", shutdown="infinity"))
    tree.stubborn |= {"a"}
    tree.stop_agent("a")
    tree.advance(3)
    tree.reconfigure("a", shutdown="brutal_kill")
    assert tree.state("a") == "stopped"


def test_a_hanging_start_is_still_given_up_when_its_shutdown_becomes_infinite() -> None:
    tree = VirtualTree(agent("a", start_timeout=1, shutdown=100, backoff=fixed(50)), started=False)
    tree.manual |= {"a"}
    tree.start()
    tree.advance(1)
    tree.reconfigure("a", shutdown="infinity")
    tree.advance(5.05)
    assert tree.state("a") == "stopping"
    tree.advance(0.05)
    assert tree.state("a") == "wedged"


def test_a_wedged_agent_may_be_replaced_from_now_on() -> None:
    tree = VirtualTree(agent("a", shutdown=1), agent("b", backoff=None), strategy="one_for_all")
    tree.stubborn |= {"a"}
    tree.crash("b")
    tree.advance(1.1)
    assert tree.states() == {"a": "wedged", "b": "ready"}
    tree.reconfigure("a", replace_wedged=True)
    assert tree.states() == {"a": "ready", "b": "ready"}
    assert len(tree.live) == 3


def test_a_wedged_agent_that_nobody_wants_back_stays_as_it_is() -> None:
    tree = VirtualTree(agent("a", shutdown=1))
    tree.stubborn |= {"a"}
    tree.stop_agent("a")
    tree.advance(1.1)
    tree.reconfigure("a", replace_wedged=True)
    assert tree.state("a") == "wedged"


def test_significance_and_automatic_shutdown_act_from_the_next_end_on() -> None:
    tree = VirtualTree(agent("a"), agent("b"))
    tree.reconfigure("", auto_shutdown="any_significant")
    tree.reconfigure("a", significant=True)
    tree.complete("b")
    assert tree.exit_code is None
    tree.complete("a")
    assert tree.exit_code == 0


def test_a_completed_child_made_temporary_is_not_started_by_a_group() -> None:
    tree = VirtualTree(agent("a"), agent("b", backoff=None), strategy="one_for_all")
    tree.complete("a")
    tree.reconfigure("a", restart="temporary")
    tree.crash("b")
    assert tree.states() == {"a": "completed", "b": "ready"}


REFUSED = [
    ("a", {"restart": "always"}, "restart='always'"),
    ("a", {"restart": "permanent", "shutdown": -1}, "shutdown=-1"),
    ("a", {"executor": "process"}, "executor='process': cannot be changed by reconfigure"),
    ("a", {"max_restarts": 3}, "max_restarts=3: cannot be changed"),
    ("a", {"shutdwn": 3}, "did you mean 'shutdown'"),
    ("a", {"significant": True}, "auto_shutdown=never"),
    ("a", {"backoff": 3}, "backoff=3"),
    ("", {"restart": "temporary"}, "restart='temporary': cannot be changed"),
    ("", {"max_seconds": 0}, "max_seconds=0"),
    ("s", {"start_timeout": 3}, "start_timeout=3: cannot be changed"),
    ("s", {"auto_shutdown": "never", "max_restarts": 1}, "'x': significant=True"),
    ("s", {"max_children": 3}, "max_children=3: only a supervisor with dynamic=True"),
    ("s/x", {"restart": "permanent"}, "significant=True: a permanent child"),
    ("pool", {"strategy": "one_for_all"}, "dynamic=True it must be one_for_one"),
    ("pool", {"auto_shutdown": "any_significant"}, "dynamic=True it must be never"),
]


@pytest.mark.parametrize(("path", "fields", "says"), REFUSED)
def test_a_bad_change_leaves_everything_as_it_was(path: str, fields: dict[str, object], says: str) -> None:
    tree = VirtualTree(
        agent("a"),
        supervisor("s", agent("x", significant=True), auto_shutdown="any_significant"),
        supervisor("pool", dynamic=True),
    )
    entries = {where: node.entry for where, node in tree.core.world.nodes.items()}
    since = tree.mark()
    error = refused(lambda: tree.reconfigure(path, **fields))
    assert isinstance(error, SpecError)
    assert says in str(error)
    assert {where: node.entry for where, node in tree.core.world.nodes.items()} == entries
    assert tree.lines(since=since) == []


def exits(state: RetryCallState) -> float:
    raise SystemExit(3)


def leaves(state: RetryCallState) -> float:
    raise GeneratorExit


@pytest.mark.parametrize(
    ("wait", "said"),
    [(lambda _: float("nan"), "ValueError: wait answered nan"), (exits, "SystemExit: 3"), (leaves, "GeneratorExit")],
)
def test_a_policy_that_cannot_say_what_is_left_of_the_delay_is_refused(wait: WaitPolicy, said: str) -> None:
    tree = VirtualTree(agent("a", backoff=fixed(10)))
    tree.crash("a")
    error = refused(lambda: tree.reconfigure("a", backoff=Backoff(wait=wait)))
    assert isinstance(error, SpecError)
    assert f"'a': backoff: it raised {said}" in str(error)
    assert due(tree, "a") == 10.0


def test_a_strategy_for_one_agent_is_refused_in_a_dynamic_supervisor() -> None:
    tree = VirtualTree(supervisor("pool", dynamic=True))
    tree.start_child("pool", agent("a"))
    assert "its supervisor is dynamic" in str(refused(lambda: tree.reconfigure("pool/a", strategy="one_for_all")))


def test_nothing_of_that_name_and_nothing_that_runs_are_mistakes_of_their_own() -> None:
    tree = VirtualTree(agent("a"))
    assert isinstance(refused(lambda: tree.reconfigure("b", restart="permanent")), NotFound)
    tree.stop()
    assert isinstance(refused(lambda: tree.reconfigure("a", restart="permanent")), NotRunning)


def test_a_new_policy_outlives_the_restart_of_the_supervisor() -> None:
    tree = VirtualTree(supervisor("s", agent("a", backoff=None), max_restarts=0, backoff=None), max_restarts=9)
    tree.reconfigure("s/a", backoff=fixed(2))
    tree.reconfigure("s", max_restarts=1)
    tree.restart_agent("s")
    tree.crash("s/a")
    [(_, data)] = tree.events("AGENT_RESTARTING", "s/a")[-1:]
    assert isinstance(data, AgentRestarting)
    assert data.delay == 2.0
    assert tree.state("s") == "ready"


def test_a_delay_that_a_command_has_ended_is_not_brought_back() -> None:
    tree = VirtualTree(agent("a", backoff=fixed(50)), agent("b"), strategy="one_for_all")
    tree.manual |= {"b"}
    tree.crash("a")
    tree.restart_agent("a")
    tree.reconfigure("a", backoff=fixed(100))
    tree.complete("b")
    assert (tree.now, tree.state("a")) == (0.0, "ready")


def test_what_was_told_to_end_at_once_is_not_given_more_time() -> None:
    tree = VirtualTree(supervisor("s", agent("a", shutdown=50), shutdown=1, backoff=None))
    tree.stubborn |= {"s/a"}
    tree.stop_agent("s")
    tree.advance(1.05)
    tree.reconfigure("s/a", shutdown="infinity")
    tree.advance(0.05)
    assert tree.states() == {"s": "stopped", "s/a": "wedged"}
