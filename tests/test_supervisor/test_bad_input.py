"""What bad input gets: one error with field, value and rule, before anything starts; nothing is half done."""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import Any

import pytest
from orchestree_testing.trees import PATIENCE, AsyncDoes, Does, a_tree, add, crash, wait_for
from tenacity import wait_fixed

from orchestree.agents import Agent, AsyncAgent
from orchestree.strategies import Backoff
from orchestree.supervisor import AgentEntry, AgentState, EventType, Orchestrator, SpecError, SupervisorEntry
from orchestree.supervisor.events import AgentCrashed

E = EventType


class Writer(Agent):
    class Config(Agent.Config):
        path: str = "log.txt"
        interval: float = 1.0

    config: Config

    def execute(self) -> None:
        self.sleep(3600)


class Unfinished(Agent):
    @abstractmethod
    def collect(self) -> None: ...

    def execute(self) -> None: ...


# What is handed to `register_agent`: class, name, keywords; and what the message says.
ENTRIES: Any = {
    "a name with a slash": (Does, "a/b", {}, r"name='a/b': must be 1 to 64 of the characters"),
    "an empty name": (Does, "", {}, r"name=''"),
    "a long name": (Does, "x" * 65, {}, r"name='xxx"),
    "a name that is no text": (Does, 7, {}, r"name=7"),
    "an unknown config key": (Writer, "a", {"pth": "x"}, r"'a': Writer: unknown field 'pth'.*'path'"),
    "a mistyped entry field": (Writer, "a", {"restrat": "permanent"}, r"'restrat'.*did you mean 'restart'"),
    "an unknown key without a likeness": (Does, "a", {"zzz": 1}, r"agent 'a': Does: unknown field 'zzz'$"),
    "a config field of the wrong type": (Writer, "a", {"path": 7}, r"path=7: must be a valid string"),
    "a config of another class": (Writer, "a", {"config": Does.Config()}, r"config must be a Writer.Config"),
    "a class that is no agent": (dict, "a", {}, r"agent=<class 'dict'>: must be a subclass of Agent or AsyncAgent"),
    "an instance": (object(), "a", {}, r"agent=<object object"),
    "an abstract class": (Unfinished, "a", {}, r"agent=.*Unfinished.*collect"),
    "a base class": (Agent, "a", {}, r"agent=.*Agent.*execute"),
    "a coroutine agent in a thread": (AsyncDoes, "a", {"executor": "thread"}, r"executor='thread': AsyncDoes runs on"),
    "a thread agent in a loop": (Does, "a", {"executor": "async"}, r"executor='async': Does runs on thread or process"),
    "an unknown executor": (Does, "a", {"executor": "proces"}, r"executor='proces'.*did you mean 'process'"),
    "an unknown restart type": (Does, "a", {"restart": "permanant"}, r"restart='permanant'.*did you mean 'permanent'"),
    "an unknown strategy": (Does, "a", {"strategy": "one_for_al"}, r"strategy='one_for_al'.*'one_for_all'"),
    "a negative shutdown time": (Does, "a", {"shutdown": -1}, r"shutdown=-1: must be a finite number of seconds"),
    "an unknown shutdown word": (Does, "a", {"shutdown": "brutal"}, r"shutdown='brutal'.*'brutal_kill'"),
    "a negative start timeout": (Does, "a", {"start_timeout": -0.5}, r"start_timeout=-0.5"),
    "a start timeout of zero": (Does, "a", {"start_timeout": 0}, r"start_timeout=0: .*above 0"),
    "a time that is no number": (Does, "a", {"start_timeout": float("nan")}, r"start_timeout=nan"),
    "a watchdog of zero": (Does, "a", {"watchdog": 0}, r"watchdog=0: .*above 0"),
    "a memory limit of a thread": (Does, "a", {"max_memory": 5}, r"max_memory=5: needs executor='process'"),
    "an age limit without rounds": (Does, "a", {"max_age": 5}, r"max_age=5: needs a looping or periodic agent"),
    "a time that is a flag": (Does, "a", {"shutdown": True}, r"shutdown=True"),
    "dependencies as one text": (Does, "a", {"depends_on": "b"}, r"depends_on='b': must be a list of names"),
    "a dependency that is no name": (Does, "a", {"depends_on": [7]}, r"7"),
    "params that are no mapping": (Does, "a", {"params": [1]}, r"params=\[1\]: must be a mapping"),
    "a backoff that is none": (Does, "a", {"backoff": 5}, r"backoff=5: must be a Backoff or None"),
    "a significant permanent agent": (Does, "a", {"significant": True, "restart": "permanent"}, r"significant=True"),
    "a flag that is a text": (Does, "a", {"significant": "yes"}, r"significant='yes': must be True or False"),
    "another flag that is a number": (Does, "a", {"replace_wedged": 1}, r"replace_wedged=1: must be True or False"),
}


