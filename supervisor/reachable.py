"""What the tree asks the executors about agents that do not run yet: can it reach them, can it kill them."""

from __future__ import annotations

from orchestree.agents.executor import RunId
from orchestree.agents.executors import executor_class

from .draft import join_path
from .runs import launch_of
from .spec import ChildEntry, SupervisorEntry


class Killable:
    """The executors whose runs can be killed, without loading those that nobody uses."""

    def __contains__(self, name: object) -> bool:
        """Return whether runs of the executor of this name can be killed."""
        return isinstance(name, str) and executor_class(name).can_kill


def check_reachable(entry: ChildEntry, parent: str) -> None:
    """Raise `SpecError` if an agent's class, config or params cannot reach the place where it runs."""
    path = join_path(parent, entry.name)
    if isinstance(entry, SupervisorEntry):
        for child in entry.children:
            check_reachable(child, path)
    else:
        executor_class(entry.executor).check(launch_of(entry, RunId(path, 0)))
