"""Policy with code of a user's in it, which no log says: in a replay it decides what the log says that it decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from replay_support import Noted, noted, replayed
from tenacity import RetryCallState, stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, supervisor

from orchestree import Backoff, Replay, Rule, replay, simulate
from orchestree.strategies.rules import BUILT_IN_RULES
from orchestree.supervisor.simulation.faults import Crash
from orchestree.supervisor.spec import INHERIT, ChildEntry
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy


def growing(state: RetryCallState) -> float:
    return 0.25 * state.attempt_number


def raising(state: RetryCallState) -> float:
    raise KeyError("no: such host")


OWN = Backoff(wait=growing, jitter=0.0, stop=stop_after_attempt(3), stable_after=4.0)


def tree_of(*children: ChildEntry, default: Backoff | None = None, **root: Any) -> tuple[VirtualTree, Noted]:
    tree = VirtualTree(*children, settings=Settings(backoff=default or Backoff()), started=False, **root)
    return tree, noted(tree)


def outcomes(found: Replay) -> list[tuple[str, str, float | None, str]]:
    return [(one.path, one.outcome, one.delay, one.why) for one in found.decisions]


def not_said(*whose: str) -> str:
    return f"the log does not say all of the backoff of {', '.join(whose)}: what it decided is taken from the log"


def test_delays_and_the_end_of_patience_are_those_of_the_log() -> None:
    tree, before = tree_of(agent("a", backoff=OWN), agent("b"))
    for _ in range(3):
        tree.crash("a")
        tree.advance(1)
    assert outcomes(replayed(before)) == [
        ("a", "restarted", 0.25, ""),
        ("a", "restarted", 0.5, ""),
        ("a", "parked", None, "failed 3 times in a row"),
    ]


def test_what_it_forgets_after_is_said_though_the_rest_is_not() -> None:
    tree, before = tree_of(agent("a", backoff=OWN))
    for _ in range(4):
        tree.crash("a")
        tree.advance(4.5)
    assert tree.state("a") == "ready"
    found = replayed(before)
    assert [(one.inputs.failures, one.inputs.stable_after) for one in found.decisions] == [(0, 4.0), *[(0, 4.0)] * 3]
    assert found.decisions[0].inputs.backoff == str(OWN)


def test_one_that_says_nothing_of_that_forgets_after_thirty_seconds() -> None:
    tree, before = tree_of(agent("a", backoff=Backoff(wait=growing, jitter=0.5)))
    tree.crash("a")
    tree.advance(29)
    tree.crash("a")
    tree.advance(31)
    tree.crash("a")
    found = replayed(before)
    assert [one.inputs.failures for one in found.decisions] == [0, 1, 0]
    assert [one.draw for one in found.decisions] == [None] * 3, "what was drawn is in what it decided"


def test_a_policy_that_raised_parks_for_that_in_the_same_words() -> None:
    tree, before = tree_of(agent("a", backoff=Backoff(wait=raising)), agent("b"))
    tree.crash("a")
    assert outcomes(replayed(before)) == [
        ("a", "parked", None, "its backoff policy raised KeyError: 'no: such host'"),
    ]


RULES = (Rule(action="park", exit_code=3), Rule(action="restart", exit_code=4))


class OwnBackoff(Backoff):
    """Has code of a user's in it, which may do something else with rules."""


def test_its_rules_and_jitter_are_told_though_its_code_is_not_known() -> None:
    tree, before = tree_of(agent("a", backoff=Backoff(wait=growing, rules=RULES)))
    for code in (4, 5, 3):
        tree.crash("a", exit_code=code)
        tree.advance(1)
    found = replayed(before)
    assert [one.rule for one in found.decisions] == [RULES[1], None, RULES[0]]
    assert [one.inputs.rules for one in found.decisions] == [(*RULES, *BUILT_IN_RULES)] * 3
    assert {(one.inputs.jitter, one.inputs.not_said) for one in found.decisions} == {(0.25, ("wait",))}
    line = found.why("a").splitlines()[4]
    assert (
        line == f"backoff: {Backoff(wait=growing, rules=RULES)} (not known: wait); the rule for exit_code=3 says park"
    )
    (earlier,) = (line for line in found.why("a", found.decisions[1].time).splitlines() if line.startswith("backoff:"))
    assert earlier.endswith("(not known: wait); no rule fits")


