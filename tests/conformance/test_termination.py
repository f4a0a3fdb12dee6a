"""OTP's rules on termination and shutdown values: T01 to T14."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import product

import pytest
from orchestree_testing.each_executor import add_scripted, end_of, hooks_of, only, wait_for_hook
from orchestree_testing.naughty import Naughty, cut_every_channel, ignore_every_signal, leave_the_group
from orchestree_testing.process_harness import wait_until_gone
from orchestree_testing.trees import PATIENCE, AsyncDoes, a_tree, add, trace, wait_for
from otp_support import STRATEGIES, every_executor, stamps
from stories import ENDS, Story, shutdown_errors, told
from virtual import agent, process, supervisor

from orchestree.agents import Agent, AsyncAgent
from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, ExitReason, abnormal
from orchestree.supervisor import AgentState, EventType
from orchestree.supervisor.events import AgentTerminated
from orchestree.supervisor.stopping import GRACE_S

E = EventType
RESTARTS = ("permanent", "transient", "temporary")


# T01

WAYS_TO_END: dict[str, Callable[[Story], None]] = {
    "the whole stops": lambda tree: tree.stop(),
    "an operator stops it": lambda tree: tree.stop_agent("s"),
    "an operator restarts it": lambda tree: tree.restart_agent("s"),
    "it gives up": lambda tree: tree.crash("s/last"),
}


@pytest.mark.otp("T01")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("way", WAYS_TO_END)
def test_children_are_terminated_one_by_one_in_reverse_start_order_each_awaited_before_the_next(
    way: str, strategy: str
) -> None:
    children = [agent(name) for name in ("c", "a", "b")]
    tree = Story(supervisor("s", *children, agent("last", backoff=None), strategy=strategy, max_restarts=0))
    tree.forget()
    tree.manual |= {"s/c", "s/a", "s/b"}
    WAYS_TO_END[way](tree)
    for name in "bac":
        tree.advance(1.0)
        tree.end(f"s/{name}", NORMAL)
    asked = [line for line in tree.requests if not line.endswith("s/last")]
    assert asked == ["0 ask s/b", "1 ask s/a", "2 ask s/c"]
    ends = [line for line in told(tree, *ENDS) if line[2:].startswith(("STOPPING s/", "TERMINATED s/"))]
    assert [line for line in ends if "last" not in line] == [
        "0 STOPPING s/b", "1 TERMINATED s/b", "1 STOPPING s/a", "2 TERMINATED s/a", "2 STOPPING s/c",
        "3 TERMINATED s/c",
    ]  # fmt: skip
    assert told(tree, "SUPERVISOR_TERMINATED")[0] == "3 SUPERVISOR_TERMINATED s"


@pytest.mark.otp("T01")
@every_executor
def test_a_stop_of_real_children_is_awaited_one_by_one_in_reverse_start_order(executor: str) -> None:
    tree = a_tree(strategy="rest_for_one")
    for name in ("c", "a", "b"):
        add_scripted(tree, executor, name, execute="sleep", teardown="work 0.02")
    with tree:
        pass
    assert trace(tree, E.AGENT_STARTING) == [(E.AGENT_STARTING, name) for name in ("c", "a", "b")]
    assert trace(tree, E.AGENT_STOPPING, E.AGENT_TERMINATED) == [
        (kind, name) for name in ("b", "a", "c") for kind in (E.AGENT_STOPPING, E.AGENT_TERMINATED)
    ]


# T02


@pytest.mark.otp("T02")
def test_brutal_kill_is_asked_for_at_once_and_its_end_is_awaited() -> None:
    tree = Story(agent("before"), process("a", shutdown="brutal_kill"), agent("behind"))
    tree.forget()
    tree.stubborn.add("a")
    tree.undying.add("a")
    tree.stop()
    assert [line for line in tree.requests if "kill" in line] == ["0 kill a"]
    tree.advance(1e6)
    assert tree.states() == {"before": "ready", "a": "stopping", "behind": "stopped"}
    tree.end("a", abnormal(Cause.SIGNAL))
    assert told(tree, *ENDS) == [
        "0 STOPPING behind", "0 TERMINATED behind", "0 STOPPING a",
        "1e+06 TERMINATED a", "1e+06 STOPPING before", "1e+06 TERMINATED before",
        "1e+06 SUPERVISOR_TERMINATED", "1e+06 ORCHESTRATOR_STOPPED",
    ]  # fmt: skip


@pytest.mark.otp("T02")
@pytest.mark.slow
def test_a_process_that_is_killed_brutally_runs_no_cleanup_and_its_sibling_does() -> None:
    tree = a_tree()
    # It never leaves `execute`, so a teardown could only come from somebody who asked nicely.
    add_scripted(tree, "process", "killed", execute="never", shutdown="brutal_kill")
    add_scripted(tree, "process", "asked", execute="sleep")
    with tree:
        for name in ("killed", "asked"):
            wait_for_hook(tree, name)
        pids = [status.pid for status in tree.which_children()]
    wait_until_gone(*(pid for pid in pids if pid is not None))
    assert (hooks_of(tree, "killed"), hooks_of(tree, "asked")) == (
        ["setup", "execute"],
        ["setup", "execute", "on_stop", "teardown"],
    )
    asked, ended = only(tree, E.AGENT_STOPPING, "killed"), only(tree, E.AGENT_TERMINATED, "killed")
    assert ended.monotonic - asked.monotonic < 5.0, "the default shutdown time was not waited for"
    assert [tree.status(name).state for name in ("killed", "asked")] == [AgentState.STOPPED] * 2


@pytest.mark.otp("T02")
def test_a_thread_cannot_be_killed_brutally_and_is_told_as_wedged_instead() -> None:
    tree = Story(agent("before"), agent("a", shutdown="brutal_kill"))
    tree.forget()
    tree.manual.add("a")
    tree.stop()
    tree.advance(10.0)
    assert told(tree, *ENDS) == [
        "0 STOPPING a", f"{GRACE_S:g} WEDGED a", f"{GRACE_S:g} STOPPING before", f"{GRACE_S:g} TERMINATED before",
        f"{GRACE_S:g} SUPERVISOR_TERMINATED", f"{GRACE_S:g} ORCHESTRATOR_STOPPED",
    ]  # fmt: skip
    assert tree.exit_code == 1


# T03


@pytest.mark.otp("T03")
@pytest.mark.parametrize("shutdown", [0.1, 1, 7.5])
def test_a_stubborn_child_is_killed_when_its_time_is_over_and_then_awaited_without_limit(shutdown: float) -> None:
    tree = Story(process("obedient", shutdown=shutdown), process("stubborn", shutdown=shutdown))
    tree.forget()
    tree.manual |= {"obedient", "stubborn"}
    tree.undying.add("stubborn")
    tree.stop()
    tree.advance(1000.0)
    assert tree.requests == ["0 ask stubborn", f"{shutdown:g} kill stubborn"]
    assert tree.states() == {"obedient": "ready", "stubborn": "stopping"}
    tree.end("stubborn", abnormal(Cause.SIGNAL))
    tree.advance(shutdown / 2)
    tree.end("obedient", NORMAL)
    tree.advance(1000.0)
    assert tree.requests == ["0 ask stubborn", f"{shutdown:g} kill stubborn", "1000 ask obedient"]
    assert tree.exit_code == 0


@pytest.mark.otp("T03")
@pytest.mark.slow
@every_executor
def test_a_real_child_that_does_not_stop_in_time_is_ended_as_far_as_its_executor_can(executor: str) -> None:
    tree = a_tree()
    add_scripted(tree, executor, "stubborn", execute="never", shutdown=0.1)
    add_scripted(tree, executor, "obedient", execute="sleep", shutdown=PATIENCE)
    with tree:
        tree.stop_agent("obedient")
        tree.stop_agent("stubborn")
        assert end_of(tree, "obedient") == AgentTerminated(SHUTDOWN, AgentState.STOPPED)
        asked = only(tree, E.AGENT_STOPPING, "stubborn")
        if executor == "thread":
            ended = only(tree, E.AGENT_WEDGED, "stubborn")
        else:
            ended = only(tree, E.AGENT_TERMINATED, "stubborn")
            error = "killed by SIGTERM" if executor == "process" else None  # a cancellation is a cooperative end
            assert ended.data == AgentTerminated(SHUTDOWN, AgentState.STOPPED, error)
        assert 0.1 <= ended.monotonic - asked.monotonic < 2.0


# T04


@pytest.mark.otp("T04")
def test_infinity_waits_without_limit_and_is_the_default_of_supervisors_only() -> None:
    tree = Story(supervisor("s", process("endless", shutdown="infinity"), process("default")))
    tree.forget()
    tree.manual |= {"s/endless", "s/default"}
    tree.stop()
    tree.advance(1e6)
    assert tree.requests == ["0 ask s/default", "5 kill s/default", "5 ask s/endless"]
    assert tree.states() == {"s": "stopping", "s/endless": "stopping", "s/default": "stopped"}
    tree.end("s/endless", NORMAL)
    assert tree.states()["s"] == "stopped"
    assert shutdown_errors(tree)["s/endless"] is None


@pytest.mark.otp("T04")
@pytest.mark.slow
@every_executor
def test_a_slow_cleanup_completes_with_infinity_and_is_cut_short_without(executor: str) -> None:
    tree = a_tree()
    for name, shutdown in (("endless", "infinity"), ("short", 0.1)):
        add_scripted(tree, executor, name, execute="sleep", teardown="work 0.6", shutdown=shutdown)
    with tree:
        for name in ("short", "endless"):
            tree.stop_agent(name)
        times = {event.path: event.monotonic for event in tree.history(type=E.AGENT_STOPPING)}
        assert end_of(tree, "endless") == AgentTerminated(SHUTDOWN, AgentState.STOPPED)
        assert only(tree, E.AGENT_TERMINATED, "endless").monotonic - times["endless"] >= 0.6
        cut = E.AGENT_WEDGED if executor == "thread" else E.AGENT_TERMINATED
        assert only(tree, cut, "short").monotonic - times["short"] < 0.6


# T05


@pytest.mark.otp("T05")
def test_with_0_seconds_it_is_asked_and_killed_at_the_same_moment_unless_it_has_ended() -> None:
    tree = Story(process("plain", shutdown=0), process("stubborn", shutdown=0))
    tree.forget()
    tree.stubborn.add("stubborn")
    tree.stop()
    tree.advance(0.0)
    assert tree.requests == ["0 ask stubborn", "0 kill stubborn", "0 ask plain"]
    assert shutdown_errors(tree) == {"stubborn": "killed", "plain": None}


@pytest.mark.otp("T05")
@pytest.mark.slow
def test_a_real_process_that_is_given_0_seconds_is_killed_and_told_as_killed() -> None:
    tree = a_tree()
    add_scripted(tree, "process", "a", execute="never", shutdown=0)
    with tree:
        tree.stop_agent("a", PATIENCE)
        assert end_of(tree, "a") == AgentTerminated(SHUTDOWN, AgentState.STOPPED, "killed by SIGKILL")


# T06: an end after the request is `shutdown` whatever the restart type, as returning is how an agent obeys; OTP's
# exception for a permanent child that answers `normal` has therefore nothing to apply to.

ANSWERS: dict[str, tuple[ExitReason | None, str | None]] = {
    "returns": (NORMAL, None),
    "raises Shutdown": (SHUTDOWN, None),
    "fails": (abnormal(Cause.EXCEPTION), "boom"),
    "does nothing and is killed": (None, "killed"),
}


@pytest.mark.otp("T06")
@pytest.mark.parametrize("way", ["stop_agent", "its supervisor", "its group"])
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize(
    ("answer", "shutdown"),
    [(answer, time) for answer, time in product(ANSWERS, (3.0, "infinity")) if ANSWERS[answer][0] or time == 3.0],
)
def test_a_stop_is_reported_as_a_shutdown_error_only_if_the_child_failed_or_had_to_be_killed(
    answer: str, restart: str, shutdown: float | str, way: str
) -> None:
    reason, error = ANSWERS[answer]
    tree = Story(agent("x", backoff=None), process("a", restart=restart, shutdown=shutdown), strategy="one_for_all")
    tree.manual.add("a")
    tree.forget()
    if way == "its group":
        tree.crash("x")
    elif way == "its supervisor":
        tree.stop()
    else:
        tree.stop_agent("a")
    if reason is None:
        tree.advance(3.0)
    else:
        tree.end("a", reason)
    assert shutdown_errors(tree)["a"] == error
    assert told(tree, "AGENT_CRASHED") == (["0 CRASHED x"] if way == "its group" else [])
    assert stamps(tree) == (way == "its group")


@pytest.mark.otp("T06")
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("answer", [name for name, (reason, _) in ANSWERS.items() if reason is not None])
def test_a_child_that_is_killed_brutally_may_be_faster_and_only_a_failure_of_its_own_is_reported(
    answer: str, restart: str
) -> None:
    reason, error = ANSWERS[answer]
    assert reason is not None
    tree = Story(agent("a", restart=restart, shutdown="brutal_kill"))
    tree.manual.add("a")
    tree.stop_agent("a")
    tree.end("a", reason)
    assert shutdown_errors(tree)["a"] == error


@pytest.mark.otp("T06", "E11")
@pytest.mark.parametrize("restart", RESTARTS)
def test_a_kill_that_was_asked_for_is_no_shutdown_error(restart: str) -> None:
    tree = Story(process("a", restart=restart, shutdown="brutal_kill"))
    tree.stubborn.add("a")
    tree.stop_agent("a")
    assert shutdown_errors(tree)["a"] is None


@pytest.mark.otp("T06")
@every_executor
def test_a_real_child_that_fails_while_it_is_stopped_says_so_in_every_executor(executor: str) -> None:
    tree = a_tree()
    answers = {
        "fails": ({"teardown": "raise leak"}, "SensorLost: leak"),
        "fails beside": ({"on_stop": "raise valve"}, "on_stop: SensorLost: valve"),
        "exits": ({"teardown": "exit 3"}, "SystemExit: 3"),
        "leaves": ({"teardown": "exit 0"}, None),
        "shuts down": ({"teardown": "shutdown"}, None),
        "returns": ({}, None),
    }
    for name, (script, _) in answers.items():
        add_scripted(tree, executor, name.replace(" ", "-"), execute="sleep", **script)
    with tree:
        for name in answers:
            wait_for_hook(tree, name.replace(" ", "-"))
    errors = {name: end_of(tree, name.replace(" ", "-")).shutdown_error for name in answers}
    assert errors == {name: error for name, (_, error) in answers.items()}
    assert trace(tree, E.AGENT_CRASHED) == []


# T07: a process agent is "linked" by its channels; whatever it does to them, its end is that of its process.


@pytest.mark.otp("T07")
@pytest.mark.slow
@pytest.mark.parametrize("trick", [cut_every_channel, leave_the_group, ignore_every_signal])
@pytest.mark.parametrize("leaves", [True, False])
def test_a_process_that_unlinks_itself_cannot_hang_its_supervisor(leaves: bool, trick: Callable[[], None]) -> None:
    tree = a_tree()
    params = {"trick": trick, "leaves": leaves}
    tree.register_agent(Naughty, "a", executor="process", shutdown=0.1, backoff=None, params=params)
    add(tree, "sibling")
    with tree:
        if leaves:
            wait_for(tree, E.AGENT_CRASHED, "a")
            wait_for(tree, E.AGENT_READY, "a", count=2)
        pid = tree.status("a").pid
        assert pid is not None
        tree.stop_agent("a", PATIENCE)
        assert tree.status("a").state is AgentState.STOPPED
        assert tree.status("sibling").state is AgentState.READY
        wait_until_gone(pid)


@pytest.mark.otp("T07")
def test_a_task_that_cancels_itself_or_a_thread_that_leaves_is_noticed_and_can_be_stopped() -> None:
    import _thread
    import asyncio

    async def cancel(agent: AsyncAgent) -> None:
        if agent.incarnation == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await agent.sleep(3600)

    def leave(agent: Agent) -> None:
        if agent.incarnation == 1:
            raise SystemExit(4)
        agent.sleep(3600)

    tree = a_tree()
    add(tree, "task", cancel, kind=AsyncDoes, backoff=None)
    add(tree, "thread", leave, backoff=None)
    add(tree, "exit", lambda agent: _thread.exit(), restart="temporary")
    with tree:
        for name in ("task", "thread"):
            wait_for(tree, E.AGENT_READY, name, count=2)
        wait_for(tree, E.AGENT_TERMINATED, "exit")
        for name in ("task", "thread"):
            tree.stop_agent(name, PATIENCE)
            assert end_of(tree, name) == AgentTerminated(SHUTDOWN, AgentState.STOPPED)


# T08: better than OTP, where only a child that traps exits cleans up.


@pytest.mark.otp("T08")
@every_executor
@pytest.mark.parametrize("way", ["stop", "stop_agent", "restart_agent", "group"])
def test_cleanup_always_runs_when_a_child_is_asked_to_stop(way: str, executor: str) -> None:
    tree = a_tree(strategy="one_for_all")
    trigger = threading.Event()

    def once(agent: Agent) -> None:
        if agent.incarnation == 1:
            trigger.wait(PATIENCE)
            raise ValueError
        agent.sleep(3600)

    add_scripted(tree, executor, "a", execute="block")
    if way == "group":
        add(tree, "trigger", once, backoff=None)
    again = way in ("restart_agent", "group")
    with tree:
        wait_for_hook(tree, "a")
        if way == "stop_agent":
            tree.stop_agent("a")
        elif way == "restart_agent":
            tree.restart_agent("a")
        elif way == "group":
            trigger.set()
        if again:
            wait_for_hook(tree, "a", incarnation=2)
    one_life = ["setup", "execute", "on_stop", "teardown"]
    assert hooks_of(tree, "a") == one_life * (1 + again)
