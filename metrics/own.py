"""Totals of the agents' own metrics: they go on over restarts, and are read at a scrape.

Runs in other processes send batches (`apply`). Runs in this process are taken from: at each scrape, and at their end.

Whoever brings something puts it into an inbox, and whoever finds nobody else at it works that off, so the supervision
thread never waits here. Only scrapes and the ends of runs take from metrics, whose own lock a thread of a user's may
hold while it does anything at all, such as to ask for the metrics of another agent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from orchestree.agents.metric_data import Definition, LabelValues, MetricBatch, MetricsOfRun, Observed
from orchestree.agents.run_id import RunId
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.status import Snapshot

from .own_text import bound_texts, head, lines
from .readings import shown
from .source import Source

SPARE: Final = 1_000
"""Agents that may be kept beyond twice those of the tree while nobody scrapes."""
UNSHOWN: Final = SPARE // 2
"""Agents that are kept although the tree does not show them: snapshots follow decisions, so the latest may be new."""

_LIVE: Final = frozenset({AgentState.STARTING, AgentState.READY, AgentState.STOPPING, AgentState.WEDGED})

Value = float | Observed


@dataclass(slots=True)
class Totals:
    """One metric of one agent.

    Attributes:
        text: the lines of its samples, as of the latest scrape.
        has_changed: `values` are newer than `text`.
        is_shown: the latest scrape has it: it is no gauge of a run that has ended.
        is_left_out: another agent has defined the metric otherwise, which was said.
    """

    definition: Definition
    values: dict[LabelValues, Value] = field(default_factory=dict)
    text: bytes = b""
    has_changed: bool = True
    is_shown: bool = True
    is_left_out: bool = False


@dataclass(slots=True)
class AgentTotals:
    """All metrics of one agent.

    Attributes:
        run: the latest incarnation that counts; the gauges are its own.
        followed: metrics in this process that may have something to tell, oldest first; only those of `run` are open.
        series: label sets of all metrics together.
        has_run_away: it wanted more than it may have, which was said.
    """

    run: RunId
    followed: dict[MetricsOfRun, RunId] = field(default_factory=dict)
    series: int = 0
    has_run_away: bool = False
    metrics: dict[str, Totals] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OwnFamily:
    """A metric at one scrape; `samples`: who has it, by path."""

    definition: Definition
    samples: list[tuple[str, Totals]]


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
        self._inbox: deque[Callable[[], None]] = deque()
        self._troubles: deque[tuple[str, str]] = deque()
        self._scraping = threading.Lock()  # who had to wait finds most of the text made
        self._families: dict[str, OwnFamily] = {}
        self._lock = threading.Lock()
        self._agents: dict[str, AgentTotals] = {}
        self._most_agents = SPARE

    # From runs and the supervision thread:

    def follow(self, run: RunId, metrics: MetricsOfRun) -> None:
        """Take from `metrics` at each scrape, until the run ends or a later one counts."""
        self._put(partial(self._follow, run, metrics))

    def leave(self, run: RunId, metrics: MetricsOfRun) -> None:
        """Take the rest, as the run has ended."""
        metrics.close()
        with self._lock:
            self._work_off()
            self._take(run.path)
        self._settle()

    def apply(self, run: RunId, batch: MetricBatch) -> None:
        """Add what a run in another process has sent."""
        self._put(partial(self._apply, run, batch))

    def forget(self, path: str) -> None:
        """Forget what was counted under `path`."""
        self._put(partial(self._forget, path))

    def _put(self, action: Callable[[], None]) -> None:
        self._inbox.append(action)
        self._settle()

    def _settle(self) -> None:
        """Have the inbox worked off, by whoever is at it or else here, and say what is dropped. Never waits."""
        while self._inbox and self._lock.acquire(blocking=False):
            try:
                self._work_off()
            finally:
                self._lock.release()
        with suppress(IndexError):
            while True:
                self._on_trouble(*self._troubles.popleft())

    # From scrapes:

    def collect(self) -> Iterator[Metric]:
        """Yield a family for each metric, in the order in which they came up; agents come in the order of the tree."""
        with self._scraping:
            families = self._look()
        for family in families:
            yield _family(family.definition, ((path, self._copy(totals)) for path, totals in family.samples))
        self._settle()  # what came while the lock was held

    def text(self, *, open_metrics: bool) -> list[bytes]:
        """Return the text of what `collect` yields, in parts, none of them empty."""
        parts = []
        with self._scraping:
            for family in self._look():
                parts.append(head(family.definition, open_metrics=open_metrics))
                parts += filter(None, (self._text(path, totals) for path, totals in family.samples))
        self._settle()  # what came while the lock was held
        return parts

    def _text(self, path: str, totals: Totals) -> bytes:
        if totals.has_changed:
            totals.text = lines(totals.definition, path, self._copy(totals, for_text=True))
        return totals.text

    def _copy(self, totals: Totals, *, for_text: bool = False) -> dict[LabelValues, Value]:
        with self._lock:
            if for_text:
                totals.has_changed = False
            return totals.values.copy()

    # With the lock for scraping:

    def _look(self) -> list[OwnFamily]:
        """Bring the totals up to date; return what is to be shown of them."""
        snapshots = shown(self._source.snapshots(), self._source.now())
        with self._lock:
            self._work_off()
            self._prune(snapshots)
        users: dict[str, list[tuple[str, Totals]]] = {}
        for path in filter(self._agents.__contains__, snapshots):
            if snapshots[path].status.kind != "agent":  # a supervisor has the path now
                self._put(partial(self._forget, path))
                continue
            for totals in self._look_at(path, snapshots[path]):
                users.setdefault(totals.definition.name, []).append((path, totals))
        names = dict.fromkeys([*filter(users.__contains__, self._families), *users])
        self._families = {name: self._new_family(self._families.get(name), users[name]) for name in names}
        self._settle()
        return list(self._families.values())

    def _look_at(self, path: str, snapshot: Snapshot) -> list[Totals]:
        """Take what there is; return all metrics of the agent."""
        with self._lock:
            agent = self._take(path)
            if agent is None:
                return []
            run_is_live = snapshot.status.incarnation == agent.run.incarnation and snapshot.status.state in _LIVE
            metrics = list(agent.metrics.values())
        for totals in metrics:
            totals.is_shown = run_is_live or totals.definition.type != "gauge"
        return metrics

    def _new_family(self, last: OwnFamily | None, users: list[tuple[str, Totals]]) -> OwnFamily:
        """Return who has a metric: its definition stays while an agent has that, and else is the first agent's."""
        has_last = last is not None and any(totals.definition == last.definition for _, totals in users)
        definition = last.definition if last is not None and has_last else users[0][1].definition
        samples = []
        for path, totals in users:
            if totals.definition is definition or totals.definition == definition:
                totals.definition = definition  # one object for all: compared faster
                if totals.is_shown:
                    samples.append((path, totals))
            elif not totals.is_left_out:
                totals.is_left_out = True
                by = next(path for path, totals in users if totals.definition == definition)
                text = f"its {totals.definition} is left out: {by} has first defined it as the {definition}"
                self._troubles.append((text, path))
        return OwnFamily(definition, samples)

    # With the lock:

    def _work_off(self) -> None:
        while self._inbox:
            action = self._inbox.popleft()
            try:
                action()
            except Exception as error:  # a damaged batch: whoever works off is not who has sent it
                self._troubles.append((f"something that was counted cannot be added: {error!r}", ""))

    def _follow(self, run: RunId, metrics: MetricsOfRun) -> None:
        agent = self._agent(run)
        if run.incarnation < agent.run.incarnation:
            metrics.close()
        else:
            self._begin(agent, run)
            agent.followed[metrics] = run

    def _apply(self, run: RunId, batch: MetricBatch) -> None:
        agent = self._agent(run)
        if run.incarnation > agent.run.incarnation:
            self._begin(agent, run)
        if run == agent.run:
            self._add(agent, batch)

    def _forget(self, path: str) -> None:
        agent = self._agents.pop(path, None)
        if agent is not None:
            for metrics in agent.followed:
                metrics.close()

    def _agent(self, run: RunId) -> AgentTotals:
        agent = self._agents.get(run.path)
        if agent is None:
            if len(self._agents) >= self._most_agents:
                self._prune(shown(self._source.snapshots(), self._source.now()))
            agent = self._agents[run.path] = AgentTotals(run)
        return agent

    def _prune(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Forget the agents that the tree does not show, but for the latest."""
        gone = [path for path in self._agents if path not in snapshots]
        for path in gone[:-UNSHOWN]:
            self._forget(path)
        self._most_agents = 2 * len(snapshots) + SPARE

    def _begin(self, agent: AgentTotals, run: RunId) -> None:
        """Have nothing more counted by the incarnation before; what it has counted is still to be taken."""
        agent.run = run
        for metrics in agent.followed:
            metrics.close()
        for totals in agent.metrics.values():
            if totals.definition.type == "gauge" and totals.values:
                agent.series -= len(totals.values)
                totals.values.clear()
                totals.has_changed = True

    def _take(self, path: str) -> AgentTotals | None:
        """Take from the metrics of an agent that are followed, oldest first. Not in the supervision thread."""
        agent = self._agents.get(path)
        if agent is not None:
            for metrics, run in list(agent.followed.items()):
                has_ended = not metrics.is_open  # asked first, so that nothing can follow
                if (batch := metrics.take()) is not None:
                    self._add(agent, batch, with_gauges=run == agent.run)
                if has_ended:
                    del agent.followed[metrics]
        return agent

    def _add(self, agent: AgentTotals, batch: MetricBatch, *, with_gauges: bool = True) -> None:
        over_limit = batch.over_limit
        for definition in batch.definitions:
            if not self._define(agent, definition):
                over_limit = over_limit or definition.served_name
        for changed in (batch.numbers, batch.observed):
            for name, values in changed.items():
                totals = agent.metrics.get(name)
                if totals is None or (totals.definition.type == "gauge" and not with_gauges):
                    continue
                if not self._add_to(agent, totals, values):
                    over_limit = over_limit or totals.definition.served_name
        if over_limit and not agent.has_run_away:
            agent.has_run_away = True
            what = f"has run away: the agent may have {self.series} label sets of all its metrics (metrics_series)"
            text = f"its metric {over_limit!r} {what}, what is beyond them is dropped"
            self._troubles.append((text, agent.run.path))

    def _define(self, agent: AgentTotals, definition: Definition) -> bool:
        """Return whether there is room for the metric. Of an agent its latest definition counts, from 0."""
        known = agent.metrics.get(definition.name)
        if known is None and len(agent.metrics) >= self.series:
            return False
        if known is None or known.definition != definition:
            agent.series -= len(known.values) if known is not None else 0
            agent.metrics[definition.name] = Totals(definition)
        return True

    def _add_to(self, agent: AgentTotals, totals: Totals, values: Mapping[LabelValues, Value]) -> bool:
        """Return whether all of them had room."""
        is_gauge = totals.definition.type == "gauge"
        had_room = True
        for labels, value in values.items():
            old = totals.values.get(labels)
            if old is None:
                if agent.series >= self.series:
                    had_room = False
                    continue
                agent.series += 1
            totals.values[labels] = value if old is None or is_gauge else _sum(old, value)
        totals.has_changed = True
        return had_room


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
