"""A real process is killed while it writes its history, again and again."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from history_support import append, numbered

from orchestree.supervisor.events import AgentMessage
from orchestree.supervisor.history import EventQuery
from orchestree.supervisor.history_queries import HistoryReader

LOST_S = 0.05
MODEST_S = 0.005
"""Seconds from ten events to the next ten, at which the writer is never behind."""
FLOOD_S = 0.0
PAUSES = (FLOOD_S, MODEST_S, MODEST_S, FLOOD_S, MODEST_S, MODEST_S, FLOOD_S, MODEST_S)


@dataclass
class Killed:
    """What a process had said of itself when it was killed.

    Attributes:
        published: when it had published the events up to a number.
        late_s: for how long it had been kept waiting by the machine.
        at: monotonic time of the kill.
    """

    published: dict[int, float] = field(default_factory=dict)
    late_s: float = 0.0
    at: float = 0.0

    def hear(self, line: str) -> None:
        seq, moment, late = line.split()
        self.published[int(seq)] = float(moment)
        self.late_s = float(late)

    def lost_s(self, last: int) -> float:
        """Return the age of the oldest event that is not in the file, which ends with `last`."""
        return max((self.at - moment for seq, moment in self.published.items() if seq > last), default=0.0)


def kill_while_writing(path: Path, run: str, after: int, pause: float) -> Killed:
    command = [sys.executable, "-m", "orchestree_testing.history_flood", str(path), run, str(pause)]
    killed = Killed()
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
            killed.hear(line)
            if len(killed.published) == after:
                killed.at = time.monotonic()
                child.kill()
                break
        for line in lines:  # what it had said until the kill
            if line.endswith("\n"):
                killed.hear(line)
    return killed


@pytest.mark.slow
def test_a_kill_never_damages_the_file_and_costs_50_ms_and_what_the_machine_was_late(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    seed = random.Random(7)
    last = 0
    for round, pause in enumerate(PAUSES):
        killed = kill_while_writing(path, f"run-{round}", seed.randrange(5, 120), pause)
        found = HistoryReader(path).query(EventQuery(run=f"run-{round}", limit=None))
        numbers = [event.seq for event in found]
        assert numbers == list(range(last + 1, last + 1 + len(numbers)))  # a beginning, without a hole
        last = numbers[-1] if numbers else last
        assert all(event.data == AgentMessage("flood", {"number": event.seq}) for event in found)
        print(f"pause {pause}: lost {killed.lost_s(last) * 1e3:.0f} ms, late {killed.late_s * 1e3:.0f} ms")
        if pause == MODEST_S:
            assert killed.lost_s(last) < LOST_S + 2 * killed.late_s  # its own batch and the one before were late
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM runs WHERE ended IS NOT NULL").fetchone() == (0,)
    append(path, numbered(last + 1, run="after"), run="after")  # the locks of the dead are gone
