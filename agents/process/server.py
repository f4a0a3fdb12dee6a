"""The fork server of one orchestrator: one thread that loads the agents' modules, forks, and reaps.

It never runs an agent's code beyond the import of its modules. All its children die with it, and it ends, with all
that descends from it, when the orchestrator does. It learns of both from the kernel, by pidfds, and never asks.
Whenever an agent has become ready it forks one child in advance, so that the next restart need not wait for a fork.
"""

from __future__ import annotations

import gc
import os
import resource  # noqa: F401 - os.wait4 imports it when it is called first
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from orchestree.agents.executor import RunId

from . import child, outlet
from .boot import replace_process
from .deathsig import die_with_parent, outlive_parent
from .guardian import Guardian
from .memory import faults
from .sources import Source, load, missing
from .wire import Exited, Fork, Forked, Load, Loaded, NotForked, Paused, SignalGroup, receive_request, send_request

_UNTOUCHED: Final = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ})
"""The first two cannot be changed; the others Python itself ignores."""


@dataclass(frozen=True, slots=True)
class State:
    """All that a fork server without children has to know; enough to continue in a fresh interpreter.

    Attributes:
        sock: descriptor of its end of the socket pair.
        orchestrator: pid of the process to serve, and to end with.
        warm: sources that are loaded here.
        cold: sources that each agent has to load for itself.
    """

    sock: int
    orchestrator: int
    warm: tuple[Source, ...] = ()
    cold: frozenset[Source] = frozenset()


