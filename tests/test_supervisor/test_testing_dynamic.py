"""Children that a test starts under virtual time, above all those of dynamic supervisors."""

from __future__ import annotations

import pytest
from orchestree_testing.trees import a_tree
from tenacity import wait_fixed
from virtual import Worker, agent, supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import (
    AlreadyStarted,
    MaxChildren,
    NotFound,
    NotRunning,
    OrchestreeError,
    SpecError,
    StartError,
)
from orchestree.supervisor.registry import Supervisor
from orchestree.supervisor.spec import SupervisorEntry
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.testing import CheckFailed, Down, SlowStart, fault_schedules, recovers_within, supervised

pytestmark = pytest.mark.policy

SECOND = Backoff(wait=wait_fixed(1.0), jitter=0.0)


def pool(**fields: object) -> SupervisorEntry:
    return supervisor("pool", dynamic=True, **fields)


def test_a_child_comes_and_the_policy_of_its_supervisor_is_put_to_the_test() -> None:
    with supervised([pool(max_restarts=2, max_seconds=10)]) as t:
        path = t.start_child("pool", Worker, "job", backoff=SECOND)
        assert (path, t.status(path).state, t.starts(path)) == ("pool/job", AgentState.READY, 1)
        for _ in range(2):
            t.crash(path)
            t.advance(1)
        assert t.starts(path) == 3
        assert t.starts("pool") == 1
        t.crash(path)
        t.advance(1)
        assert t.starts("pool") == 2, "the third restart within ten seconds was one too many"
        assert t.status(path).state is AgentState.STOPPED, "it does not come back with its supervisor"
        assert "pool gave up once" in t.timeline()


def test_it_may_be_a_whole_specification_or_a_class_for_which_a_name_is_made_up() -> None:
    with supervised([pool(), supervisor("fixed")]) as t:
        assert [t.start_child("pool", Worker) for _ in range(2)] == ["pool/worker-1", "pool/worker-2"]
        assert t.start_child("fixed", agent("late")) == "fixed/late"
        assert t.start_child("", supervisor("branch", agent("leaf"))) == "branch"
        assert t.status("branch/leaf").state is AgentState.READY
        assert [str(order) for order in t.orders[:1]] == ["at 0 s: start_child pool/worker-1"]


COMES_LATER = (
    "'pool' is dynamic: its children come when the tree runs, and in a test with t.start_child('pool', ...); "
    "`simulate` has none"
)


def test_a_fault_before_any_child_has_come_says_how_to_start_one() -> None:
    with supervised([pool(), agent("worker")]) as t:
        for asked in (lambda: t.crash("pool"), lambda: t.crash("pool/job"), lambda: t.status("pool/job")):
            with pytest.raises(OrchestreeError) as caught:
                asked()
            assert str(caught.value).endswith(COMES_LATER)
        with pytest.raises(NotFound, match="no agent at or below 'pool'; 'pool' is dynamic"):
            t.run(["pool: crash at 1s"])
        t.start_child("pool", Worker, "job")
        t.crash("pool")
        t.strike("pool: crash every 7s")
        with pytest.raises(NotFound, match=r"'pool/jib': .* \(did you mean 'pool/job'\?\); 'pool' is"):
            t.crash("pool/jib")


def test_schedules_for_a_tree_of_children_that_come_later_are_refused_with_the_reason() -> None:
    with pytest.raises(SpecError) as caught:
        fault_schedules([pool()])
    assert str(caught.value).endswith(COMES_LATER)


def test_a_real_tree_makes_up_the_same_names() -> None:
    with a_tree(control=False) as tree, supervised([pool()]) as t:
        jobs = tree.start_child(pool())
        assert jobs == "pool"
        real = [Supervisor(tree, "pool").start_child(Worker, executor="thread") for _ in range(2)]
        assert [t.start_child("pool", Worker, executor="thread") for _ in range(2)] == real


def test_one_that_leaves_makes_room_and_may_come_again() -> None:
    with supervised([pool(max_children=1)]) as t:
        t.start_child("pool", Worker, "job")
        with pytest.raises(MaxChildren, match="max_children=1"):
            t.start_child("pool", Worker, "other")
        t.stop_agent("pool/job")
        assert t.status("pool/job").state is AgentState.STOPPED
        t.start_child("pool", Worker, "job")
        assert t.status("pool/job").state is AgentState.READY
        assert [order.path for order in t.orders] == ["pool/job", "pool/job", "pool/job"], "and not what was refused"


def test_a_first_start_that_fails_is_an_error_and_nothing_of_it_is_kept() -> None:
    with supervised([pool()]) as t:
        t.start_child("pool", Worker, "job")
        t.strike(Down("pool/job", until=60.0))
        t.stop_agent("pool/job")
        with pytest.raises(StartError, match=r"'pool/job' did not start: ConnectionError: what it needs is down"):
            t.start_child("pool", Worker, "job")
        with pytest.raises(NotFound):
            t.status("pool/job")
        t.advance(60)
        assert t.start_child("pool", Worker, "job") == "pool/job"


def test_a_slow_start_goes_on_with_the_clock() -> None:
    with supervised([pool()]) as t:
        t.start_child("pool", Worker, "job")
        t.strike(SlowStart("pool/job", takes=5.0))
        t.stop_agent("pool/job")
        t.start_child("pool", Worker, "job")
        assert t.status("pool/job").state is AgentState.STARTING
        t.advance(5)
        assert t.status("pool/job").state is AgentState.READY


def test_who_is_lost_with_its_supervisor_has_not_recovered() -> None:
    with supervised([pool(max_restarts=0)]) as t:
        t.crash(t.start_child("pool", Worker, "job"))
        with pytest.raises(CheckFailed, match="supervisor 'pool' gave up"):
            t.check(recovers_within(60))


def test_what_cannot_be_started_is_refused_before_anything_is_done() -> None:
    with supervised([pool(), agent("worker")]) as t:
        wrong: list[tuple[str, str, dict[str, object], type[OrchestreeError], str]] = [
            ("pol", "job", {}, NotFound, "did you mean 'pool'"),
            ("worker", "job", {}, SpecError, "'worker' is an agent; only supervisors have children"),
            ("pool", "a/b", {}, SpecError, "name='a/b'"),
            ("pool", "job", {"wathdog": 3}, SpecError, "did you mean 'watchdog'"),
            ("pool", "job", {"depends_on": ["worker"]}, SpecError, "depends_on=('worker',)"),
            ("", "worker", {}, AlreadyStarted, "'worker'"),
        ]
        for parent, name, fields, kind, said in wrong:
            with pytest.raises(kind) as caught:
                t.start_child(parent, Worker, name, **fields)
            assert said in str(caught.value)
        assert t.orders == []
        t.stop()
        with pytest.raises(NotRunning):
            t.start_child("pool", Worker)
