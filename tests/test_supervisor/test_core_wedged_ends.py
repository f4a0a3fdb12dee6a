"""A run that could not be ended ends at last: who gets its slot, and what becomes of its agent. Virtual time."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, supervisor

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, abnormal
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.events import AgentParked, AgentTerminated
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.stopping import GRACE_S
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

ONCE = Backoff(stop=stop_after_attempt(1))
LATE = Backoff(wait=wait_fixed(10.0))


def hanging(policy: Backoff, *, restart: str = "transient", workers: int | None = 1) -> CheckedTree:
    """Return a tree in which the setup of ``team/a`` hangs, wedged by now; ``other`` waits for its slot."""
    tree = CheckedTree(
        supervisor("team", agent("a", start_timeout=1.0, shutdown=1.0, backoff=policy, restart=restart)),
        agent("other"),
        settings=Settings(max_workers=workers),
        started=False,
    )
    tree.manual.add("team/a")
    tree.start()
    tree.advance(2.0 + GRACE_S)
    return tree


def test_one_that_parks_when_it_wedges_keeps_its_slot_until_its_run_has_ended() -> None:
    tree = hanging(ONCE)
    assert (tree.state("team/a"), tree.state("other")) == ("wedged", "queued")
    ((_, parked),) = tree.events("AGENT_PARKED", "team/a")
    assert parked == AgentParked("failed", 1)
    tree.end("team/a", NORMAL)
    assert (tree.state("team/a"), tree.state("other")) == ("parked", "ready")


def test_a_temporary_one_that_leaves_the_tree_leaves_its_slot_to_its_run() -> None:
    tree = hanging(LATE, restart="temporary")
    assert tree.states() == {"team": "ready", "other": "queued"}
    tree.end("team/a", NORMAL)
    assert tree.states() == {"team": "ready", "other": "ready"}


def test_one_that_parked_when_it_wedged_is_parked_also_when_its_supervisor_has_gone_down_meanwhile() -> None:
    tree = hanging(ONCE)
    tree.stop_agent("team")
    tree.end("team/a", NORMAL)
    assert tree.states() == {"team": "stopped", "team/a": "parked", "other": "ready"}


def test_one_that_was_due_to_come_back_is_stopped_when_its_supervisor_has_gone_down_meanwhile() -> None:
    tree = hanging(LATE)
    tree.stop_agent("team")
    mark = tree.mark()
    tree.end("team/a", abnormal(Cause.EXCEPTION), "OSError: x")
    assert tree.states() == {"team": "stopped", "team/a": "stopped", "other": "ready"}
    assert tree.lines("AGENT_TERMINATED", since=mark) == ["TERMINATED team/a"]
    ((_, data),) = tree.events("AGENT_TERMINATED", "team/a")
    assert data == AgentTerminated(SHUTDOWN, AgentState.STOPPED, "OSError: x")


def test_one_that_was_restarted_by_hand_is_stopped_when_its_supervisor_has_gone_down_meanwhile() -> None:
    tree = hanging(ONCE)
    tree.restart_agent("team/a")
    tree.stop_agent("team")
    tree.end("team/a", NORMAL)
    assert tree.states() == {"team": "stopped", "team/a": "stopped", "other": "ready"}


def test_one_that_was_restarted_and_stopped_by_hand_is_stopped_without_a_second_end() -> None:
    tree = hanging(ONCE)
    tree.restart_agent("team/a")
    tree.stop_agent("team/a")
    tree.end("team/a", NORMAL)
    assert tree.states() == {"team": "ready", "team/a": "stopped", "other": "ready"}
    assert tree.lines("AGENT_PARKED", "AGENT_TERMINATED") == ["PARKED team/a"]
    tree.start_agent("team/a")
    assert tree.state("team/a") == "queued"


def test_one_that_was_due_to_come_back_and_is_stopped_by_hand_has_its_end_at_once() -> None:
    tree = hanging(LATE)
    tree.stop_agent("team/a")
    assert tree.state("team/a") == "wedged"
    ((_, data),) = tree.events("AGENT_TERMINATED", "team/a")
    assert data == AgentTerminated(SHUTDOWN, AgentState.STOPPED)
    tree.end("team/a", NORMAL)
    assert (tree.state("team/a"), len(tree.events("AGENT_TERMINATED", "team/a"))) == ("stopped", 1)


def test_one_that_comes_back_starts_when_its_run_has_ended_and_its_delay_is_over() -> None:
    tree = hanging(LATE, workers=None)
    tree.end("team/a", NORMAL)
    assert tree.state("team/a") == "backoff"
    tree.advance(10.0)
    assert (tree.state("team/a"), tree.incarnations()["team/a"]) == ("starting", 2)


def test_what_went_wrong_in_a_wedged_run_that_was_stopped_is_told_at_its_end() -> None:
    tree = CheckedTree(agent("a", shutdown=1.0))
    tree.manual.add("a")
    tree.stop_agent("a")
    tree.advance(2.0)
    tree.end("a", abnormal(Cause.EXCEPTION), "OSError: too late")
    ((_, data),) = tree.events("AGENT_TERMINATED", "a")
    assert data == AgentTerminated(SHUTDOWN, AgentState.STOPPED, "OSError: too late")


def test_a_wedged_agent_of_a_supervisor_that_leaves_the_tree_keeps_its_slot_until_its_run_has_ended() -> None:
    tree = CheckedTree(
        supervisor("team", agent("a", shutdown=1.0)), agent("other"), settings=Settings(max_workers=1), started=False
    )
    tree.manual.add("team/a")
    tree.start()
    run = tree.run_of("team/a")
    tree.stop_agent("team")
    tree.advance(2.0)
    assert (tree.state("team"), tree.state("team/a"), tree.state("other")) == ("stopped", "wedged", "queued")
    tree.unregister("team")
    assert tree.states() == {"other": "queued"}
    assert run in tree.core.world.abandoned
    tree.end("team/a", NORMAL)
    assert tree.states() == {"other": "ready"}


def test_restarting_one_that_is_due_to_come_back_ends_its_delay() -> None:
    tree = hanging(LATE, workers=None)
    tree.restart_agent("team/a")
    assert tree.state("team/a") == "wedged"
    tree.end("team/a", NORMAL)
    assert (tree.state("team/a"), tree.incarnations()["team/a"]) == ("starting", 2)
    assert tree.node("team/a").streak.failures == 0
    assert len(tree.events("AGENT_RESTARTING", "team/a")) == 1


def test_a_new_policy_for_one_whose_group_has_started_without_it_moves_only_its_own_time() -> None:
    tree = CheckedTree(
        agent("a", start_timeout=1.0, shutdown=1.0, backoff=Backoff(wait=wait_fixed(2.0), jitter=0.0)),
        agent("b", backoff=None),
        strategy="one_for_all",
        started=False,
    )
    tree.manual.add("a")
    tree.start()
    tree.advance(2.0 + GRACE_S)
    assert tree.states() == {"a": "wedged", "b": "backoff"}
    tree.advance(2.0)
    assert tree.states() == {"a": "wedged", "b": "ready"}
    tree.reconfigure("a", backoff=Backoff(wait=wait_fixed(50.0), jitter=0.0))
    assert tree.states() == {"a": "wedged", "b": "ready"}
    tree.end("a", NORMAL)
    tree.advance(47.9)
    assert tree.states() == {"a": "backoff", "b": "ready"}
    tree.advance(0.1)
    assert (tree.state("a"), tree.incarnations()) == ("starting", {"a": 2, "b": 2})
