"""A schedule: faults, and how long it goes on. A value that can be printed, pasted and run again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from orchestree.strategies import checks
from orchestree.supervisor.simulation.asked_faults import faults_of
from orchestree.supervisor.simulation.fault_lines import line_of
from orchestree.supervisor.simulation.faults import Fault, Hang, Spell


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Schedule:
    """Faults and the time in which they happen. Its `repr` is the expression that makes it.

    Attributes:
        faults: their times count from the moment at which the schedule is run.
        duration: seconds; what the faults still do after them happens all the same when the clock goes on.
    """

    faults: tuple[Fault, ...]
    duration: float

    def __init__(self, faults: Iterable[Fault | str], duration: float | None = None) -> None:
        """Check and freeze the schedule.

        Args:
            faults: values, or lines such as ``"worker: crash every 7s"``, see `parse_fault`.
            duration: seconds, 0 or more; None: until the last fault is over. Of one without an end counts when it
                begins or happens first.

        Raises:
            SpecError: a line says no fault, or a value breaks a rule.
        """
        parsed = faults_of(faults)
        if duration is None:
            duration = max(map(_over_at, parsed), default=0.0)
        object.__setattr__(self, "faults", parsed)
        object.__setattr__(self, "duration", float(checks.seconds("duration", duration)))

    def __len__(self) -> int:
        """Return how many faults there are."""
        return len(self.faults)

    def __iter__(self) -> Iterator[Fault]:
        """Iterate over the faults."""
        return iter(self.faults)

    def __repr__(self) -> str:
        """Return the expression, with a line for each fault if there are several."""
        lines = [f'"{line_of(fault)}"' for fault in self.faults]
        faults = "[\n" + "".join(f"    {line},\n" for line in lines) + "]" if len(lines) > 1 else f"[{''.join(lines)}]"
        return f"Schedule({faults}, duration={self.duration!r})"

    def _repr_pretty_(self, printer: _Printer, cycle: bool) -> None:
        """Print the same where IPython or Hypothesis prints it, which else looks through a `repr`."""
        for place, line in enumerate(repr(self).splitlines()):
            if place:
                printer.break_()
            printer.text(line)


class _Printer(Protocol):
    def text(self, text: str) -> object: ...
    def break_(self) -> object: ...


def later(fault: Fault, seconds: float) -> Fault:
    """Return `fault` as one whose times count from so many seconds earlier.

    Of one that comes ``about every`` so often the first time is no longer drawn: it is the mean.
    """
    if not seconds:
        return fault
    if isinstance(fault, Spell):
        return replace(fault, at=fault.at + seconds, until=fault.until + seconds)
    first = fault.at if fault.at is not None else fault.every or 0.0
    return replace(fault, at=first + seconds, until=fault.until + seconds)


def _over_at(fault: Fault) -> float:
    """Return when a fault is over; of one without an end, when it begins or happens first."""
    if isinstance(fault, Spell):
        return fault.until if fault.until < math.inf else fault.at
    gap = fault.every or fault.after or 0.0
    last = gap if fault.at is None else fault.at
    if fault.until < math.inf:
        last = fault.until
    elif fault.times is not None:
        last += (fault.times - 1) * gap
    return last + (fault.lasts if isinstance(fault, Hang) and fault.lasts < math.inf else 0.0)
