"""Groups that meet: what they take over from each other, who comes along, and whom nothing brings back."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from tenacity import wait_fixed
from virtual import agent, supervisor

from orchestree.agents.ends import SHUTDOWN
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor import outcome
from orchestree.supervisor.events import AgentRestarting, RestartCause, SupervisorTerminated
from orchestree.supervisor.inputs import KillRun
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy


def waits(seconds: float) -> Backoff:
    return Backoff(wait=wait_fixed(seconds), jitter=0.0)


def test_groups_that_merge_leave_one_timer_that_of_the_later_start() -> None:
    tree = CheckedTree(
        agent("a", backoff=waits(100.0)), agent("b", backoff=waits(10.0)), agent("c"), strategy="rest_for_one"
    )
    tree.crash("b")
    assert tree.core.next_deadline() == 10.0
    tree.crash("a")
    assert tree.core.next_deadline() == 100.0


def test_an_earlier_failure_that_is_merged_keeps_its_later_start() -> None:
    tree = CheckedTree(
        agent("a", backoff=waits(10.0)), agent("b", backoff=waits(100.0)), agent("c"), strategy="rest_for_one"
    )
    tree.crash("b")
    tree.advance(1.0)
    tree.crash("a")
    tree.advance(98.9)
    assert set(tree.states().values()) == {"backoff"}
    tree.advance(0.1)
    assert set(tree.incarnations().values()) == {2}


def test_a_merged_group_takes_along_the_completed_ones_of_both_failures() -> None:
    tree = CheckedTree(
        agent("a", strategy="dependents", backoff=waits(10.0)),
        agent("b", strategy="dependents", backoff=waits(10.0)),
        agent("both", depends_on=["a", "b"]),
        agent("of-a", depends_on=["a"]),
        agent("of-b", depends_on=["b"]),
        agent("bystander"),
    )
    for name in ("of-a", "of-b", "bystander"):
        tree.complete(name)
    tree.crash("a")
    tree.crash("b")
    tree.advance(10.0)
    assert tree.incarnations() == {"a": 2, "b": 2, "both": 2, "of-a": 2, "of-b": 2, "bystander": 1}


def test_a_merged_group_waits_for_all_that_have_to_stop() -> None:
    tree = CheckedTree(
        agent("a", strategy="dependents", backoff=waits(0.0)),
        agent("b", strategy="dependents", backoff=waits(0.0)),
        agent("of-a", depends_on=["a"]),
        agent("of-both", depends_on=["a", "b"]),
        agent("of-b", depends_on=["b"]),
    )
    tree.manual |= {"of-a", "of-b", "of-both"}
    tree.crash("a")
    tree.crash("b")
    for name in ("of-b", "of-both"):
        assert (tree.state("a"), tree.state("b")) == ("backoff", "backoff")
        tree.complete(name)
    assert (tree.state("a"), tree.state("b")) == ("backoff", "backoff")
    tree.complete("of-a")
    assert (tree.state("a"), tree.state("b")) == ("ready", "ready")


def test_a_temporary_sibling_that_waits_is_dropped_by_the_group() -> None:
    tree = CheckedTree(
        agent("x"),
        agent("a", backoff=waits(10.0)),
        agent("t", restart="temporary", depends_on=["x"]),
        strategy="one_for_all",
        started=False,
    )
    tree.manual.add("x")
    tree.start()
    assert tree.state("t") == "waiting"
    tree.crash("a")
    assert "t" not in tree.states()
    left = tree.core.world.find("t")
    assert left is not None
    assert (left.state, left.held) == (AgentState.STOPPED, False)


def test_a_supervisor_that_waits_joins_the_group_of_its_sibling() -> None:
    tree = CheckedTree(
        agent("x"), agent("a", backoff=waits(10.0)), supervisor("team", agent("y"), depends_on=["x"]),
        strategy="one_for_all", started=False,
    )  # fmt: skip
    tree.manual.add("x")
    tree.start()
    assert tree.state("team") == "waiting"
    tree.crash("a")
    tree.complete("x")
    tree.manual.clear()
    tree.advance(10.0)
    assert tree.states() == {"x": "ready", "a": "ready", "team": "ready", "team/y": "ready"}


def test_restarting_a_member_that_still_stops_ends_the_delay_and_is_no_restart_of_its_own() -> None:
    tree = CheckedTree(agent("a", backoff=waits(10.0)), agent("b"), strategy="one_for_all")
    tree.manual.add("b")
    tree.crash("a")
    tree.restart_agent("b")
    tree.complete("b")
    assert tree.incarnations() == {"a": 2, "b": 2}
    assert tree.events("AGENT_RESTARTING", "b") == [(0.0, AgentRestarting(RestartCause.GROUP, 0.0, 0))]


def test_a_place_in_the_queue_that_came_up_too_late_leaves_its_slot_to_the_next() -> None:
    tree = CheckedTree(
        agent("busy"), agent("dep"), agent("queued", depends_on=["dep"]), agent("next"),
        settings=Settings(max_workers=2), started=False,
    )  # fmt: skip
    tree.start()
    assert tree.states() == {"busy": "ready", "dep": "ready", "queued": "queued", "next": "queued"}
    tree.stop_agent("dep")
    assert tree.states() == {"busy": "ready", "dep": "stopped", "queued": "waiting", "next": "ready"}


def test_a_supervisor_that_only_waits_is_stopped_at_once_and_says_so() -> None:
    tree = CheckedTree(agent("x"), supervisor("team", agent("y"), depends_on=["x"]), started=False)
    tree.manual.add("x")
    tree.start()
    tree.stop_agent("team")
    assert tree.events("SUPERVISOR_TERMINATED") == [(0.0, SupervisorTerminated(SHUTDOWN))]
    assert [path for _, kind, path, _ in tree.log if kind == "SUPERVISOR_TERMINATED"] == ["team"]
    assert tree.state("team") == "stopped"


def test_at_the_deadline_of_the_tree_every_run_is_told_once_to_end() -> None:
    tree = CheckedTree(agent("a", shutdown="brutal_kill"), agent("b", shutdown=50.0))
    tree.manual |= {"a", "b"}
    tree.stop(timeout=1.0)
    tree.advance(1.0)
    assert [effect.run.path for effect in tree.effects if isinstance(effect, KillRun)] == ["b", "a"]


def test_a_decision_that_nobody_knows_is_not_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = CheckedTree(agent("a"))
    monkeypatch.setattr(outcome, "decide", lambda *_, **__: "a whim")
    with pytest.raises(AssertionError, match="a whim"):
        tree.crash("a")


def test_a_child_added_to_a_supervisor_that_is_down_starts_with_it() -> None:
    tree = CheckedTree(supervisor("team", agent("x")))
    tree.stop_agent("team")
    tree.register("team", agent("y"))
    assert tree.state("team/y") == "registered"
    tree.start_agent("team")
    assert (tree.state("team/x"), tree.state("team/y")) == ("ready", "ready")


def test_a_temporary_agent_that_waits_can_be_unregistered_and_its_name_is_free_at_once() -> None:
    tree = CheckedTree(agent("x"), agent("t", restart="temporary", depends_on=["x"]), started=False)
    tree.manual.add("x")
    tree.start()
    tree.unregister("t")
    assert tree.states() == {"x": "starting"}
    assert tree.lines("AGENT_TERMINATED", "AGENT_UNREGISTERED") == ["TERMINATED t", "UNREGISTERED t"]
    tree.register("", agent("t"))
    assert tree.state("t") == "ready"


def test_those_that_depend_on_one_in_two_ways_are_taken_along_once() -> None:
    tree = CheckedTree(
        agent("a", strategy="dependents", backoff=waits(1.0)),
        agent("left", depends_on=["a"]),
        agent("right", depends_on=["a"]),
        agent("end", depends_on=["left", "right"]),
    )
    tree.crash("a")
    tree.advance(1.0)
    assert tree.incarnations() == {"a": 2, "left": 2, "right": 2, "end": 2}
    assert len(tree.events("AGENT_RESTARTING", "end")) == 1


def test_when_one_of_two_dependents_has_left_the_other_still_keeps_what_it_depends_on() -> None:
    tree = CheckedTree(agent("a"), agent("b", depends_on=["a"]), agent("c", depends_on=["a"]))
    for name in ("b", "c", "a"):
        tree.stop_agent(name)
    tree.unregister("b")
    assert list(tree.core.world.root.wanted) == ["a"]
    tree.unregister("c")
    tree.unregister("a")
    assert tree.states() == {}


def test_a_group_that_starts_leaves_no_timer_behind() -> None:
    tree = CheckedTree(*(agent(name, backoff=waits(10.0)) for name in "abc"), strategy="one_for_all")
    tree.crash("a")
    assert tree.core.next_deadline() == 10.0
    tree.now = 10.0
    tree.stop_agent("c")
    assert tree.states() == {"a": "ready", "b": "ready", "c": "stopped"}
    assert tree.core.next_deadline() is None


def test_a_delay_that_is_ended_by_hand_leaves_no_timer_behind() -> None:
    tree = CheckedTree(*(agent(name, backoff=waits(10.0)) for name in "ab"), strategy="one_for_all")
    tree.crash("a")
    tree.restart_agent("b")
    assert tree.states() == {"a": "ready", "b": "ready"}
    assert tree.core.next_deadline() is None


def test_a_new_child_may_depend_on_one_that_has_left_the_tree() -> None:
    tree = CheckedTree(agent("t", restart="temporary"), agent("u", restart="temporary"))
    tree.complete("t")
    tree.crash("u")
    tree.register("", agent("a", depends_on=["t"]))
    tree.register("", agent("b", depends_on=["u"]))
    assert tree.states() == {"a": "ready", "b": "waiting"}
    assert tree.node("b").waiting_for == ("u",)


def test_a_name_that_is_used_again_forgets_the_outcome_it_had() -> None:
    tree = CheckedTree(agent("t", restart="temporary"))
    tree.complete("t")
    tree.register("", agent("t"))
    tree.stop_agent("t")
    tree.unregister("t")
    assert tree.core.world.find("t") is None
