"""Runs each incarnation in a process of its own, made by a fork server that belongs to this executor alone.

All its methods and callbacks run in the supervision thread; nothing here waits, but for `prepare` and `close`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from math import isinf
from typing import ClassVar, Final

from orchestree.agents.ends import Cause, CrashReport, abnormal
from orchestree.agents.executor import Host, Launch, RunEnded, RunId, RunReady
from orchestree.agents.lifecycle import failed_run
from orchestree.agents.process.client import ForkServer, close_all
from orchestree.agents.process.endings import Evidence, classify
from orchestree.agents.process.payload import check_payload, dump_launch
from orchestree.agents.process.relay import LAST_TURN, Channel, Relay
from orchestree.agents.process.sources import Source, sources_of
from orchestree.agents.process.wire import (
    End,
    Exited,
    Fork,
    Forked,
    Inlet,
    Load,
    Loaded,
    NotForked,
    Ready,
)
from orchestree.strategies.errors import SpecError

TURN: Final = 64
"""Packets of one control channel that are read at a time."""
LOAD_S: Final = 120.0
"""Seconds that the modules of the agents may take to load."""
LINGER_S: Final = 5.0
"""Seconds to exit in, after the last hook, for an agent whose `shutdown` is ``brutal_kill``."""


@dataclass(eq=False, slots=True)
class Process:
    """What is known about one run.

    Attributes:
        end: its last words, when it has said them.
        killed: `kill` was called; if there is no pidfd yet, it is carried out when that comes.
        cut_off: it was killed because it did not exit after its last words.
    """

    launch: Launch
    control: Inlet
    data: Channel
    started: float = field(default_factory=time.monotonic)
    pid: int | None = None
    pidfd: int | None = None
    ready: bool = False
    end: End | None = None
    killed: bool = False
    cut_off: bool = False
    exit_deadline: asyncio.TimerHandle | None = None

    def kill(self) -> None:
        """Send SIGKILL. A pidfd never means another process; the server kills the rest of the group."""
        self.killed = True
        if self.pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class ProcessExecutor:
    """See `Executor`. A fork server that has died is replaced by the next start."""

    can_kill: ClassVar[bool] = True

    def __init__(self, host: Host) -> None:
        """Own nothing before the first start."""
        self._host = host
        self._loop = host.loop
        self._server: ForkServer | None = None
        self._relay: Relay | None = None
        self._processes: dict[RunId, Process] = {}
        self._sources: set[Source] = set()  # that a new server is to load as well
        self._cold: set[Source] = set()
        self._answers: dict[Source, Loaded] = {}
        self._answers_due = 0

    @staticmethod
    def check(launch: Launch) -> None:
        """Check that it can be pickled, and that this is Linux."""
        if sys.platform != "linux":
            raise SpecError('executor="process" needs Linux: it is built on pidfds and on PR_SET_PDEATHSIG')
        check_payload(launch)

    def prepare(self, agents: list[Launch]) -> None:
        """Have the fork server load the modules of these agents, and look for their classes in there.

        A server that has agents to lose does not try a new module: each agent then loads it for itself.
        """
        for launch in agents:
            self.check(launch)
        wanted = {launch.run.path: _sources(launch, dump_launch(launch).content) for launch in agents}
        names: dict[Source, tuple[str, ...]] = {}
        for sources in wanted.values():
            names |= {source: names.get(source, ()) + some for source, some in sources.items()}
        try:
            server = self._running_server()
        except OSError as error:
            raise SpecError(f"no fork server can be started: {error}") from None
        for source, some in names.items():
            self._load(server, source, some)
        if not server.serve_until(lambda: self._answers_due == 0, LOAD_S):
            why = f"it took more than {LOAD_S:g} s" if self._server else "the process that tried has died"
            if self._server is not None:
                self._server.kill()
            raise SpecError(f"the modules of {', '.join(wanted)} cannot be loaded for processes: {why}")
        for path, sources in wanted.items():
            for source, some in sources.items():
                _expect(path, self._answers[source], some)

    def start(self, launch: Launch) -> None:
        """Ask the fork server for a process."""
        try:
            self._start(launch)
        except Exception as error:
            self._host.report(failed_run(launch.run, error))

    def ask_stop(self, run: RunId) -> None:
        """Send the request; it waits for a process that is not there yet."""
        if process := self._processes.get(run):
            with suppress(OSError):  # it has ended, or was asked before
                process.control.sock.send(b"stop")

    def kill(self, run: RunId) -> None:
        """Send SIGKILL."""
        if process := self._processes.get(run):
            process.kill()

    def close(self) -> None:
        """Kill all processes, return when they are gone, and report their ends."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for process in list(self._processes.values()):
            self._finish(process, signal.SIGKILL)
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def _start(self, launch: Launch) -> None:
        pickled = dump_launch(launch)
        sources = _sources(launch, pickled.content)
        server = self._running_server()
        for source, names in sources.items():
            if source not in self._sources:
                self._load(server, source, names)
        if self._relay is None:
            self._relay = Relay(self._host)
        with ExitStack() as ours, ExitStack() as theirs:
            control, data = _channel(ours, theirs), _channel(ours, theirs)
            content = _in_memory(pickled.content, theirs)
            given = (control.theirs, data.theirs, content, *pickled.descriptors)
            server.send(Fork(launch.run, tuple(sources)), given)
            ours.pop_all()
        process = Process(launch, Inlet(control.ours), self._relay.add(launch.run, data.ours))
        self._processes[launch.run] = process
        self._loop.add_reader(control.ours, self._listen, process)

    def _running_server(self) -> ForkServer:
        if self._server is None:
            self._server = ForkServer(self._loop, self._cold, self._on_answer, self._on_server_end)
            self._answers_due = 0
            for source in self._sources:
                self._load(self._server, source)
        return self._server

    def _load(self, server: ForkServer, source: Source, names: tuple[str, ...] = ()) -> None:
        self._answers_due += 1
        server.send(Load(source, names))

    # Callbacks of the loop:

    def _on_answer(self, answer: object, descriptors: list[int]) -> None:
        match answer:
            case Loaded(source):
                self._answers_due -= 1
                self._answers[source] = answer
                if answer.temperature == "cold":
                    self._cold.add(source)
                if answer.temperature != "late" and not answer.problem:
                    self._sources.add(source)
            case Forked() if process := self._processes.get(answer.run):
                process.pid, process.pidfd = answer.pid, descriptors.pop()
                if process.killed:
                    process.kill()
                if process.ready:
                    self._host.report(RunReady(answer.run, answer.pid))
            case NotForked() if answer.run in self._processes:
                self._release(answer.run)
                report = CrashReport(cause=Cause.START_FAILED, message=answer.problem, phase="setup")
                self._host.report(RunEnded(run=answer.run, reason=abnormal(report.cause), report=report))
            case Exited() if process := self._processes.get(answer.run):
                self._finish(process, answer.status)
        close_all(descriptors)

    def _on_server_end(self) -> None:
        """Wait for the children, which die with their server; what they were started for is lost."""
        self._server = None
        for process in list(self._processes.values()):
            process.kill()
            if process.pidfd is None:
                self._finish(process, None)
            else:
                self._loop.add_reader(process.pidfd, self._finish, process, None)

    def _listen(self, process: Process, most: int = TURN) -> None:
        for message in process.control.receive(most):
            match message:
                case Ready():
                    process.ready = True
                    if process.pid is not None:  # else the server will say it presently
                        self._host.report(RunReady(process.launch.run, process.pid))
                case End():
                    process.end = message
                    self._limit_exit(process)
        if process.control.at_end:
            self._loop.remove_reader(process.control.sock)

    def _limit_exit(self, process: Process) -> None:
        grace = process.launch.shutdown_s or LINGER_S
        if not isinf(grace):
            process.exit_deadline = self._loop.call_later(grace, self._cut_off, process)

    def _cut_off(self, process: Process) -> None:
        process.cut_off = True
        process.kill()

    def _finish(self, process: Process, status: int | None) -> None:
        """Report the end of a process that is gone, after all that it has said."""
        self._listen(process, LAST_TURN)
        run = process.launch.run
        self._release(run)
        evidence = Evidence(
            run=run,
            pid=process.pid,
            ready=process.ready,
            end=process.end,
            status=status,
            cut_off=process.cut_off,
            uptime_s=time.monotonic() - process.started,
        )
        if self._relay is not None and process.end is not None and process.end.result:
            # What the user's objects do while they are unpickled must not hold up supervision.
            self._relay.do(lambda: self._host.report(classify(evidence)))
        else:
            self._host.report(classify(evidence))

    def _release(self, run: RunId) -> None:
        """Forget a process, and hand in what it has emitted."""
        process = self._processes.pop(run)
        if process.exit_deadline is not None:
            process.exit_deadline.cancel()
        self._loop.remove_reader(process.control.sock)
        process.control.sock.close()
        if process.pidfd is not None:
            self._loop.remove_reader(process.pidfd)
            os.close(process.pidfd)
        if self._relay is not None:
            self._relay.finish(process.data)


@dataclass(frozen=True, slots=True)
class Pair:
    """Both ends of a channel; `theirs` is closed here once it has been sent."""

    ours: socket.socket
    theirs: int


def _channel(ours: ExitStack, theirs: ExitStack) -> Pair:
    mine, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.enter_context(mine)
    theirs.enter_context(given)
    return Pair(mine, given.fileno())


def _in_memory(content: bytes, until: ExitStack) -> int:
    """Return the descriptor of a file in memory, to be read from its beginning."""
    descriptor = os.memfd_create("orchestree-launch")
    until.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _sources(launch: Launch, pickled: bytes) -> dict[Source, tuple[str, ...]]:
    return sources_of((launch.agent, type(launch.config)), pickled)


def _expect(path: str, answer: Loaded, names: tuple[str, ...]) -> None:
    """Return if the agent's source is as it must be; raise `SpecError` otherwise."""
    if answer.problem:
        raise SpecError(f"{path}: {answer.problem}")
    for name in names:
        if name in answer.missing:
            raise SpecError(
                f"{path}: {answer.source} has no {name!r} when it is loaded in the process of an agent; "
                'is it defined under `if __name__ == "__main__":`, or after the call that starts the tree?'
            )
