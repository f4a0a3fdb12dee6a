"""The rules of Elixir's DynamicSupervisor, continued (rows E10 to E13): stopping many, strangers, other limits."""

from __future__ import annotations

from typing import Any

import pytest
from orchestree_testing.agents import Scripted
from orchestree_testing.each_executor import wait_for_hook
from orchestree_testing.process_harness import wait_until_gone
from orchestree_testing.trees import a_real_pool, names_in_pool
from otp_support import child
from stories import a_pool, told
from tenacity import wait_fixed
from virtual import agent, process, refused

from orchestree.agents.ends import IGNORED, NORMAL, SHUTDOWN, Cause, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunMessage, RunReady
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import MaxChildren
from orchestree.supervisor import AgentState, EventType, NotRunning, SpecError
from orchestree.supervisor.events import AgentRestarting, AgentTerminated

E = EventType
RESTARTS = ("permanent", "transient", "temporary")
SLOW_BACKOFF = Backoff(wait=wait_fixed(10.0), jitter=0.0)


# E10


@pytest.mark.otp("E10")
def test_all_are_asked_at_once_and_each_is_killed_at_the_end_of_its_own_time() -> None:
    times: dict[str, Any] = {
        "a": 0.1,
        "b": 1.0,
        "c": 0.1,
        "d": "infinity",
        "e": "brutal_kill",
        "f": 1,
        "g": 0,
        "ok": 5.0,
    }
    tree = a_pool(*(process(name, shutdown=shutdown) for name, shutdown in times.items()))
    tree.manual |= {f"pool/{name}" for name in times} - {"pool/ok"}
    tree.stop()
    tree.advance(60.0)
    tree.end("pool/d", NORMAL)
    asked = [line for line in tree.requests if " ask " in line]
    assert sorted(asked) == [f"0 ask pool/{name}" for name in sorted(times) if name != "e"]
    assert sorted(line for line in tree.requests if " kill " in line) == [
        "0 kill pool/e", "0 kill pool/g", "0.1 kill pool/a", "0.1 kill pool/c", "1 kill pool/b", "1 kill pool/f",
    ]  # fmt: skip
    assert told(tree, "AGENT_TERMINATED", "SUPERVISOR_TERMINATED")[-3:] == [
        "60 TERMINATED pool/d", "60 SUPERVISOR_TERMINATED pool", "60 SUPERVISOR_TERMINATED",
    ]  # fmt: skip


@pytest.mark.otp("E10")
@pytest.mark.parametrize("shutdown", [100.0, "infinity"])
def test_its_own_shutdown_bounds_all_of_them(shutdown: float | str) -> None:
    tree = a_pool(process("a", shutdown=100.0), process("b", shutdown=shutdown), shutdown=2.0)
    tree.manual |= {"pool/a", "pool/b"}
    tree.stop_agent("pool")
    tree.advance(200.0)
    assert sorted(line for line in tree.requests if "kill" in line) == ["2 kill pool/a", "2 kill pool/b"]
    assert tree.state("pool") == "stopped"


@pytest.mark.otp("E10")
@pytest.mark.slow
def test_real_processes_that_never_stop_are_killed_at_the_end_of_their_own_times_not_one_after_the_other() -> None:
    tree, pool = a_real_pool()
    shutdowns = {"a": 0.2, "b": 0.2, "c": 0.6, "d": 0.6}
    with tree:
        for name, shutdown in shutdowns.items():
            pool.start_child(Scripted, name, executor="process", execute="never", shutdown=shutdown)
            wait_for_hook(tree, f"pool/{name}")
        pids = [status.pid for status in tree.which_children("pool") if status.pid is not None]
        tree.stop_agent("pool")
    wait_until_gone(*pids)
    began = min(event.monotonic for event in tree.history(type=E.AGENT_STOPPING))
    took = {event.path[-1]: event.monotonic - began for event in tree.history(type=E.AGENT_TERMINATED)}
    assert all(took[name] >= shutdown for name, shutdown in shutdowns.items())
    assert took["a"] < 0.6
    assert max(took.values()) < sum(shutdowns.values())


# E11: as with T06, an end that follows the request is `shutdown`, so nothing is left of `normal` unless permanent.

ANSWERS: dict[str, tuple[ExitReason | None, str | None]] = {
    "returns": (NORMAL, None),
    "raises Shutdown": (SHUTDOWN, None),
    "fails": (abnormal(Cause.EXCEPTION), "boom"),
    "exits with a code": (abnormal(Cause.EXIT), "boom"),
    "is killed by a stranger": (abnormal(Cause.SIGNAL), "boom"),
    "says that it was not needed": (IGNORED, None),
}


