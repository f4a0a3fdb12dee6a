"""An agent that the kernel kills for want of memory, in a control group with a real limit. Needs root."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.slow

DEADLINE_S: Final = 60
LIMIT: Final = 200_000_000

PROGRAM: Final = """
import os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from loguru import logger
from orchestree import Backoff, Orchestrator, ProcessAgent, RunMode
from tenacity import stop_after_attempt
logger.remove()

class Eater(ProcessAgent):
    def execute(self):
        eaten = []
        while True:
            eaten.append(b"x" * 10_000_000)

class Victim(ProcessAgent):
    def execute(self):
        os.kill(os.getpid(), 9)

for agent in (Eater, Victim):
    tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY, control=False))
    tree.register_agent(agent, agent.__name__, backoff=Backoff(stop=stop_after_attempt(2)))
    tree.simple_join()
    report = tree.status(agent.__name__).last_crash
    print(agent.__name__, report.cause, report.message, report.occurrence, sep=": ", flush=True)
"""


@pytest.fixture
def limited() -> Iterator[Path]:
    for folder, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", folder, "orchestree-test")
        with suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(LIMIT))
            except OSError:
                group.rmdir()
                continue
            yield group
            group.rmdir()
            return
    pytest.skip("no control group with a memory limit can be made here")


def test_the_end_by_the_kernels_oom_killer_is_told_from_another_sigkill(tmp_path: Path, limited: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script), str(limited)], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.stdout.splitlines() == [
        "Eater: oom: killed by SIGKILL: out of memory: 2",
        "Victim: signal: killed by SIGKILL (possibly out of memory): 2",
    ], done.stderr
