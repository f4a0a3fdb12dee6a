"""The fixed families as a plain collector of `prometheus_client`: for ``registry=``, and the reference for the page.

It does nothing to be fast: two seconds for 10,000 agents. What Prometheus scrapes of us comes from `text.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from orchestree.supervisor.events import EventType
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.status import Snapshot, Status

from . import families
from .families import CAUSES, FAMILIES, STATES, SUPERVISOR_STATES, Family
from .readings import agent_info, build_info, exemplar_of, restarts_limit, shown
from .recording import AgentRecord, Histogram, Recording, SupervisorRecord
from .source import Source


class TreeCollector:
    """The metrics of one tree, its agents' own included. Any thread."""

    def __init__(self, source: Source, recording: Recording, own: Callable[[], Iterable[Metric]]) -> None:
        """Collect from `source` and `recording`, then what `own` returns."""
        self._source = source
        self._recording = recording
        self._own = own

    def describe(self) -> Iterator[Metric]:
        """Yield the fixed families without samples: a registry may have each only once."""
        yield from Sheet().metrics()

    def collect(self) -> Iterator[Metric]:
        """Yield all families, as they are now."""
        self._source.probe()
        yield from self._fixed()
        yield from self._own()

    def _fixed(self) -> Iterator[Metric]:
        everything, now = self._source.snapshots(), self._source.now()
        snapshots = shown(everything, now)
        sheet = Sheet()
        for snapshot in snapshots.values():
            if snapshot.status.kind == "agent":
                self._fill_agent(sheet, snapshot.at(now), now)
            else:
                self._fill_supervisor(sheet, snapshot.status, now)
        self._fill_whole(sheet, snapshots)
        return sheet.metrics()

    def _fill_agent(self, sheet: Sheet, status: Status, now: float) -> None:
        path = status.path
        record = self._recording.agents.get(path) or AgentRecord()
        for state in STATES:
            sheet.gauge(families.AGENT_STATE, status.state is state, path, state.value)
        sheet.gauge(families.AGENT_INFO, 1, *agent_info(self._source, status, record).values())
        sheet.gauge(families.AGENT_UP, status.state is AgentState.READY, path)
        sheet.gauge(families.AGENT_READY, status.uptime_s or 0, path)
        sheet.counter(families.AGENT_STARTS, record.starts, path)
        for cause in CAUSES:
            sheet.counter(families.AGENT_ENDS, record.ends.get(cause, 0), path, cause.value)
        sheet.counter(families.AGENT_RESTARTS, record.restarts, path, exemplar=_exemplar(record))
        sheet.gauge(families.AGENT_STREAK, status.streak, path)
        sheet.gauge(families.AGENT_NEXT_RESTART, status.next_restart_s or 0, path)
        if status.state is AgentState.READY:
            beat = self._source.last_beat(path, status.incarnation)
            if beat is not None:
                sheet.gauge(families.AGENT_BEAT_AGE, max(0.0, now - beat), path)
        if status.executor == "process" and (usage := self._source.usage(path)) is not None:
            sheet.counter(families.AGENT_CPU, usage.cpu_s, path)
            if usage.memory_bytes is not None:
                sheet.gauge(families.AGENT_MEMORY, usage.memory_bytes, path)

    def _fill_supervisor(self, sheet: Sheet, status: Status, now: float) -> None:
        path = status.path
        record = self._recording.supervisors.get(path) or SupervisorRecord()
        sheet.histogram(families.SUPERVISOR_RESTART_DURATION, record.durations, path)
        sheet.gauge(families.SUPERVISOR_WINDOW, self._source.restarts_in_window(path, now), path)
        sheet.gauge(families.SUPERVISOR_LIMIT, restarts_limit(self._source, path), path)
        sheet.counter(families.SUPERVISOR_TERMINATIONS, record.terminations, path)
        for state in SUPERVISOR_STATES:
            sheet.gauge(families.SUPERVISOR_STATE, status.state is state, path, state.value)
        sheet.counter(families.SUPERVISOR_RESTARTS, record.restarts, path)

    def _fill_whole(self, sheet: Sheet, snapshots: Mapping[str, Snapshot]) -> None:
        statuses = [snapshot.status for snapshot in snapshots.values()]
        counts = Counter(status.state for status in statuses if status.kind == "agent")
        whole, events = self._source.whole(), self._recording.events
        for state in STATES:
            sheet.gauge(families.AGENTS, counts[state], state.value)
        sheet.gauge(families.WORKERS_LIMIT, math.inf if whole.max_workers is None else whole.max_workers)
        sheet.gauge(families.QUEUE_LENGTH, counts[AgentState.QUEUED])
        sheet.gauge(families.PARKED, counts[AgentState.PARKED])
        sheet.gauge(families.WEDGED_THREADS, counts[AgentState.WEDGED] + whole.abandoned)
        for type, count in events.items():
            sheet.counter(families.EVENTS, count, type.value)
        sheet.counter(families.HANDLER_ERRORS, events[EventType.HANDLER_FAILED])
        sheet.counter(families.EVENTS_DROPPED, whole.events_dropped)
        sheet.gauge(families.HISTORY_LAG, whole.history_lag_s)
        sheet.histogram(families.LOOP_LAG, self._recording.lag)
        sheet.gauge(families.BUILD_INFO, 1, *build_info(self._source).values())


class Sheet:
    """All fixed families, to be filled. Label values come in the order in which the family names the labels."""

    def __init__(self) -> None:
        """Make them, empty."""
        of_kind = {kind: [one for one in FAMILIES if one.kind == kind] for kind in ("gauge", "counter", "histogram")}
        self._gauges = {one: GaugeMetricFamily(one.name, one.help, labels=one.labels) for one in of_kind["gauge"]}
        self._counters = {one: CounterMetricFamily(one.name, one.help, labels=one.labels) for one in of_kind["counter"]}
        self._histograms = {
            one: HistogramMetricFamily(one.name, one.help, labels=one.labels) for one in of_kind["histogram"]
        }

    def gauge(self, family: Family, value: float, *labels: str) -> None:
        """Add a sample."""
        self._gauges[family].add_metric(labels, value)

    def counter(self, family: Family, value: float, *labels: str, exemplar: Exemplar | None = None) -> None:
        """Add a sample."""
        self._counters[family].add_metric(labels, value, exemplar=exemplar)

    def histogram(self, family: Family, observed: Histogram, *labels: str) -> None:
        """Add the samples of a histogram."""
        bounds = [*map(floatToGoString, family.buckets), "+Inf"]
        buckets = list(zip(bounds, accumulate(observed.counts), strict=True))
        self._histograms[family].add_metric(labels, buckets, observed.sum)

    def metrics(self) -> Iterator[Metric]:
        """Yield the families, in the order of the table."""
        every: dict[Family, Metric] = {**self._gauges, **self._counters, **self._histograms}
        for family in FAMILIES:
            yield every[family]


def _exemplar(record: AgentRecord) -> Exemplar | None:
    event, labels = record.last_restart, exemplar_of(record)
    return None if event is None or labels is None else Exemplar(labels, 1, event.time)
