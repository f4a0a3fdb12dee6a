"""OTP's rules on trees, parents, links and names: P01 to P14, but for P02 and P12, where Orchestree differs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from orchestree_testing.each_executor import add_scripted, hooks_of, only, wait_for_hook
from orchestree_testing.host import DEADLINE_S
from orchestree_testing.naughty import Claimant, Trapping
from orchestree_testing.process_harness import wait_until_gone
from orchestree_testing.scripts import start_program, write
from orchestree_testing.trees import PATIENCE, a_tree, add, trace, types, wait_for
from otp_support import STRATEGIES, child, every_executor, stamps
from stories import LIFE, Story, reports, told
from tenacity import stop_after_attempt, wait_fixed
from virtual import process, refused, supervisor

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, ExitKind, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunReady
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor import AgentEntry, AgentState, AlreadyStarted, EventType, NotFound, SpecError, StartError
from orchestree.supervisor.events import AgentCrashed, SupervisorTerminated
from orchestree.supervisor.lifecycle_log import level_of

E = EventType
GAVE_UP = ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS)


def three_levels(**fields: object) -> Any:
    """Return ``a``, ``s/x``, ``s/t/y``, ``s/z``, ``b``, registered in this order."""
    low = supervisor("t", child("y"), **fields)
    return child("a"), supervisor("s", child("x"), low, child("z"), **fields), child("b")


# P01


@pytest.mark.otp("P01")
def test_a_supervisor_is_a_child_like_any_other_whose_shutdown_is_infinity() -> None:
    entry = supervisor("s")
    assert (entry.shutdown, entry.restart) == ("infinity", "permanent")
    tree = Story(entry, child("a"), supervisor("s2"))
    assert tree.states() == {"s": "ready", "a": "ready", "s2": "ready"}
    tree.stop_agent("s")
    tree.start_agent("s")
    tree.restart_agent("s")
    tree.stop_agent("s")
    tree.unregister("s")
    assert tree.states() == {"a": "ready", "s2": "ready"}
    assert isinstance(refused(lambda: tree.register("", supervisor("a"))), AlreadyStarted)


@pytest.mark.otp("P01")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_tree_starts_depth_first_in_start_order_and_stops_depth_first_in_reverse(strategy: str) -> None:
    tree = Story(*three_levels(strategy=strategy), strategy=strategy)
    starts = told(tree, "AGENT_STARTING", "SUPERVISOR_STARTED")
    assert starts == [
        "0 SUPERVISOR_STARTED", "0 STARTING a", "0 SUPERVISOR_STARTED s", "0 STARTING s/x",
        "0 SUPERVISOR_STARTED s/t", "0 STARTING s/t/y", "0 STARTING s/z", "0 STARTING b",
    ]  # fmt: skip
    tree.forget()
    tree.stop()
    assert told(tree, "AGENT_STOPPING", "AGENT_TERMINATED", "SUPERVISOR_TERMINATED") == [
        "0 STOPPING b", "0 TERMINATED b", "0 STOPPING s/z", "0 TERMINATED s/z",
        "0 STOPPING s/t/y", "0 TERMINATED s/t/y", "0 SUPERVISOR_TERMINATED s/t",
        "0 STOPPING s/x", "0 TERMINATED s/x", "0 SUPERVISOR_TERMINATED s",
        "0 STOPPING a", "0 TERMINATED a", "0 SUPERVISOR_TERMINATED",
    ]  # fmt: skip


@pytest.mark.otp("P01")
def test_where_the_order_matters_a_subtree_is_up_before_the_child_behind_it_starts() -> None:
    """OTP always starts one after the other; here REST_FOR_ONE does, the others start side by side."""
    tree = Story(*three_levels(strategy="rest_for_one"), strategy="rest_for_one", started=False)
    agents = ["a", "s/x", "s/t/y", "s/z", "b"]
    tree.manual |= set(agents)
    tree.start()
    for name in agents:
        tree.advance(1.0)
        tree.ready(name)
    assert told(tree, "AGENT_STARTING", "SUPERVISOR_STARTED", "SUPERVISOR_READY") == [
        "0 SUPERVISOR_STARTED", "0 STARTING a", "1 SUPERVISOR_STARTED s", "1 STARTING s/x",
        "2 SUPERVISOR_STARTED s/t", "2 STARTING s/t/y", "3 SUPERVISOR_READY s/t", "3 STARTING s/z",
        "4 SUPERVISOR_READY s", "4 STARTING b", "5 SUPERVISOR_READY",
    ]  # fmt: skip


# P03


@pytest.mark.otp("P03")
def test_escalation_goes_one_level_at_a_time_and_each_parent_counts_one_restart() -> None:
    low = supervisor("low", child("x"), child("y"), max_restarts=1, backoff=None)
    tree = Story(supervisor("mid", low, child("m"), max_restarts=1, backoff=None), child("top"), max_restarts=9)
    counts = []
    for _ in range(4):
        tree.crash("mid/low/x")
        counts.append([stamps(tree, path) for path in ("mid/low", "mid", "")])
    assert counts == [[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert tree.incarnations() == {"mid": 2, "mid/low": 3, "mid/low/x": 5, "mid/low/y": 3, "mid/m": 2, "top": 1}
    ended = [(path, data) for _, _, path, data in tree.log if isinstance(data, SupervisorTerminated)]
    assert ended == [
        ("mid/low", SupervisorTerminated(GAVE_UP, "mid/low/x")),
        ("mid/low", SupervisorTerminated(GAVE_UP, "mid/low/x")),
        ("mid", SupervisorTerminated(GAVE_UP, "mid/low")),
    ]


@pytest.mark.otp("P03")
def test_a_level_that_gives_up_ends_before_the_one_above_it_decides() -> None:
    low = supervisor("low", child("x"), child("y"), max_restarts=0, backoff=None)
    tree = Story(supervisor("mid", low, child("m"), max_restarts=0, backoff=None), child("top"), max_restarts=0)
    tree.forget()
    tree.crash("mid/low/x")
    assert told(tree, *LIFE) == [
        "0 CRASHED mid/low/x", "0 TERMINATED mid/low/x", "0 STOPPING mid/low/y", "0 TERMINATED mid/low/y",
        "0 SUPERVISOR_TERMINATED mid/low", "0 STOPPING mid/m", "0 TERMINATED mid/m", "0 SUPERVISOR_TERMINATED mid",
        "0 STOPPING top", "0 TERMINATED top", "0 SUPERVISOR_TERMINATED", "0 ORCHESTRATOR_STOPPED",
    ]  # fmt: skip
    assert tree.exit_code == 70


# P04

PARENT_ENDS: dict[str, Callable[[Story], None]] = {
    "the whole is stopped": lambda tree: tree.stop(),
    "the parent is stopped": lambda tree: tree.stop_agent("p"),
    "the parent gives up": lambda tree: tree.crash("p/fragile"),
    "the parent ends well": lambda tree: tree.complete("p/significant"),
}


@pytest.mark.otp("P04")
@pytest.mark.parametrize("way", PARENT_ENDS)
def test_when_its_parent_ends_a_supervisor_terminates_its_children_in_order_and_ends(way: str) -> None:
    """Its reason is always `shutdown`: as in OTP its children cannot tell by it why."""
    ends_well = supervisor("s", child("x"), child("y"), restart="permanent", max_restarts=0)
    parent = supervisor(
        "p", child("fragile", restart="permanent"), child("significant", significant=True), ends_well,
        auto_shutdown="any_significant", restart="temporary", max_restarts=0,
    )  # fmt: skip
    tree = Story(parent)
    tree.manual |= {"p/s/x", "p/s/y"}
    tree.forget()
    PARENT_ENDS[way](tree)
    tree.advance(1.0)
    tree.end("p/s/y", NORMAL)
    tree.advance(1.0)
    tree.end("p/s/x", NORMAL)
    of_s = [line for line in told(tree, *LIFE) if line.endswith((" p/s", " p/s/x", " p/s/y"))]
    assert of_s == [
        "0 STOPPING p/s/y", "1 TERMINATED p/s/y", "1 STOPPING p/s/x", "2 TERMINATED p/s/x",
        "2 SUPERVISOR_TERMINATED p/s",
    ]  # fmt: skip
    assert [data for _, data in tree.events("SUPERVISOR_TERMINATED", "p/s")] == [SupervisorTerminated(SHUTDOWN)]


@pytest.mark.otp("P04")
@every_executor
def test_real_children_of_a_supervisor_whose_parent_ends_clean_up_in_order(executor: str) -> None:
    tree = a_tree()
    inner = tree.add_supervisor("p").add_supervisor("s")
    for name in "xy":
        add_scripted(inner, executor, name, execute="sleep")
    with tree:
        for name in "xy":
            wait_for_hook(tree, f"p/s/{name}")
        tree.stop_agent("p")
        assert {tree.status(path).state for path in ("p", "p/s", "p/s/x", "p/s/y")} == {AgentState.STOPPED}
    ends = [path for _, path in trace(tree, E.AGENT_TERMINATED, E.SUPERVISOR_TERMINATED)]
    assert ends == ["p/s/y", "p/s/x", "p/s", "p", ""]
    assert [hooks_of(tree, f"p/s/{name}")[-1] for name in "xy"] == ["teardown", "teardown"]


# P05


@pytest.mark.otp("P05")
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, *(abnormal(cause) for cause in list(Cause)[5:])], ids=str)
@pytest.mark.parametrize(
    "stranger", [RunId("nobody", 1), RunId("s", 1), RunId("", 1), RunId("s/x", 1), RunId("s/x", 3)]
)
def test_the_end_of_what_is_no_child_changes_nothing(stranger: RunId, reason: ExitReason) -> None:
    tree = Story(supervisor("s", child("x"), max_restarts=1), max_restarts=0, strategy="one_for_all")
    tree.crash("s/x")
    tree.forget()
    tree.tell(RunEnded(run=stranger, reason=reason))
    tree.tell(RunReady(stranger))
    assert (tree.log, tree.states()) == ([], {"s": "ready", "s/x": "ready"})


@pytest.mark.otp("P05")
@pytest.mark.slow
def test_a_signal_from_a_stranger_to_a_child_is_that_childs_end_and_nobody_elses() -> None:
    tree = a_tree()
    team = tree.add_supervisor("team", max_restarts=10)
    for name in "ab":
        add_scripted(team, "process", name, execute="sleep", backoff=None)
    with tree:
        pid, other = tree.status("team/a").pid, tree.status("team/b").pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        wait_for(tree, E.AGENT_READY, "team/a", count=2)
        assert tree.status("team/b").pid == other
        assert [tree.status(path).incarnation for path in ("team/a", "team/b", "team", "")] == [2, 1, 1, 1]


# P06 and the rest of P04: the process of the orchestrator is killed.


@pytest.mark.otp("P04", "P06")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_when_the_supervisors_process_is_killed_no_child_survives_not_even_one_that_ignores_everything(
    number: signal.Signals, tmp_path: Path
) -> None:
    write(
        tmp_path / "app.py",
        """
        import json
        from orchestree import Orchestrator
        from orchestree_testing.naughty import Naughty, Parent, ignore_every_signal, leave_the_group
        from orchestree_testing.process_agents import AsyncSleeper, Sleeper
        from orchestree_testing.trees import wait_for

        tree = Orchestrator(Orchestrator.Config(run_mode="daemon", control=False))
        low = tree.add_supervisor("mid").add_supervisor("low")
        low.register_agent(Sleeper, "plain", executor="process")
        low.register_agent(AsyncSleeper, "coroutine", executor="process")
        low.register_agent(Parent, "parent", executor="process")
        for trick in (ignore_every_signal, leave_the_group):
            params = {"trick": trick, "leaves": False}
            low.register_agent(Naughty, trick.__name__, executor="process", params=params, shutdown="infinity")

        @tree.on("orchestrator_started")
        def say(event):
            import threading

            def watch():
                child = wait_for(tree, "agent_message", "mid/low/parent").data.data["pid"]
                for name in ("ignore_every_signal", "leave_the_group"):
                    wait_for(tree, "agent_message", f"mid/low/{name}")
                tree.wait_until("mid/low", "ready", 20)
                print(json.dumps([child, *(status.pid for status in tree.which_children("mid/low"))]), flush=True)

            threading.Thread(target=watch, daemon=True).start()

        tree.simple_join()
        """,
    )
    with start_program("app.py", cwd=tmp_path, LOGURU_AUTOINIT="False") as program:
        assert program.stdout is not None
        pids = json.loads(program.stdout.readline())
        assert len(set(pids)) == 6
        program.send_signal(number)
        program.communicate(timeout=DEADLINE_S)
        assert program.returncode == -number
    wait_until_gone(*pids)


# P07: what a signal does to a process agent, which has no links


DEADLY = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGALRM", "SIGKILL", "SIGABRT", "SIGSEGV")
HARMLESS = (0, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT)


@pytest.mark.otp("P07")
@pytest.mark.slow
def test_a_signal_ends_a_process_that_does_not_trap_it_and_is_the_reason() -> None:
    tree = a_tree()
    for name in DEADLY:
        add_scripted(tree, "process", name, execute="sleep", backoff=None)
    with tree:
        for name in DEADLY:
            wait_for_hook(tree, name)
            pid = tree.status(name).pid
            assert pid is not None
            os.kill(pid, signal.Signals[name])
            wait_for(tree, E.AGENT_READY, name, count=2)
            data = only(tree, E.AGENT_CRASHED, name).data
            assert isinstance(data, AgentCrashed)
            assert (data.reason, data.report.signal, data.report.pid) == (abnormal(Cause.SIGNAL), name, pid)


@pytest.mark.otp("P07")
@pytest.mark.slow
def test_a_signal_that_means_no_harm_ends_nothing() -> None:
    """As OTP's `normal`, which does not end a process that does not trap it."""
    tree = a_tree()
    add_scripted(tree, "process", "a", execute="sleep", backoff=None)
    with tree:
        wait_for_hook(tree, "a")
        pid = tree.status("a").pid
        assert pid is not None
        for number in HARMLESS:
            os.kill(pid, number)
        tree.stop_agent("a")
    assert hooks_of(tree, "a") == ["setup", "execute", "on_stop", "teardown"]
    assert trace(tree, E.AGENT_CRASHED) == []


