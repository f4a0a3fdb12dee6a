"""What metrics may be called and take. Every refusal names the value, the rule and the nearest right one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Final, NoReturn

from orchestree.strategies.errors import MetricError

from .metric_data import Definition, MetricType

PREFIX: Final = "orchestree_"
"""Of the families that Orchestree has itself."""
SUFFIXES: Final = ("_total", "_bucket", "_count", "_sum", "_created")
"""What Prometheus puts behind the name of a family, by its type."""

HELP: Final = 1_000
VALUE: Final = 200
"""Characters of a help text, and of the value of a label; what is longer is cut."""

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RULE: Final = "letters, digits and underscores, not a digit first"


def define(
    kind: MetricType, name: object, help: object, labels: tuple[object, ...], buckets: tuple[object, ...]
) -> Definition:
    """Return the checked definition of a metric. Raises `MetricError` as the functions below do."""
    family = family_name(kind, name)
    if not isinstance(help, str):
        raise MetricError(f"the help of the {kind} {name!r} is a text, not {help!r}")
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
    try:
        bounds = tuple(map(as_float, buckets))
    except (TypeError, ValueError, OverflowError):
        raise MetricError(f"the buckets of the histogram {name!r} are numbers, not {buckets!r}") from None
    if not bounds or bounds[0] == inf:
        raise MetricError(f"the histogram {name!r} needs a bucket below infinity")
    for lower, upper in pairwise((-inf, *bounds)):
        if not lower < upper:
            raise MetricError(f"the buckets of the histogram {name!r} do not ascend at {upper!r}: {buckets!r}")
    return bounds if bounds[-1] == inf else (*bounds, inf)


def family_name(kind: MetricType, name: object) -> str:
    """Return the name of the family: `name`, that of a counter without ``_total``.

    Raises:
        MetricError: it is no name for a metric of this kind.
    """
    if not isinstance(name, str):
        raise MetricError(f"the name of a metric is a text, not {name!r}")
    if _NAME.fullmatch(name) is None:
        hint = "; names with colons are for recording rules" if ":" in name else ""
        _refuse(f"{name!r} is no name of a metric: it has {_RULE}{hint}", _nearest(name))
    if name.startswith(PREFIX):
        _refuse(f"the metric {name!r} has a name that begins with {PREFIX!r}: those are Orchestree's own", name[11:])
    family = name.removesuffix("_total") if kind == "counter" else name
    for suffix in SUFFIXES:
        if family.endswith(suffix):
            why = f"{kind} {name!r} ends with {suffix!r}, which Prometheus itself puts behind names"
            _refuse(f"the {why}", family.removesuffix(suffix))
    if _NAME.fullmatch(family) is None:  # nothing but a suffix
        raise MetricError(f"the {kind} {name!r} has no name before its suffix")
    return str(family)


def check_labels(kind: MetricType, name: str, labels: Sequence[object]) -> tuple[str, ...]:
    """Return the names of the labels of a metric.

    Raises:
        MetricError: one of them is no name of a label, is taken, or is there twice.
    """
    checked: list[str] = []
    for label in labels:
        at = f"of the {kind} {name!r}"
        if not isinstance(label, str):
            raise MetricError(f"the name of a label {at} is a text, not {label!r}")
        if _NAME.fullmatch(label) is None:
            _refuse(f"{label!r} is no name of a label {at}: it has {_RULE}", _nearest(label))
        if label.startswith("__"):
            _refuse(f"the label {label!r} {at} begins with '__': those are Prometheus' own", label.lstrip("_"))
        if label == "agent":
            raise MetricError(f"the label 'agent' {at} is there already: it has the path of the agent")
        if label == "le" and kind == "histogram":
            raise MetricError(f"the label 'le' {at} is there already: it has the bounds of the buckets")
        if label in checked:
            raise MetricError(f"the label {label!r} {at} is there twice")
        checked.append(str(label))
    return tuple(checked)


def served_name(kind: MetricType, family: str) -> str:
    """Return the name under which Prometheus knows the metric."""
    return f"{family}_total" if kind == "counter" else family


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


def _nearest(name: str) -> str:
    name = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return f"_{name}" if name[:1].isdigit() else name


def _refuse(text: str, better: str) -> NoReturn:
    raise MetricError(f"{text} (try {better!r})" if _NAME.fullmatch(better) else text)
