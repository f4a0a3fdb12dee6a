"""OTP's rules on a change of flags and specifications while the supervisor runs (code_change): U01 to U04.

`reconfigure` changes policy, child by child; what a child *is* stays as it was registered.
"""

from __future__ import annotations

import asyncio
from itertools import permutations
from typing import Any

import pytest
from orchestree_testing.each_executor import add_scripted, hooks_of, wait_for_hook
from orchestree_testing.trees import PATIENCE, a_tree, add, crash, types, wait_for
from otp_support import STRATEGIES, at, child, every_executor, stamps, story, ups
from stories import LIFE, Story, told
from virtual import agent, process, refused, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor import (
    INHERIT,
    AgentEntry,
    AgentState,
    EventType,
    NotFound,
    NotRunning,
    SpecError,
    SupervisorEntry,
)
from orchestree.supervisor.events import PolicyChange, PolicyChanged

E = EventType
OTHER = Backoff(jitter=0.0)

AGENT_POLICY: dict[str, object] = {
    "restart": "temporary", "strategy": "one_for_all", "backoff": OTHER, "shutdown": 0.5, "start_timeout": None,
    "replace_wedged": True, "watchdog": 9.0,
}  # fmt: skip
SUPERVISOR_POLICY: dict[str, object] = {
    "strategy": "rest_for_one", "max_restarts": 3, "max_seconds": 0.5, "auto_shutdown": "all_significant",
    "restart": "transient", "backoff": OTHER, "shutdown": "brutal_kill",
}  # fmt: skip
ROOT_POLICY = {name: SUPERVISOR_POLICY[name] for name in ("strategy", "max_restarts", "max_seconds", "auto_shutdown")}
EVERY_FIELD = [
    *(("a", name, value) for name, value in AGENT_POLICY.items()),
    *(("s", name, value) for name, value in SUPERVISOR_POLICY.items()),
    *(("", name, value) for name, value in ROOT_POLICY.items()),
    ("pool", "max_children", 3),
]


def whole() -> Story:
    """Return a tree with an agent ``a``, a supervisor ``s`` with ``s/x`` and ``s/y``, a ``pool``, and ``z``."""
    tree = Story(child("a"), supervisor("s", child("x"), child("y")), supervisor("pool", dynamic=True), child("z"))
    tree.forget()
    return tree


# U01


@pytest.mark.otp("U01")
@pytest.mark.parametrize(("path", "field", "value"), EVERY_FIELD)
def test_new_policy_replaces_the_old_and_no_child_that_runs_is_touched(path: str, field: str, value: object) -> None:
    tree = whole()
    before = {node: getattr(tree.node(node), "entry") for node in ("", "a", "s", "s/x", "s/y", "pool", "z")}  # noqa: B009
    tree.reconfigure(path, **{field: value})
    assert getattr(tree.node(path).entry, field) == value
    ((_, data),) = tree.events("POLICY_CHANGED", path)
    assert isinstance(data, PolicyChanged)
    assert [change.field for change in data.changes] == [field]
    assert len(tree.log) == 1
    assert tree.requests == []
    assert set(tree.incarnations().values()) == {1}
    unchanged = [node for node in before if node != path]
    assert [tree.node(node).entry for node in unchanged] == [before[node] for node in unchanged]


@pytest.mark.otp("U01")
def test_several_fields_change_in_one_decision_and_others_keep_their_values() -> None:
    tree = whole()
    tree.reconfigure("s", max_restarts=1, strategy="one_for_all")
    ((_, data),) = tree.events("POLICY_CHANGED")
    assert data == PolicyChanged(
        (PolicyChange("strategy", "one_for_one", "one_for_all"), PolicyChange("max_restarts", "10", "1"))
    )
    entry = tree.node("s").entry
    assert isinstance(entry, SupervisorEntry)
    assert (entry.max_seconds, entry.restart, entry.backoff) == (10.0, "permanent", INHERIT)


@pytest.mark.otp("U01")
@every_executor
def test_a_real_child_keeps_its_process_and_notices_nothing(executor: str) -> None:
    tree = a_tree()
    add_scripted(tree, executor, "a", execute="sleep", backoff=None)
    with tree:
        wait_for_hook(tree, "a")
        pid = tree.status("a").pid
        tree.reconfigure("a", restart="permanent", shutdown=3, start_timeout=7.0)
        tree.reconfigure("", max_restarts=5)
        assert (tree.status("a").pid, tree.status("a").incarnation) == (pid, 1)
        assert hooks_of(tree, "a") == ["setup", "execute"]
        entry, root = tree.get_childspec("a"), tree.get_childspec("")
        assert isinstance(entry, AgentEntry)
        assert isinstance(root, SupervisorEntry)
        assert (entry.restart, entry.shutdown, entry.start_timeout, root.max_restarts) == ("permanent", 3.0, 7.0, 5)