@pytest.mark.otp("P07")
@pytest.mark.slow
def test_a_process_that_traps_a_signal_gets_it_as_a_message_and_none_can_trap_a_kill() -> None:
    tree = a_tree()
    tree.register_agent(Trapping, "a", executor="process", backoff=None)
    with tree:
        pid = tree.status("a").pid
        assert pid is not None
        wait_for_hook(tree, "a", "trapping")
        for name in ("SIGTERM", "SIGHUP", "SIGUSR1"):
            os.kill(pid, signal.Signals[name])
            wait_for_hook(tree, "a", name)
        assert tree.status("a").incarnation == 1
        os.kill(pid, signal.SIGKILL)
        wait_for(tree, E.AGENT_READY, "a", count=2)
        data = only(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(data, AgentCrashed)
        assert data.report.signal == "SIGKILL"


# P08: a monitor is a wait for a state or an event


@pytest.mark.otp("P08")
@every_executor
def test_every_watcher_of_a_child_is_told_once_how_it_ended_and_the_child_notices_nothing(executor: str) -> None:
    tree = a_tree()
    add_scripted(tree, executor, "a", execute="sleep", restart="temporary", shutdown=PATIENCE)
    ended = (E.AGENT_TERMINATED,)
    with tree, ThreadPoolExecutor(8) as pool:
        wait_for_hook(tree, "a")
        since = tree.events.latest
        seen = [pool.submit(tree.events.wait_for, ended, "a", since=since, timeout=PATIENCE) for _ in range(5)]
        states = [pool.submit(tree.wait_until, "a", "stopped", PATIENCE) for _ in range(2)]
        tree.stop_agent("a")
        events = [one.result(PATIENCE) for one in seen]
        for state in states:
            state.result(PATIENCE)
        assert {event.seq for event in events} == {only(tree, E.AGENT_TERMINATED, "a").seq}
        with pytest.raises(TimeoutError):
            tree.events.wait_for(ended, "a", since=events[0].seq, timeout=0.01)
    assert hooks_of(tree, "a") == ["setup", "execute", "on_stop", "teardown"]


@pytest.mark.otp("P08")
@every_executor
def test_a_watcher_that_comes_too_late_is_told_at_once(executor: str) -> None:
    tree = a_tree()
    add_scripted(tree, executor, "gone", execute="raise boom", restart="temporary")
    add(tree, "a")
    with tree:
        end = tree.events.wait_for(E.AGENT_TERMINATED, "gone", since=0, timeout=PATIENCE)
        again = tree.events.wait_for(E.AGENT_TERMINATED, "gone", since=0, timeout=0.0)
        assert again == end
        tree.wait_until("gone", "failed", 0.0)
        assert tree.status("gone").state is AgentState.FAILED
        with pytest.raises(NotFound):
            tree.wait_until("nobody", "ready", PATIENCE)
        tree.stop_agent("a")
        tree.unregister_agent("a")
        with pytest.raises(NotFound):
            tree.wait_until("a", "stopped", PATIENCE)


# P09

BEGINNINGS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "it says nothing": ("", "ready", ("AGENT_STARTING", "AGENT_READY")),
    "any value": ("return 5", "ready", ("AGENT_STARTING", "AGENT_READY")),
    "IGNORE": ("ignore", "completed", ("AGENT_STARTING", "AGENT_TERMINATED")),
    "Shutdown": ("shutdown", "completed", ("AGENT_STARTING", "AGENT_TERMINATED")),
    "an exception": ("raise boom", "parked", ("AGENT_STARTING", "AGENT_CRASHED", "AGENT_PARKED")),
    "an exit": ("exit 3", "parked", ("AGENT_STARTING", "AGENT_CRASHED", "AGENT_PARKED")),
}


