"""Policy that changes: what is told and what is refused, word for word; delays and limits that run already."""

from __future__ import annotations

import pytest
from tenacity import RetryCallState, wait_fixed
from virtual import VirtualTree, agent, process, refused, supervisor

from orchestree.strategies.backoff import AgentFailure, Backoff
from orchestree.strategies.errors import SpecError
from orchestree.strategies.restart import Restart, Strategy
from orchestree.supervisor.events import PolicyChange, PolicyChanged
from orchestree.supervisor.inputs import KillRun

pytestmark = pytest.mark.policy


def fixed(seconds: float, **fields: object) -> Backoff:
    return Backoff(wait=wait_fixed(seconds), jitter=0.0, **fields)  # type: ignore[arg-type]


def test_values_are_told_as_a_person_would_write_them() -> None:
    tree = VirtualTree(agent("a"))
    tree.reconfigure("a", shutdown="brutal_kill", restart="permanent", backoff=fixed(3), strategy="dependents")
    ((_, data),) = tree.events("POLICY_CHANGED", "a")
    assert data == PolicyChanged(
        (
            PolicyChange("restart", "transient", "permanent"),
            PolicyChange("strategy", "None", "dependents"),
            PolicyChange("backoff", "that of the orchestrator", "Backoff(wait=wait_fixed(wait_fixed=3), jitter=0.0)"),
            PolicyChange("shutdown", "5.0", "'brutal_kill'"),
        )
    )
    entry = tree.node("a").entry
    assert (entry.restart, entry.strategy, entry.shutdown) == (
        Restart.PERMANENT, Strategy.DEPENDENTS, "brutal_kill",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("a", {"zzz": 3},
         "'a': zzz=3: cannot be changed by reconfigure(); these can be: "
         "backoff, max_age, max_memory, replace_wedged, restart, shutdown, significant, start_timeout, strategy, "
         "watchdog"),
        ("", {"restart": "temporary"},
         "'': restart='temporary': cannot be changed by reconfigure() (did you mean 'max_restarts'?); these can be: "
         "auto_shutdown, max_restarts, max_seconds, strategy"),
        ("", {"zzz": 1},
         "'': zzz=1: cannot be changed by reconfigure(); these can be: "
         "auto_shutdown, max_restarts, max_seconds, strategy"),
        ("s", {"start_timeout": 3},
         "'s': start_timeout=3: cannot be changed by reconfigure(); these can be: auto_shutdown, backoff, "
         "max_children, max_restarts, max_seconds, restart, shutdown, significant, strategy"),
        ("a", {"significant": True}, "'a': significant=True: its supervisor has auto_shutdown=never"),
        ("t/y", {"significant": True}, "'y': significant=True: its supervisor in 't' has auto_shutdown=never"),
        ("s", {"auto_shutdown": "never"}, "'x': significant=True: its supervisor in 's' has auto_shutdown=never"),
        ("pool/a", {"strategy": "one_for_all"}, "'pool/a': strategy='one_for_all': its supervisor is dynamic"),
    ],
)  # fmt: skip
def test_what_cannot_be_changed_is_told_so_word_for_word(path: str, fields: dict[str, object], message: str) -> None:
    tree = VirtualTree(
        agent("a"),
        supervisor("s", agent("x", significant=True), auto_shutdown="any_significant"),
        supervisor("t", agent("y")),
        supervisor("pool", dynamic=True),
    )
    tree.start_child("pool", agent("a"))
    error = refused(lambda: tree.reconfigure(path, **fields))
    assert (type(error), str(error)) == (SpecError, message)


def test_other_policy_of_a_child_of_a_dynamic_supervisor_may_change() -> None:
    tree = VirtualTree(supervisor("pool", dynamic=True), supervisor("t", agent("y")))
    tree.start_child("pool", agent("a"))
    tree.reconfigure("pool/a", shutdown=1.0)
    tree.reconfigure("t/y", strategy="one_for_all")
    assert [path for _, kind, path, _ in tree.log if kind == "POLICY_CHANGED"] == ["pool/a", "t/y"]


