"""What a tree waits for while it starts or stops, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .human import duration

MOST_NAMED: Final = 10
MOVING: Final = frozenset({"starting", "stopping"})
"""States in which agents are on their way themselves; the others wait for such ones, or for their turn."""


@dataclass(frozen=True, slots=True)
class Waited:
    """An agent, or a supervisor that is not up itself, that something waits for.

    Attributes:
        path: of it.
        state: an `AgentState` or its text; empty if it is not known.
        seconds: for how long it has been in it, or (``backoff``) until it starts again; None if that is not known.
        waiting_for: names of the siblings that it waits for itself.
    """

    path: str
    state: str = ""
    seconds: float | None = None
    waiting_for: tuple[str, ...] = ()


def waiting_text(agents: Iterable[Waited]) -> str:
    """Return ``waiting for db (starting, 4.2s), api (waits for db)``; of more than ten agents the rest as a number.

    Those that start or stop come first.
    """
    named = sorted(agents, key=lambda agent: agent.state not in MOVING)
    rest = len(named) - MOST_NAMED
    words = [f"{agent.path} ({_doing(agent)})" if agent.state else agent.path for agent in named[:MOST_NAMED]]
    return "waiting for " + ", ".join(words) + (f" and {rest} more" if rest > 0 else "")


def _doing(agent: Waited) -> str:
    seconds = None if agent.seconds is None else duration(agent.seconds)
    match str(agent.state):
        case "waiting" if agent.waiting_for:
            return f"waits for {', '.join(agent.waiting_for)}"
        case "queued":
            return "waits for a free worker"
        case "backoff":
            return "starts again" if seconds is None else f"starts again in {seconds}"
        case "ready":
            return "still runs"
        case state:
            return state if seconds is None else f"{state}, {seconds}"
