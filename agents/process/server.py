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
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from orchestree.agents.executor import RunId

from . import child, outlet
from .boot import replace_process
from .deathsig import die_with_parent, outlive_parent
from .guardian import Guardian
from .memory import faults
from .sources import Source, load, missing, open_sockets, threads
from .wire import Exited, Fork, Forked, Load, Loaded, NotForked, Paused, SignalGroup, receive_request, send_request

_UNTOUCHED: Final = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ})
"""The first two cannot be changed; the others Python itself ignores."""
BATCH: Final = 80
"""When so many descriptors of processes to be made are open here, those processes are made, 16 of them as a rule."""

Told = tuple[Fork, list[int]]
"""What a process is to be, and the descriptors that it gets."""


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
        pidfd: -1 until it is watched.
        sock: where it waits to be told what it is; None if it does not.
        run: None until it has been told.
        mark: of all that it starts.
    """

    pid: int
    pidfd: int = -1
    sock: socket.socket | None = None
    run: RunId | None = None
    mark: str = ""

    def become(self, told: Told) -> bool:
        """Tell it what it is. Return False if it is not alive any more."""
        sock, self.sock = self.sock, None
        assert sock is not None
        with sock, suppress(BrokenPipeError, ConnectionResetError):
            send_request(sock, *told)
            return True
        return False

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
        self._sock.settimeout(None)  # a module may have called setdefaulttimeout
        self._spare: Child | None = None
        self._children: dict[int, Child] = {}
        self._pids: dict[int, Child] = {}
        self._ready, self._say_ready = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # all children write to one pipe
        self._poll = select.epoll()  # which answers in the order in which things happened; poll() does not
        self._orchestrator = os.pidfd_open(os.getppid())
        self._guardian = Guardian(self._pids.__contains__)
        for descriptor in (state.sock, self._ready, self._orchestrator, self._guardian.bell):
            self._poll.register(descriptor, select.EPOLLIN)
        if os.getppid() != state.orchestrator:
            self.end()

    def serve(self) -> NoReturn:
        """Load what is to be warm, then answer requests and reap, until the orchestrator is gone."""
        child.rehearse()
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
                elif descriptor == self._ready:
                    self._make_spare()
                elif descriptor == self._state.sock:
                    self._answer()
                elif descriptor == self._guardian.bell:
                    self._look_at_children()
                elif descriptor == self._orchestrator:
                    self.end()
            if self._guardian.patience() == 0.0:
                self._guardian.look()

    def _answer(self) -> None:
        """Make the processes that are asked for, or do the one other thing."""
        forks: list[Told] = []
        held = 0
        while held < BATCH:
            try:
                received = receive_request(self._sock, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            match received:
                case Fork() as request, descriptors:
                    forks.append((request, descriptors))
                    held += len(descriptors)
                case _:
                    self._fork_all(forks)
                    self._answer_other(received)
                    return
        self._fork_all(forks)

    def _answer_other(self, received: child.Received) -> None:
        match received:
            case Load() as request, _:
                self._load(request)
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
        elif self._guardian.patience() >= 0 or any(each.run is not None for each in self._children.values()):
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
        self._agent_process = child.AgentProcess(self._say_ready)

    def _fork_all(self, forks: list[Told]) -> None:
        """Make processes in a row: whatever is done between two forks costs a copy of each page that it touches."""
        made: list[Child | OSError] = []
        for told in forks:
            try:
                made.append(self._make(told, [each for _, some in forks if some is not told[1] for each in some]))
            except OSError as error:
                made.append(error)
        for (request, descriptors), each in zip(forks, made, strict=True):
            self._answer_fork(request, each)
            for descriptor in descriptors:
                os.close(descriptor)

    def _answer_fork(self, request: Fork, made: Child | OSError) -> None:
        try:
            if isinstance(made, OSError):
                raise made
            if made.pidfd < 0:
                self._watch(made)
            made.run, made.mark = request.run, request.mark
            self._reply(Forked(request.run, made.pid), made.pidfd)
        except OSError as error:
            self._reply(NotForked(request.run, str(error)))

    def _make(self, told: Told, unwanted: Sequence[int]) -> Child:
        """Return a process that knows what it is, and has none of the descriptors that are `unwanted`.

        Raises:
            OSError: no more processes, or open files.
        """
        request, descriptors = told
        if not descriptors:
            raise OSError("too many open files")  # those of the request found no room here
        if not self._state.cold.isdisjoint(request.sources):
            fresh = self._waiting_child((*descriptors, *unwanted), fresh=True)
            fresh.become(told)
            return fresh
        spare, self._spare = self._spare, None
        if spare is not None and spare.become(told):
            return spare
        pid = os.fork()
        if pid == 0:
            self._live(lambda: told, unwanted)
        return Child(pid)

    def _make_spare(self) -> None:
        """Make one, if there is none, because a child has become ready."""
        os.read(self._ready, 4096)
        if self._spare is None:
            with suppress(OSError):  # then there is none
                spare = self._waiting_child()
                self._watch(spare)
                self._spare = spare

    def _waiting_child(self, unwanted: Sequence[int] = (), *, fresh: bool = False) -> Child:
        """Return a process that waits for what it is to be, perhaps as a fresh interpreter.

        Raises:
            OSError: no more processes, or open files.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ExitStack() as on_failure:
            on_failure.enter_context(ours)
            ours.settimeout(None)
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._live(lambda: child.hear(theirs), unwanted, theirs if fresh else None)
            on_failure.pop_all()
        return Child(pid, sock=ours)

    def _live(
        self, told: Callable[[], child.Received], unwanted: Sequence[int], fresh: socket.socket | None = None
    ) -> NoReturn:
        """Be the child. No frame of the server is ever returned to.

        Args:
            told: returns what to be.
            unwanted: descriptors to be closed.
            fresh: where a fresh interpreter is told what to be.
        """
        try:
            die_with_parent(self._pid)
            os.setpgid(0, 0)
            self._poll.close()
            self._guardian.leave()
            if self._spare is not None and self._spare.sock is not None:
                self._spare.sock.close()
            for descriptor in (self._orchestrator, self._state.sock, self._ready, *self._children, *unwanted):
                os.close(descriptor)
            if fresh is not None:
                kept = (fresh.fileno(), self._say_ready)
                replace_process("child", kept, [*kept])
            child.live(self._agent_process, told)
        finally:
            os._exit(1)

    def _watch(self, made: Child) -> None:
        """Hear of its end.

        Raises:
            OSError: no more open files; it has been killed.
        """
        with suppress(OSError):  # the child does the same; by now it may even be another program
            os.setpgid(made.pid, made.pid)
        try:
            made.pidfd = os.pidfd_open(made.pid)
        except OSError:
            if made.sock is not None:
                made.sock.close()
            os.kill(made.pid, signal.SIGKILL)
            os.waitpid(made.pid, 0)
            raise
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
        if ended.sock is not None:
            ended.sock.close()
        if ended.run is None or remains is None:
            return
        exited = Exited(ended.run, status, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)
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
        for pidfd in self._children:  # so that there are descriptors to look with
            os.close(pidfd)
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
    child.clear_exit()
    outlet.install()  # also ends the threads of sinks that modules have added
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a module may have closed it
            stream.flush()
    gc.collect()
    gc.freeze()
