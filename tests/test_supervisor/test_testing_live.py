"""The faults of a simulation, done to real processes: what was planned, nothing else, to nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import psutil
import pytest
from orchestree_testing.hanging_agents import Beats
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.trees import PATIENCE, a_tree
from survivors import Watch
from tenacity import stop_after_attempt

from orchestree.strategies import Backoff
from orchestree.strategies.errors import NotFound, NotRunning, SpecError
from orchestree.supervisor import AgentCrashed, AgentState, Event, EventType, Orchestrator, Status
from orchestree.supervisor.predicting import simulate
from orchestree.supervisor.simulation.faults import Crash, Down, Fault, Hang
from orchestree.supervisor.testing import live_run
from orchestree.supervisor.testing.live import LiveChaos
from orchestree.supervisor.testing.live_run import LiveRun
from orchestree.supervisor.testing.victims import Spared, Victims

E = EventType
EXACT: Final = Backoff(jitter=0.0)


def kill(path: str, **when: Any) -> Crash:
    return Crash(path, cause="signal", **when)


def sleepers(*names: str, threads: tuple[str, ...] = (), **fields: Any) -> Orchestrator:
    """Return a tree of process agents that wait to be killed, and of threads."""
    tree = a_tree()
    for name in (*names, *threads):
        executor: Any = "process" if name in names else "thread"
        tree.register_agent(Sleeper, name, executor=executor, **{"backoff": EXACT, **fields})
    return tree


def done_of(live: LiveRun) -> list[tuple[str, int, str]]:
    return [(done.path, done.incarnation, done.signal) for done in live.done]


def pid_of(tree: Orchestrator, path: str) -> int:
    pid = tree.status(path).pid
    assert pid is not None
    return pid


def stands_still(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def crashes(events: tuple[Event, ...]) -> list[tuple[str, int, int | None]]:
    return [
        (event.path, event.incarnation, event.data.report.pid)
        for event in events
        if isinstance(event.data, AgentCrashed)
    ]


# Before anything starts


def test_the_plan_is_what_the_simulation_of_the_tree_strikes_and_no_more_than_the_budget() -> None:
    fault = kill("", every=5.0, about=True)
    foreseen = simulate(sleepers("a", "b"), [fault], until=60, seed=3).struck
    chaos = LiveChaos(sleepers("a", "b"), [fault], until=60, seed=3, budget=6)
    assert [each.path for each in chaos.plan] == [struck.path for struck in foreseen[:6]]
    planned = [each.at for each in chaos.plan if each.at is not None]
    assert len(planned) == 6
    assert all(0 <= at - struck.now <= 0.001 for at, struck in zip(planned, foreseen, strict=False))
    assert [(struck.now, struck.path) for struck in chaos.simulation.struck] == [
        (each.at, each.path) for each in chaos.plan
    ]


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    plans = [
        LiveChaos(sleepers("a"), [kill("a", every=1.0, about=True)], until=20, seed=seed).plan for seed in (1, 1, 2)
    ]
    assert plans[0] == plans[1] != plans[2]


def test_a_fault_of_a_supervisor_is_for_the_process_agents_below_it() -> None:
    chaos = LiveChaos(sleepers("a", "b", threads=("c",)), ["/: hang at 1s for 2s"], until=5)
    assert chaos.plan == (Hang("a", at=1.0, lasts=2.0), Hang("b", at=1.0, lasts=2.0))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("a: crash at 1s", r"'a: crash at 1s': cannot be brought about from outside; what can: "),
        ("a: complete at 1s", "a: complete at 1s"),
        ("a: ignore stop", "a: ignore stop"),
        ("a: slow start 2s", "a: slow start 2s"),
        ("a: lost at 2s", "a: lost at 2s"),
        ("a: run out of memory at 2s", "run out of memory"),
        (Down("a", at=1.0), "a: down from 1s"),
        ("a: crash with exit code 3 at 1s", "exit code 3"),
        (kill("a", at=1.0, phase="setup"), "nobody outside knows when its setup runs"),
        (kill("a", at=1.0, signal="SIGSTOP"), "SIGSTOP ends no process"),
        (kill("a", at=1.0, signal="SIGCHLD"), "SIGCHLD ends no process"),
        (Hang("c", at=1.0), "'c: hang at 1s': no process agent there, and others share our process; what can: "),
    ],
)
def test_what_nobody_can_do_from_outside_is_refused_by_name_before_anything_starts(
    fault: Fault | str, said: str
) -> None:
    tree = sleepers("a", threads=("c",))
    with pytest.raises(SpecError, match=said):
        LiveChaos(tree, ["a: crash with SIGKILL at 1s", fault], until=10)
    assert not tree.is_running
    assert tree.events.latest == 0


def test_a_fault_for_nobody_and_a_budget_of_nothing_are_refused() -> None:
    with pytest.raises(NotFound, match="nobody"):
        LiveChaos(sleepers("a"), [kill("nobody", at=1.0)], until=10)
    with pytest.raises(SpecError, match="budget=0"):
        LiveChaos(sleepers("a"), [kill("a", at=1.0)], until=10, budget=0)


def test_it_is_run_on_a_tree_that_runs() -> None:
    chaos = LiveChaos(sleepers("a"), [kill("a", at=1.0)], until=10)
    with pytest.raises(NotRunning, match=r"with orchestrator: chaos\.run\(\)"):
        chaos.run()


# On a running tree


@pytest.mark.slow
def test_real_processes_are_killed_as_planned_and_come_back_as_simulated() -> None:
    tree = sleepers("a", "b", threads=("c",))
    chaos = LiveChaos(tree, [kill("a", every=0.2), kill("b", at=0.3, signal="SIGSEGV")], until=2.5, budget=4)
    with tree:
        before = pid_of(tree, "a")
        live = chaos.run()
        assert tree.status("c").incarnation == 1
    assert done_of(live) == [("a", 1, "SIGKILL"), ("b", 1, "SIGSEGV"), ("a", 2, "SIGKILL"), ("a", 3, "SIGKILL")]
    assert live.done[0].pid == before
    assert crashes(live.events) == [(done.path, done.incarnation, done.pid) for done in live.done]
    assert (live.skipped, live.ended_by, live.ended_at) == ((), "until", 2.5)
    assert live.comparison.is_same, str(live.comparison)
    assert not any(psutil.pid_exists(done.pid) for done in live.done)


@pytest.mark.slow
def test_no_more_faults_are_done_than_the_budget_allows() -> None:
    tree = sleepers("a", backoff=None)
    chaos = LiveChaos(tree, [kill("a", every=0.3)], until=1.3, budget=3)
    with tree:
        live = chaos.run()
        assert tree.status("a").incarnation == 4
    assert done_of(live) == [("a", 1, "SIGKILL"), ("a", 2, "SIGKILL"), ("a", 3, "SIGKILL")]


@pytest.mark.slow
def test_a_process_that_hangs_stands_still_and_goes_on_when_its_time_has_come() -> None:
    tree = sleepers("a", "b")
    chaos = LiveChaos(tree, [Hang("a", at=0.1, lasts=0.4), kill("b", at=0.3), kill("b", at=0.9)], until=1.5)
    seen: list[bool] = []

    def check(tree: Orchestrator) -> bool:
        seen.append(stands_still(pid_of(tree, "a")))
        return True

    with tree:
        live = chaos.run(check)
        assert not stands_still(pid_of(tree, "a"))
    assert seen == [False, True, False]
    assert done_of(live) == [("a", 1, "SIGSTOP"), ("b", 1, "SIGKILL"), ("a", 1, "SIGCONT"), ("b", 2, "SIGKILL")]
    assert live.comparison.is_same


@pytest.mark.slow
def test_a_watchdog_finds_the_one_that_stands_still_as_in_the_simulation() -> None:
    tree = a_tree()
    tree.register_agent(Beats, "a", executor="process", backoff=EXACT, watchdog=0.5)
    chaos = LiveChaos(tree, [Hang("a", at=0.2)], until=3.0)
    with tree:
        live = chaos.run()
    assert [event.data.reason.cause for event in live.events if isinstance(event.data, AgentCrashed)] == ["watchdog"]
    assert done_of(live) == [("a", 1, "SIGSTOP")]
    assert live.comparison.is_same, str(live.comparison)


@pytest.mark.slow
def test_one_that_stands_still_is_ended_by_any_signal_that_ends_processes() -> None:
    tree = sleepers("a")
    chaos = LiveChaos(tree, [Hang("a", at=0.1), kill("a", at=0.2, signal="SIGSEGV")], until=0.8)
    with tree:
        live = chaos.run()
    assert done_of(live) == [("a", 1, "SIGSTOP"), ("a", 1, "SIGSEGV")]
    assert [path for path, _, _ in crashes(live.events)] == ["a"]


@pytest.mark.slow
def test_it_stops_by_itself_when_an_agent_was_parked_and_lets_the_others_go_on() -> None:
    tree = sleepers("a", "b", backoff=Backoff(jitter=0.0, stop=stop_after_attempt(2)))
    chaos = LiveChaos(tree, [Hang("b", at=0.1), kill("a", at=0.2), kill("a", at=0.4), kill("b", at=5.0)], until=60)
    with tree:
        live = chaos.run()
        assert tree.status("a").state is AgentState.PARKED
        assert not stands_still(pid_of(tree, "b"))
    assert done_of(live) == [("b", 1, "SIGSTOP"), ("a", 1, "SIGKILL"), ("a", 2, "SIGKILL"), ("b", 1, "SIGCONT")]
    assert live.ended_by == "unhealthy"
    assert live.why.startswith("PARKED a ")
    assert 0.4 <= live.ended_at < 5.0
    assert "over: PARKED a" in str(live)
    assert live.comparison.is_same, "what comes after the end is not compared"


@pytest.mark.slow
def test_it_stops_when_a_supervisor_gives_up() -> None:
    tree = a_tree()
    group = tree.add_supervisor("group", max_restarts=1, max_seconds=5.0, restart="permanent")
    group.register_agent(Sleeper, "a", executor="process", backoff=None)
    chaos = LiveChaos(tree, [kill("group/a", every=0.2)], until=60)
    with tree:
        live = chaos.run()
    assert live.ended_by == "unhealthy"
    assert len(live.done) == 2


@pytest.mark.slow
def test_it_stops_when_the_check_says_so() -> None:
    tree = sleepers("a")
    chaos = LiveChaos(tree, [kill("a", every=0.2)], until=60)
    with tree:
        live = chaos.run(lambda tree: tree.status("a").restarts_total < 1)
    assert (done_of(live), live.ended_by) == ([("a", 1, "SIGKILL")], "check")


@pytest.mark.slow
def test_it_stops_when_somebody_stops_the_tree() -> None:
    tree = sleepers("a")
    chaos = LiveChaos(tree, [kill("a", at=0.1)], until=60)
    with tree:
        stopper = threading.Timer(0.3, tree.stop)
        stopper.start()
        live = chaos.run()
        stopper.join(PATIENCE)
    assert live.ended_by == "ended"


@pytest.mark.slow
def test_an_exception_of_the_check_leaves_nobody_standing_still() -> None:
    tree = sleepers("a", "b")
    chaos = LiveChaos(tree, [Hang("a", at=0.1), kill("b", at=0.2)], until=60)

    def check(tree: Orchestrator) -> bool:
        if stands_still(pid_of(tree, "a")):
            raise LookupError("no figures")
        return True

    with tree, Watch() as watch:
        with pytest.raises(LookupError, match="no figures"):
            chaos.run(check)
        watch.add(pid_of(tree, "a"))
        assert not stands_still(pid_of(tree, "a"))
        assert tree.status("b").incarnation == 1
        tree.stop()
        assert watch.left_after() == []


@pytest.mark.slow
def test_who_does_not_run_when_the_moment_comes_is_skipped_and_the_report_says_why() -> None:
    tree = sleepers("a", "b")
    chaos = LiveChaos(tree, [kill("a", at=0.1), kill("b", at=0.2), kill("a", at=0.3)], until=0.4)
    with tree:
        tree.stop_agent("a", timeout=PATIENCE)
        tree.stop_agent("b", timeout=PATIENCE)
        tree.unregister_agent("b")
        live = chaos.run()
    assert live.done == ()
    assert [(skipped.fault.path, skipped.why) for skipped in live.skipped] == [
        ("a", "it did not run then, it was stopped"),
        ("b", "it is not in the tree any more"),
        ("a", "it did not run then, it was stopped"),
    ]
    assert "skipped  a: it did not run then, it was stopped" in str(live)
    assert not live.comparison.is_same
    assert live.comparison.apart == ("a", "b")


@pytest.mark.slow
def test_what_comes_too_late_is_skipped_so_that_faults_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_run, "TOO_LATE_S", 0.0)
    tree = sleepers("a")
    chaos = LiveChaos(tree, [kill("a", at=0.1)], until=0.3)
    with tree:
        live = chaos.run()
    assert live.done == ()
    assert "its turn came 0.0 s too late" in live.skipped[0].why


# Never another process


class Pretends:
    """Says of its agent what it is told to say; the next time something else, if there is something else."""

    def __init__(self, *pids: int) -> None:
        self.pids = list(pids)

    def status(self, path: str) -> Status:
        pid = self.pids.pop(0) if len(self.pids) > 1 else self.pids[0]
        return Status(path=path, kind="agent", state=AgentState.READY, executor="process", pid=pid, incarnation=1)


@pytest.fixture
def neighbour() -> Iterator[int]:
    """A child of this program that is no agent."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        assert process.poll() is None, "it was hit"
        process.kill()


