"""Counters, gauges and histograms, as agents use them. Any thread."""

from __future__ import annotations

from bisect import bisect_left
from math import isnan
from typing import Final, Self

from orchestree.strategies.errors import MetricError, did_you_mean

from .metric_data import Definition, LabelValues, Observed
from .metric_rules import as_float, clipped, cut
from .metric_store import MetricStore

NOWHERE: Final = MetricStore(0)
"""What is counted here arrives nowhere."""
NOWHERE.close()


class Metric:
    """A metric, or one of its label sets. The first use of a label set makes it, with the value 0.

    Attributes:
        definition: of the metric.
        values: of the labels; None for a metric that has labels, and counts nothing itself.
        asked: what the metric was asked for with, to know it again.
        is_noted: the next batch tells about it.
    """

    __slots__ = ("_children", "_nowhere", "_store", "asked", "definition", "is_noted", "values")

    def __init__(self, store: MetricStore, definition: Definition, values: LabelValues | None) -> None:
        """Begin with 0."""
        self._store = store
        self.definition = definition
        self.values = values
        self._children: dict[LabelValues, Self] = {}
        self._nowhere: Self | None = None
        self.is_noted = False
        self.asked: object = None

    def labels(self, *values: object, **named: object) -> Self:
        """Return the metric of one label set: its values by name, or all in the order of the names.

        Values are what ``str`` makes of them, cut to 200 characters. Of one that is beyond the limit of the agent
        nothing arrives; that becomes one event.

        Raises:
            MetricError: these are not the labels of the metric.
        """
        key = self._in_order(values, named) if named else tuple(map(str, values))
        child = self._children.get(key)
        return child if child is not None else self._child(key)

    def __repr__(self) -> str:
        """Return what it is in words."""
        return f"<{self.definition}>" if not self.values else f"<{self.definition}: {self.values}>"

    def _in_order(self, values: tuple[object, ...], named: dict[str, object]) -> LabelValues:
        names = self.definition.labels
        if values:
            raise MetricError(f"{self._name()}: give the values of its labels either by name or in order, not both")
        if named.keys() != set(names):
            wrong = next((name for name in named if name not in names), "")
            hint = did_you_mean(wrong, names) if wrong else ""
            raise MetricError(f"{self._name()} has {_listed(names)}, not {_listed(tuple(named))}{hint}")
        return tuple(str(named[name]) for name in names)

    def _child(self, key: LabelValues) -> Self:
        names = self.definition.labels
        if self.values is not None and (names or key):
            raise MetricError(f"{self._name()} {'is one label set already' if names else 'has no labels'}")
        if len(key) != len(names):
            raise MetricError(f"{self._name()} has {_listed(names)}, and got {len(key)} values")
        if self.values is not None:
            return self
        if not self._store.is_open:
            return self._beyond()
        key = tuple(map(cut, key))
        with self._store.lock:
            child = self._children.get(key)
            if child is None and self._store.has_room_for(self.definition):
                child = self._children[key] = type(self)(self._store, self.definition, key)
                child.note()
        return child if child is not None else self._beyond()

    def _beyond(self) -> Self:
        """Return what takes the place of a label set that cannot be had."""
        if self._nowhere is None:
            self._nowhere = type(self)(NOWHERE, self.definition, ("",) * len(self.definition.labels))
        return self._nowhere

    def note(self) -> None:
        """Have the next batch tell about this one. With the lock."""
        self.check_counts()
        self.is_noted = self._store.note(self)

    def check_counts(self) -> None:
        """Raise `MetricError` if it has labels, so that only its label sets count."""
        if self.values is None:
            raise MetricError(f"{self._name()} has {_listed(self.definition.labels)}: call .labels(…) first")

    def take(self) -> float | Observed:
        """Return what the next batch is to tell, and begin anew. With the lock."""
        raise NotImplementedError

    def _name(self) -> str:
        definition = self.definition
        return f"{definition.type} {definition.served_name!r}"


class Counter(Metric):
    """Counts up, over all incarnations of the agent."""

    __slots__ = ("_amount",)

    def __init__(self, store: MetricStore, definition: Definition, values: LabelValues | None) -> None:
        """Begin with 0."""
        super().__init__(store, definition, values)
        self._amount = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add to it.

        Raises:
            MetricError: `amount` is negative or no number, or the metric has labels.
        """
        if amount.__class__ is not float:
            amount = _number(self, amount)
        if not amount >= 0.0:
            raise MetricError(f"{self._name()} only goes up, so not by {amount!r}; a gauge goes down as well")
        if not self._store.is_open:
            self.check_counts()
            return
        with self._store.lock:
            if not self.is_noted:
                self.note()
            self._amount += amount

    def take(self) -> float:
        """Return what was added."""
        amount, self._amount = self._amount, 0.0
        return amount


class Gauge(Metric):
    """Has the value that it was set to, until its incarnation ends."""

    __slots__ = ("_value",)

    def __init__(self, store: MetricStore, definition: Definition, values: LabelValues | None) -> None:
        """Begin with 0."""
        super().__init__(store, definition, values)
        self._value = 0.0

    def set(self, value: float) -> None:
        """Set it. Raises `MetricError` if `value` is no number, or the metric has labels."""
        if value.__class__ is not float or value != value:
            value = _number(self, value)
        if not self._store.is_open:
            self.check_counts()
            return
        with self._store.lock:
            if not self.is_noted:
                self.note()
            self._value = value

    def inc(self, amount: float = 1.0) -> None:
        """Add to it. Raises `MetricError` as `set` does."""
        if amount.__class__ is not float or amount != amount:
            amount = _number(self, amount)
        if not self._store.is_open:
            self.check_counts()
            return
        with self._store.lock:
            if not self.is_noted:
                self.note()
            value = self._value + amount  # and nothing is called until it is set: a signal handler may count as well
            if value != value:
                _number(self, value)
            self._value = value

    def dec(self, amount: float = 1.0) -> None:
        """Take from it. Raises `MetricError` as `set` does."""
        self.inc(-_number(self, amount))

    def take(self) -> float:
        """Return the value, which stays."""
        return self._value


class Histogram(Metric):
    """Counts observed values by their size, over all incarnations of the agent."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, store: MetricStore, definition: Definition, values: LabelValues | None) -> None:
        """Begin with no observations."""
        super().__init__(store, definition, values)
        self._bounds = definition.buckets
        self._counts = [0] * len(self._bounds)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count one value. Raises `MetricError` if it is no number, or the metric has labels."""
        if value.__class__ is not float or value != value:
            value = _number(self, value)
        if not self._store.is_open:
            self.check_counts()
            return
        with self._store.lock:
            if not self.is_noted:
                self.note()
            self._counts[bisect_left(self._bounds, value)] += 1
            self._total += value

    def take(self) -> Observed:
        """Return what was observed."""
        zeros = [0] * len(self._bounds)
        # Nothing is called between these: a signal handler may observe as well.
        counts, total = self._counts, self._total
        self._counts, self._total = zeros, 0.0
        return Observed(tuple(counts), total)


def _number(metric: Metric, value: object) -> float:
    try:
        number = as_float(value)
    except (TypeError, ValueError, OverflowError):
        raise MetricError(f"{metric._name()} has numbers for its values, not {clipped(value)}") from None
    if isnan(number):
        raise MetricError(f"{metric._name()} has numbers for its values, and NaN is none")
    return number


def _listed(names: tuple[str, ...]) -> str:
    return f"the labels {names!r}" if names else "no labels"
