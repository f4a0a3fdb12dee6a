"""A tree as `OwnMetrics` sees it, which the test fills, and totals that can be waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from metrics_support import reference
from orchestree_testing.host import DEADLINE_S
from prometheus_client.core import CollectorRegistry

from orchestree.agents.executor import RunId
from orchestree.agents.metric_data import Definition, LabelValues, MetricBatch, MetricType, Observed
from orchestree.metrics.own import OwnMetrics
from orchestree.metrics.source import Usage, Whole
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.status import Snapshot, Status


class ShownTree:
    """Shows what it was told to show."""

    run = "5eed5eed5eed"

    def __init__(self) -> None:
        self.moment = 0.0
        self.shown: dict[str, Snapshot] = {}

    def show(self, path: str, incarnation: int = 1, state: AgentState = AgentState.READY) -> None:
        status = Status(path=path, kind="agent", state=state, incarnation=incarnation)
        self.shown[path] = Snapshot(status, self.moment, 30.0)

    def name(self) -> str:
        return "plant"

    def now(self) -> float:
        return self.moment

    def snapshots(self) -> Mapping[str, Snapshot]:
        return dict(self.shown)

    def status(self, path: str) -> Status | None:
        snapshot = self.shown.get(path)
        return snapshot.status if snapshot is not None else None

    def entry(self, path: str) -> ChildEntry | None:
        return None

    def restarts_in_window(self, path: str, now: float) -> int:
        return 0

    def last_beat(self, path: str, incarnation: int) -> float | None:
        return None

    def usage(self, path: str) -> Usage | None:
        return None

    def whole(self) -> Whole:
        return Whole(max_workers=None, abandoned=0, events_dropped=0, history_lag_s=0.0)

    def probe(self) -> None:
        pass


class Kept(OwnMetrics):
    """Totals of a `ShownTree`. Every look at them is one at both renderings, which must agree."""

    def __init__(self, series: int = 1000) -> None:
        self.tree = ShownTree()
        self.troubles: list[tuple[str, str]] = []
        self.batches: list[MetricBatch] = []
        self._applied = threading.Condition()
        super().__init__(self.tree, series=series, on_trouble=lambda text, path: self.troubles.append((text, path)))

    def apply(self, run: RunId, batch: MetricBatch) -> None:
        super().apply(run, batch)
        with self._applied:
            self.batches.append(batch)
            self._applied.notify_all()

    def page(self, *, open_metrics: bool = False) -> str:
        text = b"".join(self.text(open_metrics=open_metrics))
        registry = CollectorRegistry()
        registry.register(self)
        assert text == reference(registry, open_metrics=open_metrics).removesuffix(b"# EOF\n")
        return text.decode()

    def lines(self, name: str) -> list[str]:
        """Return the samples whose line begins with `name`, without it."""
        self.page(open_metrics=True)
        return [line.removeprefix(name) for line in self.page().splitlines() if line.startswith(name)]

    def wait_for(self, holds: Callable[[], bool]) -> None:
        """Return when it holds; looks again after each batch that a process has sent."""
        with self._applied:
            assert self._applied.wait_for(holds, DEADLINE_S), self.page()


def counter(name: str = "items", help: str = "Items", labels: LabelValues = ()) -> Definition:
    return Definition(type="counter", name=name, help=help, labels=labels)


def gauge(name: str = "level", labels: LabelValues = ()) -> Definition:
    return Definition(type="gauge", name=name, help="Level", labels=labels)


def batch(
    *definitions: Definition,
    numbers: Mapping[str, Mapping[Any, float]] | None = None,
    observed: Mapping[str, Mapping[Any, Observed]] | None = None,
    over_limit: str = "",
) -> MetricBatch:
    return MetricBatch(definitions=definitions, numbers=numbers or {}, observed=observed or {}, over_limit=over_limit)


def definition(type: MetricType, name: str, *labels: str, buckets: tuple[float, ...] = ()) -> Definition:
    return Definition(type=type, name=name, help=f"The {name}", labels=labels, buckets=buckets)