@pytest.mark.otp("P09")
@every_executor
@pytest.mark.parametrize("answer", BEGINNINGS)
def test_what_a_start_can_answer(answer: str, executor: str) -> None:
    """A value other than IGNORE means ready: in OTP it would be an error, here `setup` need not return anything."""
    setup, state, expected = BEGINNINGS[answer]
    tree = a_tree()
    add_scripted(tree, executor, "a", setup=setup, execute="sleep", backoff=Backoff(stop=stop_after_attempt(1)))
    with tree:
        assert tree.status("a").state == state
        kinds = [kind.name for kind in types(tree, "a") if kind is not E.AGENT_MESSAGE]
        assert kinds == ["AGENT_REGISTERED", *expected]
        if state == "parked":
            crash = tree.status("a").last_crash
            assert crash is not None
            assert (crash.cause, crash.phase) == ("start_failed", "setup")


@pytest.mark.otp("P09")
@every_executor
@pytest.mark.parametrize("setup", ["raise boom", "ignore", "shutdown"])
def test_the_name_is_free_when_whoever_started_it_is_told_that_it_did_not_start(setup: str, executor: str) -> None:
    tree = a_tree()
    # What was not needed stays listed unless it is temporary; of what failed nothing stays anyway.
    restart = "transient" if setup == "raise boom" else "temporary"
    with tree:
        for _ in range(3):
            entry = scripted_entry(executor, setup, restart)
            if setup == "raise boom":
                with pytest.raises(StartError, match="boom"):
                    tree.start_child(entry)
            else:
                tree.start_child(entry)
            assert tree.which_children() == []
        tree.start_child(scripted_entry(executor, "", restart))
        assert [status.path for status in tree.which_children()] == ["a"]


