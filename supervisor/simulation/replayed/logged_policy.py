"""Policy as a log says it; what it does not say of a backoff, such as a user's code, decides what it says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from orchestree.agents.ends import SHUTDOWN, Cause
from orchestree.strategies.backoff import Backoff, Streak, Verdict
from orchestree.strategies.rules import Action, Failure
from orchestree.supervisor.decision import Again, Decision, GiveUp, Park
from orchestree.supervisor.entry_fields import INHERIT, BackoffChoice
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentParked,
    AgentRestarting,
    AgentStopping,
    Event,
    OrchestratorStopping,
    PolicyChanged,
    RestartCause,
    StopCause,
    SupervisorRestarting,
    SupervisorStarted,
    SupervisorTerminated,
)
from orchestree.supervisor.phrases import POLICY_RAISED
from orchestree.supervisor.policy_text import INHERITED

from .foresight import Foresight
from .policy_reading import backoff_of, said_of, value_of

_BY_RULE: Final = "a rule says so"
_USED: Final = frozenset({"jitter", "stable_after", "rules"})
"""Fields that count as far as they are said; what the others decide is always taken from the log."""


class LoggedPolicy:
    """Reads policy out of a log.

    Attributes:
        is_said: whether the log says policy; those of earlier versions do not.
        not_computed: paths of those whose backoff decides what the log says, as that does not say all of it; of the
            root if it is that of all who have none of their own.
        assumed: paths of those whose policy the log does not say; it is taken for the default.
    """

    def __init__(self, foresight: Foresight, *, is_said: bool) -> None:
        """Read what `foresight` looks at."""
        self.is_said = is_said
        self.not_computed: dict[str, None] = {}
        self.assumed: dict[str, None] = {}
        self._foresight = foresight
        self._default = INHERITED
        """Text of the backoff of all who inherit it, if that cannot be computed."""

    def settings(self, said: Mapping[str, str]) -> dict[str, object]:
        """Return the fields of `Settings` that the log says.

        A backoff that cannot be computed is none of them: then all who inherit it have one each.
        """
        text = said.get("backoff", "None")
        if text == "None" or backoff_of(text) is not None:
            return self.fields("", said)
        self._default = text
        return self.fields("", {name: one for name, one in said.items() if name != "backoff"})

    def fields(self, path: str, policy: Mapping[str, str]) -> dict[str, object]:
        """Return the fields of the child at `path` that `policy` says, as an entry takes them."""
        return {
            name: self._backoff(path, text) if name == "backoff" else value_of(text) for name, text in policy.items()
        }

    def _backoff(self, path: str, text: str) -> BackoffChoice:
        whose, text = ("", self._default) if text == INHERITED else (path, text)
        if text == INHERITED:
            return INHERIT
        if text == "None":
            return None
        if (computed := backoff_of(text)) is not None:
            return computed
        self.not_computed[whose] = None
        return LoggedBackoff(self._foresight, path, text)


class LoggedBackoff(Backoff):
    """Decides about one child what the log says that was decided, but for its rules if they are known.

    Attributes:
        not_said: names of the fields that the log does not say.
    """

    __slots__ = ("_foresight", "_path", "_text", "not_said")
    not_said: tuple[str, ...]
    _foresight: Foresight
    _path: str
    _text: str

    def __init__(self, foresight: Foresight, path: str, text: str) -> None:
        """Decide about the child at `path`; `text` is what the log says of the policy."""
        said: dict[str, Any] = said_of(text)
        super().__init__(**{name: value for name, value in said.items() if name in _USED})
        not_said = tuple(field.name for field in fields(Backoff) if field.name not in said)
        for name, value in (("_path", path), ("_foresight", foresight), ("_text", text), ("not_said", not_said)):
            object.__setattr__(self, name, value)  # a policy cannot be changed

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __str__(self) -> str:
        """Return what is known of it."""
        return self._text

    def action_for(self, failure: Failure | None) -> Action | None:
        """Return what its rules say; if they are not known, or say nothing, what comes to what the log says."""
        if "rules" not in self.not_said and (said := Backoff.action_for(self, failure)) in ("park", "escalate"):
            return said
        match self._decided():
            case GiveUp(Cause.ESCALATED):
                return "escalate"
            case Park(why) if why.startswith(_BY_RULE):
                return "park"
            case _:
                return None

    def verdict(self, streak: Streak, failure: Failure | None, now: float, draw: float) -> Verdict:
        """Return the delay that the log tells, or that it gives up; raise what it says that was raised."""
        match self._decided():
            case Again(delay):
                return Verdict(False, delay + (self._foresight.world.now - now))
            case Park(why) if why.startswith(POLICY_RAISED):
                name, _, message = why.removeprefix(POLICY_RAISED).partition(": ")
                raise type(name, (Exception,), {})(message)
            case Park():
                return Verdict(True, 0.0)
            case _:
                return Verdict(False, 0.0)  # the window says what follows

    def _decided(self) -> Decision:
        """Return what the log says next."""
        event = self._foresight.coming()
        data = event.data if event is not None and event.path == self._path else None
        match data:
            case AgentCrashed(report=report) if report.decision == "restart":
                return Again(report.delay_s or 0.0, 0.0)
            case (
                AgentRestarting(RestartCause.FAILURE, delay)
                | SupervisorRestarting(delay=delay)
                | PolicyChanged(delay=float(delay))
            ):
                return Again(delay, 0.0)
            case AgentCrashed(report=report) if report.decision == "park":
                return self._parked()
            case AgentParked():
                return self._parked()
            case _:
                return self._given_up(is_told=data is not None)

    def _parked(self) -> Park:
        parked = (one.data for one in self._foresight.following() if one.path == self._path)
        return next((Park(data.why) for data in parked if isinstance(data, AgentParked)), Park(""))

    def _given_up(self, *, is_told: bool) -> Park | GiveUp:
        """Return why its supervisor ends, if that is because of the child; of a supervisor nothing tells that it parks.

        `is_told`: that it is so is known, even if the log ends before.
        """
        parent = self._path.rpartition("/")[0]
        for event in self._foresight.following():
            match event.data:
                case SupervisorTerminated(reason, offender) if event.path == parent:
                    return GiveUp(Cause(reason.cause)) if offender == self._path and reason != SHUTDOWN else Park("")
                case SupervisorStarted() if event.path == self._path:
                    return Park("")
                case _:
                    pass
        found = (_ending(parent, event) for event in self._foresight.decision())
        cause = next((one for one in found if one is not None), Cause.ESCALATED if is_told else None)
        return GiveUp(cause) if cause is not None else Park("")


def _ending(parent: str, event: Event) -> Cause | None:
    """Return why the supervisor at `parent` gives up if `event` tells that it begins to; that of others comes later."""
    match event.data:
        case OrchestratorStopping(cause) if not parent and cause in (Cause.MAX_RESTARTS, Cause.ESCALATED):
            return Cause(cause)
        case AgentStopping(StopCause.SUPERVISOR) if event.path.startswith(f"{parent}/"):
            return Cause.ESCALATED
        case _:
            return None