def test_rules_that_are_not_known_are_not_said_not_to_fit() -> None:
    own = OwnBackoff(rules=RULES)
    tree, before = tree_of(agent("a", backoff=own))
    tree.crash("a", exit_code=3)
    found = replayed(before)
    (decision,) = found.decisions
    assert (decision.outcome, decision.why) == ("parked", "a rule says so: boom")
    assert (decision.rule, decision.inputs.rules, decision.inputs.jitter) == (None, None, None)
    parts = "wait, stop, jitter, stable_after, on_give_up, rules"
    assert found.why("a").splitlines()[4] == f"backoff: {own} (not known: {parts}); its rules are not known"


def test_what_was_drawn_is_told_if_the_log_has_the_seed() -> None:
    tree = [agent("a", backoff=Backoff(wait=growing, jitter=0.5))]
    events = simulate(tree, [Crash("a", at=5.0, every=1.0, times=3)], until=60.0, seed=3).events
    found = replay(events)
    assert found.divergence is None
    with_tree = replay(events, tree).decisions
    assert [(one.draw, one.delay) for one in found.decisions] == [(one.draw, one.delay) for one in with_tree]
    for one in found.decisions:
        assert one.draw is not None
        assert one.delay == pytest.approx(0.25 * (one.inputs.failures + 1) * (1.0 - 0.5 * one.draw))


@pytest.mark.parametrize("message", ["boom", "its backoff policy raised X: y", "a rule says so"])
def test_a_rule_of_it_parks_or_ends_its_supervisor(message: str) -> None:
    rules = (Rule(action="park", exit_code=3), Rule(action="escalate", exit_code=4))
    own = Backoff(wait=growing, jitter=0.0, rules=rules)
    tree, before = tree_of(supervisor("s", agent("a", backoff=own)), agent("b", backoff=own))
    tree.crash("b", message, exit_code=3)
    tree.crash("s/a", exit_code=3, message=message)
    tree.start_agent("s/a")
    tree.crash("s/a", exit_code=4, message=message)
    tree.advance(1)
    found = replayed(before)
    assert outcomes(found) == [
        ("b", "parked", None, f"a rule says so: {message}"),
        ("s/a", "parked", None, f"a rule says so: {message}"),
        ("s/a", "escalated", None, "escalated"),
        ("s", "restarted", 0.0, ""),
    ]


def test_one_that_gives_up_may_end_its_supervisor_or_the_tree() -> None:
    own = Backoff(wait=growing, jitter=0.0, stop=stop_after_attempt(2), on_give_up="escalate")
    tree, before = tree_of(supervisor("s", agent("a", backoff=own)), agent("b", backoff=own))
    for path in ("s/a", "b"):
        tree.crash(path)
        tree.advance(1)
        tree.crash(path)
        tree.advance(1)
    assert tree.exit_code == 70
    assert outcomes(replayed(before)) == [
        ("s/a", "restarted", 0.25, ""),
        ("s/a", "escalated", None, "escalated"),
        ("s", "restarted", 0.0, ""),
        ("b", "restarted", 0.25, ""),
        ("b", "escalated", None, "escalated"),
    ]


@pytest.mark.parametrize("at_the_top", [False, True])
def test_a_window_that_is_full_is_the_windows_decision(at_the_top: bool) -> None:
    own = Backoff(wait=growing, jitter=0.0)
    children = [agent("a", backoff=own), agent("b")]
    tree, before = (
        tree_of(*children, max_restarts=1) if at_the_top else tree_of(supervisor("s", *children, max_restarts=1))
    )
    path = "a" if at_the_top else "s/a"
    for _ in range(2):
        tree.crash(path)
        tree.advance(1)
    rest = [] if at_the_top else [("s", "restarted", 0.0, "")]
    assert outcomes(replayed(before)) == [
        (path, "restarted", 0.25, ""),
        (path, "escalated", None, "max_restarts"),
        *rest,
    ]


