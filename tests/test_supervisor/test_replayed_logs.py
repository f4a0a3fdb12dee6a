"""Logs that are long, or lack something: what was cut for the history file, and months in which nothing happened."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest
from replay_support import entry_of, noted
from tenacity import wait_fixed
from virtual import VirtualTree, agent, supervisor

from orchestree import Backoff, Rule, SpecError, replay, simulate
from orchestree.agents.executor import RunMessage, RunProgress
from orchestree.supervisor.event_json import data_from_json, to_json
from orchestree.supervisor.events import Command, Event, EventGap, EventType
from orchestree.supervisor.simulation.faults import Crash, Hang
from orchestree.supervisor.simulation.replayed.answers import Answers
from orchestree.supervisor.tree import AgentNode

pytestmark = pytest.mark.policy

DAY = 86_400.0
LONG = Backoff(
    wait=wait_fixed(0.5), jitter=0.0, rules=tuple(Rule(action="park", exception=f"E{n}") for n in range(120))
)


def stored(events: Iterable[Event]) -> list[Event]:
    """Return events as a history file gives them back."""
    return [replace(one, data=data_from_json(one.type, json.loads(json.dumps(to_json(one)))["data"])) for one in events]


def test_a_backoff_that_was_cut_for_the_history_file_decides_what_the_log_says() -> None:
    tree = VirtualTree(agent("a"), started=False)
    before = noted(tree)
    tree.register("", supervisor("s", agent("x", backoff=None), backoff=LONG, max_restarts=0))
    tree.crash("s/x")
    tree.advance(1)
    assert tree.state("s/x") == "ready"
    found = replay(stored(before.events()))
    assert found.divergence is None
    assert [(one.path, one.outcome, one.delay) for one in found.decisions] == [
        ("s/x", "escalated", None),
        ("s", "restarted", 0.5),
    ]
    assert found.assumptions[1:] == (
        "the log does not say all of the backoff of s: what it decided is taken from the log",
    )


def test_other_policy_that_was_cut_for_the_history_file_is_refused() -> None:
    names = [f"{number:03}-{'x' * 60}" for number in range(155)]
    tree = VirtualTree(*map(agent, names), started=False)
    before = noted(tree)
    tree.register("", supervisor("s", agent("x"), depends_on=names, backoff=LONG))
    events = before.events()
    (place,) = [place for place, event in enumerate(events) if isinstance(event.data, Command)]
    assert replay(events).divergence is None
    with pytest.raises(SpecError) as caught:
        replay(stored(events))
    assert str(caught.value) == (
        f"event {events[place].seq}: depends_on of 's' is too long for the history file, which has only its "
        f"beginning: replay up to there"
    )
    assert replay(stored(events[:place])).divergence is None


def test_the_policy_of_agents_is_never_cut() -> None:
    names = [f"{number:03}-{'x' * 60}" for number in range(155)]
    tree = VirtualTree(*map(agent, names), started=False)
    before = noted(tree)
    tree.register("", agent("x", depends_on=names, backoff=LONG))
    tree.crash("x")
    found = replay(stored(before.events()))
    assert (found.divergence, len(found.assumptions)) == (None, 1)
    assert found.decisions[0].inputs.backoff == str(LONG)


def test_what_agents_said_at_length_makes_no_difference() -> None:
    tree = VirtualTree(agent("a", backoff=LONG), started=False)
    before = noted(tree)
    tree.tell(RunMessage(tree.run_of("a"), "said", {"text": "x" * 20_000}))
    tree.crash("a", message="y" * 200_000)
    tree.advance(1)
    assert replay(stored(before.events())).divergence is None


# Quiet months


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return when replays have looked whether somebody is hung."""
    found: list[float] = []
    answer = Answers.to_look

    def noted_answer(self: Answers, node: AgentNode, now: float) -> RunProgress | None:
        found.append(now)
        return answer(self, node, now)

    monkeypatch.setattr(Answers, "to_look", noted_answer)
    return found


