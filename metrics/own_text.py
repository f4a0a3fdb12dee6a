"""The text of agents' own metrics, byte for byte what `prometheus_client` makes of the same families."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate

from orchestree.agents.metric_data import Definition, LabelValues, Observed

from .exposition import escaped, number


def head(definition: Definition, *, open_metrics: bool) -> bytes:
    """Return the lines that introduce a family."""
    name = definition.name if open_metrics else definition.served_name
    help = escaped(definition.help) if open_metrics else definition.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {help}\n# TYPE {name} {definition.type}\n".encode()


def lines(definition: Definition, path: str, values: Mapping[LabelValues, float | Observed]) -> bytes:
    """Return the samples of one agent, the same in both formats."""
    write = _samples_of(definition)
    text = []
    for labels, value in values.items():
        if isinstance(value, Observed):
            text += write.histogram((path, *labels), value)
        else:
            text.append(write.line(definition.served_name, (path, *labels), value))
    return "".join(text).encode()


def bound_texts(definition: Definition) -> list[str]:
    """Return the upper bounds of the buckets, as values of the label ``le``."""
    return [number(bound) for bound in definition.buckets]


class Samples:
    """Writes the samples of one family. Labels stand in the order of their names."""

    def __init__(self, definition: Definition) -> None:
        """Write those of `definition`."""
        self._definition = definition
        self._names = ("agent", *definition.labels, "le")
        self._order = _order(self._names[:-1])
        self._order_of_buckets = _order(self._names)
        self._bounds = bound_texts(definition)

    def line(self, name: str, values: LabelValues, value: float) -> str:
        """Return the line of one sample. `values` begin with the path."""
        return self._line(name, self._order, values, value)

    def histogram(self, values: LabelValues, observed: Observed) -> list[str]:
        """Return the lines of one histogram. With negative bounds it has no sum, which could go down."""
        name = self._definition.name
        text = [
            self._line(f"{name}_bucket", self._order_of_buckets, (*values, bound), count)
            for bound, count in zip(self._bounds, accumulate(observed.counts), strict=True)
        ]
        if self._definition.buckets[0] >= 0.0:
            text.append(self._line(f"{name}_count", self._order, values, sum(observed.counts)))
            text.append(self._line(f"{name}_sum", self._order, values, observed.total))
        return text

    def _line(self, name: str, order: list[int], values: LabelValues, value: float) -> str:
        inner = ",".join([f'{self._names[at]}="{escaped(values[at])}"' for at in order])
        return f"{name}{{{inner}}} {number(float(value))}\n"


@lru_cache(1024)
def _samples_of(definition: Definition) -> Samples:
    return Samples(definition)


def _order(names: LabelValues) -> list[int]:
    return sorted(range(len(names)), key=names.__getitem__)
