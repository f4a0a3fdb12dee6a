"""What the processes of agents have used by their end. Pure."""

from __future__ import annotations

from typing import NamedTuple

from orchestree.agents.executor import RunId


class EndedCpu(NamedTuple):
    """What the ended runs of one agent have used together.

    A tuple because a reader in another thread must see both values change at once.

    Attributes:
        seconds: of processor time.
        incarnation: of the latest run that is in the sum; 0 if none is.
    """

    seconds: float = 0.0
    incarnation: int = 0


class CpuBook:
    """The processor time of ended runs, by path. Supervision thread only, but for `of`."""

    def __init__(self) -> None:
        """Begin with no run."""
        self._ended: dict[str, EndedCpu] = {}

    def enter(self, run: RunId, seconds: float) -> None:
        """Note what a run that has ended has used."""
        before = self.of(run.path)
        self._ended[run.path] = EndedCpu(before.seconds + seconds, max(before.incarnation, run.incarnation))

    def forget(self, path: str) -> None:
        """Forget an agent that has left the tree."""
        self._ended.pop(path, None)

    def of(self, path: str) -> EndedCpu:
        """Return what is known of the agent at `path`. Any thread."""
        return self._ended.get(path, EndedCpu())
