"""``self.metrics``: where an agent gets what it counts with. Any thread."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from orchestree.strategies.errors import MetricError

from .metric_data import Definition, MetricType
from .metric_kinds import NOWHERE, Counter, Gauge, Histogram, Metric
from .metric_rules import buckets_of, clipped, define, labels_of
from .metric_store import MetricStore

if TYPE_CHECKING:
    from .executor import FollowMetrics
    from .run_id import RunId

DEFAULT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds for seconds that somebody waits for, as in `prometheus_client`."""
LIMIT_WHEN_OFF: Final = 1_000
"""Metrics that are known again when nobody collects them."""

Kind = TypeVar("Kind", Counter, Gauge, Histogram)
Asked = tuple[type[Metric], object, tuple[object, ...], tuple[object, ...]]
"""What a metric was asked for with, unchecked: kind, help, labels, buckets."""


class AgentMetrics:
    """The metrics of one run. To ask for one again is cheap, and returns the same.

    Attributes:
        store: what has changed in them.
    """

    def __init__(self, limit: int) -> None:
        """Have at most `limit` metrics, and as many label sets of all metrics together."""
        self.store = MetricStore(limit)
        self._metrics: dict[str, Metric] = {}

    def counter(self, name: str, help: str, labels: Iterable[str] = ()) -> Counter:
        """Return the counter of this name, which is made by the first call. It is served with ``_total`` at its end.

        Args:
            name: as Prometheus has it, with ``_total`` or without.
            help: what it counts; cut to 1,000 characters.
            labels: names; the label ``agent`` with the agent's path comes by itself.

        Raises:
            MetricError: a name is not valid, or the metric was defined otherwise before.
        """
        return self._metric(Counter, "counter", name, help, labels)

    def gauge(self, name: str, help: str, labels: Iterable[str] = ()) -> Gauge:
        """Return the gauge of this name, as `counter` does. It goes away with the incarnation."""
        return self._metric(Gauge, "gauge", name, help, labels)

    def histogram(
        self, name: str, help: str, labels: Iterable[str] = (), *, buckets: Iterable[float] = DEFAULT_BUCKETS
    ) -> Histogram:
        """Return the histogram of this name, as `counter` does.

        `buckets` are upper bounds, ascending; infinity comes by itself.
        """
        return self._metric(Histogram, "histogram", name, help, labels, buckets)

    def _metric(
        self,
        kind: type[Kind],
        word: MetricType,
        name: str,
        help: str,
        labels: Iterable[str],
        buckets: Iterable[float] = (),
    ) -> Kind:
        if not isinstance(name, str):
            raise MetricError(f"the name of a metric is a text, not {clipped(name)}")
        known = self._metrics.get(name.removesuffix("_total") if kind is Counter else name)
        asked = (kind, help, labels_of(name, labels), buckets_of(name, buckets))
        if known is None or known.asked != asked:
            return self._define(kind, define(word, name, help, asked[2], asked[3]), asked)
        assert isinstance(known, kind)
        return known

    def _define(self, kind: type[Kind], definition: Definition, asked: Asked) -> Kind:
        store = self.store
        with store.lock:
            known = self._metrics.get(definition.name)
            if known is not None:
                if known.definition != definition:
                    raise MetricError(f"this is defined already as the {known.definition}, not as the {definition}")
                assert isinstance(known, kind)
                return known
            values = None if definition.labels else ()
            if len(self._metrics) >= store.limit:
                store.tell_over_limit(definition)
                return kind(NOWHERE, definition, values)
            if values is not None and store.is_open and not store.has_room_for(definition):
                return kind(NOWHERE, definition, values)
            made = kind(store, definition, values)
            made.asked = asked
            self._metrics[definition.name] = made
            store.define(definition)
            if values is not None:
                made.note()
            return made


class RunMetrics:
    """Makes the `AgentMetrics` of one run when they are first asked for. Any thread."""

    __slots__ = ("_follow", "_is_over", "_made", "_pid", "_run", "_series")

    def __init__(self, run: RunId, series: int, follow: FollowMetrics | None) -> None:
        """Have at most `series` label sets; they go nowhere if that is 0 or nobody follows them."""
        self._run = run
        self._series = series
        self._follow = follow
        self._pid = os.getpid()
        self._is_over = False
        self._made: dict[None, AgentMetrics] = {}  # one at most; to set it is atomic, without a lock that a fork breaks

    def get(self) -> AgentMetrics:
        """Return the metrics, the same at each call."""
        if made := self._made.get(None):
            return made
        metrics = AgentMetrics(self._series or LIMIT_WHEN_OFF)
        if self._follow is None or not self._series or self._is_over or os.getpid() != self._pid:
            metrics.store.close()
            return self._made.setdefault(None, metrics)
        if (first := self._made.setdefault(None, metrics)) is not metrics:
            return first
        self._follow.follow(self._run, metrics.store)
        if self._is_over:  # in another thread, just now
            metrics.store.close()
        return metrics

    def end(self) -> None:
        """Have the rest taken, and let go; from now on they go nowhere. In a forked copy there is nothing to take."""
        self._is_over = True
        made = self._made.get(None)
        if made is not None and self._follow is not None and os.getpid() == self._pid:
            self._follow.leave(self._run, made.store)
