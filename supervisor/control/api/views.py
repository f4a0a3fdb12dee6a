"""What the API answers with: one frozen dataclass per kind of answer. JSON and OpenAPI schemas are made of them.

A field's trailing underscore is left out in JSON (`from_`). Nulls are written, never left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field

from orchestree.agents.ends import CrashReport
from orchestree.supervisor.events import PolicyChange
from orchestree.supervisor.states import AgentState, RunMode

Kind = Literal["agent", "supervisor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashSummary:
    """The latest abnormal end of an agent, without traceback and output. Fields as in the whole report."""

    cause: str
    message: str
    phase: str
    exit_code: int | None
    signal: str | None
    uptime_s: float
    fingerprint: str
    occurrence: int
    first_seen: float | None
    decision: str
    delay_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What every agent and supervisor shows. Seconds are relative to the moment of the answer.

    Attributes:
        path: names from the root down, joined with ``/``; empty for the root.
        name: among its siblings.
        kind: agent or supervisor.
        state: where it is.
        executor: what runs it; null for a supervisor.
        pid: of its own process; null if it has none.
        incarnation: 0 before its first start.
        restarts_total: restarts decided since it was registered.
        streak: failures in a row; 0 after a stable run.
        uptime_s: seconds since it became ready; null while it is not.
        next_restart_s: seconds until it starts again; null unless it waits for that.
        depends_on: names of siblings.
        waiting_for: whom it waits for now.
        queued: whether it waits for a worker slot.
        cpu_percent: of one processor by its own process since the look before; null if it has none.
        memory_bytes: resident, of its own process; null if it has none.
    """

    path: str
    name: str
    kind: Kind
    state: AgentState
    executor: str | None
    pid: int | None
    incarnation: int
    restarts_total: int
    streak: int
    uptime_s: float | None
    next_restart_s: float | None
    depends_on: tuple[str, ...]
    waiting_for: tuple[str, ...]
    queued: bool
    cpu_percent: float | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent(Node):
    """An agent (or, where supervisors are shown, too, a supervisor)."""

    last_crash: CrashSummary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeNode(Agent):
    """An agent or supervisor with all below it, children in start order."""

    children: tuple[TreeNode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details(Node):
    """All that is known of one agent or supervisor.

    Attributes:
        last_crash: the whole report.
        agent: ``module:qualname`` of its class; null for a supervisor, or when it has left the tree.
        policy: its restart policy by field, as `PATCH` takes it; ``backoff`` is text if its policies are its own.
        config: of the agent, secrets masked; null for a supervisor.
        params: names of the further objects that the agent was given.
        result: what ``execute()`` returned at the latest normal end.
        children: paths, in start order; null for an agent.
    """

    last_crash: CrashReport | None
    agent: str | None
    policy: Mapping[str, Any]
    config: Mapping[str, Any] | None
    params: tuple[str, ...]
    result: Any
    children: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: a process at the UNIX socket, or a token."""

    uid: int | None
    pid: int | None
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The orchestrator itself.

    Attributes:
        status: ``degraded`` if something is parked, failed or wedged, or a service has failed.
        socket: path of the control socket.
        run: id of this run, as its events have it.
        unhealthy: paths of what is parked, failed or wedged, in start order.
        metrics: URL at which Prometheus finds the metrics; null if they are not served there.
        services: ``on``, ``off`` or ``failed: why``, by name.
        commands: what the caller may do, sorted.
    """

    status: Literal["ok", "degraded"]
    name: str
    pid: int
    version: str
    run: str
    uptime_s: float
    run_mode: RunMode
    socket: str
    metrics: str | None
    unhealthy: tuple[str, ...]
    services: Mapping[str, str]
    commands: tuple[str, ...]
    who: Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Figures of the whole tree; the last three are of the orchestrator's own process.

    Attributes:
        agents: how many are in each state; states without any are left out.
        supervisors: the same, the root included.
        restarts_total: decided since the start, over all that is registered.
        events: number of the latest event.
        queued: agents that wait for a worker slot.
    """

    agents: Mapping[str, int]
    supervisors: Mapping[str, int]
    restarts_total: int
    events: int
    uptime_s: float
    max_workers: int | None
    queued: int
    cpu_percent: float | None
    memory_bytes: int | None
    threads: int | None


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One agent or supervisor of the graph."""

    path: str
    kind: Kind
    state: AgentState


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """The one at ``from`` depends on the one at ``to``; both are paths."""

    from_: Annotated[str, Field(serialization_alias="from")]
    to: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Who depends on whom."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One thing that happened.

    Attributes:
        seq: ascending number.
        run: id of the run of the orchestrator.
        time: wall clock, seconds since 1970.
        monotonic: seconds of the clock that decisions were made by.
        path: of the agent or supervisor; empty for the root.
        data: depends on the type.
        text: one line for a person.
    """

    seq: int
    run: str
    time: float
    monotonic: float
    type: str
    path: str
    incarnation: int
    data: Mapping[str, Any]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What became of ``start``, ``stop`` or ``restart``.

    Attributes:
        changed: false if there was nothing to do.
        done: whether nothing moves any more; false: it goes on.
        state: of what stands at the path, now.
        pending: paths of what still starts or stops, in start order.
    """

    path: str
    command: str
    changed: bool
    done: bool
    state: AgentState
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """What became of ``shutdown``. Fields as of `Operation`; `pending`: all that still has to end."""

    command: str
    changed: bool
    done: bool
    state: AgentState
    pending: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What ``set`` changed; fields that had the value already are left out."""

    path: str
    changes: tuple[PolicyChange, ...]


def to_bytes(value: object) -> bytes:
    """Return an answer as JSON. Any thread."""
    return json.dumps(value, default=_fields, allow_nan=False, separators=(",", ":")).encode()


def _fields(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return dict(value)
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} is not part of any answer")
    return {key: getattr(value, name) for name, key in _names(type(value))}


@lru_cache(maxsize=64)
def _names(kind: type) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, field.name.rstrip("_")) for field in fields(kind))
