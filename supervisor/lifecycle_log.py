"""The log of the tree: one readable loguru line for each event. A subscriber like any other."""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import Final

from loguru import logger

from orchestree.agents.ends import CrashReport

from .crash_text import details
from .event_text import GIVING_UP, describe
from .events import (
    AgentCrashed,
    AgentTerminated,
    Event,
    EventType,
    OrchestratorStopped,
    SupervisorTerminated,
)
from .phrases import ordinal
from .states import UNHEALTHY_STATES

_LEVELS: Final = MappingProxyType(
    {
        EventType.AGENT_REGISTERED: "DEBUG",
        EventType.AGENT_UNREGISTERED: "DEBUG",
        EventType.AGENT_MESSAGE: "DEBUG",
        EventType.AGENT_CRASHED: "ERROR",
        EventType.AGENT_HUNG: "ERROR",
        EventType.AGENT_RESTARTING: "WARNING",
        EventType.SUPERVISOR_RESTARTING: "WARNING",
        EventType.AGENT_PARKED: "CRITICAL",
        EventType.AGENT_WEDGED: "CRITICAL",
        EventType.HANDLER_FAILED: "ERROR",
        EventType.SERVICE_FAILED: "WARNING",
        EventType.LEAK_FOUND: "WARNING",
        EventType.EVENT_GAP: "WARNING",
    }
)


class LifecycleLog:
    """A callback for `EventManager.subscribe` that logs each event, bound to its path and incarnation.

    All that is known of a crash is written once; when the same crash of the same agent comes again, its line says
    how often it has come.
    """

    def __call__(self, event: Event) -> None:
        """Log `event`; without a sink that takes its level, not even its text is made."""
        bound = logger.bind(path=event.path, incarnation=event.incarnation, event_type=event.type.value)
        bound.opt(lazy=True).log(level_of(event), "{}", lambda: text_of(event))


def text_of(event: Event) -> str:
    """Return what is logged of `event`; of a crash that is new this has several lines."""
    text = describe(event)
    if not isinstance(event.data, AgentCrashed):
        return text
    report = event.data.report
    if report.occurrence > 1:
        return f"{text} (same crash, {ordinal(report.occurrence)} time since {_clock(report, event.time)})"
    return "\n".join([text, *details(report)])


def _clock(report: CrashReport, now: float) -> str:
    """Return when a crash came first: the time of day, and the date if it was another day."""
    first, today = (datetime.fromtimestamp(moment) for moment in (report.first_seen or now, now))
    return first.strftime("%H:%M" if first.date() == today.date() else "%Y-%m-%d %H:%M")


def level_of(event: Event) -> str:
    """Return the name of the level at which `event` is logged."""
    match event.data:
        case SupervisorTerminated(reason=reason) if reason.cause in GIVING_UP:
            return "CRITICAL"
        case AgentTerminated(state=state) if state in UNHEALTHY_STATES:
            return "ERROR"
        case OrchestratorStopped(exit_code=code) if code != 0:
            return "ERROR"
        case _:
            return _LEVELS.get(event.type, "INFO")
