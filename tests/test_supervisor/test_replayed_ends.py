"""Ends that no event tells, slots, stops and commands: the log alone leads to each command that was given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from replay_support import Noted, noted, replayed
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process, supervisor

from orchestree import Backoff, Replay
from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, abnormal
from orchestree.agents.executor import RunEnded, RunId
from orchestree.supervisor.events import Command, Event, EventType, OrchestratorStopping
from orchestree.supervisor.inputs import KillRun, StopTree
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.stopping import GRACE_S
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

ONCE = Backoff(stop=stop_after_attempt(1))
LATE = Backoff(wait=wait_fixed(10.0), jitter=0.0)


def tree_of(*children: ChildEntry, manual: str = "", **settings: Any) -> tuple[VirtualTree, Noted]:
    tree = VirtualTree(*children, settings=Settings(**settings), started=False)
    tree.manual |= set(manual.split())
    return tree, noted(tree)


def has_ended(found: Replay, path: str) -> bool:
    return any(f"{path!r} has ended, which could not be ended before" in one for one in found.assumptions)


# Runs that could not be ended


def hanging(policy: Backoff, workers: int | None = 1, **fields: Any) -> tuple[VirtualTree, Noted]:
    """Return a tree in which the setup of ``team/a`` hangs, wedged by now; ``other`` waits for its slot."""
    entry = agent("a", start_timeout=1.0, shutdown=1.0, backoff=policy, **fields)
    tree, before = tree_of(supervisor("team", entry), agent("other"), manual="team/a", max_workers=workers)
    tree.advance(2.0 + GRACE_S)
    assert tree.state("other") == ("queued" if workers == 1 else "ready")
    return tree, before


def test_the_end_of_one_that_has_parked_shows_in_who_gets_its_slot() -> None:
    tree, before = hanging(ONCE)
    tree.now += 1.0
    tree.end("team/a", NORMAL)
    tree.crash("other")
    found = replayed(before)
    assert has_ended(found, "team/a")
    assert [(one.path, one.outcome) for one in found.decisions] == [("team/a", "parked"), ("other", "restarted")]


def test_the_end_of_one_that_has_left_the_tree_shows_in_who_gets_its_slot() -> None:
    tree, before = hanging(LATE, restart="temporary")
    tree.now += 1.0
    tree.end("team/a", NORMAL)
    tree.complete("other")
    assert has_ended(replayed(before), "team/a")


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, abnormal(Cause.EXCEPTION)])
def test_however_one_ends_that_was_to_stop_it_stops(reason: Any) -> None:
    tree, before = hanging(LATE)
    tree.stop_agent("team")
    tree.now += 1.0
    tree.end("team/a", reason)
    tree.complete("other")
    replayed(before)


def test_one_that_comes_back_starts_when_its_run_has_ended_and_its_delay_is_over() -> None:
    tree, before = hanging(LATE, workers=None)
    tree.now += 1.0
    tree.end("team/a", NORMAL)
    tree.advance(10.0)
    assert tree.incarnations()["team/a"] == 2
    replayed(before)


def test_one_that_is_restarted_by_hand_starts_when_its_run_has_ended() -> None:
    tree, before = hanging(ONCE, workers=None)
    tree.restart_agent("team/a")
    tree.now += 1.0
    tree.end("team/a", NORMAL)
    assert tree.incarnations()["team/a"] == 2
    replayed(before)


def test_one_that_has_parked_is_started_by_hand_when_its_run_has_ended() -> None:
    tree, before = hanging(ONCE, workers=None)
    tree.now += 1.0
    tree.end("team/a", NORMAL)
    tree.start_agent("team/a")
    assert tree.incarnations()["team/a"] == 2
    replayed(before)


def test_one_whose_group_waits_starts_with_it_when_its_run_has_ended_meanwhile() -> None:
    children = [agent("a", shutdown=1.0), agent("b", backoff=LATE), agent("c")]
    tree, before = tree_of(supervisor("s", *children, strategy="one_for_all"))
    tree.stubborn.add("s/a")
    tree.crash("s/b")
    tree.advance(2.0)
    assert tree.state("s/a") == "wedged"
    tree.end("s/a", NORMAL)
    tree.stubborn.clear()
    tree.advance(20.0)
    assert tree.incarnations() == {"s": 1, "s/a": 2, "s/b": 2, "s/c": 2}
    replayed(before)


@pytest.mark.parametrize("ends", [False, True])
def test_whether_one_has_ended_when_the_tree_has_shows_in_who_is_not_well(ends: bool) -> None:
    tree, before = tree_of(agent("a", shutdown=1.0), agent("b", shutdown=1.0), agent("c", shutdown=60.0))
    tree.stubborn |= {"a", "b", "c"}
    tree.stop_agent("a")
    tree.stop_agent("b")
    tree.advance(2.0)
    tree.stop()
    tree.advance(1.0)
    if ends:
        tree.end("a", NORMAL)
    tree.end("c", NORMAL)
    assert tree.exit_code == 1
    replayed(before)


def test_the_end_of_one_that_has_parked_shows_in_who_needs_not_wait_for_a_slot() -> None:
    tree, before = hanging(ONCE, workers=2)
    tree.now += 1.0
    tree.end("team/a", NORMAL)
    tree.now += 1.0
    tree.register("", agent("late"))
    assert tree.state("late") == "ready"
    found = replayed(before)
    (event,) = [one for one in found.events if one.type is EventType.AGENT_STARTING and one.path == "late"]
    assert found.assumptions[1:] == (f"event {event.seq}: 'team/a' has ended, which could not be ended before",)


def test_one_that_has_not_ended_keeps_others_waiting() -> None:
    tree, before = hanging(ONCE, workers=2)
    tree.now += 1.0
    tree.register("", agent("late"))
    tree.now += 1.0
    tree.register("", agent("later"))
    tree.now += 1.0
    tree.complete("other")
    assert (tree.state("late"), tree.state("later")) == ("ready", "queued")
    assert len(replayed(before).assumptions) == 1


def test_a_run_that_was_left_behind_ends_without_a_word() -> None:
    entry = agent("a", shutdown=1.0, watchdog=2.0, replace_wedged=True, backoff=None)
    tree, before = tree_of(entry, agent("b"), max_workers=3)
    tree.stubborn.add("a")
    tree.beats["a"] = (0.0, "")
    tree.advance(4.0)
    assert tree.incarnations()["a"] == 2
    tree.beats.clear()
    tree.register("", agent("late"))
    assert tree.state("late") == "queued"
    tree.tell(RunEnded(run=RunId("a", 1), reason=NORMAL))
    assert (tree.state("late"), tree.incarnations()["a"]) == ("ready", 2)
    tree.stubborn.clear()
    tree.stop()
    replayed(before)


# Slots


def test_whoever_was_chosen_is_chosen_again() -> None:
    tree, before = tree_of(*map(agent, "abcd"), max_workers=1, choose_next=lambda queued: queued[-1])
    for path in "dcb":
        tree.now += 1.0
        tree.complete(path)
    assert tree.states() == {"a": "ready", "b": "completed", "c": "completed", "d": "completed"}
    replayed(before)


def test_one_that_was_chosen_and_has_to_wait_is_chosen_again() -> None:
    children = [agent("a", shutdown=5.0), agent("b", depends_on=["a"]), agent("c")]
    tree, before = tree_of(*children, max_workers=1, choose_next=lambda queued: queued[-1])
    tree.now += 1.0
    tree.complete("c")
    tree.now += 1.0
    tree.restart_agent("a")
    tree.now += 1.0
    tree.complete("a")
    replayed(before)


def test_those_that_wait_for_a_slot_take_it_in_start_order() -> None:
    tree, before = tree_of(*map(agent, "abcd"), max_workers=2)
    for path in "abcd":
        tree.now += 1.0
        tree.complete(path)
    assert tree.events("ALL_AGENTS_TERMINATED")
    replayed(before)


# Stops


@pytest.mark.parametrize(("timeout", "killed"), [(None, [21.0]), (3.0, [4.0] * 3), (30.0, [31.0] * 3)])
def test_a_stop_has_the_time_that_it_was_given(timeout: float | None, killed: list[float]) -> None:
    children = [process("a", shutdown=20.0), agent("b", shutdown=1.0), process("c", shutdown="infinity")]
    tree, before = tree_of(*children)
    tree.stubborn |= {"a"} if timeout is None else {"a", "c"}
    tree.advance(1.0)
    tree.stop(timeout)
    tree.advance(100.0)
    assert tree.exit_code == 0
    assert [made.now for made in replayed(before).commands if isinstance(made.command, KillRun)] == killed


@pytest.mark.parametrize("timeout", [None, 2.0])
def test_a_stop_before_the_start_starts_nothing(timeout: float | None) -> None:
    tree = VirtualTree(agent("a"), supervisor("s", agent("x")), started=False)
    tree.stop(timeout)
    before = noted(tree)
    found = replayed(before)
    assert found.commands == ()
    (stopping,) = [event.data for event in found.events if isinstance(event.data, OrchestratorStopping)]
    assert stopping.timeout_s == timeout


def test_a_signal_stops_the_tree_as_a_command_does() -> None:
    tree, before = tree_of(agent("a"), agent("b"))
    tree.now += 1.0
    tree.tell(StopTree("signal", 5.0))
    assert tree.exit_code == 0
    replayed(before)


# Commands


def asked_for(before: Noted, name: str, **arguments: object) -> list[Event]:
    """Return the log with its last command as if the control API had been asked, at that moment."""
    events = before.events()
    place = max(place for place, event in enumerate(events) if event.data == Command(name))
    events[place] = replace(events[place], data=Command(name, arguments, 1000, 7), incarnation=0)
    return events


@pytest.mark.parametrize("path", ["a", "s", "s/x", "s/t/y"])
@pytest.mark.parametrize("name", ["start", "stop", "restart"])
def test_what_was_asked_through_the_control_api_is_done_when_it_was(path: str, name: str) -> None:
    deep = supervisor("t", agent("y"))
    tree, before = tree_of(agent("a"), supervisor("s", agent("x"), deep, strategy="one_for_all"), agent("b"))
    tree.now += 1.0
    if name == "start":
        tree.stop_agent(path)
        tree.now += 1.0
    getattr(tree, f"{name}_agent")(path)
    tree.now += 5.0
    tree.crash("b")
    replayed(before, asked_for(before, name))


def test_the_start_of_a_supervisor_that_runs_is_that_of_what_is_kept_down_below_it() -> None:
    tree, before = tree_of(supervisor("s", agent("x"), agent("y", backoff=ONCE), agent("z")), agent("b"))
    tree.now += 1.0
    tree.stop_agent("s/x")
    tree.crash("s/y")
    tree.now += 1.0
    for path in ("s/x", "s/y"):
        tree.start_agent(path)
    events = before.events()
    first, second = [place for place, event in enumerate(events) if event.data == Command("start")]
    asked = replace(events[first], path="s", incarnation=0, data=Command("start", {}, 1000, 7))
    log = [*events[:first], asked, *events[first + 1 : second], *events[second + 1 :]]
    tree.now += 5.0
    tree.crash("b")
    log += before.events()[len(events) :]
    replayed(before, [replace(event, seq=number) for number, event in enumerate(log, start=1)])


def test_what_happens_elsewhere_before_it_is_done_is_not_for_that() -> None:
    later = agent("y", backoff=Backoff(wait=wait_fixed(0.25), jitter=0.0))
    tree, before = tree_of(supervisor("s", agent("x")), supervisor("t", later))
    tree.now += 1.0
    tree.crash("t/y")
    place = len(before.events())
    tree.advance(0.5)
    tree.stop_agent("s/x")
    events = before.events()
    (asked,) = [event for event in events if event.data == Command("stop")]
    said = replace(asked, time=1.125, monotonic=1.125, incarnation=0, data=Command("stop", {}, 1000, 7))
    log = [*events[:place], said, *(event for event in events[place:] if event is not asked)]
    replayed(before, [replace(event, seq=number) for number, event in enumerate(log, start=1)])


@pytest.mark.parametrize("timeout", [3.0, 7])
def test_a_second_shutdown_may_bring_the_deadline_forward(timeout: float) -> None:
    tree, before = tree_of(process("a", shutdown=60.0), agent("b"))
    tree.stubborn.add("a")
    tree.advance(1.0)
    tree.stop()
    tree.advance(1.0)
    place = len(before.events())
    tree.stop(timeout)
    tree.advance(30.0)
    assert tree.exit_code == 0
    events = before.events()
    asked = replace(events[place - 1], monotonic=2.0, path="", incarnation=0)
    asked = replace(asked, data=Command("shutdown", {"timeout": timeout}, 1000, 7))
    log = [*events[:place], asked, *events[place:]]
    found = replayed(before, [replace(event, seq=number) for number, event in enumerate(log, start=1)])
    assert [made.now for made in found.commands if isinstance(made.command, KillRun)] == [2.0 + timeout]


def test_one_whose_first_start_had_to_succeed_is_gone_though_others_were_ready_meanwhile() -> None:
    tree, before = tree_of(agent("a"), agent("b"), manual="bad b")
    tree.start_child("", agent("bad"))
    tree.now += 1.0
    tree.ready("b")
    tree.now += 1.0
    tree.end("bad", abnormal(Cause.START_FAILED))
    assert "bad" not in tree.states()
    tree.start_child("", agent("bad"))
    tree.ready("bad")
    tree.crash("bad")
    assert [one.outcome for one in replayed(before).decisions] == ["finished", "restarted"]


def test_what_was_unregistered_is_gone() -> None:
    tree, before = tree_of(agent("a"), supervisor("s", agent("x")))
    for path in ("a", "s"):
        tree.now += 1.0
        tree.stop_agent(path)
        tree.unregister(path)
    tree.register("", agent("a"))
    tree.crash("a")
    assert list(tree.states()) == ["a"]
    replayed(before)


@pytest.mark.parametrize("ends", [False, True])
def test_a_run_whose_agent_has_left_the_tree_may_end_silently_before_the_tree(ends: bool) -> None:
    tree, before = tree_of(supervisor("team", agent("a", shutdown=1.0)), agent("b"), manual="team/a")
    tree.ready("team/a")
    tree.stop_agent("team")
    tree.advance(2.0)
    tree.unregister("team")
    if ends:
        tree.end("team/a", NORMAL)
    tree.now += 1.0
    tree.stop()
    assert tree.exit_code == int(not ends)
    replayed(before)