def test_a_supervisor_with_such_a_policy_waits_parks_and_gives_up_as_the_log_says() -> None:
    inner = supervisor("s", agent("x", backoff=None), backoff=OWN, max_restarts=0)
    quits = Backoff(wait=growing, jitter=0.0, stop=stop_after_attempt(1), on_give_up="escalate")
    outer = supervisor("t", supervisor("u", agent("y", backoff=None), backoff=quits, max_restarts=0))
    tree, before = tree_of(inner, outer, agent("b"))
    for _ in range(3):
        tree.crash("s/x")
        tree.advance(1)
    assert tree.state("s") == "parked"
    tree.crash("t/u/y")
    tree.advance(1)
    tree.start_agent("s")
    tree.crash("s/x")
    tree.advance(1)
    found = replayed(before)
    assert [one for one in outcomes(found) if one[0] in ("s", "t", "t/u")] == [
        ("s", "restarted", 0.25, ""),
        ("s", "restarted", 0.5, ""),
        ("s", "parked", None, ""),
        ("t/u", "escalated", None, "escalated"),
        ("t", "restarted", 0.0, ""),
        ("s", "restarted", 0.25, ""),
    ]


def test_a_member_of_a_group_fails_by_its_own_policy() -> None:
    children = [agent("a", backoff=OWN), agent("b", backoff=Backoff(wait=wait_fixed(0.5), jitter=0.0))]
    tree, before = tree_of(supervisor("s", *children, strategy="one_for_all"))
    tree.crash("s/a")
    tree.advance(2)
    tree.crash("s/b")
    tree.advance(2)
    tree.complete("s/a")
    assert outcomes(replayed(before)) == [
        ("s/a", "restarted", 0.25, ""),
        ("s/b", "restarted", 0.5, ""),
        ("s/a", "finished", None, ""),
    ]


def test_a_permanent_agent_that_ended_well_has_its_delay_from_the_log() -> None:
    tree, before = tree_of(agent("a", backoff=OWN, restart="permanent"), agent("b"))
    for _ in range(3):
        tree.complete("a")
        tree.advance(1)
    assert outcomes(replayed(before)) == [
        ("a", "restarted", 0.25, ""),
        ("a", "restarted", 0.5, ""),
        ("a", "parked", None, "failed 3 times in a row"),
    ]


def test_that_of_the_whole_tree_is_named_once_for_all_who_have_none_of_their_own() -> None:
    tree, before = tree_of(agent("a"), agent("b", backoff=None), supervisor("s", agent("x")), default=OWN)
    tree.register("", agent("late"))
    for path in ("a", "b", "s/x", "late"):
        tree.crash(path)
        tree.advance(1)
    tree.crash("a")
    found = replayed(before)
    assert [(path, delay) for path, _, delay, _ in outcomes(found)] == [
        ("a", 0.25),
        ("b", 0.0),
        ("s/x", 0.25),
        ("late", 0.25),
        ("a", 0.5),
    ]
    assert found.assumptions[1:] == (not_said("/"),)


def test_one_that_is_changed_to_it_and_back_is_named_once() -> None:
    tree, before = tree_of(agent("a", backoff=OWN), supervisor("s", agent("x")))
    tree.reconfigure("s", backoff=OWN)
    tree.reconfigure("s/x", backoff=OWN)
    tree.crash("s/x")
    tree.reconfigure("s/x", backoff=Backoff(wait=wait_fixed(0.125), jitter=0.0))
    tree.advance(1)
    tree.crash("s/x")
    tree.advance(1)
    tree.reconfigure("s/x", backoff=INHERIT)
    tree.reconfigure("s/x", backoff=None)
    tree.crash("s/x")
    found = replayed(before)
    assert [delay for _, _, delay, _ in outcomes(found)] == [0.25, 0.125, 0.0]
    assert found.assumptions[1:] == (not_said("a", "s", "s/x"),)


