"""Seconds as people write them: ``7s``, ``250ms``, ``1h30m``. Pure."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from orchestree.strategies.errors import SpecError

_UNITS: Final = MappingProxyType({"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1})
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[wdhms])")
_PLAIN: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def parse_seconds(text: str) -> float:
    """Return the seconds that `text` says: ``90``, ``7s``, ``250ms``, ``20m``, ``24h``, ``2d``, ``1h30m``.

    Raises:
        SpecError: it says none, or more than a float can hold.
    """
    found = float(text) if _PLAIN.fullmatch(text) else seconds_in(text)
    if found is None or not math.isfinite(found):
        raise SpecError(f"{text!r}: must be a duration, such as 7s, 250ms, 20m, 24h, 2d or 1h30m")
    return found


def seconds_in(text: str) -> float | None:
    """Return the seconds of numbers with units, such as ``10m`` or ``1h30m``; None if it is not that."""
    if not text or _PART.sub("", text):
        return None
    # Divided, as 0.001 times 250 is not always the nearest number to 0.25.
    return sum(
        float(count) / 1000 if unit == "ms" else float(count) * _UNITS[unit] for count, unit in _PART.findall(text)
    )


def in_words(seconds: float) -> str:
    """Return `seconds` as `parse_seconds` reads them, exactly: ``7s``, ``1h30m``, ``2.5s``; ``forever`` of infinity."""
    if seconds == math.inf:
        return "forever"
    if seconds == 0:
        return "0s"
    if seconds < 1 and round(seconds * 1000) / 1000 == seconds:
        return f"{round(seconds * 1000)}ms"
    if seconds != int(seconds) or seconds >= 2**53:
        return f"{Decimal(repr(float(seconds))):f}s"
    said, left = "", int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        said += f"{count}{unit}" if count else ""
    return said
