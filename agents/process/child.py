"""What an agent's process does between its first instruction and its last. Runs nowhere else."""

from __future__ import annotations

import _thread
import asyncio
import atexit
import multiprocessing
import multiprocessing.util
import os
import socket
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, cast

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.executor import RunEnded
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
from .memory import SharedPulse, faults, read_launch
from .outlet import install, outlet
from .sources import load
from .wire import GO, RECYCLE, End, Fork, Ready, receive_request, send

if TYPE_CHECKING:
    import multiprocessing as multiprocess
    from multiprocessing.process import BaseProcess
else:
    import multiprocess.util
    from multiprocess.process import BaseProcess


def main(descriptor: int) -> NoReturn:
    """Be the process of an agent whose modules cannot be loaded before the fork."""
    install()
    faults.enable()
    live(socket.socket(fileno=descriptor))


def live(sock: socket.socket) -> NoReturn:
    """Wait at `sock` to be told which agent to run, and be its process until its end."""
    code = 1
    atexit._clear()  # those are the fork server's
    for library in (multiprocess, multiprocessing):
        atexit.register(library.util._exit_function)
    try:
        code = AgentProcess(sock)._bootstrap(os.pidfd_open(os.getppid()))  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        os._exit(code)


class AgentProcess(BaseProcess):
    """Makes this process one of `multiprocess`, so that agents can use all of that."""

    _start_method = None

    def __init__(self, sock: socket.socket) -> None:
        """Wait at `sock`, when the time has come."""
        super().__init__(name="spare")
        self._parent_pid = os.getppid()
        self._sock = sock

    def run(self) -> None:
        """Run the agent, after what `multiprocess` has done for itself and the standard library would do as well."""
        enter_agent_process()
        multiprocessing.util._finalizer_registry.clear()  # type: ignore[attr-defined]
        multiprocessing.util._run_after_forkers()  # type: ignore[attr-defined]
        match receive_request(self._sock):
            case Fork() as request, [control, data, out, err, memory, *inherited]:
                self.name = multiprocessing.current_process().name = request.run.path
                payload.inherited[:] = inherited
                for descriptor, standard in ((out, 1), (err, 2)):
                    os.dup2(descriptor, standard)
                    os.close(descriptor)
                os.environ[VARIABLE] = request.mark
                self._control = socket.socket(fileno=control)
                outlet.open(socket.socket(fileno=data))
                self._run_agent(request, memory)

    def _run_agent(self, request: Fork, memory: int) -> None:
        try:
            pulse = SharedPulse(memory)
            for source in request.sources:
                if problem := load(source):
                    raise ImportError(problem)
            launch = read_launch(memory)
            faults.aim(memory)
            agent = make_agent(launch, outlet.emit)
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
        with suppress(OSError), self._sock:
            send(self._control, Ready())
            self._sock.send(b"ready")

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
