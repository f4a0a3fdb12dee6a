"""What a `Prober` answers about one child, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .courses import Course
from .flapping import FailureKind


@dataclass(frozen=True, slots=True)
class Forecast:
    """What happens with the longest and with the shortest delays that jitter allows."""

    longest: Course
    shortest: Course


@dataclass(frozen=True, slots=True)
class Restarts:
    """How many restarts are decided in the worst minute because one child fails, and nobody else.

    Attributes:
        most: number of them.
        is_bound: no rhythm of its failures makes more; else this is the most that was seen in those that were tried.
    """

    most: int
    is_bound: bool


@dataclass(frozen=True, slots=True)
class Raised:
    """When the backoff of one child raises.

    Attributes:
        kind: of its failures then.
        failure: by which of them in a row.
        error: the exception, as text.
    """

    kind: FailureKind
    failure: int
    error: str


@dataclass(frozen=True, slots=True)
class Exhausted:
    """How one child ends its supervisor.

    Attributes:
        kind: of its failures.
        bursts: how often it fails at once, before each time that it is ready for `stable_after` seconds; a single one
            means that it always fails at once.
        stable_after_s: of its policy.
        failure: by which failure.
        after_s: seconds since the first.
    """

    kind: FailureKind
    bursts: tuple[int, ...]
    stable_after_s: float
    failure: int
    after_s: float