@pytest.mark.otp("U01")
def test_a_child_that_is_added_comes_last_and_those_that_nobody_names_keep_their_places() -> None:
    tree = whole()
    tree.reconfigure("a", shutdown=1.0)
    tree.register("", child("new"))
    tree.reconfigure("z", shutdown=1.0)
    tree.forget()
    tree.stop()
    assert told(tree, "AGENT_STOPPING") == [
        "0 STOPPING new", "0 STOPPING z", "0 STOPPING s/y", "0 STOPPING s/x", "0 STOPPING a",
    ]  # fmt: skip


@pytest.mark.otp("U01")
def test_new_flags_and_specifications_act_from_the_next_end_on() -> None:
    tree = whole()
    tree.complete("a")
    assert tree.state("a") == "completed"
    tree.reconfigure("a", restart="permanent")
    assert tree.state("a") == "completed", "nobody starts it for that"
    tree.start_agent("a")
    tree.complete("a")
    assert tree.incarnations()["a"] == 3
    tree.reconfigure("s", max_restarts=0)
    tree.reconfigure("s/x", restart="temporary")
    tree.crash("s/x")
    assert "s/x" not in tree.states()
    tree.crash("s/y")
    assert tree.incarnations()["s"] == 2


@pytest.mark.otp("U01")
def test_the_new_policy_outlives_a_restart_of_the_supervisor() -> None:
    tree = whole()
    tree.reconfigure("s", strategy="one_for_all", max_restarts=1)
    tree.reconfigure("s/x", restart="permanent")
    tree.restart_agent("s")
    tree.complete("s/x")
    assert tree.incarnations() == {"a": 1, "s": 2, "s/x": 3, "s/y": 3, "pool": 1, "z": 1}
    tree.complete("s/x")
    assert tree.incarnations()["s"] == 3


@pytest.mark.otp("U01")
def test_it_also_works_before_the_start_and_not_after_the_end() -> None:
    tree = a_tree()
    add(tree, "a")
    tree.reconfigure("a", shutdown=1.5)
    tree.reconfigure("", max_restarts=2)
    entry = tree.get_childspec("a")
    assert isinstance(entry, AgentEntry)
    assert entry.shutdown == 1.5
    with tree:
        again = tree.get_childspec("")
        assert isinstance(again, SupervisorEntry)
        assert again.max_restarts == 2
        assert types(tree, "a").count(E.POLICY_CHANGED) == 0
    with pytest.raises(NotRunning):
        tree.reconfigure("a", shutdown=2.5)


@pytest.mark.otp("U01")
def test_from_an_asyncio_program_it_is_awaited() -> None:
    async def program() -> None:
        tree = a_tree()
        add(tree, "a")
        async with tree:
            await tree.aio.reconfigure("a", shutdown=1.5)
            entry = tree.get_childspec("a")
            assert isinstance(entry, AgentEntry)
            assert entry.shutdown == 1.5
            with pytest.raises(SpecError):
                await tree.aio.reconfigure("a", shutdown=-1)

    asyncio.run(program())


# U02

WRONG: list[tuple[str, dict[str, object]]] = [
    ("a", {"restart": "always"}), ("a", {"shutdown": -1}), ("a", {"shutdown": "kill"}), ("a", {"start_timeout": 0}),
    ("a", {"backoff": 3}), ("a", {"strategy": "all_for_one"}), ("a", {"significant": "yes"}),
    ("a", {"significant": True}), ("a", {"replace_wedged": 1}), ("a", {"name": "b"}), ("a", {"agent": object}),
    ("a", {"depends_on": ["z"]}), ("a", {"params": {}}), ("a", {"config": None}), ("a", {"executor": "process"}),
    ("a", {"max_restarts": 3}), ("a", {"max_children": 3}), ("a", {"no_such_field": 1}), ("a", {"restart": None}),
    ("s", {"strategy": "x"}), ("s", {"max_restarts": -1}), ("s", {"max_restarts": 1.5}), ("s", {"max_seconds": 0}),
    ("s", {"auto_shutdown": "sometimes"}), ("s", {"children": ()}), ("s", {"dynamic": True}), ("s", {"name": "t"}),
    ("s", {"max_children": 1}), ("s", {"significant": True}), ("s", {"start_timeout": 1.0}),
    ("pool", {"max_children": -1}), ("pool", {"max_children": 1.5}), ("pool", {"dynamic": False}),
    ("", {"restart": "transient"}), ("", {"backoff": None}), ("", {"shutdown": 1.0}), ("", {"max_restarts": "x"}),
    ("", {"run_mode": "daemon"}),
]  # fmt: skip