@pytest.mark.parametrize(("agent", "name", "fields", "message"), ENTRIES.values(), ids=ENTRIES.keys())
def test_register_agent_refuses(agent: Any, name: Any, fields: Any, message: str) -> None:
    tree = a_tree()
    with pytest.raises(SpecError, match=message) as caught:
        tree.register_agent(agent, name, **fields)
    assert "\n" not in str(caught.value)
    assert tree.check() == []


@pytest.mark.parametrize(("agent", "name", "fields", "message"), ENTRIES.values(), ids=ENTRIES.keys())
def test_a_running_tree_refuses_the_same_and_is_as_it_was(agent: Any, name: Any, fields: Any, message: str) -> None:
    tree = a_tree()
    with tree:
        with pytest.raises(SpecError, match=message):
            tree.register_agent(agent, name, **fields)
        assert tree.which_children() == []
        add(tree, "a")
        tree.wait_until("a", "ready", PATIENCE)


def entries_only() -> list[Any]:
    return [row for row in ENTRIES.values() if not {"pth", "restrat", "zzz", "path"} & set(row[2])]


@pytest.mark.parametrize(("agent", "name", "fields", "message"), entries_only())
def test_an_entry_by_hand_refuses_the_same(agent: Any, name: Any, fields: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        AgentEntry(agent, name, **fields)


SUPERVISORS: Any = {
    "a bad name": ({"name": "a b"}, r"name='a b'"),
    "no name": ({"name": ""}, r"name=''"),
    "negative restarts": ({"max_restarts": -1}, r"max_restarts=-1: must be a whole number"),
    "a window without length": ({"max_seconds": 0}, r"max_seconds=0: .*above 0"),
    "an unknown strategy": ({"strategy": "rest_for_all"}, r"strategy='rest_for_all'"),
    "an unknown auto_shutdown": ({"auto_shutdown": "any"}, r"auto_shutdown='any'"),
    "children that are none": ({"children": [Does]}, r"children: .*must be an AgentEntry or a SupervisorEntry"),
    "children that are no list": ({"children": 5}, r"children=5: must be a list"),
    "two of one name": ({"children": [AgentEntry(Does, "x"), AgentEntry(Does, "x")]}, r"name='x'"),
}


@pytest.mark.parametrize(("fields", "message"), SUPERVISORS.values(), ids=SUPERVISORS.keys())
def test_add_supervisor_refuses(fields: Any, message: str) -> None:
    for tree in (a_tree(), started()):
        with pytest.raises(SpecError, match=message):
            tree.add_supervisor(**{"name": "inner", **fields})
        assert tree.which_children() == []
        tree.add_supervisor("inner")
        if tree.is_running:
            tree.stop()


def started() -> Orchestrator:
    tree = a_tree()
    tree.start()
    return tree


def entry(name: str, *needs: str) -> AgentEntry:
    return AgentEntry(Does, name, depends_on=needs)


TREES: Any = {
    "an unknown dependency": ([entry("a", "databse"), entry("database")], r"'a': depends_on='databse'.*'database'"),
    "a cycle": ([entry("a", "b"), entry("b", "a")], r"cycle a -> b -> a$"),
    "itself": ([entry("a", "a")], r"cycle a -> a$"),
    "a cycle inside": (
        [SupervisorEntry("in", children=[entry("a", "b"), entry("b", "a")])],
        r"cycle a -> b -> a in 'in'",
    ),
    "a dependency in another family": (
        [entry("a"), SupervisorEntry("in", children=[entry("b", "a")])],
        r"'b': depends_on='a'",
    ),
    "a significant child for nothing": (
        [AgentEntry(Does, "a", significant=True, restart="temporary")],
        r"'a': significant=True",
    ),
}


@pytest.mark.parametrize(("children", "message"), TREES.values(), ids=TREES.keys())
def test_a_tree_that_contradicts_itself_does_not_start(children: Any, message: str) -> None:
    tree = Orchestrator(Orchestrator.Config(run_mode="daemon", control=False), children)
    with pytest.raises(SpecError, match=message):
        tree.check()
    with pytest.raises(SpecError, match=message):
        tree.start()
    assert not tree.is_running
    assert tree.history() == []


def test_a_duplicate_name_is_refused_in_a_static_tree_and_by_hand() -> None:
    config = Orchestrator.Config(run_mode="daemon", control=False)
    with pytest.raises(SpecError, match="name='a'"):
        Orchestrator(config, [entry("a"), entry("a")])
    tree = Orchestrator(config, [entry("a")])
    with pytest.raises(SpecError, match="name='a'"):
        add(tree, "a")
    with pytest.raises(SpecError, match="name='a'"):
        tree.add_supervisor("a")
    assert len(tree.check()) == 1


@pytest.mark.parametrize("children", [5, [Does], [None], ["a"], {"a": Does}])
def test_children_that_are_no_entries_are_refused(children: Any) -> None:
    with pytest.raises(SpecError, match="children"):
        Orchestrator(Orchestrator.Config(run_mode="daemon"), children)


CONFIGS: Any = {
    "no run mode": ({}, r"run_mode is required: RunMode"),
    "an unknown run mode": ({"run_mode": "deamon"}, r"run_mode='deamon': .*did you mean 'daemon'"),
    "an unknown key": ({"max_worker": 3}, r"unknown field 'max_worker'.*did you mean 'max_workers'"),
    "no worker": ({"max_workers": 0}, r"max_workers=0: must be a whole number, 1 or more"),
    "a fraction of a worker": ({"max_workers": 1.5}, r"max_workers=1.5"),
    "a port out of range": ({"metrics_port": 70000}, r"metrics_port=70000: must be from 0 to 65535"),
    "an open port without a token": (
        {"metrics_host": "0.0.0.0"},
        r"metrics_host='0.0.0.0': .* metrics_token must be set",
    ),
    "a name without a token": ({"metrics_host": "box"}, r"metrics_host='box': other machines may reach it"),
    "no host": ({"metrics_host": "", "metrics_token": "x"}, r"metrics_host='': must be an address"),
    "a port that is required and not there": ({"metrics_required": True}, r"metrics_required=True: needs metrics_port"),
    "an empty token": ({"metrics_token": ""}, r"metrics_token=\.\.\.: must be one or more ASCII characters"),
    "a token that no header can hold": ({"metrics_token": "a\nb"}, r"metrics_token=\.\.\.: must be one or more ASCII"),
    "a token that is none": ({"metrics_token": 3}, r"metrics_token=\*+: must be"),
    "no series": ({"metrics_series": 0}, r"metrics_series=0: must be a whole number, 1 or more"),
    "a negative window": ({"max_seconds": -1}, r"max_seconds=-1"),
    "a negative budget": ({"max_restarts": -1}, r"max_restarts=-1"),
    "a text as a flag": ({"strict_start": "yes"}, r"strict_start='yes'"),
    "an unknown loop": ({"agents_loop": "mine"}, r"agents_loop='mine'"),
    "a name that is none": ({"name": "a b"}, r"name='a b'"),
    "a backoff that is none": ({"backoff": 3}, r"backoff=3"),
}


@pytest.mark.parametrize(("fields", "message"), CONFIGS.values(), ids=CONFIGS.keys())
def test_the_configuration_of_a_tree_refuses(fields: Any, message: str) -> None:
    given = {"run_mode": "daemon", **fields} if fields else fields
    with pytest.raises(SpecError, match=message) as caught:
        Orchestrator.Config(**given)
    assert str(caught.value).startswith("Orchestrator.Config: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.4.5", "::1", "localhost"])
