"""What an agent has counted, until whoever keeps the totals takes it. Any thread.

A run that ends while others of its threads still count, and a forked copy of the agent's process, have metrics that go
nowhere. The lock is reentrant because a signal handler or a finalizer of the user's may count as well, in the middle of
what its thread is doing here.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Final, Protocol

from .metric_data import Definition, LabelValues, MetricBatch, Observed


class Noted(Protocol):
    """A metric, or one of its label sets, of which there is something to tell."""

    definition: Definition
    values: LabelValues | None
    is_noted: bool

    def take(self) -> float | Observed:
        """Return what the next batch is to tell, and begin anew. With the lock."""


class MetricStore:
    """What has changed in the metrics of one run since they were last taken from. Implements `MetricsOfRun`.

    Attributes:
        lock: held while something is counted; another one in a forked copy.
        limit: most label sets of all metrics together.
        is_open: what is counted is told.
    """

    def __init__(self, limit: int) -> None:
        """Have room for `limit` label sets."""
        self.lock = threading.RLock()
        self.limit = limit
        self.is_open = True
        self._on_change: Callable[[], None] | None = None
        self._series = 0
        self._defined: list[Definition] = []
        self._noted: list[Noted] = []
        self._over_limit: str | None = None
        """A metric that has run away; empty once that was taken."""
        self._has_changed = False
        _of_this_process.add(self)

    def take(self) -> MetricBatch | None:
        """Return what has changed since the last call; None if nothing has."""
        with self.lock:
            if not self._has_changed:
                return None
            self._has_changed = False
            defined, self._defined = self._defined, []
            noted, self._noted = self._noted, []
            over_limit = self._over_limit or ""
            if over_limit:
                self._over_limit = ""
            numbers: dict[str, dict[LabelValues, float]] = {}
            observed: dict[str, dict[LabelValues, Observed]] = {}
            for metric in dict.fromkeys(noted):  # twice, if a signal handler has counted while it was noted
                metric.is_noted = False
                name, values, told = metric.definition.name, metric.values or (), metric.take()
                if isinstance(told, Observed):
                    observed.setdefault(name, {})[values] = told
                else:
                    numbers.setdefault(name, {})[values] = told
        return MetricBatch(definitions=tuple(defined), numbers=numbers, observed=observed, over_limit=over_limit)

    def when_changed(self, call: Callable[[], None]) -> None:
        """Have `call` called at the first change after each `take`, with the lock, and at once if there was one."""
        with self.lock:
            self._on_change = call
            if self._has_changed:
                call()

    def close(self) -> None:
        """Have all that follows go nowhere; what came before can still be taken. Never waits."""
        self.is_open = False
        self._on_change = None

    # With the lock:

    def define(self, definition: Definition) -> None:
        """Have the next batch bring the definition of a new metric."""
        if self.is_open:
            self._defined.append(definition)
            self._change()

    def has_room_for(self, definition: Definition) -> bool:
        """Return whether there may be one more label set of the metric, and count it."""
        if self._series >= self.limit:
            self.tell_over_limit(definition)
        elif self.is_open:
            self._series += 1
            return True
        return False

    def tell_over_limit(self, definition: Definition) -> None:
        """Have the next batch say that this metric has run away, if none has said so of another."""
        if self.is_open and self._over_limit is None:
            self._over_limit = definition.served_name
            self._change()

    def note(self, metric: Noted) -> bool:
        """Have the next batch tell about `metric`; return whether it will."""
        if self.is_open:
            self._noted.append(metric)
            self._change()
        return self.is_open

    def _change(self) -> None:
        if not self._has_changed:
            self._has_changed = True
            call = self._on_change
            if call is not None:
                call()

    def _forget(self) -> None:
        """Be the copy in a forked process: another thread may have had the lock, and the changes are the parent's."""
        self.lock = threading.RLock()
        self.close()
        self.take()


_of_this_process: Final[weakref.WeakSet[MetricStore]] = weakref.WeakSet()


def _forget_all() -> None:
    for store in list(_of_this_process):
        store._forget()


os.register_at_fork(after_in_child=_forget_all)
