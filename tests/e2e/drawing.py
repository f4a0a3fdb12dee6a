"""What Prometheus answered, drawn as text: one line a series, one column a step."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

BLOCKS: Final = "▁▂▃▄▅▆▇█"
MOST_LINES: Final = 6
NAME: Final = 30
WIDTH: Final = 110


@dataclass(frozen=True)
class Curve:
    """A series with its name.

    Attributes:
        values: one for each step, NaN where there is none.
    """

    name: str
    values: Sequence[float]

    @property
    def numbers(self) -> list[float]:
        """Its values that are numbers."""
        return [value for value in self.values if math.isfinite(value)]

    @property
    def is_flat(self) -> bool:
        """Whether it is 0 all the time, or no number."""
        return not any(self.numbers)


def drawn(title: str, curves: Sequence[Curve]) -> list[str]:
    """Return the lines of a panel: its title, then its curves, the highest first, but for those that are flat."""
    ordered = sorted((one for one in curves if not one.is_flat), key=lambda one: -max(one.numbers))
    if len(curves) == 1 and not curves[0].name:
        return [line(title, curves[0])]
    flat = sorted({one.name for one in curves if one.is_flat})
    heading = textwrap.shorten(f"{title}{' -- always 0: ' if flat else ''}{', '.join(flat)}", WIDTH, placeholder=" …")
    left = [f"  … and {len(ordered) - MOST_LINES} more"] if len(ordered) > MOST_LINES else []
    return [heading, *(line(f"  {one.name}", one) for one in ordered[:MOST_LINES]), *left]


def line(name: str, curve: Curve) -> str:
    """Return a curve as a line, with its least and its greatest value behind it."""
    shown = curve.numbers
    extremes = f"{short(min(shown))} … {short(max(shown))}" if shown else "no number"
    return f"{name:<{NAME}.{NAME}} {course(curve)} {extremes}"


def course(curve: Curve) -> str:
    """Return a column for each value, from 0 (or the least, if that is below) to the greatest; blank where is none."""
    low, high = min([0.0, *curve.numbers]), max([0.0, *curve.numbers])
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] if math.isfinite(value) else " " for value in curve.values)


def short(value: float) -> str:
    """Return a number with three digits that count, and k or M."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def wrapped(lines: Iterable[str]) -> list[str]:
    """Return lines none of which is too long."""
    return [piece for whole in lines for piece in textwrap.wrap(whole, WIDTH, subsequent_indent=" " * 8)]
