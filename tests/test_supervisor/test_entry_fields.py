"""Single fields of child specifications: what is taken, and what a wrong one is told, word for word."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MappingProxyType

import pytest
from virtual import AsyncWorker, Worker, refused

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.restart import AutoShutdown, Restart, Strategy
from orchestree.supervisor import entry_fields

pytestmark = pytest.mark.policy

SECONDS = "must be a finite number of seconds, 0 or more, or 'brutal_kill' or 'infinity'"


def told(call: Callable[[], object]) -> str:
    """Return what a mistake is told."""
    return str(refused(call))


@pytest.mark.parametrize("name", ["", "x" * 65, "a/b", "a b", "ä", "a\n", None, 5])
def test_a_name_has_1_to_64_plain_characters(name: object) -> None:
    expected = f"name={name!r}: must be 1 to 64 of the characters A-Z a-z 0-9 . _ -"
    assert told(lambda: entry_fields.check_name(name)) == expected


def test_a_path_is_a_text() -> None:
    entry_fields.check_path("")
    entry_fields.check_path("ingest/collector")
    assert told(lambda: entry_fields.check_path(5)) == "path=5: must be a string such as 'ingest/collector'"
    assert told(lambda: entry_fields.check_path(None)) == "path=None: must be a string such as 'ingest/collector'"


def test_an_agent_is_a_class_of_ours_that_defines_all_it_has_to() -> None:
    class Half(Agent):
        """Has no execute()."""

    assert told(lambda: entry_fields.agent("Worker")) == "agent='Worker': must be a subclass of Agent or AsyncAgent"
    assert told(lambda: entry_fields.agent(int)) == f"agent={int!r}: must be a subclass of Agent or AsyncAgent"
    name = f"{test_an_agent_is_a_class_of_ours_that_defines_all_it_has_to.__name__}.<locals>.Half"
    assert told(lambda: entry_fields.agent(Half)) == f"agent={name}: is abstract; it has to define execute"
    entry_fields.agent(Worker)
    entry_fields.agent(AsyncWorker)


def test_an_instance_or_a_class_of_something_else_is_no_agent() -> None:
    for wrong in (object(), Worker.execute, None):
        assert told(lambda wrong=wrong: entry_fields.agent(wrong)).endswith("must be a subclass of Agent or AsyncAgent")  # type: ignore[misc]


@pytest.mark.parametrize("hook", ["setup", "execute", "on_stop", "teardown"])
def test_each_hook_belongs_to_the_family_of_its_class(hook: str) -> None:
    async def awaited(self: object) -> None:
        """Need a loop."""

    def plain(self: object) -> None:
        """Need none."""

    sync = type("Sync", (Worker,), {hook: awaited})
    coroutine = type("Async", (AsyncWorker,), {hook: plain})
    assert told(lambda: entry_fields.agent(sync)) == f"agent=Sync: {hook}() is an async def; derive from AsyncAgent"
    assert told(lambda: entry_fields.agent(coroutine)) == (
        f"agent=Async: {hook}() must be an async def, or derive from Agent"
    )


def test_a_runner_is_a_hook_too() -> None:
    async def awaited(self: object) -> bool:
        return False

    looping = type("Looping", (Worker,), {"runner": awaited})
    assert (
        told(lambda: entry_fields.agent(looping)) == "agent=Looping: runner() is an async def; derive from AsyncAgent"
    )


def test_a_decorated_hook_of_a_coroutine_agent_may_return_something_to_be_awaited() -> None:
    class Decorated(AsyncAgent):
        async def execute(self) -> None:
            """Do nothing."""

    @functools.wraps(Decorated.execute)
    def wrapped(self: Decorated) -> object:
        return Decorated.execute(self)

    entry_fields.agent(type("Wrapped", (Decorated,), {"execute": wrapped}))


def test_params_are_copied_and_cannot_be_changed() -> None:
    given: dict[str, object] = {"x": 1}
    params = entry_fields.params(given)
    given["x"] = 2
    assert isinstance(params, MappingProxyType)
    assert (dict(params), dict(entry_fields.params(None)), dict(entry_fields.params({}))) == ({"x": 1}, {}, {})
    assert told(lambda: entry_fields.params([1])) == "params=[1]: must be a mapping"


def test_the_executor_is_one_that_the_class_runs_on() -> None:
    assert [entry_fields.executor(Worker, chosen) for chosen in (None, "process")] == ["thread", "process"]
    assert entry_fields.executor(AsyncWorker, None) == "async"
    assert told(lambda: entry_fields.executor(Worker, "proces")) == (
        "executor='proces': Worker runs on thread or process (did you mean 'process'?)"
    )
    assert told(lambda: entry_fields.executor(AsyncWorker, 5)) == "executor=5: AsyncWorker runs on async or process"


def test_a_stop_takes_seconds_or_one_of_two_words() -> None:
    assert [entry_fields.shutdown(value) for value in (0, 2, "brutal_kill", "infinity")] == [
        0.0, 2.0, "brutal_kill", "infinity",
    ]  # fmt: skip
    assert told(lambda: entry_fields.shutdown("brutal-kill")) == (
        "shutdown='brutal-kill': must be seconds, 'brutal_kill' or 'infinity' (did you mean 'brutal_kill'?)"
    )
    assert told(lambda: entry_fields.shutdown("infinite")) == (
        "shutdown='infinite': must be seconds, 'brutal_kill' or 'infinity' (did you mean 'infinity'?)"
    )
    assert told(lambda: entry_fields.shutdown(-1)) == f"shutdown=-1: {SECONDS}"
    assert told(lambda: entry_fields.shutdown(None)) == f"shutdown=None: {SECONDS}"


def test_dependencies_are_names_each_once_in_the_given_order() -> None:
    assert entry_fields.depends_on(name for name in "bcab") == ("b", "c", "a")
    assert told(lambda: entry_fields.depends_on("b")) == "depends_on='b': must be a list of names"
    assert told(lambda: entry_fields.depends_on(5)) == "depends_on=5: must be a list of names"
    assert told(lambda: entry_fields.depends_on(["a", "b/c"])) == "depends_on='b/c': must be the name of a sibling"
    assert told(lambda: entry_fields.depends_on([5])) == "depends_on=5: must be the name of a sibling"


def test_only_one_that_may_end_for_good_can_be_significant() -> None:
    for restart in Restart:
        assert entry_fields.significant(False, restart) is False
    assert entry_fields.significant(True, Restart.TRANSIENT) is True
    assert entry_fields.significant(True, Restart.TEMPORARY) is True
    assert told(lambda: entry_fields.significant(True, Restart.PERMANENT)) == (
        "significant=True: a permanent child always comes back; use transient or temporary"
    )
    assert told(lambda: entry_fields.significant(1, Restart.TRANSIENT)) == "significant=1: must be True or False"


def test_a_policy_is_a_backoff_or_none_or_the_orchestrators() -> None:
    policy = Backoff()
    assert entry_fields.backoff(policy) is policy
    assert entry_fields.backoff(None) is None
    assert entry_fields.backoff(entry_fields.INHERIT) is entry_fields.INHERIT
    assert told(lambda: entry_fields.backoff(5)) == "backoff=5: must be a Backoff or None"


def test_only_a_dynamic_supervisor_limits_its_children() -> None:
    assert [entry_fields.max_children(value, True) for value in (None, 0, 3)] == [None, 0, 3]
    assert entry_fields.max_children(None, False) is None
    assert told(lambda: entry_fields.max_children(0, False)) == (
        "max_children=0: only a supervisor with dynamic=True has it"
    )
    assert told(lambda: entry_fields.max_children(-1, True)) == "max_children=-1: must be a whole number, 0 or more"


def test_a_dynamic_supervisor_has_nothing_that_its_children_would_share() -> None:
    plain: dict[str, object] = {"strategy": Strategy.ONE_FOR_ONE, "auto_shutdown": AutoShutdown.NEVER, "children": ()}
    entry_fields.check_dynamic(plain)
    must_be = "of a supervisor with dynamic=True it must be"
    for change, message in (
        ({"strategy": Strategy.ONE_FOR_ALL}, f"strategy={Strategy.ONE_FOR_ALL}: {must_be} one_for_one"),
        (
            {"auto_shutdown": AutoShutdown.ANY_SIGNIFICANT},
            f"auto_shutdown={AutoShutdown.ANY_SIGNIFICANT}: {must_be} never",
        ),
        ({"children": ("x",)}, f"children=(1 given): {must_be} empty: they come with start_child()"),
    ):
        assert told(lambda change=change: entry_fields.check_dynamic(plain | change)) == message  # type: ignore[misc]
