"""A kit to test restart policies with: trees under virtual time, invariants, and random faults from Hypothesis.

`supervised` and the invariants need nothing more; `trees` and `fault_schedules` need the extra ``testing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestree.supervisor.simulation.fault_lines import line_of as line_of, parse_fault as parse_fault
    from orchestree.supervisor.simulation.faults import (
        Complete as Complete,
        Crash as Crash,
        Down as Down,
        Fault as Fault,
        Hang as Hang,
        IgnoreStop as IgnoreStop,
        SlowStart as SlowStart,
    )

    from .fault_strategy import fault_schedules as fault_schedules
    from .invariants import (
        Invariant as Invariant,
        never_two_live as never_two_live,
        recovers_within as recovers_within,
        stays_within as stays_within,
    )
    from .live import LiveChaos as LiveChaos
    from .live_run import LiveRun as LiveRun
    from .report import CheckFailed as CheckFailed
    from .schedule import Schedule as Schedule
    from .supervised_tree import SupervisedTree as SupervisedTree, supervised as supervised
    from .tree_strategy import trees as trees
else:
    from orchestree import lazy

    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            ".fault_strategy": "fault_schedules",
            ".invariants": "Invariant never_two_live recovers_within stays_within",
            ".live": "LiveChaos",
            ".live_run": "LiveRun",
            ".report": "CheckFailed",
            ".schedule": "Schedule",
            ".supervised_tree": "SupervisedTree supervised",
            ".tree_strategy": "trees",
            "orchestree.supervisor.simulation.fault_lines": "line_of parse_fault",
            "orchestree.supervisor.simulation.faults": "Complete Crash Down Fault Hang IgnoreStop SlowStart",
        },
    )
