"""Offers the metrics of one tree: counts its events, and makes the page that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client.core import CollectorRegistry, Metric

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.events import Event

from .collector import TreeCollector
from .exposition import END_OF_OPEN_METRICS, OPEN_METRICS, TEXT, pieces, wants_open_metrics
from .page import Page
from .recording import Recording
from .source import Source
from .text import FastText
from .users_collectors import OUR_NAMES, UsersCollectors

NAMES_SHOWN: Final = 3


class Own(Protocol):
    """The agents' own metrics, as the exporter sees them (see `OwnMetrics`). Any thread."""

    def collect(self) -> Iterable[Metric]:
        """Return all families."""

    def text(self, *, open_metrics: bool) -> list[bytes]:
        """Return the same as text, in pieces."""


class Exporter:
    """The metrics of one orchestrator.

    Attributes:
        registry: may take further collectors; the page has them after ours.
    """

    def __init__(
        self,
        source: Source,
        *,
        own: Own,
        registry: CollectorRegistry | None = None,
        on_trouble: Callable[[str], None],
    ) -> None:
        """Join `registry`, or make one.

        Args:
            source: the tree.
            own: the agents' own metrics.
            registry: None for one of its own, which nobody else has.
            on_trouble: is told, in one line, what is missing on the page and why; once until it is there again. Any
                thread; must not raise.

        Raises:
            SpecError: another orchestrator, or something else with our names, is in the registry already.
        """
        self.registry = CollectorRegistry() if registry is None else registry
        self._source = source
        self._own = own
        self._recording = Recording(source.snapshots, on_trouble)
        self._text = FastText(source, self._recording)
        self._collector = TreeCollector(source, self._recording, own.collect)
        self._others = UsersCollectors(self.registry, self._collector, on_trouble)
        try:
            self.registry.register(self._collector)
        except ValueError:
            raise SpecError(f"registry: {_what_is_in_the_way(self.registry)}") from None

    def offer(self, event: Event) -> None:
        """Count an event. Supervision thread; takes about a microsecond, never raises."""
        self._recording.offer(event)

    def observe_lag(self, seconds: float) -> None:
        """Count a wake-up of the supervision loop, which had to wait so long for its turn. Supervision thread."""
        self._recording.observe_lag(seconds)

    def page(self, accept: str = "") -> Page:
        """Return all metrics as they are now. Any thread, several at once.

        Args:
            accept: the HTTP header: OpenMetrics 1.0.0 if that is preferred there, else text 0.0.4.
        """
        self._source.probe()
        is_open = wants_open_metrics(accept)
        parts = self._text.render().parts(open_metrics=is_open)
        own = self._own.text(open_metrics=is_open)
        parts += filter(None, [*own, *self._others.text(own, open_metrics=is_open)])
        if is_open:
            parts.append(END_OF_OPEN_METRICS)
        ends = list(accumulate(map(len, parts)))
        return Page(OPEN_METRICS if is_open else TEXT, ends[-1], pieces(parts, ends))

    def close(self) -> None:
        """Leave the registry. Idempotent."""
        with suppress(KeyError):
            self.registry.unregister(self._collector)


def _what_is_in_the_way(registry: CollectorRegistry) -> str:
    taken = {name: collector for name, collector in registry._names_to_collectors.items() if name in OUR_NAMES}
    if any(isinstance(collector, TreeCollector) for collector in taken.values()):
        return "it already has the metrics of an orchestrator, and a registry can have only one's"
    first, rest = sorted(taken)[:NAMES_SHOWN], len(taken) - NAMES_SHOWN
    return f"it already has metrics of our names: {', '.join(first)}{f' and {rest} more' if rest > 0 else ''}"
