"""How much a simulation or a replay may be asked for. Pure, and quick to import: commands name these."""

from __future__ import annotations

from typing import Final

DEFAULT_MAX_EVENTS: Final = 1_000_000
LONGEST_S: Final = 100 * 365 * 86400.0
"""Virtual seconds that one can ask for: 100 years."""
FARTHEST_S: Final = 6e10
"""Seconds from 1970 that every calendar can show: to the year 3871."""
