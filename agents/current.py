"""Which run the calling thread or task belongs to: how an orchestrator notices calls of its own agents."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .executor import Host, RunId

current_run: Final[ContextVar[RunId | None]] = ContextVar("orchestree_current_run", default=None)
"""The run whose hook is being called; None outside hooks. A thread that a hook starts does not see it."""

current_host: Final[ContextVar[Host | None]] = ContextVar("orchestree_current_host", default=None)
"""The orchestrator's end that the run reports to; None outside hooks and in an agent's own process."""