@pytest.mark.otp("U02")
@pytest.mark.parametrize("with_a_good_one", [False, True])
@pytest.mark.parametrize(("path", "fields"), WRONG, ids=str)
def test_what_is_wrong_changes_nothing_at_all(path: str, fields: dict[str, object], with_a_good_one: bool) -> None:
    tree = whole()
    before = {name: tree.node(name).entry for name in ("", *tree.states())}
    good: dict[str, object] = {"strategy": "one_for_all"} if "strategy" not in fields and path in ("", "s") else {}
    error = refused(lambda: tree.reconfigure(path, **(good if with_a_good_one else {}), **fields))
    assert isinstance(error, SpecError)
    assert repr(path) in str(error) or next(iter(fields)) in str(error)
    assert (tree.log, tree.requests) == ([], [])
    assert {name: tree.node(name).entry for name in before} == before
    assert set(tree.states().values()) == {"ready"}


@pytest.mark.otp("U02")
def test_a_combination_that_is_wrong_changes_nothing() -> None:
    tree = Story(agent("x", significant=True), agent("y", restart="permanent"), auto_shutdown="any_significant")
    tree.forget()
    for path, fields in (
        ("", {"auto_shutdown": "never"}), ("x", {"restart": "permanent"}), ("y", {"significant": True}),
    ):  # fmt: skip
        assert isinstance(refused(lambda path=path, fields=fields: tree.reconfigure(path, **fields)), SpecError)  # type: ignore[misc]
    assert tree.log == []
    tree.reconfigure("y", restart="transient", significant=True)
    tree.reconfigure("x", restart="permanent", significant=False)
    assert len(tree.log) == 2


@pytest.mark.otp("U02")
@pytest.mark.parametrize("path", ["nobody", "s/nobody", "a/x", "/"])
def test_a_path_that_is_not_there_is_not_found(path: str) -> None:
    tree = whole()
    assert isinstance(refused(lambda: tree.reconfigure(path, shutdown=1.0)), NotFound)
    real = a_tree()
    with pytest.raises(NotFound):
        real.reconfigure(path, shutdown=1.0)
    with real, pytest.raises(NotFound):
        real.reconfigure(path, shutdown=1.0)


@pytest.mark.otp("U02")
def test_what_is_the_same_as_before_and_nothing_at_all_are_no_change() -> None:
    tree = whole()
    tree.reconfigure("a")
    tree.reconfigure("a", restart="transient", shutdown=5)
    tree.reconfigure("s", strategy="one_for_one")
    assert tree.log == []


# U03: a dynamic supervisor stays one, and has no template that could be changed


