"""Counts what happens, event by event, in the supervision thread. Never raises, never waits, never asks the tree.

Readers in other threads see each record as of its latest change: whoever changes one raises its `version` last, so
that who read the version first, and the values then, looks again when it has missed something.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection
from typing import Final

from orchestree.agents.ends import NORMAL, Cause, ExitKind, ExitReason
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentParked,
    AgentReady,
    AgentRegistered,
    AgentRestarting,
    AgentTerminated,
    Event,
    EventType,
    RestartCause,
    SupervisorTerminated,
)

from .families import FAILURES, LOOP_LAG, SUPERVISOR_RESTART_DURATION

SPARE_RECORDS: Final = 1_000
"""Records that may be kept beyond twice what stands in the tree."""

_GAVE_UP: Final = frozenset({Cause.MAX_RESTARTS, Cause.ESCALATED})
_NO_FAILURES: Final = frozenset({Cause.NORMAL, Cause.IGNORE, Cause.SHUTDOWN})
_PLANNED: Final = frozenset({RestartCause.MEMORY, RestartCause.MAX_AGE})


class Histogram:
    """How often a value fell into each bucket, and the sum of all. One thread writes, any may read."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Begin with nothing; a bucket holds what is at most its bound, the last one everything above."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class AgentRecord:
    """What has happened to one agent since it was registered.

    Attributes:
        ends: by cause, those that have occurred.
        last_restart: event of the latest restart.
        registered: what it was registered as.
        runs: whether a run of it has begun and not ended.
        down_since: monotonic time of the end of the first run since it was ready; None unless it is to come back.
        version: changes, last, with anything above that a scrape shows.
    """

    __slots__ = ("down_since", "ends", "last_restart", "registered", "restarts", "runs", "starts", "version")

    def __init__(self, registered: AgentRegistered | None = None) -> None:
        """Begin with nothing."""
        self.starts = 0
        self.ends: dict[Cause, int] = {}
        self.restarts = 0
        self.last_restart: Event | None = None
        self.registered = registered
        self.runs = False
        self.down_since: float | None = None
        self.version = 0


class SupervisorRecord:
    """What has happened to one supervisor.

    Attributes:
        durations: of the restarts of the agents directly below, in seconds.
        terminations: how often it gave up.
        restarts: of its own that were decided.
        version: changes, last, with anything above.
    """

    __slots__ = ("durations", "restarts", "terminations", "version")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.durations = Histogram(SUPERVISOR_RESTART_DURATION.buckets)
        self.terminations = 0
        self.restarts = 0
        self.version = 0


