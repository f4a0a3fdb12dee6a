"""What a tree is simulated from: its specification, as the core would get it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from orchestree.agents.executor import RunEnded
from orchestree.strategies.errors import NotFound, did_you_mean
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry


@dataclass(frozen=True, slots=True)
class Blueprint:
    """One tree that does not run.

    Attributes:
        root: the whole static tree.
        settings: as the core gets them, but for what a simulation brings itself (`draw`).
        classify: may change the reason of an end before the core sees it, see ``Hooks.classify_exit``.
    """

    root: SupervisorEntry
    settings: Settings = field(default_factory=Settings)
    classify: Callable[[RunEnded], RunEnded] | None = None

    def agents(self, path: str = "") -> dict[str, AgentEntry]:
        """Return the agent at `path`, or those below the supervisor there, by path, in registration order.

        Raises:
            NotFound: there is no such agent or supervisor.
        """
        entries = dict(walk_entries(self.root))
        if path not in entries:
            raise NotFound(f"{path!r}: no such agent or supervisor{did_you_mean(path, entries)}")
        return {
            where: entry
            for where, entry in entries.items()
            if isinstance(entry, AgentEntry) and is_at_or_below(where, path)
        }


def is_at_or_below(path: str, above: str) -> bool:
    """Return whether `path` is `above`, or stands somewhere below it; ``""`` is the root."""
    return above == "" or path == above or path.startswith(f"{above}/")


def who_comes_later(entries: Iterable[tuple[str, ChildEntry]], path: str) -> str:
    """Return words that follow an error: that `path` may mean children of a dynamic supervisor; empty if not."""
    for where, entry in entries:
        is_there = is_at_or_below(where, path) or is_at_or_below(path, where)
        if is_there and isinstance(entry, SupervisorEntry) and entry.dynamic:
            return (
                f"; {where or '/'!r} is dynamic: its children come when the tree runs, and in a test with "
                f"t.start_child({where!r}, ...); `simulate` has none"
            )
    return ""


def walk_entries(entry: ChildEntry, path: str = "") -> Iterator[tuple[str, ChildEntry]]:
    """Yield `entry`, whose path is `path`, and all below it, in registration order, with their paths."""
    yield path, entry
    if isinstance(entry, SupervisorEntry):
        for child in entry.children:
            yield from walk_entries(child, f"{path}/{child.name}" if path else child.name)
