"""Agents that leave processes behind, as hard to find as can be, and a program that runs some of them."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from loguru import logger

from orchestree.agents.agent import Agent
from orchestree.supervisor import EventType, Orchestrator
from orchestree.supervisor.events import AgentCrashed

from .process_agents import Sleeper
from .process_harness import is_alive
from .trees import FAST, PATIENCE, a_tree

DEAF: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals that a helper ignores."""
OWN_SESSION: Final = frozenset({"session", "daemon", "keeper", "program", "stranger"})
"""Helpers that leave process group and session."""
FORKED_TWICE: Final = frozenset({"daemon", "keeper", "program", "stranger"})
"""Helpers that are no child of the agent any more."""
EXECUTED: Final = frozenset({"program", "bare", "stranger"})
"""Helpers that are another program."""
UNMARKED: Final = frozenset({"bare", "stranger"})
"""Helpers whose environment is empty; nobody but the agent could say of a stranger whose it is."""
MARKED: Final = ("group", "session", "daemon", "keeper", "program")
"""Helpers that have inherited whatever says whose they are. The keeper replaces its child whenever that dies."""
HELPERS: Final = (*MARKED, "bare")
"""Helpers that can be told to be the agent's when the agent is gone: the bare one is in its process group."""
PROCESSES: Final = ("a", "b", "c")
"""Process agents of the program."""


def start_helper(kind: str) -> int:
    """Return the pid of a process that has gone as far away as `kind` says and has no descriptor left."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            be_helper(kind, write)
        finally:
            os._exit(1)
    os.close(write)
    with open(read, "rb") as told:
        pid = int(told.read())  # its end comes when the last descriptor is closed
    if pid != child:
        os.waitpid(child, 0)
    return pid


def be_helper(kind: str, write: int) -> NoReturn:
    """Go away, tell the pid, and stay for ever."""
    if kind in OWN_SESSION:
        os.setsid()
    if kind in FORKED_TWICE and os.fork():
        os._exit(0)
    for number in DEAF:
        signal.signal(number, signal.SIG_IGN)
    os.write(write, b"%d" % os.getpid())
    if kind in EXECUTED:
        os.closerange(0, 3)  # all others close themselves
        environment = {} if kind in UNMARKED else dict(os.environ)
        os.execvpe("sleep", ["sleep", "3600"], environment)
    os.closerange(0, 4096)
    if kind == "keeper":
        keep_a_child()
    while True:
        signal.pause()


def keep_a_child() -> NoReturn:
    """Have a child, in a session of its own, and another when that has died, and so on."""
    while (child := os.fork()) != 0:
        os.waitpid(child, 0)
    os.setsid()
    while True:
        signal.pause()


class Parent(Agent):
    """Starts ``params["helpers"]``, and writes to ``params["folder"]`` who they are and who of the last ones is left.

    With ``params["fails"]`` it never becomes ready; else it then calls ``params["execute"]``, if there is one.
    """

    def setup(self) -> None:
        place: Path = self.params["folder"]
        before = helpers_of(place, self.name) if self.incarnation > 1 else {}
        left = [kind for kind, pid in before.items() if is_alive(pid)]
        note_of(place, self.name, "left").write_text(json.dumps(left))
        pids = {kind: start_helper(kind) for kind in self.params["helpers"]}
        note_of(place, self.name, "helpers").write_text(json.dumps(pids))
        if self.params.get("fails"):
            raise ValueError("no such sensor")

    def execute(self) -> object:
        does: Callable[[Agent], object] = self.params.get("execute", idle)
        return does(self)


def note_of(folder: Path, name: str, what: str) -> Path:
    """Return where an agent writes `what`."""
    return folder / f"{name}.{what}"


def helpers_of(folder: Path, name: str) -> dict[str, int]:
    """Return the helpers of the agent's latest incarnation that has become ready: kind to pid."""
    found: dict[str, int] = json.loads(note_of(folder, name, "helpers").read_text())
    return found


def left_before(folder: Path, name: str) -> list[str]:
    """Return the kinds of those helpers of the incarnation before that the latest one still met."""
    found: list[str] = json.loads(note_of(folder, name, "left").read_text())
    return found


def idle(agent: Agent) -> None:
    agent.sleep(3600)


def be_deaf(agent: Agent) -> None:
    """Not end, whoever asks; a second incarnation is better behaved."""
    if agent.incarnation > 1:
        agent.sleep(3600)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Event().wait()


def wait_for_the_go(agent: Agent) -> None:
    """Return when somebody opens the FIFO ``params["go"]`` for writing; a second incarnation has no use for it."""
    if agent.incarnation > 1:
        agent.sleep(3600)
    else:
        agent.params["go"].read_bytes()


def fail_at_the_go(agent: Agent) -> None:
    wait_for_the_go(agent)
    if agent.should_stop:
        return
    raise ValueError("no such sensor")


