"""Elixir's PartitionSupervisor: E14 to E16."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from orchestree_testing.agents import AsyncScripted, Scripted
from orchestree_testing.once import AsyncEndsOnce, EndsOnce
from orchestree_testing.scripts import run_program
from orchestree_testing.trees import PATIENCE, AsyncDoes, Does, Switch, a_tree, wait_for
from otp_support import every_executor

from orchestree.supervisor import AgentEntry, AgentState, EventType, NotFound, Orchestrator, SpecError, SupervisorEntry

E = EventType


def with_a_switch_each(count: int) -> tuple[list[Switch], dict[str, Any]]:
    """Return a switch for each partition, and the keywords of `add_partitions` that hand them out."""
    switches = [Switch() for _ in range(count)]
    fields = {"partitions": count, "with_params": lambda params, index: switches[index].hooks(), "backoff": None}
    return switches, fields


def active(tree: Orchestrator, path: str = "shards") -> list[str]:
    """Return the names of the partitions that run."""
    return [status.path.rpartition("/")[2] for status in tree.which_children(path) if status.state is AgentState.READY]


# E14


@pytest.mark.otp("E14")
@pytest.mark.parametrize("partitions", [1, 2, 7, None])
def test_there_are_as_many_equal_children_as_asked_for_and_one_for_each_core_by_default(partitions: int | None) -> None:
    tree = a_tree()
    shards = tree.add_partitions("shards", AsyncDoes, partitions=partitions, shutdown=1.5, restart="permanent")
    count = partitions or os.cpu_count() or 1
    assert shards.partitions == count
    with tree:
        assert active(tree) == [str(index) for index in range(count)]
        counts = tree.count_children("shards")
        assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (count, count, 0, count)
        for index in range(count):
            entry = tree.get_childspec(f"shards/{index}")
            assert isinstance(entry, AgentEntry)
            assert (entry.agent, entry.shutdown, entry.restart) == (AsyncDoes, 1.5, "permanent")


@pytest.mark.otp("E14")
def test_its_supervisor_is_an_ordinary_one() -> None:
    tree = a_tree()
    tree.add_partitions("plain", Does, partitions=2)
    tree.add_partitions("other", Does, partitions=2, strategy="one_for_all", max_restarts=3, max_seconds=5)
    plain, other = tree.get_childspec("plain"), tree.get_childspec("other")
    assert isinstance(plain, SupervisorEntry)
    assert isinstance(other, SupervisorEntry)
    usual = SupervisorEntry("x")
    assert (plain.strategy, plain.max_restarts, plain.max_seconds) == ("one_for_one", usual.max_restarts, 10.0)
    assert (other.strategy, other.max_restarts, other.max_seconds) == ("one_for_all", 3, 5)
    assert (plain.auto_shutdown, plain.dynamic, plain.shutdown) == ("never", False, "infinity")


@pytest.mark.otp("E14")
@every_executor
def test_each_partition_can_have_its_own_params_also_after_a_restart(executor: str) -> None:
    calls: list[int] = []

    def with_params(params: Mapping[str, object], index: int) -> Mapping[str, object]:
        calls.append(index)
        return {**params, "index": index}

    tree = a_tree()
    kind = AsyncEndsOnce if executor == "async" else EndsOnce
    fields: Any = {"executor": executor, "setup": "describe", "execute": "raise once", "backoff": None}
    given = {"colour": "blue"}
    tree.add_partitions("shards", kind, partitions=3, params=given, with_params=with_params, **fields)
    with tree:
        for index in range(3):
            wait_for(tree, E.AGENT_READY, f"shards/{index}", count=2)
            described: Any = [event.data for event in tree.history(f"shards/{index}", E.AGENT_MESSAGE)]
            seen = [data.data["params"] for data in described if data.name == "described"]
            assert seen == [{"colour": "blue", "index": index}] * 2
    assert (calls, given) == ([0, 1, 2], {"colour": "blue"})


@pytest.mark.otp("E14")
@pytest.mark.parametrize(
    "fields",
    [
        {"partitions": 0}, {"partitions": -1}, {"partitions": 1.5}, {"partitions": "4"}, {"partitions": True},
        {"auto_shutdown": "any_significant"}, {"auto_shutdown": "never"}, {"restart": "always"},
        {"strategy": "some_for_one"}, {"max_restarts": -1},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_refused_and_nothing_is_registered(fields: dict[str, Any]) -> None:
    """An automatic shutdown is no matter of partitions, so it is taken for a field of the agent, which has none."""
    tree = a_tree()
    with pytest.raises(SpecError):
        tree.add_partitions("shards", Scripted, **{"partitions": 2, **fields})
    assert tree.which_children() == []


@pytest.mark.otp("E14")
def test_a_partition_cannot_be_significant_as_its_supervisor_has_no_automatic_shutdown() -> None:
    tree = a_tree()
    tree.add_partitions("shards", Scripted, partitions=2, significant=True)
    with pytest.raises(SpecError, match="auto_shutdown=never"):
        tree.start()


@pytest.mark.otp("E14")
@pytest.mark.parametrize("agent", [None, "Does", object, dict])
def test_something_that_is_no_agent_is_refused(agent: Any) -> None:
    with pytest.raises(SpecError):
        a_tree().add_partitions("shards", agent, partitions=2)


@pytest.mark.otp("E14")
def test_partitions_can_be_added_below_any_supervisor_and_to_a_tree_that_runs() -> None:
    tree = a_tree()
    team = tree.add_supervisor("team")
    with tree:
        shards = team.add_partitions("shards", Does, partitions=2)
        tree.wait_until("team/shards", "ready", PATIENCE)
        assert shards.path_for(3) == "team/shards/1"
        tree.wait_until("team/shards/1", "ready", PATIENCE)


# E15


@pytest.mark.otp("E15")
@pytest.mark.parametrize("count", [1, 2, 3, 8, 100])
def test_a_whole_number_goes_to_the_rest_of_its_division(count: int) -> None:
    shards = a_tree().add_partitions("shards", Does, partitions=count)
    for key in (0, 1, -1, 3, -3, 7, 99, 10**30, -(10**30) - 1):
        assert shards.path_for(key) == f"shards/{abs(key) % count}"


@pytest.mark.otp("E15")
def test_the_examples_of_elixirs_own_test() -> None:
    shards = a_tree().add_partitions("shards", Does, partitions=3)
    assert (shards.path_for(3), shards.path_for(-1)) == ("shards/0", "shards/1")


@pytest.mark.otp("E15")
@pytest.mark.parametrize("kind", [str, bytes])
def test_any_other_key_always_goes_to_the_same_partition_and_all_keys_are_spread(kind: type) -> None:
    shards = a_tree().add_partitions("shards", Does, partitions=4)
    keys: list[Any] = [f"key {number}" if kind is str else b"key %d" % number for number in range(1000)]
    spread = Counter(shards.path_for(key) for key in keys)
    assert sorted(spread) == [f"shards/{index}" for index in range(4)]
    assert min(spread.values()) > 150
    assert spread == Counter(shards.path_for(key) for key in keys)
    other = a_tree().add_partitions("other", Does, partitions=4)
    assert [shards.path_for(key)[-1] for key in keys] == [other.path_for(key)[-1] for key in keys]


@pytest.mark.otp("E15")
@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_a_key_goes_to_the_same_partition_in_every_process(seed: str, tmp_path: Path) -> None:
    program = (
        "from orchestree_testing.trees import Does, a_tree\n"
        "shards = a_tree().add_partitions('shards', Does, partitions=97)\n"
        "print([shards.path_for(key) for key in ('', 'a', '\\u00e9', b'', b'a', bytes(5))])\n"
    )
    output = run_program("-c", program, cwd=tmp_path, PYTHONHASHSEED=seed)
    here = a_tree().add_partitions("shards", Does, partitions=97)
    assert output.strip() == str([here.path_for(key) for key in ("", "a", "\u00e9", b"", b"a", bytes(5))])


@pytest.mark.otp("E15")
@pytest.mark.parametrize("key", [None, 1.0, True, ("a",), object(), [1]], ids=lambda key: type(key).__name__)
def test_a_key_that_is_no_number_and_no_text_is_refused(key: Any) -> None:
    shards = a_tree().add_partitions("shards", Does, partitions=3)
    with pytest.raises(SpecError, match="must be int, str or bytes"):
        shards.path_for(key)


@pytest.mark.otp("E15")
def test_a_key_reaches_the_new_incarnation_of_its_partition_after_a_crash() -> None:
    switches, fields = with_a_switch_each(2)
    tree = a_tree()
    shards = tree.add_partitions("shards", Does, **fields)
    with tree:
        path = shards.path_for("order 66")
        assert tree.status(path).incarnation == 1
        switches[int(path[-1])].throw()
        wait_for(tree, E.AGENT_READY, path, count=2)
        assert shards.path_for("order 66") == path
        assert sorted(status.incarnation for status in tree.which_children("shards")) == [1, 2]
        tree.restart_agent("shards", PATIENCE)
        assert shards.path_for("order 66") == path
        assert tree.status(path).state is AgentState.READY


# E16


def check_size(tree: Orchestrator, shards: Any, size: int, most: int) -> None:
    """Check that `size` of `most` partitions run, and that keys go to them only."""
    assert shards.partitions == size
    assert active(tree) == [str(index) for index in range(size)]
    assert tree.count_children("shards").specs == most
    if size:
        assert {shards.path_for(key) for key in range(100)} == {f"shards/{index}" for index in range(size)}
    else:
        with pytest.raises(NotFound):
            shards.path_for(0)
        with pytest.raises(NotFound):
            shards.path_for("a")


SIZES = [*range(8, -1, -1), *range(9), *random.Random(3).sample(range(9), 9)]


@pytest.mark.otp("E16")
def test_every_size_from_nothing_to_all_and_back_and_in_any_order() -> None:
    tree = a_tree()
    shards = tree.add_partitions("shards", AsyncDoes, partitions=8)
    with tree:
        before = 8
        for size in SIZES:
            assert shards.resize(size) == before
            check_size(tree, shards, size, 8)
            before = size


@pytest.mark.otp("E16")
@every_executor
def test_a_resize_waits_for_the_end_and_for_the_start_of_what_it_concerns(executor: str) -> None:
    tree = a_tree()
    kind = AsyncScripted if executor == "async" else Scripted
    fields: Any = {"executor": executor, "setup": "work 0.01", "execute": "sleep", "teardown": "work 0.01"}
    shards = tree.add_partitions("shards", kind, partitions=3, **fields)
    with tree:
        for size in (1, 2, 0, 3):
            shards.resize(size)
            check_size(tree, shards, size, 3)


@pytest.mark.otp("E16")
@pytest.mark.parametrize("size", [9, 100, -1, 1.0, "3", None, True])
def test_more_than_there_are_or_no_number_is_refused(size: Any) -> None:
    tree = a_tree()
    shards = tree.add_partitions("shards", AsyncDoes, partitions=8)
    with tree:
        with pytest.raises(SpecError, match="partitions"):
            shards.resize(size)
        check_size(tree, shards, 8, 8)


@pytest.mark.otp("E16")
def test_while_it_shrinks_no_key_goes_to_one_that_is_to_stop_and_while_it_grows_to_none_that_is_to_start() -> None:
    tree = a_tree()
    slow, entered = threading.Event(), threading.Event()

    def wait(agent: Any) -> None:
        if agent.name == "1" and (not entered.is_set() or agent.incarnation > 1):
            entered.set()
            slow.wait(PATIENCE)

    def wait_again(agent: Any) -> None:
        if agent.incarnation > 1:
            wait(agent)

    params = {"teardown": wait, "setup": wait_again}
    shards = tree.add_partitions("shards", Does, partitions=2, params=params, shutdown="infinity")
    with tree, ThreadPoolExecutor(1) as pool:
        for size in (1, 2):
            slow.clear()
            entered.clear()
            resizing = pool.submit(shards.resize, size)
            assert entered.wait(PATIENCE)
            assert not resizing.done()
            assert {shards.path_for(key) for key in range(10)} == {"shards/0"}
            slow.set()
            assert resizing.result(PATIENCE) == 3 - size
        check_size(tree, shards, 2, 2)


@pytest.mark.otp("E16")
def test_many_threads_may_resize_at_once() -> None:
    tree = a_tree()
    shards = tree.add_partitions("shards", AsyncDoes, partitions=8)
    with tree, ThreadPoolExecutor(8) as pool:
        before = list(pool.map(shards.resize, [number % 9 for number in range(40)]))
        assert set(before) <= set(range(9))
        check_size(tree, shards, shards.partitions, 8)


@pytest.mark.otp("E16")
def test_a_partition_that_was_taken_out_stays_down_when_its_supervisor_or_group_restarts() -> None:
    switches, fields = with_a_switch_each(3)
    tree = a_tree()
    shards = tree.add_partitions("shards", Does, strategy="one_for_all", **fields)
    with tree:
        shards.resize(2)
        switches[1].throw()
        wait_for(tree, E.AGENT_READY, "shards/0", count=2)
        wait_for(tree, E.AGENT_READY, "shards/1", count=2)
        check_size(tree, shards, 2, 3)
        tree.restart_agent("shards", PATIENCE)
        check_size(tree, shards, 2, 3)
