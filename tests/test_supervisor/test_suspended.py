"""A program whose orchestrator stands still for longer than its agents' watchdog: nobody has hung meanwhile.

The program is `orchestree_testing.hanging_agents.main`. A laptop that is closed, a container that is paused and Ctrl-Z
in a shell do what is done to it here.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from orchestree_testing.hanging_agents import SUSPENDED_WATCHDOG_S
from orchestree_testing.host import DEADLINE_S
from orchestree_testing.scripts import Program, start_program
from survivors import GONE_S, Watch

pytestmark = [pytest.mark.slow, pytest.mark.torture]

LONG_S: Final = 2.2 * SUSPENDED_WATCHDOG_S
"""How long something is suspended; no multiple of the watchdog."""
AFTER_S: Final = 2.5 * SUSPENDED_WATCHDOG_S
"""So long after the end of it each agent must still be alive: an agent that was only spared once is found by then."""


@dataclass
class Running:
    """The program, and who belongs to it."""

    program: Program
    server: int
    agents: dict[str, int]

    @property
    def everybody(self) -> list[int]:
        """The orchestrator, the fork server, the agents."""
        return [self.program.pid, self.server, *self.agents.values()]

    def line(self) -> Any:
        """Return what the next line says."""
        assert self.program.stdout is not None
        line = self.program.stdout.readline()
        if not line:
            pytest.fail(self.program.communicate(timeout=DEADLINE_S)[1])
        return json.loads(line)

    def who_is_alive(self) -> Any:
        """Return what the program tells when all agents have been alive `AFTER_S` from now."""
        assert self.program.stdin is not None
        self.program.stdin.write(f"{AFTER_S}\n")
        self.program.stdin.flush()
        return self.line()

    def expect_nobody_was_found_hung(self) -> None:
        """Check that all agents then still have the same processes, and that nothing went wrong."""
        assert self.who_is_alive() == {"pids": self.agents, "bad": []}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    main = "from orchestree_testing.hanging_agents import main; main()"
    with start_program("-c", main, cwd=tmp_path, XDG_RUNTIME_DIR=str(tmp_path)) as program, Watch() as watch:
        made = Running(program, 0, {})
        made.agents = made.line()
        made.server = psutil.Process(next(iter(made.agents.values()))).ppid()
        for pid in made.everybody:
            watch.add(pid)
        try:
            yield made
            assert program.stdin is not None
            program.stdin.close()
            assert program.wait(DEADLINE_S) == 0
            assert watch.left_after(GONE_S) == []
        finally:
            for pid in watch.alive():  # one that is stopped cannot end with the others
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            watch.kill()


def stop(pids: Iterable[int]) -> None:
    """Have a signal stop these processes; return when they stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            pass


def go_on(pids: Iterable[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def stand_still(seconds: float = LONG_S) -> None:
    # The length of the suspension is what is tested here, and there is nobody who could tell that it is over.
    time.sleep(seconds)


def test_agents_are_not_hung_because_the_orchestrator_alone_was_suspended(running: Running) -> None:
    stop([running.program.pid])
    stand_still()
    go_on([running.program.pid])
    running.expect_nobody_was_found_hung()


@pytest.mark.parametrize("step", [1, -1], ids=["orchestrator_first", "agents_first"])
def test_nobody_is_hung_after_all_were_suspended_together(running: Running, step: int) -> None:
    stop(running.everybody[::step])
    stand_still()
    go_on(running.everybody[::step])
    running.expect_nobody_was_found_hung()


def test_nobody_is_hung_when_all_are_suspended_again_and_again(running: Running) -> None:
    for _ in range(3):
        stop(running.everybody)
        stand_still(1.3 * SUSPENDED_WATCHDOG_S)
        go_on(running.everybody)
        stand_still(0.3 * SUSPENDED_WATCHDOG_S)  # or rather go on for so long, not long enough for another look
    running.expect_nobody_was_found_hung()


def test_agents_that_go_on_some_time_after_the_orchestrator_are_not_hung(running: Running) -> None:
    stop(running.everybody)
    stand_still()
    go_on([running.program.pid, running.server])
    stand_still(0.4 * SUSPENDED_WATCHDOG_S)
    go_on(running.agents.values())
    running.expect_nobody_was_found_hung()


def test_agents_whose_fork_server_alone_was_suspended_are_not_hung(running: Running) -> None:
    stop([running.server])
    stand_still()
    go_on([running.server])
    running.expect_nobody_was_found_hung()


def test_one_that_stays_suspended_when_all_others_go_on_is_found_hung(running: Running) -> None:
    stop(running.everybody)
    stand_still()
    left = running.agents.pop("beats")
    go_on(running.everybody)
    told = running.who_is_alive()
    assert told["pids"].pop("beats") != left
    assert told["pids"] == running.agents
    assert {path for _, path in told["bad"]} == {"beats"}
