"""What metrics may be called and take. Every refusal names the value, the rule and, if there is one, a right value."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple

from orchestree.strategies.errors import MetricError

from .metric_data import Definition, MetricType

PREFIX: Final = "orchestree_"
"""Of the families that Orchestree has itself."""
SUFFIXES: Final = ("_total", "_bucket", "_count", "_sum", "_created")
"""What Prometheus puts behind the name of a family, by its type."""

HELP: Final = 1_000
VALUE: Final = 200
"""Characters of a help text, and of the value of a label; what is longer is cut."""
QUOTED: Final = 100
"""Characters of a value that an error repeats."""

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RULE: Final = "letters, digits and underscores, not a digit first"
_OF_PROMETHEUS: Final = re.compile(
    r"up|ALERTS|ALERTS_FOR_STATE|scrape_(duration_seconds|timeout_seconds|sample_limit|samples_scraped"
    r"|samples_post_metric_relabeling|series_added|body_size_bytes)"
)
"""Series that Prometheus writes itself, about each target and each alert."""
_LABELS_OF_PROMETHEUS: Final = ("job", "instance")

_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = QUOTED


class Fault(NamedTuple):
    """What is wrong with a name, in words, and a name with that mended, which may have another fault."""

    why: str
    better: str


def define(
    kind: MetricType, name: object, help: object, labels: tuple[object, ...], buckets: tuple[object, ...]
) -> Definition:
    """Return the checked definition of a metric. Raises `MetricError` as the functions below do."""
    family = family_name(kind, name)
    if not isinstance(help, str):
        raise MetricError(f"the help of the {kind} {clipped(name)} is a text, not {clipped(help)}")
    return Definition(
        type=kind,
        name=family,
        help=cut(help, HELP),
        labels=check_labels(kind, family, labels),
        buckets=bounds_of(family, buckets) if kind == "histogram" else (),
    )


def bounds_of(name: str, buckets: tuple[object, ...]) -> tuple[float, ...]:
    """Return the upper bounds of the buckets of a histogram, with infinity.

    Raises:
        MetricError: they are no numbers, there are none, or they do not ascend.
    """
    given = clipped(buckets)
    try:
        bounds = tuple(map(as_float, buckets))
    except (TypeError, ValueError, OverflowError):
        raise MetricError(f"the buckets of the histogram {clipped(name)} are numbers, not {given}") from None
    if not bounds or bounds[0] == inf:
        raise MetricError(f"the histogram {clipped(name)} needs a bucket below infinity")
    for lower, upper in pairwise((-inf, *bounds)):
        if not lower < upper:
            raise MetricError(f"the buckets of the histogram {clipped(name)} do not ascend at {upper!r}: {given}")
    return bounds if bounds[-1] == inf else (*bounds, inf)


def family_name(kind: MetricType, name: object) -> str:
    """Return the name of the family: `name`, that of a counter without ``_total``.

    Raises:
        MetricError: it is no name for a metric of this kind.
    """
    if not isinstance(name, str):
        raise MetricError(f"the name of a metric is a text, not {clipped(name)}")
    _refuse_faulty(name, lambda name: _fault_of_metric(kind, name))
    return _family(kind, name)


def check_labels(kind: MetricType, name: str, labels: tuple[object, ...]) -> tuple[str, ...]:
    """Return the names of the labels of a metric.

    Raises:
        MetricError: one of them is no name of a label, is taken, or is there twice.
    """
    checked: list[str] = []
    for label in labels:
        if not isinstance(label, str):
            raise MetricError(f"the name of a label of the {kind} {clipped(name)} is a text, not {clipped(label)}")
        _refuse_faulty(label, lambda label: _fault_of_label(kind, name, label, checked))
        checked.append(str(label))
    return tuple(checked)


def labels_of(name: object, labels: object) -> tuple[object, ...]:
    """Return what is given as the names of labels. Raises `MetricError` if that is one text, or nothing of the kind."""
    if isinstance(labels, (str, bytes, bytearray)):
        given = clipped(labels)
        raise MetricError(f"the labels of {clipped(name)} are several names, not the text {given}: try ({given},)")
    try:
        return tuple(labels)  # type: ignore[arg-type]
    except TypeError:
        raise MetricError(f"the labels of {clipped(name)} are several names, not {clipped(labels)}") from None


def buckets_of(name: object, buckets: object) -> tuple[object, ...]:
    """Return what is given as the bounds of buckets. Raises `MetricError` if that is nothing of the kind."""
    try:
        return tuple(buckets)  # type: ignore[arg-type]
    except TypeError:
        raise MetricError(f"the buckets of the histogram {clipped(name)} are numbers, not {clipped(buckets)}") from None


def as_float(value: object) -> float:
    """Return a number as exactly a float: others may belong to libraries that only the agent has.

    Raises:
        TypeError, ValueError, OverflowError: it is none.
    """
    if isinstance(value, str | bytes | bytearray):
        raise TypeError
    return float(value)  # type: ignore[arg-type]


def cut(text: str, length: int = VALUE) -> str:
    """Return `text` cut, and as what UTF-8 can express."""
    return text[:length].encode("utf-8", "replace").decode("utf-8")


def clipped(value: object) -> str:
    """Return the ``repr`` of a value for an error, which must not be as long as the value may be."""
    try:
        return _short.repr(value)
    except ValueError:  # an int with thousands of digits
        return f"<{type(value).__name__}>"


def _family(kind: MetricType, name: str) -> str:
    return str(name).removesuffix("_total") if kind == "counter" else str(name)


def _fault_of_metric(kind: MetricType, name: str) -> Fault | None:
    if _NAME.fullmatch(name) is None:
        hint = "; names with colons are for recording rules" if ":" in name else ""
        return Fault(f"{clipped(name)} is no name of a metric: it has {_RULE}{hint}", _spelled(name))
    if name.startswith(PREFIX):
        why = f"has a name that begins with {PREFIX!r}: those are Orchestree's own"
        return Fault(f"the metric {clipped(name)} {why}", name.removeprefix(PREFIX))
    family = _family(kind, name)
    for suffix in SUFFIXES:
        if family.endswith(suffix):
            why = f"ends with {suffix!r}, which Prometheus itself puts behind names"
            return Fault(f"the {kind} {clipped(name)} {why}", family.removesuffix(suffix))
    if _NAME.fullmatch(family) is None:
        return Fault(f"the {kind} {clipped(name)} has no name before its suffix", "")
    if _OF_PROMETHEUS.fullmatch(family) is not None:
        why = "has the name of what Prometheus itself writes about targets and alerts"
        return Fault(f"the {kind} {clipped(name)} {why}: queries would take the one for the other", f"agent_{name}")
    return None


def _fault_of_label(kind: MetricType, name: str, label: str, others: Sequence[str]) -> Fault | None:
    at = f"of the {kind} {clipped(name)}"
    if _NAME.fullmatch(label) is None:
        return Fault(f"{clipped(label)} {at} is no name of a label: it has {_RULE}", _spelled(label))
    if label.startswith("__"):
        return Fault(f"the label {clipped(label)} {at} begins with '__': those are Prometheus' own", label.lstrip("_"))
    if label == "agent":
        return Fault(f"the label 'agent' {at} is there already: it has the path of the agent", "")
    if label == "le" and kind == "histogram":
        return Fault(f"the label 'le' {at} is there already: it has the bounds of the buckets", "")
    if label in _LABELS_OF_PROMETHEUS:
        why = f"is one that Prometheus itself sets: it would rename this one to 'exported_{label}'"
        return Fault(f"the label {label!r} {at} {why}", f"agent_{label}")
    if label in others:
        return Fault(f"the label {clipped(label)} {at} is there twice", "")
    return None


def _refuse_faulty(name: str, fault_of: Callable[[str], Fault | None]) -> None:
    """Raise `MetricError` if `name` has a fault, with the nearest name that has none if that makes sense."""
    fault = fault_of(name)
    if fault is None:
        return
    better = fault.better
    while better and (next_fault := fault_of(better)) is not None:
        better = next_fault.better
    is_of_use = better.strip("_") and len(better) <= QUOTED
    raise MetricError(f"{fault.why} (try {better!r})" if is_of_use else fault.why)


def _spelled(name: str) -> str:
    name = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return f"_{name}" if name[:1].isdigit() else name
