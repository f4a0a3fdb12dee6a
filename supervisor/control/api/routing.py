"""Which address means what. It is taken as it was sent.

Words of the API stand there literally, and each segment of a path is decoded for itself:
``/agents/x/logs`` is the log of the agent ``x``, and ``/agents/x%2Flogs`` the agent ``x/logs``. A path may begin with
a slash: ``%2F`` alone is the root, and ``/agents/%2F..`` the agent ``..``, which no browser leaves as it is otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .endpoints import BY_ROUTE, SUFFIXES, Endpoint
from .parameters import unquoted
from .problems import Problem

PREFIX: Final = b"/v1"


@dataclass(frozen=True, slots=True)
class Route:
    """Where an address leads; `path` is that of an agent or supervisor, empty also if there is none in it."""

    endpoint: Endpoint
    path: str


def find(method: str, raw_path: bytes) -> Route:
    """Return the endpoint for a request.

    Raises:
        Problem: ``no_route``, ``method_not_allowed``, ``bad_request``.
    """
    route, path = _split(raw_path)
    methods = BY_ROUTE.get(route)
    if methods is None:
        raise Problem("no_route", "there is nothing at this address; GET /v1/openapi.json says what there is")
    endpoint = methods.get("GET" if method == "HEAD" else method)
    if endpoint is None:
        known = sorted({*methods, *({"HEAD"} if "GET" in methods else ())})
        raise Problem("method_not_allowed", f"this address knows {' '.join(known)}", {"allow": ", ".join(known)})
    return Route(endpoint, path)


def _split(raw_path: bytes) -> tuple[str, str]:
    """Return the route of the table (or what is none) and the path in it."""
    if not raw_path.startswith(PREFIX + b"/"):
        return "", ""
    first, *rest = raw_path.removeprefix(PREFIX + b"/").split(b"/")
    if first != b"agents" or not rest:
        return raw_path.removeprefix(PREFIX).decode("ascii", "replace"), ""
    if b"" in rest:
        return "", ""
    suffix = rest[-1].decode("ascii", "replace")
    if suffix in SUFFIXES and len(rest) > 1:
        return f"/agents/{{path}}/{suffix}", _path(rest[:-1])
    return "/agents/{path}", _path(rest)


def _path(segments: list[bytes]) -> str:
    return "/".join(map(unquoted, segments)).removeprefix("/")
