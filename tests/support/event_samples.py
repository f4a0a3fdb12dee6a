"""Events as the tests of what people read need them: of ``sensor-b``, third incarnation."""

from __future__ import annotations

from orchestree.agents.ends import Cause, CrashReport, ExitKind, ExitReason, abnormal
from orchestree.supervisor.events import TYPE_OF, AgentCrashed, Event, EventData

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no such sensor\n'


def an_event(data: EventData, path: str = "sensor-b", time: float = 0.0) -> Event:
    return Event(1, time, 0.0, TYPE_OF[type(data)], path, 3, data)


def a_crash(
    message: str = "ValueError: no such sensor", path: str = "sensor-b", time: float = 0.0, **fields: object
) -> Event:
    report = {"cause": Cause.EXCEPTION, "uptime_s": 4.2, "traceback": TRACEBACK, **fields}
    data = AgentCrashed(abnormal(Cause.EXCEPTION), CrashReport(message=message, **report))  # type: ignore[arg-type]
    return an_event(data, path, time)


GAVE_UP = ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS)
ESCALATED = ExitReason(ExitKind.SHUTDOWN, Cause.ESCALATED)
