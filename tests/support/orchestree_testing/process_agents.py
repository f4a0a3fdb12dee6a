"""Agents that tests run in processes, and functions for them to call there."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import random
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.loading import refuse_if_copy
from orchestree.agents.process.deathsig import PR_SET_PDEATHSIG
from orchestree.strategies.errors import NotRunning

if TYPE_CHECKING:
    import multiprocessing as multiprocess
else:
    import multiprocess


class Sleeper(Agent):
    """Waits until it is asked to stop."""

    def execute(self) -> str:
        self.sleep(3600)
        return "asked to stop"


class AsyncSleeper(AsyncAgent):
    """Waits, in a loop of its own, until it is asked to stop."""

    async def execute(self) -> str:
        await self.sleep(3600)
        return "asked to stop"


class Timed(Agent):
    """Says when its first two hooks were called, in monotonic seconds."""

    def __init__(self) -> None:
        self.emit("made", at=time.monotonic())

    def setup(self) -> None:
        self.emit("setup", at=time.monotonic())

    def execute(self) -> None:
        self.sleep(3600)


class Returner(Agent):
    """Returns ``params["value"]``."""

    def execute(self) -> object:
        return self.params["value"]


class Caller(Agent):
    """Returns what ``params["call"]``, called with the agent, returns."""

    def execute(self) -> Any:
        call: Callable[[Agent], Any] = self.params["call"]
        return call(self)


class Settings:
    """Something to hand over by reference."""


class Unreadable:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return _unreadable, ()


def _unreadable() -> None:
    raise LookupError("no such drawer")


def exit_with_3(agent: Agent) -> None:
    sys.exit(3)


def leave_with_7(agent: Agent) -> None:
    os._exit(7)


def leave_with_0(agent: Agent) -> None:
    os._exit(0)


def crash(agent: Agent) -> None:
    signal.raise_signal(signal.SIGSEGV)


def die_of_a_nameless_signal(agent: Agent) -> None:
    signal.raise_signal(signal.SIGRTMIN + 3)


def make_something_unpicklable(agent: Agent) -> object:
    return (letter for letter in "abc")


def leave_a_word_at_exit(agent: Agent) -> None:
    atexit.register(agent.params["file"].write_text, "bye")


def latest_import(agent: Agent) -> str:
    return list(sys.modules)[-1]


def leave_a_thread_behind(agent: Agent) -> str:
    threading.Thread(target=threading.Event().wait).start()
    return "done"


def emit_and_die(agent: Agent) -> None:
    for number in range(100):
        agent.emit("number", number=number)
    os.kill(os.getpid(), signal.SIGKILL)


def log_and_die(agent: Agent) -> None:
    for number in range(1000):
        agent.logger.info("line {}", number)
    os.kill(os.getpid(), signal.SIGKILL)


def log_many_and_die(agent: Agent) -> None:
    """Log more than any socket holds."""
    for number in range(2000):
        agent.logger.info("line {}", number)
    os.kill(os.getpid(), signal.SIGKILL)


def flood(agent: Agent) -> None:
    """Log ``params["lines"]`` lines, or until somebody asks the agent to stop."""
    agent.emit("flooding")
    number = 0
    while number != agent.params["lines"] and not agent.should_stop:
        agent.logger.info("line {}", number)
        number += 1
    agent.emit("flooded")


def log_all_kinds(agent: Agent) -> int:
    logger.level("LOUD", no=37, icon="!")
    logger.debug("unbound {braces}")
    agent.logger.bind(colour="blue", settings=Settings).log("LOUD", "bound")
    try:
        raise ValueError("no such sensor")
    except ValueError:
        agent.logger.exception("failed")
    agent.logger.info("x" * 100_000)
    return os.getpid()


def log_from_a_forked_child(agent: Agent) -> None:
    """Log at the same time from two processes that share the channel."""
    child = os.fork()
    for number in range(100):
        agent.logger.info("{} {} {}", "child" if child == 0 else "agent", number, "x" * 40_000)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def emit_what_cannot_be_pickled(agent: Agent) -> None:
    agent.emit("odd", plain=1, generator=(letter for letter in "abc"))


def describe_process(agent: Agent) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "stdin": os.readlink("/proc/self/fd/0"),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "names": [library.current_process().name for library in (multiprocess, multiprocessing)],
        "threads": [thread.name for thread in threading.enumerate()],
        "sockets": sum(name.startswith("socket:") for name in open_files()),
        "files": len(open_files()),
        "death signal": death_signal(),
        "argv": sys.argv,
        "path": sys.path,
        "cwd": str(Path.cwd()),
        "flags": sys.flags.dont_write_bytecode,
        "random": random.random(),
        "children": len(multiprocess.active_children()),
    }


def open_files() -> list[str]:
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        path = Path("/proc/self/fd") / descriptor
        if path.is_symlink():
            names.append(str(path.readlink()))
    return names


def death_signal() -> int:
    import ctypes

    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG + 1, ctypes.byref(number))
    return number.value


def act_as_an_orchestrator(agent: Agent) -> str:
    try:
        refuse_if_copy("start()")
    except NotRunning as error:
        return str(error)
    return "not refused"


def use_both_kinds_of_processes(agent: Agent) -> list[object]:
    """Start a child with each library, and have a queue flushed at the exit."""
    answers: list[object] = []
    for library in (multiprocess, multiprocessing):
        context = library.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=queue.put, args=(library.__name__,))
        child.start()
        answers.append(queue.get(timeout=20))
        child.join()
    return answers


def fill_queue(agent: Agent) -> None:
    """Leave the queue's feeder thread something to do after the last hook."""
    for number in range(1000):
        agent.params["queue"].put((number, "x" * 1000))


