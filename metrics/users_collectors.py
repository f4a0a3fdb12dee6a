"""Collectors that users have registered beside ours: each is served as long as it works and keeps the page in order."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.registry import Collector

from .exposition import END_OF_OPEN_METRICS
from .families import FAMILIES

LONGEST_ERROR: Final = 300

PATIENCE_S: Final = 5.0
"""Half of what Prometheus waits for a page unless it is told otherwise."""

_SUFFIXES: Final = MappingProxyType(
    {
        "counter": ("_total", "_created"),
        "summary": ("_sum", "_count", "_created"),
        "histogram": ("_bucket", "_sum", "_count", "_created"),
        "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
        "info": ("_info",),
    }
)
_TYPE_LINE: Final = re.compile(rb"^# TYPE (\S+) (\S+)$", re.MULTILINE)


def names_of(name: str, kind: str) -> set[str]:
    """Return all names that a family takes; `name` is the one by which OpenMetrics introduces it."""
    return {name, *(name + suffix for suffix in _SUFFIXES.get(kind, ()))}


OUR_NAMES: Final = frozenset(name for family in FAMILIES for name in names_of(family.base, family.kind))


@dataclass(frozen=True, slots=True)
class _Collected:
    """What was collected, in the shape that the client renders."""

    metrics: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        """Return it."""
        return self.metrics


@dataclass(frozen=True, slots=True)
class _TargetInfo:
    """What a registry says of itself, if it was made to."""

    registry: CollectorRegistry

    def collect(self) -> Iterator[Metric]:
        """Yield it."""
        if labels := self.registry.get_target_info():
            metric = Metric("target", "Target metadata", "info")
            metric.add_sample("target_info", labels, 1)
            yield metric


class _HangsError(Exception):
    """A collector has not returned in time."""


class _Call(threading.Thread):
    """One call of a collector, in a thread that can be left behind: it may never return."""

    def __init__(self, collector: Collector, patience_s: float) -> None:
        """Prepare it; it will have so many seconds."""
        super().__init__(name="orchestree-metrics-collector", daemon=True)
        self._collector = collector
        self._deadline = time.monotonic() + patience_s
        self._collected: list[Metric] = []
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Start the thread, if there is one to be had."""
        try:
            self.start()
        except RuntimeError as error:
            self._error = error

    def run(self) -> None:
        """Call it."""
        try:
            self._collected = list(self._collector.collect())
        except BaseException as error:
            self._error = error

    def result(self) -> list[Metric]:
        """Wait for what it returns, until its time is over. Any thread, several at once.

        Raises:
            _HangsError: it takes too long. BaseException: what it raised.
        """
        if self.is_alive():
            self.join(max(0.0, self._deadline - time.monotonic()))
        if self.is_alive():
            raise _HangsError
        if self._error is not None:
            raise self._error
        return self._collected


class UsersCollectors:
    """All collectors of a registry but one. Any thread, several at once.

    Args:
        registry: that they are in.
        ours: the one to leave out.
        on_trouble: is told which of them cannot be served, and why; once until it can again.
        patience_s: seconds that they get, all at the same time; the page goes without one that takes longer, and does
            not ask it again before it has returned.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        ours: Collector,
        on_trouble: Callable[[str], None],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Collect nothing yet."""
        self._registry = registry
        self._ours = ours
        self._target_info = _TargetInfo(registry)
        self._on_trouble = on_trouble
        self._in_trouble: set[Collector] = set()
        self._calls: dict[Collector, _Call] = {}
        """Those that have not returned, one for each: who comes meanwhile shares what it brings."""
        self._patience_s = patience_s
        self._lock = threading.Lock()

    def text(self, before: Iterable[bytes], *, open_metrics: bool) -> list[bytes]:
        """Return the text of each that works.

        A family with a name that is on the page already would have Prometheus refuse all of it: it is left out.

        Args:
            before: text of the agents' own metrics, which come first.
            open_metrics: which of the two formats.
        """
        # The client offers no way to collect from one after the other. A copy: others may join meanwhile.
        collectors = [one for one in list(self._registry._collector_to_names) if one is not self._ours]
        if self._registry.get_target_info():
            collectors.insert(0, self._target_info)
        with self._lock:
            self._in_trouble.intersection_update(collectors)
        if not collectors:
            return []
        taken = {*OUR_NAMES, *_introduced(before)}
        calls = self._call(collectors)
        return [self._text(collector, call, taken, open_metrics=open_metrics) for collector, call in calls.items()]

    def _text(self, collector: Collector, call: _Call, taken: set[str], *, open_metrics: bool) -> bytes:
        """Return the text of one, and add its names to those that are taken."""
        try:
            collected = call.result()
            clashes, fitting = set[str](), list[Metric]()
            for metric in collected:
                names = names_of(metric.name, metric.type)
                if names & taken:
                    clashes.add(metric.name)
                else:
                    fitting.append(metric)
                    taken |= names
            text = _rendered(_Collected(fitting), open_metrics=open_metrics)
        except _HangsError:
            self._note(collector, f"has not returned within {self._patience_s:g} s")
            return b""
        except BaseException as error:  # also what ends a program: it is not this thread's to end
            self._note(collector, f"raised {_in_one_line(error)}")
            return b""
        if clashes:
            self._note(collector, f"has names that are on the page already: {', '.join(sorted(clashes))}")
        else:
            with self._lock:
                self._in_trouble.discard(collector)
        return text

    def _call(self, collectors: Iterable[Collector]) -> dict[Collector, _Call]:
        """Return a call of each, all of them begun."""
        with self._lock:
            self._calls = {one: call for one, call in self._calls.items() if call.is_alive()}
            begun = {one: self._calls.get(one) or _Call(one, self._patience_s) for one in collectors}
            for one, call in begun.items():
                if one not in self._calls:
                    call.begin()
                    self._calls[one] = call
            return begun

    def _note(self, collector: Collector, what: str) -> None:
        with self._lock:
            is_new = collector not in self._in_trouble
            self._in_trouble.add(collector)
        if is_new:
            kind = type(collector)
            self._on_trouble(f"a collector ({kind.__module__}.{kind.__qualname__}) {what}")


def _rendered(collected: _Collected, *, open_metrics: bool) -> bytes:
    if open_metrics:
        text: bytes = generate_open_metrics(collected)  # type: ignore[no-untyped-call]
        return text.removesuffix(END_OF_OPEN_METRICS)
    return generate_latest(collected)


def _introduced(parts: Iterable[bytes]) -> Iterator[str]:
    """Yield the names that are taken by the families of a text, in either format."""
    for part in parts:
        if b"# TYPE " in part:
            for name, kind in _TYPE_LINE.findall(part):
                base = name.removesuffix(b"_total") if kind == b"counter" else name
                yield from names_of(base.decode(), kind.decode())


def _in_one_line(error: BaseException) -> str:
    """Return type and text of what a user's code has raised: at most `LONGEST_ERROR` characters."""
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = "(which cannot be shown)"
    return f"{type(error).__name__}: {text}"[:LONGEST_ERROR]