def expect_spared(tree: Any) -> None:
    with Victims(tree) as victims:
        with pytest.raises(Spared):
            victims.end("a", signal.SIGKILL)
        with pytest.raises(Spared):
            victims.hold("a", 1.0)
        assert victims.release() == []


def test_a_process_that_is_no_agent_of_this_program_is_never_hit(neighbour: int) -> None:
    expect_spared(Pretends(neighbour))
    assert not stands_still(neighbour)


@pytest.mark.parametrize("pid", [os.getpid, os.getppid])
def test_neither_this_program_nor_one_above_it_is_ever_hit(pid: Callable[[], int]) -> None:
    with Victims(Pretends(pid())) as victims, pytest.raises(Spared):  # type: ignore[arg-type]
        victims.end("a", signal.SIGCONT)  # which would hurt nobody


def test_a_process_that_has_ended_is_not_hit() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    expect_spared(Pretends(process.pid))


@pytest.mark.slow
def test_a_run_that_another_has_followed_meanwhile_is_not_hit() -> None:
    tree = sleepers("a", "b")
    with tree, Watch([pid_of(tree, "a"), pid_of(tree, "b")]) as watch:
        with (
            Victims(Pretends(pid_of(tree, "a"), pid_of(tree, "b"))) as victims,  # type: ignore[arg-type]
            pytest.raises(Spared, match="its run has just ended"),
        ):
            victims.end("a", signal.SIGKILL)
        assert len(watch.alive()) == 2
        assert {tree.status(path).incarnation for path in "ab"} == {1}
