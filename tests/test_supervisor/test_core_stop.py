"""How children and whole trees stop: order, shutdown times, kills, deadlines. Virtual time."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process, supervisor

from orchestree.agents.ends import NORMAL, Cause, abnormal
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.events import AgentTerminated, OrchestratorStopped, OrchestratorStopping
from orchestree.supervisor.inputs import AskRunToStop, KillRun, StopTree
from orchestree.supervisor.stopping import GRACE_S

pytestmark = pytest.mark.policy

STEPS = ("AGENT_STOPPING", "AGENT_TERMINATED", "SUPERVISOR_TERMINATED", "ORCHESTRATOR_STOPPED")


def asked(tree: CheckedTree) -> list[str]:
    return [effect.run.path for effect in tree.effects if isinstance(effect, AskRunToStop)]


def killed(tree: CheckedTree) -> list[str]:
    return [effect.run.path for effect in tree.effects if isinstance(effect, KillRun)]


def test_a_tree_stops_depth_first_in_reverse_start_order() -> None:
    tree = CheckedTree(agent("a"), supervisor("s", agent("x"), supervisor("t", agent("y")), agent("z")), agent("b"))
    mark = tree.mark()
    tree.stop()
    assert tree.lines(*STEPS, since=mark) == [
        "STOPPING b", "TERMINATED b",
        "STOPPING s/z", "TERMINATED s/z", "STOPPING s/t/y", "TERMINATED s/t/y", "SUPERVISOR_TERMINATED s/t",
        "STOPPING s/x", "TERMINATED s/x", "SUPERVISOR_TERMINATED s",
        "STOPPING a", "TERMINATED a", "SUPERVISOR_TERMINATED", "ORCHESTRATOR_STOPPED",
    ]  # fmt: skip
    assert tree.exit_code == 0


def test_reverse_start_order_is_not_reverse_registration_order() -> None:
    tree = CheckedTree(agent("a", depends_on=["b"]), agent("b"))
    tree.stop()
    assert asked(tree) == ["a", "b"]


def test_an_agent_that_was_registered_later_stops_first_and_one_that_was_restarted_keeps_its_place() -> None:
    tree = CheckedTree(agent("a"), agent("b"))
    tree.register("", agent("c"))
    tree.restart_agent("a")
    tree.stop()
    assert asked(tree) == ["a", "c", "b", "a"]


def test_each_child_is_awaited_before_the_next_is_asked() -> None:
    tree = CheckedTree(*(agent(name) for name in "abc"))
    tree.manual |= {"a", "b", "c"}
    tree.stop()
    assert asked(tree) == ["c"]
    tree.advance(3.0)
    assert asked(tree) == ["c"]
    tree.end("c", NORMAL)
    assert asked(tree) == ["c", "b"]


def test_each_child_has_its_own_shutdown_time_from_when_it_is_asked() -> None:
    tree = CheckedTree(process("a", shutdown=3.0), process("b", shutdown=2.0), process("c", shutdown=1.0))
    tree.manual |= {"a", "b", "c"}
    tree.stop()
    tree.advance(100.0)
    ended = {path: now for now, kind, path, _ in tree.log if kind == "AGENT_TERMINATED"}
    assert ended == {"c": 1.0, "b": 3.0, "a": 6.0}
    assert killed(tree) == ["c", "b", "a"]


def test_the_default_shutdown_time_is_5_seconds() -> None:
    tree = CheckedTree(process("a"))
    tree.manual.add("a")
    tree.stop()
    tree.advance(4.999)
    assert killed(tree) == []
    tree.advance(0.001)
    assert tree.exit_code == 0


def test_with_shutdown_0_it_is_asked_and_killed_at_the_same_moment() -> None:
    tree = CheckedTree(process("a", shutdown=0))
    tree.stubborn.add("a")
    tree.stop()
    tree.advance(0.0)
    assert (asked(tree), killed(tree), tree.exit_code) == (["a"], ["a"], 0)


def test_brutal_kill_kills_at_once() -> None:
    tree = CheckedTree(process("a", shutdown="brutal_kill"))
    tree.stubborn.add("a")
    tree.stop()
    assert killed(tree) == ["a"]
    assert tree.exit_code == 0


def test_infinity_waits_without_limit() -> None:
    tree = CheckedTree(process("a", shutdown="infinity"))
    tree.manual.add("a")
    tree.stop()
    tree.advance(1e6)
    assert (killed(tree), tree.state("a")) == ([], "stopping")
    tree.end("a", NORMAL)
    assert tree.exit_code == 0


def test_the_shutdown_time_of_a_supervisor_bounds_its_whole_subtree() -> None:
    team = supervisor("team", process("x", shutdown="infinity"), process("y", shutdown=50.0), shutdown=3.0)
    tree = CheckedTree(agent("a"), team)
    tree.manual |= {"team/x", "team/y"}
    tree.stop()
    tree.advance(2.9)
    assert asked(tree) == ["team/y"]
    tree.advance(0.1)
    assert killed(tree) == ["team/y", "team/x"]
    assert tree.exit_code == 0


def test_brutal_kill_of_a_supervisor_takes_its_whole_subtree() -> None:
    inner = supervisor("inner", process("x"))
    tree = CheckedTree(supervisor("team", inner, process("y"), shutdown="brutal_kill"))
    tree.manual |= {"team/inner/x", "team/y"}
    tree.stop()
    assert sorted(killed(tree)) == ["team/inner/x", "team/y"]
    assert tree.exit_code == 0


def test_stop_with_a_timeout_is_a_deadline_for_the_whole_tree_after_which_everything_left_is_killed_at_once() -> None:
    tree = CheckedTree(
        process("a", shutdown=60.0), supervisor("s", process("x", shutdown="infinity")), agent("t", shutdown=60.0)
    )
    tree.manual |= {"a", "s/x", "t"}
    tree.stop(timeout=2.0)
    tree.advance(2.0)
    assert set(killed(tree)) == {"a", "s/x", "t"}
    assert tree.states() == {"a": "stopped", "s": "stopped", "s/x": "stopped", "t": "stopping"}
    tree.advance(GRACE_S)
    assert tree.state("t") == "wedged"
    assert tree.exit_code == 1


def test_a_second_stop_may_only_bring_the_deadline_forward() -> None:
    tree = CheckedTree(process("a", shutdown="infinity"))
    tree.manual.add("a")
    tree.stop()
    tree.stop(timeout=10.0)
    tree.stop(timeout=1.0)
    tree.stop(timeout=5.0)
    tree.advance(1.0)
    assert tree.exit_code == 0
    assert len(tree.events("ORCHESTRATOR_STOPPING")) == 1


def test_nothing_is_left_to_do_after_the_end() -> None:
    tree = CheckedTree(process("a"))
    tree.stop(timeout=10.0)
    assert tree.exit_code == 0
    assert tree.core.next_deadline() is None
    mark = tree.mark()
    tree.advance(100.0)
    tree.tell(StopTree())
    assert tree.lines(since=mark) == []


def test_an_end_after_the_request_counts_as_shutdown_and_a_failure_shows_as_shutdown_error() -> None:
    tree = CheckedTree(*(agent(name) for name in "abc"))
    tree.manual |= {"a", "b", "c"}
    for name in "abc":
        tree.stop_agent(name)
    tree.complete("a")
    tree.crash("b", "no more disk")
    tree.shut_itself_down("c")
    told = {path: data for _, _, path, data in tree.log if isinstance(data, AgentTerminated)}
    assert {str(data.reason) for data in told.values()} == {"shutdown"}
    assert {name: data.shutdown_error for name, data in told.items()} == {"a": None, "b": "no more disk", "c": None}
    assert tree.lines("AGENT_CRASHED") == []
    assert set(tree.states().values()) == {"stopped"}


def test_a_kill_after_the_shutdown_time_is_a_shutdown_error() -> None:
    tree = CheckedTree(process("a", shutdown=1.0))
    tree.manual.add("a")
    tree.stop_agent("a")
    tree.advance(1.0)
    ((_, data),) = tree.events("AGENT_TERMINATED")
    assert isinstance(data, AgentTerminated)
    assert data.shutdown_error == "killed"


def test_children_that_end_by_themselves_in_the_middle_do_not_disturb_the_stop() -> None:
    tree = CheckedTree(*(agent(name) for name in "abcd"))
    tree.manual |= {"a", "b", "c", "d"}
    tree.stop()
    tree.crash("b")
    tree.complete("a")
    tree.end("d", abnormal(Cause.SIGNAL))
    assert asked(tree) == ["d", "c"]
    tree.end("c", NORMAL)
    assert tree.exit_code == 0
    assert tree.lines("AGENT_RESTARTING") == []


def test_what_waits_queues_or_is_in_backoff_is_stopped_at_once() -> None:
    tree = CheckedTree(
        agent("a", backoff=Backoff(wait=wait_fixed(9))), agent("b", depends_on=["a"]), agent("c"), started=False
    )
    tree.manual.add("c")
    tree.failing.add("a")
    tree.start()
    assert tree.states() == {"a": "backoff", "b": "waiting", "c": "starting"}
    tree.stop()
    assert tree.states() == {"a": "stopped", "b": "stopped", "c": "stopping"}


def test_a_stop_of_the_whole_leaves_completed_parked_failed_and_wedged_as_they_are() -> None:
    tree = CheckedTree(
        agent("done"),
        agent("parked", backoff=Backoff(stop=stop_after_attempt(1))),
        supervisor("failed", agent("x", backoff=None), max_restarts=0, restart="transient"),
        agent("wedged", shutdown=1.0),
        agent("up"),
    )
    tree.complete("done")
    tree.crash("parked")
    tree.crash("failed/x")
    tree.manual.add("wedged")
    tree.stop_agent("wedged")
    tree.advance(2.0)
    tree.stop()
    states = tree.states()
    assert {name: state for name, state in states.items() if name == state} == {
        "parked": "parked", "failed": "failed", "wedged": "wedged",
    }  # fmt: skip
    assert (states["done"], states["up"]) == ("completed", "stopped")
    ((_, data),) = tree.events("ORCHESTRATOR_STOPPED")
    assert data == OrchestratorStopped(1, "command", ("parked", "failed", "wedged"))


def test_a_stop_while_children_start_stops_them_too() -> None:
    tree = CheckedTree(agent("a"), agent("b"), started=False)
    tree.manual |= {"a", "b"}
    tree.start()
    tree.stop()
    tree.end("b", NORMAL)
    tree.end("a", NORMAL)
    assert tree.exit_code == 0


def test_a_stop_during_a_retry_loop_works_at_once() -> None:
    tree = CheckedTree(agent("a"))
    tree.failing.add("a")
    tree.crash("a")
    tree.stop()
    assert tree.exit_code == 0


@pytest.mark.parametrize("cause", ["command", "signal"])
def test_the_cause_of_the_stop_is_in_the_events(cause: str) -> None:
    tree = CheckedTree(agent("a"))
    tree.tell(StopTree(cause))
    ((_, stopping),) = tree.events("ORCHESTRATOR_STOPPING")
    ((_, stopped),) = tree.events("ORCHESTRATOR_STOPPED")
    assert stopping == OrchestratorStopping(cause)
    assert stopped == OrchestratorStopped(0, cause)


def test_stopping_a_supervisor_stops_its_subtree_in_reverse_order_and_nobody_else() -> None:
    tree = CheckedTree(agent("a"), supervisor("s", agent("x"), agent("y")), strategy="one_for_all")
    tree.stop_agent("s")
    assert asked(tree) == ["s/y", "s/x"]
    assert tree.states() == {"a": "ready", "s": "stopped", "s/x": "stopped", "s/y": "stopped"}


def test_a_supervisor_that_is_being_stopped_gets_no_more_time_when_the_whole_tree_is_stopped() -> None:
    tree = VirtualTree(supervisor("s", process("a", shutdown="infinity"), shutdown=10))
    tree.stubborn.add("s/a")
    tree.stop_agent("s")
    tree.advance(3)
    tree.stop()
    tree.advance(6.9)
    assert tree.state("s") == "stopping"
    tree.advance(0.1)
    assert (tree.exit_code, tree.state("s")) == (0, "stopped")


def test_a_strategy_that_there_is_not_is_a_mistake_of_ours() -> None:
    tree = VirtualTree(agent("a"))
    object.__setattr__(tree.core.world.root.entry, "strategy", "all_for_none")
    with pytest.raises(AssertionError, match="all_for_none"):
        tree.crash("a")