def scripted_entry(executor: str, setup: str, restart: str) -> AgentEntry:
    """Return the specification of an agent named ``a``, which belongs to no tree yet."""
    return add_scripted(a_tree(), executor, "a", setup=setup, execute="sleep", restart=restart)


# P10


@pytest.mark.otp("P10")
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, *(abnormal(cause) for cause in list(Cause)[5:])], ids=str)
def test_only_an_end_that_is_neither_normal_nor_shutdown_is_logged_as_an_error(
    reason: ExitReason, restart: str
) -> None:
    tree = Story(process("a", restart=restart, backoff=None))
    tree.forget()
    tree.end("a", reason)
    errors = [line for line in reports(tree) if line.startswith("ERROR CRASHED")]
    assert errors == (["ERROR CRASHED a"] if reason.kind is ExitKind.ABNORMAL else [])


@pytest.mark.otp("P10")
@every_executor
def test_the_level_of_each_real_end(executor: str) -> None:
    ends = {"return 1": "INFO", "shutdown": "INFO", "exit 0": "INFO", "exit 3": "ERROR", "raise boom": "ERROR"}
    tree = a_tree(run_mode="stop_on_empty")
    for number, execute in enumerate(ends):
        add_scripted(tree, executor, str(number), execute=execute, restart="temporary")
    tree.simple_join()
    for number, (execute, level) in enumerate(ends.items()):
        levels = {level_of(event) for event in tree.history(str(number)) if event.type is not E.AGENT_MESSAGE}
        assert levels - {"DEBUG", "INFO"} == ({"ERROR"} if level == "ERROR" else set()), execute


