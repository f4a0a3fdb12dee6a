"""The start order of siblings, and the checks that need all of them. Pure functions."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestree.strategies.errors import AlreadyPresent, SpecError, did_you_mean
from orchestree.strategies.restart import AutoShutdown, AutoShutdownName, parse_enum

from .spec import AgentEntry, ChildEntry, SupervisorEntry


@dataclass(frozen=True, slots=True)
class StartStep:
    """One line of the start order of a whole tree. `executor` is None for a supervisor."""

    path: str
    kind: Literal["agent", "supervisor"]
    executor: str | None
    restart: str
    depends_on: tuple[str, ...]


def start_order(entries: Sequence[ChildEntry], where: str = "") -> list[ChildEntry]:
    """Return `entries` (in registration order) in start order.

    Again and again the earliest registered child whose dependencies are all placed.

    Args:
        entries: all children of one supervisor.
        where: path of that supervisor, for messages.

    Raises:
        SpecError: a name stands twice, a dependency is unknown, or there is a cycle (shown as ``a -> b -> a``).
    """
    names = [entry.name for entry in entries]
    index = {name: number for number, name in enumerate(names)}
    if len(index) < len(names):
        twice = next(name for number, name in enumerate(names) if index[name] != number)
        raise AlreadyPresent(f"name={twice!r}: stands twice{_inside(where)}")
    dependents: dict[str, list[int]] = {}
    missing: list[int] = []
    for number, entry in enumerate(entries):
        check_dependencies(entry, index, where)
        missing.append(len(entry.depends_on))
        for name in entry.depends_on:
            dependents.setdefault(name, []).append(number)
    free = [number for number, count in enumerate(missing) if not count]
    placed: list[ChildEntry] = []
    while free:
        entry = entries[heapq.heappop(free)]
        placed.append(entry)
        for number in dependents.get(entry.name, ()):
            missing[number] -= 1
            if not missing[number]:
                heapq.heappush(free, number)
    if len(placed) < len(entries):
        left = {entry.name: entry for entry, count in zip(entries, missing, strict=True) if count}
        raise SpecError(f"depends_on: cycle {' -> '.join(_cycle(left))}{_inside(where)}")
    return placed


def check_dependencies(entry: ChildEntry, siblings: Mapping[str, object], where: str) -> None:
    """Raise `SpecError` if `entry` depends on a name that is not among `siblings`."""
    for name in entry.depends_on:
        if name not in siblings:
            hint = did_you_mean(name, siblings)
            raise SpecError(f"{entry.name!r}: depends_on={name!r}: no such sibling{_inside(where)}{hint}")


def check_significant(entry: ChildEntry, auto_shutdown: AutoShutdown, where: str) -> None:
    """Raise `SpecError` if `entry` is significant where nothing can come of it. Source: OTP, validSignificant/3."""
    if entry.significant and auto_shutdown is AutoShutdown.NEVER:
        raise SpecError(f"{entry.name!r}: significant=True: its supervisor{_inside(where)} has auto_shutdown=never")


def check_dynamic_child(entry: ChildEntry, where: str) -> None:
    """Raise `SpecError` if `entry` wants to know of siblings in a dynamic supervisor."""
    for name in ("depends_on", "strategy") if isinstance(entry, AgentEntry) else ("depends_on",):
        if wanted := getattr(entry, name):
            raise SpecError(f"{entry.name!r}: {name}={wanted!r}: its supervisor {where!r} is dynamic")


def check_childspecs(
    children: Iterable[ChildEntry], auto_shutdown: AutoShutdown | AutoShutdownName | None = None
) -> None:
    """Check children as a supervisor would at its start, without one (OTP: check_childspecs).

    Args:
        children: the entries, as `SupervisorEntry` takes them.
        auto_shutdown: of their supervisor; None leaves out what depends on it.

    Raises:
        SpecError: the first rule that is broken.
    """
    root = SupervisorEntry("", children=children)
    chosen = None if auto_shutdown is None else parse_enum(AutoShutdown, auto_shutdown, "auto_shutdown")
    for entry in start_order(root.children):
        if chosen is not None:
            check_significant(entry, chosen, "")
        if isinstance(entry, SupervisorEntry):
            check_tree(entry, entry.name)


def check_tree(root: SupervisorEntry, where: str = "") -> None:
    """Check a static tree as a whole, depth first.

    Raises:
        SpecError: the first rule that is broken.
    """
    for entry in start_order(root.children, where):
        check_significant(entry, root.auto_shutdown, where)
        if isinstance(entry, SupervisorEntry):
            check_tree(entry, f"{where}/{entry.name}" if where else entry.name)


def start_steps(root: SupervisorEntry, where: str = "") -> list[StartStep]:
    """Return everything below `root` in start order, depth first. The tree must be one that `check_tree` passed."""
    steps: list[StartStep] = []
    for entry in start_order(root.children, where):
        path = f"{where}/{entry.name}" if where else entry.name
        if isinstance(entry, SupervisorEntry):
            steps.append(StartStep(path, "supervisor", None, entry.restart.value, entry.depends_on))
            steps += start_steps(entry, path)
        else:
            steps.append(StartStep(path, "agent", entry.executor, entry.restart.value, entry.depends_on))
    return steps


def _inside(where: str) -> str:
    return f" in {where!r}" if where else ""


def _cycle(left: dict[str, ChildEntry]) -> list[str]:
    """Walk along unmet dependencies until a name comes again."""
    trail = [next(iter(left))]
    while True:
        following = next(name for name in left[trail[-1]].depends_on if name in left)
        if following in trail:
            return [*trail[trail.index(following) :], following]
        trail.append(following)
