"""One process of an agent as its executor sees it: the channels to it, how it is killed, what is known at its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from orchestree.agents.ends import Cause, CrashReport, abnormal
from orchestree.agents.executor import Launch, RunId

from . import memory
from .endings import Evidence
from .relay import Channel
from .wire import GO, End, Exited, Inlet


@dataclass(frozen=True, slots=True)
class Ends:
    """The orchestrator's ends of the channels of one run; all but the sockets are descriptors."""

    control: socket.socket
    data: socket.socket
    out: int
    err: int
    memory: int


def open_channels(mark: str, launch: bytes, ours: ExitStack, theirs: ExitStack) -> tuple[Ends, list[int]]:
    """Return both ends of all channels of a run, those for its process in the order of `Fork`.

    Args:
        mark: of the run.
        launch: pickled.
        ours: closes the first when it is left.
        theirs: closes the others.

    Raises:
        OSError: no more descriptors.
    """

    def channel() -> socket.socket:
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given.append(theirs.enter_context(other).fileno())
        return ours.enter_context(mine)

    def pipe() -> int:
        reader, writer = os.pipe()
        ours.callback(os.close, reader)
        theirs.callback(os.close, writer)
        given.append(writer)
        return reader

    given: list[int] = []
    shared = memory.make(mark, launch)
    ours.callback(os.close, shared)
    mine = Ends(control=channel(), data=channel(), out=pipe(), err=pipe(), memory=shared)
    return mine, [*given, shared]


def standby_name(run: RunId) -> RunId:
    """Return the name of the process that stands by for `run`. Incarnations count from 1: it is nobody else's."""
    return RunId(run.path, -run.incarnation)


@dataclass(eq=False, slots=True)
class Process:
    """What is known about one run. It owns `control`, `memory` and `pidfd`.

    Attributes:
        name: what its fork server knows it by.
        memory: descriptor of its memory file.
        end: its last words, when it has said them.
        paused: a signal has stopped it, and nothing has continued it.
        killed: `kill` was called; if there is no pidfd yet, it is carried out when that comes.
        cut_off: it was killed because it did not exit after its last words.
        kill_timer: until SIGKILL.
        stands_by: nobody has asked for this run yet.
        closed: it has ended, and the numbers of its descriptors may be somebody else's.
    """

    name: RunId
    launch: Launch
    control: Inlet
    data: Channel
    memory: int
    started: float = field(default_factory=time.monotonic)
    pid: int | None = None
    pidfd: int | None = None
    ready: bool = False
    end: End | None = None
    paused: bool = False
    killed: bool = False
    cut_off: bool = False
    kill_timer: asyncio.TimerHandle | None = None
    stands_by: bool = False
    closed: bool = False

    def fits(self, launch: Launch) -> bool:
        """Return whether it was made for this very launch, and can still be had."""
        mine = self.launch
        same = mine.agent is launch.agent and mine.config is launch.config and mine.params is launch.params
        return same and mine.run == launch.run and not self.killed

    def fail_start(self, message: str) -> None:
        """Have its end, whatever it will look like, be that of a failed start."""
        report = CrashReport(cause=Cause.START_FAILED, message=message, phase="setup")
        self.end = End(abnormal(report.cause), report, b"")
        self.killed = True

    def begin(self) -> bool:
        """Have one that stands by begin; return False if it has ended."""
        try:
            self.control.sock.send(GO)
        except OSError:
            return False
        self.stands_by, self.started = False, time.monotonic()
        return True

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal that is to end it. A pidfd never means another process."""
        self.killed = True
        if self.pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def may_be_oom(self, exited: Exited | None) -> bool:
        """Return whether a SIGKILL ended it that was none of ours."""
        return exited is not None and not self.killed and os.WTERMSIG(exited.status) == signal.SIGKILL

    def evidence(self, exited: Exited | None, lines: tuple[str, ...], *, is_oom: bool) -> Evidence:
        """Return all that is known now that it is gone.

        Args:
            exited: what its fork server said; None if that died before.
            lines: the last that it has printed.
            is_oom: the kernel has meanwhile killed for want of memory.
        """
        now = time.monotonic()
        return Evidence(
            run=self.launch.run,
            pid=self.pid,
            ready=self.ready,
            end=self.end,
            status=exited.status if exited is not None else None,
            cut_off=self.cut_off,
            paused=self.paused,
            may_be_oom=self.may_be_oom(exited),
            is_oom=is_oom,
            uptime_s=now - self.started,
            ended=now,
            progress=memory.read_progress(self.memory),
            stacks=memory.read_stacks(self.memory),
            output=lines,
            max_memory=exited.max_memory if exited is not None else 0,
            survivors=exited.survivors if exited is not None else (),
            cpu_s=exited.cpu_s if exited is not None else 0.0,
        )

    def moment_of(self, beat: float) -> float:
        """Return when it made its latest progress; its memory file says `beat`. One that ends is not silent."""
        is_ending = self.end is not None or self.killed
        return time.monotonic() if is_ending else beat or self.started

    def last_beat(self) -> float | None:
        """Read when it made its latest progress; None if it has ended. Any thread."""
        beat = memory.try_beat(self.memory)
        # Only now: the supervision thread may have closed the file meanwhile, and another one may have its number.
        return None if self.closed or beat is None else self.moment_of(beat)

    def close(self) -> None:
        """Give back what it owns."""
        self.closed = True  # first, see `last_beat`
        if self.kill_timer is not None:
            self.kill_timer.cancel()
        self.control.sock.close()
        os.close(self.memory)
        if self.pidfd is not None:
            os.close(self.pidfd)
