"""What agents' own metrics are on their way to whoever keeps the totals: values that cross a process boundary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

MetricType = Literal["counter", "gauge", "histogram"]

LabelValues = tuple[str, ...]
"""In the order of `Definition.labels`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What makes two metrics of one name the same metric.

    Attributes:
        name: of the family; that of a counter without ``_total``.
        help: at most 1,000 characters.
        labels: names, as given, without ``agent``.
        buckets: upper bounds, ascending, the last is infinity; empty for other types.
    """

    type: MetricType
    name: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()

    @property
    def served_name(self) -> str:
        """The name under which Prometheus knows the metric."""
        return f"{self.name}_total" if self.type == "counter" else self.name

    def __str__(self) -> str:
        """Return it in words, for errors."""
        parts = [f"{self.type} {self.name!r} with the help {self.help!r}"]
        parts += [f"the labels {self.labels!r}"] if self.labels else []
        parts += [f"the buckets {self.buckets!r}"] if self.buckets else []
        return " and ".join(parts)


class Observed(NamedTuple):
    """What a histogram has seen.

    Attributes:
        counts: for each bucket the observations that fell into it and into no lower one.
        total: sum of all observed values.
    """

    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricBatch:
    """What has changed in the metrics of one run since the batch before. Metrics go by the name of their family.

    Attributes:
        definitions: new ones; of each metric its definition comes before its first value, or with it.
        numbers: what was added to a counter, which may be 0.0 for a new one; the value of a gauge.
        observed: what a histogram has seen in between.
        over_limit: the metric, as Prometheus knows it, that wanted to have more label sets than the agent may have;
            empty if none did.
    """

    definitions: tuple[Definition, ...]
    numbers: Mapping[str, Mapping[LabelValues, float]]
    observed: Mapping[str, Mapping[LabelValues, Observed]]
    over_limit: str = ""


class MetricsOfRun(Protocol):
    """The metrics of one run, in the process in which it counts. Any thread.

    Attributes:
        is_open: what is counted is told; False since `close`.
    """

    is_open: bool

    def take(self) -> MetricBatch | None:
        """Return what has changed since the last call, each change once; None if nothing has."""

    def when_changed(self, call: Callable[[], None]) -> None:
        """Have `call` called at the first change after each `take`, and at once if there was one. It must be short."""

    def close(self) -> None:
        """Have all that follows go nowhere; what came before can still be taken. Never waits."""
