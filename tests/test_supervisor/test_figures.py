"""What metrics read of a tree: from any thread, at any time, and never going back."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from noted_lock import NotedLock
from orchestree_testing.trees import FAST, PATIENCE, Does, Switch, a_tree, add, wait_for
from orchestree_testing.used_agents import BURNT_S, burn, burn_and_wait, wait_for_params

from orchestree.agents.executor import RunId
from orchestree.agents.process.usage import ProcessUsage, usage_of
from orchestree.metrics.source import Source, Usage, Whole
from orchestree.supervisor import AgentState, EventType, figures as figures_file
from orchestree.supervisor.cpu_book import CpuBook, EndedCpu
from orchestree.supervisor.figures import SPARE_ACCOUNTS, TreeFigures
from orchestree.supervisor.status import Snapshot, Status

E = EventType
TICKS_S: Final = 0.02
"""By which what the kernel says of a running process may lag behind: a tick of its own time and one of the system's."""


def test_before_the_tree_is_prepared_there_is_nothing() -> None:
    tree = a_tree(max_workers=3)
    add(tree, "a")
    source: Source = TreeFigures(tree)
    assert (source.run, source.snapshots()) == (tree.services.run, {})
    assert (source.status("a"), source.entry("a"), source.usage("a"), source.last_beat("a", 1)) == (None,) * 4
    assert source.restarts_in_window("", source.now()) == 0
    assert source.whole() == Whole(max_workers=3, abandoned=0, events_dropped=0, history_lag_s=0.0)
    source.probe()


def test_of_a_running_tree_it_says_what_the_tree_itself_says() -> None:
    tree, switch = a_tree(), Switch()
    add(tree, "a", **switch.hooks(), **FAST)
    tree.add_supervisor("s")
    figures = TreeFigures(tree)
    with tree:
        began = figures.now()
        switch.throw()
        wait_for(tree, E.AGENT_READY, "a", count=2)
        assert set(figures.snapshots()) == {"", "a", "s"}
        assert figures.status("a") == tree.driver.snapshots["a"].status
        assert figures.entry("a") is tree.get_childspec("a")
        assert figures.entry("") is tree.get_childspec("")
        assert figures.restarts_in_window("", figures.now()) == 1
        assert (figures.restarts_in_window("s", began), figures.restarts_in_window("a", began)) == (0, 0)
        beat = figures.last_beat("a", 2)
        assert beat is not None
        assert beat >= began
        unknown = [figures.last_beat(*run) for run in (("a", 1), ("a", 3), ("s", 1), ("", 1), ("nobody", 1))]
        assert unknown == [None] * 5
        assert (figures.usage("a"), figures.usage("s"), figures.usage("nobody")) == (None,) * 3


def test_what_it_gives_out_is_a_copy() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        figures = TreeFigures(tree)
        cast(dict[str, Snapshot], figures.snapshots()).clear()
        assert set(figures.snapshots()) == {"", "a"}


def test_the_specification_of_a_temporary_child_that_has_ended_is_still_there() -> None:
    tree = a_tree()
    add(tree, "once", lambda agent: None, restart="temporary")
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "once")
        figures = TreeFigures(tree)
        assert set(figures.snapshots()) == {"", "once"}
        entry = figures.entry("once")
        assert entry is not None
        assert entry.restart == "temporary"


def test_after_the_end_it_still_answers() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        pass
    figures = TreeFigures(tree)
    assert figures.snapshots()["a"].status.state is AgentState.STOPPED
    assert figures.last_beat("a", 1) is None
    for _ in range(3):
        figures.probe()
    assert len(tree.driver._inbox._actions) == 0


