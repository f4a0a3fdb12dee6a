"""What `explain` says about the failures of one child: exact numbers, all of which a simulation shows."""

from __future__ import annotations

import pytest
from explained import SOON, Round, explained, looping, root, supervised, when
from tenacity import RetryCallState, stop_after_attempt, stop_after_delay, wait_exponential, wait_fixed
from virtual import process, supervisor

from orchestree.agents.ends import NORMAL, CrashReport, ExitReason
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import NotFound, SpecError
from orchestree.strategies.rules import Rule
from orchestree.supervisor.explaining import explain
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.simulation.explained.courses import Course
from orchestree.supervisor.simulation.explained.flapping import MOST_FAILURES
from orchestree.supervisor.spec import SupervisorEntry

pytestmark = pytest.mark.policy

DEFAULT_DELAYS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def courses(*, backoff: Backoff | None, **fields: object) -> tuple[Course, Course]:
    """Return what happens to an agent with the longest and with the shortest delays."""
    found = explained("it", looping("it", backoff=backoff, **fields)).fails
    return found.longest, found.shortest


def test_with_the_default_backoff_it_never_parks_and_never_ends_its_supervisor() -> None:
    longest, shortest = courses(backoff=Backoff())
    assert longest.delays_s == DEFAULT_DELAYS
    assert shortest.delays_s == pytest.approx([0.75 * delay for delay in DEFAULT_DELAYS])
    assert (longest.largest_delay_s, longest.parked, longest.supervisor_ends, longest.goes_on) == (
        30.0,
        None,
        None,
        True,
    )
    assert longest.failures == shortest.failures == 64  # the last 50 of them with one delay
    assert longest.lasted_s == sum(DEFAULT_DELAYS) + 55 * 30


@pytest.mark.slow
def test_delays_that_change_late_are_looked_at_up_to_the_most_failures() -> None:
    longest = courses(backoff=Backoff(wait=lambda state: float(state.attempt_number), jitter=0.0))[0]
    assert (longest.failures, longest.largest_delay_s) == (MOST_FAILURES, MOST_FAILURES)


def test_the_restarts_a_minute_of_a_course_are_counted_with_its_delays() -> None:
    longest, shortest = courses(backoff=Backoff())
    # Shortest: at 0, 0, 0.19, 0.56, 1.3, 2.8, 5.8, 11.8, 23.8 and 46.3 s; the next one comes at 68.8.
    assert (longest.restarts_per_minute, shortest.restarts_per_minute) == (9, 10)
    fixed = courses(backoff=Backoff(wait=wait_fixed(6), jitter=0.5))
    assert [course.restarts_per_minute for course in fixed] == [11, 21]


def test_stop_after_five_attempts_parks_at_the_fifth_failure() -> None:
    longest, shortest = courses(backoff=Backoff(stop=stop_after_attempt(5)))
    assert longest.delays_s == DEFAULT_DELAYS[:4]
    assert when(longest.parked) == (5, 1.75)
    assert when(shortest.parked) == (5, pytest.approx(0.75 * 1.75))
    assert longest.parked is not None
    assert (longest.parked.path, longest.parked.why) == ("it", "failed 5 times in a row")
    assert not longest.goes_on


def test_a_stop_by_time_parks_at_a_failure_that_depends_on_the_jitter() -> None:
    longest, shortest = courses(backoff=Backoff(stop=stop_after_delay(3.2)))
    assert (when(longest.parked), when(shortest.parked)) == ((6, 3.75), (7, pytest.approx(5.8125)))


def test_a_fixed_wait_and_an_exponential_one_show_their_own_delays() -> None:
    assert courses(backoff=Backoff(wait=wait_fixed(3), jitter=0.0))[1].delays_s == (3.0,) * 8
    exponential = courses(backoff=Backoff(wait=wait_exponential(multiplier=2, max=50)))[0]
    assert (exponential.delays_s, exponential.largest_delay_s) == ((2, 4, 8, 16, 32, 50, 50, 50), 50)


