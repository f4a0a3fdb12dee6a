"""Where a child stands in its tree, as far as its failures are concerned: supervisors above, and policies. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from itertools import pairwise

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.restart import AutoShutdown
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry

Changed = Callable[[SupervisorEntry], SupervisorEntry]


def only_way_to(
    root: SupervisorEntry, path: str, last: Callable[[ChildEntry], ChildEntry], above: Changed
) -> SupervisorEntry:
    """Return `root` with nothing below it but the way to `path`.

    Args:
        root: of the whole tree.
        path: of the child.
        last: makes what stands there of the entry at `path`.
        above: makes what stands there of each supervisor above it.
    """
    made = _only_way(root, path.split("/") if path else [], last, above)
    assert isinstance(made, SupervisorEntry)
    return made


def _only_way(
    entry: ChildEntry, names: list[str], last: Callable[[ChildEntry], ChildEntry], above: Changed
) -> ChildEntry:
    if not names:
        return last(entry)
    assert isinstance(entry, SupervisorEntry)
    child = next(child for child in entry.children if child.name == names[0])
    independent = replace(child, depends_on=(), significant=ends_supervisor(entry, child))
    return replace(above(entry), children=(_only_way(independent, names[1:], last, above),))


def standing_everything(entry: ChildEntry) -> SupervisorEntry:
    """Return a supervisor that no number of restarts makes give up."""
    assert isinstance(entry, SupervisorEntry)
    return replace(entry, max_restarts=1_000_000_000)


def ends_supervisor(parent: SupervisorEntry, child: ChildEntry) -> bool:
    """Return whether `child` is significant, and no sibling has to end with it before that means anything."""
    others = parent.auto_shutdown is AutoShutdown.ALL_SIGNIFICANT and any(
        sibling.significant for sibling in parent.children if sibling is not child
    )
    return child.significant and not others


def place_of(entries: Mapping[str, ChildEntry], path: str, default: Backoff | None) -> Hashable:
    """Return what two children have in common whose failures are taken in the same way.

    Args:
        entries: of the whole tree, by path.
        path: of the child.
        default: policy of those that inherit it.
    """
    names = path.split("/")
    way = ["", *("/".join(names[: depth + 1]) for depth in range(len(names)))]
    place: list[Hashable] = []
    for parent_path, child_path in pairwise(way):
        parent, child = entries[parent_path], entries[child_path]
        assert isinstance(parent, SupervisorEntry)
        window = (parent.max_restarts, parent.max_seconds, parent.auto_shutdown)
        is_agent, backoff = isinstance(child, AgentEntry), backoff_of(child, default)
        place += [window, is_agent, child.restart, ends_supervisor(parent, child), policy_key(backoff)]
    return tuple(place)


def policy_key(policy: object) -> Hashable:
    """Return a key that equal policies share: that of a value of tenacity's or ours is made of its parts."""
    match policy:
        case None | bool() | int() | float() | str():
            return type(policy), policy
        case tuple() | list():
            return tuple(map(policy_key, policy))
        case Backoff():
            parts = (policy.wait, policy.stop, policy.jitter, policy.stable_after, policy.on_give_up)
            return (*map(policy_key, parts), tuple(map(repr, policy.rules)))
        case _ if type(policy).__module__.startswith("tenacity.") and hasattr(policy, "__dict__"):
            return type(policy), tuple((name, policy_key(value)) for name, value in sorted(vars(policy).items()))
        case _:
            return id(policy)


def backoff_of(entry: ChildEntry, default: Backoff | None) -> Backoff | None:
    """Return the policy that holds for `entry`."""
    return entry.backoff if entry.backoff is None or isinstance(entry.backoff, Backoff) else default


def is_below(path: str, supervisor: str) -> bool:
    """Return whether `path` is of something below the supervisor at `supervisor`."""
    return path.startswith(f"{supervisor}/") if supervisor else path != ""
