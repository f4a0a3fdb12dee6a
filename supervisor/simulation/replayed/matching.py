"""Whether what the core says in a replay is what the log says. Pure.

Compared is what the core decides. What it only hands on (reports, messages) and what comes from the clock is not.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Final

from orchestree.supervisor import events as made
from orchestree.supervisor.events import TYPE_OF, Event, EventData
from orchestree.supervisor.inputs import Emit

from .replay_result import Divergence

SAME_MOMENT: Final = 1e-6
"""Seconds by which two delays may differ that were computed from the same things."""

_DECIDED: Final = MappingProxyType(
    {
        made.OrchestratorStarted: ("run_mode", "agents", "supervisors"),
        made.OrchestratorStopping: ("cause",),
        made.OrchestratorStopped: ("exit_code", "cause", "unhealthy"),
        made.SupervisorStarted: ("children",),
        made.SupervisorRestarting: ("cause", "delay", "attempt"),
        made.SupervisorTerminated: ("reason", "offender"),
        made.AgentRegistered: ("executor", "restart", "depends_on"),
        made.AgentWaiting: ("waiting_for",),
        made.AgentQueued: ("max_workers",),
        made.AgentStarting: ("executor", "chosen"),
        made.AgentRestarting: ("cause", "delay", "attempt", "reason"),
        made.AgentStopping: ("cause",),
        made.AgentTerminated: ("reason", "state"),
        made.AgentParked: ("why", "attempt", "reason"),
        made.AgentWedged: ("cause",),
        made.AllAgentsTerminated: ("left_waiting",),
        made.PolicyChanged: ("delay",),
        made.Command: ("name",),
    }
)


def agrees(emit: Emit, event: Event) -> bool:
    """Return whether the log's `event` is what the core has said."""
    return _is_about_the_same(emit, event) and not differences(emit.data, event.data)


def _is_about_the_same(emit: Emit, event: Event) -> bool:
    """Return whether the core has said something of this type about this run."""
    kind = TYPE_OF[type(emit.data)]
    return (emit.path, emit.incarnation, kind) == (event.path, event.incarnation, event.type)


def differences(said: EventData, logged: EventData) -> tuple[str, ...]:
    """Return in what two events of one type differ that was decided: what the core has said, and what the log says."""
    one, other = _decided(said), _decided(logged)
    return tuple(
        f"{name}={_shown(value)} where the log has {_shown(other[name])}"
        for name, value in one.items()
        if not _same(value, other[name])
    )


def divergence_at(event: Event, emit: Emit | None) -> Divergence:
    """Return how the log's `event` differs from what the core says; None: it says nothing."""
    if emit is None:
        return Divergence(event, None)
    kind = TYPE_OF[type(emit.data)]
    would = Event(event.seq, event.time, event.monotonic, kind, emit.path, emit.incarnation, emit.data, event.run)
    return Divergence(event, would, differences(emit.data, event.data) if _is_about_the_same(emit, event) else ())


def _decided(data: EventData) -> dict[str, object]:
    if isinstance(data, made.AgentCrashed):
        report = data.report
        return {"decision": report.decision, "reason": data.reason, "delay_s": report.delay_s}
    return {name: getattr(data, name) for name in _DECIDED.get(type(data), ())}


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=SAME_MOMENT, abs_tol=SAME_MOMENT)
    return one == other
