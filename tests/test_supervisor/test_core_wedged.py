"""Threads and tasks that do not stop: what they hold up, what goes on without them. Virtual time."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import Running
from orchestree.supervisor.events import AgentCrashed, AgentRestarting, AgentWedged, StopCause
from orchestree.supervisor.inputs import KillRun
from orchestree.supervisor.stopping import GRACE_S

pytestmark = pytest.mark.policy

LATE = Backoff(wait=wait_fixed(10.0))


def stubborn(*names: str, **fields: object) -> CheckedTree:
    """Return a ready tree in which the agents `names` do not stop by themselves within 1 s."""
    tree = CheckedTree(agent("a", shutdown=1.0, **fields), agent("b"), agent("c", depends_on=["a"]))
    tree.manual |= set(names)
    return tree


def wedge(tree: CheckedTree, path: str) -> None:
    tree.stop_agent(path)
    tree.advance(1.0 + GRACE_S)
    assert tree.state(path) == "wedged"


def test_a_thread_is_told_to_end_at_its_shutdown_time_and_is_wedged_a_tenth_of_a_second_later() -> None:
    tree = stubborn("a")
    tree.stop_agent("a")
    tree.advance(1.0)
    assert [effect.run.path for effect in tree.effects if isinstance(effect, KillRun)] == ["a"]
    assert tree.state("a") == "stopping"
    tree.advance(0.0999)
    assert tree.state("a") == "stopping"
    tree.advance(0.0002)
    assert tree.state("a") == "wedged"
    ((now, data),) = tree.events("AGENT_WEDGED", "a")
    assert (round(now, 6), data) == (1.1, AgentWedged(StopCause.COMMAND))


def test_a_task_that_ends_when_it_is_cancelled_is_not_wedged() -> None:
    tree = stubborn("a")
    tree.stop_agent("a")
    tree.advance(1.05)
    tree.end("a", NORMAL)
    tree.advance(10.0)
    assert tree.state("a") == "stopped"
    assert tree.events("AGENT_WEDGED") == []


def test_a_process_is_killed_and_never_wedged() -> None:
    tree = CheckedTree(process("p", shutdown=1.0))
    tree.manual.add("p")
    tree.stop_agent("p")
    tree.advance(1.0)
    assert tree.state("p") == "stopped"


def test_settings_say_which_executors_can_kill() -> None:
    assert CheckedTree(process("p")).node("p").can_kill  # type: ignore[union-attr]
    assert not CheckedTree(agent("p")).node("p").can_kill  # type: ignore[union-attr]


def test_when_the_old_run_has_really_ended_it_becomes_stopped() -> None:
    tree = stubborn("a")
    wedge(tree, "a")
    tree.advance(1000.0)
    assert tree.state("a") == "wedged"
    tree.end("a", NORMAL)
    assert tree.state("a") == "stopped"
    assert tree.lines("AGENT_TERMINATED") == ["TERMINATED a"]


def test_restarting_one_that_wedges_starts_it_when_its_old_run_has_ended() -> None:
    tree = stubborn("a")
    tree.restart_agent("a")
    tree.advance(2.0)
    assert tree.state("a") == "wedged"
    tree.end("a", NORMAL)
    assert tree.state("a") == "starting"
    assert tree.node("a").incarnation == 2


def test_restarting_a_wedged_one_makes_it_come_back_and_stopping_it_keeps_it_down() -> None:
    tree = stubborn("a")
    wedge(tree, "a")
    tree.restart_agent("a")
    assert tree.state("a") == "wedged"
    tree.stop_agent("a")
    tree.restart_agent("a")
    tree.end("a", NORMAL)
    assert tree.state("a") == "starting"


def test_its_group_starts_without_it_and_those_that_depend_on_it_wait() -> None:
    tree = CheckedTree(
        agent("a"), agent("w", shutdown=1.0), agent("d", depends_on=["w"]), agent("b"), strategy="one_for_all"
    )
    tree.manual.add("w")
    tree.crash("a")
    tree.advance(1.0 + GRACE_S)
    assert tree.states() == {"a": "ready", "w": "wedged", "d": "waiting", "b": "ready"}
    mark = tree.mark()
    tree.end("w", NORMAL)
    tree.ready("w")
    assert tree.states() == {"a": "ready", "w": "ready", "d": "ready", "b": "ready"}
    assert tree.lines("AGENT_STARTING", "AGENT_RESTARTING", since=mark) == [
        "RESTARTING w", "STARTING w", "STARTING d",
    ]  # fmt: skip
    assert tree.core.world.root.window.count(tree.now) == 1
    assert tree.node("a").incarnation == 2


def test_it_comes_back_not_before_the_delay_of_its_group() -> None:
    tree = CheckedTree(agent("a", backoff=LATE), agent("w", shutdown=1.0), strategy="one_for_all")
    tree.manual.add("w")
    tree.crash("a")
    tree.advance(2.0)
    tree.end("w", NORMAL)
    assert tree.states() == {"a": "backoff", "w": "backoff"}
    ((_, data),) = tree.events("AGENT_RESTARTING", "w")
    assert isinstance(data, AgentRestarting)
    assert data.delay == 8.0
    tree.advance(8.0)
    assert tree.states() == {"a": "ready", "w": "starting"}


def test_with_replace_wedged_the_next_incarnation_starts_beside_the_old_one() -> None:
    tree = CheckedTree(agent("a"), agent("w", shutdown=1.0, replace_wedged=True), strategy="one_for_all")
    tree.manual.add("w")
    tree.crash("a")
    tree.advance(1.0 + GRACE_S)
    assert tree.states() == {"a": "ready", "w": "starting"}
    old, new = (run for run in tree.live if run.path == "w")
    tree.ready("w")
    tree.tell(tree._end(old, NORMAL))
    assert (tree.state("w"), list(tree.live)[-1]) == ("ready", new)
    assert tree.lines("AGENT_WEDGED", "AGENT_STARTING")[-3:] == ["WEDGED w", "STARTING a", "STARTING w"]


def test_with_replace_wedged_one_that_was_stopped_stays_wedged_until_it_is_restarted() -> None:
    tree = stubborn("a", replace_wedged=True)
    wedge(tree, "a")
    tree.restart_agent("a")
    assert (tree.state("a"), tree.node("a").incarnation) == ("starting", 2)


def test_a_supervisor_does_not_wait_for_a_wedged_child_and_takes_it_back_when_it_can() -> None:
    tree = CheckedTree(supervisor("s", agent("x"), agent("w", shutdown=1.0), max_restarts=0))
    tree.manual.add("s/w")
    tree.crash("s/x")
    tree.advance(1.0 + GRACE_S)
    assert tree.states() == {"s": "starting", "s/x": "ready", "s/w": "wedged"}
    tree.end("s/w", NORMAL)
    tree.ready("s/w")
    assert tree.states() == {"s": "ready", "s/x": "ready", "s/w": "ready"}


def test_a_start_that_takes_too_long_and_cannot_be_ended_is_one_failure_with_one_stamp() -> None:
    tree = CheckedTree(agent("w", start_timeout=2.0, shutdown=1.0), agent("b"), strategy="one_for_all", started=False)
    tree.manual.add("w")
    tree.start()
    tree.advance(3.0 + GRACE_S)
    assert tree.states() == {"w": "wedged", "b": "ready"}
    assert tree.lines("AGENT_WEDGED", "AGENT_CRASHED", "AGENT_RESTARTING", "AGENT_STOPPING") == [
        "STOPPING w", "WEDGED w", "CRASHED w", "RESTARTING w", "STOPPING b", "RESTARTING b",
    ]  # fmt: skip
    ((_, data),) = tree.events("AGENT_CRASHED", "w")
    assert isinstance(data, AgentCrashed)
    assert data.reason.cause == "start_timeout"
    mark = tree.mark()
    tree.end("w", NORMAL)
    assert tree.lines(since=mark) == ["STARTING w"]
    assert tree.core.world.root.window.count(tree.now) == 1
    assert tree.node("b").incarnation == 2


def test_one_that_wedged_at_its_start_waits_for_its_delay_and_can_be_stopped_meanwhile() -> None:
    for stop in (False, True):
        tree = CheckedTree(agent("w", start_timeout=2.0, shutdown=1.0, backoff=LATE), agent("b"), started=False)
        tree.manual.add("w")
        tree.start()
        tree.advance(4.0)
        if stop:
            tree.stop_agent("w")
        tree.end("w", NORMAL)
        assert tree.state("w") == ("stopped" if stop else "backoff")
        tree.advance(10.0)
        assert tree.state("w") == ("stopped" if stop else "starting")


@pytest.mark.parametrize("restart_it", [False, True])
def test_one_that_parked_when_it_wedged_is_parked_when_its_run_ends_unless_it_was_restarted(restart_it: bool) -> None:
    tree = CheckedTree(
        agent("w", start_timeout=2.0, shutdown=1.0, backoff=Backoff(stop=stop_after_attempt(1))), started=False
    )
    tree.manual.add("w")
    tree.start()
    tree.advance(4.0)
    assert tree.lines("AGENT_PARKED") == ["PARKED w"]
    assert tree.state("w") == "wedged"
    if restart_it:
        tree.restart_agent("w")
    tree.end("w", NORMAL)
    assert tree.state("w") == ("starting" if restart_it else "parked")


def test_a_temporary_agent_that_wedges_at_its_start_leaves_the_tree_at_once() -> None:
    tree = CheckedTree(agent("w", start_timeout=2.0, shutdown=1.0, restart="temporary"), agent("b"), started=False)
    tree.manual.add("w")
    tree.start()
    tree.advance(4.0)
    assert tree.states() == {"b": "ready"}
    assert tree.core.world.root.departed["w"].state.value == "failed"
    tree.end("w", NORMAL)
    assert tree.states() == {"b": "ready"}


def test_a_wedged_agent_does_not_keep_the_tree_from_ending_and_makes_the_exit_code_1() -> None:
    tree = CheckedTree(agent("a"), agent("w", shutdown=1.0))
    tree.manual.add("w")
    tree.stop()
    tree.advance(1.0 + GRACE_S)
    assert tree.exit_code == 1
    assert tree.states() == {"a": "stopped", "w": "wedged"}


def test_a_wedged_agent_may_be_unregistered_only_when_its_run_has_ended() -> None:
    tree = CheckedTree(agent("w", shutdown=1.0))
    tree.manual.add("w")
    wedge(tree, "w")
    with pytest.raises(Running, match="is wedged"):
        tree.unregister("w")
    tree.end("w", NORMAL)
    tree.unregister("w")
    assert tree.states() == {}


def test_a_temporary_member_that_wedges_is_dropped_and_never_replaced() -> None:
    tree = CheckedTree(
        agent("a"), agent("t", shutdown=1.0, restart="temporary", replace_wedged=True), strategy="one_for_all"
    )
    tree.manual.add("t")
    tree.crash("a")
    tree.advance(1.0 + GRACE_S)
    assert tree.states() == {"a": "ready", "t": "wedged"}
    tree.end("t", NORMAL)
    assert tree.states() == {"a": "ready"}


def test_one_that_wedges_at_the_moment_its_supervisor_goes_down_is_not_brought_back_by_its_group() -> None:
    inner = supervisor(
        "inner", agent("w", shutdown=2.0, replace_wedged=True), agent("x", backoff=LATE), strategy="one_for_all"
    )
    tree = CheckedTree(supervisor("s", inner, agent("v", shutdown=2.0), restart="temporary"), agent("b"))
    tree.manual |= {"s/inner/w", "s/v"}
    tree.crash("s/inner/x")
    tree.stop_agent("s")
    tree.advance(2.0 + GRACE_S)
    assert tree.states() == {"b": "ready"}
    assert tree.core.world.abandoned == set(tree.live) - {tree.run_of("b")}


def test_one_that_wedged_at_its_start_may_be_stopped_and_restarted_before_its_run_ends() -> None:
    tree = CheckedTree(agent("w", start_timeout=2.0, shutdown=1.0, backoff=LATE), agent("b"), started=False)
    tree.manual.add("w")
    tree.start()
    tree.advance(4.0)
    mark = tree.mark()
    tree.stop_agent("w")
    tree.restart_agent("w")
    tree.end("w", NORMAL)
    assert tree.lines("AGENT_TERMINATED", "AGENT_RESTARTING", "AGENT_STARTING", since=mark) == [
        "TERMINATED w", "STARTING w",
    ]  # fmt: skip


def test_the_group_of_a_wedged_one_does_not_start_when_its_supervisor_has_gone_down() -> None:
    tree = CheckedTree(
        supervisor(
            "s", agent("done"), agent("w", start_timeout=1.0, shutdown=1.0, backoff=LATE), strategy="one_for_all"
        ),
        agent("b"),
    )
    tree.complete("s/done")
    tree.manual.add("s/w")
    tree.restart_agent("s/w")
    tree.end("s/w", NORMAL)
    tree.advance(3.0)
    assert tree.states() == {"s": "ready", "s/done": "completed", "s/w": "wedged", "b": "ready"}
    tree.stop_agent("s")
    tree.advance(10.0)
    assert tree.states() == {"s": "stopped", "s/done": "completed", "s/w": "wedged", "b": "ready"}


@pytest.mark.parametrize("way", ["restart_agent", "gives up"])
def test_one_that_an_operator_stopped_stays_down_when_its_supervisor_starts_again(way: str) -> None:
    inner = supervisor("s", agent("a", shutdown=1.0), agent("b", backoff=None), max_restarts=0, backoff=None)
    tree = VirtualTree(inner)
    tree.stubborn.add("s/a")
    tree.stop_agent("s/a")
    tree.advance(2.0)
    assert tree.state("s/a") == "wedged"
    if way == "restart_agent":
        tree.restart_agent("s")
    else:
        tree.crash("s/b")
    assert tree.state("s") == "ready"
    tree.complete("s/a")
    assert tree.state("s/a") == "stopped"