class Recording:
    """The counters of one tree. `offer` and `observe_lag`: supervision thread; the attributes: any thread, to read.

    Attributes:
        agents: by path; one of which nothing is known yet may lack, one that has left may still be there.
        supervisors: by path; only those to which something has happened.
        events: how many of each type, all types.
        lag: of the supervision loop, in seconds.
    """

    def __init__(self, paths: Callable[[], Collection[str]], on_trouble: Callable[[str], None]) -> None:
        """Begin with nothing.

        Args:
            paths: returns those of everything in the tree, to know which records are of no use any more.
            on_trouble: is told, once, that recording itself has failed; must not raise.
        """
        self.agents: dict[str, AgentRecord] = {}
        self.supervisors: dict[str, SupervisorRecord] = {}
        self.events = dict.fromkeys(EventType, 0)
        self.lag = Histogram(LOOP_LAG.buckets)
        self._paths = paths
        self._on_trouble = on_trouble
        self._has_failed = False
        self._most = SPARE_RECORDS
        self._actions: dict[EventType, Callable[[Event], None]] = {
            EventType.AGENT_REGISTERED: self._registered,
            EventType.AGENT_STARTING: self._starting,
            EventType.AGENT_READY: self._ready,
            EventType.AGENT_CRASHED: self._crashed,
            EventType.AGENT_RESTARTING: self._restarting,
            EventType.AGENT_TERMINATED: self._terminated,
            EventType.AGENT_PARKED: self._parked,
            EventType.AGENT_UNREGISTERED: self._unregistered,
            EventType.SUPERVISOR_STARTED: self._supervisor_started,
            EventType.SUPERVISOR_RESTARTING: self._supervisor_restarting,
            EventType.SUPERVISOR_TERMINATED: self._supervisor_terminated,
        }

    def offer(self, event: Event) -> None:
        """Count an event."""
        try:
            self.events[event.type] += 1
            action = self._actions.get(event.type)
            if action is not None:
                action(event)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                self._on_trouble(f"an event ({event.type}) could not be counted: {type(error).__name__}: {error}")

    def observe_lag(self, seconds: float) -> None:
        """Count one wake-up of the supervision loop."""
        self.lag.observe(seconds)

    def _agent(self, path: str) -> AgentRecord:
        record = self.agents.get(path)
        return self._keep(path, AgentRecord()) if record is None else record

    def _keep(self, path: str, record: AgentRecord) -> AgentRecord:
        self.agents[path] = record
        self._keep_few(path)
        return record

    def _keep_few(self, path: str) -> None:
        if len(self.agents) + len(self.supervisors) > self._most:
            self._prune(path)

    def _prune(self, path: str) -> None:
        """Drop the records of what is no longer in the tree; `path` is new and may not stand in it yet."""
        paths = {*self._paths(), path}
        # New tables: somebody may be reading the old ones.
        self.agents = {at: record for at, record in self.agents.items() if at in paths}
        self.supervisors = {at: record for at, record in self.supervisors.items() if at in paths}
        self._most = 2 * len(paths) + SPARE_RECORDS

    def _registered(self, event: Event) -> None:
        assert isinstance(event.data, AgentRegistered)
        self._keep(event.path, AgentRecord(event.data))

    def _unregistered(self, event: Event) -> None:
        self.agents.pop(event.path, None)

    def _starting(self, event: Event) -> None:
        record = self._agent(event.path)
        if record.runs:  # one that cannot be ended, and goes on beside this one
            self._ended(record, Cause.SHUTDOWN)
        record.runs = True
        record.starts += 1
        record.version += 1

    def _ready(self, event: Event) -> None:
        assert isinstance(event.data, AgentReady)
        record = self._agent(event.path)
        if record.down_since is None:
            return
        seconds, record.down_since = event.monotonic - record.down_since, None
        supervisor = self._supervisor(event.path.rpartition("/")[0])
        supervisor.durations.observe(seconds)
        supervisor.version += 1

    def _crashed(self, event: Event) -> None:
        assert isinstance(event.data, AgentCrashed)
        self._ended(self._agent(event.path), _cause_of_end(event.data.reason))

    def _restarting(self, event: Event) -> None:
        assert isinstance(event.data, AgentRestarting)
        record = self._agent(event.path)
        if record.runs:
            self._ended(record, _cause_before(event.data))
        if record.down_since is None:
            record.down_since = event.monotonic
        record.last_restart = event
        record.restarts += 1
        record.version += 1

    def _terminated(self, event: Event) -> None:
        assert isinstance(event.data, AgentTerminated)
        record = self._agent(event.path)
        if record.runs:
            self._ended(record, _cause_of_end(event.data.reason))
        record.down_since = None

    def _parked(self, event: Event) -> None:
        assert isinstance(event.data, AgentParked)
        record = self._agent(event.path)
        if record.runs:
            self._ended(record, _cause_of_end(event.data.reason or NORMAL))
        record.down_since = None

    def _ended(self, record: AgentRecord, cause: Cause) -> None:
        record.runs = False
        record.ends[cause] = record.ends.get(cause, 0) + 1
        record.version += 1

    def _supervisor(self, path: str) -> SupervisorRecord:
        record = self.supervisors.get(path)
        if record is None:
            record = self.supervisors[path] = SupervisorRecord()
            self._keep_few(path)
        return record

    def _supervisor_started(self, event: Event) -> None:
        if event.incarnation == 1:  # another one may have had the path before
            self.supervisors.pop(event.path, None)

    def _supervisor_restarting(self, event: Event) -> None:
        record = self._supervisor(event.path)
        record.restarts += 1
        record.version += 1

    def _supervisor_terminated(self, event: Event) -> None:
        assert isinstance(event.data, SupervisorTerminated)
        if event.data.reason.cause in _GAVE_UP:
            record = self._supervisor(event.path)
            record.terminations += 1
            record.version += 1


def _cause_of_end(reason: ExitReason) -> Cause:
    """Return what an end counts as. Kind and cause need not go together: `classify_exit` may say anything."""
    if reason.kind is ExitKind.ABNORMAL:
        return reason.cause if reason.cause in FAILURES else Cause.EXCEPTION
    return reason.cause if reason.cause in _NO_FAILURES else Cause(reason.kind.value)


def _cause_before(restart: AgentRestarting) -> Cause:
    """Return what ended the run before a restart that follows no crash."""
    if restart.cause is RestartCause.FAILURE:
        return _cause_of_end(restart.reason or NORMAL)
    return Cause.NORMAL if restart.cause in _PLANNED else Cause.SHUTDOWN
