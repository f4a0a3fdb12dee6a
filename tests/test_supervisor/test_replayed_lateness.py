"""Logs of loops that were late: what is due fires later than in the replay, and the log tells in which order."""

from __future__ import annotations

import pytest
from replay_support import Noted, noted
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process, supervisor

from orchestree import Backoff, replay
from orchestree.agents.ends import NORMAL
from orchestree.agents.executor import RunMessage, RunProgress
from orchestree.supervisor.inputs import Effect, Input, LookAtRun, Tick
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.stopping import GRACE_S

pytestmark = pytest.mark.policy

ONCE = Backoff(stop=stop_after_attempt(1))


def soon(seconds: float) -> Backoff:
    return Backoff(wait=wait_fixed(seconds), jitter=0.0)


def tree_of(*children: ChildEntry, manual: str = "") -> tuple[VirtualTree, Noted]:
    tree = VirtualTree(*children, started=False)
    tree.manual |= set(manual.split())
    return tree, noted(tree)


def tick(tree: VirtualTree, now: float) -> None:
    """Have all fire that is due, at `now` and not before."""
    tree.now = now
    tree.tell(Tick())


def crash(tree: VirtualTree, path: str, now: float) -> None:
    tree.now = now
    tree.crash(path)


def check(before: Noted) -> None:
    """Replay the log: the same events, and the same commands in the same order."""
    found = replay(before.events())
    assert found.divergence is None, str(found.divergence)
    assert [one.command for one in found.commands] == [one.command for one in before.commands]


@pytest.mark.parametrize("slow", [1.51, 1.53])
def test_one_that_was_killed_late_is_wedged_late_though_others_are_stopped_before(slow: float) -> None:
    others = [agent("other", backoff=soon(0.52)), agent("slow", start_timeout=slow, shutdown=60.0)]
    tree, before = tree_of(agent("hangs", start_timeout=1.0, shutdown=0.25), *others, manual="hangs slow")
    tick(tree, 1.0)
    crash(tree, "other", 1.0)
    tick(tree, 1.5)
    tick(tree, 1.55)  # the replay's kill was due at 1.25, so that it would be wedged at 1.35
    assert [tree.state(path) for path in ("hangs", "other", "slow")] == ["stopping", "ready", "stopping"]
    tick(tree, 1.5 + GRACE_S)
    assert tree.state("hangs") == "wedged"
    check(before)


@pytest.mark.parametrize("delay", [0.55, 0.65])
def test_one_that_was_killed_late_is_wedged_in_the_order_of_the_log(delay: float) -> None:
    entry = agent("hangs", start_timeout=1.0, shutdown=0.25, backoff=ONCE)
    tree, before = tree_of(entry, agent("other", backoff=soon(delay)), manual="hangs")
    tick(tree, 1.0)
    crash(tree, "other", 1.0)
    tick(tree, 1.5)
    tick(tree, 1.7)  # both are due by then, first the one or first the other
    assert (tree.state("hangs"), tree.state("other")) == ("wedged", "ready")
    check(before)


def test_one_that_is_killed_by_a_tick_that_is_late_is_wedged_when_the_log_says_so() -> None:
    entry = agent("hangs", start_timeout=1.0, shutdown=0.25)
    tree, before = tree_of(entry, agent("other", backoff=soon(0.2)), manual="hangs")
    tick(tree, 1.0)
    crash(tree, "other", 1.0)
    tick(tree, 1.6)  # starts the one, then kills the other
    crash(tree, "other", 1.65)
    tick(tree, 1.6 + GRACE_S)
    assert tree.state("hangs") == "wedged"
    check(before)


def test_what_is_due_after_something_that_was_late_comes_after_it() -> None:
    slow = process("slow", start_timeout=1.0, shutdown=60.0)
    tree, before = tree_of(slow, agent("stops", shutdown=0.5), agent("other"), manual="slow stops")
    tree.ready("stops")
    tree.now = 0.75
    tree.stop_agent("stops")
    crash(tree, "other", 1.3)  # by then a start has taken too long, and a kill is due: both come only now
    tick(tree, 1.31)
    check(before)


