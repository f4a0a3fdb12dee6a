"""`Replay.why`: what is told, word for word, of children that are up, down, or on their way."""

from __future__ import annotations

from replay_support import entry_of, noted
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process, supervisor

from orchestree import Backoff, Replay, replay, simulate
from orchestree.supervisor.simulation.faults import Crash, Down, Fault, Hang, SlowStart
from orchestree.supervisor.spec import ChildEntry

LIMITED = Backoff(wait=wait_fixed(0.5), jitter=0.0, stop=stop_after_attempt(2))
WORDS = "Backoff(wait=wait_fixed(wait_fixed=0.5), stop=stop_after_attempt(max_attempt_number=2), jitter=0.0)"
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
        "db ended at 65 s, event 23, run 2, after 4.5 s of being ready: RuntimeError: simulated (abnormal (exception))",
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
        "web ended at 70 s, event 25, run 1, after 1 min 10 s of being ready: RuntimeError: simulated (abnormal "
        "(exception))",
    ]
    assert told(found, "web")[-1] == "decided: restarted at once"


def test_of_a_supervisor_that_gave_up_and_whom_it_took_along() -> None:
    faults = [Crash("farm/a", at=60.0, every=10.0, times=2)]
    found = replay(simulate(TREE, faults, until=100.0).events, TREE)
    assert told(found, "farm/b", 61.0) == [
        "farm/b at 61 s: in backoff until 61.457 s, since 60 s",
        "it was stopped to restart with farm/a, by the strategy one_for_all",
        "farm/a ended at 60 s, event 19, run 1, after 1 min of being ready: RuntimeError: simulated (abnormal "
        "(exception))",
        "restart type: transient, it comes back after an abnormal end; strategy: one_for_all",
        "failures in a row: none before this one; forgotten after 30 s of being ready",
        "backoff: Backoff(wait=wait_fixed(wait_fixed=2), jitter=0.5); no rule fits",
        "window of farm: 0 restarts within 1 min before this one, at most 1",
        "decided: restarted after 1.46 s, together with farm/b (jitter 0.5, drawn 0.543)",
    ]
    assert told(found, "farm/b")[:3] == [
        "farm/b at 70 s: ready since 70 s",
        "it started anew with its supervisor farm",
        "farm ended at 70 s, event 31, run 1, after 1 min 10 s of being ready: shutdown (max_restarts) because of "
        "farm/a",
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
        "a ended at 11 s, event 52, run 11, after 0.1 s of being ready: RuntimeError: simulated (abnormal (exception))",
        "restart type: transient, it comes back after an abnormal end; strategy: one_for_one",
        "failures in a row: 10 before this one, the first 1 s earlier; forgotten after 30 s of being ready",
        "backoff: none, it restarts at once, always",
        "window of /: 10 restarts within 10 s before this one, at most 10",
        "decided: its supervisor / ended (max_restarts)",
    ]
    assert told(found, "")[0] == "/ at 11 s: orchestrator stopped since 11 s"


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
        "hangs ended at 12 s, event 30, run 1, after 12 s of being ready: no progress for 2 s (watchdog 2 s) (abnormal "
        "(watchdog))"
    ]
    assert told(found, "slow", 1.0) == [
        "slow at 1 s: starting since 0 s",
        "nothing had to be decided about it: it had not ended by itself",
    ]
    assert "before it was ready: setup() did not return within 5 s" in told(found, "slow", 11.0)[1]
    assert told(found, "down", 1e9)[0].startswith("the log ends at 12 s: down at 1000000000 s: ready since ")
    assert told(found, "down", -1.0) == ["the log begins at 0 s"]
