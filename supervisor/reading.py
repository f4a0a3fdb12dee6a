"""Everything that can be read of a tree, from any thread, without waiting for supervision. Changes nothing."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from orchestree.strategies.errors import NotFound, SpecError, did_you_mean

from .entry_fields import check_path
from .event_manager import EventManager
from .event_readers import EventFilter, EventTypes
from .events import Event, EventType
from .history import EventQuery
from .services import Services
from .spec import ChildEntry
from .states import RUNNING_STATES, AgentState
from .status import ChildCounts, Snapshot, Status, TreeNode
from .tree import Node, SupervisorNode
from .world import World

if TYPE_CHECKING:
    from orchestree.metrics.exporter import Exporter

_Handler = TypeVar("_Handler", bound=Callable[[Event], Any])


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of the whole tree.

    Attributes:
        agents: how many agents are in each state; states without any are left out.
        supervisors: the same of supervisors, the root included.
        restarts_total: decided since the start, over all that is registered.
        events: number of the latest event.
        uptime_s: seconds since the tree was prepared to start.
        max_workers: as configured.
    """

    agents: Mapping[AgentState, int]
    supervisors: Mapping[AgentState, int]
    restarts_total: int
    events: int
    uptime_s: float
    max_workers: int | None


class TreeReader:
    """Reads one tree through its snapshots. The order of children is the only thing read from the live tree."""

    def __init__(self, world: World, snapshots: Mapping[str, Snapshot] | None = None) -> None:
        """Read what `snapshots` holds; without any they are taken here, of a tree that nobody changes."""
        self._world = world
        if snapshots is None:
            snapshots = {path: Snapshot.of(node, 0.0) for path, node in world.nodes.items()}
        self._snapshots = snapshots
        self._processes: dict[str, psutil.Process] = {}
        self._began = time.monotonic()

    def status(self, path: str) -> Status:
        """Return the status of an agent or supervisor.

        Raises:
            NotFound: there is none.
        """
        check_path(path)
        status = self._status(path)
        if status is None:
            raise self._not_found(path)
        if status.pid is None:
            self._processes.pop(path, None)
            return status
        return self._with_usage(status)

    def entry(self, path: str) -> ChildEntry:
        """Return the specification of an agent or supervisor."""
        check_path(path)
        node = self._world.nodes.get(path)
        if node is None:
            raise self._not_found(path)
        return node.entry

    def children(self, path: str) -> list[Status]:
        """Return the children of a supervisor, in start order."""
        return [status for node in self._nodes(path) if (status := self._status(node.path)) is not None]

    def count(self, path: str) -> ChildCounts:
        """Count the children of a supervisor."""
        children = self.children(path)
        active = sum(status.state in RUNNING_STATES or status.state is AgentState.WEDGED for status in children)
        supervisors = sum(status.kind == "supervisor" for status in children)
        return ChildCounts(len(children), active, supervisors, len(children) - supervisors)

    def tree(self, path: str) -> TreeNode:
        """Return a supervisor (or an agent) with everything below it."""
        status = self.status(path)
        below = self._nodes(path) if status.kind == "supervisor" else []
        return TreeNode(status, tuple(self.tree(node.path) for node in below))

    def stats(self, events: int) -> Stats:
        """Return figures of the whole tree."""
        statuses = [snapshot.status for snapshot in list(self._snapshots.values())]
        return Stats(
            agents=Counter(status.state for status in statuses if status.kind == "agent"),
            supervisors=Counter(status.state for status in statuses if status.kind == "supervisor"),
            restarts_total=sum(status.restarts_total for status in statuses),
            events=events,
            uptime_s=time.monotonic() - self._began,
            max_workers=self._world.settings.max_workers,
        )

    def _not_found(self, path: str) -> NotFound:
        return NotFound(f"{path!r}: no such agent or supervisor{did_you_mean(path, list(self._snapshots))}")

    def _status(self, path: str) -> Status | None:
        snapshot = self._snapshots.get(path)
        return snapshot.at(time.monotonic()) if snapshot is not None else None

    def _nodes(self, path: str) -> list[Node]:
        self.status(path)
        node = self._world.nodes.get(path)
        if not isinstance(node, SupervisorNode):
            raise SpecError(f"{path!r} is an agent; only supervisors have children")
        return list(node.sequence)

    def _with_usage(self, status: Status) -> Status:
        process = self._processes.get(status.path)
        try:
            if process is None or process.pid != status.pid:
                if len(self._processes) > len(self._snapshots):
                    self._processes = {at: one for at, one in self._processes.items() if at in self._snapshots}
                process = self._processes[status.path] = psutil.Process(status.pid)
            cpu_percent, memory = process.cpu_percent(), process.memory_info()
        except (psutil.Error, OSError):  # it has ended, or there is no free descriptor to look with
            return status
        return replace(status, cpu_percent=cpu_percent, memory_bytes=memory.rss)


class Readable(ABC):
    """The reading half of an orchestrator. Nothing here waits; everything may be called from any thread."""

    events: EventManager
    services: Services

    @abstractmethod
    def _read(self) -> TreeReader:
        """Return what reads the tree as it is now."""

    def status(self, path: str) -> Status:
        """Return the status of the agent or supervisor at `path`. Raises `NotFound`."""
        return self._read().status(path)

    def get_childspec(self, path: str) -> ChildEntry:
        """Return the specification of what stands at `path`, as `reconfigure` left it. Raises `NotFound`.

        That of a supervisor is without its children, which have their own.
        """
        return self._read().entry(path)

    def which_children(self, path: str = "") -> list[Status]:
        """Return the children of a supervisor, in start order. Raises `NotFound`, `SpecError`."""
        return self._read().children(path)

    def count_children(self, path: str = "") -> ChildCounts:
        """Count the children of a supervisor. Raises `NotFound`, `SpecError`."""
        return self._read().count(path)

    def tree(self, path: str = "") -> TreeNode:
        """Return the subtree at `path`. Raises `NotFound`."""
        return self._read().tree(path)

    def stats(self) -> Stats:
        """Return figures of the whole tree."""
        return self._read().stats(self.events.latest)

    @property
    def metrics(self) -> Exporter:
        """What counts for Prometheus; collectors of the program may be registered in its `registry`, also before start.

        Raises `SpecError` if metrics are off.
        """
        return self.services.metrics.exporter

    def history(
        self,
        path: str | None = None,
        type: EventTypes | None = None,
        since: int | None = None,
        limit: int | None = 100,
        *,
        after: float | None = None,
        before: float | None = None,
        run: str | None = None,
    ) -> list[Event]:
        """Return events, oldest first, from memory (the latest 10,000) and the history file, without waiting.

        Args:
            path: of an agent, or of a supervisor with all below it.
            type: one event type, its name, or several.
            since: only those numbered above it, the first `limit` of them; None: the newest `limit`.
            limit: how many at most; None for all.
            after: only those at or after this time, seconds since 1970.
            before: only those before this time.
            run: only those of this run of the orchestrator, by its id.

        Raises:
            SpecError: an event type that does not exist, or a value that makes no sense.
        """
        types = EventFilter.of(type, None).types
        return self.services.history.query(EventQuery(path or "", types, since, after, before, run, limit))

    def on(self, type: EventType | str | None = None, path: str | None = None) -> Callable[[_Handler], _Handler]:
        """Return a decorator that subscribes a function to events, and leaves it as it is."""
        return self.events.on(type, path)