@pytest.mark.slow
def test_processor_time_grows_over_incarnations_without_ever_falling_and_is_exact_at_the_end() -> None:
    tree, samples, done = a_tree(), [list[float](), list[float]()], threading.Event()
    tree.register_agent(Does, "a", executor="process", params={"execute": burn}, **FAST)
    figures = TreeFigures(tree)

    def sample(into: list[float]) -> None:
        while not done.wait(0.001):
            if (usage := figures.usage("a")) is not None:
                into.append(usage.cpu_s)

    threads = [threading.Thread(target=sample, args=(into,)) for into in samples]
    for thread in threads:
        thread.start()
    with tree:
        wait_for(tree, E.AGENT_READY, "a", count=4)
        alive = figures.usage("a")
    done.set()
    for thread in threads:
        thread.join()
    assert alive is not None
    assert alive.cpu_s >= 3 * BURNT_S
    assert alive.memory_bytes is not None
    assert alive.memory_bytes > 1_000_000
    for seconds in samples:
        assert seconds == sorted(seconds)
        assert any(0.0 < each < BURNT_S for each in seconds)  # it was seen while it ran
    at_the_end = figures.usage("a")
    assert at_the_end is not None
    assert at_the_end.cpu_s == pytest.approx(tree.driver.cpu.of("a").seconds)
    assert at_the_end.memory_bytes is None


@pytest.mark.slow
def test_processor_time_does_not_fall_when_a_fork_server_takes_its_figures_along() -> None:
    tree = a_tree()
    tree.register_agent(Does, "a", executor="process", params={"execute": burn_and_wait}, **FAST)
    figures = TreeFigures(tree)
    with tree:
        wait_for(tree, E.AGENT_MESSAGE, "a")
        before, pid = figures.usage("a"), tree.status("a").pid
        assert before is not None
        assert pid is not None
        assert before.cpu_s >= BURNT_S - TICKS_S
        os.kill(os.getsid(pid), signal.SIGKILL)
        wait_for(tree, E.AGENT_MESSAGE, "a", count=2)
        after = figures.usage("a")
        assert after is not None
        assert after.cpu_s >= before.cpu_s
    last = figures.usage("a")
    assert last is not None
    assert last.cpu_s >= after.cpu_s


@pytest.mark.slow
def test_beats_are_those_of_the_agent_asked_for_while_processes_come_and_go() -> None:
    tree, wrong, done, looks = a_tree(), list[str](), threading.Event(), 0
    waits = {"a": 1e6, "b": 2e6, "c": 3e6}  # so each beat tells by itself whose it is
    for name, seconds in waits.items():
        params = {"execute": wait_for_params, "seconds": seconds}
        tree.register_agent(Does, name, executor="process", params=params, **FAST)
    figures = TreeFigures(tree)

    def look() -> None:
        nonlocal looks
        while not done.is_set():
            for name, seconds in waits.items():
                beat = figures.last_beat(name, tree.driver.snapshots[name].status.incarnation)
                ahead = 0.0 if beat is None else beat - time.monotonic()
                looks += beat is not None
                if not (ahead <= 0.0 or seconds - 1e3 < ahead <= seconds):
                    wrong.append(f"{name}: {ahead}")

    with tree:
        thread = threading.Thread(target=look)
        thread.start()
        for _ in range(15):
            for name in waits:
                tree.restart_agent(name)
        done.set()
        thread.join()
    assert wrong == []
    assert looks > 100


# Processor time with processes made up


