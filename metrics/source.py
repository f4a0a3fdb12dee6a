"""What the exporter reads of a running tree. Values and a protocol; the tree's side is `supervisor/figures.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.status import Snapshot, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the processes of one agent have used.

    Attributes:
        cpu_s: seconds of processor time of all its incarnations in this run of the tree, with what they waited for.
        memory_bytes: resident, of the process that runs now; None if there is none.
    """

    cpu_s: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Figures of the whole tree that no agent and no event has.

    Attributes:
        max_workers: as configured; None for no limit.
        abandoned: runs that cannot be ended and whose agent went on without them; each still has a thread or task.
        events_dropped: events that were cut in a flood, or that a reader was too slow for, over all readers.
        history_lag_s: seconds for which the oldest event that is not in the history file has been waiting; 0.0 if
            there is none, or no file.
    """

    max_workers: int | None
    abandoned: int
    events_dropped: int
    history_lag_s: float


class Source(Protocol):
    """A tree, as the exporter sees it. Any thread; nothing here waits for supervision, or raises.

    Attributes:
        run: id of the run of the orchestrator.
    """

    run: str

    def name(self) -> str:
        """Return the name by which the control API finds the orchestrator; without one as it is configured."""

    def now(self) -> float:
        """Return the monotonic seconds that all times here are of."""

    def snapshots(self) -> Mapping[str, Snapshot]:
        """Return a copy: all agents and supervisors by path, the root too; nothing before the tree is prepared."""

    def status(self, path: str) -> Status | None:
        """Return the status at `path` as of its latest change; None if there is none."""

    def entry(self, path: str) -> ChildEntry | None:
        """Return the specification at `path` as it is now; None if there is none."""

    def restarts_in_window(self, path: str, now: float) -> int:
        """Return how many restarts count against the limit of the supervisor at `path`; 0 if there is none."""

    def last_beat(self, path: str, incarnation: int) -> float | None:
        """Return when that run made progress last, in monotonic seconds; None if there is no such run.

        It lies in the future while the run waits until then on purpose.
        """

    def usage(self, path: str) -> Usage | None:
        """Return what a process agent has used; None for every other."""

    def whole(self) -> Whole:
        """Return the figures of the whole."""

    def probe(self) -> None:
        """Have the supervision loop tell, as soon as it turns, how long that took (see `Exporter.observe_lag`)."""
