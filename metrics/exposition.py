"""How values, labels and families are written in Prometheus' text formats, and which of the two is asked for.

Byte for byte what `prometheus_client` writes; it is the reference, and too slow for a large tree.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.utils import floatToGoString

from .families import Family

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""Content types of the two formats."""

END_OF_OPEN_METRICS: Final = b"# EOF\n"

PIECE_BYTES: Final = 256 * 1024
"""Of one piece: so little that no single step on it holds the interpreter for as long as a switch interval."""

_PLAIN_BELOW: Final = 1e6  # from here on Go writes exponents, and Python does not


def wants_open_metrics(accept: str) -> bool:
    """Return whether an Accept header of HTTP prefers OpenMetrics 1.0.0 to plain text, or likes both as much."""
    open_metrics, text = 0.0, 0.0
    for asked in accept.lower().split(","):
        kind, *rest = (part.strip() for part in asked.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        quality = _quality(parameters.get("q", "1"))
        if kind == "application/openmetrics-text" and parameters.get("version", "1.0.0") == "1.0.0":
            open_metrics = max(open_metrics, quality)
        elif kind == "text/plain":
            text = max(text, quality)
    return open_metrics > 0.0 and open_metrics >= text


def number(value: float) -> str:
    """Return a value as Go would write it."""
    if 0.0 <= value < _PLAIN_BELOW:
        return repr(value)
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def escaped(value: str) -> str:
    """Return a label's value as it stands between the quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """Return the line of one sample."""
    inner = ",".join(f'{label}="{escaped(labels[label])}"' for label in sorted(labels))
    return f"{name}{{{inner}}} {number(float(value))}\n" if inner else f"{name} {number(float(value))}\n"


def head(family: Family, *, open_metrics: bool) -> bytes:
    """Return the lines that introduce a family."""
    name = family.base if open_metrics else family.name
    return f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n".encode()


def pieces(parts: Sequence[bytes], ends: Sequence[int]) -> Iterator[bytes]:
    """Join `parts` to pieces of at most `PIECE_BYTES`; a part that is longer is one of its own.

    Args:
        parts: none of them empty.
        ends: how many bytes there are up to the end of each.
    """
    start, sent = 0, 0
    while start < len(parts):
        stop = max(start + 1, bisect_right(ends, sent + PIECE_BYTES, start))
        yield b"".join(parts[start:stop])
        start, sent = stop, ends[stop - 1]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
