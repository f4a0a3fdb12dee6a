"""What the tests of OTP's rules share: children with OTP's policy, and the whole story of a virtual tree."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from virtual import VirtualTree, agent, process, supervisor

from orchestree.supervisor.spec import AgentEntry, ChildEntry

GROUPING = ("one_for_all", "rest_for_one")
STRATEGIES = ("one_for_one", *GROUPING, "dependents")

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
every_executor = pytest.mark.parametrize(
    "executor", ["thread", "async", pytest.param("process", marks=pytest.mark.slow)]
)

Story = list[tuple[float, str]]


def child(name: str, **fields: object) -> AgentEntry:
    """Return the entry of a thread agent that comes back as under OTP: at once, always."""
    return agent(name, **{"backoff": None, **fields})


def permanent(name: str, **fields: object) -> AgentEntry:
    """Return what `child` does, with OTP's default restart type."""
    return child(name, restart="permanent", **fields)


def killable(name: str, **fields: object) -> AgentEntry:
    """Return what `child` does, in a process."""
    return process(name, **{"backoff": None, **fields})


def pool_of(*children: ChildEntry, **fields: object) -> CheckedTree:
    """Return a tree whose only supervisor below the root, ``pool``, is dynamic and has these children."""
    tree = CheckedTree(supervisor("pool", dynamic=True, backoff=None, **fields), max_restarts=0)
    for entry in children:
        tree.start_child("pool", entry)
    return tree


def story(tree: VirtualTree, since: int = 0) -> Story:
    """Return time and line, such as ``CRASHED(exception) a``, of every event from index `since` on."""
    lines = []
    for now, name, path, data in tree.log[since:]:
        cause = getattr(data, "cause", None) or getattr(getattr(data, "reason", None), "cause", None)
        word = name.removeprefix("AGENT_") + (f"({cause})" if cause else "")
        lines.append((now, f"{word} {path}".rstrip()))
    return lines


def at(now: float, *lines: str) -> Story:
    """Return what `story` does, from lines separated by commas, all of one time."""
    return [(now, line) for text in lines for line in text.split(", ") if line]


def ups(*names: str, one_by_one: bool = False) -> str:
    """Return the lines of these children being started and becoming ready, side by side or one by one."""
    starting, ready = [f"STARTING {name}" for name in names], [f"READY {name}" for name in names]
    if not one_by_one:
        return ", ".join(starting + ready)
    waiting = [f"WAITING {name}" for name in names[1:]]
    later = [line for pair in zip(starting[1:], ready[1:], strict=True) for line in pair]
    return ", ".join([starting[0], *waiting, ready[0], *later])


def stops(*names: str) -> str:
    """Return the lines of these children, in this order, being stopped for their group."""
    return ", ".join(f"STOPPING(group) {name}, RESTARTING(group) {name}" for name in names)


def stamps(tree: VirtualTree, path: str = "") -> int:
    """Return how many restarts the window of a supervisor holds now."""
    node = tree.node(path)
    window = getattr(node, "window")  # noqa: B009
    return int(window.count(tree.now))
