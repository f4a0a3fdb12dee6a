"""Faults as users hand them in, values or lines, checked. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from orchestree.strategies.errors import SpecError

from .fault_lines import parse_fault
from .faults import Fault, check_fault


def fault_of(asked: Fault | str) -> Fault:
    """Return the fault that `asked` is, or says.

    Raises:
        SpecError: it is none.
    """
    fault = parse_fault(asked) if isinstance(asked, str) else asked
    check_fault(fault)
    return fault


def faults_of(asked: Iterable[Fault | str]) -> tuple[Fault, ...]:
    """Return the faults that those in `asked` are, or say, in order.

    Raises:
        SpecError: it is no list of faults.
    """
    if isinstance(asked, (str, Fault, type)) or not isinstance(asked, Iterable):
        raise SpecError(f"faults={asked!r}: must be a list of faults, such as ['worker: crash every 7s']")
    return tuple(map(fault_of, asked))
