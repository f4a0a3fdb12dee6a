"""However a program ends, nothing that its agents have started outlives it.

Each of its process agents has a forked child in its group, one in a session of its own, and others that have forked
twice, ignore signals and have closed everything; one replaces its child whenever that dies; some run another program,
one of them without any environment. `ORCHESTREE_TEST_ROUNDS` says how often each end is tried.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from orchestree_testing.family import MARKED, PROCESSES, UNMARKED, left_before
from orchestree_testing.host import DEADLINE_S
from orchestree_testing.scripts import Program, start_program
from survivors import Household, Watch, household, is_marked, survivors

ROUNDS: Final = int(os.environ.get("ORCHESTREE_TEST_ROUNDS", "2"))

IN_ROUNDS: Final = pytest.mark.parametrize("rounds", [1, pytest.param(ROUNDS, marks=pytest.mark.slow)])


@dataclass
class Family:
    """The running program.

    Attributes:
        watch: its processes, also those that carry no mark.
    """

    program: Program
    house: Household
    watch: Watch
    agents: list[int]
    helpers: dict[str, dict[str, int]]
    server: int

    def tell(self, command: str) -> None:
        assert self.program.stdin is not None
        self.program.stdin.write(f"{command}\n")
        self.program.stdin.flush()

    def line(self) -> str:
        assert self.program.stdout is not None
        return self.program.stdout.readline()

    def helper_pids(self, *kinds: str) -> list[int]:
        return [helpers[kind] for helpers in self.helpers.values() for kind in kinds]

    def end(self) -> None:
        """Return when the program has ended."""
        self.program.wait(DEADLINE_S)

    def expect_nobody(self) -> None:
        """Fail if something of it is left, or was left for init to reap that was not init's."""
        assert survivors(self.house.mark, self.watch) == []
        assert self.house.zombies(self.server) == set(), "the fork server has not reaped what it killed"


def read(line: str) -> dict[str, Any]:
    assert line, "the program has ended"
    told: dict[str, Any] = json.loads(line)
    return told


@contextmanager
def running(folder: Path) -> Iterator[Family]:
    """Start the program in `folder`; all its helpers are there when the block begins, nothing of it afterwards."""
    main = "from orchestree_testing.family import main; main()"
    with household() as house:
        room = {**house.environment, "XDG_RUNTIME_DIR": str(folder)}
        with start_program("-c", main, cwd=folder, **room) as program, Watch() as watch:
            assert program.stdout is not None
            line = program.stdout.readline()
            if not line:
                pytest.fail(program.communicate(timeout=DEADLINE_S)[1])
            told = read(line)
            agents, helpers = list(told["agents"].values()), told["helpers"]
            server = psutil.Process(agents[0]).ppid()
            unmarked = [pid for each in helpers.values() for kind, pid in each.items() if kind in UNMARKED]
            for pid in (program.pid, server, *agents, *unmarked):
                watch.add(pid)
            family = Family(program, house, watch, agents, helpers, server)
            assert not watch.gone_before
            assert all(
                is_marked(pid, house.mark) for pid in (server, *agents, *family.helper_pids("daemon", "program"))
            )
            try:
                yield family
            finally:
                watch.kill()


def kill_the_program(family: Family) -> None:
    family.program.kill()


def leave_in_a_thread(family: Family) -> None:
    family.tell("leave")


def kill_it_while_a_regular_expression_keeps_the_interpreter(family: Family) -> None:
    family.tell("match for ever")
    assert family.line() == "holding\n"
    family.program.kill()


def kill_it_while_a_call_keeps_the_interpreter(family: Family) -> None:
    family.tell("write for ever")
    assert family.line() == "holding\n"
    family.program.kill()


def kill_its_process_group(family: Family) -> None:
    os.killpg(family.program.pid, signal.SIGKILL)


def kill_it_and_all_its_agents(family: Family) -> None:
    for pid in (*family.agents, family.program.pid):
        os.kill(pid, signal.SIGKILL)


QUICK: Final = (
    kill_the_program,
    leave_in_a_thread,
    kill_it_while_a_call_keeps_the_interpreter,
    kill_its_process_group,
)
ENDS: Final = (*QUICK, kill_it_while_a_regular_expression_keeps_the_interpreter, kill_it_and_all_its_agents)


def expect_nobody_after(end: Callable[[Family], None], folder: Path, rounds: int) -> None:
    for _ in range(rounds):
        with running(folder) as family:
            end(family)
            family.end()
            family.expect_nobody()


@pytest.mark.parametrize("end", QUICK, ids=lambda end: end.__name__)
def test_nothing_outlives_a_program_that_ends_without_a_word(tmp_path: Path, end: Callable[[Family], None]) -> None:
    expect_nobody_after(end, tmp_path, 1)


@pytest.mark.slow
@pytest.mark.timeout(60 + 5 * ROUNDS)
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_nothing_outlives_a_program_that_ends_so_again_and_again(tmp_path: Path, end: Callable[[Family], None]) -> None:
    expect_nobody_after(end, tmp_path, ROUNDS)


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.timeout(300)
def test_nothing_outlives_a_program_that_is_killed_fifty_times(tmp_path: Path) -> None:
    expect_nobody_after(kill_the_program, tmp_path, 50)


@pytest.mark.slow
def test_nothing_outlives_a_program_that_stops_in_order(tmp_path: Path) -> None:
    with running(tmp_path) as family:
        assert family.program.stdin is not None
        family.program.stdin.close()
        assert family.line() == "stopped\n"
        family.end()
        assert family.program.returncode == 0
        family.expect_nobody()


@IN_ROUNDS
def test_the_end_of_the_fork_server_takes_what_its_agents_had_started_and_the_tree_goes_on(
    tmp_path: Path, rounds: int
) -> None:
    for _ in range(rounds):
        with running(tmp_path) as family, Watch(family.helper_pids(*MARKED)) as old, Watch(family.agents) as agents:
            os.kill(family.server, signal.SIGKILL)
            family.tell("tell when back")
            told = read(family.line())
            assert told["causes"] == dict.fromkeys(PROCESSES, "lost")
            assert agents.alive() == []
            assert old.alive() == []
            assert {kind for name in PROCESSES for kind in left_before(tmp_path, name)} <= UNMARKED
            with Watch(pid for each in told["helpers"].values() for pid in each.values()) as new:
                everybody = [pid for each in told["helpers"].values() for pid in each.values()]
                assert new.alive() == everybody
                assert family.program.stdin is not None
                family.program.stdin.close()
                family.end()
                assert new.left_after() == []
            assert family.program.returncode == 0
            with Watch(family.helper_pids(*UNMARKED)) as strangers:  # see the test below
                strangers.kill()
                strangers.left_after()
            assert survivors(family.house.mark, family.watch) == []


def test_the_end_of_the_fork_server_takes_what_was_in_its_session_and_carries_no_mark(tmp_path: Path) -> None:
    with running(tmp_path) as family, Watch(family.helper_pids("bare")) as old:
        os.kill(family.server, signal.SIGKILL)
        family.tell("tell when back")
        read(family.line())
        assert old.left_after() == []


@IN_ROUNDS
def test_no_agent_outlives_its_orchestrator_and_its_fork_server_when_both_are_killed(
    tmp_path: Path, rounds: int
) -> None:
    for _ in range(rounds):
        with running(tmp_path) as family, Watch(family.agents) as agents:
            os.kill(family.server, signal.SIGSTOP)  # else it might have time to do its duty
            family.program.kill()
            os.kill(family.server, signal.SIGKILL)
            family.end()
            assert agents.left_after() == []
