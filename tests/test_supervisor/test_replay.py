"""`replay`: what was decided and from what, where a log and a tree part, and what a log does not say."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from replay_support import Noted, entry_of, noted
from tenacity import stop_after_attempt, wait_fixed, wait_none
from virtual import VirtualTree, agent, process, supervisor

from orchestree import Backoff, NotFound, Orchestrator, Replay, Rule, SpecError, replay, simulate
from orchestree.agents.agent import LoopingAgent
from orchestree.agents.ends import NORMAL, Cause, abnormal
from orchestree.supervisor.event_json import data_from_json, to_json
from orchestree.supervisor.events import (
    AgentMessage,
    Command,
    Event,
    EventGap,
    EventType,
    HandlerFailed,
    OrchestratorStarted,
)
from orchestree.supervisor.inputs import AskRunToStop, KillRun, RecycleRun
from orchestree.supervisor.simulation.faults import Crash, Fault
from orchestree.supervisor.spec import INHERIT, AgentEntry, ChildEntry

pytestmark = pytest.mark.policy

MIB = 2**20
NO_SEED = "the log has no seed: what was drawn is computed from the delays"


class Rounds(LoopingAgent):
    """Can end between two rounds."""

    def runner(self) -> None: ...


def log_of(tree: Sequence[ChildEntry], *faults: Fault, until: float = 100.0, **more: Any) -> list[Event]:
    return list(simulate(tree, faults, until=until, **more).events)


def renumbered(events: Sequence[Event]) -> list[Event]:
    return [replace(event, seq=number) for number, event in enumerate(events, start=1)]


def same(found: Replay, before: Noted) -> bool:
    """Return whether it commanded what was commanded before, and the log alone leads to that, too."""
    for one in (found, replay(before.events())):
        assert one.divergence is None, str(one.divergence)
    last = found.events[-1].monotonic
    return list(found.commands) == [one for one in before.commands if one.now <= last]


THREE = Backoff(wait=wait_fixed(0.5), jitter=0.0, stop=stop_after_attempt(3))


def test_each_decision_has_what_it_was_made_from() -> None:
    tree = [agent("worker", backoff=THREE)]
    found = replay(log_of(tree, Crash("worker", at=10.0, every=5.0, times=3)), tree)
    assert found.divergence is None
    assert [(one.path, one.outcome, one.delay, one.why) for one in found.decisions] == [
        ("worker", "restarted", 0.5, ""),
        ("worker", "restarted", 0.5, ""),
        ("worker", "parked", None, "failed 3 times in a row"),
    ]
    last = found.decisions[-1]
    assert (last.time, last.incarnation, last.reason) == (20.0, 3, abnormal(Cause.EXCEPTION))
    given = last.inputs
    assert (given.failures, given.failing_since, given.ready_s) == (2, 10.0, 4.5)
    assert (given.supervisor, given.restarts, given.max_restarts, given.max_seconds) == ("", 2, 10, 10.0)
    assert (given.restart, given.strategy, given.asked) == ("transient", "one_for_one", None)
    assert given.backoff == str(THREE)


def test_a_supervisor_that_gives_up_is_a_decision_of_its_own() -> None:
    tree = [supervisor("group", agent("x", backoff=None), agent("y"), strategy="one_for_all", max_restarts=1)]
    found = replay(log_of(tree, Crash("group/x", at=10.0, every=1.0, times=2)), tree)
    assert [(one.path, one.outcome, one.why, one.offender) for one in found.decisions] == [
        ("group/x", "restarted", "", None),
        ("group/x", "escalated", "max_restarts", None),
        ("group", "restarted", "", "group/x"),
    ]
    assert found.decisions[0].group == ("group/y",)


def test_the_rule_that_fits_is_told() -> None:
    rule = Rule(action="park", cause="exit")
    tree = [process("a", backoff=Backoff(rules=(rule,)))]
    found = replay(log_of(tree, Crash("a", at=3.0, cause="exit")), tree)
    assert found.decisions[0].rule is rule
    assert found.why("a").splitlines()[4].endswith("; the rule for cause='exit' says park")


def test_a_log_from_json_is_as_good() -> None:
    tree: list[ChildEntry] = [
        agent("db"),
        agent("worker", depends_on=["db"]),
        supervisor("s", agent("x"), strategy="one_for_all"),
    ]
    events = log_of(tree, Crash("db", every=7.0, about=True), Crash("s/x", every=3.0), until=600.0, seed=5)
    read = []
    for event in events:
        text = json.loads(json.dumps(to_json(event)))
        kind = EventType(text["type"])
        read.append(replace(event, type=kind, data=data_from_json(kind, text["data"])))
    assert replay(read, tree).commands == replay(events, tree).commands
    assert replay(read, tree).divergence is None


def test_a_log_without_a_seed_tells_what_was_drawn_by_the_delays() -> None:
    tree: list[ChildEntry] = [
        agent("worker", backoff=Backoff(wait=wait_fixed(2.0), jitter=0.5)),
        supervisor("s", agent("x")),
    ]
    events = log_of(tree, Crash("worker", every=7.0), Crash("s/x", every=0.5), until=300.0)
    started = events[0].data
    assert isinstance(started, OrchestratorStarted)
    assert started.seed is not None
    without = [replace(events[0], data=replace(started, seed=None)), *events[1:]]
    found, before = replay(without, tree), replay(events, tree)
    assert found.divergence is None
    assert [one.command for one in found.commands] == [one.command for one in before.commands]
    drawn = [one.draw for one in before.decisions if one.draw is not None]
    assert [one.draw for one in found.decisions if one.draw is not None] == pytest.approx(drawn)
    assert len(drawn) > 10
    assert found.assumptions == (NO_SEED,)


# Where they part


def test_another_policy_parts_from_the_log_where_it_decides_something_else() -> None:
    tree = [agent("worker", backoff=THREE)]
    events = log_of(tree, Crash("worker", at=10.0, every=5.0, times=3))
    found = replay(events, [agent("worker", backoff=replace(THREE, stop=stop_after_attempt(2)))])
    divergence = found.divergence
    assert divergence is not None
    assert (divergence.event.type, divergence.event.time) == (EventType.AGENT_CRASHED, 15.0)
    assert str(divergence) == (
        f"event {divergence.event.seq}: CRASHED worker incarnation 2, up 4.5 s: RuntimeError: simulated; "
        "replayed, the core decides decision=park where the log has restart; delay_s=None where the log has 0.5"
    )
    assert [one.outcome for one in found.decisions] == ["restarted"]
    assert found.why("worker", 15.0).splitlines()[-1] == f"what came later is not told: {divergence}"
    said = found.why("worker", 15.0).splitlines()
    assert said[0] == found.why("worker", found.events[-1].time).splitlines()[0], "of 15 s nothing is known"
    with pytest.raises(SpecError, match="at='03:12'"):
        found.why("worker", "03:12")  # type: ignore[arg-type]


def test_another_tree_parts_from_the_log_at_once() -> None:
    events = log_of([agent("worker")])
    divergence = replay(events, [agent("other")]).divergence
    assert divergence is not None
    assert str(divergence) == (
        "event 2: ADDED worker virtual:Worker (thread, transient); replayed, the core decides: ADDED other "
        "virtual:Worker (thread, transient)"
    )
    told = divergence.event
    assert told is events[1]
    assert divergence.would == replace(told, path="other")
    assert divergence.differs == ()


def test_a_log_says_what_nothing_leads_to() -> None:
    events = log_of([agent("a")], until=5.0)
    crashed = log_of([agent("a")], Crash("a", at=1.0), until=5.0)
    odd = replace(crashed[-2], seq=events[-1].seq + 1)
    assert odd.type is EventType.AGENT_STARTING
    divergence = replay([*events, odd], [agent("a")]).divergence
    assert divergence is not None
    assert str(divergence).endswith("replayed, the core decides nothing then")


# Policy that a log says


def test_policy_that_was_changed_is_taken_over() -> None:
    other = Backoff(wait=wait_none(), jitter=0.0, stop=stop_after_attempt(2))
    tree = VirtualTree(process("a", shutdown=1.0), agent("b", backoff=other), started=False)
    before = noted(tree)
    tree.advance(1)
    tree.reconfigure("a", shutdown="brutal_kill", restart="permanent", start_timeout=None, backoff=other)
    tree.reconfigure("", max_restarts=3, strategy="one_for_all")
    tree.crash("a")
    tree.advance(1)
    tree.crash("a")
    assert tree.state("a") == "parked"
    tree.reconfigure("b", backoff=INHERIT)
    tree.crash("b")
    tree.crash("b")
    root = entry_of(process("a", shutdown=1.0), agent("b", backoff=other))
    assert same(replay(before.events(), root), before)


def test_a_child_that_had_to_start_and_did_not_is_gone() -> None:
    tree = VirtualTree(agent("a"), supervisor("pool", dynamic=True), started=False)
    tree.failing |= {"bad", "pool/bad"}
    before = noted(tree)
    for parent in ("", "pool"):
        tree.start_child(parent, agent("bad"))
        tree.start_child(parent, agent("good"))
        tree.advance(1)
    tree.register("", agent("late", depends_on=["good"]))
    tree.register("", supervisor("family", agent("x"), supervisor("inner", agent("y"))))
    tree.register("", supervisor("more", dynamic=True))
    tree.crash("family/x")
    tree.advance(1)
    tree.stop()
    found = replay(before.events(), entry_of(agent("a"), supervisor("pool", dynamic=True)))
    assert same(found, before)
    assert found.assumptions == (NO_SEED,)


def test_one_that_came_with_a_policy_of_its_own_keeps_it() -> None:
    tree = VirtualTree(agent("a"), started=False)
    before = noted(tree)
    own = Backoff(wait=wait_fixed(0.3), jitter=0.0, stop=stop_after_attempt(3))
    tree.register("", agent("late", backoff=own))
    tree.register("", agent("ends", backoff=Backoff(on_give_up="escalate", stop=stop_after_attempt(1))))
    tree.register("", supervisor("s", agent("x", backoff=None), backoff=own))
    tree.register("", agent("ruled", backoff=Backoff(rules=(Rule(action="park", cause="exception"),))))
    tree.crash("ruled")
    for _ in range(11):
        tree.crash("s/x")
    for _ in range(3):
        tree.advance(5)
        tree.crash("late")
        tree.crash("a")
    assert tree.state("late") == "parked"
    tree.crash("ends")
    found = replay(before.events(), entry_of(agent("a")))
    assert same(found, before)
    late = [one for one in found.decisions if one.path == "late"]
    assert [(one.outcome, one.delay, one.why) for one in late] == [
        ("restarted", 0.3, ""),
        ("restarted", 0.3, ""),
        ("parked", None, "failed 3 times in a row"),
    ]
    assert late[0].inputs.backoff == str(own)
    assert found.assumptions == (NO_SEED,)
    assert "escalated" in found.why("a")


def test_a_backoff_that_no_text_says_decides_what_the_log_says() -> None:
    tree = VirtualTree(agent("a"), agent("b"), started=False)
    before = noted(tree)
    own = Backoff(wait=lambda state: 0.125 * state.attempt_number, stop=stop_after_attempt(3), jitter=0.0)
    tree.reconfigure("a", backoff=own)
    for _ in range(3):
        tree.crash("a")
        tree.advance(1)
    found = replay(before.events())
    assert same(found, before)
    assert [(one.outcome, one.delay) for one in found.decisions] == [
        ("restarted", 0.125),
        ("restarted", 0.25),
        ("parked", None),
    ]
    assert found.decisions[0].inputs.backoff == str(own)
    assert found.assumptions[-1] == (
        "the log does not say all of the backoff of a: what it decided is taken from the log"
    )


def test_a_log_tells_alone_what_it_tells_with_the_tree() -> None:
    tree: list[ChildEntry] = [agent("a", backoff=THREE)]
    tree += [supervisor("s", agent("x"), max_restarts=1, strategy="one_for_all")]
    events = log_of(tree, Crash("a", at=10.0, every=5.0, times=3), Crash("s/x", at=20.0, every=2.0, times=3))
    alone, found = replay(events), replay(events, tree)
    assert (alone.divergence, alone.assumptions) == (None, ())
    assert (alone.decisions, alone.commands) == (found.decisions, found.commands)
    assert [alone.why(path) for path in ("", "a", "s", "s/x")] == [found.why(path) for path in ("", "a", "s", "s/x")]


def test_the_beginning_of_a_log_is_enough() -> None:
    inner = supervisor("inner", agent("y"), depends_on=["z"])
    tree: list[ChildEntry] = [agent("a", depends_on=["s"]), agent("b"), supervisor("t")]
    tree.insert(1, supervisor("s", agent("x"), inner, agent("z")))
    events = log_of(tree, Crash("s/x", at=10.0, every=5.0, times=2))
    for end in range(6, len(events)):
        assert replay(events[:end]).divergence is None, end
    with pytest.raises(SpecError, match="ends before it has named all 5 agents: give more of it, or the tree"):
        replay(events[:5])


def test_a_tree_that_was_stopped_before_it_started_is_replayed_from_its_log() -> None:
    tree = VirtualTree(agent("a"), supervisor("s", agent("x"), agent("z")), agent("b"), started=False)
    tree.stop()
    before = noted(tree)
    assert same(replay(before.events()), before)


def test_one_that_was_stopped_while_it_waited_for_its_restart_no_longer_held_that_up() -> None:
    entry = agent("a", shutdown=0.5, watchdog=0.5, backoff=Backoff(wait=wait_fixed(1), jitter=0.0))
    tree = VirtualTree(entry, started=False)
    tree.stubborn.add("a")
    tree.beats["a"] = (0.0, "")
    before = noted(tree)
    tree.advance(1.2)
    assert tree.state("a") == "wedged"
    tree.end("a", NORMAL)
    tree.advance(0.1)
    tree.stop_agent("a")
    assert len(tree.events("ALL_AGENTS_TERMINATED")) == 2
    assert same(replay(before.events(), entry_of(entry)), before)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"settings": {"gravity": "9.81"}}, "the log is of a later version, with settings unknown here: {'gravity'"),
        ({"policies": {"s": {}}}, "the log does not say the policy of the root: give the tree as well"),
    ],
)
def test_a_log_that_says_what_is_not_known_here_is_refused(said: dict[str, Any], error: str) -> None:
    first, *rest = log_of([agent("a", backoff=THREE)], Crash("a", at=10.0))
    assert isinstance(first.data, OrchestratorStarted)
    with pytest.raises(SpecError, match=error):
        replay([replace(first, data=replace(first.data, **said)), *rest])


def test_a_log_of_an_earlier_version_needs_the_tree() -> None:
    tree: list[ChildEntry] = [agent("a", backoff=THREE), supervisor("s", agent("x"))]
    events = [earlier(event) for event in log_of(tree, Crash("a", at=10.0, every=5.0, times=3))]
    with pytest.raises(SpecError, match="of an earlier version, and say nothing of policies: give the tree as well"):
        replay(events)
    found = replay(events, tree)
    assert (found.divergence, found.assumptions) == (None, ())
    assert [one.outcome for one in found.decisions] == ["restarted", "restarted", "parked"]


def test_in_a_log_of_an_earlier_version_the_policy_of_those_that_came_is_the_default() -> None:
    tree = VirtualTree(agent("a"), started=False)
    before = noted(tree)
    tree.register("", agent("late"))
    tree.crash("late")
    events = [earlier(event) for event in before.events()]
    found = replay(events, entry_of(agent("a")))
    assert same(found, before)
    assert found.assumptions[-1] == "the log does not say the policy of late: it is taken for the default"


def earlier(event: Event) -> Event:
    """Return an event as it was read from a file of a version that did not say policies."""
    written = to_json(event)["data"]
    for name in ("policy", "policies", "settings", "has_rounds"):
        written.pop(name, None)
    return replace(event, data=data_from_json(event.type, written))


# What a log does not say


def test_what_a_hook_has_left_out_of_the_tree_is_left_out() -> None:
    events = log_of([agent("a"), supervisor("s", agent("x"))], Crash("a", at=1.0))
    found = replay(events, [agent("a"), supervisor("s", agent("x"), agent("y")), agent("b")])
    assert found.divergence is None
    assert found.assumptions == ("the log does not name s/y, b: a hook before_start has left that out",)
    more = replay(events, [agent("a"), supervisor("s")]).divergence
    assert str(more).endswith("(a hook before_start may have added s/x: register that too)")


def test_the_seed_of_a_run_is_none_of_the_numbers_of_the_program() -> None:
    def seed() -> int | None:
        random.seed(42)
        return Orchestrator(Orchestrator.Config(run_mode="daemon", control=False)).blueprint().settings.seed

    first, drawn = seed(), random.random()
    assert seed() != first
    random.seed(42)
    assert random.random() == drawn


def test_whoever_uses_too_much_memory_is_recycled_or_parks() -> None:
    fields: dict[str, Any] = {"executor": "process", "max_memory": 100 * MIB, "shutdown": 2.0}
    children = [AgentEntry(Rounds, name, **fields) for name in ("grows", "deaf", "big")]
    tree = VirtualTree(*children, started=False)
    tree.rounds.add("grows")
    tree.memory["big"] = 200 * MIB
    before = noted(tree)
    tree.advance(12)
    tree.memory |= {"grows": 150 * MIB, "deaf": 150 * MIB}
    tree.advance(4)
    tree.memory.clear()
    tree.advance(20)
    assert (tree.state("big"), tree.node("grows").incarnation, tree.node("deaf").incarnation) == ("parked", 2, 2)
    found = replay(before.events(), entry_of(*children))
    assert same(found, before)
    assert [type(one.command) for one in found.commands if type(one.command) is RecycleRun] == [RecycleRun] * 2


def test_what_was_asked_through_the_control_api_may_be_done_after_something_else() -> None:
    tree = VirtualTree(agent("a", shutdown=1.0), agent("b"), started=False)
    tree.manual |= {"a", "b"}
    before = noted(tree)
    tree.ready("a")
    asked = len(before.events())
    tree.ready("b")
    quiet = len(before.events())
    tree.now += 0.01
    tree.stop_agent("a")
    tree.advance(2)
    events = before.events()
    said = events[quiet]
    assert said.data == Command("stop")
    api = replace(said, data=Command("stop", {}, 1000, 7), incarnation=0)
    found = replay(renumbered([*events[:asked], api, *events[asked:quiet], *events[quiet + 1 :]]), entry_of(
        agent("a", shutdown=1.0), agent("b")
    ))  # fmt: skip
    assert same(found, before)
    assert found.why("a").splitlines()[1] == "it was asked for at 0.01 s, event 8: stop a, by uid 1000 (pid 7)"
    assert AskRunToStop in {type(one.command) for one in found.commands}
    assert KillRun in {type(one.command) for one in found.commands}


def test_messages_that_were_dropped_in_a_flood_are_no_hole() -> None:
    tree = VirtualTree(agent("a"), started=False)
    before = noted(tree)
    events = before.events()
    last = events[-1]
    message = replace(
        last, seq=last.seq + 1, type=EventType.AGENT_MESSAGE, path="a", incarnation=1, data=AgentMessage("m", {})
    )
    gap = Event(last.seq + 51, 1.0, 1.0, EventType.EVENT_GAP, "", 0, EventGap(last.seq + 2, last.seq + 51))
    after = replace(message, seq=last.seq + 52, time=2.0, monotonic=2.0)
    failed = Event(last.seq + 53, 2.0, 2.0, EventType.HANDLER_FAILED, "", 0, HandlerFailed("h", "no"))
    found = replay([*events, message, gap, after, failed], entry_of(agent("a")))
    assert found.divergence is None
    assert found.assumptions[0] == "50 messages of agents are missing in the log"
    lost = replace(gap, time=2.0, monotonic=2.0)
    with pytest.raises(SpecError, match=rf"event {gap.seq}: events {last.seq + 2} to {gap.seq} are missing, and with"):
        replay([*events, message, lost, after], entry_of(agent("a")))


# Bad input


def test_what_is_no_log_of_one_run_is_refused_with_the_number_of_the_event() -> None:
    tree = [agent("a")]
    events = log_of(tree, Crash("a", every=1.0), until=10.0)

    def refusal(wrong: Any) -> str:
        with pytest.raises(SpecError) as caught:
            replay(wrong, tree)
        return str(caught.value)

    assert refusal([]) == "events: there are none: a replay needs those of one run, from orchestrator_started on"
    assert refusal(3).startswith("events=3: must be events")
    assert refusal(["x"]) == "events: 'x': must be an Event"
    assert refusal(events[1:]).startswith("event 2: is agent_registered, not orchestrator_started: give all events of")
    assert refusal(events[:4] + events[5:]) == (
        "event 6: events 5 to 5 are missing: give all events of the run, of all paths and types"
    )
    assert refusal([*events, *events]).startswith("event 1: another run begins: give the events of one run")
    assert refusal([*events[:3], replace(events[3], run="other")]).startswith("event 4: another run begins")
    assert refusal(events[:3][::-1]).startswith("event 3: is ")
    assert refusal([*events[:3], events[2]]) == (
        "event 3: comes after event 3: give each event once, in their order"
    )  # fmt: skip


def test_why_of_a_path_that_never_was_is_refused() -> None:
    tree = [agent("worker")]
    found = replay(log_of(tree), tree)
    with pytest.raises(NotFound, match=r"'wroker': no such agent or supervisor in the log \(did you mean 'worker'\?\)"):
        found.why("wroker")


def test_one_that_a_new_watchdog_finds_hung_at_once() -> None:
    tree = VirtualTree(agent("a", shutdown=1.0), started=False)
    before = noted(tree)
    tree.beats["a"] = (0.0, "")
    tree.advance(5)
    tree.reconfigure("a", watchdog=0.5)
    tree.advance(0)
    assert tree.state("a") != "ready" or tree.node("a").incarnation == 2
    tree.advance(3)
    assert same(replay(before.events(), entry_of(agent("a", shutdown=1.0))), before)
