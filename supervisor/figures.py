"""What metrics read of a running tree: the tree's side of `metrics.source.Source`. Decides and changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestree.agents.executor import RunId
from orchestree.agents.process.usage import usage_of
from orchestree.strategies.errors import NotRunning

from .cpu_book import EndedCpu
from .driver import Driver
from .spec import ChildEntry
from .status import Snapshot, Status
from .tree import AgentNode, SupervisorNode

if TYPE_CHECKING:
    from orchestree.metrics.source import Usage, Whole

    from .orchestrator import Orchestrator

SPARE_ACCOUNTS: Final = 1_000
"""Agents that may have left the tree before those are looked for that nobody will ask about again."""


class TreeFigures:
    """See `Source`, which this implements. Any thread; nothing waits for supervision, or raises.

    Nothing is there before the tree is prepared, and what it had at last when it has ended.

    Attributes:
        run: id of the run of the orchestrator.
    """

    def __init__(self, orchestrator: Orchestrator) -> None:
        """Read the tree of `orchestrator`, whose services must be there already, once it has one."""
        self.run = orchestrator.services.run
        self._orchestrator = orchestrator
        self._accounts: dict[str, _Account] = {}
        self._lock = threading.Lock()  # over the accounts, from the look at the tree on: none is made of older news

    def name(self) -> str:
        """See `Source`."""
        return self._orchestrator.services.name

    def now(self) -> float:
        """See `Source`."""
        return self._orchestrator.clock.monotonic()

    def snapshots(self) -> Mapping[str, Snapshot]:
        """See `Source`."""
        driver = self._driver
        return driver.snapshots.copy() if driver is not None else {}

    def status(self, path: str) -> Status | None:
        """See `Source`."""
        driver = self._driver
        snapshot = driver.snapshots.get(path) if driver is not None else None
        return snapshot.status if snapshot is not None else None

    def entry(self, path: str) -> ChildEntry | None:
        """See `Source`; also of a temporary child that has ended, as long as its supervisor remembers it."""
        driver = self._driver
        node = driver.world.find(path) if driver is not None else None
        return node.entry if isinstance(node, AgentNode | SupervisorNode) else None

    def restarts_in_window(self, path: str, now: float) -> int:
        """See `Source`."""
        driver = self._driver
        node = driver.world.nodes.get(path) if driver is not None else None
        return node.window.count(now) if isinstance(node, SupervisorNode) else 0

    def last_beat(self, path: str, incarnation: int) -> float | None:
        """See `Source`."""
        driver = self._driver
        return driver.last_beat(RunId(path, incarnation)) if driver is not None else None

    def usage(self, path: str) -> Usage | None:
        """See `Source`; the processor time never falls. Takes about 20 µs where there is a process."""
        driver = self._driver
        if driver is None:
            return None
        with self._lock:
            snapshot = driver.snapshots.get(path)
            if snapshot is None or snapshot.status.executor != "process":
                self._accounts.pop(path, None)
                return None
            ended = driver.cpu.of(path)  # after the snapshot: of what that shows as running the end may be known by now
            return self._account(path, snapshot.status, ended, driver).look(snapshot.status, ended)

    def whole(self) -> Whole:
        """See `Source`."""
        from orchestree.metrics.source import Whole

        orchestrator, driver = self._orchestrator, self._driver
        return Whole(
            max_workers=orchestrator.config.max_workers,
            abandoned=len(driver.world.abandoned) if driver is not None else 0,
            events_dropped=orchestrator.events.dropped,
            history_lag_s=orchestrator.services.history_lag_s,
        )

    def probe(self) -> None:
        """See `Source`."""
        if (driver := self._driver) is not None:
            driver.probe()

    @property
    def _driver(self) -> Driver | None:
        try:
            return self._orchestrator.driver
        except NotRunning:
            return None

    def _account(self, path: str, status: Status, ended: EndedCpu, driver: Driver) -> _Account:
        account = self._accounts.get(path)
        if account is None or account.is_of_another(status, ended):
            account = self._accounts[path] = _Account()
        if len(self._accounts) > len(driver.snapshots) + SPARE_ACCOUNTS:
            known = driver.snapshots.copy()
            self._accounts = {path: account for path, account in self._accounts.items() if path in known}
        return account


@dataclass(eq=False, slots=True)
class _Account:
    """The processor time of one agent.

    Attributes:
        incarnation: the latest whose process was looked at; 0 if none was.
        pid: of that process.
        born: what tells it from another that has got its pid since, see `ProcessUsage`; None until it was found.
        live_s: what that process had used when it was found last.
        known_s: of that and all that have ended, at the latest look.
        counted_s: what was told at the latest look.
        ended: the latest incarnation whose end was in that; 0 if none was.
    """

    incarnation: int = 0
    pid: int | None = None
    born: int | None = None
    live_s: float = 0.0
    known_s: float = 0.0
    counted_s: float = 0.0
    ended: int = 0

    def is_of_another(self, status: Status, ended: EndedCpu) -> bool:
        """Return whether another agent has the path now."""
        if ended.incarnation < self.ended:
            return True
        if status.incarnation == self.incarnation:
            return status.pid not in (None, self.pid)
        return status.incarnation < self.incarnation

    def look(self, status: Status, ended: EndedCpu) -> Usage:
        """Return what the agent has used; the exact figure of a run that has ended takes the place of what was seen."""
        from orchestree.metrics.source import Usage

        is_running = status.pid is not None and status.incarnation > ended.incarnation
        memory = self._find(status.incarnation, status.pid) if is_running and status.pid is not None else 0
        known_s = ended.seconds + (self.live_s if self.incarnation > ended.incarnation else 0.0)
        # Less than before only if a fork server was lost, and with it the figures of its runs: count on from here.
        self.counted_s += max(0.0, known_s - self.known_s)
        self.known_s, self.ended = known_s, ended.incarnation
        return Usage(cpu_s=self.counted_s, memory_bytes=memory or None)

    def _find(self, incarnation: int, pid: int) -> int:
        """Note what the process of an incarnation has used, and return its resident bytes; 0 if it has ended."""
        if incarnation != self.incarnation:
            self.incarnation, self.pid, self.born, self.live_s = incarnation, pid, None, 0.0
        used = usage_of(pid)
        if used is None or self.born not in (None, used.born):
            return 0
        self.born, self.live_s = used.born, max(self.live_s, used.cpu_s)
        return used.memory
