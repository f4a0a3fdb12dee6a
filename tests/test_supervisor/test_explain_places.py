"""`explain` simulates equal policies in equal places once; what differs in any way that matters is never mixed up."""

from __future__ import annotations

import random

import pytest
from explained import SOON, explained, looping, root, supervised
from tenacity import stop_after_attempt, wait_chain, wait_fixed
from virtual import process, supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.explaining import explain
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.explained.explanation import Explanation, Touched, explanation_of
from orchestree.supervisor.simulation.explained.places import policy_key
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.states import RunMode

pytestmark = pytest.mark.policy


def elaborate(**changed: object) -> Backoff:
    """Return a policy that is made of its parts anew each time."""
    parts: dict[str, object] = {
        "wait": wait_chain(wait_fixed(1), wait_fixed(2)),
        "stop": stop_after_attempt(3),
        "jitter": 0.5,
        "stable_after": 10.0,
        "on_give_up": "park",
        "rules": (Rule(action="park", exit_code=3),),
    }
    return Backoff(**{**parts, **changed})  # type: ignore[arg-type]


def test_policies_that_were_made_alike_are_one() -> None:
    assert policy_key(elaborate()) == policy_key(elaborate())


@pytest.mark.parametrize(
    "changed",
    [
        {"wait": wait_chain(wait_fixed(1), wait_fixed(3))},
        {"wait": wait_fixed(1)},
        {"stop": stop_after_attempt(4)},
        {"stop": None},
        {"jitter": 0.25},
        {"stable_after": 11.0},
        {"on_give_up": "escalate"},
        {"rules": ()},
        {"rules": (Rule(action="park", exit_code=4),)},
    ],
)
def test_policies_that_differ_in_one_part_are_two(changed: dict[str, object]) -> None:
    assert policy_key(elaborate()) != policy_key(elaborate(**changed))


def test_a_function_is_only_equal_to_itself() -> None:
    def one(_: object) -> float:
        return 1.0

    def other(_: object) -> float:
        return 1.0

    assert policy_key(elaborate(wait=one)) == policy_key(elaborate(wait=one))
    assert policy_key(elaborate(wait=one)) != policy_key(elaborate(wait=other))


def delays(explanation: Explanation) -> dict[str, float]:
    return {agent.path: agent.fails.longest.largest_delay_s for agent in explanation.agents}


def test_neighbours_with_other_numbers_have_their_own_forecasts() -> None:
    def waits(seconds: float) -> Backoff:
        return Backoff(wait=wait_fixed(seconds), jitter=0.0, stop=stop_after_attempt(2))

    assert delays(explain(root(looping("a", backoff=waits(3)), looping("b", backoff=waits(5))))) == {"a": 3.0, "b": 5.0}


def test_equal_agents_below_other_windows_have_their_own_forecasts() -> None:
    def below(name: str, max_restarts: int) -> ChildEntry:
        return supervisor(name, looping("it", backoff=None), max_restarts=max_restarts, backoff=SOON)

    agents = explain(root(below("narrow", 1), below("wide", 4))).agents
    ends = [agent.fails.longest.supervisor_ends for agent in agents]
    assert [(end.path, end.failure) for end in ends if end] == [("narrow", 2), ("wide", 5)]


def test_equal_agents_in_equal_places_have_forecasts_with_their_own_paths_however_deep_they_stand() -> None:
    def branch(name: str) -> ChildEntry:
        return supervisor(name, supervisor("inner", looping("it", backoff=None), backoff=SOON), backoff=SOON)

    left, right = explain(root(branch("left"), branch("right"))).agents
    paths = [agent.fails.longest.supervisor_ends for agent in (left, right)]
    assert [end.path for end in paths if end] == ["left/inner", "right/inner"]


def test_a_supervisor_that_is_given_up_on_has_no_reason_but_its_number_of_failures() -> None:
    found = supervised("pool", supervisor("pool", looping("it", backoff=SOON), backoff=SOON))
    assert found.gives_up is not None
    assert found.gives_up.longest.parked is not None
    parked = found.gives_up.longest.parked
    assert (parked.failure, parked.path, parked.why) == (2, "pool", "")
    assert found.touched == Touched(stopped=(), all_siblings=False, waiting=())


def test_the_default_policy_of_a_tree_is_that_of_its_supervisors_too() -> None:
    blueprint = Blueprint(root(supervisor("pool", looping("it"))), Settings(backoff=SOON))
    pool = explanation_of(blueprint, "pool", lambda _: False, random).supervisors[0]
    assert pool.policy.backoff is not None
    assert pool.policy.backoff.endswith("given up on (park) by stop_after_attempt(max_attempt_number=2)")
    assert pool.gives_up is not None
    assert pool.gives_up.longest.failures == 2


def test_what_looks_at_an_agent_while_it_runs_changes_nothing_about_its_failures() -> None:
    watched = process("it", watchdog=1.0, max_memory=2**30, backoff=SOON)
    assert explained("it", watched).fails == explained("it", process("it", backoff=SOON)).fails


def test_one_that_is_given_up_on_does_not_end_its_tree_because_nobody_else_is_simulated() -> None:
    settings = Settings(run_mode=RunMode.STOP_ON_EMPTY, backoff=SOON)
    [agent] = explanation_of(Blueprint(root(looping("it")), settings), "it", lambda _: False, random).agents
    assert agent.fails.longest.parked is not None
    assert (agent.fails.longest.supervisor_ends, agent.fails.longest.tree_ends) == (None, None)


def test_a_minute_is_sixty_seconds_both_ends_included() -> None:
    def most(seconds: float) -> tuple[int, int]:
        backoff = Backoff(wait=wait_fixed(seconds), jitter=0.0, stable_after=1000.0)
        found = explained("it", looping("it", backoff=backoff))
        return found.restarts.most, found.fails.longest.restarts_per_minute

    assert (most(20.0), most(20.2)) == ((4, 4), (3, 3))


def test_a_supervisor_that_comes_back_after_the_fastest_rhythm_has_ended_it_is_told_like_any_other() -> None:
    flapping = looping("w", backoff=Backoff(jitter=0.0, stable_after=2.0))
    assert supervised("inner", supervisor("inner", flapping, backoff=SOON)).ended_by == ("inner/w",)