# P11: what a child holds (a name, a port, a file) goes with its run, and the next run must get it again.


@pytest.mark.otp("P11")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "end"),
    [("thread", "raise"), ("thread", "restart"), ("process", "raise"), ("process", "restart"), ("process", "killed")],
)
def test_what_a_run_held_is_free_before_its_next_run_starts(end: str, executor: str, tmp_path: Path) -> None:
    tree: Any = a_tree()
    params = {"place": str(tmp_path / "name"), "fails": end == "raise"}
    tree.register_agent(Claimant, "a", executor=executor, params=params, backoff=None)
    with tree:
        for count in (2, 3, 4):
            if end == "killed":
                pid = tree.status("a").pid
                os.kill(pid, signal.SIGKILL)
            elif end == "restart":
                tree.restart_agent("a")
            wait_for(tree, E.AGENT_READY, "a", count=count)
            tree.wait_until("a", "ready", PATIENCE)
        causes = {event.data.report.cause for event in tree.history("a", E.AGENT_CRASHED)}
        assert "start_failed" not in causes


@pytest.mark.otp("P11")
@pytest.mark.slow
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_start_whose_name_a_stranger_holds_fails_and_is_repeated_until_it_is_free(
    executor: str, tmp_path: Path
) -> None:
    tree: Any = a_tree()
    params = {"place": str(tmp_path / "name"), "fails": False}
    tree.register_agent(Claimant, "a", executor=executor, params=params, backoff=Backoff(wait=wait_fixed(0.05)))
    stranger = Claimant.claim(str(params["place"]))
    with tree:
        wait_for(tree, E.AGENT_CRASHED, "a", count=4)
        assert tree.status("a").last_crash.cause == "start_failed"
        stranger.close()
        tree.wait_until("a", "ready", PATIENCE)
        assert set(types(tree, "a")) >= {E.AGENT_RESTARTING, E.AGENT_READY}


