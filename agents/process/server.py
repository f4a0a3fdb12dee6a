"""The fork server of one orchestrator: one thread that loads the agents' modules, forks, and reaps.

It never runs an agent's code beyond the import of its modules. All its children die with it, and it ends, with them,
when the orchestrator does. It learns of both from the kernel, by pidfds, and never asks. One child is always forked in
advance, so that a restart does not wait for a fork.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NoReturn

from orchestree.agents.executor import RunId

from . import child, outlet
from .boot import replace_process
from .deathsig import die_with_parent, dying_with_parent
from .sources import Source, load
from .wire import Exited, Fork, Forked, Load, Loaded, NotForked, receive_request, send_request


@dataclass(frozen=True, slots=True)
class State:
    """All that a fork server has to know; enough to continue in a fresh interpreter.

    Attributes:
        sock: descriptor of its end of the socket pair.
        orchestrator: pid of the process to serve, and to end with.
        warm: sources that are loaded here.
        cold: sources that each agent has to load for itself.
        children: the agents' processes.
    """

    sock: int
    orchestrator: int
    warm: tuple[Source, ...] = ()
    cold: frozenset[Source] = frozenset()
    children: tuple[tuple[int, RunId], ...] = ()


@dataclass(eq=False, slots=True)
class Child:
    """A process that has not been reaped yet, so its pid cannot belong to anybody else.

    Attributes:
        run: None until it has been told which.
        sock: where it waits for that.
    """

    pid: int
    pidfd: int
    run: RunId | None = None
    sock: socket.socket | None = None

    def become(self, request: Fork, descriptors: list[int]) -> bool:
        """Tell it what to be. Return False if it is not alive any more."""
        assert self.sock is not None
        with self.sock:
            try:
                send_request(self.sock, request, descriptors)
            except (BrokenPipeError, ConnectionResetError):
                return False
        self.run = request.run
        return True

    def kill_group(self) -> None:
        """Kill it, and whatever it has started that did not leave its process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def main(state: State) -> NoReturn:
    """Serve until the orchestrator is gone."""
    Server(state).serve()


class Server:
    """See the module."""

    def __init__(self, state: State) -> None:
        """Continue where `state` says."""
        self._state = state
        self._pid = os.getpid()
        self._sock = socket.socket(fileno=state.sock)
        self._sock.set_inheritable(False)
        self._spare: Child | None = None
        self._children: dict[int, Child] = {}
        self._poll = select.poll()
        for pid, run in state.children:
            self._watch(Child(pid, os.pidfd_open(pid), run))
        self._orchestrator = os.pidfd_open(os.getppid())
        if os.getppid() != state.orchestrator:
            self._end()
        for descriptor in (state.sock, self._orchestrator):
            self._poll.register(descriptor, select.POLLIN)

    def serve(self) -> NoReturn:
        """Answer requests and reap, until the orchestrator is gone."""
        with dying_with_parent(self._state.orchestrator):
            for source in self._state.warm:
                load(source)
        self._settle()
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._children:
                    self._reap(descriptor)
                elif descriptor == self._state.sock:
                    self._answer()
                else:
                    self._end()

    def _answer(self) -> None:
        match receive_request(self._sock):
            case Load() as request, _:
                self._load(request)
            case Fork() as request, descriptors:
                self._fork(request, descriptors)
            case _:
                self._end()

    def _load(self, request: Load) -> None:
        source, state = request.source, self._state
        if source in state.cold:
            self._reply(Loaded(source, cold=True, problem=""))
            return
        sockets = open_sockets()
        with dying_with_parent(state.orchestrator):
            problem = load(source, request.names)
        cold = threads() > 1 or bool(open_sockets() - sockets)
        self._reply(Loaded(source, cold, problem))
        if cold:
            self._start_afresh(replace(state, cold=state.cold | {source}))
        elif source not in state.warm:
            self._state = replace(state, warm=(*state.warm, source))
            self._drop_spare()
            self._settle()

    def _start_afresh(self, state: State) -> None:
        """Get rid of the threads and sockets that a module has left behind. The children stay its children."""
        self._drop_spare()
        children = tuple((child.pid, child.run) for child in self._children.values() if child.run)
        replace_process("server", replace(state, children=children), [state.sock])

    def _settle(self) -> None:
        """Do once what each child would have to do: undo what modules did to signals and loguru; settle memory."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        outlet.install()
        gc.collect()
        gc.freeze()

    def _fork(self, request: Fork, descriptors: list[int]) -> None:
        cold = not self._state.cold.isdisjoint(request.sources)
        try:
            made = self._fresh_child(request, descriptors) if cold else self._warm_child(request, descriptors)
            self._reply(Forked(request.run, made.pid), made.pidfd)
        except OSError as error:
            self._reply(NotForked(request.run, str(error)))
        for descriptor in descriptors:
            os.close(descriptor)
        if self._spare is None:
            with suppress(OSError):  # whoever needs it will try again
                self._spare = self._new_child(fresh=False)

    def _warm_child(self, request: Fork, descriptors: list[int]) -> Child:
        spare, self._spare = self._spare, None
        if spare is None or not spare.become(request, descriptors):
            spare = self._new_child(descriptors, fresh=False)
            spare.become(request, descriptors)
        return spare

    def _fresh_child(self, request: Fork, descriptors: list[int]) -> Child:
        made = self._new_child(descriptors, fresh=True)
        made.become(request, descriptors)
        return made

    def _new_child(self, unwanted: Sequence[int] = (), *, fresh: bool) -> Child:
        """Fork; the child closes what is `unwanted`, and waits for what it is to be, perhaps as a fresh interpreter.

        Raises:
            OSError: no more processes, or open files.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._live(theirs, unwanted, fresh=fresh)
        with suppress(OSError):  # the child does the same; by now it may even be another program
            os.setpgid(pid, pid)
        try:
            made = Child(pid, os.pidfd_open(pid), sock=ours)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._watch(made)
        return made

    def _live(self, sock: socket.socket, unwanted: Sequence[int], *, fresh: bool) -> NoReturn:
        """Be the child. No frame of the server is ever returned to."""
        try:
            die_with_parent(self._pid)
            os.setpgid(0, 0)
            for descriptor in (*self._children, self._orchestrator, self._state.sock, *unwanted):
                os.close(descriptor)
            if fresh:
                replace_process("child", sock.fileno(), [sock.fileno()])
            child.live(sock)
        finally:
            os._exit(1)

    def _watch(self, made: Child) -> None:
        self._children[made.pidfd] = made
        self._poll.register(made.pidfd, select.POLLIN)

    def _reap(self, pidfd: int) -> None:
        ended = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        ended.kill_group()  # before its pid, which is the group's name, is given back
        _, status = os.waitpid(ended.pid, 0)
        if ended is self._spare:
            self._spare = None
        if ended.run is not None:
            self._reply(Exited(ended.run, status))

    def _drop_spare(self) -> None:
        """Kill the spare: it lacks what was loaded after its fork."""
        if self._spare is not None:
            self._reap(self._spare.pidfd)

    def _end(self) -> NoReturn:
        for living in self._children.values():
            living.kill_group()
        for living in self._children.values():
            os.waitpid(living.pid, 0)
        os._exit(0)

    def _reply(self, message: object, *descriptors: int) -> None:
        try:
            send_request(self._sock, message, descriptors)
        except OSError:  # nobody is there any more
            self._end()


def threads() -> int:
    """Return how many threads this process has, those that Python does not know included."""
    return len(os.listdir("/proc/self/task"))


def open_sockets() -> set[str]:
    """Return what names the sockets that this process has open."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in found if name.startswith("socket:")}