@pytest.mark.parametrize("message", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_one_whose_run_ended_meanwhile_starts_in_its_order(first: bool, message: bool) -> None:
    other = agent("other", backoff=soon(0.8 if first else 0.7))
    hangs = agent("hangs", start_timeout=1.0, shutdown=0.0, backoff=soon(0.75))
    tree, before = tree_of(hangs, other, agent("talks"), manual="hangs")
    tick(tree, 1.0)
    tick(tree, 1.0 + GRACE_S)
    assert tree.state("hangs") == "wedged"
    crash(tree, "other", 1.0 + GRACE_S)
    tree.now = 1.5
    tree.end("hangs", NORMAL)
    if message:  # when its delay is over, and the loop has not seen to that yet
        tree.now = 1.99
        tree.tell(RunMessage(tree.run_of("talks"), "alive", {}))
    tick(tree, 2.0)
    assert tree.node("hangs").incarnation == 2
    check(before)


def test_one_whose_run_ended_when_its_delay_was_over_starts_before_what_is_late() -> None:
    hangs = agent("hangs", start_timeout=1.0, shutdown=0.0, backoff=soon(0.75))
    tree, before = tree_of(hangs, agent("other", backoff=soon(0.7)), manual="hangs")
    tick(tree, 1.0)
    tick(tree, 1.0 + GRACE_S)
    crash(tree, "other", 1.0 + GRACE_S)
    tree.now = 2.0
    tree.end("hangs", NORMAL)
    assert (tree.state("hangs"), tree.state("other")) == ("starting", "backoff")
    tick(tree, 2.01)
    check(before)


def test_one_whose_delay_was_over_long_before_its_run_ended_starts_before_what_is_late() -> None:
    hangs = agent("hangs", start_timeout=1.0, shutdown=0.0, backoff=soon(0.25))
    others = [agent("other", backoff=soon(0.5)), agent("sooner", backoff=soon(0.25))]
    tree, before = tree_of(hangs, *others, manual="hangs")
    tick(tree, 1.0)
    tick(tree, 1.0 + GRACE_S)
    crash(tree, "sooner", 1.25)
    tick(tree, 1.5)  # also ends the delay of the one that has not ended
    crash(tree, "other", 1.5)
    tree.now = 2.125
    tree.end("hangs", NORMAL)
    assert (tree.state("hangs"), tree.state("other")) == ("starting", "backoff")
    tick(tree, 2.25)
    check(before)


class SlowToAnswer(VirtualTree):
    """A tree in which looks are answered when the test says so."""

    def _carry_out(self, effect: Effect) -> list[Input]:
        return [] if isinstance(effect, LookAtRun) else super()._carry_out(effect)

    def answer(self, path: str, progress_at: float, now: float) -> None:
        self.now = now
        self.tell(RunProgress(self.run_of(path), progress_at))


@pytest.mark.parametrize("late", [0.03, 0.25, 0.75])
def test_one_is_found_hung_though_the_look_at_it_was_late(late: float) -> None:
    children = [agent("a", watchdog=4.0, shutdown=60.0), agent("other", backoff=soon(1.0))]
    tree = SlowToAnswer(*children, started=False)
    before = noted(tree)
    tree.stubborn.add("a")
    crash(tree, "other", 2.99)
    tick(tree, 4.0 + late)  # the neighbour's start was due at 3.99, the look at 4.0
    tree.answer("a", 0.0, 4.0 + late + 0.01)
    if tree.state("a") == "ready":
        tick(tree, 8.0 + late + 0.25)
        tree.answer("a", 0.0, 8.0 + late + 0.26)
    assert tree.state("a") == "stopping"
    check(before)


def test_a_delay_that_is_over_while_its_run_has_not_ended_holds_up_nothing() -> None:
    tree, before = tree_of(
        supervisor("s", agent("hangs", start_timeout=1.0, shutdown=0.0, backoff=soon(0.25))),
        process("stops", shutdown=0.5),
        agent("other"),
        manual="s/hangs",
    )
    tree.stubborn.add("stops")
    tick(tree, 1.0)
    tick(tree, 1.0 + GRACE_S)
    tree.stop_agent("stops")
    tick(tree, 1.375)
    tick(tree, 1.625)
    crash(tree, "other", 1.7)
    assert tree.state("stops") == "stopped"
    check(before)