def test_without_a_backoff_it_exhausts_the_window_at_once() -> None:
    longest, shortest = courses(backoff=None)
    assert longest == shortest
    assert longest.delays_s == (0.0,) * 8
    assert when(longest.supervisor_ends) == when(longest.tree_ends) == (11, 0.0)
    assert longest.supervisor_ends is not None
    assert (longest.supervisor_ends.path, longest.supervisor_ends.why) == ("", "max_restarts")


def test_escalating_ends_the_supervisor_instead_of_parking() -> None:
    backoff = Backoff(stop=stop_after_attempt(3), on_give_up="escalate")
    longest = courses(backoff=backoff)[0]
    assert longest.parked is None
    assert when(longest.supervisor_ends) == (3, 0.25)
    assert longest.supervisor_ends is not None
    assert longest.supervisor_ends.why == "escalated"


def test_a_rule_for_setup_makes_the_failures_there_another_matter() -> None:
    backoff = Backoff(rules=(Rule(action="park", phase="setup"),))
    agent = explained("it", looping("it", backoff=backoff))
    assert agent.fails.longest.goes_on
    assert agent.fails_in_setup is not None
    assert when(agent.fails_in_setup.longest.parked) == (1, 0.0)
    assert agent.policy.rules == ("phase setup: parks",)
    assert explained("it", looping("it")).fails_in_setup is None


def test_without_a_stable_time_only_failures_in_setup_add_up() -> None:
    agent = explained("it", looping("it", backoff=Backoff(stable_after=0.0, stop=stop_after_attempt(3))))
    assert when(agent.fails.longest.supervisor_ends) == (11, 0.0)
    assert agent.fails_in_setup is not None
    assert when(agent.fails_in_setup.longest.parked) == (3, 0.25)


def raising(state: RetryCallState) -> float:
    raise KeyError(state.attempt_number)


def test_a_broken_policy_is_shown_as_what_the_core_does_with_it() -> None:
    for wait, why in (
        (raising, "its backoff policy raised KeyError: 1"),
        (lambda _: float("nan"), "its backoff policy raised ValueError: wait answered nan"),
    ):
        longest = courses(backoff=Backoff(wait=wait))[0]
        assert when(longest.parked) == (1, 0.0)
        assert longest.parked is not None
        assert longest.parked.why == why
    assert courses(backoff=Backoff(wait=lambda _: -5.0, stop=stop_after_attempt(2)))[0].delays_s == (0.0,)
    breaks_late = Backoff(wait=lambda state: 1 / (3 - state.attempt_number), jitter=0.0)
    assert when(courses(backoff=breaks_late)[0].parked) == (3, 1.5)


def test_a_temporary_agent_does_not_come_back() -> None:
    longest = courses(backoff=Backoff(), restart="temporary")[0]
    assert (longest.delays_s, longest.not_restarted, longest.goes_on, longest.failures) == ((), True, False, 1)


@pytest.mark.slow
def test_of_nested_supervisors_it_says_which_one_ends_first_and_when_the_tree_does() -> None:
    tree = (
        supervisor("a", supervisor("b", looping("it", backoff=None), max_restarts=1, backoff=None), max_restarts=2),
    )
    course = explained("a/b/it", *tree).fails.longest
    assert course.supervisor_ends is not None
    assert (course.supervisor_ends.path, when(course.supervisor_ends)) == ("a/b", (2, 0.0))
    # `b` ends with each 2nd failure, `a` with each 3rd end of `b`; its own delays let the root go on.
    assert (course.tree_ends, course.goes_on) == (None, True)
    assert when(explained("a/b/it", *tree, max_restarts=0).fails.longest.tree_ends) == (6, 0.0)


def test_a_supervisor_gives_up_again_and_again_as_a_child_of_its_own_parent() -> None:
    inner = supervisor("inner", looping("it"), backoff=Backoff(stop=stop_after_attempt(4)))
    found = supervised("inner", inner)
    assert found.gives_up is not None
    assert found.gives_up.longest.delays_s == DEFAULT_DELAYS[:3]
    assert when(found.gives_up.longest.parked) == (4, 0.75)
    assert supervised("", inner).gives_up is None
    ended = supervised("inner", supervisor("inner", restart="temporary")).gives_up
    assert ended is not None
    assert (ended.longest.not_restarted, ended.longest.failures) == (True, 1)


