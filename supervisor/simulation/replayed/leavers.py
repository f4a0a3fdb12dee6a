"""Who leaves the tree of a replay, and with which event: events say that of few. Pure."""

from __future__ import annotations

from collections import defaultdict

from orchestree.supervisor.tree import AnyNode
from orchestree.supervisor.world import World


class Leavers:
    """Notes who is taken out of a tree.

    Attributes:
        numbers: of the events with which something has left, by its path, ascending.
    """

    def __init__(self, world: World) -> None:
        """Look at this tree from now on."""
        self.numbers: defaultdict[str, list[int]] = defaultdict(list)
        self._nodes = world.nodes = _Nodes(world.nodes)

    def note(self, number: int) -> None:
        """Say that whoever has left since the last call has left with this event."""
        for path in self._nodes.left:
            self.numbers[path].append(number)
        self._nodes.left.clear()


class _Nodes(dict[str, AnyNode]):
    """A tree by path, with the paths of those that were taken out of it. To look after each event would be slow."""

    def __init__(self, nodes: dict[str, AnyNode]) -> None:
        super().__init__(nodes)
        self.left: list[str] = []

    def __delitem__(self, path: str) -> None:
        super().__delitem__(path)
        self.left.append(path)
