"""Planned restarts of real process agents: those that are too old or use too much end between two rounds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, groupby
from pathlib import Path
from typing import Any, Final

import pytest
from orchestree_testing import hanging_agents as hanging
from orchestree_testing.process_harness import is_alive
from orchestree_testing.trees import FAST, PATIENCE, a_tree, types, wait_for

from orchestree.agents.ends import CrashReport, abnormal
from orchestree.agents.process.descendants import memory_of_tree
from orchestree.supervisor import AgentCrashed, AgentRestarting, AgentState, Event, EventType, Orchestrator

E = EventType
NEIGHBOUR: Final = "neighbour"
ROOM: Final = hanging.STEP * hanging.STEPS // 2
"""What an agent may use beyond what it has from the beginning; those that grow take twice as much."""
OFTEN_S: Final = 0.05
"""How often memory is measured here."""
KINDS: Final = [hanging.Rounds, hanging.PeriodicRounds, hanging.AsyncRounds, hanging.AsyncPeriodicRounds]
numbered: Final = count(1)


@pytest.fixture(scope="module")
def shared() -> Iterator[Orchestrator]:
    """A tree that runs, as a fork server takes its time to start; recycling is no failure, so it allows none."""
    tree = a_tree(max_restarts=0)
    tree.register_agent(hanging.Rounds, NEIGHBOUR, executor="process")
    with tree:
        yield tree


@pytest.fixture
def tree(shared: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestrator]:
    """That tree, in which memory is measured often; one other agent goes on whatever a test does."""
    monkeypatch.setattr("orchestree.supervisor.watching.MEASURE_EVERY_S", OFTEN_S)
    yield shared
    assert shared.status(NEIGHBOUR).incarnation == 1
    for status in shared.which_children():
        if status.path != NEIGHBOUR:
            shared.stop_agent(status.path, timeout=PATIENCE)


@pytest.fixture
def limit(shared: Orchestrator) -> int:
    """What an agent may use."""
    pid = shared.status(NEIGHBOUR).pid
    assert pid is not None
    return memory_of_tree(pid) + ROOM


def start(tree: Any, kind: Any, **fields: Any) -> str:
    name = f"agent-{next(numbered)}"
    tree.register_agent(kind, name, executor="process", **fields)
    return name


def start_to_grow(tree: Orchestrator, folder: Path, grow: Any, limit: int, **fields: Any) -> str:
    """Return an agent that was measured when it became ready, and grows from now on."""
    kind = fields.pop("kind", hanging.Grows)
    path = start(tree, kind, params={"go": folder / "go", "grow": grow}, max_memory=limit, **fields)
    wait_for(tree, E.AGENT_READY, path)
    (folder / "go").touch()
    return path


def decisions(tree: Orchestrator, path: str) -> list[EventType]:
    return [type for type in types(tree, path) if type is not E.AGENT_MESSAGE]


def messages(tree: Orchestrator, path: str, incarnation: int) -> list[Any]:
    events = tree.history(path, E.AGENT_MESSAGE, limit=None)
    return [event.data for event in events if event.incarnation == incarnation]


def expect_a_planned_restart(event: Event, cause: str) -> None:
    assert isinstance(event.data, AgentRestarting)
    data = event.data
    assert (data.cause, data.delay, data.attempt, data.shutdown_error) == (cause, 0.0, 0, None)


def expect_undisturbed(tree: Orchestrator, path: str, incarnation: int) -> None:
    """Check that a run that is over ended between two rounds, without being asked to stop, and cleaned up."""
    told = messages(tree, path, incarnation)
    names = [message.name for message in told if message.name != "child"]
    assert names[-1:] == ["teardown"]
    rounds = names[:-1]
    assert rounds == ["begins", "alive"] * (len(rounds) // 2)
    assert not any(message.data.get("stopped") for message in told)


def pids_of(tree: Orchestrator, path: str) -> list[int]:
    """Return the pids of all incarnations that had a round, in order."""
    events = tree.history(path, E.AGENT_MESSAGE, limit=None)
    told: list[Any] = [event.data for event in events]
    return [pid for pid, _ in groupby(data.data["pid"] for data in told if data.name == "alive")]


def crash_of(tree: Orchestrator, path: str) -> CrashReport:
    data = wait_for(tree, E.AGENT_CRASHED, path).data
    assert isinstance(data, AgentCrashed)
    assert data.reason == abnormal(data.report.cause)
    return data.report


def text_of(limit: int) -> str:
    return f"more than max_memory ({limit / 2**20:.1f} MiB)"


# Too old:


@pytest.mark.parametrize("restart", ["permanent", "temporary"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_too_old_ends_between_two_rounds_and_starts_again_in_another_process(
    tree: Orchestrator, kind: Any, restart: str
) -> None:
    path = start(tree, kind, max_age=0.1, restart=restart, shutdown=0.0)
    wait_for(tree, E.AGENT_READY, path, count=4)
    assert decisions(tree, path)[:12] == [
        E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY, *[E.AGENT_RESTARTING, E.AGENT_STARTING, E.AGENT_READY] * 3,
    ]  # fmt: skip
    for incarnation in (1, 2, 3):
        expect_a_planned_restart(wait_for(tree, E.AGENT_RESTARTING, path, count=incarnation), "max_age")
        expect_undisturbed(tree, path, incarnation)
    tree.events.wait_for(E.AGENT_MESSAGE, path, where=lambda event: event.incarnation == 4, since=0, timeout=PATIENCE)
    pids = [pid for pid in pids_of(tree, path) if pid != tree.status(path).pid]
    assert len(set(pids)) >= 3
    assert [pid for pid in pids[:3] if is_alive(pid)] == []


def test_a_supervisor_that_allows_no_restart_stays_up_when_its_children_are_recycled(tree: Orchestrator) -> None:
    name = f"strict-{next(numbered)}"
    strict = tree.add_supervisor(name, max_restarts=0, strategy="one_for_all")
    aging = start(strict, hanging.Rounds, max_age=0.05, backoff=None)
    sibling = start(strict, hanging.AsyncRounds)
    wait_for(tree, E.AGENT_READY, f"{name}/{aging}", count=6)
    assert tree.status(name).state is AgentState.READY
    assert tree.status(f"{name}/{sibling}").incarnation == 1
    assert E.SUPERVISOR_TERMINATED not in types(tree, name)


def test_a_long_round_is_not_cut_off_by_age(tree: Orchestrator, tmp_path: Path) -> None:
    path = start(tree, hanging.WaitsForTheGo, max_age=0.05, shutdown=0.0, params={"go": tmp_path / "go"})
    tree.events.wait_for(E.AGENT_MESSAGE, path, since=0, timeout=PATIENCE)
    other = start(tree, hanging.Rounds, max_age=0.05)
    wait_for(tree, E.AGENT_READY, other, count=5)  # by now the first one is much too old as well
    assert decisions(tree, path) == [E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY]
    (tmp_path / "go").touch()
    expect_a_planned_restart(wait_for(tree, E.AGENT_RESTARTING, path), "max_age")
    expect_undisturbed(tree, path, 1)


# Too big:


@pytest.mark.parametrize("grow", [hanging.grow_step_by_step, hanging.have_a_child_grow])
def test_one_that_grows_or_whose_child_does_is_recycled_between_two_rounds(
    tree: Orchestrator, tmp_path: Path, limit: int, grow: Any
) -> None:
    path = start_to_grow(tree, tmp_path, grow, limit)
    second = wait_for(tree, E.AGENT_READY, path, count=2)
    assert decisions(tree, path)[:6] == [
        E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY, E.AGENT_RESTARTING, E.AGENT_STARTING, E.AGENT_READY,
    ]  # fmt: skip
    expect_a_planned_restart(wait_for(tree, E.AGENT_RESTARTING, path), "memory")
    expect_undisturbed(tree, path, 1)
    first = [message for message in messages(tree, path, 1) if message.name in ("alive", "child")]
    assert [message.data["pid"] for message in first if is_alive(message.data["pid"])] == []

    def is_late(event: Event) -> bool:
        data: Any = event.data
        return bool(data.name == "alive" and data.data["at"] > second.monotonic + 5 * OFTEN_S)

    # The next one is small, and is left alone.
    tree.events.wait_for(E.AGENT_MESSAGE, path, where=is_late, since=second.seq, timeout=PATIENCE)
    assert tree.status(path).incarnation == 2


def test_one_that_does_not_finish_its_round_is_killed_when_its_shutdown_time_is_over(
    tree: Orchestrator, tmp_path: Path, limit: int
) -> None:
    path = start_to_grow(tree, tmp_path, hanging.grow_and_hang, limit, shutdown=0.2, restart="temporary")
    report = crash_of(tree, path)
    assert decisions(tree, path) == [
        E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY, E.AGENT_STOPPING, E.AGENT_CRASHED, E.AGENT_TERMINATED,
    ]  # fmt: skip
    assert (report.cause, report.signal, report.stacks) == ("memory", "SIGTERM", "")
    assert report.message.startswith("uses ")
    assert report.message.endswith(f"{text_of(limit)}, and did not end within 0.2 s")
    assert report.max_memory is not None
    assert report.max_memory > ROOM
    assert not is_alive(report.pid or 0)


def test_one_without_rounds_is_killed_for_its_memory_as_well(tree: Orchestrator, tmp_path: Path, limit: int) -> None:
    fields: dict[str, Any] = {"kind": hanging.GrowsAtWork, "shutdown": 0.1, "restart": "temporary"}
    report = crash_of(tree, start_to_grow(tree, tmp_path, None, limit, **fields))
    assert report.cause == "memory"
    assert report.message.endswith(f"{text_of(limit)}, and did not end within 0.1 s")


def test_with_brutal_kill_one_that_uses_too_much_gets_no_time(tree: Orchestrator, tmp_path: Path, limit: int) -> None:
    fields: dict[str, Any] = {"shutdown": "brutal_kill", "restart": "temporary"}
    report = crash_of(tree, start_to_grow(tree, tmp_path, hanging.grow_step_by_step, limit, **fields))
    assert (report.cause, report.signal) == ("memory", "SIGKILL")
    assert report.message.endswith(text_of(limit))


def test_one_that_uses_too_much_right_after_setup_is_killed_and_parks_with_a_message(
    tree: Orchestrator, limit: int
) -> None:
    path = start(tree, hanging.GrowsInSetup, max_memory=limit, **FAST)
    parked: Any = wait_for(tree, E.AGENT_PARKED, path).data
    report = crash_of(tree, path)
    assert decisions(tree, path) == [
        E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY, E.AGENT_STOPPING, E.AGENT_CRASHED, E.AGENT_PARKED,
    ]  # fmt: skip
    assert parked.why == report.message
    assert report.message.startswith("uses ")
    assert report.message.endswith(f"{text_of(limit)}, right after setup()")
    assert (report.cause, report.decision, tree.status(path).state) == ("memory", "park", AgentState.PARKED)
    assert not is_alive(report.pid or 0)


def test_one_that_is_not_small_but_within_its_limit_is_left_alone(tree: Orchestrator, limit: int) -> None:
    path = start(tree, hanging.GrowsInSetup, max_memory=limit + 2 * ROOM)
    ready = wait_for(tree, E.AGENT_READY, path)

    def is_late(event: Event) -> bool:
        data: Any = event.data
        return bool(data.name == "alive" and data.data["at"] > ready.monotonic + 5 * OFTEN_S)

    tree.events.wait_for(E.AGENT_MESSAGE, path, where=is_late, since=0, timeout=PATIENCE)
    assert decisions(tree, path) == [E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY]