class Asked:
    """A wait that keeps what it was asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.states: list[RetryCallState] = []

    def __call__(self, state: RetryCallState) -> float:
        self.states.append(state)
        return self.seconds


def test_a_change_of_something_else_does_not_ask_the_policy_again() -> None:
    wait = Asked(10.0)
    tree = VirtualTree(agent("a", backoff=Backoff(wait=wait, jitter=0.0)))
    tree.crash("a")
    tree.reconfigure("a", shutdown=1.0)
    ((_, data),) = tree.events("POLICY_CHANGED", "a")
    assert isinstance(data, PolicyChanged)
    assert (len(wait.states), data.delay) == (1, None)


def test_a_new_policy_is_asked_about_the_same_failure_at_the_same_moment() -> None:
    wait = Asked(10.0)
    tree = VirtualTree(agent("a", backoff=fixed(5.0)))
    tree.advance(3.0)
    tree.crash("a", "no disk")
    tree.advance(4.0)
    tree.reconfigure("a", backoff=Backoff(wait=wait, jitter=0.0))
    (state,) = wait.states
    assert state.outcome is not None
    error = state.outcome.exception()
    assert isinstance(error, AgentFailure)
    assert error.failure is not None
    assert (error.failure.message, state.attempt_number, state.idle_for) == ("no disk", 1, 0.0)
    assert (state.start_time, state.seconds_since_start) == (3.0, 0.0)
    ((_, data),) = tree.events("POLICY_CHANGED", "a")
    assert isinstance(data, PolicyChanged)
    assert data.delay == 6.0


def test_a_delay_that_changes_twice_counts_once_in_the_streak() -> None:
    wait = Asked(7.0)
    tree = VirtualTree(agent("a", backoff=fixed(5.0)))
    tree.crash("a")
    tree.advance(1.0)
    tree.reconfigure("a", backoff=fixed(20.0))
    assert tree.node("a").streak.waited_s == 20.0
    tree.advance(1.0)
    tree.reconfigure("a", backoff=Backoff(wait=wait, jitter=0.0))
    assert [state.idle_for for state in wait.states] == [0.0]
    assert tree.node("a").streak.waited_s == 7.0
    tree.advance(4.9)
    assert tree.state("a") == "backoff"
    tree.advance(0.1)
    assert tree.state("a") == "ready"


def test_a_child_that_waits_for_its_turn_to_stop_is_not_hurried_by_a_change() -> None:
    tree = VirtualTree(agent("a", backoff=None), agent("b", shutdown=1.0), agent("c"), strategy="one_for_all")
    tree.manual.add("c")
    tree.crash("a")
    assert (tree.state("b"), tree.state("c")) == ("ready", "stopping")
    tree.reconfigure("b", shutdown=2.0)
    assert tree.core.next_deadline() == 5.0
    tree.advance(4.0)
    assert tree.state("b") == "ready"


def test_a_run_that_was_told_to_end_is_told_so_once_whatever_else_changes() -> None:
    tree = VirtualTree(agent("a", shutdown=1.0))
    tree.manual.add("a")
    tree.stop_agent("a")
    tree.advance(1.05)
    tree.reconfigure("a", restart="permanent")
    tree.advance(0.05)
    assert tree.state("a") == "wedged"
    assert len([effect for effect in tree.effects if isinstance(effect, KillRun)]) == 1


def test_a_change_gives_an_agent_that_is_ready_no_time_limit() -> None:
    tree = VirtualTree(process("a", start_timeout=1.0))
    tree.reconfigure("a", start_timeout=2.0)
    tree.reconfigure("a", shutdown=2.0)
    assert tree.core.next_deadline() is None
    tree.advance(100.0)
    assert tree.state("a") == "ready"


def test_a_start_keeps_its_time_limit_when_something_else_changes() -> None:
    tree = VirtualTree(process("a", start_timeout=5.0), started=False)
    tree.manual.add("a")
    tree.start()
    tree.advance(1.0)
    tree.reconfigure("a", shutdown=2.0)
    assert tree.core.next_deadline() == 5.0


def test_a_supervisor_that_ends_by_its_own_decision_gets_no_time_limit() -> None:
    tree = VirtualTree(supervisor("s", agent("x", backoff=None), agent("y", shutdown="infinity"), max_restarts=0))
    tree.manual.add("s/y")
    tree.crash("s/x")
    assert tree.state("s") == "stopping"
    tree.reconfigure("s", shutdown=1.0)
    assert tree.core.next_deadline() is None


def test_a_supervisor_that_is_being_stopped_gets_the_new_time_limit() -> None:
    tree = VirtualTree(supervisor("s", process("y", shutdown="infinity")))
    tree.manual.add("s/y")
    tree.stop_agent("s")
    tree.advance(1.0)
    tree.reconfigure("s", shutdown=3.0)
    assert tree.core.next_deadline() == 3.0
    tree.advance(2.0)
    assert tree.states() == {"s": "stopped", "s/y": "stopped"}


def test_a_start_whose_time_limit_is_taken_away_may_take_for_ever() -> None:
    tree = VirtualTree(process("a", start_timeout=5.0), started=False)
    tree.manual.add("a")
    tree.start()
    tree.reconfigure("a", start_timeout=None)
    assert tree.core.next_deadline() is None
    tree.advance(1000.0)
    assert tree.state("a") == "starting"
