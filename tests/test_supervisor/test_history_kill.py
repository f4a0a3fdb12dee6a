"""A real process is killed while it writes its history, again and again."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from history_support import append, numbered

from orchestree.supervisor.events import AgentMessage
from orchestree.supervisor.history import EventQuery
from orchestree.supervisor.history_queries import HistoryReader

ROUNDS = 8
LOST_S = 0.05
SLOW_MACHINE_S = 0.25
"""What a loaded machine may add: the thread that writes gets no processor, or the disk is busy with others'."""


@dataclass(frozen=True)
class Killed:
    """What a process had published, by its own word, when it was killed at monotonic time `at`."""

    published: dict[int, float]
    at: float


def kill_while_writing(path: Path, run: str, after: int, pause: float) -> Killed:
    command = [sys.executable, "-m", "orchestree_testing.history_flood", str(path), run, str(pause)]
    published: dict[int, float] = {}
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": "src:tests/support"},
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    with child, child.stdout as lines:
        for line in lines:
            seq, moment = line.split()
            published[int(seq)] = float(moment)
            if len(published) == after:
                at = time.monotonic()
                child.kill()
                break
        for line in lines:  # what it had said until the kill
            if line.endswith("\n"):
                seq, moment = line.split()
                published[int(seq)] = float(moment)
    return Killed(published, at)


@pytest.mark.slow
def test_a_kill_at_any_moment_never_damages_the_file_and_costs_no_more_than_the_last_moments(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    seed = random.Random(7)
    lost, last = [], 0
    for round in range(ROUNDS):
        killed = kill_while_writing(path, f"run-{round}", seed.randrange(5, 120), seed.choice((0.0, 0.0005, 0.005)))
        found = HistoryReader(path).query(EventQuery(run=f"run-{round}", limit=None))
        numbers = [event.seq for event in found]
        assert numbers == list(range(last + 1, last + 1 + len(numbers)))  # a beginning, without a hole
        last = numbers[-1] if numbers else last
        assert all(event.data == AgentMessage("flood", {"number": event.seq}) for event in found)
        missing = [moment for seq, moment in killed.published.items() if seq > last]
        lost.append(max((killed.at - moment for moment in missing), default=0.0))
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert max(lost) < LOST_S + SLOW_MACHINE_S, lost
    print(f"lost before each kill: {', '.join(f'{one * 1e3:.0f} ms' for one in lost)}")
    assert all(run.ended is None for run in HistoryReader(path).runs())
    append(path, numbered(last + 1, run="after"), run="after")  # the locks of the dead are gone
