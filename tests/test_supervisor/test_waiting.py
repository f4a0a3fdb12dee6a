"""What callers can wait for."""

from __future__ import annotations

import pytest
from tenacity import wait_fixed
from virtual import VirtualTree, agent, supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.inputs import RegisterChild
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.waiting import Started, check_timeout, is_in, is_settled, is_started

pytestmark = pytest.mark.policy


def test_a_timeout_is_none_or_a_number_of_seconds() -> None:
    assert [check_timeout(value) for value in (None, 0, 2.5)] == [None, 0.0, 2.5]
    with pytest.raises(SpecError, match=r"^timeout=-1: must be a finite number of seconds, 0 or more$"):
        check_timeout(-1)


def test_a_tree_has_started_when_no_first_start_is_running() -> None:
    tree = VirtualTree(agent("a"), agent("b", depends_on=["a"]), started=False)
    tree.manual.add("a")
    tree.start()
    assert not is_started(tree.core.world)
    tree.crash("a")
    assert is_started(tree.core.world)


def test_an_agent_is_settled_once_it_neither_starts_nor_stops() -> None:
    tree = VirtualTree(agent("a", backoff=Backoff(wait=wait_fixed(5.0))), started=False)
    tree.manual.add("a")
    tree.start()
    settled = is_settled("a")
    assert not settled(tree.core.world)
    tree.ready("a")
    assert settled(tree.core.world)
    assert settled(tree.core.world)
    tree.stop_agent("a")
    assert not is_settled("a")(tree.core.world)
    tree.complete("a")
    assert is_settled("a")(tree.core.world)


def test_waiting_for_a_delay_is_settled() -> None:
    tree = VirtualTree(agent("a", backoff=Backoff(wait=wait_fixed(5.0))))
    tree.crash("a")
    assert tree.state("a") == "backoff"
    assert is_settled("a")(tree.core.world)


def test_a_supervisor_is_settled_when_nothing_below_it_moves() -> None:
    tree = VirtualTree(supervisor("team", agent("x"), agent("y")), agent("other"), started=False)
    tree.manual |= {"team/y", "other"}
    tree.start()
    settled, everything = is_settled("team"), is_settled("")
    assert not settled(tree.core.world)
    tree.ready("team/y")
    assert settled(tree.core.world)
    assert not everything(tree.core.world)
    tree.ready("other")
    assert everything(tree.core.world)


def test_one_that_moves_again_while_another_is_looked_at_is_seen() -> None:
    tree = VirtualTree(agent("a"), agent("b"), started=False)
    tree.manual |= {"a", "b"}
    tree.start()
    settled = is_settled("")
    assert not settled(tree.core.world)
    tree.ready("a")
    assert not settled(tree.core.world)
    tree.stop_agent("a")
    tree.ready("b")
    assert not settled(tree.core.world)
    tree.complete("a")
    assert settled(tree.core.world)


def test_a_supervisor_that_is_not_ready_is_settled_as_soon_as_all_below_it_have_to_wait() -> None:
    slow = Backoff(wait=wait_fixed(5.0))
    tree = VirtualTree(supervisor("team", agent("x", backoff=slow), agent("y", depends_on=["x"])), started=False)
    tree.failing.add("team/x")
    tree.start()
    assert tree.states() == {"team": "starting", "team/x": "backoff", "team/y": "waiting"}
    assert is_settled("team")(tree.core.world)


def test_what_is_not_there_is_settled() -> None:
    assert is_settled("nobody")(VirtualTree(agent("a")).core.world)


def test_a_state_may_be_waited_for_by_its_name_and_holds_only_while_it_lasts() -> None:
    tree = VirtualTree(agent("a"))
    ready, completed = is_in("a", "ready"), is_in("a", AgentState.COMPLETED)
    assert (ready(tree.core.world), completed(tree.core.world)) == (True, False)
    tree.complete("a")
    assert (ready(tree.core.world), completed(tree.core.world)) == (False, True)


def test_what_is_not_there_is_in_no_state() -> None:
    world = VirtualTree(agent("a")).core.world
    assert not [path for path in ("nobody", "nobody/x", "a/x") if is_in(path, "ready")(world)]


def test_the_last_state_of_a_temporary_agent_can_still_be_waited_for() -> None:
    tree = VirtualTree(agent("a", restart="temporary"), supervisor("team", agent("x", restart="temporary")))
    for path in ("a", "team/x"):
        tree.complete(path)
        assert is_in(path, "completed")(tree.core.world)


def test_a_state_that_does_not_exist_is_refused_with_the_choices() -> None:
    with pytest.raises(SpecError, match=r"^state='redy': must be one of registered, .*, wedged \(did you mean 'ready'"):
        is_in("a", "redy")


def new_child(outcome: str) -> tuple[VirtualTree, Started]:
    """Return a tree in which ``new`` is being started, and who waits for that."""
    tree = VirtualTree(agent("a"), supervisor("team", agent("x")))
    tree.manual.add("new")
    tree.tell(RegisterChild("", agent("new", depends_on=["a"]), must_start=True))
    started = Started("new")
    assert (started(tree.core.world), started.error, started.ignored) == (False, None, False)
    match outcome:
        case "ready":
            tree.ready("new")
        case "ignored":
            tree.ignore("new")
        case "stopped":
            tree.stop_agent("new")
            tree.complete("new")
        case _:
            tree.crash("new", outcome)
    return tree, started


@pytest.mark.parametrize(
    ("outcome", "error", "ignored"),
    [
        ("ready", None, False),
        ("ignored", None, True),
        ("stopped", "it was stopped before it was ready", False),
        ("OSError: no disk", "OSError: no disk", False),
    ],
)
def test_whoever_starts_a_child_learns_how_its_start_went(outcome: str, error: str | None, ignored: bool) -> None:
    tree, started = new_child(outcome)
    assert (started(tree.core.world), started.error, started.ignored) == (True, error, ignored)


def test_how_a_run_that_was_ready_went_on_is_no_matter_of_its_start() -> None:
    tree, started = new_child("ready")
    tree.crash("new")
    tree.ready("new")
    tree.complete("new")
    assert tree.state("new") == "completed"
    assert (started(tree.core.world), started.error, started.ignored) == (True, None, False)


def test_the_start_of_a_supervisor_is_over_when_nothing_below_it_moves() -> None:
    tree = VirtualTree(agent("a"))
    tree.manual.add("team/x")
    tree.tell(RegisterChild("", supervisor("team", agent("x")), must_start=True))
    started = Started("team")
    assert not started(tree.core.world)
    tree.ready("team/x")
    assert (started(tree.core.world), started.error, started.ignored) == (True, None, False)
