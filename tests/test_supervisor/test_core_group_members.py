"""Members that leave, join or are asked for while their group waits or starts. Virtual time."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.strategies.backoff import Backoff

pytestmark = pytest.mark.policy

STEPS = ("AGENT_STARTING", "AGENT_STOPPING", "AGENT_CRASHED", "AGENT_RESTARTING")
LATE = Backoff(wait=wait_fixed(10.0))


def stamps(tree: CheckedTree) -> int:
    return tree.core.world.root.window.count(tree.now)


def due(tree: CheckedTree, path: str) -> float:
    group = tree.node(path).group
    assert group is not None
    return group.due_at


def abc(strategy: str) -> CheckedTree:
    """Return three agents of which every failure is followed by a delay of 10 s."""
    return CheckedTree(*(agent(name, backoff=LATE) for name in "abc"), strategy=strategy, max_restarts=50)


def test_a_member_that_is_stopped_is_taken_out_and_the_rest_starts_at_the_set_time() -> None:
    tree = abc("one_for_all")
    tree.crash("a")
    tree.advance(4.0)
    tree.stop_agent("b")
    assert tree.state("b") == "stopped"
    tree.advance(5.9)
    assert tree.states() == {"a": "backoff", "b": "stopped", "c": "backoff"}
    tree.advance(0.1)
    assert tree.states() == {"a": "ready", "b": "stopped", "c": "ready"}


def test_the_rest_starts_at_the_set_time_also_without_the_one_that_failed() -> None:
    tree = abc("one_for_all")
    tree.crash("a")
    tree.stop_agent("a")
    tree.advance(10.0)
    assert tree.states() == {"a": "stopped", "b": "ready", "c": "ready"}


def test_a_member_that_is_unregistered_is_taken_out() -> None:
    tree = abc("one_for_all")
    tree.crash("a")
    tree.unregister("a")
    tree.unregister("b")
    tree.advance(10.0)
    assert tree.states() == {"c": "ready"}


def test_restart_agent_of_any_member_starts_the_whole_group_now_without_a_stamp() -> None:
    for name in "abc":
        tree = abc("one_for_all")
        tree.crash("a")
        tree.advance(1.0)
        tree.restart_agent(name)
        assert tree.states() == dict.fromkeys("abc", "ready")
        assert stamps(tree) == 1
        assert tree.node("a").streak.failures == (0 if name == "a" else 1)


def test_start_agent_of_a_member_is_refused_as_restarting() -> None:
    tree = abc("one_for_all")
    tree.crash("a")
    with pytest.raises(Exception, match="waits for its restart"):
        tree.start_agent("b")


def test_a_member_that_parks_at_the_group_start_lets_the_others_go_on() -> None:
    tree = CheckedTree(
        agent("a"), agent("b", backoff=Backoff(stop=stop_after_attempt(1))), agent("c"), strategy="one_for_all"
    )
    tree.failing.add("b")
    tree.crash("a")
    assert tree.states() == {"a": "ready", "b": "parked", "c": "ready"}
    assert tree.incarnations() == {"a": 2, "b": 2, "c": 2}


def test_who_takes_part_is_read_again_when_the_delay_ends() -> None:
    tree = abc("one_for_all")
    tree.complete("c")
    tree.crash("a")
    tree.stop_agent("c")
    tree.advance(10.0)
    assert tree.states() == {"a": "ready", "b": "ready", "c": "completed"}
    tree = abc("one_for_all")
    tree.complete("c")
    tree.crash("a")
    tree.unregister("c")
    tree.advance(10.0)
    assert tree.states() == {"a": "ready", "b": "ready"}


def test_an_agent_registered_during_the_delay_starts_at_once() -> None:
    tree = abc("one_for_all")
    tree.crash("a")
    tree.register("", agent("d"))
    assert tree.states() == {"a": "backoff", "b": "backoff", "c": "backoff", "d": "ready"}
    tree.advance(10.0)
    assert tree.incarnations() == {"a": 2, "b": 2, "c": 2, "d": 1}


def test_waiting_and_queued_members_start_with_the_group() -> None:
    tree = CheckedTree(
        agent("a", backoff=LATE), agent("b"), agent("c", depends_on=["b"]), strategy="one_for_all", started=False
    )
    tree.manual.add("b")
    tree.start()
    tree.crash("a")
    tree.end("b", NORMAL)
    assert tree.states() == {"a": "backoff", "b": "backoff", "c": "waiting"}
    tree.advance(10.0)
    tree.ready("b")
    assert tree.states() == {"a": "ready", "b": "ready", "c": "ready"}


def test_a_supervisor_is_a_member_like_any_other() -> None:
    tree = CheckedTree(
        agent("a", backoff=LATE), supervisor("team", agent("x"), agent("y")), agent("z"), strategy="one_for_all"
    )
    mark = tree.mark()
    tree.crash("a")
    assert tree.lines("AGENT_STOPPING", "SUPERVISOR_TERMINATED", "SUPERVISOR_RESTARTING", since=mark) == [
        "STOPPING z", "STOPPING team/y", "STOPPING team/x", "SUPERVISOR_TERMINATED team", "SUPERVISOR_RESTARTING team",
    ]  # fmt: skip
    assert tree.states() == {
        "a": "backoff",
        "team": "backoff",
        "team/x": "stopped",
        "team/y": "stopped",
        "z": "backoff",
    }
    tree.advance(10.0)
    assert set(tree.states().values()) == {"ready"}


def test_no_bystander_triggers_automatic_shutdown() -> None:
    tree = CheckedTree(
        agent("a"),
        agent("t", restart="temporary", significant=True),
        agent("s", significant=True),
        strategy="one_for_all",
        auto_shutdown="any_significant",
    )
    tree.crash("a")
    assert tree.exit_code is None
    assert tree.states() == {"a": "ready", "s": "ready"}


def test_one_that_an_operator_is_stopping_when_its_group_fails_stays_down() -> None:
    tree = CheckedTree(agent("a"), agent("b"), strategy="one_for_all")
    tree.manual.add("b")
    tree.stop_agent("b")
    tree.crash("a")
    tree.end("b", NORMAL)
    assert tree.states() == {"a": "ready", "b": "stopped"}


def test_the_group_does_not_wait_for_the_end_of_a_member_that_was_taken_out() -> None:
    tree = CheckedTree(agent("a"), agent("b", shutdown="infinity"), strategy="one_for_all")
    tree.manual.add("b")
    tree.crash("a")
    assert tree.states() == {"a": "backoff", "b": "stopping"}
    tree.stop_agent("b")
    assert tree.states() == {"a": "ready", "b": "stopping"}
    tree.end("b", NORMAL)
    assert tree.states() == {"a": "ready", "b": "stopped"}
