"""When nothing can come to run any more, how the whole ends, and with which exit code. Virtual time."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.events import AllAgentsTerminated, OrchestratorStarted, OrchestratorStopped
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.states import RunMode
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

PARKS = Backoff(stop=stop_after_attempt(1))
LATE = Backoff(wait=wait_fixed(10.0))


def stop_on_empty(*children: ChildEntry, workers: int | None = None) -> CheckedTree:
    settings = Settings(name="it", run_mode=RunMode.STOP_ON_EMPTY, max_workers=workers)
    return CheckedTree(*children, settings=settings)


def all_terminated(tree: CheckedTree) -> list[tuple[str, ...]]:
    found = tree.events("ALL_AGENTS_TERMINATED")
    return [data.left_waiting for _, data in found if isinstance(data, AllAgentsTerminated)]


def stopped(tree: CheckedTree) -> OrchestratorStopped:
    ((_, data),) = tree.events("ORCHESTRATOR_STOPPED")
    assert isinstance(data, OrchestratorStopped)
    return data


def test_the_start_tells_how_many_were_registered() -> None:
    tree = stop_on_empty(agent("a"), supervisor("s", agent("x"), supervisor("t")))
    policies: dict[str, dict[str, str]] = {"": {}, "s": {}, "s/t": {}}
    started = OrchestratorStarted("it", RunMode.STOP_ON_EMPTY, 2, 2, policies=policies)
    assert tree.events("ORCHESTRATOR_STARTED") == [(0.0, started)]


def test_an_empty_stop_on_empty_tree_ends_at_once_with_0() -> None:
    tree = stop_on_empty()
    assert tree.exit_code == 0
    assert tree.lines() == [
        "ORCHESTRATOR_STARTED", "SUPERVISOR_STARTED", "SUPERVISOR_READY", "ALL_AGENTS_TERMINATED",
        "ORCHESTRATOR_STOPPING", "SUPERVISOR_TERMINATED", "ORCHESTRATOR_STOPPED",
    ]  # fmt: skip


def test_a_tree_of_empty_supervisors_is_empty() -> None:
    assert stop_on_empty(supervisor("s", supervisor("t"))).exit_code == 0


def test_an_empty_daemon_goes_on() -> None:
    tree = CheckedTree()
    assert all_terminated(tree) == [()]
    assert tree.exit_code is None


def test_stop_on_empty_ends_with_0_when_all_have_completed() -> None:
    tree = stop_on_empty(agent("a"), agent("b"), agent("t", restart="temporary"))
    tree.complete("a")
    tree.ignore("b")
    assert tree.exit_code is None
    tree.complete("t")
    assert tree.exit_code == 0
    assert stopped(tree) == OrchestratorStopped(0, "all_agents_terminated")


def test_agents_that_an_operator_stopped_are_not_waited_for_and_cost_nothing() -> None:
    tree = stop_on_empty(agent("a"), agent("b"))
    tree.complete("a")
    tree.stop_agent("b")
    assert tree.exit_code == 0


def test_one_that_starts_stops_or_is_in_backoff_is_waited_for() -> None:
    tree = stop_on_empty(agent("a", backoff=LATE), agent("b"))
    tree.manual.add("b")
    tree.crash("a")
    tree.stop_agent("b")
    assert tree.exit_code is None
    tree.end("b", NORMAL)
    assert tree.states() == {"a": "backoff", "b": "stopped"}
    assert tree.exit_code is None
    tree.advance(10.0)
    tree.complete("a")
    assert tree.exit_code == 0


def test_one_that_is_queued_is_waited_for() -> None:
    tree = stop_on_empty(agent("a"), agent("b"), workers=1)
    tree.complete("a")
    assert tree.exit_code is None
    tree.complete("b")
    assert tree.exit_code == 0


def test_a_supervisor_in_backoff_is_waited_for() -> None:
    tree = stop_on_empty(supervisor("s", agent("x", backoff=None), max_restarts=0))
    tree.crash("s/x")
    tree.crash("s/x")
    assert tree.state("s") == "backoff"
    assert tree.exit_code is None
    tree.advance(0.25)
    tree.complete("s/x")
    assert tree.exit_code == 0


def test_agents_left_waiting_are_named_and_make_the_exit_code_1() -> None:
    tree = stop_on_empty(agent("a"), agent("b", depends_on=["a"]), agent("c"))
    tree.stop_agent("a")
    tree.stop_agent("b")
    tree.start_agent("b")
    assert tree.state("b") == "waiting"
    tree.complete("c")
    assert all_terminated(tree) == [("b",)]
    assert tree.exit_code == 1
    assert stopped(tree).unhealthy == ("b",)


def test_one_that_waits_for_a_parked_dependency_is_left_waiting() -> None:
    tree = CheckedTree(
        agent("a", backoff=PARKS), agent("b", depends_on=["a"]),
        settings=Settings(run_mode=RunMode.STOP_ON_EMPTY), started=False,
    )  # fmt: skip
    tree.failing.add("a")
    tree.start()
    assert all_terminated(tree) == [("b",)]
    assert stopped(tree).unhealthy == ("a", "b")


def test_a_group_that_has_yet_to_start_is_waited_for() -> None:
    tree = CheckedTree(
        agent("a", backoff=LATE), agent("b"), agent("c"), strategy="rest_for_one",
        settings=Settings(run_mode=RunMode.STOP_ON_EMPTY), started=False,
    )  # fmt: skip
    tree.manual.add("b")
    tree.start()
    tree.crash("a")
    tree.end("b", NORMAL)
    tree.stop_agent("a")
    tree.stop_agent("b")
    assert tree.states() == {"a": "stopped", "b": "stopped", "c": "waiting"}
    assert tree.exit_code is None
    tree.advance(10.0)
    assert tree.state("c") == "ready"
    tree.complete("c")
    assert tree.exit_code == 0


def test_it_is_told_on_each_change_into_that_condition_in_a_daemon_too() -> None:
    tree = CheckedTree(agent("a"), agent("b"))
    tree.complete("a")
    assert all_terminated(tree) == []
    tree.complete("b")
    assert all_terminated(tree) == [()]
    tree.stop_agent("a")
    assert all_terminated(tree) == [()]
    tree.start_agent("b")
    tree.complete("b")
    assert all_terminated(tree) == [(), ()]
    assert tree.exit_code is None


def test_it_is_not_told_while_the_tree_stops() -> None:
    tree = CheckedTree(agent("a"))
    tree.stop()
    assert all_terminated(tree) == []


@pytest.mark.parametrize("run_mode", list(RunMode))
def test_a_parked_agent_makes_the_exit_code_1(run_mode: RunMode) -> None:
    tree = CheckedTree(agent("a", backoff=PARKS), agent("b"), settings=Settings(run_mode=run_mode))
    tree.crash("a")
    tree.complete("b")
    tree.stop()
    assert tree.exit_code == 1
    assert stopped(tree).unhealthy == ("a",)


def test_a_temporary_agent_that_failed_makes_the_exit_code_1_until_its_name_is_used_again() -> None:
    tree = CheckedTree(agent("t", restart="temporary"))
    tree.crash("t")
    tree.stop()
    assert tree.exit_code == 1
    tree = CheckedTree(agent("t", restart="temporary"))
    tree.crash("t")
    tree.register("", agent("t", restart="temporary"))
    tree.complete("t")
    tree.stop()
    assert tree.exit_code == 0


def test_a_supervisor_that_gave_up_and_was_not_restarted_makes_the_exit_code_1() -> None:
    tree = stop_on_empty(supervisor("s", agent("x"), max_restarts=0, restart="transient"))
    tree.crash("s/x")
    assert tree.exit_code == 1
    assert stopped(tree).unhealthy == ("s",)


def test_one_that_gave_up_and_came_back_does_not() -> None:
    tree = stop_on_empty(supervisor("s", agent("x"), max_restarts=0))
    tree.crash("s/x")
    tree.complete("s/x")
    assert tree.exit_code == 0


def test_a_root_that_gave_up_makes_the_exit_code_70() -> None:
    tree = CheckedTree(agent("a"), agent("b", backoff=PARKS), max_restarts=0)
    tree.crash("b")
    tree.crash("a")
    assert tree.exit_code == 70
    assert stopped(tree) == OrchestratorStopped(70, "max_restarts", ("b",))


def test_a_root_that_was_told_to_escalate_too() -> None:
    tree = CheckedTree(agent("a", backoff=Backoff(stop=stop_after_attempt(1), on_give_up="escalate")))
    tree.crash("a")
    assert tree.exit_code == 70
    assert stopped(tree).cause == "escalated"


def test_a_root_that_gives_up_while_children_need_long_to_stop_can_be_given_a_deadline() -> None:
    tree = CheckedTree(agent("a"), agent("b", shutdown="infinity"), max_restarts=0)
    tree.manual.add("b")
    tree.crash("a")
    tree.stop(timeout=1.0)
    tree.advance(2.0)
    assert tree.exit_code == 70