def converse(agent: Agent) -> object:
    """Use all that can be handed over."""
    agent.params["connection"].send(agent.params["queue"].get(timeout=20))
    with agent.params["lock"]:
        agent.params["event"].set()
    return type(agent.params["event"]).__module__


def fill_proxy(agent: Agent) -> None:
    agent.params["shared"]["from"] = "agent"


def take_lock(agent: Agent) -> bool:
    return bool(agent.params["value"].acquire(timeout=1))


def start_a_grandchild(agent: Agent) -> int:
    """Leave behind a forked process that keeps every descriptor open; return its pid."""
    grandchild = os.fork()
    if grandchild == 0:
        if agent.params.get("own session"):
            os.setsid()
        signal.pause()
        os._exit(0)
    if agent.params.get("die"):
        agent.emit("grandchild", pid=grandchild)
        os.kill(os.getpid(), signal.SIGKILL)
    return grandchild


def start_a_program(agent: Agent) -> int:
    return subprocess.Popen(["sleep", "3600"]).pid


def hold_the_interpreter(agent: Agent) -> None:
    """Sleep in C code without giving up the interpreter's lock."""
    import ctypes

    agent.emit("holding", pid=os.getpid())
    ctypes.PyDLL(None).sleep(3600)


def be_killed(agent: Agent) -> None:
    """Die as the kernel has it when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def be_killed_and_deliver(agent: Agent) -> None:
    """Put the incarnation into ``params["queue"]``, unless it is the first, which is killed before that."""
    if agent.incarnation == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    agent.params["queue"].put(agent.incarnation)
    agent.sleep(3600)


def wait_for_work(agent: Agent) -> None:
    """Block in ``params["queue"]``, whoever asks the agent to stop."""
    agent.emit("waiting")
    agent.params["queue"].get()


def close_all_channels() -> None:
    """Close whatever connects this process with its orchestrator, also where a thread still waits for it."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if descriptor > 2 and stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                socket.socket(fileno=descriptor).shutdown(socket.SHUT_RDWR)
    os.closerange(3, 1024)


def fall_silent(agent: Agent) -> None:
    """Close all channels, and stay, whoever asks the agent to stop."""
    agent.emit("closing")
    close_all_channels()
    threading.Event().wait()


def fall_silent_once(agent: Agent) -> None:
    if agent.incarnation == 1:
        fall_silent(agent)


def fall_silent_and_abort_once(agent: Agent) -> None:
    close_all_channels()
    if agent.incarnation == 1:
        os.abort()
    os._exit(0)


def wait_for_ever() -> None:
    threading.Event().wait()


def _start_waiting() -> None:
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        wait_for_ever()

    threading.Thread(target=wait, daemon=True).start()
    waiting.wait()


def fault_beside_a_thread(agent: Agent) -> None:
    _start_waiting()
    ctypes.string_at(0)


def abort(agent: Agent) -> None:
    os.abort()


def raise_error(agent: Agent) -> None:
    raise ValueError("no such sensor")


def print_and_die(agent: Agent) -> None:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    os.write(1, b"from the C level\nhalf a line")
    os.kill(os.getpid(), signal.SIGKILL)


def print_a_lot(agent: Agent) -> None:
    for number in range(9_999):
        print("line", number)
    print("x" * 100_000)
    raise ValueError("enough")


def print_something(agent: Agent) -> None:
    print("something")


MUCH = 64 * 1024 * 1024


def take_memory_and_raise(agent: Agent) -> None:
    taken = b"x" * MUCH
    raise ValueError(f"{len(taken)} bytes")


def hang_with_a_thread(agent: Agent) -> None:
    _start_waiting()
    agent.emit("hanging")
    wait_for_ever()


def hold_the_lock(agent: Agent) -> None:
    """Compute in C, without giving up the interpreter's lock, for much longer than a test."""
    agent.emit("hanging")
    re.match("(a+)+b", "a" * 64)


def ignore_signals_and_hang(agent: Agent) -> None:
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    agent.emit("hanging")
    wait_for_ever()
