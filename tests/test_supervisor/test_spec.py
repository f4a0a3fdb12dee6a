"""Child specifications: defaults, accepted forms, and the errors that name field, value and rule."""

from __future__ import annotations

import dataclasses
import itertools
from types import MappingProxyType

import pytest
from virtual import AsyncWorker, Worker, agent, refused, supervisor

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.strategies.restart import AutoShutdown, Restart, Strategy
from orchestree.supervisor.keywords import agent_entry
from orchestree.supervisor.spec import ENTRY_FIELDS, INHERIT, AgentEntry, SupervisorEntry

pytestmark = pytest.mark.policy


class Writer(Agent):
    class Config(Agent.Config):
        path: str = "log.txt"
        seconds: float = 1.0

    def execute(self) -> None: ...


def test_an_agent_entry_has_the_defaults_of_the_contract() -> None:
    entry = AgentEntry(Worker, "a")
    assert (entry.agent, entry.name, entry.executor) == (Worker, "a", "thread")
    assert (entry.restart, entry.strategy, entry.backoff) == (Restart.TRANSIENT, None, INHERIT)
    assert (entry.shutdown, entry.start_timeout) == (5.0, 60.0)
    assert (entry.depends_on, entry.significant, entry.replace_wedged) == ((), False, False)
    assert isinstance(entry.config, Worker.Config)
    assert entry.params == {}


def test_a_supervisor_entry_has_the_defaults_of_the_contract() -> None:
    entry = SupervisorEntry("s")
    assert (entry.strategy, entry.max_restarts, entry.max_seconds) == (Strategy.ONE_FOR_ONE, 10, 10.0)
    assert (entry.auto_shutdown, entry.restart, entry.backoff) == (AutoShutdown.NEVER, Restart.PERMANENT, INHERIT)
    assert (entry.shutdown, entry.depends_on, entry.significant, entry.children) == ("infinity", (), False, ())


def test_an_async_agent_runs_as_a_task_by_default_and_may_run_in_a_process() -> None:
    assert AgentEntry(AsyncWorker, "a").executor == "async"
    assert AgentEntry(AsyncWorker, "a", executor="process").executor == "process"
    with pytest.raises(SpecError, match=r"agent 'a': executor='thread': AsyncWorker runs on async or process"):
        AgentEntry(AsyncWorker, "a", executor="thread")
    with pytest.raises(SpecError, match=r"runs on thread or process"):
        AgentEntry(Worker, "a", executor="async")


def test_enums_are_taken_by_their_lower_case_names() -> None:
    entry = agent("a", restart="permanent", strategy="rest_for_one")
    assert (entry.restart, entry.strategy) == (Restart.PERMANENT, Strategy.REST_FOR_ONE)
    team = supervisor("s", strategy="dependents", auto_shutdown="all_significant", restart="temporary")
    assert (team.strategy, team.auto_shutdown) == (Strategy.DEPENDENTS, AutoShutdown.ALL_SIGNIFICANT)


@pytest.mark.parametrize("name", ["a", "A-z_0.9", "x" * 64])
def test_names_have_1_to_64_plain_characters(name: str) -> None:
    assert agent(name).name == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a/b", "a b", "ä", "a\n", None, 5])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"name=.*must be 1 to 64 of the characters"):
        agent(name)
    if name != "":  # the root
        with pytest.raises(SpecError, match="name="):
            supervisor(name)


def test_every_valid_combination_is_accepted() -> None:
    for restart, shutdown, timeout, significant in itertools.product(
        ("permanent", "transient", "temporary"), (0, 1.5, "brutal_kill", "infinity"), (None, 0.5, 60), (False, True)
    ):
        if not (significant and restart == "permanent"):
            agent("a", restart=restart, shutdown=shutdown, start_timeout=timeout, significant=significant)
            supervisor("s", restart=restart, shutdown=shutdown, significant=significant)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"restart": "prmanent"}, "restart='prmanent': must be one of .*did you mean 'permanent'"),
        ({"strategy": "all"}, "strategy='all'"),
        ({"backoff": 5}, "backoff=5: must be a Backoff or None"),
        ({"shutdown": -1}, "shutdown=-1: must be a finite number of seconds, 0 or more"),
        ({"shutdown": float("inf")}, "shutdown=inf"),
        ({"shutdown": float("nan")}, "shutdown=nan"),
        ({"shutdown": True}, "shutdown=True"),
        ({"shutdown": None}, "shutdown=None"),
        ({"shutdown": "brutal-kill"}, "did you mean 'brutal_kill'"),
        ({"start_timeout": 0}, "start_timeout=0: .*above 0"),
        ({"start_timeout": "60"}, "start_timeout='60'"),
        ({"depends_on": "b"}, "depends_on='b': must be a list of names"),
        ({"depends_on": 5}, "depends_on=5"),
        ({"depends_on": ["b/c"]}, "depends_on='b/c'"),
        ({"significant": 1}, "significant=1: must be True or False"),
        ({"significant": True, "restart": "permanent"}, "significant=True: a permanent child always comes back"),
        ({"replace_wedged": "yes"}, "replace_wedged='yes'"),
        ({"executor": "proces"}, "did you mean 'process'"),
        ({"executor": 5}, "executor=5"),
        ({"params": [1]}, r"params=\[1\]: must be a mapping"),
        ({"config": {"path": "x"}}, "config"),
    ],
)
def test_a_wrong_field_of_an_agent_is_a_spec_error_that_names_agent_field_and_value(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError, match=f"agent 'a': .*{message}"):
        agent("a", **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "simple_one_for_one"}, "strategy="),
        ({"max_restarts": -1}, "max_restarts=-1: must be a whole number, 0 or more"),
        ({"max_restarts": 1.0}, "max_restarts=1.0"),
        ({"max_restarts": True}, "max_restarts=True"),
        ({"max_restarts": float("inf")}, "max_restarts=inf"),
        ({"max_seconds": 0}, "max_seconds=0: .*above 0"),
        ({"max_seconds": float("inf")}, "max_seconds=inf"),
        ({"auto_shutdown": "sometimes"}, "auto_shutdown='sometimes'"),
        ({"significant": True}, "significant=True: a permanent child always comes back"),
        ({"shutdown": "never"}, "shutdown='never'"),
    ],
)
def test_a_wrong_field_of_a_supervisor_is_a_spec_error_that_names_it(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=f"supervisor 's': .*{message}"):
        supervisor("s", **fields)