@dataclass(eq=False, slots=True)
class Child:
    """A process that has not been reaped yet, so its pid cannot belong to anybody else.

    Attributes:
        sock: where it waits to be told what it is, and says that it is ready.
        run: None until it has been told.
        mark: of all that it starts.
    """

    pid: int
    pidfd: int
    sock: socket.socket
    run: RunId | None = None
    mark: str = ""

    def become(self, request: Fork, descriptors: list[int]) -> bool:
        """Tell it what it is. Return False if it is not alive any more."""
        try:
            send_request(self.sock, request, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to it, and to whatever it has started that did not leave its process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def main(state: State) -> NoReturn:
    """Serve until the orchestrator is gone."""
    server = Server(state)
    try:
        server.serve()
    except BaseException:
        traceback.print_exc()
    server.end()


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
        self._pids: dict[int, Child] = {}
        self._starting: dict[int, socket.socket] = {}
        self._poll = select.epoll()  # which answers in the order in which things happened; poll() does not
        self._orchestrator = os.pidfd_open(os.getppid())
        self._guardian = Guardian(self._pids.__contains__)
        for descriptor in (state.sock, self._orchestrator, self._guardian.bell):
            self._poll.register(descriptor, select.EPOLLIN)
        if os.getppid() != state.orchestrator:
            self.end()

    def serve(self) -> NoReturn:
        """Load what is to be warm, then answer requests and reap, until the orchestrator is gone."""
        self._load_again(list(self._state.warm))

    def _load_again(self, left: list[Source]) -> NoReturn:
        die_with_parent(self._state.orchestrator)
        while left:
            load(left.pop(0), lambda: self._load_again(left))
        outlive_parent()
        self._settle()
        self._loop()

    def _loop(self) -> NoReturn:
        while True:
            for descriptor, _ in self._poll.poll(self._guardian.patience()):
                if descriptor in self._children:
                    self._reap(descriptor)
                elif descriptor in self._starting:
                    self._note_start(descriptor)
                elif descriptor == self._state.sock:
                    self._answer()
                elif descriptor == self._guardian.bell:
                    self._look_at_children()
                elif descriptor == self._orchestrator:
                    self.end()
            if self._guardian.patience() == 0.0:
                self._guardian.look()

    def _answer(self) -> None:
        match receive_request(self._sock):
            case Load() as request, _:
                self._load(request)
            case Fork() as request, descriptors:
                self._fork(request, descriptors)
            case SignalGroup(run, number), _:
                for each in self._children.values():
                    if each.run == run:
                        each.signal_group(number)
            case _:
                self.end()

    def _load(self, request: Load) -> None:
        source, state = request.source, self._state
        if source in state.cold:
            self._reply(Loaded(source, "cold"))
        elif source in state.warm:
            self._reply(Loaded(source, "warm", missing=missing(source, request.names)))
        elif any(each.run is not None for each in self._children.values()):
            self._reply(Loaded(source, "late"))
        else:
            self._drop_spare()
            self._load_first(source, request.names)

    def _load_first(self, source: Source, names: tuple[str, ...]) -> None:
        sockets = open_sockets()
        die_with_parent(self._state.orchestrator)
        problem = load(source, lambda: self._go_on(source, names, sockets))
        self._loaded(source, names, sockets, problem)

    def _go_on(self, source: Source, names: tuple[str, ...], sockets: set[str]) -> NoReturn:
        """Go on inside the call of a file that would have acted: its ``finally`` belongs to the orchestrator."""
        self._loaded(source, names, sockets, "")
        self._loop()

    def _loaded(self, source: Source, names: tuple[str, ...], sockets: set[str], problem: str) -> None:
        outlive_parent()
        self._settle()
        cold = threads() > 1 or bool(open_sockets() - sockets)
        self._reply(Loaded(source, "cold" if cold else "warm", problem, missing(source, names)))
        if cold:  # get rid of those
            state = replace(self._state, cold=self._state.cold | {source})
            replace_process("server", state, [state.sock])
        if not problem:
            self._state = replace(self._state, warm=(*self._state.warm, source))

    def _settle(self) -> None:
        settle()
        self._guardian.listen()

    def _fork(self, request: Fork, descriptors: list[int]) -> None:
        cold = not self._state.cold.isdisjoint(request.sources)
        try:
            made = self._fresh_child(request, descriptors) if cold else self._warm_child(request, descriptors)
            made.run, made.mark = request.run, request.mark
            self._starting[made.sock.fileno()] = made.sock
            self._poll.register(made.sock, select.EPOLLIN)
            self._reply(Forked(request.run, made.pid), made.pidfd)
        except OSError as error:
            self._reply(NotForked(request.run, str(error)))
        for descriptor in descriptors:
            os.close(descriptor)

    def _note_start(self, descriptor: int) -> None:
        """Make a spare if a child has become ready; none if it has ended before, which is to be told first."""
        is_ready = False
        with self._starting.pop(descriptor) as sock, suppress(ConnectionResetError):
            self._poll.unregister(sock)
            is_ready = bool(sock.recv(1))
        if is_ready and self._spare is None:
            with suppress(OSError):  # then there is none
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
        with theirs, ExitStack() as on_failure:
            on_failure.enter_context(ours)
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._live(theirs, unwanted, fresh=fresh)
            on_failure.pop_all()
        with suppress(OSError):  # the child does the same; by now it may even be another program
            os.setpgid(pid, pid)
        try:
            made = Child(pid, os.pidfd_open(pid), ours)
        except OSError:
            ours.close()
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
            own = (self._orchestrator, self._state.sock)
            self._poll.close()
            self._guardian.leave()
            for descriptor in (*own, *self._children, *self._starting, *unwanted):
                os.close(descriptor)
            if fresh:
                replace_process("child", sock.fileno(), [sock.fileno()])
            child.live(sock)
        finally:
            os._exit(1)

    def _watch(self, made: Child) -> None:
        self._children[made.pidfd] = self._pids[made.pid] = made
        self._poll.register(made.pidfd, select.EPOLLIN)

    def _reap(self, pidfd: int) -> None:
        ended = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        remains = self._guardian.kill_remains(ended.mark, ended.pid) if ended.mark else None
        ended.signal_group(signal.SIGKILL)  # before its pid, which is the group's name, is given back
        _, status, usage = os.wait4(ended.pid, 0)
        del self._pids[ended.pid]
        if ended is self._spare:
            self._spare = None
        if ended.run is None or remains is None:
            ended.sock.close()
            return
        exited = Exited(ended.run, status, usage.ru_maxrss * 1024)
        self._guardian.await_end(remains, lambda left: self._reply(replace(exited, survivors=left)))

    def _look_at_children(self) -> None:
        for pid, paused in self._guardian.answer_bell():
            if (known := self._pids.get(pid)) is not None and known.run is not None:
                self._reply(Paused(known.run, paused))

    def _drop_spare(self) -> None:
        """Kill the spare: it lacks what was loaded after its fork."""
        if self._spare is not None:
            self._reap(self._spare.pidfd)

    def end(self) -> NoReturn:
        """Kill what is left, and end."""
        self._guardian.end()
        os._exit(0)

    def _reply(self, message: object, *descriptors: int) -> None:
        try:
            send_request(self._sock, message, descriptors)
        except OSError:  # nobody is there any more
            self.end()


def settle() -> None:
    """Do once what each child would have to do: undo what modules did to signals and loguru; settle memory."""
    for number in signal.valid_signals() - _UNTOUCHED:
        # Modules may have set a handler, and what the program that started the tree ignores is inherited.
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    faults.enable()
    outlet.install()  # also ends the threads of sinks that modules have added
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a module may have closed it
            stream.flush()
    gc.collect()
    gc.freeze()


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
