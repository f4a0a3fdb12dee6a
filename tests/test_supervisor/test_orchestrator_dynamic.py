"""`start_child`, dynamic supervisors, partitions, `reconfigure` and child specifications on a real tree."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from orchestree_testing.trees import PATIENCE, AsyncDoes, Does, a_tree, add, crash, wait_for
from tenacity import wait_fixed

from orchestree import IGNORE, Agent, AgentEntry, SupervisorEntry
from orchestree.strategies import Backoff, Restart, Strategy
from orchestree.supervisor import (
    EventType,
    MaxChildren,
    NotFound,
    NotRunning,
    OrchestreeError,
    PolicyChanged,
    SpecError,
    StartError,
    check_childspecs,
)

E = EventType
LONG = Backoff(wait=wait_fixed(3600), jitter=0.0)


class Idle(Agent):
    """Does nothing until it is stopped."""

    def execute(self) -> None:
        self.sleep(3600)


# start_child


def test_start_child_returns_the_path_of_a_child_that_is_ready() -> None:
    tree = a_tree()
    with tree:
        assert tree.start_child(Idle, "a") == "a"
        assert tree.status("a").state == "ready"


def test_a_name_is_made_up_for_a_child_that_is_given_none() -> None:
    tree = a_tree()
    pool = tree.add_supervisor("pool", dynamic=True)
    with tree:
        assert pool.start_child(Idle, "idle-2") == "pool/idle-2"
        assert [pool.start_child(Idle), pool.start_child(Idle), tree.start_child(Idle)] == [
            "pool/idle-1",
            "pool/idle-3",
            "idle-4",
        ]


def test_start_child_takes_a_whole_specification_too() -> None:
    tree = a_tree()
    pool = tree.add_supervisor("pool", dynamic=True)
    with tree:
        assert pool.start_child(AgentEntry(Idle, "a", restart="permanent")) == "pool/a"
        assert pool.start_child(SupervisorEntry("s", children=[AgentEntry(Idle, "b")])) == "pool/s"
        assert tree.status("pool/s/b").state == "ready"
        with pytest.raises(SpecError, match="'c' is a whole specification; it takes no name and no fields"):
            pool.start_child(AgentEntry(Idle, "c"), "d")


def test_a_child_that_does_not_start_is_the_callers_error_and_leaves_nothing() -> None:
    tree = a_tree()
    with tree:
        with pytest.raises(StartError, match="'a' did not start: ValueError: no such sensor, incarnation 1"):
            tree.start_child(Does, "a", params={"setup": crash}, restart="permanent")
        assert tree.which_children() == []


def test_a_child_that_is_not_needed_is_none() -> None:
    tree = a_tree()
    with tree:
        assert tree.start_child(Does, "a", params={"setup": lambda agent: IGNORE}) is None
        assert tree.status("a").state == "completed"


def test_a_child_that_ends_as_soon_as_it_is_ready_did_start() -> None:
    tree = a_tree()
    pool = tree.add_supervisor("pool", dynamic=True)
    with tree:
        assert pool.start_child(Does, "a", params={"execute": lambda agent: 42}) == "pool/a"
        wait_for(tree, E.AGENT_TERMINATED, "pool/a")
        assert tree.status("pool/a").result == 42
        assert tree.which_children("pool") == []


def test_children_come_before_the_start_by_register_agent_only() -> None:
    tree = a_tree()
    with pytest.raises(NotRunning):
        tree.start_child(Idle, "a")


def test_a_full_supervisor_takes_no_more_until_one_has_left() -> None:
    tree = a_tree()
    pool = tree.add_supervisor("pool", dynamic=True, max_children=1)
    with tree:
        pool.start_child(Idle, "a")
        with pytest.raises(MaxChildren, match="'b': 'pool' is full: max_children=1"):
            pool.start_child(Idle, "b")
        tree.stop_agent("pool/a")
        assert pool.start_child(Idle, "b") == "pool/b"


def test_register_agent_is_not_for_dynamic_supervisors() -> None:
    tree = a_tree()
    pool = tree.add_supervisor("pool", dynamic=True)
    with pytest.raises(SpecError, match="'pool/a': 'pool' is dynamic: its children come with start_child"):
        pool.register_agent(Idle, "a")
    with tree, pytest.raises(SpecError, match="come with start_child"):
        pool.register_agent(Idle, "a")


def test_a_hook_that_starts_a_child_does_not_wait_and_its_mistake_is_an_event() -> None:
    tree = a_tree()
    answers: list[Any] = []

    def start_two(agent: Agent) -> None:
        answers.append(tree.start_child(Idle, "b"))
        tree.start_child(Idle, "b")
        agent.sleep(3600)

    add(tree, "a", start_two)
    with tree:
        tree.events.wait_for(E.AGENT_READY, "b", since=0, timeout=PATIENCE)
        failed = wait_for(tree, E.HANDLER_FAILED)
        assert answers == ["b"]
        assert "start_child()" in failed.data.handler  # type: ignore[union-attr]


def test_start_child_and_reconfigure_can_be_awaited() -> None:
    tree = a_tree(agents_loop="caller")
    tree.add_supervisor("pool", dynamic=True)

    async def idle(agent: Any) -> None:
        await agent.sleep(3600)

    async def fail(agent: Any) -> None:
        raise ValueError("no")

    async def program() -> None:
        async with tree:
            assert await tree.aio.start_child("pool", AsyncDoes, "a", params={"execute": idle}) == "pool/a"
            with pytest.raises(StartError, match="'pool/b' did not start: ValueError: no"):
                await tree.aio.start_child("pool", AsyncDoes, "b", params={"setup": fail})
            await tree.aio.reconfigure("pool/a", shutdown=1)
            assert tree.get_childspec("pool/a").shutdown == 1
            with pytest.raises(SpecError, match="shutdown=-1"):
                await tree.aio.reconfigure("pool/a", shutdown=-1)

    asyncio.run(program())


# partitions


def test_partitions_are_equal_agents_with_params_of_their_own() -> None:
    tree = a_tree()
    shards = tree.add_partitions(
        "shards",
        Idle,
        partitions=3,
        params={"base": 10},
        with_params=lambda params, index: {**params, "index": index},
        strategy="one_for_all",
        restart="permanent",
        shutdown=1,
    )
    assert shards.partitions == 3
    with tree:
        assert [status.path for status in tree.which_children("shards")] == ["shards/0", "shards/1", "shards/2"]
        entries = [tree.get_childspec(f"shards/{index}") for index in range(3)]
        assert [dict(entry.params) for entry in entries] == [  # type: ignore[union-attr]
            {"base": 10, "index": index} for index in range(3)
        ]
        assert {entry.restart for entry in entries} == {Restart.PERMANENT}
        assert tree.get_childspec("shards").strategy is Strategy.ONE_FOR_ALL


def test_a_key_always_belongs_to_the_same_partition() -> None:
    shards = a_tree().add_partitions("s", Idle, partitions=4)
    assert [shards.path_for(key) for key in (0, 5, -1, -6)] == ["s/0", "s/1", "s/1", "s/2"]
    # In every process, today and tomorrow:
    assert [shards.path_for(key) for key in ("a", b"a", "ü", "\udc80")] == ["s/3", "s/3", "s/3", "s/1"]
    for wrong in (True, 1.5, None):
        with pytest.raises(SpecError, match=f"key={wrong!r}: must be int, str or bytes"):
            shards.path_for(wrong)  # type: ignore[arg-type]


def test_partitions_can_be_fewer_for_a_while() -> None:
    tree = a_tree()
    shards = tree.add_partitions("s", Idle, partitions=3)
    with tree:
        assert shards.resize(1) == 3
        assert [status.state.value for status in tree.which_children("s")] == ["ready", "stopped", "stopped"]
        assert {shards.path_for(key) for key in range(10)} == {"s/0"}
        assert shards.resize(0) == 1
        with pytest.raises(NotFound, match="key=1: no partition is in use"):
            shards.path_for(1)
        assert shards.resize(2) == 0
        assert [status.state.value for status in tree.which_children("s")] == ["ready", "ready", "stopped"]
        tree.start_agent("s/2")
        assert shards.resize(3) == 2
        for wrong in (4, -1, 1.0):
            with pytest.raises(SpecError, match=f"partitions={wrong}"):
                shards.resize(wrong)  # type: ignore[arg-type]
        assert shards.partitions == 3


def test_there_is_at_least_one_partition_and_by_default_one_per_processor() -> None:
    tree = a_tree()
    with pytest.raises(SpecError, match="partitions=0: must be a whole number, 1 or more"):
        tree.add_partitions("s", Idle, partitions=0)
    assert tree.add_partitions("s", Idle).partitions >= 1


def test_a_resize_that_cannot_be_changes_nothing() -> None:
    tree = a_tree()
    shards = tree.add_partitions("s", Idle, partitions=3)
    with pytest.raises(NotRunning, match="call start"):
        shards.resize(1)
    assert shards.partitions == 3
    with tree:
        tree.stop_agent("s/1")
        tree.unregister_agent("s/1")
        with pytest.raises(NotFound, match="'s/1'"):
            shards.resize(1)
        assert (shards.partitions, tree.status("s/2").state) == (3, "ready")
    with pytest.raises(NotRunning, match="has ended"):
        shards.resize(3)


def test_a_resize_mends_what_others_did_to_the_partitions() -> None:
    tree = a_tree()
    shards = tree.add_partitions("s", Idle, partitions=3)
    with tree:
        tree.stop_agent("s/0")
        assert shards.resize(3) == 3
        assert [status.state.value for status in tree.which_children("s")] == ["ready"] * 3


def test_two_that_resize_at_once_do_not_wait_for_each_other() -> None:
    tree = a_tree()
    asked = threading.Event()

    def resize_when_stopped(agent: Agent) -> None:
        asked.set()
        shards.resize(3)

    shards = tree.add_partitions("s", Does, partitions=3, shutdown=PATIENCE, params={"on_stop": resize_when_stopped})
    with tree:
        shards.resize(2)
        assert asked.is_set()
        tree.wait_until("s/2", "ready", PATIENCE)
        assert shards.partitions == 3


def test_resize_can_be_awaited() -> None:
    tree = a_tree(agents_loop="caller")

    async def idle(agent: Any) -> None:
        await agent.sleep(3600)

    shards = tree.add_partitions("s", AsyncDoes, partitions=2, params={"execute": idle})

    async def program() -> None:
        async with tree:
            with pytest.raises(OrchestreeError, match=r"await orchestrator.aio.resize\(\)"):
                shards.resize(1)
            assert await tree.aio.resize(shards, 1) == 2
            assert tree.status("s/1").state == "stopped"

    asyncio.run(program())


def test_partitions_need_a_function_for_their_params() -> None:
    with pytest.raises(SpecError, match="with_params=3: must be a function of the params and a number"):
        a_tree().add_partitions("s", Idle, with_params=3)  # type: ignore[arg-type]


# A name that is used again


def test_a_new_agent_does_not_show_the_crash_of_another_that_had_its_name() -> None:
    tree = a_tree()
    pool = tree.add_supervisor("pool", dynamic=True)
    with tree:
        for _ in range(20):
            pool.start_child(Does, "a", params={"execute": crash}, restart="temporary")
            tree.wait_until("pool/a", "failed", PATIENCE)
            pool.start_child(Idle, "a")
            assert tree.status("pool/a").last_crash is None
            tree.stop_agent("pool/a")


def test_what_an_agent_says_after_its_end_is_not_taken_for_the_word_of_another() -> None:
    tree = a_tree()
    pool = tree.add_supervisor("pool", dynamic=True)
    kept: list[Agent] = []
    with tree:
        pool.start_child(Does, "a", params={"execute": kept.append})
        wait_for(tree, E.AGENT_TERMINATED, "pool/a")
        pool.start_child(Idle, "a")
        kept[0].emit("late")
        tree.stop_agent("pool/a")
        assert tree.history(type=E.AGENT_MESSAGE) == []


def test_no_name_is_the_name_of_the_root() -> None:
    tree = a_tree()
    with tree:
        with pytest.raises(SpecError, match="name=''"):
            tree.start_child(SupervisorEntry(""))
        assert tree.status("").state == "ready"


# reconfigure and child specifications


def test_reconfigure_changes_what_runs_and_what_is_not_started_yet() -> None:
    tree = a_tree()
    add(tree, "a", crash, backoff=LONG)
    tree.add_supervisor("s")
    tree.reconfigure("a", start_timeout=7)
    tree.reconfigure("s", max_restarts=2)
    tree.reconfigure("", max_seconds=3)
    with tree:
        wait_for(tree, E.AGENT_RESTARTING, "a")
        next_restart_s = tree.status("a").next_restart_s
        assert next_restart_s is not None
        assert next_restart_s > 3000
        tree.reconfigure("a", backoff=None, restart="permanent")
        tree.events.wait_for(
            E.AGENT_STARTING, "a", since=0, where=lambda event: event.incarnation == 2, timeout=PATIENCE
        )
        changed = wait_for(tree, E.POLICY_CHANGED, "a").data
        assert isinstance(changed, PolicyChanged)
        assert [(change.field, change.new) for change in changed.changes] == [
            ("restart", "permanent"),
            ("backoff", "None"),
        ]
        entry = tree.get_childspec("a")
        assert isinstance(entry, AgentEntry)
        assert (entry.start_timeout, entry.backoff, entry.restart) == (7, None, Restart.PERMANENT)
        supervisor, root = tree.get_childspec("s"), tree.get_childspec("")
        assert isinstance(supervisor, SupervisorEntry)
        assert isinstance(root, SupervisorEntry)
        assert (supervisor.max_restarts, root.max_seconds) == (2, 3)


@pytest.mark.parametrize("started", [False, True])
def test_a_change_that_cannot_be_is_one_clear_error_and_changes_nothing(started: bool) -> None:
    tree = a_tree()
    tree.register_agent(Idle, "a")
    with tree if started else threading.Lock():
        before = tree.get_childspec("a")
        with pytest.raises(SpecError, match="shutdown='soon'"):
            tree.reconfigure("a", shutdown="soon")  # type: ignore[arg-type]
        with pytest.raises(SpecError, match=r"'a': interval=3: cannot be changed by reconfigure\(\); these can be: "):
            tree.reconfigure("a", interval=3)  # type: ignore[call-arg]
        with pytest.raises(NotFound, match="'b': no such agent or supervisor"):
            tree.reconfigure("b", shutdown=3)
        with pytest.raises(NotFound, match="'b': no such agent or supervisor"):
            tree.get_childspec("b")
        assert tree.get_childspec("a") == before


def test_child_specifications_are_checked_without_any_supervisor() -> None:
    child = AgentEntry(Idle, "a", significant=True)
    check_childspecs([child, SupervisorEntry("s", children=[AgentEntry(Idle, "b")])])
    check_childspecs([child], "any_significant")
    with pytest.raises(SpecError, match="auto_shutdown=never"):
        check_childspecs([child], "never")
    with pytest.raises(SpecError, match="auto_shutdown='sometimes'"):
        check_childspecs([child], "sometimes")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="stands twice"):
        check_childspecs([child, child])
    with pytest.raises(SpecError, match="must be a list"):
        check_childspecs(3)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="no such sibling in 's'"):
        check_childspecs([SupervisorEntry("s", children=[AgentEntry(Idle, "b", depends_on=["c"])])])
