"""What the page and the reference both need to know beside snapshots and records."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Final

from orchestree.supervisor.spec import AgentEntry, SupervisorEntry
from orchestree.supervisor.status import Snapshot, Status

from .recording import AgentRecord
from .source import Source

SHOWN_AFTER_END_S: Final = 300.0
"""Seconds for which a temporary child is shown after its end: as far as a query of Prometheus looks back."""


def agent_info(source: Source, status: Status, record: AgentRecord) -> dict[str, str]:
    """Return the labels that say what an agent is, ``agent`` included; of one that has left as it was registered."""
    entry = source.entry(status.path)
    if isinstance(entry, AgentEntry):
        name, restart = f"{entry.agent.__module__}:{entry.agent.__qualname__}", entry.restart.value
    elif record.registered is not None:
        name, restart = record.registered.agent, record.registered.restart
    else:
        name, restart = "", ""
    return {"agent": status.path, "class": name, "executor": status.executor or "", "restart": restart}


def shown(snapshots: Mapping[str, Snapshot], now: float) -> dict[str, Snapshot]:
    """Return what a scrape at `now` shows: not what left the tree long ago, of which only its outcome is remembered."""
    return {
        path: snapshot
        for path, snapshot in snapshots.items()
        if not snapshot.departed or now - snapshot.taken_at < SHOWN_AFTER_END_S
    }


def restarts_limit(source: Source, path: str) -> int:
    """Return how many restarts within its window a supervisor bears; 0 for one that has left."""
    entry = source.entry(path)
    return entry.max_restarts if isinstance(entry, SupervisorEntry) else 0


def exemplar_of(record: AgentRecord) -> dict[str, str] | None:
    """Return the labels that lead from the counter of restarts to the event of the latest; None before the first."""
    event = record.last_restart
    return None if event is None else {"event": str(event.seq), "run": event.run}


def build_info(source: Source) -> dict[str, str]:
    """Return the labels that say which versions run here, and which orchestrator this is."""
    return {"version": _our_version(), "python": python_version(), "name": source.name(), "run": source.run}


@cache
def _our_version() -> str:
    try:
        return version("orchestree")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
