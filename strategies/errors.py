"""The public errors: every one is a mistake of the caller, never the failure of a child.

How a child ended is data (`ExitReason`, `CrashReport`); it is never raised at the caller.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice


class OrchestreeError(Exception):
    """Base of all errors that Orchestree raises at a caller."""


class SpecError(OrchestreeError, ValueError):
    """A specification breaks a rule. Nothing was started and nothing was changed."""


class AlreadyStarted(SpecError):
    """A running child has this name (OTP: ``already_started``). The tree is unchanged."""


class AlreadyPresent(SpecError):
    """A child that does not run has this name (OTP: ``already_present``). The tree is unchanged."""


class StartError(OrchestreeError):
    """The start that a call was about failed.

    `start` under ``strict_start``: what had started was stopped again. `start_child`: nothing of the child is kept.
    """


class NotFound(OrchestreeError, LookupError):
    """No child has this path. The tree is unchanged."""


class Running(OrchestreeError):
    """The command needs a child that does not run (OTP: ``running``). The tree is unchanged."""


class Restarting(OrchestreeError):
    """The child waits for its restart (OTP: ``restarting``). The tree is unchanged."""


class MaxChildren(OrchestreeError):
    """A dynamic supervisor has as many children as it may have (Elixir: ``max_children``). Nothing was started."""


class NotRunning(OrchestreeError):
    """The command needs a running tree: it came before `start()`, after its end, or in an agent's process."""


class MetricError(OrchestreeError, ValueError):
    """A metric was declared twice with different types or labels, or its name is not valid."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest candidate, or an empty string.

    Looks at the first thousand only: a mistake of the caller must not hold up a large tree.
    """
    close = difflib.get_close_matches(word, list(islice(candidates, 1000)), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
