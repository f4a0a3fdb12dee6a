"""The least that a fork server can do: ``os.fork()``, from a process with one thread and the modules of ours.

Run as a program it is that process; it answers one line for each that it reads. `Floor` talks to it.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import time
from types import TracebackType
from typing import NoReturn, Self

MADV_NOHUGEPAGE = 15


class Floor:
    """The bare process, for the benchmark that compares with it."""

    def __init__(self) -> None:
        """Start it, and wait until its modules are loaded."""
        command = [sys.executable, "-m", "tests.benchmarks.floor"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it, and with it its children."""
        self._process.communicate()

    def fork(self) -> float:
        """Return the seconds from just before a fork to the child's first statement."""
        return self._ask("fork 1", "drop")

    def fork_many(self, count: int) -> float:
        """Return the seconds until the last of `count` children runs. All live on, idle."""
        return self._ask(f"fork {count}")

    def replace_all(self) -> float:
        """Return the seconds from the kill of all children until the last of as many new ones runs."""
        return self._ask("replace")

    def children(self) -> list[int]:
        """Return the pids of those that live."""
        self._ask("children")
        return [int(word) for word in self._words]

    def drop(self) -> None:
        """Kill and reap all children."""
        self._ask("drop")

    def victim(self, more: int = 0) -> int:
        """Return the pid of an idle child that has touched `more` bytes, and whose end an epoll loop waits for."""
        return int(self._ask(f"victim {more}"))

    def noticed(self) -> float:
        """Return the monotonic time at which the loop knew of the victim's end."""
        return self._answer()

    def _ask(self, *requests: str) -> float:
        first = None
        for request in requests:
            assert self._process.stdin
            self._process.stdin.write(f"{request}\n")
            self._process.stdin.flush()
            answer = self._answer()
            first = answer if first is None else first
        assert first is not None
        return first

    def _answer(self) -> float:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError("the bare process has died")
        self._words = line.split()
        return float(self._words[0])


class Bare:
    """What the other end does."""

    def __init__(self) -> None:
        """Hold the pipes that all children share."""
        self._times, self._tell = os.pipe()
        self._lifeline, self._hold = os.pipe()
        self._children: list[int] = []

    def serve(self) -> None:
        """Answer until nobody asks any more."""
        print(time.monotonic(), flush=True)
        for line in sys.stdin:
            match line.split():
                case ["fork", count]:
                    began = time.monotonic()
                    print(self._fork(int(count)) - began, flush=True)
                case ["replace"]:
                    print(self._replace(), flush=True)
                case ["children"]:
                    print(*self._children, flush=True)
                case ["drop"]:
                    self._drop()
                    print(0, flush=True)
                case ["victim", more]:
                    self._watch(int(more))
        self._drop()

    def _fork(self, count: int, more: int = 0) -> float:
        for _ in range(count):
            self._fork_one(more)
        return self._last(count)

    def _fork_one(self, more: int = 0) -> None:
        pid = os.fork()
        if pid == 0:
            os.write(self._tell, struct.pack("d", time.monotonic()))
            self._be_idle(more)
        self._children.append(pid)

    def _be_idle(self, more: int) -> NoReturn:
        os.close(self._hold)
        if more:
            ballast = mmap.mmap(-1, more)
            ballast.madvise(MADV_NOHUGEPAGE)
            for page in range(0, more, mmap.PAGESIZE):
                ballast[page] = 1
            os.write(self._tell, struct.pack("d", time.monotonic()))
        os.read(self._lifeline, 1)
        os._exit(0)

    def _last(self, count: int) -> float:
        return max(float(struct.unpack("d", os.read(self._times, 8))[0]) for _ in range(count))

    def _replace(self) -> float:
        """Fork for each that is reaped, in the order in which they end."""
        victims, self._children = self._children, []
        began = time.monotonic()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        for _ in victims:
            os.wait()
            self._fork_one()
        return self._last(len(victims)) - began

    def _drop(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)
        self._children.clear()

    def _watch(self, more: int) -> None:
        self._fork(1, more)
        if more:
            self._last(1)
        pid = self._children.pop()
        poll, pidfd = select.epoll(), os.pidfd_open(pid)
        poll.register(pidfd, select.EPOLLIN)
        print(pid, flush=True)
        poll.poll()
        print(time.monotonic(), flush=True)
        os.waitpid(pid, 0)
        os.close(pidfd)
        poll.close()


if __name__ == "__main__":
    import orchestree.agents.process.server as image
    from orchestree.agents.process import sources

    from . import probe  # noqa: F401 - what the fork server loads

    image.settle()
    assert sources.threads() == 1
    Bare().serve()
