"""Runs each incarnation in a process of its own, made by a fork server that belongs to this executor alone.

All its methods and callbacks run in the supervision thread; nothing here waits, but for `prepare` and `close`.
"""

from __future__ import annotations

import itertools
import secrets
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from math import isinf
from typing import ClassVar, Final

from orchestree.agents.ends import Cause, CrashReport, abnormal
from orchestree.agents.executor import Host, Launch, RunEnded, RunId, RunMemory, RunProgress, RunReady
from orchestree.agents.lifecycle import failed_run
from orchestree.agents.process.client import ForkServer, check_loaded, close_all
from orchestree.agents.process.descendants import memory_of_tree
from orchestree.agents.process.endings import classify
from orchestree.agents.process.memory import read_progress
from orchestree.agents.process.oom import OomKills, oom_kills
from orchestree.agents.process.payload import check_payload, dump_launch
from orchestree.agents.process.relay import LAST_TURN, Relay
from orchestree.agents.process.running import Process, open_channels, standby_name
from orchestree.agents.process.sources import Source, sources_of
from orchestree.agents.process.sweep import Estate, sweep
from orchestree.agents.process.wire import (
    RECYCLE,
    STOP,
    End,
    Exited,
    Fork,
    Forked,
    Inlet,
    Load,
    Loaded,
    NotForked,
    Paused,
    Ready,
    SignalGroup,
)
from orchestree.strategies.errors import SpecError

TURN: Final = 64
"""Packets of one control channel that are read at a time."""
LOAD_S: Final = 120.0  # that the modules of the agents may take to load
LINGER_S: Final = 5.0
"""Seconds to exit in, after the last hook, for an agent whose `shutdown` is ``brutal_kill``."""
MARK: Final = 200
"""Characters of a mark, which is part of the name of a file; those that make it unique come first."""
STANDBY_LIFE_S: Final = 1.0
"""A process that ends sooner while it stands by is not replaced before the agent has become ready again."""
LAST_WORD_S: Final = 0.5
"""Seconds from SIGTERM, or from the SIGABRT that makes a hung process write its stacks, to SIGKILL."""


