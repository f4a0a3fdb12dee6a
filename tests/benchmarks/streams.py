"""Coroutine agent: crash to the replacement's first statement, alone and while clients stream all its events.

They are in another process; one of them never reads. About 200 events a second.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loguru import logger

from orchestree import Orchestrator, RunMode

from .common import beside, micro, show
from .crashing import supervised

PACE_S = 0.02  # four events for each crash
CRASHES = 100
PAIRS = 5


@contextmanager
def streaming(socket: Path, clients: int) -> Iterator[None]:
    """Have so many clients stream."""
    command = [sys.executable, "-m", f"{__package__}.stream_clients", str(socket), str(clients)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # all take part
        try:
            yield
        finally:
            process.stdin.close()  # which ends it
            process.wait()


if __name__ == "__main__":
    many = int(sys.argv[1])
    logger.remove()
    alone, watched = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        control = str(Path(folder, "control.sock"))
        config = Orchestrator.Config(
            run_mode=RunMode.DAEMON, max_restarts=10**9, max_seconds=1.0, backoff=None, control=control
        )
        with Orchestrator(config) as tree:
            for _ in range(PAIRS):
                alone += supervised(tree, CRASHES, PACE_S)
                with streaming(Path(control), many):
                    watched += supervised(tree, CRASHES, PACE_S)
    show(
        f"beside {many} streaming clients: {beside(watched, alone)} of what it takes without any "
        f"({many}: {micro(watched)}; none: {micro(alone)})"
    )
