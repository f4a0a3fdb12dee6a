"""Whatever a tree looks like and whatever happens to it: the core keeps every promise that the event log can show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Final, TypeVar

import pytest
from checked import CheckedTree
from core_machine import CoreLab
from core_policies import POLICIES, Policy
from core_trees import BACKOFFS, HABITS, RESTARTS, STRATEGIES, WINDOWS, Newcomer, Plan, changes, newcomers, plans
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from virtual import VirtualTree, agent, supervisor

from orchestree.agents.ends import IGNORED, NORMAL, SHUTDOWN, Cause, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunReady
from orchestree.strategies.restart import RestartName, StrategyName
from orchestree.supervisor.inputs import (
    Reconfigure,
    RegisterChild,
    RestartChild,
    StartChild,
    StopChild,
    StopTree,
    UnregisterChild,
)
from orchestree.supervisor.reconfiguring import AGENT_POLICY, ROOT_POLICY, SUPERVISOR_POLICY
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

T = TypeVar("T")

ENDS: Final[tuple[tuple[ExitReason, dict[str, object]], ...]] = (
    (abnormal(Cause.EXCEPTION), {}),
    (NORMAL, {}),
    (IGNORED, {}),
    (SHUTDOWN, {}),
    (abnormal(Cause.SIGNAL), {"signal": "SIGSEGV"}),
    (abnormal(Cause.OOM), {}),
    (abnormal(Cause.EXIT), {"exit_code": 78}),
    (abnormal(Cause.EXIT), {"exit_code": 75}),
)
STEPS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 0.0, 0.09999, 10.0, 40.0)
TINY: Final = 2.0**-10
A_TENTH: Final = settings(max_examples=max(60, settings().max_examples // 10))  # of what the machine gets
WHICH: Final = st.integers(0, 99)


def pick(items: Sequence[T], number: int) -> T:
    """Return the item that a drawn number stands for."""
    return items[number % len(items)]


class CoreMachine(RuleBasedStateMachine):
    """Random trees, random inputs. Every check is made by `CoreLab`, after every decision."""

    lab: CoreLab

    @initialize(plan=plans(), stopped_first=st.integers(0, 30))
    def start(self, plan: Plan, stopped_first: int) -> None:
        self.lab = CoreLab(plan)
        if stopped_first == 30:
            self.lab.do(StopTree())
        self.lab.start()

    def path(self, which: int) -> str:
        return pick(sorted(self.lab.ledger.children), which)

    def has_runs(self) -> bool:
        return bool(self.lab.live)

    def is_running(self) -> bool:
        return self.lab.exit_code is None

    @precondition(has_runs)
    @rule(which=WHICH)
    def becomes_ready(self, which: int) -> None:
        self.lab.do(RunReady(pick(list(self.lab.live), which)))

    @precondition(has_runs)
    @rule(which=WHICH, end=st.sampled_from(ENDS))
    def ends(self, which: int, end: tuple[ExitReason, dict[str, object]]) -> None:
        reason, fields = end
        self.lab.end_run(pick(list(self.lab.live), which), reason, **fields)  # type: ignore[arg-type]

    @precondition(has_runs)
    @rule(which=WHICH)
    def crashes(self, which: int) -> None:
        self.lab.end_run(pick(list(self.lab.live), which), abnormal(Cause.EXCEPTION))

    @precondition(has_runs)
    @rule(which=WHICH, times=st.integers(2, 6))
    def crashes_again_and_again(self, which: int, times: int) -> None:
        path = pick(list(self.lab.live), which).path
        for _ in range(times):
            runs = [run for run in self.lab.live if run.path == path]
            deadline = self.lab.core.next_deadline()
            if runs:
                self.lab.end_run(runs[-1], abnormal(Cause.EXCEPTION))
            elif deadline is not None:
                self.lab.pass_time(max(0.0, deadline - self.lab.now))

    @precondition(has_runs)
    @rule(which=WHICH, seconds=st.sampled_from((0.0, 0.25)), backwards=st.booleans())
    def siblings_crash_one_after_the_other(self, which: int, seconds: float, backwards: bool) -> None:
        child = pick(list(self.lab.ledger.living.values()), which)
        assert child.parent is not None
        for sibling in child.parent.sequence[:: -1 if backwards else 1]:
            runs = [run for run, owner in self.lab.ledger.living.items() if owner is sibling]
            if runs and sibling.phase != "stopping":
                self.lab.end_run(runs[-1], abnormal(Cause.EXCEPTION))
                self.lab.pass_time(seconds)

    @precondition(has_runs)
    @rule(which=WHICH)
    def fails_to_start(self, which: int) -> None:
        runs = [run for run, child in self.lab.ledger.living.items() if child.phase == "starting"]
        if runs:
            self.lab.end_run(pick(runs, which), abnormal(Cause.START_FAILED), phase="setup")

    @rule(which=WHICH, incarnation=st.integers(0, 3), is_end=st.booleans())
    def reports_too_late(self, which: int, incarnation: int, is_end: bool) -> None:
        past = self.lab.ledger.past[-10:]
        run = pick(past, which) if past else RunId(self.path(which), incarnation)
        if run not in self.lab.live:
            self.lab.do(RunEnded(run=run, reason=abnormal(Cause.LOST)) if is_end else RunReady(run))

    @rule(which=WHICH, habit=st.sampled_from(HABITS))
    def behaves(self, which: int, habit: str) -> None:
        self.lab.say(f"{self.path(which)} will be {habit}")
        self.lab.behave(self.path(which), habit)

    @rule(seconds=st.sampled_from(STEPS))
    def time_passes(self, seconds: float) -> None:
        self.lab.pass_time(seconds)

    @rule(early=st.sampled_from((0.0, 0.0, TINY)))
    def next_deadline_comes(self, early: float) -> None:
        deadline = self.lab.core.next_deadline()
        if deadline is not None:
            self.lab.pass_time(max(0.0, deadline - self.lab.now - early))

    @rule(seconds=st.sampled_from((TINY, 1.0)))
    def supervision_is_late(self, seconds: float) -> None:
        """The clock goes on, and something else is told before the deadlines that are due by now."""
        self.lab.say(f"{seconds:g} s pass, unnoticed")
        self.lab.now += seconds

    @rule(which=WHICH, oldest=st.integers(0, 3), beyond=st.sampled_from((0.0, TINY)))
    def crashes_at_the_edge_of_the_window(self, which: int, oldest: int, beyond: float) -> None:
        families = [s for s in self.lab.ledger.supervisors() if s.stamps]
        if not families:
            return
        family = pick(families, which)
        stamp = pick(family.stamps[::-1], oldest)
        edge = stamp + family.entry.max_seconds + beyond  # type: ignore[union-attr]
        if edge >= self.lab.now:
            self.lab.pass_time(edge - self.lab.now)
        runs = [run for run, child in self.lab.ledger.living.items() if child.parent is family]
        if runs:
            self.lab.end_run(pick(runs, which), abnormal(Cause.EXCEPTION))

    @precondition(is_running)
    @rule(which=WHICH, operation=st.sampled_from((StopChild, StartChild, RestartChild, StartChild, UnregisterChild)))
    def is_operated(self, which: int, operation: Callable[[str], StartChild]) -> None:
        self.lab.do(operation(self.path(which)))

    @precondition(is_running)
    @rule(
        which=WHICH,
        newcomer=newcomers(),
        fits=st.sampled_from((True, True, True, False)),
        must_start=st.booleans(),
        habit=st.sampled_from(HABITS),
    )
    def is_registered(self, which: int, newcomer: Newcomer, fits: bool, must_start: bool, habit: str) -> None:
        supervisors = self.lab.ledger.supervisors() if fits else list(self.lab.ledger.children.values())
        parent = pick(supervisors, which)
        entry = newcomer.entry
        if fits:
            siblings = [child.name for child in parent.sequence] + [*parent.departed]
            auto = getattr(parent.entry, "auto_shutdown", "never")
            entry = newcomer.among(siblings, significant=auto != "never", in_pool=parent.is_dynamic)
            must_start = must_start or parent.is_dynamic
        self.registers(RegisterChild(parent.path, entry, must_start), habit)

    def registers(self, told: RegisterChild, habit: str) -> None:
        path = self.lab.ledger.path_of(told)
        if path not in self.lab.ledger.children:
            self.lab.say(f"{path} will be {habit}")
            self.lab.behave(path, habit)
        self.lab.do(told)

    @precondition(is_running)
    @rule(which=WHICH, fields=changes(), fits=st.sampled_from((True, True, True, False)))
    def is_reconfigured(self, which: int, fields: dict[str, object], fits: bool) -> None:
        child = self.lab.ledger.children[self.path(which)]
        known = AGENT_POLICY if child.is_agent else SUPERVISOR_POLICY if child.path else ROOT_POLICY
        suitable = {name: value for name, value in fields.items() if name in known or not fits}
        if suitable:
            self.lab.do(Reconfigure(child.path, suitable))

    @precondition(is_running)
    @rule(which=WHICH, policy=st.sampled_from(BACKOFFS))
    def gets_another_delay(self, which: int, policy: object) -> None:
        waiting = [child.path for child in self.lab.ledger.children.values() if child.phase == "backoff"]
        if waiting:
            self.lab.do(Reconfigure(pick(waiting, which), {"backoff": policy}))

    @precondition(is_running)
    @rule(which=WHICH, some=st.lists(newcomers(), min_size=1, max_size=3), habit=st.sampled_from(HABITS))
    def join_a_pool(self, which: int, some: list[Newcomer], habit: str) -> None:
        pools = [child for child in self.lab.ledger.supervisors() if child.is_dynamic]
        for newcomer in some if pools else ():
            if self.is_running():
                entry = newcomer.among((), significant=False, in_pool=True)
                self.registers(RegisterChild(pick(pools, which).path, entry, must_start=True), habit)

    @rule(timeout=st.sampled_from((None, None, 1.0, 0.0)), early=st.integers(0, 9))
    @precondition(is_running)
    def begins_to_stop(self, timeout: float | None, early: int) -> None:
        if early == 9:
            self.lab.do(StopTree(timeout_s=timeout))

    def teardown(self) -> None:
        """Everything comes to rest as it was asked for; then the tree is stopped and nothing is left."""
        if not hasattr(self, "lab") or self.lab.has_failed:
            return
        self.lab.rest()
        self.lab.check_rest()
        self.lab.stop_all(None)
        self.lab.check_replay()


def test_a_few_random_trees_that_are_always_the_same_keep_the_promises_of_the_core() -> None:
    """For when the tests have to be quick and to say the same each time."""
    few = settings(max_examples=6, stateful_step_count=25, derandomize=True, database=None, phases=[Phase.generate])
    run_state_machine_as_test(CoreMachine, settings=few)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)  # the profile `deep` takes its time
def test_whatever_happens_the_event_log_shows_that_the_core_keeps_its_promises() -> None:
    # Said aloud, or Hypothesis takes those of the test before. That the computer is busy is no fault of a tree.
    many = settings(suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(CoreMachine, settings=many)


GIVES_UP: Final = tuple(policy for policy in POLICIES if policy.backoff is None or policy.backoff.stop is not None)


@A_TENTH
@given(
    policy=st.sampled_from(GIVES_UP),
    restart=st.sampled_from(RESTARTS),
    strategy=st.sampled_from(STRATEGIES),
    window=st.sampled_from(WINDOWS),
    lifetime=st.sampled_from((None, 0.0, 0.25)),
)
def test_a_child_that_always_fails_is_given_up_on_if_its_policy_has_an_end(
    policy: Policy, restart: RestartName, strategy: StrategyName, window: tuple[int, float], lifetime: float | None
) -> None:
    max_restarts, max_seconds = window
    tree = CheckedTree(
        agent("before"),
        agent("x", backoff=policy.backoff, restart=restart),
        agent("behind", depends_on=["x"]),
        strategy=strategy,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        started=False,
    )
    if lifetime is None:
        tree.failing.add("x")
    tree.start()
    for _ in range(100):
        if tree.events("AGENT_PARKED") or tree.events("SUPERVISOR_TERMINATED") or "x" not in tree.states():
            return
        if lifetime is not None and tree.state("x") == "ready":
            tree.advance(lifetime)
            tree.crash("x")
        else:
            tree.advance((tree.core.next_deadline() or tree.now) - tree.now)
    raise AssertionError("it is tried for ever")


@pytest.mark.slow
@A_TENTH
@given(allowed=st.lists(st.integers(0, 3), min_size=1, max_size=4), strategy=st.sampled_from(STRATEGIES))
def test_escalation_ends_at_the_root_after_as_many_starts_as_all_windows_together_allow(
    allowed: list[int], strategy: str
) -> None:
    entry: ChildEntry = agent("x", backoff=None)
    for number, max_restarts in enumerate(allowed[1:]):
        entry = supervisor(f"s{number}", entry, agent("y"), max_restarts=max_restarts, strategy=strategy, backoff=None)
    tree = CheckedTree(entry, started=False, max_restarts=allowed[0], strategy=strategy)
    path = "/".join([*(f"s{number}" for number in reversed(range(len(allowed) - 1))), "x"])
    tree.failing.add(path)
    tree.start()
    assert tree.exit_code == 70
    assert len(tree.events("AGENT_STARTING", path)) == math.prod(max_restarts + 1 for max_restarts in allowed)


@A_TENTH
@given(
    lifetimes=st.lists(st.sampled_from((0.0, 0.0, 0.0, 0.01, 0.5, 5.0, 29.99, 30.0, 100.0)), min_size=8, max_size=20),
    draws=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=8),
    fails_to_start=st.booleans(),
)
def test_with_the_defaults_one_flapping_agent_alone_sets_at_most_seven_stamps_in_any_ten_seconds(
    lifetimes: list[float], draws: list[float], fails_to_start: bool
) -> None:
    tree = VirtualTree(agent("x"), settings=Settings(draw=cycle(draws).__next__), started=False)
    if fails_to_start:
        tree.failing.add("x")
    tree.start()
    for lifetime in lifetimes:
        if tree.state("x") == "ready":
            tree.advance(lifetime)
            tree.crash("x")
        tree.advance((tree.core.next_deadline() or tree.now) - tree.now)
    stamps = [now for now, _ in tree.events("AGENT_RESTARTING", "x")]
    assert len(stamps) >= len(lifetimes) - 1
    assert max(sum(start <= stamp <= start + 10.0 for stamp in stamps) for start in stamps) <= 7
