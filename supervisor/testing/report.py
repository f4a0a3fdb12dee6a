"""What a failed check tells: what is wrong, the faults that led to it, ready to be pasted, and the timeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestree.supervisor.phrases import counted
from orchestree.supervisor.simulation.durations import in_words
from orchestree.supervisor.simulation.fault_lines import line_of

if TYPE_CHECKING:
    from orchestree.supervisor.simulation.faults import Fault

    from .supervised_tree import SupervisedTree

MOST_FINDINGS: Final = 5
MOST_FAULTS: Final = 40


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
    lines = [line_of(fault) for fault in tree.faults]
    if lines:
        yield f"{counted(len(lines), 'fault')} led to it. To see that again:"
        yield f"  orchestree simulate TARGET --until {in_words(tree.now)} --seed {tree.seed} \\"
        shown = lines[:MOST_FAULTS]
        yield from (f'    --fault "{line}" \\' for line in shown[:-1])
        yield f'    --fault "{shown[-1]}"'
        if len(lines) > MOST_FAULTS:
            yield f"    ... and {len(lines) - MOST_FAULTS} more faults"
    else:
        yield "No fault was asked for."
    if tree.orders:
        yield "The test also asked, which a simulation cannot:"
        yield from (f"  {order}" for order in tree.orders)
