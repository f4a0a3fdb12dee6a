"""What process agents of tests do to escape supervision, and to come back or go on all the same."""

from __future__ import annotations

import os
import signal
import socket
import threading

from orchestree.agents.agent import Agent


class Naughty(Agent):
    """Calls ``params["trick"]``; its first incarnation then leaves without a word if ``params["leaves"]``."""

    def execute(self) -> None:
        self.params["trick"]()
        if self.params["trick"] is not cut_every_channel:
            self.emit("did it")
        if self.params["leaves"] and self.incarnation == 1:
            os._exit(5)
        threading.Event().wait()


class Parent(Agent):
    """Emits the pid of a child of its own, and ends neither by itself nor when it is asked to."""

    def execute(self) -> None:
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        self.emit("child", pid=child)
        threading.Event().wait()


def cut_every_channel() -> None:
    os.closerange(3, 4096)


def leave_the_group() -> None:
    os.setpgid(0, 0)


def ignore_every_signal() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class Trapping(Agent):
    """Makes messages of the signals that can be trapped."""

    def execute(self) -> None:
        for name in ("SIGTERM", "SIGHUP", "SIGUSR1"):
            signal.signal(signal.Signals[name], self._trap)
        self.emit("trapping")
        while not self.should_stop:
            self.sleep(3600)

    def _trap(self, number: int, frame: object) -> None:
        self.emit(signal.Signals(number).name)


class Claimant(Agent):
    """Holds what only one can hold (a UNIX socket's name in the abstract) from ``setup`` to ``teardown``."""

    def setup(self) -> None:
        self.held = self.claim(str(self.params["place"]))

    def execute(self) -> None:
        if self.params["fails"] and self.incarnation < 4:
            raise ValueError("dropped")
        self.sleep(3600)

    def teardown(self) -> None:
        if hasattr(self, "held"):
            self.held.close()

    @staticmethod
    def claim(place: str) -> socket.socket:
        """Return what holds `place` until it is closed; raise OSError if somebody holds it."""
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            holder.bind(f"\0{place}")
        except OSError:
            holder.close()
            raise
        return holder
