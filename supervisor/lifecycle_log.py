"""The log of the tree: one readable loguru line for each event. A subscriber like any other."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from loguru import logger

from orchestree.agents.ends import CrashReport

from .event_text import GIVING_UP, describe
from .events import (
    AgentCrashed,
    AgentTerminated,
    Event,
    EventType,
    OrchestratorStopped,
    SupervisorTerminated,
)
from .states import UNHEALTHY_STATES

REMEMBERED_CRASHES: Final = 1000
"""How many different crashes are remembered, so that their tracebacks are not written again."""

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

    The traceback of a crash is written in full once; when the same crash of the same agent comes again, its
    line says so.
    """

    def __init__(self) -> None:
        """Start without any crash remembered."""
        self._crashes: dict[tuple[str, ...], None] = {}  # an ordered set, the latest last

    def __call__(self, event: Event) -> None:
        """Log `event`; without a sink that takes its level, not even its text is made."""
        bound = logger.bind(path=event.path, incarnation=event.incarnation, event_type=event.type.value)
        bound.opt(lazy=True).log(level_of(event), "{}", lambda: self._text(event))

    def _text(self, event: Event) -> str:
        text = describe(event)
        if isinstance(event.data, AgentCrashed):
            text += self._traceback(event.path, event.data.report)
        return text

    def _traceback(self, path: str, report: CrashReport) -> str:
        if not report.traceback:
            return ""
        traceback = report.traceback.rstrip()
        crash = (path, report.cause, report.message, traceback.rpartition("\n")[2])
        known = crash in self._crashes
        self._crashes.pop(crash, None)
        self._crashes[crash] = None
        if len(self._crashes) > REMEMBERED_CRASHES:
            del self._crashes[next(iter(self._crashes))]
        return " (same as before)" if known else f"\n{traceback}"


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
