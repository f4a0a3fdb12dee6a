"""Programs that run a tree to its end: signals and exit codes, seen from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.slow

DEADLINE_S: Final = 30

HEAD: Final = """
import sys, threading
from loguru import logger
from orchestree import Agent, AsyncAgent, Orchestrator, RunMode, Backoff
from tenacity import stop_after_attempt, wait_none
logger.remove()

def say(*words):
    print(*words, flush=True)

class Steady(Agent):
    def execute(self):
        self.sleep(3600)
    def teardown(self):
        say("ended", self.path)

class AsyncSteady(AsyncAgent):
    async def execute(self):
        await self.sleep(3600)
    async def teardown(self):
        say("ended", self.path)

class Stubborn(Agent):
    def on_stop(self):
        say("asked")
    def execute(self):
        threading.Event().wait()

class SlowToStart(Agent):
    def setup(self):
        say("starting")
        self.sleep(3600)
    def execute(self):
        say("never")

class Bad(Agent):
    def execute(self):
        raise ValueError("no such sensor")

class Job(Agent):
    def execute(self):
        say("worked")

def tree(mode=RunMode.DAEMON, **settings):
    return Orchestrator(Orchestrator.Config(run_mode=mode, control=False, **settings))

def up(orchestrator):
    # Said by a handler: by then simple_join() has set the signal handlers.
    orchestrator.events.subscribe(lambda event: say("up"), "supervisor_ready")
    sys.exit(orchestrator.simple_join())
"""


class Program:
    """A script that runs; one line of its output at a time."""

    def __init__(self, folder: Path, text: str) -> None:
        script = folder / "app.py"
        script.write_text(HEAD + text)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(script)],
            stdin=subprocess.PIPE,  # its end, with `end`, is what a program may wait for
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def line(self) -> str:
        """Return the next line of its output."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, list[str], str]:
        """Return exit code, the rest of the lines, and what came on stderr."""
        out, err = self._process.communicate(timeout=DEADLINE_S)
        return self._process.returncode, out.splitlines(), err


THREE: Final = """
o = tree()
o.register_agent(Steady, "a")
o.register_agent(AsyncSteady, "b")
o.register_agent(Steady, "c", depends_on=["a"])
up(o)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_the_tree_in_reverse_order_with_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with Program(tmp_path, THREE) as program:
        assert program.line() == "up"
        program.send(number)
        assert program.end() == (0, ["ended c", "ended b", "ended a"], "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_program_at_once(tmp_path: Path, number: signal.Signals) -> None:
    text = 'o = tree()\no.register_agent(Steady, "a")\no.register_agent(Stubborn, "b", shutdown="infinity")\nup(o)'
    with Program(tmp_path, text) as program:
        assert program.line() == "up"
        program.send(signal.SIGINT)
        assert program.line() == "asked"
        program.send(number)
        code, _, errors = program.end()
        assert (code, errors) == (128 + number, f"orchestree: ended at once by {number.name}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_does_not_interrupt_the_main_thread_stops_the_tree(
    tmp_path: Path, number: signal.Signals
) -> None:
    text = f"""
import signal
class Raises(Agent):
    def execute(self):
        sys.stdin.readline()  # by then the main thread waits for the end
        signal.pthread_kill(threading.get_ident(), {number:d})
        self.sleep(3600)
o = tree()
o.register_agent(Raises, "a")
up(o)
"""
    with Program(tmp_path, text) as program:
        assert program.line() == "up"
        assert program.end() == (0, [], "")


def test_a_signal_during_the_start_ends_the_start_in_order(tmp_path: Path) -> None:
    text = 'o = tree()\no.register_agent(Steady, "a")\no.register_agent(SlowToStart, "b")\n'
    with Program(tmp_path, text + "sys.exit(o.simple_join())") as program:
        assert program.line() == "starting"
        program.send(signal.SIGTERM)
        assert program.end() == (0, ["ended a"], "")


def test_a_signal_during_the_preparation_starts_nothing(tmp_path: Path) -> None:
    text = """
class Slow(Orchestrator):
    def _new_driver(self, *given):
        driver = super()._new_driver(*given)
        prepare = driver.prepare
        def slowly():
            say("preparing")
            sys.stdin.readline()
            prepare()
        driver.prepare = slowly
        return driver
o = Slow(Orchestrator.Config(run_mode=RunMode.DAEMON, control=False))
o.register_agent(Job, "a")
sys.exit(o.simple_join())
"""
    with Program(tmp_path, text) as program:
        assert program.line() == "preparing"
        program.send(signal.SIGTERM)
        assert program.end() == (0, [], "")


def test_a_wedged_thread_does_not_keep_the_program(tmp_path: Path) -> None:
    text = 'o = tree()\no.register_agent(Stubborn, "a", shutdown=0.05)\nup(o)'
    with Program(tmp_path, text) as program:
        assert program.line() == "up"
        program.send(signal.SIGTERM)
        assert program.end() == (1, ["asked"], "")


def test_a_program_that_forgets_to_stop_ends_all_the_same(tmp_path: Path) -> None:
    text = """
o = tree()
o.register_agent(Steady, "a")
o.register_agent(AsyncSteady, "b")
o.start()
say("main is done")
"""
    with Program(tmp_path, text) as program:
        code, lines, errors = program.end()
        assert (code, lines, errors) == (0, ["main is done"], "")


def test_the_handlers_that_were_there_are_put_back(tmp_path: Path) -> None:
    text = """
import signal
def mine(*given): say("mine")
signal.signal(signal.SIGTERM, mine)
o = tree(RunMode.STOP_ON_EMPTY)
o.register_agent(Job, "a")
o.simple_join()
say(signal.getsignal(signal.SIGTERM) is mine, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    with Program(tmp_path, text) as program:
        assert program.end() == (0, ["worked", "True True"], "")


EXIT_CODES: Final = {
    'o = tree(RunMode.STOP_ON_EMPTY)\no.register_agent(Job, "a")': 0,
    "o = tree(RunMode.STOP_ON_EMPTY)": 0,
    'o = tree(RunMode.STOP_ON_EMPTY)\no.register_agent(Bad, "a", backoff=Backoff(stop=stop_after_attempt(1)))': 1,
    'o = tree(RunMode.STOP_ON_EMPTY)\no.register_agent(Bad, "a", restart="temporary")': 1,
    'o = tree(strict_start=True)\no.register_agent(Broken, "a")': 1,
    'o = tree(max_restarts=2)\no.register_agent(Bad, "a", backoff=None)': 70,
    'o = tree()\no.register_agent(Job, "a", depends_on=["b"])': 78,
}


@pytest.mark.parametrize(("text", "code"), EXIT_CODES.items())
def test_the_exit_code_says_how_it_went(tmp_path: Path, text: str, code: int) -> None:
    broken = "class Broken(Job):\n    def setup(self):\n        raise OSError('no disk')\n"
    with Program(tmp_path, f"{broken}{text}\nraise SystemExit(o.simple_join())") as program:
        got, _, errors = program.end()
        assert got == code, errors
        assert len(errors.splitlines()) == (1 if code == 78 or "strict" in text else 0)
