"""Agents that share an event loop which one of them blocks: who is at fault, who waits, who goes on. Virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from checked import CheckedTree
from stories import LIFE, Story, told
from virtual import VirtualTree, agent

from orchestree.agents.ends import NORMAL, Cause
from orchestree.agents.executor import Blocked, RunId, RunProgress
from orchestree.supervisor.blocking import NO_AGENT
from orchestree.supervisor.events import AgentCrashed, AgentHung, AgentRestarting, AgentWedged, ServiceFailed
from orchestree.supervisor.inputs import Input, KillRun, LookAtRun, Tick
from orchestree.supervisor.status import status_of
from orchestree.supervisor.stopping import GRACE_S
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

OF_HANGS = (*LIFE, "AGENT_HUNG", "AGENT_READY")
A, B = RunId("a", 1), RunId("b", 1)
STACK = 'Current thread 0x1 (most recent call first):\n  File "b.py", line 7 in hog'


class SharedLoop(Story):
    """A tree all of whose agents live on one loop, which a test blocks and frees.

    The answer to a look says who blocks it; the fields of `Story` hold for the rest.
    """

    blocked: Blocked | None = None

    def block(self, by: RunId | None, loop: int | None = 1) -> None:
        """Have `by` block the loop from now on; none of its runs stops or goes on."""
        self.blocked = Blocked(by=by, loop=loop, since=self.now, stack=STACK, doing="hogging")
        for run in self.live:
            self.stubborn.add(run.path)
            self.beats[run.path] = (self.now, "")

    def free(self) -> None:
        """Have the loop turn again; nobody has made any progress yet."""
        self.blocked = None
        self.stubborn.clear()
        beats = self.beats.copy()
        self.beats.clear()
        for run in list(self.live):
            beat = beats[run.path]
            self.tell(RunProgress(run, beat[0] if beat else self.now))

    def seen(self, loop: int = 1) -> None:
        """Have all runs told what was seen, as happens when the loop is first found blocked."""
        for run in list(self.live):
            self.tell(RunProgress(run, self.beats[run.path][0], "", self.blocked))  # type: ignore[index]

    def _carry_out(self, effect: object) -> list[Input]:
        if isinstance(effect, LookAtRun) and self.blocked is not None:
            beat = self.beats[effect.run.path]
            assert beat is not None
            return [RunProgress(effect.run, beat[0], beat[1], self.blocked)]
        return super()._carry_out(effect)  # type: ignore[arg-type]


def waits_for(tree: VirtualTree, path: str) -> tuple[str, ...]:
    return status_of(tree.node(path), tree.now).waiting_for


def a_blocked_loop(by: RunId | None = B, loop: int | None = 1, **fields: object) -> SharedLoop:
    """Return a tree of ``a``, watched, and ``b``, both with these fields; what `by` says blocks their loop from 0."""
    tree = SharedLoop(agent("a", watchdog=10.0, **fields), agent("b", shutdown=2.0, **fields))
    tree.block(by, loop)
    tree.forget()
    return tree


def test_one_that_is_silent_because_another_blocks_the_loop_is_not_hung_and_its_status_says_for_whom_it_waits() -> None:
    tree = a_blocked_loop()
    tree.advance(10.0 - 1e-9)
    assert waits_for(tree, "a") == ()
    tree.block(B)
    tree.beats["a"] = (0.0, "")
    tree.advance(1.0)
    assert (tree.state("a"), waits_for(tree, "a"), waits_for(tree, "b")) == ("ready", ("b",), ())
    assert told(tree) == []


def test_whoever_blocks_the_loop_for_a_whole_watchdog_of_another_is_hung_and_given_up_on() -> None:
    tree = a_blocked_loop()
    tree.advance(10.0)
    assert told(tree, *OF_HANGS) == ["10 HUNG b", "10 STOPPING b"]
    assert tree.events("AGENT_HUNG") == [(10.0, AgentHung(10.0, "hogging", 10.0, STACK))]
    tree.advance(2.0 + GRACE_S)
    assert told(tree, *OF_HANGS)[2:] == ["12.1 WEDGED b", "12.1 CRASHED b", "12.1 RESTARTING b"]
    ((_, data),) = tree.events("AGENT_CRASHED")
    assert isinstance(data, AgentCrashed)
    assert (data.report.cause, data.report.stacks) == (Cause.WATCHDOG, STACK)
    assert data.report.message == "blocks its event loop for 10 s (watchdog 10 s of a)"
    assert tree.states() == {"a": "ready", "b": "wedged"}


def test_a_block_that_was_seen_late_lasts_a_whole_watchdog_before_it_is_anyones_fault() -> None:
    tree = a_blocked_loop()
    tree.advance(9.0)
    tree.blocked = replace(tree.blocked, since=10.0)  # type: ignore[type-var]
    tree.advance(10.0)
    assert told(tree) == []
    tree.advance(1.0)
    assert told(tree, "AGENT_HUNG") == ["20 HUNG b"]


def test_one_that_blocks_the_loop_when_its_own_watchdog_looks_is_hung_at_once_with_the_stack() -> None:
    tree = SharedLoop(agent("a"), agent("b", watchdog=4.0))
    tree.block(B)
    tree.forget()
    tree.advance(4.0)
    assert tree.events("AGENT_HUNG", "b") == [(4.0, AgentHung(4.0, "", 4.0, STACK))]
    assert tree.node("b").failure == "no progress for 4 s (watchdog 4 s), blocks its event loop"  # type: ignore[union-attr]


def test_a_blocker_that_ends_when_it_is_asked_is_a_crash_and_the_other_goes_on() -> None:
    tree = a_blocked_loop()
    tree.advance(11.0)
    tree.free()
    tree.end("b", NORMAL)
    assert told(tree, *OF_HANGS)[2:] == ["11 CRASHED b", "11 RESTARTING b", "11 STARTING b", "11 READY b"]
    assert (tree.state("a"), tree.node("a").incarnation, waits_for(tree, "a")) == ("ready", 1, ())


def test_one_that_was_held_up_has_its_whole_time_again_when_the_loop_turns() -> None:
    tree = a_blocked_loop()
    tree.advance(9.0)
    tree.blocked = replace(tree.blocked, since=9.0)  # type: ignore[type-var]
    tree.advance(6.0)
    tree.free()
    tree.beats["a"] = (0.0, "")
    tree.advance(9.9)
    assert told(tree) == []
    tree.advance(0.1)
    assert told(tree, "AGENT_HUNG") == ["25 HUNG a"]


def test_a_short_block_that_others_noticed_only_puts_off_what_its_own_watchdog_finds() -> None:
    tree = a_blocked_loop()
    tree.advance(2.0)
    tree.seen()
    assert waits_for(tree, "a") == ("b",)
    tree.advance(3.0)
    tree.free()
    tree.beats["a"] = (0.0, "")
    tree.advance(7.9)
    assert told(tree) == []
    tree.advance(0.1)
    assert told(tree, "AGENT_HUNG") == ["13 HUNG a"]


def test_the_time_in_which_supervision_stood_still_does_not_count_against_the_blocker_once() -> None:
    tree = a_blocked_loop()
    tree.now = 15.0
    tree.tell(Tick())
    assert told(tree) == []
    tree.advance(10.0)
    assert told(tree, "AGENT_HUNG") == ["25 HUNG b"]


def test_those_that_may_be_replaced_start_again_when_the_blocker_is_wedged_and_the_others_wait() -> None:
    tree = SharedLoop(
        agent("a", watchdog=10.0, replace_wedged=True), agent("b", shutdown=2.0, replace_wedged=True), agent("c")
    )
    tree.block(B)
    tree.forget()
    tree.seen()
    tree.advance(12.0)
    tree.stubborn.clear()
    tree.advance(GRACE_S)
    assert told(tree, *OF_HANGS)[2:] == [
        "12.1 WEDGED b", "12.1 WEDGED a", "12.1 CRASHED b", "12.1 RESTARTING b", "12.1 RESTARTING a",
        "12.1 STARTING b", "12.1 STARTING a", "12.1 READY b", "12.1 READY a",
    ]  # fmt: skip
    assert (tree.state("c"), waits_for(tree, "c"), tree.node("c").incarnation) == ("ready", ("b",), 1)
    assert KillRun(A) in tree.effects
    assert tree.core.world.abandoned == {A, B}
    ((_, wedged),) = tree.events("AGENT_WEDGED", "a")
    ((_, again),) = tree.events("AGENT_RESTARTING", "a")
    assert isinstance(wedged, AgentWedged)
    assert isinstance(again, AgentRestarting)
    assert (wedged.cause, again.cause, again.delay, again.attempt) == ("blocked", "blocked", 0.0, 0)
    assert tree.core.world.root.window.count(tree.now) == 1
    assert waits_for(tree, "a") == ()


@pytest.mark.parametrize("fields", [{}, {"replace_wedged": True, "restart": "temporary"}])
def test_one_that_may_not_be_replaced_or_never_comes_back_waits_for_its_loop(fields: dict[str, Any]) -> None:
    tree = a_blocked_loop(**fields)
    tree.advance(100.0)
    assert (tree.state("a"), tree.node("a").incarnation) == ("ready", 1)
    tree.free()
    assert (tree.state("a"), waits_for(tree, "a")) == ("ready", ())


def test_one_that_is_found_held_up_by_a_wedged_one_only_later_starts_again_as_well() -> None:
    tree = a_blocked_loop(replace_wedged=True)
    tree.stop_agent("b")
    tree.advance(2.0 + GRACE_S)
    assert tree.states() == {"a": "ready", "b": "wedged"}
    tree.forget()
    tree.advance(10.0 - tree.now)
    assert told(tree, *OF_HANGS) == ["10 WEDGED a", "10 RESTARTING a", "10 STARTING a", "10 READY a"]


def test_the_loop_of_the_program_has_no_replacement_so_that_those_on_it_wait() -> None:
    tree = a_blocked_loop(loop=None, replace_wedged=True)
    tree.advance(50.0)
    assert told(tree, "AGENT_WEDGED") == ["12.1 WEDGED b"]
    assert tree.node("a").incarnation == 1


def test_a_block_that_is_no_agents_is_told_once_with_the_stack_and_replaceable_ones_go_on() -> None:
    tree = SharedLoop(agent("a", watchdog=10.0), agent("b", watchdog=10.0), agent("c", replace_wedged=True))
    tree.block(None)
    tree.forget()
    tree.seen()
    assert [waits_for(tree, path) for path in "abc"] == [(NO_AGENT,)] * 3
    tree.advance(35.0)
    ((now, data),) = tree.events("SERVICE_FAILED")
    assert isinstance(data, ServiceFailed)
    assert (now, data.error) == (10.0, f"blocked for 10 s by what is no agent\n{STACK}")
    assert told(tree, "AGENT_HUNG", "AGENT_CRASHED", "AGENT_WEDGED") == ["10 WEDGED c"]
    assert tree.incarnations() == {"a": 1, "b": 1, "c": 2}


def test_one_that_blocks_the_loop_in_its_setup_has_failed_there() -> None:
    tree = SharedLoop(agent("a", watchdog=10.0), agent("b", shutdown=1.0, restart="temporary"), started=False)
    tree.manual.add("b")
    tree.start()
    tree.block(B)
    tree.advance(11.0 + GRACE_S)
    ((_, data),) = tree.events("AGENT_CRASHED", "b")
    assert isinstance(data, AgentCrashed)
    assert (data.report.cause, data.report.phase, data.report.stacks) == (Cause.WATCHDOG, "setup", STACK)


def test_one_that_another_keeps_from_starting_is_not_given_up_on_and_may_be_replaced_as_well() -> None:
    fields: dict[str, Any] = {"start_timeout": 3.0, "shutdown": 1.0}
    tree = SharedLoop(
        agent("w", watchdog=10.0),
        agent("a", **fields),
        agent("b", **fields),
        agent("c", replace_wedged=True, **fields),
        started=False,
    )
    tree.manual |= {"a", "b", "c"}
    tree.start()
    tree.ready("b")
    tree.block(B)
    tree.seen()
    tree.forget()
    tree.advance(9.0)
    assert tree.states() == {"w": "ready", "a": "starting", "b": "ready", "c": "starting"}
    tree.advance(1.0 + 1.0 + GRACE_S)
    assert told(tree, "AGENT_HUNG", "AGENT_WEDGED", "AGENT_STARTING") == [
        "10 HUNG b", "11.1 WEDGED b", "11.1 WEDGED c", "11.1 STARTING c",
    ]  # fmt: skip
    assert (tree.state("a"), waits_for(tree, "a")) == ("starting", ("b",))
    tree.free()
    tree.advance(0.8)
    assert tree.state("a") == "starting"
    tree.advance(0.1)
    assert tree.state("a") == "stopping"


def test_another_agent_is_named_by_its_path_if_it_is_no_sibling() -> None:
    tree = SharedLoop(agent("a", watchdog=10.0))
    tree.block(RunId("deep/down", 1))
    tree.seen()
    assert waits_for(tree, "a") == ("deep/down",)


def test_a_left_behind_run_keeps_its_slot_until_it_has_ended() -> None:
    tree = CheckedTree(agent("a", watchdog=10.0, replace_wedged=True), settings=Settings(max_workers=1), started=True)
    tree.stubborn.add("a")
    for moment in (10.0, 20.0):
        tree.beats["a"] = None
        tree.advance(moment - tree.now)
        tree.tell(RunProgress(A, 0.0, "", Blocked(by=None, loop=1, since=0.0)))
    assert tree.state("a") == "queued"
    tree.tell(tree._end(A, NORMAL))
    assert (tree.state("a"), tree.node("a").incarnation) == ("ready", 2)
