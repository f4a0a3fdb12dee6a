"""How the failures in a row of a node count at a moment. Pure."""

from __future__ import annotations

from typing import Final

from orchestree.strategies.backoff import Streak

from .states import READY, STOPPING, WEDGED
from .tree import AnyNode

_NO_FAILURES: Final = Streak()
_WAS_READY: Final = frozenset({READY, STOPPING, WEDGED})
_STABLE_WITHOUT_POLICY_S: Final = 30.0  # for the streak that `status` shows of a child with ``backoff=None``


def stable_after(node: AnyNode) -> float:
    """Return the seconds of being ready after which the failures in a row no longer count."""
    return node.backoff.stable_after if node.backoff else _STABLE_WITHOUT_POLICY_S


def current_streak(node: AnyNode, now: float) -> Streak:
    """Return the failures in a row as they count at `now`: none after a stable run."""
    if node.state in _WAS_READY and node.ready_since is not None and now - node.ready_since >= stable_after(node):
        return _NO_FAILURES
    return node.streak
