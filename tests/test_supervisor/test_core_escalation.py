"""Supervisors that give up, are restarted, park, or end because significant children have. Virtual time."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, supervisor

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, ExitKind, ExitReason
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.events import SupervisorRestarting, SupervisorTerminated
from orchestree.supervisor.tree import SupervisorNode

pytestmark = pytest.mark.policy

GAVE_UP = ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS)
ESCALATED = ExitReason(ExitKind.SHUTDOWN, Cause.ESCALATED)
PARKS = Backoff(stop=stop_after_attempt(1))
STEPS = (
    "AGENT_CRASHED", "AGENT_RESTARTING", "AGENT_TERMINATED", "AGENT_STOPPING", "SUPERVISOR_TERMINATED",
    "SUPERVISOR_RESTARTING", "SUPERVISOR_STARTED", "AGENT_STARTING",
)  # fmt: skip


def fragile(name: str = "s", **fields: object) -> CheckedTree:
    """Return a tree with a supervisor that the first failure of one of its children ends."""
    return CheckedTree(
        agent("before"),
        supervisor(name, agent("x"), agent("y"), agent("z"), max_restarts=0, **fields),
        agent("behind"),
    )


def terminated(tree: CheckedTree, path: str) -> list[SupervisorTerminated]:
    return [data for _, data in tree.events("SUPERVISOR_TERMINATED", path) if isinstance(data, SupervisorTerminated)]


def stamps(tree: CheckedTree, path: str = "") -> int:
    node = tree.node(path)
    assert isinstance(node, SupervisorNode)
    return node.window.count(tree.now)


def test_giving_up_terminates_the_children_in_reverse_order_and_the_parent_restarts_the_whole() -> None:
    tree = fragile()
    mark = tree.mark()
    tree.crash("s/y")
    assert tree.lines(*STEPS, since=mark) == [
        "CRASHED s/y", "TERMINATED s/y",
        "STOPPING s/z", "TERMINATED s/z", "STOPPING s/x", "TERMINATED s/x",
        "SUPERVISOR_TERMINATED s", "SUPERVISOR_RESTARTING s",
        "SUPERVISOR_STARTED s", "STARTING s/x", "STARTING s/y", "STARTING s/z",
    ]  # fmt: skip
    assert terminated(tree, "s") == [SupervisorTerminated(GAVE_UP, "s/y")]
    assert tree.incarnations() == {"before": 1, "s": 2, "s/x": 2, "s/y": 2, "s/z": 2, "behind": 1}


def test_the_parent_counts_it_as_one_failure_of_a_child() -> None:
    tree = fragile()
    tree.crash("s/y")
    assert stamps(tree) == 1
    assert tree.node("s").streak.failures == 1


def test_its_restarts_follow_its_own_backoff() -> None:
    tree = fragile()
    for _ in range(3):
        tree.crash("s/y")
        tree.advance(1.0)
    told = [data for _, data in tree.events("SUPERVISOR_RESTARTING") if isinstance(data, SupervisorRestarting)]
    assert [(data.delay, data.attempt) for data in told] == [(0, 1), (0.25, 2), (0.5, 3)]
    assert tree.state("s") == "ready"


def test_escalation_goes_one_level_at_a_time_up_to_the_root() -> None:
    tree = CheckedTree(supervisor("a", supervisor("b", agent("x", backoff=None), max_restarts=1), max_restarts=1,
                                  backoff=None), max_restarts=1)  # fmt: skip
    for _ in range(100):
        if tree.exit_code is not None:
            break
        tree.crash("a/b/x")
        tree.advance(1.0)
    assert tree.exit_code == 70
    assert terminated(tree, "")[0] == SupervisorTerminated(GAVE_UP, "a")
    assert len(terminated(tree, "a")) == 2


def test_when_it_starts_again_its_window_and_its_childrens_streaks_are_empty_and_its_own_streak_is_not() -> None:
    tree = CheckedTree(supervisor("s", agent("x"), agent("y"), max_restarts=2))
    for name in ("s/y", "s/x", "s/x"):
        tree.crash(name)
    assert stamps(tree, "s") == 0
    assert [tree.node(name).streak.failures for name in ("s/x", "s/y", "s")] == [0, 0, 1]


def test_completed_and_ignored_children_start_again_with_it() -> None:
    tree = fragile()
    tree.complete("s/x")
    tree.ignore("s/z")
    tree.crash("s/y")
    assert set(tree.states().values()) == {"ready"}


def test_those_that_an_operator_stopped_or_that_had_parked_stay_so() -> None:
    tree = CheckedTree(
        supervisor("s", agent("x"), agent("y"), agent("z", backoff=PARKS), agent("done"), max_restarts=0)
    )
    tree.stop_agent("s/x")
    tree.crash("s/z")
    tree.complete("s/done")
    tree.stop_agent("s/done")
    tree.crash("s/y")
    assert tree.states() == {
        "s": "starting", "s/x": "stopped", "s/y": "ready", "s/z": "parked", "s/done": "completed",
    }  # fmt: skip


def test_a_child_that_parked_before_keeps_it_from_becoming_ready() -> None:
    tree = CheckedTree(supervisor("s", agent("x"), agent("z", backoff=PARKS), max_restarts=0))
    tree.crash("s/z")
    tree.crash("s/x")
    assert tree.state("s") == "starting"
    tree.start_agent("s/z")
    assert tree.state("s") == "ready"


def test_an_agent_registered_at_run_time_is_kept_over_restarts_of_its_supervisor() -> None:
    tree = fragile()
    tree.register("s", agent("new"))
    tree.crash("s/y")
    assert tree.state("s/new") == "ready"
    assert tree.node("s/new").incarnation == 2


def test_a_temporary_child_that_has_left_does_not_come_back_with_it() -> None:
    tree = CheckedTree(supervisor("s", agent("x"), agent("t", restart="temporary"), max_restarts=0))
    tree.crash("s/x")
    assert tree.states() == {"s": "ready", "s/x": "ready"}


def test_a_transient_supervisor_that_gives_up_becomes_failed_and_can_be_started_again() -> None:
    tree = fragile(restart="transient")
    tree.crash("s/y")
    assert tree.state("s") == "failed"
    assert stamps(tree) == 0
    assert tree.exit_code is None
    tree.start_agent("s")
    assert set(tree.states().values()) == {"ready"}


def test_a_temporary_supervisor_that_gives_up_leaves_the_tree_with_all_below_it() -> None:
    tree = fragile(restart="temporary")
    tree.crash("s/y")
    assert tree.states() == {"before": "ready", "behind": "ready"}
    assert tree.core.world.root.departed["s"].state.value == "failed"


def test_a_supervisor_whose_policy_gives_up_parks_and_its_siblings_stay_up() -> None:
    tree = fragile(backoff=PARKS)
    tree.crash("s/y")
    assert tree.state("s") == "parked"
    assert (tree.state("before"), tree.state("behind")) == ("ready", "ready")
    assert terminated(tree, "s") == [SupervisorTerminated(GAVE_UP, "s/y")]
    tree.start_agent("s")
    assert tree.state("s/y") == "ready"


@pytest.mark.parametrize(
    "policy",
    [Backoff(stop=stop_after_attempt(1), on_give_up="escalate"), Backoff(rules=(Rule(action="escalate"),))],
)
def test_escalate_does_exactly_what_exceeding_the_window_does(policy: Backoff) -> None:
    tree = CheckedTree(supervisor("s", agent("x", backoff=policy), agent("y")))
    tree.crash("s/x")
    assert terminated(tree, "s") == [SupervisorTerminated(ESCALATED, "s/x")]
    assert tree.state("s/x") == "ready"
    assert (tree.node("s").incarnation, stamps(tree), stamps(tree, "s")) == (2, 1, 0)


def test_a_supervisor_takes_its_siblings_along_as_the_strategy_says() -> None:
    tree = CheckedTree(agent("a"), supervisor("s", agent("x"), max_restarts=0), agent("b"), strategy="rest_for_one")
    tree.crash("s/x")
    assert tree.incarnations() == {"a": 1, "s": 2, "s/x": 2, "b": 2}


def test_the_streak_of_a_supervisor_ends_when_it_has_been_ready_long_enough() -> None:
    tree = fragile()
    tree.crash("s/y")
    tree.advance(30.0)
    tree.crash("s/y")
    assert tree.node("s").streak.failures == 1


def test_children_that_are_down_or_in_backoff_need_no_stop() -> None:
    tree = CheckedTree(supervisor("s", agent("x", backoff=Backoff(wait=wait_fixed(9))), agent("y"), max_restarts=1))
    tree.crash("s/x")
    tree.crash("s/y")
    assert tree.states() == {"s": "ready", "s/x": "ready", "s/y": "ready"}
    assert tree.lines("AGENT_STOPPING") == []


def test_a_stop_while_it_gives_up_keeps_it_down() -> None:
    tree = fragile()
    tree.manual.add("s/x")
    tree.crash("s/y")
    tree.stop_agent("s")
    tree.end("s/x", NORMAL)
    assert tree.state("s") == "stopped"


def significant(auto: str, *others: object, restart: str = "transient") -> CheckedTree:
    return CheckedTree(
        supervisor(
            "s",
            agent("one", significant=True, restart=restart, backoff=PARKS if restart == "transient" else None),
            agent("two", significant=True),
            agent("other"),
            auto_shutdown=auto,
            restart="transient",
        ),
        agent("bystander"),
    )


@pytest.mark.parametrize("end", ["normal", "shutdown", "park"])
def test_with_any_significant_the_first_significant_child_that_stays_down_ends_its_supervisor(end: str) -> None:
    tree = significant("any_significant")
    match end:
        case "normal":
            tree.complete("s/one")
        case "shutdown":
            tree.shut_itself_down("s/one")
        case _:
            tree.crash("s/one")
    assert tree.state("s") == "completed"
    assert terminated(tree, "s") == [SupervisorTerminated(SHUTDOWN, "s/one")]
    assert tree.lines("AGENT_STOPPING") == ["STOPPING s/other", "STOPPING s/two"]
    assert tree.state("bystander") == "ready"


def test_a_temporary_significant_child_counts_whatever_its_reason() -> None:
    tree = significant("any_significant", restart="temporary")
    tree.crash("s/one")
    assert tree.state("s") == "completed"


def test_with_all_significant_the_last_one_ends_it() -> None:
    tree = significant("all_significant")
    tree.complete("s/one")
    tree.complete("s/other")
    assert tree.state("s") == "ready"
    tree.complete("s/two")
    assert tree.state("s") == "completed"


def test_a_child_that_an_operator_stopped_counts_as_down_when_the_last_other_one_ends() -> None:
    tree = significant("all_significant")
    tree.stop_agent("s/one")
    assert tree.state("s") == "ready"
    tree.complete("s/two")
    assert tree.state("s") == "completed"


def test_a_significant_child_that_is_restarted_or_in_backoff_counts_as_up() -> None:
    tree = significant("all_significant")
    tree.crash("s/two")
    tree.crash("s/two")
    assert tree.state("s/two") == "backoff"
    tree.complete("s/one")
    assert tree.state("s") == "ready"


def test_stops_by_command_insignificant_ends_and_ignored_starts_do_not_end_it() -> None:
    tree = significant("any_significant")
    tree.stop_agent("s/one")
    tree.complete("s/other")
    tree.manual.add("s/two")
    tree.restart_agent("s/two")
    tree.end("s/two", NORMAL)
    tree.ignore("s/two")
    assert tree.state("s") == "ready"


def test_automatic_shutdown_goes_up_only_through_significant_supervisors() -> None:
    for is_significant in (True, False):
        inner = supervisor(
            "inner", agent("x", significant=True), auto_shutdown="any_significant", restart="transient",
            significant=is_significant,
        )  # fmt: skip
        tree = CheckedTree(supervisor("outer", inner, agent("y"), auto_shutdown="any_significant", restart="transient"))
        tree.complete("outer/inner/x")
        assert tree.state("outer/inner") == "completed"
        assert tree.state("outer") == ("completed" if is_significant else "ready")


def test_a_permanent_supervisor_that_shut_down_automatically_is_restarted_by_its_parent() -> None:
    tree = CheckedTree(supervisor("s", agent("x", significant=True), auto_shutdown="any_significant"))
    tree.complete("s/x")
    assert tree.incarnations() == {"s": 2, "s/x": 2}
    assert stamps(tree) == 1


def test_automatic_shutdown_of_the_root_ends_the_tree_with_0() -> None:
    tree = CheckedTree(agent("x", significant=True), agent("y"), auto_shutdown="any_significant")
    tree.complete("x")
    assert tree.exit_code == 0


def test_a_child_that_an_operator_is_stopping_when_its_supervisor_gives_up_stays_stopped() -> None:
    tree = fragile()
    tree.manual.add("s/x")
    tree.stop_agent("s/x")
    tree.crash("s/y")
    tree.end("s/x", NORMAL)
    assert tree.states() == {
        "before": "ready", "s": "ready", "s/x": "stopped", "s/y": "ready", "s/z": "ready", "behind": "ready",
    }  # fmt: skip
