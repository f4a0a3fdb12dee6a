"""Names for children that were given none, ``worker-1`` and so on."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable

from orchestree.agents.base import BaseAgent

from .draft import join_path


class MadeUpNames:
    """Makes up names, each once. Any thread."""

    def __init__(self, is_taken: Callable[[str], bool]) -> None:
        """Ask `is_taken` whether there is something at a path."""
        self._is_taken = is_taken
        self._lock = threading.Lock()
        self._count: Counter[str] = Counter()

    def make(self, parent: str, agent: type[BaseAgent]) -> str:
        """Return a name for a new child of this class, below the supervisor at `parent`, that nobody has."""
        kind = re.sub(r"[^A-Za-z0-9._-]", "_", str(getattr(agent, "__name__", agent)).lower())[:40]
        with self._lock:
            while True:
                self._count[kind] += 1
                name = f"{kind}-{self._count[kind]}"
                if not self._is_taken(join_path(parent, name)):
                    return name