class MadeUp:
    """A tree of one process agent whose states and processes a test makes up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu = CpuBook()
        self.snapshots: dict[str, Snapshot] = {}
        self.processes: dict[int, ProcessUsage] = {}
        driver = SimpleNamespace(cpu=self.cpu, snapshots=self.snapshots)
        orchestrator = SimpleNamespace(services=SimpleNamespace(run="r"), driver=driver)
        self.figures = TreeFigures(cast(Any, orchestrator))
        monkeypatch.setattr(figures_file, "usage_of", self.processes.get)

    def shows(self, incarnation: int, pid: int | None, path: str = "a") -> None:
        status = Status(
            path=path, kind="agent", state=AgentState.READY, executor="process", pid=pid, incarnation=incarnation
        )
        self.snapshots[path] = Snapshot(status, 0.0, 1.0)

    def runs(self, pid: int, cpu_s: float, born: int = 1) -> None:
        self.processes[pid] = ProcessUsage(born=born, cpu_s=cpu_s, memory=4096)

    def ends(self, incarnation: int, cpu_s: float) -> None:
        self.cpu.enter(RunId("a", incarnation), cpu_s)

    def seconds(self) -> float:
        return self.usage().cpu_s

    def usage(self) -> Usage:
        usage = self.figures.usage("a")
        assert usage is not None
        return usage


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    return MadeUp(monkeypatch)


def test_a_process_agent_has_used_nothing_before_its_first_start(made_up: MadeUp) -> None:
    made_up.shows(0, None)
    assert made_up.usage() == Usage(cpu_s=0.0, memory_bytes=None)


def test_the_exact_figure_of_an_end_takes_the_place_of_what_was_seen(made_up: MadeUp) -> None:
    made_up.shows(1, 11)
    made_up.runs(11, 2.0)
    assert made_up.usage() == Usage(cpu_s=2.0, memory_bytes=4096)
    made_up.processes.clear()
    assert made_up.usage() == Usage(cpu_s=2.0, memory_bytes=None)  # nobody has said yet that it ended
    made_up.ends(1, 2.5)
    assert made_up.seconds() == 2.5  # the snapshot still shows it
    made_up.shows(2, None)
    assert made_up.seconds() == 2.5
    made_up.shows(2, 12)
    made_up.runs(12, 0.25)
    assert made_up.seconds() == 2.75


def test_runs_that_nobody_looked_at_count_as_well(made_up: MadeUp) -> None:
    for incarnation in (1, 2, 3):
        made_up.ends(incarnation, 1.0)
    made_up.shows(4, None)
    assert made_up.seconds() == 3.0


def test_a_process_that_has_got_the_pid_since_is_not_counted(made_up: MadeUp) -> None:
    made_up.shows(1, 11)
    made_up.runs(11, 2.0)
    made_up.seconds()
    made_up.runs(11, 50.0, born=2)
    assert made_up.usage() == Usage(cpu_s=2.0, memory_bytes=None)


def test_what_was_seen_of_a_run_without_a_figure_stays_counted(made_up: MadeUp) -> None:
    made_up.shows(1, 11)
    made_up.runs(11, 2.0)
    assert made_up.seconds() == 2.0
    made_up.shows(2, None)
    assert made_up.seconds() == 2.0
    made_up.shows(2, 12)
    made_up.runs(12, 0.5)
    assert made_up.seconds() == 2.0
    made_up.runs(12, 0.75)
    assert made_up.seconds() == 2.25
    made_up.ends(2, 1.0)
    assert made_up.seconds() == 2.5


def test_another_agent_of_the_same_name_begins_with_nothing(made_up: MadeUp) -> None:
    made_up.shows(3, 11)
    made_up.runs(11, 2.0)
    made_up.seconds()
    made_up.shows(1, None)
    assert made_up.seconds() == 0.0
    made_up.shows(1, 12)
    made_up.runs(12, 0.5)
    assert made_up.seconds() == 0.5
    made_up.shows(1, 13)
    made_up.runs(13, 0.25)
    assert made_up.seconds() == 0.25


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen while it ran", "never seen running"])
def test_another_agent_whose_first_run_is_the_first_as_well_begins_with_nothing(made_up: MadeUp, is_seen: bool) -> None:
    if is_seen:
        made_up.shows(1, 11)
        made_up.runs(11, 2.0)
        made_up.seconds()
    made_up.ends(1, 2.5)
    made_up.shows(1, None)
    assert made_up.seconds() == 2.5
    made_up.cpu.forget("a")
    made_up.shows(1, 12)
    made_up.runs(12, 0.25)
    assert made_up.usage() == Usage(cpu_s=0.25, memory_bytes=4096)


def test_two_that_look_at_once_do_not_mix_up_what_they_see(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slowly(pid: int) -> ProcessUsage | None:
        if pid == 11:
            entered.set()
            assert go_on.wait(PATIENCE)
        return made_up.processes.get(pid)

    monkeypatch.setattr(figures_file, "usage_of", slowly)
    lock = made_up.figures._lock = NotedLock()  # type: ignore[assignment]
    made_up.shows(1, 11)
    made_up.runs(11, 2.0)
    threads = [threading.Thread(target=made_up.usage) for _ in range(2)]
    threads[0].start()
    assert entered.wait(PATIENCE)
    made_up.ends(1, 2.5)
    made_up.shows(2, 12)
    made_up.runs(12, 0.25)
    threads[1].start()
    for _ in threads:  # as long as the one looks the other has to wait
        assert lock.came.acquire(timeout=PATIENCE)
    go_on.set()
    for thread in threads:
        thread.join()
    assert made_up.seconds() == 2.75


def test_agents_that_have_left_are_forgotten(made_up: MadeUp) -> None:
    most = SPARE_ACCOUNTS + 100
    for number in range(3 * most):
        made_up.shows(1, None, f"n{number}")
        made_up.figures.usage(f"n{number}")
        del made_up.snapshots[f"n{number}"]
    assert len(made_up.figures._accounts) < most


@pytest.mark.slow
def test_an_end_of_an_agent_that_has_left_is_no_memory_for_ever() -> None:
    tree = a_tree()
    tree.register_agent(Does, "a", executor="process", params={"execute": burn_and_wait})
    with tree:
        tree.restart_agent("a", PATIENCE)
        assert tree.driver.cpu.of("a").seconds > 0.0
        tree.stop_agent("a")
        tree.unregister_agent("a")
        assert tree.driver.cpu._ended == {}


# The kernel's figures


def test_the_usage_of_a_process_is_what_the_kernel_says_and_opens_nothing_that_stays() -> None:
    before = os.listdir("/proc/self/fd")
    used, times = usage_of(os.getpid()), os.times()
    assert used is not None
    assert used.cpu_s == pytest.approx(times.user + times.system + times.children_user + times.children_system, abs=1)
    assert used.memory > 1_000_000
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_there_is_no_usage_of_a_process_that_is_gone() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert usage_of(child) is None


def test_a_name_with_parentheses_and_spaces_does_not_confuse() -> None:
    with open("/proc/self/comm", encoding="utf-8") as file:
        name = file.read()
    expected = usage_of(os.getpid())
    try:
        with open("/proc/self/comm", "w", encoding="utf-8") as file:
            file.write("a) R 1 (b")
        found = usage_of(os.getpid())
    finally:
        with open("/proc/self/comm", "w", encoding="utf-8") as file:
            file.write(name)
    assert found is not None
    assert expected is not None
    assert found.born == expected.born


@pytest.mark.slow
def test_a_temporary_agent_that_is_registered_again_counts_from_its_registration() -> None:
    tree = a_tree()
    figures = TreeFigures(tree)
    with tree:
        tree.register_agent(Does, "job", executor="process", restart="temporary", params={"execute": burn})
        wait_for(tree, E.AGENT_TERMINATED, "job")
        assert tree.driver.cpu.of("job").seconds > 0.0
        assert tree.driver.snapshots["job"].departed
        waits = {"execute": wait_for_params, "seconds": 600.0}
        tree.register_agent(Does, "job", executor="process", restart="temporary", params=waits)
        wait_for(tree, E.AGENT_READY, "job", count=2)
        assert tree.driver.cpu.of("job") == EndedCpu()
        assert not tree.driver.snapshots["job"].departed
        usage = figures.usage("job")
        assert usage is not None
        assert usage.memory_bytes is not None
        assert usage.memory_bytes > 0
        tree.stop_agent("job")
        wait_for(tree, E.AGENT_TERMINATED, "job", count=2)
        assert tree.driver.cpu.of("job").incarnation == 1
