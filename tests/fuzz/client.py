"""A process of clients: ``python -m tests.fuzz.client SOCKET SEED SECONDS``; writes what came of it as JSON."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from orchestree.supervisor.control.places import connect

from .inputs import ANSWERS, Dealer, Input

CLIENTS: Final = 6
PATIENCE_S: Final = 30.0
"""After which an answer that should have come never will."""
GLANCE_S: Final = 0.05
"""How long is waited for an answer to what may be no request."""
MOST_LINGERING: Final = 5
PIPELINED: Final = 12


class Closed(Exception):
    """The other end has closed the connection."""


@dataclass
class Score:
    """What came of it.

    Attributes:
        sent: inputs by kind.
        answers: by ``kind|route|status``.
        problems: what must never be, one line each.
    """

    sent: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class Line:
    """A connection, and what has been read from it."""

    def __init__(self, path: str) -> None:
        self.socket = connect(path, PATIENCE_S)
        self._read = b""

    def answer(self, method: bytes) -> tuple[int, bool]:
        """Return the status of the next answer, and whether the connection goes on; the body is read and dropped."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        status = int(lines[0].split()[1])
        if status == 100:
            return self.answer(method)
        lengths = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
        length = lengths[0] if lengths and method != b"HEAD" else 0
        while len(self._read) < length:
            self._more()
        self._read = self._read[length:]
        return status, b"connection: close" not in lines

    def _more(self) -> None:
        try:
            piece = self.socket.recv(262_144)
        except (ConnectionResetError, BrokenPipeError):
            raise Closed from None
        if not piece:
            raise Closed
        self._read += piece


class Client:
    """One thread, one connection at a time, besides those that linger."""

    def __init__(self, path: str, seed: str, score: Score) -> None:
        self.path, self.score, self.deal = path, score, Dealer(seed)
        self._line: Line | None = None
        self._lingering: list[socket.socket] = []
        self._does: list[tuple[int, Callable[[], None]]] = [
            (100, self.pipeline),
            (60, self.mutate),
            (30, self.garbage),
            (20, self.close_half),
            (6, self.linger),
            (4, self.stream),
            (1, self.send_too_much),
        ]

    def run(self, until: float) -> None:
        weights, actions = zip(*self._does, strict=True)
        while time.monotonic() < until:
            action = self.deal.draw.choices(actions, weights)[0]
            try:
                action()
            except Exception as error:
                self.score.problems.append(f"{action.__name__}: {type(error).__name__}: {error}")
                self._hang_up()
                if len(self.score.problems) > 20:
                    return
        self._hang_up()
        while self._lingering:
            self._lingering.pop().close()

    def pipeline(self) -> None:
        """Write several requests at once, then read the answers, each of which has to come."""
        deals = [self.deal.right, self.deal.right, self.deal.right, self.deal.right, self.deal.forbidden]
        inputs = [
            self.deal.wrong() if self.deal.draw.random() < 0.2 else self.deal.draw.choice(deals)()
            for _ in range(self.deal.draw.randint(1, PIPELINED))
        ]
        self._line = line = self._line or Line(self.path)
        self._write(line, b"".join(each.wire() for each in inputs))
        for number, each in enumerate(inputs):
            self.score.sent[each.kind] += 1
            try:
                goes_on = self._judge(each, *line.answer(each.method))
            except Closed:
                goes_on = False
                if each.kind in ("right", "forbidden") and number == 0:
                    self.score.problems.append(f"no answer to {each}")
            if not goes_on:  # those behind it were not looked at
                self._hang_up()
                return
        if self.deal.draw.random() < 0.1:
            self._hang_up()

    def mutate(self) -> None:
        """Send what has been a request."""
        given = self.deal.any()
        self._glance(self.deal.mutate(given.wire()), "mutated")

    def garbage(self) -> None:
        """Send what never was one."""
        begins = [b"", b"GET ", b"POST /v1/shutdown HTTP/1.1\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n"]
        begin = self.deal.draw.choice(begins)
        self._glance(begin + self.deal.garbage(3000) + b"\r\n\r\n", "garbage")

    def close_half(self) -> None:
        """Send a part, and say that nothing more will come: the connection must end."""
        wire = self.deal.any().wire()
        line = Line(self.path)
        with line.socket:
            self._write(line, wire[: self.deal.draw.randrange(len(wire) + 1)])
            line.socket.shutdown(socket.SHUT_WR)
            self.score.sent["half closed"] += 1
            try:
                while True:
                    line._more()
            except Closed:
                self.score.answers["half closed||closed"] += 1

    def linger(self) -> None:
        """Begin a request and leave it at that, until there are too many of those; go on with an older one."""
        if len(self._lingering) >= MOST_LINGERING:
            self._lingering.pop(0).close()
        line = Line(self.path)
        wire = self.deal.right().wire()
        line.socket.sendall(wire[: self.deal.draw.randrange(len(wire))])
        self._lingering.append(line.socket)
        self.score.sent["lingering"] += 1
        try:
            self.deal.draw.choice(self._lingering).sendall(b"x")
        except OSError:
            self.score.answers["lingering||closed"] += 1

    def stream(self) -> None:
        """Have a stream begin, and go."""
        given, line = self.deal.stream(), Line(self.path)
        with line.socket:
            line.socket.sendall(given.wire())
            self.score.sent["stream"] += 1
            self._judge(given, *line.answer(given.method))

    def send_too_much(self) -> None:
        """Send a body that is too large; the answer may come before its end."""
        given, line = self.deal.too_large(), Line(self.path)
        with line.socket:
            self._write(line, given.wire())
            self.score.sent["large"] += 1
            self._judge(given, *line.answer(given.method))

    def _glance(self, data: bytes, kind: str) -> None:
        """Send it; look shortly whether anything comes."""
        line = Line(self.path)
        with line.socket:
            self._write(line, data)
            self.score.sent[kind] += 1
            line.socket.settimeout(GLANCE_S)
            try:
                status, _ = line.answer(b"HEAD")
            except (Closed, TimeoutError) as silence:
                what = "closed" if isinstance(silence, Closed) else "no answer"
                self.score.answers[f"{kind}||{what}"] += 1
            else:
                self.score.answers[f"{kind}||{status}"] += 1
                if status not in ANSWERS:
                    self.score.problems.append(f"{status} to {data!r}")

    def _judge(self, given: Input, status: int, goes_on: bool) -> bool:
        self.score.answers[f"{given.kind}|{given.route}|{status}"] += 1
        if status not in given.expected:
            self.score.problems.append(f"{status} to {given!r}"[:1000])
        return goes_on

    def _write(self, line: Line, data: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered and closed before the end of it
            line.socket.sendall(data)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.socket.close()
            self._line = None


def main() -> None:
    path, seed, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    until, scores = time.monotonic() + seconds, [Score() for _ in range(CLIENTS)]
    clients = [Client(path, f"{seed} {number}", score) for number, score in enumerate(scores)]
    threads = [threading.Thread(target=client.run, args=(until,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Score()
    for score in scores:
        total.sent += score.sent
        total.answers += score.answers
        total.problems += score.problems
    json.dump({"sent": total.sent, "answers": total.answers, "problems": total.problems}, sys.stdout)


if __name__ == "__main__":
    main()
