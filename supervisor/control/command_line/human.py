"""How figures, times and other people's texts are shown on a terminal. Pure but for the time zone."""

from __future__ import annotations

import re
import time
from typing import Final

from orchestree.supervisor.phrases import printable as printable

_UNITS: Final = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def duration(seconds: float) -> str:
    """Return ``0.4s``, ``42s``, ``3m 12s``, ``5h 1m`` or ``2d 3h``."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for size, unit, below, smaller in _UNITS:
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // below}{smaller}"
    return f"{whole}s"


def size(count: int) -> str:
    """Return a number of bytes as ``512 B``, ``31.6 MiB`` or ``2.0 GiB``."""
    if count < 1024:
        return f"{count} B"
    shown = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        shown /= 1024
        if shown < 1000:
            return f"{shown:.1f} {unit}"
    return f"{shown / 1024:.1f} TiB"


def clock(seconds: float) -> str:
    """Return a moment (seconds since 1970) as local time, to the millisecond: ``2026-11-22 14:58:01.330``."""
    milliseconds = int(seconds * 1000)
    local = time.localtime(milliseconds // 1000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{milliseconds % 1000:03}"


def printable_lines(text: str) -> str:
    """Return `text` as `printable`, but for its line breaks: what follows the first line is indented."""
    first, *others = (printable(line) for line in re.split(r"\r?\n", text))
    return "\n".join([first, *(f"    {line}".rstrip() for line in others)])


def shortened(text: str, most: int) -> str:
    """Return `text`, or its beginning and an ellipsis, `most` characters in all."""
    return text if len(text) <= most else text[: most - 1] + "…"