@pytest.mark.otp("U03")
@pytest.mark.parametrize(
    "fields",
    [
        {"children": (agent("a"),)}, {"children": (agent("a"), agent("b"))}, {"children": ()}, {"dynamic": False},
        {"strategy": "one_for_all"}, {"auto_shutdown": "any_significant"},
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_a_supervisor_dynamic_cannot_be_changed(fields: dict[str, object]) -> None:
    tree = whole()
    tree.start_child("pool", child("one"))
    tree.forget()
    assert isinstance(refused(lambda: tree.reconfigure("pool", **fields)), SpecError)
    assert isinstance(refused(lambda: tree.reconfigure("s", dynamic=True)), SpecError)
    assert (tree.log, tree.state("pool/one")) == ([], "ready")


@pytest.mark.otp("U03")
def test_the_specification_of_one_child_of_a_dynamic_supervisor_changes_that_child_only() -> None:
    tree = whole()
    for name in ("one", "two"):
        tree.start_child("pool", child(name))
    tree.reconfigure("pool/one", restart="permanent")
    for name in ("one", "two"):
        tree.complete(f"pool/{name}")
    assert [path for path in tree.states() if path.startswith("pool/")] == ["pool/one"]
    assert isinstance(refused(lambda: tree.reconfigure("pool/one", strategy="one_for_all")), SpecError)
    assert isinstance(refused(lambda: tree.reconfigure("pool/one", significant=True)), SpecError)


# U04

TAKEN_ALONG = {"one_for_one": "b", "one_for_all": "abc", "rest_for_one": "bc", "dependents": "bc"}


@pytest.mark.otp("U04")
@pytest.mark.parametrize(("before", "after"), list(permutations(STRATEGIES, 2)))
def test_another_strategy_acts_from_the_next_crash_on(before: str, after: str) -> None:
    tree = Story(child("a"), child("b"), child("c", depends_on=["b"]), strategy=before)
    tree.crash("b")
    first = tree.incarnations()
    assert first == {name: 1 + (name in TAKEN_ALONG[before]) for name in "abc"}
    tree.reconfigure("", strategy=after)
    assert tree.incarnations() == first
    tree.crash("b")
    assert tree.incarnations() == {name: number + (name in TAKEN_ALONG[after]) for name, number in first.items()}
    assert stamps(tree) == 2


@pytest.mark.otp("U04")
def test_the_next_crash_starts_all_that_the_new_strategy_takes_along_also_the_added_and_the_completed() -> None:
    tree = Story(child("a"), child("done"), child("ignored"), child("b"), started=False)
    tree.manual.add("ignored")
    tree.start()
    tree.ignore("ignored")
    tree.manual.clear()
    tree.complete("done")
    tree.register("", child("new"))
    tree.reconfigure("", strategy="one_for_all")
    tree.advance(1.0)
    tree.forget()
    tree.crash("a")
    assert story(tree) == [
        *at(1.0, "CRASHED(exception) a, RESTARTING(failure) a"),
        *at(1.0, "STOPPING(group) new, RESTARTING(group) new, STOPPING(group) b, RESTARTING(group) b"),
        *at(1.0, ups("a", "done", "ignored", "b", "new")),
    ]
    assert set(tree.states().values()) == {"ready"}


@pytest.mark.otp("U04")
def test_a_change_while_a_restart_is_delayed_takes_nobody_more_along_before_the_next_crash() -> None:
    tree = Story(agent("a"), child("b"))
    tree.crash("a")
    tree.crash("a")
    tree.reconfigure("", strategy="one_for_all")
    tree.forget()
    tree.advance(1.0)
    assert told(tree, *LIFE) == ["0.25 STARTING a"]
    tree.crash("a")
    tree.advance(1.0)
    assert told(tree, *LIFE)[1:] == [
        "1 CRASHED a", "1 RESTARTING a", "1 STOPPING b", "1 RESTARTING b", "1.5 STARTING a", "1.5 STARTING b",
    ]  # fmt: skip


@pytest.mark.otp("U04")
def test_under_rest_for_one_the_children_start_one_by_one_from_then_on() -> None:
    tree = Story(*(process(name) for name in "abc"))
    tree.reconfigure("", strategy="rest_for_one")
    tree.manual |= set("abc")
    tree.forget()
    tree.crash("a")
    for name in "cb":
        tree.end(name, NORMAL)
    for name in "abc":
        tree.advance(1.0)
        tree.ready(name)
    assert told(tree, "AGENT_STARTING") == ["0 STARTING a", "1 STARTING b", "2 STARTING c"]


@pytest.mark.otp("U04")
@every_executor
def test_a_real_group_follows_the_new_strategy(executor: str) -> None:
    tree = a_tree()
    add_scripted(tree, executor, "a", execute="sleep", backoff=None)
    add(
        tree,
        "b",
        lambda agent: agent.sleep(3600) if agent.incarnation > 1 else wait_then_crash(tree, agent),
        backoff=None,
    )
    with tree:
        tree.reconfigure("", strategy="one_for_all")
        tree.events.wait_for(E.POLICY_CHANGED, since=0, timeout=PATIENCE)
        wait_for(tree, E.AGENT_READY, "a", count=2)
        wait_for(tree, E.AGENT_READY, "b", count=2)
        assert tree.status("a").state is AgentState.READY


def wait_then_crash(tree: Any, agent: Any) -> object:
    """Crash once the policy has changed."""
    tree.events.wait_for(E.POLICY_CHANGED, since=0, timeout=PATIENCE)
    return crash(agent)