class ProcessExecutor:
    """See `Executor`. A fork server that has died is replaced by the next start."""

    can_kill: ClassVar[bool] = True

    def __init__(self, host: Host) -> None:
        """Own nothing before the first start."""
        self._host = host
        self._loop = host.loop
        self._server: ForkServer | None = None
        self._relay: Relay | None = None
        self._processes: dict[RunId, Process] = {}  # by the name that the fork server knows them by
        self._standbys: dict[str, Process] = {}  # by the path of their agent
        self._sources: set[Source] = set()  # that a new server is to load as well
        self._cold: set[Source] = set()
        self._answers: dict[Source, Loaded] = {}
        self._answers_due = 0
        self._token = ""  # stands in the marks of all that a fork server has made
        self._serials = itertools.count(1)
        self._sweepers: list[threading.Thread] = []
        self._oom_kills: OomKills | None = None

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
                check_loaded(path, self._answers[source], some)

    def start(self, launch: Launch) -> None:
        """Ask the fork server for a process."""
        try:
            standby = self._standbys.pop(launch.run.path, None)
            if standby is None or not self._has_begun(standby, launch):
                self._start(launch)
        except Exception as error:
            self._host.report(failed_run(launch.run, error))

    def ask_stop(self, run: RunId) -> None:
        """Send the request; it waits for a process that is not there yet."""
        if process := self._find(run):
            with suppress(OSError):  # it has ended, or was asked before
                process.control.sock.send(STOP)

    def kill(self, run: RunId, *, hung: bool = False) -> None:
        """Send SIGTERM to it and its group, half a second later SIGKILL.

        A second call sends SIGKILL at once, and so does the first under ``brutal_kill``. One that is `hung` first gets
        SIGABRT instead, on which it writes the stacks of its threads.
        """
        process = self._find(run)
        if process is None:
            return
        if process.killed or process.pidfd is None or process.paused:
            process.kill()
        elif hung:
            process.kill(signal.SIGABRT)
            self._kill_in(process, LAST_WORD_S)
        elif process.launch.shutdown_s == 0.0:
            process.kill()
        else:
            process.killed = True
            self._signal_group(process, signal.SIGTERM)
            self._kill_in(process, LAST_WORD_S)

    def look(self, run: RunId) -> None:
        """Report what stands in the memory file; one that is about to exit is not silent."""
        if process := self._find(run):
            progress = read_progress(process.memory)
            self._host.report(RunProgress(run, process.moment_of(progress.at), progress.words))

    def last_beat(self, run: RunId) -> float | None:
        """Return what stands in the memory file."""
        process = self._find(run)
        return process.last_beat() if process is not None else None

    def measure(self, run: RunId) -> None:
        """Report the resident memory of the process and of all below it; shared pages count for each of them."""
        process = self._find(run)
        if process is not None and process.pid is not None:
            self._host.report(RunMemory(run, memory_of_tree(process.pid)))

    def recycle(self, run: RunId) -> None:
        """Send the request."""
        if process := self._find(run):
            with suppress(OSError):
                process.control.sock.send(RECYCLE)

    def stand_down(self, path: str) -> None:
        """Kill the process that stands by."""
        if process := self._standbys.pop(path, None):
            process.kill()

    def close(self) -> None:
        """Kill all processes, return when they are gone, and report their ends."""
        self._standbys.clear()
        if self._server is not None:
            self._server.close()
            self._server = None
        for sweeper in self._sweepers:
            sweeper.join()
        for process in list(self._processes.values()):
            process.killed = True
            self._finish(process, Exited(process.name, signal.SIGKILL, 0))
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        if self._oom_kills is not None:
            self._oom_kills.close()
            self._oom_kills = None

    def _signal_group(self, process: Process, number: signal.Signals) -> None:
        if self._server is not None:
            self._server.send(SignalGroup(process.name, number))

    def _find(self, run: RunId) -> Process | None:
        process = self._processes.get(run) or self._processes.get(standby_name(run))
        return process if process is not None and not process.stands_by else None

    def _has_begun(self, standby: Process, launch: Launch) -> bool:
        """Have a process that stands by begin this run; one that was made for another is killed."""
        if standby.fits(launch) and standby.begin():
            standby.launch = launch
            return True
        standby.kill()
        return False

    def _stand_by(self, launch: Launch) -> None:
        """Make the process of the next incarnation."""
        run = RunId(launch.run.path, launch.run.incarnation + 1)
        if self._find(launch.run) is not None and run.path not in self._standbys:
            with suppress(OSError):  # no more descriptors: then there is none
                self._standbys[run.path] = self._start(replace(launch, run=run), stands_by=True)

    def _was_standby(self, process: Process) -> bool:
        """Return whether nobody has asked for the run that has ended; if one is still wanted, have another."""
        run = process.launch.run
        if process.stands_by and self._standbys.get(run.path) is process:
            del self._standbys[run.path]
            if time.monotonic() - process.started > STANDBY_LIFE_S:
                self._stand_by(replace(process.launch, run=RunId(run.path, run.incarnation - 1)))
        return process.stands_by

    def _start(self, launch: Launch, *, stands_by: bool = False) -> Process:
        pickled = dump_launch(launch)
        sources = _sources(launch, pickled.content)
        server = self._running_server()
        for source, names in sources.items():
            if source not in self._sources:
                self._load(server, source, names)
        if self._relay is None:
            self._relay = Relay(self._host)
        with ExitStack() as ours, ExitStack() as theirs:
            mark = f"{self._token}:{next(self._serials)}:{launch.run.path}#{launch.run.incarnation}"[:MARK]
            mine, given = open_channels(mark, pickled.content, ours, theirs)
            name = standby_name(launch.run) if stands_by else launch.run
            server.send(Fork(name, mark, tuple(sources), stands_by), [*given, *pickled.descriptors])
            ours.pop_all()
        channel = self._relay.add(launch, mine.data, mine.out, mine.err)
        process = Process(name, launch, Inlet(mine.control), channel, mine.memory, stands_by=stands_by)
        self._processes[name] = process
        self._loop.add_reader(mine.control, self._listen, process)
        return process

    def _running_server(self) -> ForkServer:
        if self._server is None:
            self._token = secrets.token_hex(8)
            self._oom_kills = self._oom_kills or oom_kills()
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
                process.pid = answer.pid
                if not descriptors:  # the kernel has found none free for the pidfd
                    process.fail_start("too many open files")
                    self._signal_group(process, signal.SIGKILL)
                    return
                process.pidfd = descriptors.pop()
                if process.killed:
                    process.kill()
                if process.ready:
                    self._say_ready(process)
            case NotForked() if process := self._processes.get(answer.run):
                if self._relay is not None:
                    self._relay.finish(process.data)
                self._release(process)
                report = CrashReport(cause=Cause.START_FAILED, message=answer.problem, phase="setup")
                if not self._was_standby(process):
                    self._host.report(RunEnded(run=answer.run, reason=abnormal(report.cause), report=report))
            case Paused(run, paused) if process := self._processes.get(run):
                process.paused = paused
                if self._relay is not None:
                    self._relay.warn(process.data, "a signal has stopped it" if paused else "it goes on")
            case Exited() if process := self._processes.get(answer.run):
                self._finish(process, answer)
        close_all(descriptors)

    def _on_server_end(self) -> None:
        """Have another thread wait for the children, which die with their server, and for what they leave behind."""
        server, self._server = self._server, None
        lost, token = list(self._processes.values()), self._token
        assert server is not None
        pidfds = []
        for process in lost:
            process.kill()
            if process.pidfd is not None:
                pidfds.append(process.pidfd)
                process.pidfd = None

        def wait() -> None:
            survivors = sweep(Estate(f"{token}:", server.pid), pidfds)
            server.reap()
            with suppress(RuntimeError):  # the loop is closed, so all ends have been reported
                self._loop.call_soon_threadsafe(self._lose, lost, survivors)

        sweeper = threading.Thread(target=wait, name="orchestree-sweep", daemon=True)
        self._sweepers = [*filter(threading.Thread.is_alive, self._sweepers), sweeper]
        sweeper.start()

    def _lose(self, lost: list[Process], survivors: tuple[int, ...]) -> None:
        for process in lost:
            if self._processes.get(process.name) is process:
                self._finish(process, None, survivors)
                survivors = ()  # they are said once

    def _listen(self, process: Process, most: int = TURN) -> None:
        for message in process.control.receive(most):
            match message:
                case Ready():
                    process.ready = True
                    if process.pid is not None:  # else the server will say it presently
                        self._say_ready(process)
                case End():
                    process.end = message
                    self._limit_exit(process)
        if process.control.at_end:
            self._loop.remove_reader(process.control.sock)

    def _say_ready(self, process: Process) -> None:
        self._host.report(RunReady(process.launch.run, process.pid))
        if process.launch.standby:
            self._loop.call_soon(self._stand_by, process.launch)
        if self._oom_kills is not None:
            self._oom_kills.forget()  # what happened before this is not of interest later

    def _limit_exit(self, process: Process) -> None:
        grace = process.launch.shutdown_s or LINGER_S
        if not isinf(grace) and not process.killed:
            self._kill_in(process, grace, cut_off=True)

    def _kill_in(self, process: Process, seconds: float, *, cut_off: bool = False) -> None:
        if process.kill_timer is not None:
            process.kill_timer.cancel()
        process.kill_timer = self._loop.call_later(seconds, self._kill_late, process, cut_off)

    def _kill_late(self, process: Process, cut_off: bool) -> None:
        process.cut_off = cut_off
        process.kill()

    def _finish(self, process: Process, exited: Exited | None, survivors: tuple[int, ...] = ()) -> None:
        """Report the end of a process that is gone, after all that it has said. None: its server died before."""
        self._listen(process, LAST_TURN)
        lines = self._relay.finish(process.data) if self._relay is not None else ()
        is_oom = process.may_be_oom(exited) and self._oom_kills is not None and self._oom_kills.claim()
        evidence = process.evidence(exited, lines, is_oom=is_oom)
        if survivors:
            evidence = replace(evidence, survivors=survivors)
        self._release(process)
        if self._was_standby(process):
            return
        if self._relay is not None and process.end is not None and process.end.result:
            # What the user's objects do while they are unpickled must not hold up supervision.
            self._relay.do(lambda: self._host.report(classify(evidence)))
        else:
            self._host.report(classify(evidence))

    def _release(self, process: Process) -> None:
        """Forget a process that has ended."""
        del self._processes[process.name]
        self._loop.remove_reader(process.control.sock)
        process.close()


def _sources(launch: Launch, pickled: bytes) -> dict[Source, tuple[str, ...]]:
    return sources_of((launch.agent, type(launch.config)), pickled)
