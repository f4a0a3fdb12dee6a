"""A tree under virtual time: the real core with runs that only pretend, and what can go wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fault_lines import line_of as line_of, parse_fault as parse_fault
    from .faults import (
        Complete as Complete,
        Crash as Crash,
        Down as Down,
        Fault as Fault,
        Hang as Hang,
        IgnoreStop as IgnoreStop,
        SlowStart as SlowStart,
    )
else:
    from orchestree import lazy

    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            ".fault_lines": "line_of parse_fault",
            ".faults": "Complete Crash Down Fault Hang IgnoreStop SlowStart",
        },
    )
