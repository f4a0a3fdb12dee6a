"""circus 1157: one command that could not be executed, retried for ever, starved the control plane and all others.

Here commands are served and others start while some fail their start for ever, at once and without any delay.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from orchestree_testing.process_agents import Unreadable
from orchestree_testing.trees import FAST, PATIENCE, AsyncDoes, Does, a_tree, add, crash, wait_for

from orchestree.supervisor import EventType

E = EventType


async def crash_async(agent: Any) -> None:
    crash(agent)


def test_commands_are_served_while_others_fail_for_ever() -> None:
    tree = a_tree()
    for number in range(3):
        add(tree, f"bad-{number}", crash, **FAST)
    add(tree, "good")
    with tree:
        for _ in range(10):
            tree.restart_agent("good", PATIENCE)
        tree.stop_agent("bad-0", PATIENCE)
        assert tree.status("good").incarnation == 11
        assert tree.status("bad-0").state == "stopped"


@pytest.mark.parametrize("kind", ["thread", "async", pytest.param("process", marks=pytest.mark.slow)])
def test_others_start_and_commands_are_served_while_a_start_fails_for_ever(kind: str) -> None:
    tree = a_tree()
    bad: dict[str, Callable[[], object]] = {
        "thread": partial(add, tree, "bad", setup=crash, **FAST),
        "async": partial(add, tree, "bad", setup=crash_async, kind=AsyncDoes, **FAST),
        "process": partial(
            tree.register_agent, Does, "bad", executor="process", params={"command": Unreadable()}, **FAST
        ),
    }
    bad[kind]()
    add(tree, "good")
    with tree:
        wait_for(tree, E.AGENT_CRASHED, "bad", count=10)
        add(tree, "later", depends_on=["good"])
        tree.wait_until("later", "ready", PATIENCE)
        for _ in range(5):
            tree.restart_agent("good", PATIENCE)
        assert tree.status("good").incarnation == 6
        tree.stop_agent("bad", PATIENCE)
        mark = tree.events.latest
        tree.restart_agent("good", PATIENCE)
        assert [event.path for event in tree.history(type=E.AGENT_STARTING, since=mark)] == ["good"]


def test_a_start_that_fails_for_ever_does_not_keep_the_tree_from_stopping() -> None:
    tree = a_tree()
    add(tree, "bad", setup=crash, **FAST)
    add(tree, "good")
    tree.start()
    wait_for(tree, E.AGENT_CRASHED, "bad", count=10)
    tree.stop()
    assert (tree.exit_code, tree.status("bad").state) == (0, "stopped")
