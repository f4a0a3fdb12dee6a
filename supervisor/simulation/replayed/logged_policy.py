"""A policy that is not known, and decides what the log says that was decided. Pure."""

from __future__ import annotations

import re
from typing import Final

from orchestree.strategies.backoff import Backoff, Streak, Verdict
from orchestree.strategies.rules import Action, Failure
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentParked,
    AgentRestarting,
    AgentTerminated,
    OrchestratorStopping,
    PolicyChanged,
    RestartCause,
    SupervisorRestarting,
    SupervisorTerminated,
)
from orchestree.supervisor.states import AgentState

from .foresight import Foresight

NOT_KNOWN: Final = "not known: what it decided is taken from the log"

_STABLE: Final = re.compile(r"stable_after=([0-9.]+)")


class LoggedBackoff(Backoff):
    """Stands for the policy of a child that came while the tree ran, or of which only the text is known."""

    __slots__ = ("_foresight", "_path", "_text")
    _foresight: Foresight
    _path: str
    _text: str

    def __init__(self, foresight: Foresight, path: str, text: str) -> None:
        """Answer for the child at `path`; `text` is all that the log says of the policy, if it says anything."""
        text = text or NOT_KNOWN
        stable = _STABLE.search(text)
        default = foresight.world.settings.backoff or Backoff()
        super().__init__(jitter=0.0, stable_after=float(stable[1]) if stable else default.stable_after)
        for name, value in (("_path", path), ("_foresight", foresight), ("_text", text)):
            object.__setattr__(self, name, value)  # a policy cannot be changed

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __str__(self) -> str:
        """Return what is known of it."""
        return self._text

    def action_for(self, failure: Failure | None) -> Action | None:
        """Return what a rule must have said, as far as the log shows a difference."""
        if self._decided() == "escalate" and self._ending() == "escalated":
            return "escalate"
        return "park" if self._parked().startswith("a rule says so") else None

    def verdict(self, streak: Streak, failure: Failure | None, now: float, draw: float) -> Verdict:
        """Return the delay that the log tells, or that it gives up."""
        decided = self._decided()
        return Verdict(decided == "park", decided if isinstance(decided, float) else 0.0)

    def _decided(self) -> float | str:
        """Return what the log says next: the delay of a restart, ``park`` or ``escalate``."""
        event = self._foresight.coming()
        if event is None or event.path != self._path:
            return "park"  # of a supervisor, nothing tells that
        match event.data:
            case AgentCrashed(report=report) if report.decision == "restart":
                return report.delay_s or 0.0
            case AgentRestarting(RestartCause.FAILURE, delay) | SupervisorRestarting(delay=delay):
                return delay
            case PolicyChanged(delay=float(delay)):
                return delay
            case AgentCrashed(report=report):
                return report.decision
            case AgentTerminated(state=AgentState.STOPPED):
                return "escalate"
            case _:
                return "park"

    def _parked(self) -> str:
        for event in self._foresight.following():
            if event.path == self._path and isinstance(event.data, AgentParked):
                return event.data.why
        return ""

    def _ending(self) -> str:
        """Return why the supervisor ends that ends next above the child."""
        parent = self._path.rpartition("/")[0]
        for event in self._foresight.following():
            match event.data:
                case SupervisorTerminated(reason) if event.path == parent:
                    return str(reason.cause)
                case OrchestratorStopping(cause) if not parent:
                    return cause
                case _:
                    pass
        return ""