def test_the_agent_must_be_an_agent_class() -> None:
    for wrong in (object, "Worker", Worker.execute, None):
        with pytest.raises(SpecError, match=r"agent=.*must be a subclass of Agent or AsyncAgent"):
            AgentEntry(wrong, "a")  # type: ignore[arg-type]


@pytest.mark.parametrize("children", [["x"], 5, [None]])
def test_children_must_be_entries(children: object) -> None:
    with pytest.raises(SpecError, match="supervisor 's': children"):
        SupervisorEntry("s", children=children)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="children"):
        SupervisorEntry("s", children=(child for child in ["x"]))  # type: ignore[misc]


def test_children_may_come_from_any_iterable() -> None:
    team = SupervisorEntry("s", children=(agent(name) for name in "ab"))
    assert [child.name for child in team.children] == ["a", "b"]


def test_an_entry_cannot_be_changed_and_keeps_its_own_copy_of_params() -> None:
    params: dict[str, object] = {"x": 1}
    entry = agent("a", params=params, depends_on=["b", "c", "b"])
    params["x"] = 2
    assert entry.params == MappingProxyType({"x": 1})
    assert entry.depends_on == ("b", "c")
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        entry.params["x"] = 3  # type: ignore[index]


def test_backoff_none_is_a_policy_of_its_own() -> None:
    assert agent("a", backoff=None).backoff is None
    assert agent("a").backoff is INHERIT
    assert agent("a", backoff=Backoff()).backoff == Backoff()


def test_leftover_keywords_are_config_fields() -> None:
    entry = agent_entry(Writer, "w", {"path": "x.txt", "restart": "permanent"})
    assert isinstance(entry.config, Writer.Config)
    assert (entry.config.path, entry.config.seconds, entry.restart) == ("x.txt", 1.0, Restart.PERMANENT)
    both = agent_entry(Writer, "w", {"path": "y", "config": Writer.Config(seconds=2.0)})
    assert isinstance(both.config, Writer.Config)
    assert (both.config.path, both.config.seconds) == ("y", 2.0)


def test_a_keyword_that_is_neither_is_a_spec_error_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match=r"agent 'w': .*pth.*did you mean 'path'"):
        agent_entry(Writer, "w", {"pth": "x"})


def test_config_fields_do_not_hide_that_the_agent_is_none() -> None:
    for wrong in ("Worker", object):
        error = refused(lambda wrong=wrong: agent_entry(wrong, "w", {"path": "x"}))  # type: ignore[misc]
        assert str(error) == f"agent={wrong!r}: must be a subclass of Agent or AsyncAgent"


def test_the_entry_fields_are_those_of_the_contract() -> None:
    assert {"config", "params", "executor", "restart", "strategy", "backoff", "shutdown"} <= ENTRY_FIELDS
    assert {"start_timeout", "depends_on", "significant", "replace_wedged"} <= ENTRY_FIELDS
    assert {"watchdog", "max_memory", "max_age"} <= ENTRY_FIELDS


def test_hooks_of_the_other_family_are_refused() -> None:
    class Sync(Agent):
        async def execute(self) -> None:
            """Never awaited."""

    class Async(AsyncAgent):
        async def execute(self) -> None:
            """Do nothing."""

        def teardown(self) -> None:  # type: ignore[override]
            """Cannot be awaited."""

    with pytest.raises(SpecError, match=r"Sync: execute\(\) is an async def; derive from AsyncAgent"):
        AgentEntry(Sync, "a")
    with pytest.raises(SpecError, match=r"Async: teardown\(\) must be an async def, or derive from Agent"):
        AgentEntry(Async, "a")