def test_a_dynamic_supervisor_has_a_policy_and_no_children() -> None:
    found = supervised("pool", SupervisorEntry("pool", dynamic=True), looping("it"))
    assert (found.dynamic, found.children, found.agents, found.ended_by) == (True, 0, 0, ())
    assert (found.all_fail, found.all_stay_down) == (None, None)
    assert found.gives_up is not None
    assert found.gives_up.longest.delays_s == DEFAULT_DELAYS


def test_it_says_whether_one_child_alone_ends_its_supervisor() -> None:
    tree = (looping("hasty", backoff=None), looping("patient"))
    assert supervised("", *tree).ended_by == ("hasty",)
    assert supervised("", *tree, max_restarts=3).ended_by == ("hasty", "patient")


@pytest.mark.slow
def test_it_says_what_comes_of_a_failure_that_all_children_share() -> None:
    ten, eleven = ([looping(f"w{number}") for number in range(count)] for count in (10, 11))
    for children, ends_after_s in ((ten, None), (eleven, 0.0)):
        once = supervised("", *children).all_fail
        assert once is not None
        assert (once.failures, once.ends_after_s, once.tree_ends) == (len(children), ends_after_s, ends_after_s == 0.0)
    lasting = supervised("", looping("a"), looping("b")).all_stay_down
    assert lasting is not None
    # Both fail at 0, 0, 0.19, 0.56, 1.3 and 2.8 s; the 11th failure is one too many.
    assert (lasting.failures, lasting.why) == (11, "max_restarts")
    assert lasting.ends_after_s == pytest.approx(2.8125)
    goes_on = supervised("", looping("a"), looping("b"), max_restarts=1000).all_stay_down
    assert goes_on is not None
    # For each of them: at 0, 0, 0.19 ... 46.3 s, then every 22.5 s.
    assert (goes_on.watched_s, goes_on.ends_after_s, goes_on.failures) == (600.0, None, 68)


