"""Tables as Docker writes them: UPPERCASE heads, aligned columns, colour by state on a terminal only."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any, Final

import click

from .human import shortened

GAP: Final = "   "
LEAST_WIDTH: Final = 20
"""Characters of the last column that are shown even if the terminal has no room for them."""
STATE: Final = "STATE"
"""Head of the column whose cells have the colour of the state that they name."""

COLOURS: Final = MappingProxyType(
    {"ready": "green", "completed": "blue", "stopped": "bright_black"}
    | dict.fromkeys(("waiting", "queued", "starting", "stopping", "backoff"), "yellow")
    | dict.fromkeys(("failed", "parked", "wedged"), "red")
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""The option that every command has which prints something."""


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, on a terminal as wide as that. All cells must be printable."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table(heads, rows, coloured=is_coloured(), width=width):
        click.echo(line)


def print_json(value: Any) -> None:
    """Print a JSON document. What is no ASCII is escaped, hence nothing in it can steer a terminal."""
    click.echo(json.dumps(value, indent=2))


def print_json_line(value: Any) -> None:
    """Print one object of a stream."""
    click.echo(json.dumps(value))


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, coloured: bool = False, width: int | None = None
) -> list[str]:
    """Return the lines of a table, each cell padded to the widest of its column, the last one not.

    That one is cut to a `width` of the whole.
    """
    whole = [list(heads), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    if width is not None:
        room = max(LEAST_WIDTH, width - sum(widths[:-1]) - len(GAP) * (len(widths) - 1))
        widths[-1] = min(widths[-1], room)
        for row in whole:
            row[-1] = shortened(row[-1], room)
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in whole]
    if coloured and STATE in heads:
        column = heads.index(STATE)
        for row in padded[1:]:
            row[column] = painted(row[column])
    return [GAP.join(row).rstrip() for row in padded]


def painted(cell: str) -> str:
    """Return a state, with blanks behind it or not, in its colour."""
    colour = COLOURS.get(cell.strip())
    return click.style(cell, fg=colour) if colour else cell


def is_coloured() -> bool:
    """Say whether stdout is a terminal whose owner has nothing against colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
