"""What is said to whoever asked for something that cannot be done: problem details (RFC 9457) with a stable code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from orchestree.strategies.errors import NotFound, NotRunning, OrchestreeError, Restarting, Running

PROBLEM_TYPE: Final = "application/problem+json"

LONGEST: Final = 2_000
"""Characters of a detail, which may quote what was sent; the rest is left out."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem, the same in every answer that has its code."""

    status: int
    title: str


KINDS: Final = MappingProxyType(
    {
        "bad_request": Kind(400, "The request is not valid"),
        "not_permitted": Kind(403, "Not permitted"),
        "not_found": Kind(404, "There is no such agent or supervisor"),
        "no_route": Kind(404, "There is nothing at this address"),
        "method_not_allowed": Kind(405, "This address does not know this method"),
        "running": Kind(409, "It runs"),
        "restarting": Kind(409, "It waits for its restart"),
        "conflict": Kind(409, "Not possible in its present state"),
        "too_large": Kind(413, "The request is too large"),
        "unsupported_media_type": Kind(415, "The body must be JSON"),
        "internal": Kind(500, "A mistake of the orchestrator"),
        "busy": Kind(503, "There is too much to do at the moment"),
        "ended": Kind(503, "The tree has ended"),
        "timeout": Kind(504, "It was not done in time"),
    }
)


@dataclass(frozen=True, slots=True)
class ProblemDetails:
    """A problem as it is sent.

    Attributes:
        type: ``urn:orchestree:problem:`` and the code.
        title: the same for every problem with this code.
        status: of HTTP.
        detail: one line about this request.
        code: stable; programs decide by it.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str


class Problem(Exception):
    """Ends the handling of a request."""

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer with this code of `KINDS`, one line of detail, and further headers."""
        super().__init__(detail)
        self.code = code
        self.detail = detail if len(detail) <= LONGEST else f"{detail[: LONGEST - 3]}..."
        self.headers = headers or {}

    @property
    def status(self) -> int:
        """Status of the answer."""
        return KINDS[self.code].status

    def details(self) -> ProblemDetails:
        """Return what is sent."""
        kind = KINDS[self.code]
        return ProblemDetails(f"urn:orchestree:problem:{self.code}", kind.title, kind.status, self.detail, self.code)


def problem_of(error: Exception, *, has_ended: bool) -> Problem:
    """Return what to say about `error`; one that nobody foresaw is ``internal``, without a word of its own."""
    match error:
        case Problem():
            return error
        case NotFound():
            return Problem("not_found", str(error))
        case Running():
            return Problem("running", str(error))
        case Restarting():
            return Problem("restarting", f"{error}; restart it to have it start at once")
        case NotRunning():
            return Problem("ended", "the tree has ended") if has_ended else Problem("conflict", str(error))
        case OrchestreeError():  # a SpecError: what was given breaks a rule
            return Problem("bad_request", str(error))
        case TimeoutError():
            return Problem("timeout", "the command was handed in, but supervision has not answered yet")
        case _:
            return Problem("internal", "an unexpected error, which the orchestrator's log has")