def test_a_delay_that_runs_when_the_policy_changes_is_computed_anew() -> None:
    slow = Backoff(wait=wait_fixed(10.0), jitter=0.0)
    tree, before = tree_of(agent("a", backoff=slow), supervisor("s", agent("x", backoff=None), max_restarts=0))
    tree.reconfigure("s", backoff=slow)
    tree.crash("a")
    tree.crash("s/x")
    tree.advance(0.125)
    tree.reconfigure("a", backoff=Backoff(wait=growing, jitter=0.0))
    tree.reconfigure("s", backoff=Backoff(wait=growing, jitter=0.0))
    tree.advance(1)
    assert tree.state("a") == tree.state("s") == "ready"
    assert len(outcomes(replayed(before))) == 3


def test_a_supervisor_that_parked_and_was_started_again_may_end_the_tree_later() -> None:
    quits = Backoff(wait=growing, jitter=0.0, stop=stop_after_attempt(1))
    tree, before = tree_of(supervisor("s", agent("x", backoff=None), backoff=quits, max_restarts=0), agent("b"))
    tree.crash("s/x")
    assert tree.state("s") == "parked"
    tree.advance(1)
    tree.start_agent("s")
    tree.reconfigure("s", backoff=Backoff(wait=growing, jitter=0.0, stop=stop_after_attempt(1), on_give_up="escalate"))
    tree.crash("s/x")
    assert tree.exit_code == 70
    assert [one[:2] for one in outcomes(replayed(before)) if one[0] == "s"] == [("s", "parked"), ("s", "escalated")]


def test_one_that_parked_before_somebody_stopped_the_tree_has_parked() -> None:
    quits = Backoff(wait=growing, jitter=0.0, stop=stop_after_attempt(1))
    tree, before = tree_of(supervisor("s", agent("x", backoff=None), backoff=quits, max_restarts=0), agent("b"))
    tree.crash("s/x")
    tree.advance(1)
    tree.stop()
    assert [one[:2] for one in outcomes(replayed(before))] == [("s/x", "escalated"), ("s", "parked")]


def test_a_log_that_ends_within_a_decision_is_replayed_up_to_there() -> None:
    rules = (Rule(action="escalate", exit_code=4), Rule(action="park", exit_code=5))
    own = Backoff(wait=growing, jitter=0.0, rules=rules)
    quits = Backoff(wait=growing, jitter=0.0, stop=stop_after_attempt(1))
    pool = supervisor("t", agent("x", backoff=None), backoff=quits, max_restarts=0)
    tree, before = tree_of(supervisor("s", agent("a", backoff=own), agent("b")), agent("c", backoff=own), pool)
    tree.crash("s/a")
    tree.advance(1)
    tree.crash("s/a", exit_code=5)
    tree.crash("t/x")
    tree.start_agent("s/a")
    tree.crash("s/a", exit_code=4)
    tree.crash("c", exit_code=4)
    assert tree.exit_code == 70
    events = before.events()
    for end in range(8, len(events)):
        assert replay(events[:end]).divergence is None, end


def test_a_log_that_ends_while_a_supervisor_stops_is_replayed_up_to_there() -> None:
    quits = Backoff(wait=growing, jitter=0.0, stop=stop_after_attempt(1), on_give_up="escalate")
    inner = supervisor("u", agent("y", backoff=None), backoff=quits, max_restarts=0)
    tree, before = tree_of(supervisor("t", inner, agent("z", shutdown=5.0)), agent("b"))
    tree.stubborn.add("t/z")
    tree.advance(1)
    tree.crash("t/u/y")
    assert tree.state("t/z") == "stopping"
    assert outcomes(replayed(before)) == [
        ("t/u/y", "escalated", None, "max_restarts"),
        ("t/u", "escalated", None, "escalated"),
    ]


def test_a_log_that_ends_while_the_tree_stops_tells_why_it_stops() -> None:
    own = Backoff(wait=growing, jitter=0.0)
    for rules, why in (((), "max_restarts"), ((Rule(action="escalate"),), "escalated")):
        children = [agent("a", backoff=replace(own, rules=rules)), agent("z", shutdown=5.0)]
        tree, before = tree_of(*children, max_restarts=0)
        tree.stubborn.add("z")
        tree.advance(1)
        tree.crash("a")
        assert tree.state("z") == "stopping"
        assert outcomes(replayed(before)) == [("a", "escalated", None, why)]
