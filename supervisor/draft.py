"""The static tree before the start: what has been registered, by path of the supervisor. Only in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from orchestree.strategies.errors import AlreadyPresent, NotFound, SpecError, did_you_mean

from .entry_fields import check_path
from .reconfiguring import changed_entry
from .spec import ChildEntry, SupervisorEntry, check_children


class Draft:
    """Collects entries. Not thread-safe.

    Attributes:
        root: specification of the root; its children are kept apart.
    """

    def __init__(self, root: SupervisorEntry) -> None:
        """Begin with the children of `root`."""
        self.root = replace(root, children=())
        self._children: dict[str, dict[str, ChildEntry]] = {"": {}}
        for entry in check_children(root.children):
            self.add("", entry)

    def children(self) -> tuple[ChildEntry, ...]:
        """Return the entries below the root, in registration order, each supervisor with its children."""
        return self._collect("")

    def add(self, parent: str, entry: ChildEntry) -> None:
        """Add a child.

        Raises:
            NotFound: `parent` is no supervisor. SpecError: its name is taken, or `parent` is dynamic.
        """
        siblings = self._children.get(parent)
        if siblings is None:
            raise NotFound(f"{parent!r}: no such supervisor{did_you_mean(parent, self._children)}")
        path = join_path(parent, entry.name)
        owner = self.get(parent)
        if isinstance(owner, SupervisorEntry) and owner.dynamic:
            raise SpecError(f"{path!r}: {parent!r} is dynamic: its children come with start_child() when the tree runs")
        if entry.name in siblings:
            raise AlreadyPresent(f"name={entry.name!r}: {path!r} is registered already")
        siblings[entry.name] = entry
        if isinstance(entry, SupervisorEntry):
            self._children[path] = {}
            for child in entry.children:
                self.add(path, child)

    def get(self, path: str) -> ChildEntry:
        """Return the entry at `path`; a supervisor without its children.

        Raises:
            NotFound: there is none.
        """
        check_path(path)
        if not path:
            return self.root
        parent, _, name = path.rpartition("/")
        entry = self._children.get(parent, {}).get(name)
        if entry is None:
            raise self._not_found(path)
        return replace(entry, children=()) if isinstance(entry, SupervisorEntry) else entry

    def reconfigure(self, path: str, changes: Mapping[str, object]) -> None:
        """Change the policy of the entry at `path`.

        Raises:
            NotFound: there is none. SpecError: a field cannot be changed, or its value breaks a rule.
        """
        entry = changed_entry(self.get(path), changes, path)
        if isinstance(entry, SupervisorEntry) and not path:
            self.root = entry
        else:
            parent, _, name = path.rpartition("/")
            self._children[parent][name] = entry

    def entries(self) -> dict[str, ChildEntry]:
        """Return everything below the root by path, in registration order, each supervisor before its children."""
        return dict(self._walk(""))

    def changed(self, root: SupervisorEntry, entries: Mapping[str, ChildEntry]) -> Draft:
        """Return a copy with another root, and with these entries in place of those at their paths.

        Names and places stay as they are; a supervisor keeps its children, whatever its new entry says.
        """
        copy = Draft(root)
        copy._children = {parent: dict(siblings) for parent, siblings in self._children.items()}
        for path, entry in entries.items():
            parent, _, name = path.rpartition("/")
            copy._children[parent][name] = entry
        return copy

    def become(self, other: Draft) -> None:
        """Take over everything that `other` has."""
        self.root, self._children = other.root, other._children

    def remove(self, path: str) -> None:
        """Remove a child and all below it.

        Raises:
            NotFound: there is none.
            SpecError: a sibling depends on it.
        """
        check_path(path)
        parent, _, name = path.rpartition("/")
        siblings = self._children.get(parent, {})
        if name not in siblings:
            raise self._not_found(path)
        dependents = [repr(entry.name) for entry in siblings.values() if name in entry.depends_on]
        if dependents:
            raise SpecError(f"{path!r}: {', '.join(dependents)} depend on it")
        del siblings[name]
        for supervisor in [key for key in self._children if key == path or key.startswith(f"{path}/")]:
            del self._children[supervisor]

    def _not_found(self, path: str) -> NotFound:
        return NotFound(f"{path!r}: no such agent or supervisor{did_you_mean(path, self._paths())}")

    def _paths(self) -> list[str]:
        return [join_path(parent, name) for parent, siblings in self._children.items() for name in siblings]

    def _walk(self, parent: str) -> Iterator[tuple[str, ChildEntry]]:
        for name in self._children[parent]:
            path = join_path(parent, name)
            entry = self.get(path)
            yield path, entry
            if isinstance(entry, SupervisorEntry):
                yield from self._walk(path)

    def _collect(self, parent: str) -> tuple[ChildEntry, ...]:
        return tuple(
            replace(entry, children=self._collect(join_path(parent, entry.name)))
            if isinstance(entry, SupervisorEntry)
            else entry
            for entry in self._children[parent].values()
        )


def join_path(parent: str, name: str) -> str:
    """Return the path of a child."""
    return f"{parent}/{name}" if parent else name