def test_what_only_this_machine_reaches_needs_no_token(host: str) -> None:
    config = Orchestrator.Config(run_mode="daemon", metrics_port=0, metrics_host=host)
    assert config.metrics_host == host


@pytest.mark.parametrize("config", [5, {"run_mode": "daemon"}, Agent.Config()])
def test_a_tree_wants_a_configuration_of_its_own_kind(config: Any) -> None:
    with pytest.raises(SpecError, match="config="):
        Orchestrator(config)
    with pytest.raises(SpecError, match="run_mode"):
        Orchestrator()


def test_a_mistake_on_a_running_tree_changes_nothing() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        before = tree.events.latest
        for name, needs in (("a", []), ("b", ["c"]), ("b", ["b"])):
            with pytest.raises(SpecError):
                add(tree, name, depends_on=needs)
        with pytest.raises(SpecError, match="cycle"):
            tree.add_supervisor("inner", children=[entry("x", "y"), entry("y", "x")])
        assert tree.events.latest == before
        add(tree, "b", depends_on=["a"])
        tree.wait_until("b", "ready", PATIENCE)


@pytest.mark.parametrize("hook", ["setup", "execute"])
def test_setup_that_raises_is_a_crash_of_its_own_cause(hook: str) -> None:
    tree = a_tree()
    add(tree, "a", **{hook: crash}, backoff=Backoff(wait=wait_fixed(3600)))
    with tree:
        data = wait_for(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(data, AgentCrashed)
        assert data.reason.cause == ("start_failed" if hook == "setup" else "exception")
        assert data.report.phase == hook
        assert tree.status("a").state is AgentState.BACKOFF


async def hang(agent: AsyncAgent) -> None:
    await agent.sleep(3600)


@pytest.mark.parametrize(("kind", "setup"), [(Does, lambda agent: agent.sleep(3600)), (AsyncDoes, hang)])
def test_setup_that_hangs_past_its_time_is_a_crash_of_its_own_cause(kind: Any, setup: Any) -> None:
    tree = a_tree()
    add(tree, "a", kind=kind, setup=setup, start_timeout=0.05, backoff=Backoff(wait=wait_fixed(3600)))
    with tree:
        data = wait_for(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(data, AgentCrashed)
        assert (data.reason.cause, data.report.message) == ("start_timeout", "setup() did not return within 0.05 s")
        assert tree.status("a").state is AgentState.BACKOFF


@pytest.mark.slow
def test_setup_that_hangs_and_cannot_be_ended_is_wedged() -> None:
    tree = a_tree()
    go_on = threading.Event()
    add(tree, "a", setup=lambda agent: go_on.wait(PATIENCE) and None, start_timeout=0.05, shutdown=0.05)
    with tree:
        wait_for(tree, E.AGENT_WEDGED, "a")
        assert tree.status("a").state is AgentState.WEDGED
        go_on.set()
        wait_for(tree, E.AGENT_READY, "a")


class Unmakeable(Agent):
    def __init__(self) -> None:
        raise OSError("no licence")

    def execute(self) -> None: ...


def test_a_constructor_that_raises_is_a_failed_start() -> None:
    tree = a_tree()
    tree.register_agent(Unmakeable, "a", backoff=Backoff(wait=wait_fixed(3600)))
    with tree:
        data = wait_for(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(data, AgentCrashed)
        assert (data.reason.cause, data.report.message) == ("start_failed", "OSError: no licence")


def test_a_value_that_cannot_reach_a_process_is_named_before_anything_starts() -> None:
    tree = a_tree()
    with pytest.raises(SpecError, match="numbers"):
        tree.register_agent(Does, "a", executor="process", params={"numbers": (number for number in range(3))})
    assert tree.check() == []
