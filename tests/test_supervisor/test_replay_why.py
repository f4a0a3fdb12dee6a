"""`Replay.why`: what is told, word for word, of children that are up, down, or on their way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from replay_support import entry_of, noted
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process, supervisor

from orchestree import Backoff, Replay, SpecError, replay, simulate
from orchestree.supervisor.events import AgentMessage, EventType
from orchestree.supervisor.simulation.faults import Crash, Down, Fault, Hang, SlowStart
from orchestree.supervisor.simulation.replayed.why import account_of
from orchestree.supervisor.spec import ChildEntry

pytestmark = pytest.mark.policy

LIMITED = Backoff(wait=wait_fixed(0.5), jitter=0.0, stop=stop_after_attempt(2))
WORDS = "Backoff(wait=wait_fixed(wait_fixed=0.5), stop=stop_after_attempt(max_attempt_number=2), jitter=0.0)"
CRASHED = "RuntimeError: simulated (abnormal (exception))"
TREE: list[ChildEntry] = [
    agent("db", backoff=LIMITED),
    agent("web", depends_on=["db"]),
    supervisor(
        "farm",
        process("a", backoff=Backoff(wait=wait_fixed(2.0), jitter=0.5)),
        agent("b"),
        strategy="one_for_all",
        max_restarts=1,
        max_seconds=60.0,
    ),
]


def told(found: Replay, path: str, at: float | None = None) -> list[str]:
    assert found.divergence is None, str(found.divergence)
    return found.why(path, at).splitlines()


def test_of_one_that_has_parked() -> None:
    found = replay(simulate(TREE, [Crash("db", at=60.0, every=5.0, times=2)], until=100.0).events, TREE)
    assert told(found, "db") == [
        "db at 65 s: parked since 65 s",
        f"db ended at 65 s, event 23, incarnation 2, after 4.5 s of being ready: {CRASHED}",
        "restart type: transient, it comes back after an abnormal end; strategy: one_for_one",
        "failures in a row: 1 before this one, the first 5 s earlier; forgotten after 30 s of being ready",
        f"backoff: {WORDS}; no rule fits",
        "window of /: 1 restart within 10 s before this one, at most 10",
        "decided: parked: failed 2 times in a row",
    ]
    assert told(found, "db", 60.2)[0] == "db at 60.2 s: in backoff until 60.5 s, since 60 s"
    assert told(found, "db", 60.2)[-1] == "decided: restarted after 0.5 s"
    assert told(found, "db", 59.0) == [
        "db at 59 s: ready since 0 s",
        "nothing had to be decided about it: it had not ended by itself",
    ]


def test_of_one_that_waits_for_another() -> None:
    faults = [Crash("db", at=60.0, every=5.0, times=2), Crash("web", at=70.0)]
    found = replay(simulate(TREE, faults, until=100.0).events, TREE)
    assert told(found, "web")[:3] == [
        "web at 70 s: waiting for db since 70 s",
        "db at 70 s: parked since 65 s",
        f"web ended at 70 s, event 25, incarnation 1, after 1 min 10 s of being ready: {CRASHED}",
    ]
    assert told(found, "web")[-1] == "decided: restarted at once"


def test_of_a_supervisor_that_gave_up_and_whom_it_took_along() -> None:
    faults = [Crash("farm/a", at=60.0, every=10.0, times=2)]
    found = replay(simulate(TREE, faults, until=100.0).events, TREE)
    assert told(found, "farm/b", 61.0) == [
        "farm/b at 61 s: in backoff until 61.457 s, since 60 s",
        "it was stopped to restart with farm/a, by the strategy one_for_all",
        f"farm/a ended at 60 s, event 19, incarnation 1, after 1 min of being ready: {CRASHED}",
        "restart type: transient, it comes back after an abnormal end; strategy: one_for_all",
        "failures in a row: none before this one; forgotten after 30 s of being ready",
        "backoff: Backoff(wait=wait_fixed(wait_fixed=2), jitter=0.5); no rule fits",
        "window of farm: 0 restarts within 1 min before this one, at most 1",
        "decided: restarted after 1.46 s, together with farm/b (jitter 0.5, drawn 0.543)",
    ]
    assert told(found, "farm/b")[:3] == [
        "farm/b at 70 s: ready since 70 s",
        "it started anew with its supervisor farm",
        "farm ended at 70 s, event 31, incarnation 1, after 1 min 10 s of being ready: "
        "gave up (max_restarts) because of farm/a",
    ]
    assert told(found, "farm")[-2:] == [
        "window of /: 0 restarts within 10 s before this one, at most 10",
        "decided: restarted at once",
    ]
    assert [one.outcome for one in found.decisions] == ["restarted", "escalated", "restarted"]


def test_of_those_that_went_down_with_the_tree() -> None:
    tree: list[ChildEntry] = [agent("a", backoff=None), supervisor("s", agent("x"))]
    faults = [Crash("a", at=10.0, every=0.1, times=11)]
    found = replay(simulate(tree, faults, until=100.0).events, tree)
    assert told(found, "s/x") == [
        "s/x at 11 s: stopped since 11 s",
        "its supervisor / ended",
        f"a ended at 11 s, event 52, incarnation 11, after 0.1 s of being ready: {CRASHED}",
        "restart type: transient, it comes back after an abnormal end; strategy: one_for_one",
        "failures in a row: 10 before this one, the first 1 s earlier; forgotten after 30 s of being ready",
        "backoff: none, it restarts at once, always",
        "window of /: 10 restarts within 10 s before this one, at most 10",
        "decided: its supervisor / ended (max_restarts)",
    ]
    assert told(found, "")[:2] == ["/ at 11 s: failed since 11 s", "it gave up"]


def test_of_one_that_somebody_has_stopped() -> None:
    tree = VirtualTree(agent("a"), supervisor("s", agent("x")), started=False)
    before = noted(tree)
    tree.advance(5)
    tree.stop_agent("a")
    tree.advance(5)
    tree.stop_agent("s")
    tree.advance(5)
    tree.stop()
    found = replay(before.events(), entry_of(agent("a"), supervisor("s", agent("x"))))
    assert told(found, "a", 7.0) == [
        "a at 7 s: stopped since 5 s",
        "it was asked for at 5 s, event 12: stop a, by the program itself",
    ]
    assert told(found, "s/x", 12.0) == [
        "s/x at 12 s: stopped since 10 s",
        "it was asked for at 10 s, event 15: stop s, by the program itself",
    ]
    assert told(found, "", 15.0)[1] == "the whole tree stops since 15 s, event 20: command"


def test_of_those_on_their_way() -> None:
    tree: list[ChildEntry] = [process("hangs", watchdog=2.0), agent("slow", start_timeout=5.0), agent("down")]
    faults: list[Fault] = [Hang("hangs", at=10.0), SlowStart("slow", takes=100.0), Down("down", at=3.0, until=4.0)]
    found = replay(simulate(tree, faults, until=12.5).events, tree)
    assert told(found, "hangs", 12.0)[1:2] == [
        "hangs ended at 12 s, event 30, incarnation 1, after 12 s of being ready: "
        "no progress for 2 s (watchdog 2 s) (abnormal (watchdog))"
    ]
    assert told(found, "slow", 1.0) == [
        "slow at 1 s: starting since 0 s",
        "nothing had to be decided about it: it had not ended by itself",
    ]
    assert "before it was ready: setup() did not return within 5 s" in told(found, "slow", 11.0)[1]
    assert told(found, "down", 1e9)[0].startswith("the log ends at 12 s: down at 1000000000 s: ready since ")


def test_a_moment_before_the_run_is_an_error_that_says_when_that_began() -> None:
    found = replay(simulate(TREE, [], until=10.0).events, TREE)
    for path in ("db", "farm/a", ""):
        with pytest.raises(SpecError, match=r"^at: the run begins at 0 s, and -1 s is before that$"):
            found.why(path, -1.0)
    with pytest.raises(SpecError, match=r"and -1e-09 s is before that$"):
        found.why("db", -1e-9)
    assert told(found, "db", 0.0)[0].startswith("db at 0 s: ")


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1.7e12, "03:12", True])
def test_a_moment_that_no_calendar_shows_is_an_error(at: Any) -> None:
    with pytest.raises(SpecError, match="must be seconds since 1970"):
        replay(simulate(TREE, [], until=10.0).events).why("db", at)


def test_after_a_stop_of_the_tree_the_last_end_by_itself_is_told_too() -> None:
    tree = VirtualTree(agent("a", backoff=LIMITED), agent("b"), supervisor("s", agent("x")), started=False)
    before = noted(tree)
    tree.advance(5)
    tree.crash("a")
    tree.advance(5)
    tree.stop()
    found = replay(before.events())
    assert told(found, "a") == [
        "a at 10 s: stopped since 10 s",
        "the whole tree stops since 10 s, event 19: command",
        "before that, when it last ended by itself:",
        "a ended at 5 s, event 15, incarnation 1, after 5 s of being ready: boom (abnormal (exception))",
        "restart type: transient, it comes back after an abnormal end; strategy: one_for_one",
        "failures in a row: none before this one; forgotten after 30 s of being ready",
        f"backoff: {WORDS}; no rule fits",
        "window of /: 0 restarts within 10 s before this one, at most 10",
        "decided: restarted after 0.5 s",
    ]
    assert told(found, "b")[1:] == ["the whole tree stops since 10 s, event 19: command"]
    assert told(found, "s/x")[1:] == told(found, "b")[1:]
    assert told(found, "a", 7.0)[1].startswith("a ended at 5 s")


def test_what_is_told_is_also_there_as_values() -> None:
    found = replay(simulate(TREE, [Crash("db", at=60.0, every=5.0, times=2)], until=100.0).events, TREE)
    parked, ready, later = (account_of(found, "db", at) for at in (None, 59.0, 1e9))
    assert (parked.path, parked.state, parked.since, parked.decision) == ("db", "parked", 65.0, found.decisions[-1])
    assert "\n".join(parked.lines) == found.why("db")
    assert (ready.asked_at, ready.told_at, ready.state, ready.since) == (59.0, 59.0, "ready", 0.0)
    assert (ready.decision, ready.earlier) == (None, None)
    assert (later.asked_at, later.told_at, later.state) == (1e9, parked.told_at, "parked")


def test_of_one_that_comes_and_goes() -> None:
    tree = VirtualTree(agent("a"), started=False)
    before = noted(tree)
    tree.advance(5)
    tree.register("", agent("b"))
    tree.advance(5)
    tree.stop_agent("b")
    tree.unregister("b")
    found = replay(before.events())
    assert told(found, "b", 4.0) == ["b was not in the tree yet at 4 s"]
    assert told(found, "b") == [
        "b at 10 s: not in the tree since 10 s: it was unregistered",
        "it was asked for at 10 s, event 13: unregister b, by the program itself",
    ]
    accounts = [account_of(found, "b", at) for at in (4.0, 6.0, None)]
    assert [(one.state, one.since) for one in accounts] == [
        ("not in the tree", None),
        ("ready", 5.0),
        ("not in the tree", 10.0),
    ]


def test_what_an_agent_says_is_no_state_of_it() -> None:
    tree = VirtualTree(agent("a"), started=False)
    events = noted(tree).events()
    said = replace(events[-1], seq=events[-1].seq + 1, time=3.0, type=EventType.AGENT_MESSAGE, path="a")
    found = replay([*events, replace(said, data=AgentMessage("reading", {}))])
    assert told(found, "a")[0] == "a at 3 s: ready since 0 s"


def test_a_delay_that_was_changed_ends_at_another_time() -> None:
    tree = VirtualTree(agent("a", backoff=Backoff(wait=wait_fixed(5.0), jitter=0.0)), started=False)
    before = noted(tree)
    tree.crash("a")
    tree.advance(1)
    tree.reconfigure("a", backoff=Backoff(wait=wait_fixed(20.0), jitter=0.0))
    tree.advance(2)
    found = replay(before.events())
    assert told(found, "a", 0.5)[0] == "a at 0.5 s: in backoff until 5 s, since 0 s"
    assert told(found, "a")[0] == "a at 1 s: in backoff until 20 s, since 0 s"


def test_a_wall_clock_that_was_set_back_hides_nothing_of_the_end() -> None:
    faults = [Crash("db", at=60.0, every=5.0, times=2), Crash("web", at=70.0)]
    events = simulate(TREE, faults, until=100.0).events
    stepped = [replace(event, time=event.time - 50.0 if event.time > 69.0 else event.time) for event in events]
    assert account_of(replay(stepped), "db", None).state == "parked"


@pytest.mark.parametrize("stops", [False, True])
def test_of_a_supervisor_that_has_not_started_yet(stops: bool) -> None:
    inner = supervisor("inner", agent("x"))
    tree = VirtualTree(agent("a"), supervisor("outer", inner, depends_on=["a"]), started=False)
    tree.manual.add("a")
    before = noted(tree)
    tree.advance(5)
    tree.register("outer", supervisor("late", agent("y")))
    if stops:
        tree.stop()
    found = replay(before.events())
    for path in ("outer/inner", "outer/late", "outer/inner/x", "outer/late/y"):
        assert account_of(found, path, None).state == tree.state(path) == "registered", path
    if not stops:
        assert told(found, "outer/inner") == [
            "outer/inner at 5 s: registered, and not started yet",
            "nothing had to be decided about it: it had not ended by itself",
        ]
        assert told(found, "outer/late", 4.0) == ["outer/late was not in the tree yet at 4 s"]
