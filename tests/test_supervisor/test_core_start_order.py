"""In which order children start, and whom they wait for. Virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from checked import CheckedTree
from virtual import agent, process, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.events import (
    AgentReady,
    AgentWaiting,
    OrchestratorStopping,
    SupervisorReady,
    SupervisorStarted,
)
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

PARKS = Backoff(rules=(Rule(action="park"),))


def held_up(*children: ChildEntry, manual: str = "", settings: Settings | None = None, **root: object) -> CheckedTree:
    """Return a started tree in which the runs named in `manual` become ready only when the test says so."""
    tree = CheckedTree(*children, settings=settings, started=False, **root)
    tree.manual |= set(manual.split())
    tree.start()
    return tree


def started(tree: CheckedTree) -> list[str]:
    return [line.removeprefix("STARTING ") for line in tree.lines("AGENT_STARTING")]


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "dependents"])
def test_children_start_side_by_side_in_start_order(strategy: str) -> None:
    tree = held_up(*(agent(name) for name in "cab"), manual="a b c", strategy=strategy)
    assert started(tree) == ["c", "a", "b"]
    assert tree.events("AGENT_WAITING") == []


def test_a_dependency_makes_a_start_wait_until_it_is_ready() -> None:
    tree = held_up(agent("web", depends_on=["db", "cache"]), agent("db"), agent("cache"), manual="db cache")
    assert tree.states() == {"db": "starting", "cache": "starting", "web": "waiting"}
    assert tree.node("web").waiting_for == ("db", "cache")
    assert [data for _, data in tree.events("AGENT_WAITING", "web")] == [AgentWaiting(("db", "cache"))]
    tree.ready("db")
    assert tree.node("web").waiting_for == ("cache",)
    tree.ready("cache")
    assert tree.state("web") == "ready"
    assert len(tree.events("AGENT_WAITING", "web")) == 1


@pytest.mark.parametrize("met_by", [CheckedTree.ready, CheckedTree.complete, CheckedTree.ignore])
def test_a_dependency_is_met_when_it_is_ready_or_has_completed_or_been_ignored(
    met_by: Callable[[CheckedTree, str], None],
) -> None:
    tree = held_up(agent("a"), agent("b", depends_on=["a"]), manual="a")
    met_by(tree, "a")
    assert tree.state("b") == "ready"


def test_a_temporary_agent_that_completed_meets_a_dependency_even_after_it_has_left() -> None:
    tree = held_up(agent("a", restart="temporary"), agent("b", depends_on=["a"]), manual="a")
    tree.complete("a")
    assert tree.states() == {"b": "ready"}


def test_a_temporary_agent_that_failed_does_not() -> None:
    tree = held_up(agent("a", restart="temporary"), agent("b", depends_on=["a"]), manual="a")
    tree.crash("a")
    assert tree.states() == {"b": "waiting"}
    tree.register("", agent("a"))
    tree.ready("a")
    assert tree.state("b") == "ready"


def test_a_dependency_in_backoff_stopped_or_parked_is_waited_for() -> None:
    tree = held_up(agent("a", backoff=PARKS), agent("b", depends_on=["a"]), manual="a")
    tree.crash("a")
    assert tree.states() == {"a": "parked", "b": "waiting"}
    tree.start_agent("a")
    tree.stop_agent("a")
    tree.end("a", NORMAL)
    assert tree.states() == {"a": "stopped", "b": "waiting"}
    tree.start_agent("a")
    tree.crash("a")
    assert tree.state("b") == "waiting"


def test_one_for_one_does_not_touch_those_that_depend_on_the_one_that_failed() -> None:
    tree = CheckedTree(agent("a"), agent("b", depends_on=["a"]))
    tree.crash("a")
    tree.crash("a")
    assert tree.states() == {"a": "backoff", "b": "ready"}


def test_a_restart_waits_for_a_dependency_that_is_down_and_says_so_once() -> None:
    tree = CheckedTree(agent("a"), agent("b", depends_on=["a"]))
    tree.stop_agent("a")
    mark = tree.mark()
    tree.crash("b")
    assert tree.lines(since=mark)[:3] == ["CRASHED b", "RESTARTING b", "WAITING b"]
    tree.start_agent("a")
    assert tree.state("b") == "ready"


def test_a_dependency_may_be_a_supervisor_which_is_met_when_all_its_children_have_been_ready() -> None:
    tree = held_up(supervisor("team", agent("x"), agent("y")), agent("z", depends_on=["team"]), manual="team/x team/y")
    assert tree.state("z") == "waiting"
    tree.ready("team/x")
    assert tree.state("team") == "starting"
    tree.ready("team/y")
    assert (tree.state("team"), tree.state("z")) == ("ready", "ready")


def test_a_supervisor_may_depend_on_an_agent() -> None:
    tree = held_up(agent("a"), supervisor("team", agent("x"), depends_on=["a"]), manual="a")
    assert tree.states() == {"a": "starting", "team": "waiting", "team/x": "registered"}
    tree.ready("a")
    assert tree.state("team/x") == "ready"


def test_under_rest_for_one_children_start_one_by_one_each_when_the_one_before_is_ready() -> None:
    tree = held_up(*(agent(name) for name in "abc"), manual="a b c", strategy="rest_for_one")
    assert tree.states() == {"a": "starting", "b": "waiting", "c": "waiting"}
    assert tree.node("c").waiting_for == ("b",)
    tree.ready("a")
    assert tree.states() == {"a": "ready", "b": "starting", "c": "waiting"}
    tree.ready("b")
    tree.ready("c")
    assert started(tree) == ["a", "b", "c"]


@pytest.mark.parametrize("way", ["completed", "ignored", "stopped", "parked", "dropped", "unregistered"])
def test_under_rest_for_one_one_that_is_not_due_is_not_waited_for(way: str) -> None:
    restart = "temporary" if way == "dropped" else "transient"
    tree = held_up(
        agent("a"), agent("b", backoff=PARKS, restart=restart), agent("c"), manual="b", strategy="rest_for_one"
    )
    assert tree.state("c") == "waiting"
    match way:
        case "completed":
            tree.complete("b")
        case "ignored":
            tree.ignore("b")
        case "stopped" | "unregistered":
            tree.stop_agent("b")
            tree.end("b", NORMAL)
        case _:
            tree.crash("b")
    if way == "unregistered":
        tree.unregister("b")
    assert tree.state("c") == "ready"


def test_under_rest_for_one_one_that_waits_may_leave_the_tree_and_those_behind_move_up() -> None:
    tree = held_up(*(agent(name) for name in "abc"), manual="a", strategy="rest_for_one")
    tree.unregister("b")
    assert tree.node("c").waiting_for == ("a",)
    tree.ready("a")
    assert tree.state("c") == "ready"


def test_under_rest_for_one_a_wedged_one_is_not_waited_for() -> None:
    tree = held_up(agent("a", start_timeout=1.0, shutdown=2.0), agent("b"), manual="a", strategy="rest_for_one")
    tree.advance(3.0)
    assert tree.state("b") == "waiting"
    tree.stop_agent("a")
    tree.advance(0.1)
    assert tree.states() == {"a": "wedged", "b": "ready"}


def test_under_rest_for_one_one_in_backoff_is_waited_for() -> None:
    tree = held_up(agent("a"), agent("b"), manual="a", strategy="rest_for_one")
    tree.crash("a")
    tree.crash("a")
    assert tree.states() == {"a": "backoff", "b": "waiting"}
    tree.manual.clear()
    tree.advance(0.25)
    assert tree.states() == {"a": "ready", "b": "ready"}


def test_under_rest_for_one_one_that_is_queued_is_waited_for() -> None:
    tree = held_up(
        supervisor("team", agent("b"), agent("c"), strategy="rest_for_one"), agent("a"),
        manual="a", settings=Settings(max_workers=1, choose_next=lambda queued: queued[-1]),
    )  # fmt: skip
    assert tree.states() == {"a": "starting", "team": "starting", "team/b": "queued", "team/c": "waiting"}


def test_a_supervisor_is_ready_at_once_when_it_is_empty() -> None:
    tree = CheckedTree(supervisor("team"), agent("a", depends_on=["team"]))
    assert tree.states() == {"team": "ready", "a": "ready"}


def test_a_supervisor_tells_its_children_in_start_order_and_how_long_it_took() -> None:
    tree = held_up(supervisor("team", agent("b", depends_on=["a"]), agent("a")), manual="team/a team/b")
    tree.advance(2.0)
    tree.ready("team/a")
    tree.advance(1.0)
    tree.ready("team/b")
    assert [data for _, data in tree.events("SUPERVISOR_STARTED", "team")] == [SupervisorStarted(("a", "b"))]
    assert [data for _, data in tree.events("SUPERVISOR_READY", "team")] == [SupervisorReady(3.0)]
    assert [data for _, data in tree.events("AGENT_READY")] == [AgentReady(2.0), AgentReady(1.0)]


def test_a_supervisor_stays_ready_while_its_children_come_and_go() -> None:
    tree = CheckedTree(supervisor("team", agent("a"), agent("b")))
    tree.manual |= {"team/a", "team/new"}
    tree.crash("team/a")
    tree.register("team", agent("new"))
    assert tree.state("team") == "ready"
    assert len(tree.events("SUPERVISOR_READY", "team")) == 1


def test_a_child_that_was_ready_once_counts_even_if_it_is_down_again() -> None:
    tree = held_up(supervisor("team", agent("a"), agent("b")), manual="team/b")
    tree.crash("team/a")
    tree.crash("team/a")
    assert (tree.state("team/a"), tree.state("team")) == ("backoff", "starting")
    tree.ready("team/b")
    assert tree.state("team") == "ready"


def test_a_restart_of_a_child_that_was_ready_once_does_not_hold_its_supervisor_up() -> None:
    tree = held_up(supervisor("team", agent("a"), agent("b")), manual="team/b")
    tree.manual.add("team/a")
    tree.restart_agent("team/a")
    tree.ready("team/b")
    assert tree.state("team") == "ready"


def test_a_child_that_an_operator_stopped_does_not_keep_its_supervisor_from_becoming_ready() -> None:
    tree = held_up(supervisor("team", agent("a"), agent("b")), manual="team/b")
    tree.stop_agent("team/b")
    tree.end("team/b", NORMAL)
    assert tree.state("team") == "ready"


def test_a_child_that_an_operator_starts_again_counts_again() -> None:
    tree = held_up(supervisor("team", agent("a"), agent("b")), manual="team/a team/b")
    tree.stop_agent("team/b")
    tree.end("team/b", NORMAL)
    tree.start_agent("team/b")
    tree.ready("team/a")
    assert tree.state("team") == "starting"
    tree.ready("team/b")
    assert tree.state("team") == "ready"


def test_a_child_that_parked_before_it_was_ready_keeps_its_supervisor_from_becoming_ready() -> None:
    tree = held_up(supervisor("team", agent("a", backoff=PARKS), agent("b")), manual="team/a")
    tree.crash("team/a")
    assert tree.states() == {"team": "starting", "team/a": "parked", "team/b": "ready"}
    tree.start_agent("team/a")
    tree.ready("team/a")
    assert tree.state("team") == "ready"


def test_a_temporary_child_that_failed_is_no_child_any_more_and_holds_nobody_up() -> None:
    tree = held_up(supervisor("team", agent("a", restart="temporary"), agent("b")), manual="team/a")
    tree.crash("team/a")
    assert tree.state("team") == "ready"


def test_a_child_that_is_registered_while_its_supervisor_starts_is_waited_for() -> None:
    tree = held_up(supervisor("team", agent("a")), manual="team/a team/new")
    tree.register("team", agent("new"))
    tree.ready("team/a")
    assert tree.state("team") == "starting"
    tree.ready("team/new")
    assert tree.state("team") == "ready"


def test_unregistering_the_last_child_that_is_not_ready_makes_its_supervisor_ready() -> None:
    tree = held_up(supervisor("team", agent("a", backoff=PARKS), agent("b")), manual="team/a")
    tree.crash("team/a")
    tree.unregister("team/a")
    assert tree.state("team") == "ready"


def test_is_starting_says_whether_a_first_start_is_still_running() -> None:
    tree = held_up(
        agent("a"), process("b", start_timeout=1.0, shutdown=9.0), agent("c", depends_on=["b"]), manual="a b"
    )
    assert tree.core.is_starting
    tree.ready("a")
    assert tree.core.is_starting
    tree.advance(1.0)
    assert tree.state("b") == "starting"
    assert not tree.core.is_starting


def test_a_first_start_that_timed_out_is_running_until_its_end_is_known() -> None:
    tree = held_up(agent("a", start_timeout=1.0), manual="a")
    tree.advance(1.0)
    assert tree.state("a") == "stopping"
    assert tree.core.is_starting
    assert tree.core.world.start_failure is None
    tree.end("a", NORMAL)
    assert not tree.core.is_starting
    assert tree.core.world.start_failure == "a"


def test_with_strict_start_the_first_failure_stops_what_had_started() -> None:
    tree = held_up(
        agent("a"), agent("b"), agent("c", depends_on=["b"]), manual="b", settings=Settings(strict_start=True)
    )
    tree.crash("b")
    assert tree.core.world.start_failure == "b"
    assert tree.lines("AGENT_STARTING", "AGENT_STOPPING") == ["STARTING a", "STARTING b", "STOPPING a"]
    assert tree.exit_code is not None
    ((_, data),) = tree.events("ORCHESTRATOR_STOPPING")
    assert data == OrchestratorStopping("start_failed")


def test_strict_start_is_about_the_first_start_of_the_tree_only() -> None:
    tree = held_up(agent("a"), settings=Settings(strict_start=True))
    tree.failing.add("new")
    tree.register("", agent("new", backoff=PARKS))
    assert tree.states() == {"a": "ready", "new": "parked"}
    assert tree.exit_code is None
    assert tree.core.world.start_failure is None


def test_an_agent_that_ignores_its_start_is_no_failure_under_strict_start() -> None:
    tree = held_up(agent("a"), agent("b"), manual="a", settings=Settings(strict_start=True))
    tree.ignore("a")
    assert tree.states() == {"a": "completed", "b": "ready"}
