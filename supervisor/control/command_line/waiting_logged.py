"""Log lines that say what a tree waits for while `run` starts or stops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from loguru import logger

from orchestree.strategies.errors import NotFound

from .waiting_words import Waited, waiting_text

if TYPE_CHECKING:
    from orchestree.supervisor.event_readers import EventIterator
    from orchestree.supervisor.events import Event
    from orchestree.supervisor.orchestrator import Orchestrator

FIRST_LINE_S: Final = 2.0
"""A start or stop that takes no longer says nothing."""
NEXT_LINE_S: Final = 1.0
"""After a change, for the next line to say what has changed meanwhile."""
SAME_LINE_S: Final = 5.0
"""Between a line and the next one when nothing is new."""

_CHANGES: Final = (
    *("orchestrator_started", "orchestrator_stopping", "orchestrator_stopped", "agent_waiting", "agent_queued"),
    *("agent_starting", "agent_ready", "agent_crashed", "agent_restarting", "agent_stopping", "agent_terminated"),
    *("agent_parked", "agent_wedged", "agent_unregistered"),
)
_STOPS: Final = ("orchestrator_stopping", "orchestrator_stopped")


class WaitingLog:
    """While entered: log lines about a start or a stop of `orchestrator` that takes long.

    A thread of its own reads the events. While the tree just runs it sleeps until the stop.
    """

    def __init__(self, orchestrator: Orchestrator) -> None:
        """Do nothing yet."""
        self._orchestrator = orchestrator
        self._seen = orchestrator.events.latest
        self._events = orchestrator.events.iterate(type=_CHANGES)
        self._began = time.monotonic()
        self._is_prepared = False
        self._left = False
        self._since: dict[tuple[str, str], float] = {}  # when the latest event of a type came, by path and type
        self._thread = threading.Thread(target=self._run, name="orchestree-waiting", daemon=True)

    def __enter__(self) -> Self:
        """Begin, before the start."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; does not wait."""
        self._left = True
        self._events.close()

    def _run(self) -> None:
        stop = self._follow(self._events, self._began, self._starting)
        self._events.close()
        if stop is None and not self._left:
            stop = next(self._orchestrator.events.iterate(since=self._seen, type=_STOPS), None)
        if stop is not None and stop.type == _STOPS[0]:
            events = self._orchestrator.events.iterate(since=stop.seq, type=_CHANGES)
            self._follow(events, stop.monotonic, self._stopping)

    def _follow(self, events: EventIterator, began: float, waited: Callable[[], list[Waited] | None]) -> Event | None:
        """Log what `waited` returns, until that is None; return the event that put an end to it, if one did."""
        lines = _Lines(began)
        while True:
            event = events.next_within(max(0.0, lines.due - time.monotonic()))
            if event is not None:
                self._note(event)
                if event.type in _STOPS:
                    return event
                lines.hasten()
            elif time.monotonic() < lines.due:
                return None  # there will be no more events
            else:
                agents = waited()
                if agents is None or self._left:
                    return None
                lines.say(agents)

    def _note(self, event: Event) -> None:
        self._seen = event.seq
        self._since[event.path, event.type] = event.monotonic
        self._is_prepared = self._is_prepared or event.type == "orchestrator_started"

    def _starting(self) -> list[Waited] | None:
        """Return the agents that have not come up yet; None when none of them is on its way."""
        if not self._is_prepared:
            return [Waited("the tree", "being prepared", time.monotonic() - self._began)]
        agents = list(self._agents({"starting", "waiting", "queued", "backoff"}))
        return agents if any(agent.state == "starting" for agent in agents) else None

    def _stopping(self) -> list[Waited]:
        """Return the agents that are not down yet, in the order in which they end."""
        return list(self._agents({"stopping", "starting", "ready"}))[::-1]

    def _agents(self, states: set[str], path: str = "") -> Iterator[Waited]:
        """Yield the agents below `path` that are in one of `states`, in start order; a supervisor that waits as one."""
        with suppress(NotFound):  # a supervisor that has just left the tree
            for status in self._orchestrator.which_children(path):
                if status.kind == "supervisor" and status.state not in {"waiting", "backoff"}:
                    yield from self._agents(states, status.path)
                elif status.state in states:
                    since = self._since.get((status.path, f"agent_{status.state}"))
                    seconds = time.monotonic() - since if since is not None else None
                    in_s = status.next_restart_s if status.state == "backoff" else seconds
                    yield Waited(status.path, status.state.value, in_s, status.waiting_for)


class _Lines:
    """Decides when a line is due, and writes it.

    Attributes:
        due: when to look at the tree, monotonic seconds.
    """

    def __init__(self, began: float) -> None:
        """`began`: the start or stop, monotonic seconds."""
        self.due = began + FIRST_LINE_S
        self._said: list[Waited] = []
        self._said_at: float | None = None

    def hasten(self) -> None:
        """Look earlier: something has happened."""
        if self._said_at is not None:
            self.due = min(self.due, time.monotonic() + NEXT_LINE_S)

    def say(self, agents: list[Waited]) -> None:
        """Write a line if it says something else than the one before, or that one is old."""
        now, bare = time.monotonic(), [replace(agent, seconds=None) for agent in agents]
        if self._said_at is None or bare != self._said or now >= self._said_at + SAME_LINE_S:
            if agents:
                logger.info("{}", waiting_text(agents))
            self._said, self._said_at = bare, now
        self.due = self._said_at + SAME_LINE_S
