"""What a log says of the decision that is being made: who is started next, and after which delay. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from orchestree.supervisor.events import (
    AgentCrashed,
    AgentRestarting,
    AgentStarting,
    AgentWaiting,
    Event,
    EventType,
    RestartCause,
    ServiceFailed,
    SupervisorRestarting,
)
from orchestree.supervisor.inputs import Emit
from orchestree.supervisor.streaks import current_streak
from orchestree.supervisor.world import World

from .inputs_of_core import REPORTED, as_reported

_ENDS: Final = frozenset(
    {EventType.AGENT_CRASHED, EventType.AGENT_RESTARTING, EventType.AGENT_PARKED}
    | {EventType.AGENT_TERMINATED, EventType.SUPERVISOR_TERMINATED}
)
_ACTIVITY: Final = frozenset(
    {EventType.AGENT_QUEUED, EventType.AGENT_STARTING, EventType.AGENT_RESTARTING, EventType.ALL_AGENTS_TERMINATED}
)


class Foresight:
    """Looks ahead in the log, from the event that is being explained.

    Attributes:
        place: of that event in the log.
        world: of the core that decides.
        has_choices: whether ``choose_next`` has picked somebody.
    """

    world: World

    def __init__(self, steps: Sequence[Event]) -> None:
        """Look at `steps`."""
        self.place = 0
        self.has_choices = any(isinstance(step.data, AgentStarting) and step.data.chosen for step in steps)
        self._steps = steps

    def choose_next(self, queued: tuple[str, ...]) -> str | None:
        """Return whom ``choose_next`` has picked."""
        match self.coming():
            case Event(data=AgentStarting(chosen=True), path=path) | Event(data=AgentWaiting(), path=path):
                return path
            case _:
                return None

    def draw(self) -> float:
        """Return what must have been drawn for the delay that comes next; 0.0 if it does not say."""
        event = self.coming()
        delay, report = None, None
        match event:
            case Event(data=AgentCrashed(report=crash)):
                delay, report = crash.delay_s, as_reported(crash)
            case Event(data=AgentRestarting(RestartCause.FAILURE, seconds)):
                delay = seconds
            case Event(data=SupervisorRestarting(delay=seconds)):
                delay = seconds
        node = self.world.nodes.get(event.path) if event is not None else None
        if delay is None or node is None or node.backoff is None or not node.backoff.jitter:
            return 0.0
        now = self.world.now
        try:
            longest = node.backoff.verdict(current_streak(node, now).failed(now), report, now, 0.0).delay
        except Exception:  # a policy of the user's: the core asks it next, and acts on that
            return 0.0
        drawn = (1.0 - delay / longest) / node.backoff.jitter if longest else 0.0
        return drawn if 0.0 <= drawn <= 1.0 else 0.0

    def ending(self) -> Iterator[str]:
        """Yield the paths of those of whose ends the log tells in the decision that begins here."""
        return (event.path for event in self.decision() if event.type in _ENDS)

    def decision(self) -> Iterator[Event]:
        """Yield the events that may belong to the decision that begins here: those of the same moment."""
        begins = self._steps[self.place]
        for event in self.following():
            is_next = event is not begins and begins.type in REPORTED and event.type in REPORTED
            if event.monotonic != begins.monotonic or is_next:
                return
            yield event

    def was_empty(self) -> bool:
        """Return whether the log has told that nothing runs, and not since then that something does."""
        before = (self._steps[place].type for place in range(self.place - 1, -1, -1))
        return next((one for one in before if one in _ACTIVITY), None) is EventType.ALL_AGENTS_TERMINATED

    def following(self) -> Iterator[Event]:
        """Yield the rest of the log, from the event that is being explained."""
        return (self._steps[place] for place in range(self.place, len(self._steps)))

    def said(self) -> int:
        """Return how many events the core has said in the decision that it is making."""
        return sum(1 for effect in self.world.out if isinstance(effect, Emit) and effect.kind is not ServiceFailed)

    def coming(self) -> Event | None:
        """Return the event that the core is about to decide on."""
        place = self.place + self.said()
        return self._steps[place] if place < len(self._steps) else None

    @property
    def now(self) -> float:
        """When the event came that is being explained, monotonic seconds."""
        return self._steps[self.place].monotonic

    def coming_now(self) -> Event | None:
        """Return the event that the core is about to decide on, if the log has it at the same moment."""
        event = self.coming()
        return event if event is not None and event.monotonic == self.now else None
