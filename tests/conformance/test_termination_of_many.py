"""OTP's rules for termination, continued (rows T09 to T14): cleanup that calls back, dynamic children, subtrees."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from orchestree_testing.agents import AsyncScripted, Scripted
from orchestree_testing.each_executor import add_scripted, end_of
from orchestree_testing.naughty import Parent
from orchestree_testing.process_harness import wait_until_gone
from orchestree_testing.scripts import run_program, write
from orchestree_testing.trees import PATIENCE, AsyncDoes, a_tree, add, trace, wait_for
from otp_support import STRATEGIES, every_executor
from stories import ENDS, LIFE, Story, shutdown_errors, told
from virtual import agent, process, supervisor

from orchestree.agents import Agent, AsyncAgent, Shutdown
from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, ExitReason, abnormal
from orchestree.supervisor import AgentState, EventType, Orchestrator, Running
from orchestree.supervisor.events import AgentTerminated

E = EventType
RESTARTS = ("permanent", "transient", "temporary")


# T09

REASONS: dict[str, ExitReason] = {
    "normal": NORMAL, "shutdown": SHUTDOWN, "failed": abnormal(Cause.EXCEPTION), "killed": abnormal(Cause.SIGNAL),
}  # fmt: skip


@pytest.mark.otp("T09")
@pytest.mark.parametrize("seed", range(4))
def test_children_that_end_by_themselves_in_the_middle_do_not_disturb_the_rest_of_the_shutdown(seed: int) -> None:
    middle = [f"{restart}-{reason}" for restart, reason in product(RESTARTS, REASONS)]
    tree = Story(
        process("first"),
        *(process(name, restart=name.partition("-")[0], shutdown=1.0) for name in middle),
        process("last"),
    )
    tree.forget()
    tree.manual |= {"first", "last", *middle}
    tree.stop()
    # Each seed has an order of its own: no step has a divisor in common with their number.
    for number in range(len(middle)):
        name = middle[(number * (1, 5, 7, 11)[seed] + seed) % len(middle)]
        tree.advance(0.01)
        tree.end(name, REASONS[name.partition("-")[2]])
    tree.end("last", NORMAL)
    tree.end("first", NORMAL)
    assert tree.requests == ["0 ask last", "0.12 ask first"]
    assert told(tree, "AGENT_RESTARTING", "AGENT_CRASHED", "AGENT_STARTING") == []
    assert told(tree, *ENDS)[-4:] == [
        "0.12 STOPPING first", "0.12 TERMINATED first", "0.12 SUPERVISOR_TERMINATED", "0.12 ORCHESTRATOR_STOPPED",
    ]  # fmt: skip
    assert shutdown_errors(tree) == {
        "first": None, "last": None, **{name: "boom" if REASONS[name.partition("-")[2]].kind == "abnormal" else None
                                        for name in middle},
    }  # fmt: skip
    assert tree.exit_code == 0


@pytest.mark.otp("T09")
@pytest.mark.parametrize("executor", ["thread", "async"])
def test_real_children_that_end_by_themselves_while_the_last_one_stops_disturb_nothing(executor: str) -> None:
    stopping, gone = threading.Event(), threading.Semaphore(0)

    def leave(name: str) -> Callable[[Any], object]:
        def execute(agent: Agent) -> None:
            stopping.wait(PATIENCE)
            gone.release()
            if name.endswith("shutdown"):
                raise Shutdown
            if name.endswith("failed"):
                raise ValueError(name)

        return execute

    def last_words(agent: Agent) -> None:
        stopping.set()
        for _ in range(9):
            gone.acquire(timeout=PATIENCE)

    tree = a_tree()
    add_scripted(tree, executor, "first", execute="sleep")
    for restart, reason in product(RESTARTS, ("normal", "shutdown", "failed")):
        add(tree, f"{restart}-{reason}", leave(reason), restart=restart, backoff=None)
    add(tree, "last", teardown=last_words)
    with tree:
        tree.stop(PATIENCE)
    assert tree.exit_code == 0
    assert trace(tree, E.AGENT_RESTARTING, E.AGENT_CRASHED) == []
    assert [end_of(tree, name) for name in ("first", "last")] == [AgentTerminated(SHUTDOWN, AgentState.STOPPED)] * 2


# T10


def call_everything(tree: Orchestrator, agent: Any) -> list[str]:
    """Call the supervisor from a hook: reads answer, what acts is handed in, and nothing waits."""
    # The hook may run before the snapshot of the decision that it belongs to is there.
    answers = [str(tree.status(agent.path).state in (AgentState.READY, AgentState.STOPPING))]
    answers.append(str(tree.count_children().specs))
    for call in (tree.stop_agent, tree.restart_agent, tree.start_agent):
        call("sibling")
        call(agent.path)
    add(tree, f"new-{agent.name}")
    tree.unregister_agent(agent.path)
    answers.append(str(tree.join()))
    return answers


@pytest.mark.otp("T10")
@pytest.mark.parametrize("hook", ["teardown", "on_stop"])
def test_cleanup_of_a_thread_that_calls_its_own_supervisor_is_answered_at_once(hook: str) -> None:
    tree, answers = a_tree(), list[str]()
    add(tree, "sibling")
    add(tree, "a", shutdown=PATIENCE, **{hook: lambda agent: answers.extend(call_everything(tree, agent))})
    with tree:
        tree.stop_agent("a", PATIENCE)
        assert answers == ["True", "2", "False"]
        wait_for(tree, E.AGENT_READY, "new-a")
    assert trace(tree, E.AGENT_WEDGED, E.AGENT_CRASHED) == []


@pytest.mark.otp("T10")
def test_cleanup_of_a_task_that_calls_its_own_supervisor_is_answered_at_once() -> None:
    tree, answers = a_tree(), list[str]()

    async def teardown(agent: AsyncAgent) -> None:
        if agent.incarnation == 1:
            answers.extend(call_everything(tree, agent))
            await tree.aio.stop_agent("sibling")
            await tree.aio.stop_agent(agent.path)

    add(tree, "sibling")
    add(tree, "a", kind=AsyncDoes, teardown=teardown, shutdown=PATIENCE)
    with tree:
        tree.stop_agent("a", PATIENCE)
        assert answers == ["True", "2", "False"]
    assert trace(tree, E.AGENT_WEDGED, E.AGENT_CRASHED) == []


@pytest.mark.otp("T10")
@pytest.mark.slow
def test_cleanup_of_a_process_that_calls_its_own_supervisor_is_refused_at_once(tmp_path: Path) -> None:
    write(
        tmp_path / "script.py",
        """
        import threading
        from orchestree import Agent, NotRunning, Orchestrator

        tree = Orchestrator(Orchestrator.Config(run_mode="daemon", control=False))

        class Cleaner(Agent):
            def execute(self):
                self.sleep(3600)

            def teardown(self):
                for call in (tree.stop, tree.join, lambda: tree.stop_agent("a"), lambda: tree.unregister_agent("a")):
                    try:
                        call()
                    except NotRunning:
                        self.emit("refused")

        tree.register_agent(Cleaner, "a", executor="process", shutdown="infinity")
        tree.on("agent_ready")(lambda event: tree.stop())
        code = tree.simple_join()
        print(code, [event.data.name for event in tree.history(type="agent_message")])
        """,
    )
    output = run_program("script.py", cwd=tmp_path, LOGURU_AUTOINIT="False")
    assert output.splitlines()[-1] == "0 ['refused', 'refused', 'refused', 'refused']"


# T11


@pytest.mark.otp("T11")
@pytest.mark.parametrize("ending", ["stop", "stop_agent", "restart_agent", "it gives up"])
def test_all_children_of_a_dynamic_supervisor_are_asked_at_the_same_time_and_killed_at_the_same_time(
    ending: str,
) -> None:
    tree = Story(agent("before"), supervisor("pool", dynamic=True, max_restarts=0))
    names = [f"pool/{number}" for number in range(40)]
    for name in names:
        tree.start_child("pool", process(name.removeprefix("pool/"), shutdown=0.1, backoff=None))
    tree.start_child("pool", agent("last", backoff=None))
    tree.manual |= set(names[:20])
    tree.forget()
    if ending == "it gives up":
        tree.crash("pool/last")
    elif ending == "stop":
        tree.stop()
    else:
        getattr(tree, ending)("pool")
    tree.advance(10.0)
    asked = [line for line in tree.requests if " ask pool/" in line and "last" not in line]
    assert sorted(asked) == sorted(f"0 ask {name}" for name in names)
    assert sorted(line for line in tree.requests if " kill " in line) == sorted(
        f"0.1 kill {name}" for name in names[:20]
    )
    assert told(tree, "SUPERVISOR_TERMINATED")[0] == "0.1 SUPERVISOR_TERMINATED pool"


@pytest.mark.otp("T11")
def test_what_went_wrong_in_a_child_of_a_dynamic_supervisor_is_told_for_each() -> None:
    """OTP makes one report of all that ended alike; here every end is an event of its own."""
    tree = Story(supervisor("pool", dynamic=True))
    for name in ("slow", "slower", "failing", "good"):
        tree.start_child("pool", process(name, shutdown=1.0))
        tree.manual.add(f"pool/{name}")
    tree.forget()
    tree.stop()
    tree.advance(0.5)
    tree.crash("pool/failing", "no disk")
    tree.end("pool/good", NORMAL)
    tree.advance(0.5)
    errors = {"slow": "killed", "slower": "killed", "failing": "no disk", "good": None}
    assert shutdown_errors(tree) == {f"pool/{name}": error for name, error in errors.items()}
    assert told(tree, "SUPERVISOR_TERMINATED")[0] == "1 SUPERVISOR_TERMINATED pool"


@pytest.mark.otp("T11")
@pytest.mark.slow
@every_executor
def test_slow_children_of_a_dynamic_supervisor_stop_in_the_time_of_the_slowest(executor: str) -> None:
    tree = a_tree()
    pool: Any = tree.add_supervisor("pool", dynamic=True)
    kind = AsyncScripted if executor == "async" else Scripted
    with tree:
        for _ in range(20):
            pool.start_child(kind, executor=executor, execute="sleep", teardown="work 0.4")
        tree.stop_agent("pool")
    asked = [event.monotonic for event in tree.history(type=E.AGENT_STOPPING)]
    ends = [event.monotonic for event in tree.history(type=E.AGENT_TERMINATED)]
    assert len(asked) == len(ends) == 20
    assert max(asked) <= min(ends)
    assert max(ends) - min(asked) < 20 * 0.4 / 2


# T12


@pytest.mark.otp("T12")
@pytest.mark.parametrize("shutdown", [3.0, 0, "brutal_kill"])
def test_when_the_time_of_a_child_supervisor_is_over_its_whole_subtree_is_killed_at_once(shutdown: float | str) -> None:
    inner = supervisor("inner", process("x", shutdown="infinity"), process("y", shutdown=1000.0))
    team = supervisor("team", process("a", shutdown="infinity"), inner, process("b"), shutdown=shutdown)
    tree = Story(agent("before"), team)
    tree.forget()
    tree.manual |= {"team/a", "team/inner/x", "team/inner/y"}
    tree.stop()
    tree.advance(100.0)
    moment = "3" if shutdown == 3.0 else "0"
    assert [line for line in tree.requests if "kill" in line and "team/b" not in line] == [
        f"{moment} kill team/inner/y", f"{moment} kill team/inner/x", f"{moment} kill team/a",
    ]  # fmt: skip
    assert told(tree, "SUPERVISOR_TERMINATED") == [
        f"{moment} SUPERVISOR_TERMINATED team/inner", f"{moment} SUPERVISOR_TERMINATED team",
        f"{moment} SUPERVISOR_TERMINATED",
    ]  # fmt: skip
    assert tree.exit_code == 0


@pytest.mark.otp("T12")
def test_a_thread_below_a_supervisor_whose_time_is_over_is_told_as_wedged_and_awaited_no_longer() -> None:
    tree = Story(supervisor("team", process("a", shutdown="infinity"), agent("t", shutdown="infinity"), shutdown=1.0))
    tree.forget()
    tree.manual |= {"team/a", "team/t"}
    tree.stop()
    tree.advance(100.0)
    assert told(tree, *ENDS) == [
        "0 STOPPING team/t", "1 STOPPING team/a", "1 TERMINATED team/a", "1.1 WEDGED team/t",
        "1.1 SUPERVISOR_TERMINATED team", "1.1 SUPERVISOR_TERMINATED", "1.1 ORCHESTRATOR_STOPPED",
    ]  # fmt: skip


@pytest.mark.otp("T12")
@pytest.mark.slow
def test_the_end_of_a_subtree_leaves_no_orphan_not_even_a_grandchild() -> None:
    tree = a_tree()
    outer = tree.add_supervisor("outer", shutdown=0.2)
    inner = outer.add_supervisor("inner")
    paths = []
    for place, name in ((outer, "a"), (inner, "x"), (inner, "y")):
        place.register_agent(Parent, name, executor="process", shutdown="infinity")
        paths.append(f"{place.path}/{name}")
    with tree:
        pids: list[int] = []
        for path in paths:
            data: Any = wait_for(tree, E.AGENT_MESSAGE, path).data
            pid = tree.status(path).pid
            assert pid is not None
            pids += [pid, data.data["pid"]]
        tree.stop_agent("outer", PATIENCE)
        wait_until_gone(*pids)
        assert {tree.status(path).state for path in (*paths, "outer", "outer/inner")} == {AgentState.STOPPED}


# T13


@pytest.mark.otp("T13")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["a", "b", "c"])
@pytest.mark.parametrize("restart", RESTARTS)
def test_stopping_one_member_of_a_group_affects_only_that_child(restart: str, name: str, strategy: str) -> None:
    tree = Story(*(agent(each, restart=restart) for each in "abc"), strategy=strategy, max_restarts=0)
    tree.forget()
    tree.stop_agent(name)
    tree.advance(100.0)
    assert told(tree, *LIFE) == [f"0 STOPPING {name}", f"0 TERMINATED {name}"]
    assert tree.requests == [f"0 ask {name}"]
    down = {} if restart == "temporary" else {name: "stopped"}
    assert tree.states() == {each: "ready" for each in "abc" if each != name} | down


# T14: where OTP's callers wait for a stop in progress, here only a command to the same child does.


@pytest.mark.otp("T14")
def test_while_a_child_stops_reads_and_commands_to_others_are_answered_and_commands_to_it_wait() -> None:
    tree, cleaning, release = a_tree(), threading.Event(), threading.Event()

    def slow(agent: Agent) -> None:
        cleaning.set()
        release.wait(PATIENCE)

    add(tree, "slow", teardown=slow, shutdown="infinity")
    add(tree, "other")
    with tree, ThreadPoolExecutor(4) as pool:
        stops = [pool.submit(tree.stop_agent, "slow") for _ in range(2)]
        cleaning.wait(PATIENCE)
        assert tree.status("slow").state is AgentState.STOPPING
        assert [status.state for status in tree.which_children()] == [AgentState.STOPPING, AgentState.READY]
        assert tree.count_children().active == 2
        tree.restart_agent("other", PATIENCE)
        add(tree, "new")
        tree.wait_until("new", "ready", PATIENCE)
        with pytest.raises(Running):
            tree.start_agent("slow")
        with pytest.raises(TimeoutError):
            tree.stop_agent("slow", 0.0)
        assert [stop.done() for stop in stops] == [False, False]
        release.set()
        for stop in stops:
            stop.result(PATIENCE)
        assert tree.status("slow").state is AgentState.STOPPED
