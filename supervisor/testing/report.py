"""What a failed check tells: what is wrong, the faults that led to it, ready to be pasted, and the timeline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from orchestree.supervisor.phrases import counted
from orchestree.supervisor.simulation.durations import in_words
from orchestree.supervisor.simulation.fault_lines import line_of
from orchestree.supervisor.simulation.faults import Moments

from .causes import Raised

if TYPE_CHECKING:
    from orchestree.supervisor.simulation.faults import Fault

    from .supervised_tree import SupervisedTree

MOST_FINDINGS: Final = 5
MOST_FAULTS: Final = 40
SHORTEST_S: Final = 0.001
"""That `orchestree simulate` can be asked for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: which invariant says so, and what it says."""

    invariant: str
    text: str


class CheckFailed(AssertionError):
    """Something that must hold does not. The message is for a person.

    Attributes:
        findings: what is wrong, in the order of the invariants.
        faults: that led to it, in the order in which they were asked for; their times count from the start of the tree.
    """

    def __init__(self, message: str, findings: Sequence[Finding] = (), faults: Sequence[Fault] = ()) -> None:
        """Fail with `message`."""
        super().__init__(message)
        self.findings = tuple(findings)
        self.faults = tuple(faults)


def report_of(tree: SupervisedTree, findings: Sequence[Finding]) -> str:
    """Return the message of the failure."""
    return "\n".join([*_found(findings), "", *_cause(tree), "", tree.timeline()])


def _found(findings: Sequence[Finding]) -> Iterator[str]:
    yield f"{counted(len(findings), 'thing')} must not be so:"
    yield from (f"  {finding.invariant}: {finding.text}" for finding in findings[:MOST_FINDINGS])
    if len(findings) > MOST_FINDINGS:
        yield f"  ... and {len(findings) - MOST_FINDINGS} more"


def _cause(tree: SupervisedTree) -> Iterator[str]:
    struck = {id(one.fault) for one in tree.simulation.struck}
    faults = [fault for fault in tree.faults if not isinstance(fault, Moments) or id(fault) in struck]
    lines = [*_lines(tree, faults)]
    if not faults:
        yield "No fault has happened."
    else:
        what = "that" if len(lines) <= MOST_FAULTS else f"the first {MOST_FAULTS} (all: `faults` of this error)"
        yield f"{counted(len(faults), 'fault')} led to it. To see {what} again:"
        options = [f"--until {in_words(max(tree.now, SHORTEST_S))} --seed {tree.seed}"]
        options += [f'  --fault "{line}"' for line in lines[:MOST_FAULTS]]
        yield f"  orchestree simulate TARGET {options[0]}" + (" \\" if len(options) > 1 else "")
        yield from (f"  {option} \\" for option in options[1:-1])
        yield from (f"  {option}" for option in options[1:][-1:])
    own = {kind for fault in faults if isinstance(fault, Raised) and (kind := fault.types[0]) != _builtin(fault)}
    if own:
        yield f"There {', '.join(sorted(own))} goes by its nearest builtin class: rules for it do not match."
    if tree.orders:
        yield "The test also asked, which a simulation cannot:"
        yield from (f"  {order}" for order in tree.orders)


def _lines(tree: SupervisedTree, faults: Sequence[Fault]) -> Iterator[str]:
    """Yield `faults` as lines; one whose times were drawn as what it did: other times would be drawn for it."""
    for fault in faults:
        if isinstance(fault, Moments) and fault.about:
            struck = (one for one in tree.simulation.struck if one.fault is fault)
            once = replace(fault, every=None, after=None, until=math.inf, times=None, about=False, at=0.0)
            yield from (line_of(replace(once, path=one.path, at=one.now)) for one in struck)
        else:
            yield line_of(fault)


def _builtin(fault: Raised) -> str:
    return f"builtins.{fault.exception}"