@pytest.mark.otp("P11")
def test_the_name_in_the_tree_stays_with_a_restarted_child_and_goes_with_a_temporary_one() -> None:
    tree = Story(child("kept"), child("gone", restart="temporary"))
    for name in ("kept", "gone"):
        tree.crash(name)
    assert isinstance(refused(lambda: tree.register("", child("kept"))), AlreadyStarted)
    tree.register("", child("gone"))
    assert tree.incarnations() == {"kept": 2, "gone": 1}


# P13


@pytest.mark.otp("P13")
def test_a_supervisor_is_named_by_its_path_or_by_its_handle_before_during_and_after_its_restarts() -> None:
    tree = a_tree()
    handle = tree.add_supervisor("team")
    inner = handle.add_supervisor("inner")
    assert (tree.path, handle.path, inner.path) == ("", "team", "team/inner")
    add(inner, "by-handle")
    with tree:
        tree.restart_agent("team/inner", PATIENCE)
        tree.restart_agent(handle.path, PATIENCE)
        add(inner, "later")
        tree.wait_until("team/inner/later", "ready", PATIENCE)
        assert [status.path for status in tree.which_children(inner.path)] == [
            "team/inner/by-handle",
            "team/inner/later",
        ]
        assert tree.get_childspec(inner.path).name == "inner"
        with pytest.raises(NotFound, match="did you mean 'team/inner'"):
            tree.which_children("team/iner")
        with pytest.raises(SpecError):
            tree.which_children("team/inner/later")
        tree.stop_agent("team")
        tree.unregister_agent("team")
        with pytest.raises(NotFound):
            add(inner, "too-late")


# P14

ENDINGS = {
    "done": ('lambda agent: "done"', "{}", 0),
    "gives up": ("fail", "{'restart': 'permanent', 'backoff': None}", 70),
    "failed": ("fail", "{'restart': 'temporary'}", 1),
    "significant": ('lambda agent: "done"', "{'significant': True}", 0),
}


@pytest.mark.otp("P14")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "mode"),
    [
        ("gives up", "daemon"),
        ("gives up", "stop_on_empty"),
        ("significant", "daemon"),
        ("done", "stop_on_empty"),
        ("failed", "stop_on_empty"),
    ],
)
def test_the_end_of_the_top_supervisor_is_the_end_of_the_program_and_its_exit_code_says_how(
    ending: str, mode: str, tmp_path: Path
) -> None:
    execute, fields, code = ENDINGS[ending]
    auto = "'any_significant'" if ending == "significant" else "'never'"
    write(
        tmp_path / "app.py",
        f"""
        from orchestree import Orchestrator
        from orchestree_testing.trees import Does, add

        def fail(agent):
            raise ValueError("no such sensor")

        config = Orchestrator.Config(run_mode={mode!r}, control=False, max_restarts=3, auto_shutdown={auto})
        tree = Orchestrator(config)
        add(tree, "a", {execute}, **{fields})
        add(tree, "b", {"lambda agent: None" if mode == "stop_on_empty" else None})
        raise SystemExit(tree.simple_join())
        """,
    )
    with start_program("app.py", cwd=tmp_path, LOGURU_AUTOINIT="False") as program:
        _, errors = program.communicate(timeout=DEADLINE_S)
    assert (program.returncode, errors) == (code, "")
