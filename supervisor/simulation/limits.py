"""How much a simulation may be asked for. Pure, and quick to import: the help of the command names them."""

from __future__ import annotations

from typing import Final

DEFAULT_MAX_EVENTS: Final = 1_000_000
LONGEST_S: Final = 100 * 365 * 86400.0
"""Virtual seconds that one can ask for: 100 years."""
