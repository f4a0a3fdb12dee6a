"""What the control server grants each connection."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from typing import Final

MOST_CONNECTIONS: Final = 512


def affordable_connections() -> int:
    """Return how many connections there may be: few enough to leave the tree most of the descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // 4)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how large; times in seconds. Whoever goes beyond one of them is dropped.

    Attributes:
        head_s: for the head of a request, from the start of the connection or from its first byte.
        head_bytes: of a head.
        body_s: between two pieces of a body; and for the rest of one that was answered before it had come.
        idle_s: between two requests.
        taking_s: within which something must be taken of what was sent.
        grace_s: that running requests get when the server is closed.
        connections: at once.
        check_s: between two looks whether the socket is still in its place.
    """

    head_s: float = 10.0
    head_bytes: int = 65_536
    body_s: float = 30.0
    idle_s: float = 75.0
    taking_s: float = 60.0
    grace_s: float = 1.0
    connections: int = field(default_factory=affordable_connections)
    check_s: float = 30.0
