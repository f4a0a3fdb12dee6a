"""What an agent's process does between its first instruction and its last. Runs nowhere else."""

from __future__ import annotations

import _thread
import asyncio
import atexit
import multiprocessing
import multiprocessing.util
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn, TextIO, cast

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.executor import Launch, RunEnded, RunId
from orchestree.agents.lifecycle import (
    describe,
    failed_run,
    make_agent,
    request_recycle,
    request_stop,
    request_stop_async,
    run_hooks,
    run_hooks_async,
)
from orchestree.agents.loading import enter_agent_process

from . import payload
from .descendants import VARIABLE
from .endings import with_note
from .memory import SharedPulse, faults, make, read_launch
from .outlet import install, outlet
from .pushing import MetricPusher
from .sources import load
from .wire import GO, RECYCLE, End, Fork, Ready, receive_request, send

if TYPE_CHECKING:
    import multiprocessing as multiprocess
    from multiprocessing.process import BaseProcess
else:
    import multiprocess.util
    from multiprocess.process import BaseProcess


REHEARSALS: Final = 10
"""CPython adapts a function after eight calls."""

Received = tuple[object, list[int]] | None
"""What `receive_request` returns."""


def main(descriptors: tuple[int, int]) -> NoReturn:
    """Be the process of an agent whose modules cannot be loaded before the fork.

    Args:
        descriptors: where to wait for what to be, and where to say that it is ready.
    """
    install()
    faults.enable()
    clear_exit()
    sock, ready = descriptors
    process = AgentProcess(ready)
    process._parent_pid = os.getppid()
    live(process, lambda: hear(socket.socket(fileno=sock)))


def clear_exit() -> None:
    """Have nothing done at the exit of this process and its forks, but what both libraries always do."""
    atexit._clear()
    for library in (multiprocess, multiprocessing):
        atexit.register(library.util._exit_function)


def hear(sock: socket.socket) -> Received:
    """Wait until it is said what to be."""
    with sock:
        sock.settimeout(None)  # a module may have called setdefaulttimeout
        return receive_request(sock)


def live(process: AgentProcess, told: Callable[[], Received]) -> NoReturn:
    """Be the process of the agent that `told` returns, until its end."""
    code = 1
    process._told = told
    # It is /dev/null already, and to open that again takes long.
    process._stdin, sys.stdin = sys.stdin, None
    try:
        code = process._bootstrap(os.pidfd_open(os.getppid()))  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        os._exit(code)


class Rehearsal(Agent):
    """What `rehearse` runs."""

    def setup(self) -> None:
        """Send a message, to nobody."""
        self.emit("rehearsal", seconds=0.0)

    def execute(self) -> None:
        """Return at once."""


def rehearse() -> None:
    """Do in the fork server, until the interpreter has adapted its code to it, what each child is going to do.

    What a child does for the first time takes longer, and copies more of the memory that it shares with its parent.
    """
    launch = Launch(run=RunId("rehearsal", 1), agent=Rehearsal, config=Rehearsal.Config(), params={})
    for _ in range(REHEARSALS):
        memory = make("", payload.dump_launch(launch).content)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            SharedPulse(memory)
            agent = make_agent(read_launch(memory), outlet.emit)
            copy_context().run(run_hooks, cast(Agent, agent), partial(send, ours, Ready()))
        os.close(memory)


class AgentProcess(BaseProcess):
    """Makes this process one of `multiprocess`, so that agents can use all of that."""

    _start_method = None
    _parent_pid: int
    _told: Callable[[], Received]
    _stdin: TextIO

    def __init__(self, ready: int) -> None:
        """Be made by the parent, for all its children; `ready` is where they say that they are."""
        super().__init__(name="spare")
        self._ready = ready

    def run(self) -> None:
        """Run the agent, after what `multiprocess` has done for itself and the standard library would do as well."""
        sys.stdin = self._stdin
        enter_agent_process()
        multiprocessing.util._finalizer_registry.clear()  # type: ignore[attr-defined]
        multiprocessing.util._run_after_forkers()  # type: ignore[attr-defined]
        match self._told():
            case Fork() as request, [control, data, out, err, memory, *inherited]:
                self.name = multiprocessing.current_process().name = request.run.path
                payload.inherited[:] = inherited
                for descriptor, standard in ((out, 1), (err, 2)):
                    os.dup2(descriptor, standard)
                    os.close(descriptor)
                os.environ[VARIABLE] = request.mark
                self._control = socket.socket(fileno=control)
                self._control.settimeout(None)
                outlet.open(socket.socket(fileno=data))
                self._run_agent(request, memory)
            case _:
                sys.exit("orchestree: a process of an agent has no descriptors left for its channels")

    def _run_agent(self, request: Fork, memory: int) -> None:
        try:
            pulse = SharedPulse(memory)
            for source in request.sources:
                if problem := load(source):
                    raise ImportError(problem)
            launch = read_launch(memory)
            faults.aim(memory)
            agent = make_agent(launch, outlet.emit, follow_metrics=MetricPusher(outlet.push))
            agent._orchestree.pulse = pulse
        except BaseException as error:
            self._say_end(failed_run(request.run, error))
        else:
            if isinstance(agent, AsyncAgent):
                asyncio.run(self._live_async(agent, stands_by=request.stands_by))
            elif not request.stands_by or self._control.recv(1) == GO:
                self._live(cast(Agent, agent))

    def _live(self, agent: Agent) -> None:
        # No Thread: starting one takes four times as long, and agents see only their own in threading.enumerate().
        _thread.start_new_thread(self._await_stop, (agent,))
        self._say_end(run_hooks(agent, self._say_ready))

    def _await_stop(self, agent: Agent) -> None:
        with suppress(OSError):
            while self._control.recv(1) == RECYCLE:
                request_recycle(agent)
        # That was the request to stop, or the end of an orchestrator that is gone.
        request_stop(agent)

    async def _live_async(self, agent: AsyncAgent, *, stands_by: bool) -> None:
        loop = asyncio.get_running_loop()
        # Nothing else runs in this loop yet, so it may be held up.
        if stands_by and self._control.recv(1) != GO:
            return

        def heed() -> None:
            with suppress(OSError):
                if self._control.recv(1) == RECYCLE:
                    request_recycle(agent)
                    return
            loop.remove_reader(self._control)
            request_stop_async(agent)

        loop.add_reader(self._control, heed)
        # The end is told from within the loop: what asyncio.run() then waits for may take for ever.
        self._say_end(await run_hooks_async(agent, self._say_ready))

    def _say_ready(self) -> None:
        with suppress(OSError):
            send(self._control, Ready())
        with suppress(BlockingIOError):  # enough have said so
            os.write(self._ready, b"r")
        os.close(self._ready)

    def _say_end(self, ended: RunEnded) -> None:
        report = ended.report
        if report is not None and ended.details is not None:
            report = replace(report, traceback=ended.details())
        try:
            result = b"" if ended.result is None else payload.dump_back(ended.result)
        except Exception as error:
            result = b""
            report = with_note(ended.reason, report, f"result: {describe(error)}")
        with suppress(OSError):
            send(self._control, End(ended.reason, report, result))
