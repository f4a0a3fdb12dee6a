"""What `explain` promises of one agent that fails holds in whatever rhythm it fails."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from explained import SOON, explained, looping, named, root, supervised, warned
from hypothesis import example, given, settings, strategies as st
from tenacity import stop_after_attempt, stop_after_delay, wait_chain, wait_exponential, wait_fixed, wait_random
from virtual import supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.event_types import RestartCause
from orchestree.supervisor.events import AgentRestarting
from orchestree.supervisor.explaining import explain
from orchestree.supervisor.predicting import simulate
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.explained import probing
from orchestree.supervisor.simulation.explained.flapping import Flapping
from orchestree.supervisor.simulation.explained.rhythms import fastest_failures, most_failures
from orchestree.supervisor.simulation.faults import Complete, Crash
from orchestree.supervisor.simulation.pretended_run import Run
from orchestree.supervisor.simulation.run_model import Reports
from orchestree.supervisor.simulation.shown.explanation_text import explanation_lines
from orchestree.supervisor.simulation.simulator import Simulator
from orchestree.supervisor.spec import SupervisorEntry

pytestmark = pytest.mark.policy

ESCALATES = Backoff(stop=stop_after_attempt(2), on_give_up="escalate")


def run_with(tree: SupervisorEntry, path: str, uptimes: Iterable[float]) -> Simulator:
    """Simulate `tree` with an agent that fails so many seconds after each time that it becomes ready."""
    simulator = Simulator(Blueprint(tree, Settings(draw=lambda: math.nextafter(1.0, 0.0))), lambda: 0.0)
    executors, crash, left = simulator.executors, Crash(path, at=0.0), iter(uptimes)

    def on_ready(run: Run) -> None:
        def strike() -> Reports:
            return executors.crash(run, crash)

        if (uptime := next(left, None)) is not None:
            executors.later(executors.now + uptime, strike)

    executors.habits[path].on_ready.append(on_ready)
    simulator.start()
    simulator.advance_to(1e9)
    return simulator


def restarts_a_minute(simulator: Simulator, path: str) -> int:
    """Return how many restarts after a failure of the agent at `path` were decided in the worst 60 seconds."""
    moments = [
        now
        for now, emit in simulator.log
        if emit.path == path and isinstance(emit.data, AgentRestarting) and emit.data.cause is RestartCause.FAILURE
    ]
    return max((sum(0 <= later - first <= 60 for later in moments) for first in moments), default=0)


backoffs = st.one_of(
    st.none(),
    st.builds(
        Backoff,
        wait=st.sampled_from(
            [
                *(Backoff().wait, wait_fixed(0.5), wait_fixed(7), wait_exponential(multiplier=0.1, max=5)),
                wait_chain(wait_fixed(5), wait_fixed(0)),
                lambda state: 1 / (6 - state.attempt_number),
            ]
        ),
        stop=st.sampled_from([None, stop_after_attempt(1), stop_after_attempt(4), stop_after_delay(6)]),
        jitter=st.sampled_from([0.0, 0.25, 1.0]),
        stable_after=st.sampled_from([0.0, 0.5, 1.01, 1.5, 2.5, 4.0, 30.0]),
        on_give_up=st.sampled_from(["park", "escalate"]),
    ),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    backoff=backoffs,
    above=backoffs,
    window=st.sampled_from([(10, 10.0), (3, 2.0), (1, 5.0), (3, 60.0), (100, 60.0), (5, 300.0)]),
    inner=st.sampled_from([None, (2, 4.0), (10, 10.0)]),
    choices=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    odd=st.floats(0.0, 20.0),
)
@example(Backoff(stable_after=1.5, jitter=0.0), None, (10, 10.0), None, [2, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0], 0.0)
@example(Backoff(), None, (10, 10.0), None, [0] * 6 + [2] + [0] * 20, 0.0)
def test_who_cannot_end_the_tree_does_not_and_restarts_stay_within_what_is_said(
    backoff: Backoff | None,
    above: Backoff | None,
    window: tuple[int, float],
    inner: tuple[int, float] | None,
    choices: list[int],
    odd: float,
) -> None:
    flapping = looping("it", backoff=backoff)
    child = supervisor("s", flapping, max_restarts=inner[0], max_seconds=inner[1], backoff=above) if inner else flapping
    tree = root(child, looping("other", backoff=SOON), max_restarts=window[0], max_seconds=window[1])
    path = "s/it" if inner else "it"
    found = explain(tree)
    stable = backoff.stable_after if backoff else 0.0
    possible = (0.0, 0.0, stable, odd, 0.1, min(window[1], 12.0))
    simulator = run_with(tree, path, [possible[choice] for choice in choices])
    fell = simulator.exit_code is not None
    assert not fell or found.supervisors[0].ended_by, choices
    agent = next(one for one in found.agents if one.path == path)
    if agent.restarts.is_bound:
        assert restarts_a_minute(simulator, path) <= agent.restarts.most


@pytest.mark.parametrize("stable_after", [0.5, 1.01, 1.5, 2.0, 2.5, 3.0])
def test_a_burst_each_time_it_counts_as_healthy_again_can_exhaust_a_window(stable_after: float) -> None:
    tree = root(looping("w", backoff=Backoff(jitter=0.0, stable_after=stable_after)))
    found = explain(tree)
    assert found.supervisors[0].ended_by == ("w",)
    assert ("exhaustible-window", "") in named(found)


@pytest.mark.slow
def test_a_window_that_stands_more_failures_than_are_tried_at_once_can_be_exhausted() -> None:
    assert supervised("", looping("it", backoff=None), max_restarts=1000).ended_by == ("it",)
    assert supervised("", looping("it"), max_restarts=1000).ended_by == ()


def test_of_a_window_that_is_too_wide_to_be_tried_out_nothing_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    hasty, patient, escalating = looping("hasty", backoff=None), looping("patient"), looping("e", backoff=ESCALATES)
    wide = {"max_restarts": probing.WIDEST_WINDOW + 1, "max_seconds": 3600.0}
    monkeypatch.setattr(Flapping, "in_bursts", lambda *_: pytest.fail("it was tried out"))
    found = explain(root(hasty, patient, escalating, **wide))
    [top] = found.supervisors
    assert (top.ended_by, top.may_be_ended_by) == (("e",), ("hasty",))
    shown = " ".join(" ".join(explanation_lines(found)).split())
    assert "e can end it alone; hasty may end it alone, as so many restarts were not tried out" in shown
    assert "exhaustible-window" not in [one.name for one in found.warnings]
    inner = supervisor("in", hasty, max_restarts=1_000_000_000, max_seconds=3600.0, backoff=SOON)
    [_, supervised_one] = explain(root(inner)).supervisors
    assert (supervised_one.ended_by, supervised_one.may_be_ended_by) == ((), ("in/hasty",))
    assert not explained("in/hasty", inner).restarts.is_bound


@pytest.mark.slow
def test_the_widest_window_that_is_tried_out_is_known_to_be_exhaustible() -> None:
    top = supervised("", looping("it", backoff=None), max_restarts=probing.WIDEST_WINDOW, max_seconds=60.0)
    assert (top.ended_by, top.may_be_ended_by) == (("it",), ())


@pytest.mark.slow
def test_of_many_wide_windows_only_the_first_are_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST_TRIED", 2000)
    wide = [
        supervisor(name, looping("it", backoff=None), max_restarts=most) for name, most in [("x", 1200), ("y", 1100)]
    ]
    told = {one.path: (one.ended_by, one.may_be_ended_by) for one in explain(root(*wide)).supervisors}
    assert (told["x"], told["y"]) == ((("x/it",), ()), ((), ("y/it",)))


def test_it_names_the_rhythm_that_ends_it() -> None:
    found = warned(explain(looping("w", backoff=Backoff(jitter=0.0, stable_after=2.0))), "exhaustible-window")
    assert found.problem == (
        "w alone ends it by failing in bursts of up to 5, 2s of being ready (its stable_after) between them: "
        "11th failure after 7.25s at the soonest, 10 restarts in 10s allowed"
    )


def test_a_longer_stable_time_is_not_warned_of() -> None:
    found = explain(looping("w", backoff=Backoff(jitter=0.0, stable_after=4.0)))
    assert found.supervisors[0].ended_by == ()
    assert "exhaustible-window" not in [one.name for one in found.warnings]


def test_restarts_a_minute_are_the_most_that_any_rhythm_makes() -> None:
    restarts = explained("it", looping("it", backoff=Backoff())).restarts
    # Six at once (at 0, 0, 0.19, 0.56, 1.3, 2.8 s, then 3 s of delay), 30 s ready, and 9 in the 24.2 s left.
    assert (restarts.most, restarts.is_bound) == (15, True)
    simulator = run_with(root(looping("it", backoff=Backoff())), "it", [0.0] * 6 + [30.0] + [0.0] * 20)
    assert restarts_a_minute(simulator, "it") == 15


def test_a_window_bounds_the_restarts_a_minute_too() -> None:
    def most(max_restarts: int, max_seconds: float) -> int:
        tree = (looping("it", backoff=None),)
        return explained("it", *tree, max_restarts=max_restarts, max_seconds=max_seconds).restarts.most

    assert (most(10, 10.0), most(3, 60.0), most(2, 45.0), most(0, 1.0)) == (60, 3, 4, 0)


def test_of_an_agent_whose_supervisor_comes_back_it_says_only_what_was_tried() -> None:
    restarts = explained("in/it", supervisor("in", looping("it", backoff=None), max_restarts=1, backoff=SOON)).restarts
    assert not restarts.is_bound


def test_whoever_ends_its_supervisor_is_said_to_whatever_the_cause() -> None:
    escalates = looping("it", backoff=Backoff(stop=stop_after_attempt(3), on_give_up="escalate"))
    found = explain(escalates)
    assert (found.supervisors[0].ended_by, named(found)) == (("it",), [])
    significant = looping("it", significant=True, backoff=Backoff(stop=stop_after_attempt(1)))
    inner = supervisor("in", significant, auto_shutdown="any_significant", restart="transient", backoff=SOON)
    assert supervised("in", inner).ended_by == ("in/it",)


def test_a_policy_that_draws_by_itself_is_told_from_one_that_does_not() -> None:
    def is_sample(wait: wait_fixed | wait_random) -> bool:
        return explained(
            "it", looping("it", backoff=Backoff(wait=wait, stop=stop_after_attempt(3)))
        ).fails.longest.is_sample

    assert (is_sample(wait_random(0, 5)), is_sample(wait_fixed(3))) == (True, False)


def test_most_failures_counts_over_bursts() -> None:
    delays = (0.0, 0.25, 0.5, 1.0, 2.0)
    assert most_failures(delays, goes_on=True, stable_after=100.0, within=3.8, enough=50) == 6
    assert most_failures(delays, goes_on=False, stable_after=100.0, within=3.8, enough=50) == 5
    assert most_failures(delays, goes_on=False, stable_after=1.0, within=3.8, enough=50) == 9
    assert most_failures((0.0,), goes_on=True, stable_after=1.0, within=3.0, enough=50) == 50
    assert most_failures((), goes_on=False, stable_after=1.0, within=3.0, enough=50) == 0


def test_the_fastest_failures_are_bursts_with_pauses_between_them() -> None:
    delays = (0.0, 0.25, 0.5, 1.0, 2.0)
    assert fastest_failures(delays, goes_on=True, stable_after=2.0, within=10.0, failures=11) == (3, 3, 5)
    assert fastest_failures(delays, goes_on=True, stable_after=2.0, within=3.0, failures=11) is None
    assert fastest_failures((5.0, 0.0), goes_on=True, stable_after=9.0, within=0.0, failures=3) == (4,)


@pytest.mark.parametrize("uptime", [0.0, 5.0, 40.0])
def test_a_normal_end_of_a_permanent_agent_counts_like_a_failure_so_that_the_worst_rhythm_is_the_same(
    uptime: float,
) -> None:
    tree = root(looping("it", restart="permanent"), max_restarts=4, max_seconds=10)

    def decided(fault: Crash | Complete) -> list[tuple[float, float, int]]:
        events = simulate(tree, [fault], until="10m").events
        said = [(event.monotonic, event.data) for event in events]
        return [(now, data.delay, data.attempt) for now, data in said if isinstance(data, AgentRestarting)]

    restarts = decided(Crash("it", after=uptime))
    assert decided(Complete("it", after=uptime)) == restarts
    assert len(restarts) >= 4