def test_nobody_is_looked_at_over_and_over_before_something_happens(looks: list[float]) -> None:
    tree = [agent(name, watchdog=5.0) for name in "abc"]
    crashes = [Crash(name, at=DAY, every=DAY) for name in "ab"]
    found = replay(simulate(tree, [*crashes, Hang("c", at=20 * DAY)], until=30 * DAY).events, tree)
    assert found.divergence is None
    assert [one.path for one in found.decisions].count("a") == 30
    assert [(one.path, round(one.monotonic - 20 * DAY)) for one in found.decisions if one.path == "c"] == [("c", 10)]
    assert len(looks) <= 70


@pytest.mark.parametrize("limit", [2.0, 9.0])
def test_one_that_hangs_after_its_watchdog_was_changed_is_found_when_it_was(limit: float) -> None:
    tree = VirtualTree(agent("a", watchdog=5.0, backoff=LONG), started=False)
    before = noted(tree)
    tree.advance(1000)
    tree.reconfigure("a", watchdog=limit)
    tree.advance(1000)
    tree.beats["a"] = (tree.now, "")
    tree.advance(20)
    assert len(tree.events("AGENT_HUNG")) >= 1
    found = replay(before.events(), entry_of(agent("a", watchdog=5.0, backoff=LONG)))
    assert found.divergence is None
    assert [one.outcome for one in found.decisions][:1] == ["restarted"]


# What is no whole log


def test_a_hole_is_told_wherever_it_is() -> None:
    tree = [agent("a")]
    events = list(simulate(tree, [Crash("a", every=1.0)], until=5.0).events)
    for place in range(1, len(events) - 1):
        with pytest.raises(SpecError, match=f"^event {place + 2}: events {place + 1} to {place + 1} are missing"):
            replay([*events[:place], *events[place + 1 :]], tree)
    for place in range(1, len(events) - 1):
        swapped = [*events[:place], events[place + 1], events[place], *events[place + 2 :]]
        with pytest.raises(SpecError, match=f"^event {place + 2}: events {place + 1} to {place + 1} are missing"):
            replay(swapped, tree)


def test_two_runs_that_are_mixed_are_told_apart() -> None:
    tree = [agent("a")]
    one = list(simulate(tree, [Crash("a", every=1.0)], until=5.0).events)
    other = [replace(event, run="other", seq=event.seq + len(one)) for event in one]
    mixed = sorted([*one, *other], key=lambda event: event.time)
    for log in (mixed, [*one, *other], [*one, *other[1:]]):
        with pytest.raises(SpecError, match=r"^event \d+: another run begins: give the events of one run"):
            replay(log, tree)
    with pytest.raises(SpecError, match=r"^event 2: is agent_registered, not orchestrator_started"):
        replay(one[1:], tree)
    assert one[1].type is EventType.AGENT_REGISTERED


def test_messages_that_were_dropped_at_the_end_of_a_log_are_no_hole_and_anything_else_is_one() -> None:
    tree = VirtualTree(agent("a"), started=False)
    before = noted(tree)
    tree.tell(RunMessage(tree.run_of("a"), "said", {}))
    events = before.events()
    last = events[-1]
    gap = Event(last.seq + 9, 1.0, 1.0, EventType.EVENT_GAP, "", 0, EventGap(last.seq + 1, last.seq + 9))
    found = replay([*events, gap])
    assert (found.divergence, found.assumptions[0]) == (None, "9 messages of agents are missing in the log")
    message = replace(last, seq=last.seq + 9, time=2.0, monotonic=2.0)
    hole = replace(gap, seq=last.seq + 8, data=EventGap(last.seq, last.seq + 8))
    with pytest.raises(SpecError, match=f"^event {hole.seq}: events {last.seq} to {hole.seq} are missing, and with"):
        replay([*events[:-1], hole, message])
    long = replace(gap, data=EventGap(last.seq + 1, last.seq + 12))
    with pytest.raises(SpecError, match=f"^event {gap.seq}: events {last.seq + 1} to {last.seq + 12} are missing"):
        replay([*events, long])
