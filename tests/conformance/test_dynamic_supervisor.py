"""OTP's simple_one_for_one and Elixir's DynamicSupervisor: Q02, Q05, Q06, E01, E04, E05, E07 to E13.

Here there is one of the kind, built like Elixir's: no template, every child brings its own specification.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from types import FrameType
from typing import Any

import pytest
from orchestree_testing.agents import AsyncScripted, Scripted
from orchestree_testing.each_executor import end_of, hooks_of, wait_for_hook
from orchestree_testing.once import AsyncEndsOnce, EndsOnce
from orchestree_testing.trees import PATIENCE, AsyncDoes, Does, a_real_pool, a_tree, names_in_pool, types, wait_for
from otp_support import child, every_executor, stamps
from stories import LIFE, a_pool, told
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process, refused, supervisor

from orchestree.agents.ends import SHUTDOWN, Cause, abnormal
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import MaxChildren
from orchestree.supervisor import AgentState, EventType, NotFound, SpecError, StartError
from orchestree.supervisor.events import SupervisorTerminated

E = EventType
RESTARTS = ("permanent", "transient", "temporary")
SLOW_BACKOFF = Backoff(wait=wait_fixed(10.0), jitter=0.0)


def scripted(executor: str) -> Any:
    """Return the class of scripted agents for this executor."""
    return AsyncScripted if executor == "async" else Scripted


# Q02


@pytest.mark.otp("Q02")
@every_executor
def test_each_start_brings_its_own_arguments_which_its_restarts_use_again(executor: str) -> None:
    tree, pool = a_real_pool()
    kind = AsyncEndsOnce if executor == "async" else EndsOnce
    with tree:
        paths = [
            pool.start_child(
                kind, executor=executor, setup="describe", execute="raise once", params={"number": number}, backoff=None
            )
            for number in range(3)
        ]
        for path in paths:
            wait_for(tree, E.AGENT_READY, path, count=2)
        assert names_in_pool(tree) == paths
        described: Any = [
            [event.data for event in tree.history(path, E.AGENT_MESSAGE) if event.data.name == "described"]  # type: ignore[union-attr]
            for path in paths
        ]
    seen = [[(data.data["incarnation"], data.data["params"]) for data in each] for each in described]
    assert seen == [[(1, {"number": number}), (2, {"number": number})] for number in range(3)]


@pytest.mark.otp("Q02", "E07")
@every_executor
def test_a_start_that_fails_is_raised_plain_and_leaves_nothing(executor: str) -> None:
    failures = {
        "raise boom": "SensorLost: boom", "exit 3": "SystemExit: 3", "cancel": "CancelledError",
        "interrupt": "KeyboardInterrupt",
    }  # fmt: skip
    tree, pool = a_real_pool(max_restarts=0)
    with tree:
        pool.start_child(scripted(executor), "other", executor=executor, execute="sleep")
        for number, (setup, message) in enumerate(failures.items(), start=1):
            for restart in RESTARTS:
                fields = {"executor": executor, "setup": setup, "restart": restart, "backoff": None}
                with pytest.raises(StartError) as error:
                    pool.start_child(scripted(executor), "a", **fields)
                assert str(error.value) == f"'pool/a' did not start: {message}"
            assert types(tree, "pool/a").count(E.AGENT_STARTING) == 3 * number
            assert names_in_pool(tree) == ["pool/other"]
        assert tree.status("pool").incarnation == 1
        with pytest.raises(NotFound):
            tree.start_agent("pool/a")


@pytest.mark.otp("Q02", "E07")
@every_executor
def test_a_start_that_is_not_needed_returns_none_and_is_not_kept_and_any_other_value_means_ready(
    executor: str,
) -> None:
    tree, pool = a_real_pool()
    with tree:
        for restart in RESTARTS:
            for setup in ("ignore", "", "return 5"):
                fields = {"executor": executor, "setup": setup, "execute": "sleep", "restart": restart}
                path = pool.start_child(scripted(executor), "a", **fields)
                assert path == (None if setup == "ignore" else "pool/a")
                assert names_in_pool(tree) == ([] if setup == "ignore" else ["pool/a"])
                assert tree.count_children("pool").active == (setup != "ignore")
                if path:
                    tree.stop_agent(path)


@pytest.mark.otp("E07")
@pytest.mark.slow
@pytest.mark.parametrize("executor", ["async", "process"])
def test_a_start_that_takes_too_long_is_a_failed_start(executor: str) -> None:
    tree, pool = a_real_pool()
    with tree:
        with pytest.raises(StartError, match=r"setup\(\) did not return within 0\.05 s"):
            pool.start_child(
                scripted(executor), "a", executor=executor, setup="never", start_timeout=0.05, shutdown=0.1
            )
        assert names_in_pool(tree) == []


@pytest.mark.otp("E07")
def test_an_agent_that_ends_itself_in_its_start_is_not_kept_either() -> None:
    tree, pool = a_real_pool()
    with tree:
        pool.start_child(Scripted, "a", setup="shutdown")
        assert names_in_pool(tree) == []
        assert end_of(tree, "pool/a").reason == SHUTDOWN


# Q05


class Large:
    """Something that a test can see go."""


def finish(agent: Any) -> None:
    """End at once."""


async def finish_async(agent: Any) -> None:
    """End at once."""


@pytest.mark.otp("Q05")
@pytest.mark.parametrize("executor", ["thread", "async"])
@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("way", ["it ends", "it is stopped", "its start fails"])
def test_what_a_temporary_child_was_given_is_let_go_when_it_has_ended(way: str, dynamic: bool, executor: str) -> None:
    tree = a_tree()
    pool = tree.add_supervisor("pool", dynamic=dynamic)
    kind, ends = (AsyncDoes, finish_async) if executor == "async" else (Does, finish)
    choices: dict[str, dict[str, object]] = {"it ends": {"execute": ends}, "its start fails": {"setup": "no function"}}
    hooks = choices.get(way, {})
    given: list[weakref.ref[Large]] = []

    def start(name: str) -> None:
        large = Large()
        given.append(weakref.ref(large))
        pool.start_child(kind, name, params={**hooks, "large": large}, restart="temporary")

    with tree:
        for name in "abc":
            if way == "its start fails":
                with pytest.raises(StartError):
                    start(name)
            else:
                start(name)
            if way == "it is stopped":
                tree.stop_agent(f"pool/{name}")
            tree.events.wait_for(E.AGENT_TERMINATED, f"pool/{name}", since=0, timeout=PATIENCE)
        tree.stop_agent("pool")  # by then the supervision thread has done with the last of them
        for thread in threading.enumerate():  # an agent's thread reports its end before it ends itself
            if thread.name.startswith("orchestree:pool/"):
                thread.join(PATIENCE)
        gc.collect()
        assert [each() for each in given] == [None] * 3


# Q06


def cost_of(number: int) -> int:
    """Return how many lines are executed to start and stop `number` children."""
    tree = VirtualTree(supervisor("pool", dynamic=True))
    entries = [agent(str(index), restart="temporary") for index in range(number)]
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    sys.settrace(count)
    try:
        for entry in entries:
            tree.start_child("pool", entry)
        tree.stop()
    finally:
        sys.settrace(None)
    assert tree.exit_code == 0
    return lines


@pytest.mark.otp("Q06")
@pytest.mark.slow
def test_ten_times_the_children_cost_ten_times_as_much() -> None:
    # From the 1,000th on, the outcome of the oldest is let go for each, which the 400 do not pay.
    assert cost_of(4000) < 11.5 * cost_of(400)


# E01


@pytest.mark.otp("E01")
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one", "dependents"])
def test_a_dynamic_supervisor_is_one_for_one_only(strategy: str) -> None:
    with pytest.raises(SpecError, match="strategy"):
        supervisor("pool", dynamic=True, strategy=strategy)
    with pytest.raises(SpecError, match="strategy"):
        a_tree().add_supervisor("pool", dynamic=True, strategy=strategy)  # type: ignore[arg-type]
    tree = a_pool()
    assert isinstance(refused(lambda: tree.reconfigure("pool", strategy=strategy)), SpecError)
    assert isinstance(refused(lambda: tree.start_child("pool", agent("a", strategy=strategy))), SpecError)
    assert tree.states() == {"pool": "ready"}


@pytest.mark.otp("E01")
def test_it_starts_without_children_and_takes_none_before() -> None:
    with pytest.raises(SpecError, match="children"):
        supervisor("pool", agent("a"), dynamic=True)
    tree, pool = a_real_pool()
    with pytest.raises(SpecError):
        pool.register_agent(Does, "a")
    with tree:
        assert (names_in_pool(tree), tree.status("pool").state) == ([], AgentState.READY)


@pytest.mark.otp("E01")
def test_each_child_has_its_own_specification() -> None:
    tree = a_pool(
        process("a", restart="permanent", shutdown=1.0, backoff=None),
        process("b", restart="transient", shutdown="brutal_kill"),
        supervisor("c", agent("x"), restart="temporary", strategy="one_for_all"),
    )
    tree.complete("pool/a")
    tree.complete("pool/b")
    assert tree.states() == {"pool": "ready", "pool/a": "ready", "pool/c": "ready", "pool/c/x": "ready"}
    tree.stop_agent("pool/c")
    assert tree.states() == {"pool": "ready", "pool/a": "ready"}


# E04


@pytest.mark.otp("E04")
def test_neither_significant_children_nor_an_automatic_shutdown() -> None:
    for mode in ("any_significant", "all_significant"):
        with pytest.raises(SpecError, match="auto_shutdown"):
            supervisor("pool", dynamic=True, auto_shutdown=mode)
    tree = a_pool()
    for restart in ("transient", "temporary"):
        error = refused(lambda restart=restart: tree.start_child("pool", agent("a", restart=restart, significant=True)))  # type: ignore[misc]
        assert isinstance(error, SpecError)
    assert tree.states() == {"pool": "ready"}


# E05


@pytest.mark.otp("E05")
def test_max_children_counts_what_runs_restarts_waits_or_parks_and_one_too_many_is_not_started() -> None:
    tree = a_pool(
        agent("runs"), agent("restarts", backoff=SLOW_BACKOFF),
        agent("parks", backoff=Backoff(stop=stop_after_attempt(1))), max_children=3,
    )  # fmt: skip
    tree.crash("pool/restarts")
    tree.crash("pool/parks")
    tree.forget()
    assert tree.states() == {
        "pool": "ready", "pool/runs": "ready", "pool/restarts": "backoff", "pool/parks": "parked",
    }  # fmt: skip
    assert isinstance(refused(lambda: tree.start_child("pool", agent("more"))), MaxChildren)
    assert (tree.log, tree.requests) == ([], [])
    tree.complete("pool/runs")
    tree.start_child("pool", agent("more"))
    assert isinstance(refused(lambda: tree.start_child("pool", agent("too-many"))), MaxChildren)
    tree.stop_agent("pool/restarts")
    tree.start_child("pool", agent("again"))
    assert sorted(tree.states()) == ["pool", "pool/again", "pool/more", "pool/parks"]


@pytest.mark.otp("E05")
@pytest.mark.parametrize("failing", [True, False])
def test_a_child_whose_first_or_later_start_fails_counts_while_it_restarts_and_not_when_it_is_gone(
    failing: bool,
) -> None:
    tree = a_pool(agent("a", backoff=SLOW_BACKOFF), max_children=1)
    tree.failing.add("pool/a")
    tree.crash("pool/a")
    if failing:
        tree.advance(10.0)
    assert tree.state("pool/a") == "backoff"
    assert isinstance(refused(lambda: tree.start_child("pool", agent("b"))), MaxChildren)
    tree.stop_agent("pool/a")
    tree.failing.add("pool/b")
    tree.start_child("pool", agent("b"))
    assert tree.states() == {"pool": "ready"}, "its start failed"
    tree.start_child("pool", agent("c"))
    assert tree.state("pool/c") == "ready"


@pytest.mark.otp("E05")
def test_no_children_at_all_can_be_allowed_and_more_can_be_refused_to_threads() -> None:
    tree, pool = a_real_pool(max_children=0)
    with tree:
        with pytest.raises(MaxChildren, match="max_children=0"):
            pool.start_child(Scripted, setup="raise never")
        assert tree.history(type=E.AGENT_STARTING) == []
    for wrong in (-1, 1.5, "x", True):
        with pytest.raises(SpecError, match="max_children"):
            supervisor("pool", dynamic=True, max_children=wrong)


# E08


@pytest.mark.otp("E08")
@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_what_a_restart_can_answer(restart: str) -> None:
    """Ready, not needed, an error, an error again and then ready; every try is a stamp."""
    tree = a_pool(*(child(name, restart=restart) for name in ("ready", "ignores", "fails", "late")), max_restarts=20)
    tree.manual |= {f"pool/{name}" for name in ("ready", "ignores", "fails", "late")}
    for name in ("ready", "ignores", "fails", "late"):
        tree.crash(f"pool/{name}")
    tree.ready("pool/ready")
    tree.ignore("pool/ignores")
    for _ in range(5):
        tree.end("pool/fails", abnormal(Cause.START_FAILED))
    tree.end("pool/late", abnormal(Cause.START_FAILED))
    tree.ready("pool/late")
    assert tree.states() == {
        "pool": "ready", "pool/ready": "ready", "pool/fails": "starting", "pool/late": "ready",
    }  # fmt: skip
    assert {path: number for path, number in tree.incarnations().items() if path != "pool"} == {
        "pool/ready": 2, "pool/fails": 7, "pool/late": 3,
    }  # fmt: skip
    assert stamps(tree, "pool") == 4 + 5 + 1


@pytest.mark.otp("E08")
@pytest.mark.parametrize("max_restarts", [0, 1, 10])
def test_tries_that_fail_use_up_the_window_and_end_the_supervisor(max_restarts: int) -> None:
    tree = a_pool(child("a", restart="permanent"), child("b"), max_restarts=max_restarts, restart="temporary")
    tree.failing.add("pool/a")
    tree.crash("pool/a")
    starts = told(tree, "AGENT_STARTING")
    assert starts == ["0 STARTING pool/a"] * max_restarts
    ((_, data),) = tree.events("SUPERVISOR_TERMINATED")
    assert isinstance(data, SupervisorTerminated)
    assert (data.reason.cause, data.offender) == ("max_restarts", "pool/a")
    assert tree.states() == {}


@pytest.mark.otp("E08")
def test_one_that_restarts_keeps_its_name_and_serves_commands_between_its_tries() -> None:
    tree = a_pool(agent("a", backoff=SLOW_BACKOFF))
    tree.failing.add("pool/a")
    tree.crash("pool/a")
    tree.start_child("pool", agent("b"))
    tree.failing.clear()
    tree.advance(10.0)
    assert tree.incarnations() == {"pool": 1, "pool/a": 2, "pool/b": 1}


# E09


@pytest.mark.otp("E09")
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("shutdown", ["brutal_kill", 0, 2.0, "infinity"])
def test_a_child_that_is_stopped_is_gone_and_a_second_time_it_is_not_found(shutdown: float | str, restart: str) -> None:
    tree = a_pool(process("a", restart=restart, shutdown=shutdown), process("b"), max_restarts=0)
    tree.stop_agent("pool/a")
    assert isinstance(refused(lambda: tree.stop_agent("pool/a")), NotFound)
    assert told(tree, *LIFE) == ["0 STOPPING pool/a", "0 TERMINATED pool/a"]
    assert tree.states() == {"pool": "ready", "pool/b": "ready"}


@pytest.mark.otp("E09")
def test_also_one_that_is_restarting_can_be_stopped_and_is_not_tried_again() -> None:
    tree = a_pool(agent("a", backoff=SLOW_BACKOFF))
    tree.crash("pool/a")
    tree.stop_agent("pool/a")
    assert isinstance(refused(lambda: tree.stop_agent("pool/a")), NotFound)
    tree.advance(100.0)
    assert tree.states() == {"pool": "ready"}
    assert told(tree, "AGENT_STARTING") == []


@pytest.mark.otp("E09")
@every_executor
def test_a_real_child_that_is_stopped_is_gone(executor: str) -> None:
    tree, pool = a_real_pool()
    with tree:
        path = pool.start_child(scripted(executor), executor=executor, execute="sleep", restart="permanent")
        wait_for_hook(tree, path)
        tree.stop_agent(path)
        assert (names_in_pool(tree), tree.count_children("pool").specs) == ([], 0)
        for call in (tree.stop_agent, tree.start_agent, tree.restart_agent, tree.unregister_agent):
            with pytest.raises(NotFound):
                call(path)
        assert tree.status(path).state is AgentState.STOPPED, "how it ended is remembered"
    assert hooks_of(tree, path) == ["setup", "execute", "on_stop", "teardown"]
