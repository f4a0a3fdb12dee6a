"""`Replay.why` of names that are used again, and of those that are not kept in the tree when they have ended."""

from __future__ import annotations

import pytest
from replay_support import Noted, noted
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, supervisor

from orchestree import Backoff, Replay, replay
from orchestree.supervisor.simulation.replayed.why import Account, account_of
from orchestree.supervisor.spec import ChildEntry

pytestmark = pytest.mark.policy

ONCE = Backoff(stop=stop_after_attempt(1))
LATER = Backoff(wait=wait_fixed(5.0), jitter=0.0)


class Story:
    """A tree to which something happens each second, from 1 s on."""

    def __init__(self, *children: ChildEntry) -> None:
        self.tree = VirtualTree(*children, started=False)
        self._noted: Noted = noted(self.tree)
        self.tree.advance(1)

    def then(self, name: str, *arguments: object) -> Story:
        getattr(self.tree, name)(*arguments)
        self.tree.advance(1)
        return self

    @property
    def replay(self) -> Replay:
        found = replay(self._noted.events())
        assert found.divergence is None, str(found.divergence)
        return found

    def account(self, path: str, at: float | None = None) -> Account:
        return account_of(self.replay, path, at)


# Names that are used again


def parked_and_replaced() -> Story:
    story = Story(agent("a"))
    story.then("register", "", agent("b", backoff=ONCE)).then("crash", "b").then("unregister", "b")
    return story.then("register", "", agent("b")).then("crash", "a")


def test_what_was_decided_about_somebody_else_of_that_name_is_not_told() -> None:
    later = parked_and_replaced().account("b")
    assert (later.state, later.since, later.decision, later.earlier) == ("ready", 4.0, None, None)
    assert later.lines[1:] == ("nothing had to be decided about it: it had not ended by itself",)


def test_one_that_was_unregistered_is_gone_for_that_and_its_last_end_is_told_below() -> None:
    story = parked_and_replaced()
    gone = story.account("b", 3.5)
    assert (gone.state, gone.since, gone.decision) == ("not in the tree", 3.0, None)
    assert gone.earlier == story.replay.decisions[0]
    assert gone.lines[0] == "b at 3.5 s: not in the tree since 3 s: it was unregistered"
    assert gone.lines[1].endswith(": unregister b, by the program itself")
    assert gone.lines[2] == "before that, when it last ended by itself:"


def test_one_that_was_unregistered_while_it_waited_is_gone_for_that() -> None:
    story = Story(agent("a", backoff=LATER), agent("b")).then("crash", "a").then("unregister", "a").then("crash", "b")
    gone = story.account("a")
    assert (gone.state, gone.since, gone.decision, gone.earlier) == (
        "not in the tree",
        2.0,
        None,
        story.replay.decisions[0],
    )
    assert gone.lines[1].endswith(": unregister a, by the program itself")


def test_all_below_an_unregistered_supervisor_is_gone_and_comes_anew_with_it() -> None:
    team = supervisor("s", supervisor("t", agent("x", backoff=ONCE)))
    story = Story(team, agent("a")).then("crash", "s/t/x").then("stop_agent", "s").then("unregister", "s")
    for path in ("s", "s/t", "s/t/x"):
        gone = story.account(path)
        assert (gone.state, gone.since) == ("not in the tree", 3.0), path
        assert gone.lines[1].endswith(": unregister s, by the program itself")
    story.then("register", "", team).then("crash", "a")
    for path in ("s", "s/t", "s/t/x"):
        anew = story.account(path)
        assert (anew.state, anew.since, anew.decision, anew.earlier) == ("ready", 4.0, None, None), path


def test_one_that_comes_again_after_it_has_ended_for_good_begins_anew() -> None:
    story = Story(supervisor("s", dynamic=True), agent("a")).then("start_child", "s", agent("j", restart="temporary"))
    story.then("crash", "s/j").then("start_child", "s", agent("j", restart="temporary")).then("crash", "a")
    assert story.account("s/j", 2.5).decision == story.replay.decisions[0]
    assert (story.account("s/j").state, story.account("s/j").decision) == ("ready", None)


# Those that are not kept


@pytest.mark.parametrize(("does", "state"), [("complete", "completed"), ("crash", "failed"), ("stop_agent", "stopped")])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_temporary_one_that_has_ended_is_not_in_the_tree(does: str, state: str, dynamic: bool) -> None:
    story = Story(supervisor("s", agent("k"), agent("j", restart="temporary")), supervisor("d", dynamic=True))
    path = "d/j" if dynamic else "s/j"
    if dynamic:
        story.tree.start_child("d", agent("j", restart="transient" if does != "crash" else "temporary"))
    story.then(does, path).then("crash", "s/k")
    gone = story.account(path)
    assert (gone.state, gone.since) == ("not in the tree", 1.0)
    assert gone.lines[0] == f"{path} at 2 s: not in the tree since 1 s: {state}, and not kept"
    assert "nothing had to be decided" not in "".join(gone.lines)


def test_a_dynamic_supervisor_that_was_restarted_has_kept_none() -> None:
    story = Story(supervisor("s", dynamic=True, max_restarts=0), agent("a"))
    for child in (agent("j", backoff=None), agent("parked", backoff=ONCE), agent("up")):
        story.tree.start_child("s", child)
    story.then("crash", "s/parked").then("crash", "s/j").then("crash", "a")
    assert story.tree.states() == {"s": "ready", "a": "ready"}
    told = {name: story.account(f"s/{name}") for name in ("j", "parked", "up")}
    assert {(one.state, one.since) for one in told.values()} == {("not in the tree", 2.0)}
    assert told["j"].lines[0] == "s/j at 3 s: not in the tree since 2 s: stopped, and not kept"
    assert told["parked"].lines[0] == "s/parked at 3 s: not in the tree since 2 s: parked, and not kept"
    assert (told["j"].decision, told["parked"].decision) == (story.replay.decisions[1], story.replay.decisions[0])
    assert story.account("s/parked", 1.5).state == "parked"


def test_what_waits_for_one_that_is_not_kept_names_it() -> None:
    story = Story(agent("db", restart="temporary"), agent("web", depends_on=["db"])).then("crash", "db")
    story.then("crash", "web")
    assert story.account("web").lines[:2] == (
        "web at 2 s: waiting for db since 2 s",
        "db at 2 s: not in the tree since 1 s: failed, and not kept",
    )
