"""A tree in a program of its own that the command line steers, and the command line as a person types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner, Result

from orchestree.supervisor.control.command_line.all_commands import orchestree

from .scripts import Program, start_program, write

MAIN: Final = "from orchestree.supervisor.control.cli import main; main()"
TOOL: Final = ("-c", MAIN)
SOON: Final = "from orchestree.supervisor.control.command_line import waiting_shown as shown; shown.LINE_S = 0.1; "

AGENTS: Final = """
import os, signal, sys, threading, time
from loguru import logger
from orchestree import *
from orchestree.strategies import Backoff

logger.remove()  # nobody reads what a program of a test says, until that is full
logger.add("log.txt")

class Idle(Agent):
    def execute(self):
        self.sleep(3600)

class IdleTask(AsyncAgent):
    async def execute(self):
        await self.sleep(3600)

class Talker(Agent):
    def setup(self):
        self.logger.info("first {}", self.incarnation)
        self.logger.warning("second \\x1b[31mred")
    def execute(self):
        self.sleep(3600)

class Bad(Agent):
    def execute(self):
        raise ValueError("bad \\x1b[2J reading")

class Slow(Agent):
    "Takes its time to stop."
    def execute(self):
        while not os.path.exists("let-go"):
            time.sleep(0.01)

class Deaf(Agent):
    "A thread that cannot be stopped."
    def execute(self):
        threading.Event().wait()

def tree(**config):
    return Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, name=sys.argv[1], **config))

def serve(orchestrator):
    with orchestrator:
        print("started", flush=True)
        orchestrator.join()
"""


@dataclass(frozen=True)
class Controlled:
    """A running tree.

    Attributes:
        program: the process that it runs in.
        folder: its XDG_RUNTIME_DIR and working folder; its socket is below that.
        name: of the orchestrator.
    """

    program: Program
    folder: Path
    name: str

    @property
    def environment(self) -> dict[str, str | None]:
        return {"XDG_RUNTIME_DIR": str(self.folder), "ORCHESTREE_SOCKET": None, "NO_COLOR": None, "TERM": "xterm"}

    def cli(self, *arguments: str, expect: int = 0) -> Result:
        """Call a command in this process, as the command line would; its exit code must be the one expected."""
        done = CliRunner().invoke(orchestree, arguments, env=self.environment, prog_name="orchestree")
        assert done.exit_code == expect, (done.stdout, done.stderr, done.exception)
        return done

    def json(self, *arguments: str, expect: int = 0) -> Any:
        """Call a command with ``--json`` and return what it printed."""
        return json.loads(self.cli(*arguments, "--json", expect=expect).stdout)

    def start_cli(self, *arguments: str) -> Program:
        """Start a command in a process of its own, which soon says whom it waits for."""
        return start_program("-c", SOON + MAIN, *arguments, cwd=self.folder, XDG_RUNTIME_DIR=str(self.folder))

    def end(self) -> None:
        """Kill the program with all its agents."""
        self.program.kill()
        self.program.wait()


@contextmanager
def controlled(folder: Path, source: str, name: str = "farm") -> Iterator[Controlled]:
    """Run `source`, which begins with `AGENTS` and calls ``serve``; yields when the tree has started."""
    write(folder / f"{name}.py", AGENTS + source)
    with start_program(f"{name}.py", name, cwd=folder, XDG_RUNTIME_DIR=str(folder)) as program:
        assert program.stdout
        said = program.stdout.readline()
        assert said == "started\n", program.communicate()
        yield Controlled(program, folder, name)
