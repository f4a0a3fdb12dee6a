"""Which run of which agent. A value."""

from __future__ import annotations

from typing import NamedTuple


class RunId(NamedTuple):
    """One incarnation of one agent. What an older incarnation still sends is dropped by whoever reads it.

    A tuple because it is the key of every table of runs.
    """

    path: str
    incarnation: int
