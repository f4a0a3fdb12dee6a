"""What a tree of process agents holds does not grow with its restarts, and nothing is left when it has stopped.

`ORCHESTREE_TEST_RESTARTS` says how many restarts that are.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

import psutil
import pytest
from orchestree_testing.family import MARKED, Parent, helpers_of
from orchestree_testing.host import DEADLINE_S
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.scripts import start_program
from orchestree_testing.trees import FAST, PATIENCE, a_tree, threads_left
from survivors import Watch, household, marked, survivors

from orchestree.supervisor import EventType, Orchestrator

pytestmark = pytest.mark.slow

RESTARTS: Final = int(os.environ.get("ORCHESTREE_TEST_RESTARTS", "300"))
NAMES: Final = ("a", "b", "c", "d")
SLACK: Final = 8
"""By which a count may differ from one moment to the next: a run that is about to be forgotten, a spare child."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """How much of what only the kernel and the file system have is in use; `server` is the fork server."""

    descriptors: int
    sockets: int
    threads: int
    children: int
    temporary_files: int
    runtime_files: int
    server_descriptors: int = 0
    server_sockets: int = 0
    server_threads: int = 0
    server_children: int = 0

    def over(self, before: Holdings, slack: int) -> dict[str, tuple[int, int]]:
        """Return what there is more of than `before`, by more than `slack`."""
        pairs = zip(fields(self), astuple(before), astuple(self), strict=True)
        return {field.name: (was, now) for field, was, now in pairs if now > was + slack}


@dataclass(frozen=True)
class Rooms:
    """Folders that nobody else uses."""

    temporary: Path
    runtime: Path

    def holdings(self, server: int | None = None) -> Holdings:
        """Count."""
        own = psutil.Process()
        return Holdings(
            *descriptors(own.pid),
            own.num_threads(),
            len(own.children()),
            sum(1 for _ in self.temporary.rglob("*")),
            sum(1 for _ in self.runtime.rglob("*")),
            *(() if server is None else of_the_server(server)),
        )


def of_the_server(pid: int) -> tuple[int, int, int, int]:
    server = psutil.Process(pid)
    return *descriptors(pid), server.num_threads(), len(server.children())


def descriptors(pid: int) -> tuple[int, int]:
    """Return how many descriptors the process has, and how many of them are sockets."""
    folder = Path(f"/proc/{pid}/fd")
    names = [os.readlink(folder / name) for name in os.listdir(folder) if (folder / name).is_symlink()]
    return len(names), sum(name.startswith("socket:") for name in names)


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rooms:
    made = Rooms(tmp_path / "temporary", tmp_path / "runtime")
    made.temporary.mkdir()
    made.runtime.mkdir(mode=0o700)
    monkeypatch.setenv("TMPDIR", str(made.temporary))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made.runtime))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return made


def sleepers() -> Orchestrator:
    tree = a_tree(control=True)
    for name in NAMES:
        tree.register_agent(Sleeper, name, executor="process", **FAST)
    return tree


def family_of_parents(folder: Path) -> Orchestrator:
    tree = a_tree()
    for name in NAMES:
        params = {"folder": folder, "helpers": MARKED}
        tree.register_agent(Parent, name, executor="process", params=params, **FAST)
    return tree


class Killer:
    """Kills all agents of a tree at the same time, and waits for their return."""

    def __init__(self, tree: Orchestrator) -> None:
        self._tree = tree
        self._last: dict[str, int] = {}
        self._wait()

    def _wait(self) -> None:
        for name in NAMES:
            since = self._last.get(name, 0)
            event = self._tree.events.wait_for(EventType.AGENT_READY, name, since=since, timeout=PATIENCE)
            self._last[name] = event.seq

    def pids(self) -> list[int]:
        found = [self._tree.status(name).pid for name in NAMES]
        return [pid for pid in found if pid is not None]

    def server(self) -> int:
        return psutil.Process(self.pids()[0]).ppid()

    def kill_server(self) -> None:
        os.kill(self.server(), signal.SIGKILL)
        self._wait()

    def kill(self, times: int) -> None:
        for _ in range(times):
            for pid in self.pids():
                os.kill(pid, signal.SIGKILL)
            self._wait()


@pytest.mark.timeout(60 + RESTARTS / 10)
def test_restarts_leave_nothing_behind(rooms: Rooms, capsys: pytest.CaptureFixture[str]) -> None:
    with sleepers() as tree:  # whatever libraries open once
        Killer(tree).kill(1)
    others = list(threading.enumerate())  # what other tests have wedged, for one
    nothing = rooms.holdings()
    with sleepers() as tree:
        killer = Killer(tree)
        killer.kill(2)
        server = killer.server()
        before = rooms.holdings(server)
        killer.kill(RESTARTS // len(NAMES))
        after = rooms.holdings(server)
        assert killer.server() == server
        assert sum(tree.status(name).incarnation for name in NAMES) >= RESTARTS
    assert threads_left(others) == []
    stopped = rooms.holdings()
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while stopped.threads > nothing.threads and time.monotonic() < deadline:
        pause.wait(0.01)  # threads can be joined a moment before the kernel has ended them
        stopped = rooms.holdings()
    with capsys.disabled():
        print(f"\nbefore any start: {nothing}\nbefore the kills: {before}")
        print(f"after {RESTARTS // len(NAMES) * len(NAMES)} kills: {after}\nafter the stop:   {stopped}")
    assert after.over(before, SLACK) == {}
    assert stopped.over(nothing, 0) == {}


@pytest.mark.timeout(60 + RESTARTS / 5)
def test_restarts_of_agents_that_leave_processes_behind_leave_nothing_behind(rooms: Rooms, tmp_path: Path) -> None:
    with household() as house, pytest.MonkeyPatch.context() as patch:
        for name, value in house.environment.items():
            patch.setenv(name, value)
        with family_of_parents(tmp_path) as tree:
            killer = Killer(tree)
            killer.kill(1)
            before, descendants = rooms.holdings(killer.server()), len(psutil.Process().children(recursive=True))
            killer.kill(RESTARTS // len(NAMES) // 4)
            after = rooms.holdings(killer.server())
            assert after.over(before, SLACK) == {}
            assert len(psutil.Process().children(recursive=True)) <= descendants + SLACK
        assert survivors(house.mark, Watch()) == []
        assert house.zombies() == set()


SERVERS: Final = 10


def test_the_ends_of_many_fork_servers_leave_nothing_behind(rooms: Rooms, tmp_path: Path) -> None:
    with household() as house, pytest.MonkeyPatch.context() as patch:
        for name, value in house.environment.items():
            patch.setenv(name, value)
        with family_of_parents(tmp_path) as tree:
            killer = Killer(tree)
            killer.kill_server()
            house.reap_zombies()
            before, threads = rooms.holdings(killer.server()), threading.active_count()
            for _ in range(SERVERS):
                killer.kill_server()
                house.reap_zombies()
            after = rooms.holdings(killer.server())
            assert after.over(before, SLACK) == {}
            assert threading.active_count() < threads + SERVERS  # some may be about to end
            expected = {pid for name in NAMES for pid in helpers_of(tmp_path, name).values()}
            keepers = {helpers_of(tmp_path, name)["keeper"] for name in NAMES}
            kept = {child.pid for keeper in keepers for child in psutil.Process(keeper).children()}
            server = killer.server()
            spare = {child.pid for child in psutil.Process(server).children()}
            assert set(marked(house.mark)) - spare - {server} <= expected | kept | set(killer.pids())
        assert survivors(house.mark, Watch()) == []


def test_a_program_starts_again_at_once_after_it_was_killed(rooms: Rooms, tmp_path: Path) -> None:
    main = "from orchestree_testing.family import main; main()"
    with household() as house:
        for number in range(5):
            with start_program("-c", main, cwd=tmp_path, **house.environment) as program:
                assert program.stdout is not None
                told = json.loads(program.stdout.readline())
                assert all(told["agents"].values())
                if number < 4:
                    program.kill()
                    program.wait(DEADLINE_S)  # but not for what it has started
                    continue
                out, errors = program.communicate(timeout=DEADLINE_S)
                assert (program.returncode, out, errors) == (0, "stopped\n", "")
        assert survivors(house.mark, Watch()) == []
        assert list(rooms.runtime.rglob("*")) == [rooms.runtime / "orchestree"]  # the folder of the control sockets
        assert list(rooms.temporary.iterdir()) == []
