"""Attack the control API of a tree: ``python -m tests.fuzz [--seconds 60] [--seed 1] [--in-process 1000000]``.

It needs ``PYTHONPATH=tests/support``. Prints what was sent and answered, and what went wrong; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil
from loguru import logger

from orchestree.supervisor import EventType, Orchestrator
from orchestree.supervisor.control.serving import Connection
from orchestree.supervisor.history import EventQuery

from .client import Closed, Line, Score
from .in_process import attack
from .inputs import COMMANDS, Dealer
from .tree import Watch, attacked, judge

PROCESSES: Final = 2
WARM_UP_S: Final = 5.0
MOST_GROWTH_MB: Final = 60.0
"""After the warm-up; what is kept in memory (events, lines) is full by then, or nearly so."""
REST_S: Final = 1.0
"""After which the connections of the warm-up are gone."""
SETTLE_S: Final = 20.0


class Attack:
    """One run over the socket: clients in processes of their own, the tree in this one."""

    def __init__(self, tree: Orchestrator, seed: int) -> None:
        self.socket, self.seed = tree.services.socket, seed
        self.score = Score()

    def storm(self, seconds: float, name: str) -> None:
        """Let the clients at it."""
        command = [sys.executable, "-m", "tests.fuzz.client", self.socket]
        clients = [
            subprocess.Popen(
                [*command, f"{self.seed} {name} {number}", str(seconds)], stdout=subprocess.PIPE, text=True
            )
            for number in range(PROCESSES)
        ]
        for client in clients:
            said, _ = client.communicate(timeout=seconds + 120)
            if client.returncode:
                self.score.problems.append(f"a client has ended with {client.returncode}")
                continue
            what: dict[str, Any] = json.loads(said)
            self.score.sent.update(what["sent"])
            self.score.answers.update(what["answers"])
            self.score.problems += what["problems"]


def over_socket(tree: Orchestrator, watch: Watch, seconds: float, seed: int) -> tuple[Score, list[str]]:
    """Attack it for so long; return what came of it and what is wrong."""
    process = psutil.Process()
    began = time.monotonic()
    Attack(tree, seed).storm(min(WARM_UP_S, seconds), "warm-up")
    threading.Event().wait(REST_S)
    before, descriptors = memory_mb(process), open_files()
    main = Attack(tree, seed)
    main.storm(seconds, "main")
    problems = judge(tree, watch, time.monotonic() - began) + main.score.problems
    settle(lambda: not left_open(descriptors))
    if more := left_open(descriptors):
        problems.append(f"left open: {dict(more)}")
    settle(lambda: not connections_kept())
    if kept := connections_kept():
        problems.append(f"{kept} connections are still in memory")
    settle(lambda: memory_mb(process) <= before + MOST_GROWTH_MB)
    if (after := memory_mb(process)) > before + MOST_GROWTH_MB:
        problems.append(f"{after:.0f} MB, {before:.0f} MB after the warm-up")
    if not still_answers(tree.services.socket):
        problems.append("a proper request afterwards has failed")
    print(f"memory {before:.0f} -> {after:.0f} MB, {descriptors.total()} descriptors")
    return main.score, problems + forbidden_in_history(tree)


def open_files() -> Counter[str]:
    """Return how many descriptors there are of each kind."""
    kinds: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one of this very listing
            kinds[os.readlink(f"/proc/self/fd/{name}").partition("[")[0]] += 1
    return kinds


def connections_kept() -> int:
    gc.collect()
    return sum(isinstance(each, Connection) for each in gc.get_objects())


def left_open(before: Counter[str]) -> Counter[str]:
    """Return of which kinds there are more now.

    While one connection has a database open, SQLite keeps what others have closed, and gives it to the next: so there
    may be as many as there are threads that ask.
    """
    spare = {kind: min(32, (os.cpu_count() or 1) + 4) for kind in before if kind.endswith("/history.db")}
    return open_files() - before - Counter(spare)


def still_answers(path: str) -> bool:
    try:
        line = Line(path)
        with line.socket:
            line.socket.sendall(Dealer("").right().wire())
            return line.answer(b"GET")[0] in (200, 202)
    except (OSError, Closed):
        return False


def forbidden_in_history(tree: Orchestrator) -> list[str]:
    found = tree.services.history.query(EventQuery(types=frozenset({EventType.COMMAND}), limit=None))
    names = {getattr(event.data, "name", "") for event in found}
    return [f"the history has the command {name!r}" for name in names - COMMANDS]


def settle(is_so: Callable[[], bool]) -> None:
    """Wait until it is so, for a while."""
    deadline, pause = time.monotonic() + SETTLE_S, threading.Event()
    while not is_so() and time.monotonic() < deadline:
        gc.collect()
        pause.wait(0.1)


def memory_mb(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


def table(score: Score) -> str:
    """Return how often each route was answered with each status, by kind of request."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for key, number in score.answers.items():
        kind, route, status = key.split("|")
        rows.setdefault((kind, route), Counter())[status] += number
    order = ["right", "forbidden"]
    ranked = sorted(rows, key=lambda row: (order.index(row[0]) if row[0] in order else 9, row))
    lines = [
        f"{kind:<12} {route:<30} "
        + "  ".join(f"{status}: {rows[kind, route][status]}" for status in sorted(rows[kind, route]))
        for kind, route in ranked
    ]
    return "\n".join(lines)


def reached(score: Score) -> int:
    """Return how many requests that were well formed and permitted were answered by their handler with success."""
    return sum(
        number for key, number in score.answers.items() if key.startswith("right|") and key[-3:] in ("200", "202")
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--in-process", type=int, metavar="COUNT", help="so many requests without a socket, instead")
    parser.add_argument("--least", type=int, default=0, help="requests that must have been sent")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    logger.remove()
    logger.add(sys.stderr, level="WARNING", format="{time:HH:mm:ss.SSS} {level} {message}", backtrace=False)
    with tempfile.TemporaryDirectory() as folder:
        tree = attacked(Path(folder))
        watch = Watch(tree)
        watch.start()
        tree.start()
        began = time.monotonic()
        if arguments.in_process:
            answers, problems = asyncio.run(attack(tree, arguments.in_process, str(arguments.seed)))
            score = Score(Counter({"in process": answers.total()}), answers)
            problems += judge(tree, watch, time.monotonic() - began) + forbidden_in_history(tree)
        else:
            score, problems = over_socket(tree, watch, arguments.seconds, arguments.seed)
            sent, handled = score.sent.total(), reached(score)
            if sent < arguments.least:
                problems.append(f"only {sent} requests were sent")
            if handled * 3 < sent:
                problems.append(f"only {handled} of {sent} requests were right, permitted and handled")
            print(f"{sent} sent, {handled} of them right, permitted and handled")
        seconds = time.monotonic() - began
        watch.expect_the_end()
        tree.stop(timeout=30)
        watch.join()
    print(table(score))
    print(f"sent: {dict(score.sent)}\nin {seconds:.1f} s; beats: {dict(watch.beats)}, longest silence: {watch.silence}")
    print(f"commands that came through: {dict(watch.commands)}; starts: {dict(watch.starts)}")
    for problem in problems[:40]:
        print(f"PROBLEM: {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
