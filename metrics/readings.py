"""What the page and the reference both need to know beside snapshots and records."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from orchestree.supervisor.spec import AgentEntry, SupervisorEntry
from orchestree.supervisor.status import Status

from .recording import AgentRecord
from .source import Source


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


def restarts_limit(source: Source, path: str) -> int:
    """Return how many restarts within its window a supervisor bears; 0 for one that has left."""
    entry = source.entry(path)
    return entry.max_restarts if isinstance(entry, SupervisorEntry) else 0


def exemplar_of(record: AgentRecord) -> dict[str, str] | None:
    """Return the labels that lead from the counter of restarts to the event of the latest; None before the first."""
    event = record.last_restart
    return None if event is None else {"event": str(event.seq), "run": event.run}


def build_info() -> dict[str, str]:
    """Return the versions that run here."""
    try:
        ours = version("orchestree")
    except PackageNotFoundError:  # run from a checkout that was never installed
        ours = "unknown"
    return {"version": ours, "python": python_version()}
