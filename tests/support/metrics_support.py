"""A tree under virtual time with an exporter: real events, real snapshots, a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from virtual import VirtualTree

from orchestree.metrics.exporter import Exporter, Own
from orchestree.metrics.source import Usage, Whole
from orchestree.supervisor.events import TYPE_OF, Event, EventData
from orchestree.supervisor.inputs import Effect, Emit, Input
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.status import Snapshot, Status
from orchestree.supervisor.tree import SupervisorNode
from orchestree.supervisor.world import Settings

WALL = 1_700_000_000.0
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


class NoOwnMetrics:
    """Stands for agents that have none."""

    def collect(self) -> Iterable[Metric]:
        return []

    def text(self, *, open_metrics: bool) -> list[bytes]:
        return []


class OwnSamples:
    """Agents' own metrics, as the client writes them: a family for each of `metrics`."""

    def __init__(self, *metrics: Metric) -> None:
        self.metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self.metrics

    def text(self, *, open_metrics: bool) -> list[bytes]:
        registry = CollectorRegistry()
        registry.register(self)
        text = reference(registry, open_metrics=open_metrics)
        return text.removesuffix(b"# EOF\n").splitlines(keepends=True)


class VirtualSource(VirtualTree):
    """A virtual tree that shows snapshots and tells events, as the driver does.

    Attributes:
        exporter: of the tree; made by whoever makes the source.
        moment: what `now` is as long as it is not None.
    """

    run = "5eed5eed5eed"

    def __init__(self, *children: ChildEntry, settings: Settings | None = None, **root: object) -> None:
        self.exporter: Exporter | None = None
        self.seq = 0
        self.shown: dict[str, Snapshot] = {}
        self.usages: dict[str, Usage] = {}
        self.last_beats: dict[str, float] = {}
        self.figures = Whole(max_workers=None, abandoned=0, events_dropped=0, history_lag_s=0.0)
        self.probes = 0
        super().__init__(*children, settings=settings, started=False, **root)
        self.show()

    def tell(self, event: Input) -> None:
        super().tell(event)
        self.show()

    def _carry_out(self, effect: Effect) -> list[Input]:
        if isinstance(effect, Emit):
            self.offer(effect.data, effect.path, effect.incarnation)
        return super()._carry_out(effect)

    def offer(self, data: EventData, path: str = "", incarnation: int = 1) -> None:
        """Tell the exporter of an event."""
        self.seq += 1
        event = Event(self.seq, WALL + self.now, self.now, TYPE_OF[type(data)], path, incarnation, data, self.run)
        if self.exporter is not None:
            self.exporter.offer(event)

    def show(self) -> None:
        """Have the snapshots show all that was touched."""
        world = self.core.world
        for node in world.touched:
            if world.is_known(node):
                departed = world.nodes.get(node.path) is not node
                self.shown[node.path] = Snapshot.of(node, self.now, departed=departed)
            elif world.find(node.path) is None:
                self.shown.pop(node.path, None)
        world.touched.clear()


class Scraped:
    """A tree and its exporter, the exporter's view of it included (see `Source`).

    Attributes:
        tree: moved by the test.
        troubles: what the exporter has said.
    """

    run = VirtualSource.run

    def __init__(
        self,
        *children: ChildEntry,
        own: Own | None = None,
        registry: CollectorRegistry | None = None,
        settings: Settings | None = None,
        started: bool = True,
        **root: object,
    ) -> None:
        self.tree = VirtualSource(*children, settings=settings, **root)
        self.troubles: list[str] = []
        self.exporter = Exporter(self, own=own or NoOwnMetrics(), registry=registry, on_trouble=self.troubles.append)
        self.tree.exporter = self.exporter
        if started:
            self.tree.start()

    def name(self) -> str:
        return "plant"

    def now(self) -> float:
        return self.tree.now

    def snapshots(self) -> Mapping[str, Snapshot]:
        return dict(self.tree.shown)

    def status(self, path: str) -> Status | None:
        snapshot = self.tree.shown.get(path)
        return snapshot.status if snapshot is not None else None

    def entry(self, path: str) -> ChildEntry | None:
        node = self.tree.core.world.nodes.get(path)
        return node.entry if node is not None else None

    def restarts_in_window(self, path: str, now: float) -> int:
        node = self.tree.core.world.nodes.get(path)
        return node.window.count(now) if isinstance(node, SupervisorNode) else 0

    def last_beat(self, path: str, incarnation: int) -> float | None:
        return self.tree.last_beats.get(path)

    def usage(self, path: str) -> Usage | None:
        return self.tree.usages.get(path)

    def whole(self) -> Whole:
        return self.tree.figures

    def probe(self) -> None:
        self.tree.probes += 1

    def page(self, accept: str = "") -> str:
        """Return the page as text."""
        return page_of(self.exporter, accept).decode()

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of a sample of the page; None if there is none."""
        return self.values(name).get(tuple(sorted(labels.items())))

    def values(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return all samples of a name by their labels, sorted by name."""
        from prometheus_client.parser import text_string_to_metric_families

        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.page())
            for sample in family.samples
            if sample.name == name
        }


def page_of(exporter: Exporter, accept: str = "") -> bytes:
    """Return a page; it is as long as it said."""
    page = exporter.page(accept)
    text = b"".join(page.pieces)
    assert len(text) == page.length
    return text


def reference(registry: CollectorRegistry, *, open_metrics: bool) -> bytes:
    """Return what the client writes of a registry."""
    if open_metrics:
        text: bytes = generate_open_metrics(registry)  # type: ignore[no-untyped-call]
        return text
    return generate_latest(registry)