def touched(
    path: str, strategy: str, of_b: str | None = None, **b: object
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Return whom a failure of the child at `path` touches; `of_b` is the strategy that `b` has of its own."""
    children = (
        looping("a"),
        looping("b", strategy=of_b, **{"backoff": SOON, **b}),
        supervisor("c", looping("inner", backoff=SOON), depends_on=["b"], backoff=SOON),
        process("d", depends_on=["c"]),
        looping("e"),
    )
    found = explained(path, *children, strategy=strategy).touched
    return found.stopped, found.waiting, found.all_siblings


def test_a_failure_takes_along_whom_its_strategy_names_in_stop_order() -> None:
    waiting = ("c", "d")
    assert touched("b", "one_for_one") == ((), waiting, False)
    assert touched("b", "dependents") == (("d", "c"), waiting, False)
    assert touched("b", "rest_for_one") == (("e", "d", "c"), waiting, False)
    assert touched("b", "one_for_all") == (("e", "d", "c", "a"), waiting, True)
    assert touched("b", "one_for_one", "one_for_all") == (("e", "d", "c", "a"), waiting, True)
    assert touched("c/inner", "one_for_all") == ((), (), False)


def test_a_failure_that_leads_to_no_restart_takes_nobody_along() -> None:
    parks = Backoff(stop=stop_after_attempt(1))
    assert touched("b", "one_for_all", backoff=parks)[0] == ()
    assert touched("b", "one_for_all", restart="temporary")[0] == ()
    escalates = Backoff(stop=stop_after_attempt(1), on_give_up="escalate")
    assert touched("b", "one_for_one", backoff=escalates)[0] == ("e", "d", "c", "a")


def test_a_path_limits_it_to_an_agent_or_a_part_of_the_tree() -> None:
    a, c, e = (looping(name, backoff=SOON) for name in "ace")
    tree = root(a, supervisor("b", c, supervisor("d", e, backoff=SOON), backoff=SOON))
    agent, part = explain(tree, "a"), explain(tree, "b")
    assert ([one.path for one in agent.agents], agent.supervisors) == (["a"], ())
    assert [one.path for one in part.agents] == ["b/c", "b/d/e"]
    assert [one.path for one in part.supervisors] == ["b", "b/d"]
    with pytest.raises(
        NotFound, match=r"'p/job-1': no such agent or supervisor.*; 'p' is dynamic: its children come when"
    ):
        explain([SupervisorEntry("p", dynamic=True)], "p/job-1")
    with pytest.raises(NotFound, match=r"'b/x': no such agent or supervisor \(did you mean 'b/d'\?\)"):
        explain(tree, "b/x")


def test_a_tree_that_breaks_a_rule_is_refused() -> None:
    with pytest.raises(SpecError, match="no such sibling"):
        explain([looping("a", depends_on=["nobody"])])


def test_entries_alone_are_a_tree() -> None:
    assert [one.path for one in explain(looping("a", backoff=SOON)).agents] == ["a"]
    assert [one.path for one in explain([looping("a", backoff=SOON), looping("b", backoff=SOON)]).agents] == ["a", "b"]


def test_significant_agents_end_their_supervisor_only_when_all_that_it_needs_have_ended() -> None:
    def ends(auto_shutdown: str) -> bool:
        one, other = (
            looping(name, significant=True, backoff=Backoff(stop=stop_after_attempt(1))) for name in ("one", "other")
        )
        inner = supervisor("inner", one, other, auto_shutdown=auto_shutdown, restart="transient")
        return explained("inner/one", inner).fails.longest.supervisor_ends is not None

    assert (ends("any_significant"), ends("all_significant")) == (True, False)


@pytest.mark.slow
def test_equal_policies_in_equal_places_have_equal_forecasts_with_their_own_paths() -> None:
    def hasty() -> Backoff:
        return Backoff(wait=wait_fixed(0.5), stop=stop_after_attempt(30))

    parts = [supervisor(name, looping("it", backoff=hasty())) for name in ("left", "right")]
    left, right = explain(root(*parts)).agents
    assert left.fails.longest.supervisor_ends is not None
    assert right.fails.longest.supervisor_ends is not None
    assert left.fails.longest.supervisor_ends.path == "left"
    assert right.fails.longest.supervisor_ends.path == "right"
    assert when(left.fails.longest.supervisor_ends) == when(right.fails.longest.supervisor_ends) == (11, 5.0)


class Forgiving(Orchestrator):
    def classify_exit(self, report: CrashReport) -> ExitReason | None:
        return NORMAL if report.phase == "execute" else None


def test_the_hook_that_classifies_ends_has_its_say() -> None:
    orchestrator = Forgiving(Forgiving.Config(run_mode="daemon", control=False))
    for name in ("a", "b"):
        orchestrator.register_agent(Round, name, backoff=SOON)
    for agent in explain(orchestrator).agents:
        assert agent.fails.longest.not_restarted
        assert agent.fails_in_setup is not None
        assert when(agent.fails_in_setup.longest.parked) == (2, 0.0)


def test_hooks_that_see_the_whole_tree_and_slots_do_not_matter_to_one_agent() -> None:
    config = Orchestrator.Config(run_mode="daemon", control=False, max_workers=1, strict_start=True)
    orchestrator = Orchestrator(config)
    for name in ("a", "b"):
        orchestrator.register_agent(Round, name, backoff=SOON)
    assert [when(agent.fails.longest.parked) for agent in explain(orchestrator).agents] == [(2, 0.0)] * 2


def test_it_says_that_a_first_start_that_fails_ends_a_tree_with_strict_start() -> None:
    orchestrator = Orchestrator(Orchestrator.Config(run_mode="daemon", control=False, strict_start=True))
    orchestrator.register_agent(Round, "a", backoff=SOON)
    assert explain(orchestrator).strict_start
    assert not explain(looping("a", backoff=SOON)).strict_start


def test_a_tree_that_was_started_is_no_specification_any_more() -> None:
    orchestrator = Orchestrator(Orchestrator.Config(run_mode="stop_on_empty", control=False))
    with orchestrator:
        pass
    with pytest.raises(SpecError, match="has been started"):
        explain(orchestrator)
