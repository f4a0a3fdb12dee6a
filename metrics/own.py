"""Totals of the agents' own metrics: they go on over restarts, and are read at a scrape.

The lock is held only while one batch is added or one metric of one agent is copied: the supervision thread may be
the next who needs it. It is reentrant because a finalizer of a user's may count in the middle of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from orchestree.agents.metric_data import Definition, LabelValues, MetricBatch, MetricsOfRun, Observed
from orchestree.agents.run_id import RunId
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.status import Snapshot

from .own_text import bound_texts, head, lines
from .source import Source

GRACE_S: Final = 60.0
"""How long an agent may count before the tree shows it for the first time; snapshots follow decisions."""
SPARE: Final = 1_000
"""Paths that may be kept beyond twice those of the tree while nobody scrapes."""

_LIVE: Final = frozenset({AgentState.STARTING, AgentState.READY, AgentState.STOPPING, AgentState.WEDGED})

Value = float | Observed


@dataclass(slots=True)
class Totals:
    """One metric of one agent.

    Attributes:
        text: the lines of its samples; None if they are to be made again.
        changes: how often `values` was changed.
    """

    values: dict[LabelValues, Value] = field(default_factory=dict)
    text: bytes | None = None
    changes: int = 0


@dataclass(slots=True)
class AgentTotals:
    """All metrics of one agent.

    Attributes:
        run: the latest incarnation that counts; the gauges are its own.
        since: monotonic seconds at which it was first heard of.
        was_shown: the tree has shown the agent since then.
        shows_gauges: the run had not ended at the last look.
        followed: the metrics of `run` if it runs in this process and uses them.
        series: label sets of all metrics together.
        has_run_away: it wanted more than it may have, which was said.
        left_out: metrics that were defined otherwise before, which was said.
    """

    run: RunId
    since: float
    was_shown: bool = False
    shows_gauges: bool = False
    followed: MetricsOfRun | None = None
    series: int = 0
    has_run_away: bool = False
    left_out: set[str] = field(default_factory=set)
    metrics: dict[str, Totals] = field(default_factory=dict)


@dataclass(slots=True)
class OwnFamily:
    """A metric that agents have defined.

    Attributes:
        by: path of the agent whose definition it is.
        users: how many agents have it.
    """

    definition: Definition
    by: str
    users: int = 0


class OwnMetrics:
    """Keeps the totals of one tree. Implements `KeepMetrics`. Any thread.

    Attributes:
        series: most label sets, and most metrics, of one agent.
    """

    def __init__(self, source: Source, *, series: int, on_trouble: Callable[[str, str], None]) -> None:
        """Begin with none.

        Args:
            source: whose agents count.
            series: see the attribute.
            on_trouble: told in words what is dropped, and the path of the agent; any thread, must not block or raise.
        """
        self.series = series
        self._source = source
        self._on_trouble = on_trouble
        self._lock = threading.RLock()
        self._rendering = threading.Lock()
        self._families: dict[str, OwnFamily] = {}
        self._agents: dict[str, AgentTotals] = {}
        self._most_agents = SPARE

    # From runs:

    def follow(self, run: RunId, metrics: MetricsOfRun) -> None:
        """Take from `metrics` at each scrape, until the run ends or a later one counts."""
        with self._lock:
            if self._is_superseded(run):
                metrics.close()
                return
            agent = self._agent(run)
            agent.followed = metrics

    def leave(self, run: RunId) -> None:
        """Take the rest, as the run has ended."""
        troubles: list[str] = []
        with self._lock:
            agent = self._agents.get(run.path)
            if agent is None or agent.run != run or agent.followed is None:
                return
            metrics, agent.followed = agent.followed, None
            metrics.close()
            batch = metrics.take()
            if batch is not None and not self._is_superseded(run):
                troubles = self._add(agent, batch)
        self._tell(troubles, run.path)

    def apply(self, run: RunId, batch: MetricBatch) -> None:
        """Add what a run in another process has sent."""
        with self._lock:
            if self._is_superseded(run):
                return
            troubles = self._add(self._agent(run), batch)
        self._tell(troubles, run.path)

    # From scrapes:

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each metric, in the order in which they came up; agents come in the order of the tree."""
        samples = self._shown()
        for name, family in list(self._families.items()):
            yield _family(family.definition, ((path, self._copy(one)) for path, one in samples.get(name, ())))

    def text(self, *, open_metrics: bool) -> list[bytes]:
        """Return the text of what `collect` yields, in parts, none of them empty."""
        parts = []
        with self._rendering:  # who had to wait finds most of it made
            samples = self._shown()
            for name, family in list(self._families.items()):
                parts.append(head(family.definition, open_metrics=open_metrics))
                parts += filter(None, (self._text(family.definition, *one) for one in samples.get(name, ())))
        return parts

    def _shown(self) -> dict[str, list[tuple[str, Totals]]]:
        """Bring the totals up to date; return by name of the metric who has it, by path."""
        snapshots = self._source.snapshots()
        self._look(snapshots)
        shown: dict[str, list[tuple[str, Totals]]] = {}
        for path in snapshots:
            agent = self._agents.get(path)
            if agent is not None:
                for name, totals in list(agent.metrics.items()):
                    family = self._families.get(name)
                    if family is not None and (agent.shows_gauges or family.definition.type != "gauge"):
                        shown.setdefault(name, []).append((path, totals))
        return shown

    def _look(self, snapshots: Mapping[str, Snapshot]) -> None:
        now = self._source.now()
        for path, agent in list(self._agents.items()):
            with self._lock:
                troubles = self._look_at(path, agent, snapshots.get(path), now)
            self._tell(troubles, path)

    def _look_at(self, path: str, agent: AgentTotals, snapshot: Snapshot | None, now: float) -> list[str]:
        if self._agents.get(path) is not agent:
            return []
        if snapshot is None:
            if agent.was_shown or now - agent.since > GRACE_S:
                self._drop(path, agent)
            return []
        agent.was_shown = True
        incarnation = snapshot.status.incarnation
        agent.shows_gauges = incarnation == agent.run.incarnation and snapshot.status.state in _LIVE
        if agent.followed is None:
            return []
        if incarnation > agent.run.incarnation:
            agent.followed.close()
            agent.followed = None
            return []
        batch = agent.followed.take()
        return self._add(agent, batch) if batch is not None else []

    def _copy(self, totals: Totals) -> dict[LabelValues, Value]:
        with self._lock:
            return dict(totals.values)

    def _text(self, definition: Definition, path: str, totals: Totals) -> bytes:
        text = totals.text
        if text is None:
            with self._lock:
                changes, values = totals.changes, dict(totals.values)
            text = lines(definition, path, values)
            with self._lock:
                if totals.changes == changes:
                    totals.text = text
        return text

    # With the lock:

    def _is_superseded(self, run: RunId) -> bool:
        status = self._source.status(run.path)
        return status is not None and status.incarnation > run.incarnation

    def _agent(self, run: RunId) -> AgentTotals:
        """Return the totals of an agent, of which `run` counts from now on."""
        agent = self._agents.get(run.path)
        if agent is None:
            if len(self._agents) >= self._most_agents:
                self._prune()
            agent = self._agents[run.path] = AgentTotals(run, self._source.now())
        elif agent.run != run:
            self._begin(agent, run)
        return agent

    def _begin(self, agent: AgentTotals, run: RunId) -> None:
        """Forget what belonged to the incarnation before."""
        agent.run = run
        if agent.followed is not None:
            agent.followed.close()
            agent.followed = None
        for name, totals in agent.metrics.items():
            if self._families[name].definition.type == "gauge" and totals.values:
                agent.series -= len(totals.values)
                totals.values.clear()
                _touch(totals)

    def _add(self, agent: AgentTotals, batch: MetricBatch) -> list[str]:
        """Add a batch of the run that counts. Return what has to be said."""
        troubles = []
        over_limit = batch.over_limit
        for definition in batch.definitions:
            troubles += self._define(agent, definition)
            if definition.name not in agent.metrics and definition.name not in agent.left_out:
                over_limit = over_limit or definition.name
        for changed in (batch.numbers, batch.observed):
            for name, values in changed.items():
                totals = agent.metrics.get(name)
                if totals is not None and name not in agent.left_out and not self._add_to(agent, name, totals, values):
                    over_limit = over_limit or name
        if over_limit and not agent.has_run_away:
            agent.has_run_away = True
            what = f"has run away: the agent may have {self.series} label sets of all its metrics (metrics_series)"
            troubles.append(f"its metric {over_limit!r} {what}, what is beyond them is dropped")
        return troubles

    def _define(self, agent: AgentTotals, definition: Definition) -> list[str]:
        name = definition.name
        family = self._families.get(name)
        if family is not None and family.definition != definition:
            if name in agent.left_out:
                return []
            agent.left_out.add(name)
            return [f"its {definition} is left out: {family.by} has first defined it as the {family.definition}"]
        agent.left_out.discard(name)
        if name not in agent.metrics and len(agent.metrics) < self.series:
            if family is None:
                family = self._families[name] = OwnFamily(definition, agent.run.path)
            family.users += 1
            agent.metrics[name] = Totals()
        return []

    def _add_to(self, agent: AgentTotals, name: str, totals: Totals, values: Mapping[LabelValues, Value]) -> bool:
        """Return whether all of them had room."""
        is_gauge = self._families[name].definition.type == "gauge"
        had_room = True
        for labels, value in values.items():
            old = totals.values.get(labels)
            if old is None:
                if agent.series >= self.series:
                    had_room = False
                    continue
                agent.series += 1
            totals.values[labels] = value if old is None or is_gauge else _sum(old, value)
        _touch(totals)
        return had_room

    def _prune(self) -> None:
        """Drop what a scrape would drop, as nobody seems to scrape."""
        snapshots, now = self._source.snapshots(), self._source.now()
        for path, agent in list(self._agents.items()):
            if path in snapshots:
                agent.was_shown = True
            elif agent.was_shown or now - agent.since > GRACE_S:
                self._drop(path, agent)
        self._most_agents = 2 * max(len(snapshots), len(self._agents)) + SPARE

    def _drop(self, path: str, agent: AgentTotals) -> None:
        del self._agents[path]
        if agent.followed is not None:
            agent.followed.close()
        for name in agent.metrics:
            family = self._families[name]
            family.users -= 1
            if not family.users:
                del self._families[name]

    def _tell(self, troubles: list[str], path: str) -> None:
        """Say what is dropped. Without the lock."""
        for text in troubles:
            self._on_trouble(text, path)


def _touch(totals: Totals) -> None:
    totals.text = None
    totals.changes += 1


def _sum(old: Value, new: Value) -> Value:
    if isinstance(old, Observed) and isinstance(new, Observed):
        counts = tuple(one + other for one, other in zip(old.counts, new.counts, strict=True))
        return Observed(counts, old.total + new.total)
    assert not isinstance(old, Observed)
    assert not isinstance(new, Observed)
    return old + new


def _family(definition: Definition, samples: Iterable[tuple[str, dict[LabelValues, Value]]]) -> Metric:
    name, help, labels = definition.name, definition.help, ("agent", *definition.labels)
    if definition.type == "histogram":
        histogram = HistogramMetricFamily(name, help, labels=labels)
        bounds = bound_texts(definition)
        for path, values in samples:
            for key, value in values.items():
                assert isinstance(value, Observed)
                buckets = list(zip(bounds, accumulate(value.counts), strict=True))
                histogram.add_metric((path, *key), buckets, value.total)
        return histogram
    kind = CounterMetricFamily if definition.type == "counter" else GaugeMetricFamily
    family = kind(name, help, labels=labels)
    for path, values in samples:
        for key, value in values.items():
            assert not isinstance(value, Observed)
            family.add_metric((path, *key), value)
    return family