def exit_at_the_go(agent: Agent) -> None:
    wait_for_the_go(agent)
    if agent.should_stop:
        return
    sys.exit(3)


def leave_at_the_go(agent: Agent) -> None:
    wait_for_the_go(agent)
    if agent.should_stop:
        return
    os._exit(4)


class Diarist(Agent):
    """Writes into ``params["diary"]`` what happens to it, and to a child in its process group.

    ``params["obeys"]`` says to what it gives way: ``request``, ``signal``, or nothing.
    """

    def setup(self) -> None:
        signal.signal(signal.SIGTERM, self._handle)
        self._role = "agent"
        if self.params.get("has child") and (child := start_diarist(self)):
            note_of(self.params["diary"].parent, self.name, "child").write_text(f"{child}")

    def write(self, text: str) -> None:
        """Append one line, at one stroke."""
        file = os.open(self.params["diary"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{text}\n".encode())
        os.close(file)

    def execute(self) -> None:
        if self.params["obeys"] == "request":
            self.sleep(3600)
            self.write("execute ends")
        else:
            self.stay()

    def stay(self) -> None:
        while True:
            signal.pause()

    def on_stop(self) -> None:
        self.write("on_stop")

    def teardown(self) -> None:
        self.write("teardown")

    def _handle(self, number: int, frame: object) -> None:
        self.write(f"{self._role} {signal.Signals(number).name}")
        if self._role == "agent" and self.params["obeys"] == "signal":
            sys.exit(0)


def start_diarist(agent: Diarist) -> int:
    """Return the pid of a child that writes into the same diary."""
    child = os.fork()
    if child == 0:
        agent._role = "child"
        agent.stay()
    return child


def describe_signals(agent: Agent) -> dict[str, str]:
    """Return what the kernel knows of this process's signals: hexadecimal masks, and what Python would do."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.partition(":")[0]: line.partition(":")[2].strip() for line in lines if line.startswith("Sig")}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        found[number.name] = str(signal.getsignal(number))
    return found


def a_family(folder: Path, **settings: Any) -> Orchestrator:
    """Return a tree of process agents with helpers, and of other agents."""
    tree = a_tree(**settings)
    for name in PROCESSES:
        params = {"folder": folder, "helpers": (*HELPERS, "stranger")}
        tree.register_agent(Parent, name, executor="process", params=params, **FAST)
    for name in ("thread-a", "thread-b"):
        tree.register_agent(Sleeper, name, **FAST)
    return tree


def main() -> None:
    """Run that tree in the folder where the program is; say who is there, then do what each line of stdin says."""
    logger.remove()
    os.setpgid(0, 0)
    tree = a_family(Path.cwd(), control=True)
    with tree:
        tell(tree)
        for line in sys.stdin:
            COMMANDS[line.strip()](tree)
    print("stopped", flush=True)


def tell(tree: Orchestrator, **more: object) -> None:
    """Print the pids of the process agents and of their helpers."""
    agents = {name: tree.status(name).pid for name in PROCESSES}
    helpers = {name: helpers_of(Path.cwd(), name) for name in PROCESSES}
    print(json.dumps({"agents": agents, "helpers": helpers, **more}), flush=True)


def tell_when_back(tree: Orchestrator) -> None:
    """Print the same for the next incarnations, and why they were needed."""
    causes: dict[str, str] = {}
    for name in PROCESSES:
        crashed = tree.events.wait_for(EventType.AGENT_CRASHED, name, since=0, timeout=PATIENCE)
        assert isinstance(crashed.data, AgentCrashed)
        causes[name] = crashed.data.reason.cause
        tree.events.wait_for(EventType.AGENT_READY, name, since=crashed.seq, timeout=PATIENCE)
    tell(tree, causes=causes)


def leave(tree: Orchestrator) -> None:
    """Be gone without a word, from another thread."""
    threading.Thread(target=os._exit, args=(7,)).start()
    threading.Event().wait()


def match_for_ever(tree: Orchestrator) -> None:
    """Have a regular expression keep the interpreter's lock for years."""

    def match() -> None:
        os.write(1, b"holding\n")
        re.match("(a+)+$", "a" * 64 + "b")

    threading.Thread(target=match, daemon=True).start()
    threading.Event().wait()


def write_for_ever(tree: Orchestrator) -> None:
    """Keep the interpreter's lock inside of a call: who reads the first word knows that the call goes on."""
    words = b"holding\n" + b"x" * 2**22  # far more than a pipe takes
    libc = ctypes.PyDLL(None)
    threading.Thread(target=libc.write, args=(1, words, len(words)), daemon=True).start()
    threading.Event().wait()


COMMANDS: Final[dict[str, Callable[[Orchestrator], None]]] = {
    "tell when back": tell_when_back,
    "leave": leave,
    "match for ever": match_for_ever,
    "write for ever": write_for_ever,
}