@pytest.mark.otp("E11")
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("shutdown", [2.0, 0, "infinity", "brutal_kill"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_goes_wrong_while_all_are_stopped_is_told_for_each_and_ends_nothing_else(
    answer: str, shutdown: float | str, restart: str
) -> None:
    reason, error = ANSWERS[answer]
    assert reason is not None
    # A thread, as it outlives a kill and can still answer.
    tree = a_pool(agent("a", restart=restart, shutdown=shutdown), agent("b"))
    tree.manual.add("pool/a")
    tree.stop()
    tree.end("pool/a", reason)
    ends = {path: data for _, _, path, data in tree.log if isinstance(data, AgentTerminated)}
    assert ends == {
        "pool/a": AgentTerminated(SHUTDOWN, AgentState.STOPPED, error),
        "pool/b": AgentTerminated(SHUTDOWN, AgentState.STOPPED),
    }
    assert told(tree, "AGENT_CRASHED", "AGENT_RESTARTING") == []
    assert tree.exit_code == 0


@pytest.mark.otp("E11")
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("shutdown", [2.0, 0])
def test_a_kill_at_the_end_of_its_time_is_told(shutdown: float, restart: str) -> None:
    tree = a_pool(process("a", restart=restart, shutdown=shutdown))
    tree.stubborn.add("pool/a")
    tree.stop()
    tree.advance(5.0)
    ((when, data),) = tree.events("AGENT_TERMINATED")
    assert (when, data) == (shutdown, AgentTerminated(SHUTDOWN, AgentState.STOPPED, "killed"))


# E12


@pytest.mark.otp("E12")
def test_what_nobody_expected_changes_nothing() -> None:
    tree = a_pool(child("a"), child("b"))
    tree.crash("pool/a")
    tree.forget()
    for run in (RunId("pool/a", 1), RunId("pool/a", 3), RunId("pool/c", 1), RunId("pool", 1)):
        tree.tell(RunReady(run))
        tree.tell(RunMessage(run, "hello", {}))
        tree.tell(RunEnded(run=run, reason=abnormal(Cause.EXCEPTION)))
    assert (tree.log, tree.requests) == ([], [])
    assert tree.incarnations() == {"pool": 1, "pool/a": 2, "pool/b": 1}


@pytest.mark.otp("E12")
def test_a_call_that_makes_no_sense_is_the_callers_error_and_the_supervisor_lives() -> None:
    tree, pool = a_real_pool()
    wrong: tuple[Any, ...] = (None, 5, "x", object(), dict, Scripted())
    with tree:
        pool.start_child(Scripted, "a", execute="sleep")
        for what in wrong:
            with pytest.raises(SpecError):
                pool.start_child(what)
        for fields in ({"no_such_field": 1}, {"shutdown": -1}, {"restart": "always"}, {"execute": 7}):
            with pytest.raises(SpecError):
                pool.start_child(Scripted, **fields)
        assert names_in_pool(tree) == ["pool/a"]
        assert tree.status("pool").incarnation == 1


# E13


@pytest.mark.otp("E13")
def test_a_lowered_max_children_acts_from_the_next_start_on_and_leaves_running_children_alone() -> None:
    tree = a_pool(agent("a"), agent("b"))
    tree.reconfigure("pool", max_children=1)
    assert tree.states() == {"pool": "ready", "pool/a": "ready", "pool/b": "ready"}
    assert isinstance(refused(lambda: tree.start_child("pool", agent("c"))), MaxChildren)
    tree.stop_agent("pool/a")
    assert isinstance(refused(lambda: tree.start_child("pool", agent("c"))), MaxChildren)
    tree.stop_agent("pool/b")
    tree.start_child("pool", agent("c"))
    tree.reconfigure("pool", max_children=None)
    tree.start_child("pool", agent("d"))
    assert tree.incarnations() == {"pool": 1, "pool/c": 1, "pool/d": 1}


@pytest.mark.otp("E13")
def test_its_window_can_be_changed_and_what_is_wrong_changes_nothing() -> None:
    tree = a_pool(child("a"), max_restarts=5, restart="temporary")
    tree.crash("pool/a")
    for wrong in ({"max_children": -1}, {"strategy": "one_for_all"}, {"auto_shutdown": "any_significant"},
                  {"dynamic": False}, {"children": ()}, {"max_restarts": -1}, {"max_seconds": 0}):  # fmt: skip
        assert isinstance(refused(lambda wrong=wrong: tree.reconfigure("pool", **wrong)), SpecError)  # type: ignore[misc]
    assert told(tree, "POLICY_CHANGED") == []
    tree.reconfigure("pool", max_restarts=1)
    tree.crash("pool/a")
    assert tree.states() == {}


# E02 and E03 as far as they hold: the specification is checked before anything is asked of the supervisor.


@pytest.mark.otp("E07")
def test_a_wrong_specification_is_refused_also_when_nothing_runs() -> None:
    tree, pool = a_real_pool()
    with pytest.raises(SpecError, match="shutdown"):
        pool.start_child(Scripted, "a", shutdown=-1)
    with pytest.raises(NotRunning):
        pool.start_child(Scripted, "a")
    with tree:
        pass
    with pytest.raises(SpecError, match="shutdown"):
        pool.start_child(Scripted, "a", shutdown=-1)
    with pytest.raises(NotRunning):
        pool.start_child(Scripted, "a")


@pytest.mark.otp("E08")
def test_the_event_of_each_try_says_which_it_is() -> None:
    tree = a_pool(agent("a", backoff=SLOW_BACKOFF))
    tree.failing.add("pool/a")
    tree.crash("pool/a")
    tree.advance(20.0)
    tries = [(now, data.delay, data.attempt) for now, data in tree.events("AGENT_RESTARTING")
             if isinstance(data, AgentRestarting)]  # fmt: skip
    assert tries == [(0.0, 10.0, 1), (10.0, 10.0, 2), (20.0, 10.0, 3)]
