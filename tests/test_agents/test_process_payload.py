"""What can be handed over to an agent's process, and what is said about the rest."""

from __future__ import annotations

import multiprocessing
import pickle
import socket
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from orchestree_testing import process_agents as agents
from orchestree_testing.process_harness import Harness
from pydantic import Field, field_validator

from orchestree.agents.agent import Agent
from orchestree.agents.ends import NORMAL
from orchestree.agents.executor import Launch, RunId
from orchestree.agents.executors.process import ProcessExecutor
from orchestree.agents.process.payload import check_payload, dump_back, dump_launch
from orchestree.strategies.errors import SpecError

if TYPE_CHECKING:
    import multiprocessing as multiprocess
else:
    import multiprocess

pytestmark = pytest.mark.portable

UNPICKLABLE: Any = (letter for letter in "abc")


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    with Harness() as made:
        yield made


def launch(agent: type[Agent] = agents.Sleeper, **params: object) -> Launch:
    return Launch(run=RunId("branch/agent", 1), agent=agent, config=agent.Config(), params=params)


@pytest.mark.parametrize("library", [multiprocess, multiprocessing], ids=["multiprocess", "multiprocessing"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_queues_events_locks_and_connections_arrive(harness: Harness, library: ModuleType, method: str) -> None:
    context = library.get_context(method)
    ours, theirs = context.Pipe()
    params = {"queue": context.Queue(), "event": context.Event(), "lock": context.Lock(), "connection": theirs}
    params["queue"].put("greetings")
    run = harness.start(agents.Caller, f"{library.__name__} {method}", params={"call": agents.converse, **params})
    assert harness.ended(run).reason == NORMAL
    assert ours.recv() == "greetings"
    assert params["event"].is_set()
    for end in (ours, theirs, params["queue"]):
        end.close()


@pytest.mark.parametrize("library", [multiprocess, multiprocessing], ids=["multiprocess", "multiprocessing"])
def test_what_an_agent_puts_into_a_queue_last_arrives(harness: Harness, library: ModuleType) -> None:
    queue = library.get_context("spawn").Queue()
    run = harness.start(agents.Caller, f"filler {library.__name__}", params={"call": agents.fill_queue, "queue": queue})
    assert [queue.get(timeout=20)[0] for _ in range(1000)] == list(range(1000))
    assert harness.ended(run).reason == NORMAL
    queue.close()


def test_proxies_of_a_manager_can_connect(harness: Harness) -> None:
    with multiprocess.get_context("spawn").Manager() as manager:
        shared = manager.dict()
        run = harness.start(agents.Caller, "proxy", params={"call": agents.fill_proxy, "shared": shared})
        assert harness.ended(run).reason == NORMAL
        assert dict(shared) == {"from": "agent"}


def test_lambdas_closures_and_local_classes_travel_by_value(harness: Harness) -> None:
    factor = 3

    class Local(Agent):
        """Has a configuration, a base and a closure."""

        class Config(Agent.Config):
            start: Annotated[int, Field(gt=0)] = 1
            steps: list[int] = Field(default_factory=lambda: [1, 2])

            def total(self) -> int:
                return sum(self.steps) + self.start

        config: Config

        def setup(self) -> None:
            super().setup()

        def execute(self) -> object:
            assert isinstance(self, Local)
            assert isinstance(self.config, Local.Config)
            return self.params["function"](self.config.total() * factor)

    ended = harness.run(Local, "local", params={"function": lambda number: number + 1}, start=4)
    assert ended.result == 22


def test_a_class_that_can_be_found_is_referred_to_even_beside_a_lambda() -> None:
    pickled = dump_launch(launch(settings=agents.Settings, function=lambda: None))
    copied = pickle.loads(pickled.content)
    assert copied.agent is agents.Sleeper
    assert copied.params["settings"] is agents.Settings


def test_a_param_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(SpecError) as caught:
        check_payload(launch(good=1, bad=UNPICKLABLE))
    assert str(caught.value) == (
        "branch/agent: params['bad'] cannot be sent to a process: TypeError: cannot pickle 'generator' object"
    )


def test_a_config_field_that_cannot_be_sent_is_named() -> None:
    class Odd(Agent):
        class Config(Agent.Config):
            source: Any = None

        def execute(self) -> None:
            pass

    made = Launch(run=RunId("odd", 1), agent=Odd, config=Odd.Config(source=UNPICKLABLE), params={})
    with pytest.raises(SpecError, match=r"^odd: config\.source of .*Odd\.Config cannot be sent to a process"):
        check_payload(made)


def test_a_class_that_cannot_be_sent_is_named() -> None:
    source = UNPICKLABLE

    class Odd(Agent):
        def execute(self) -> object:
            return source

    with pytest.raises(SpecError, match=r"the class .*test_process_payload.*\.Odd cannot be sent to a process"):
        check_payload(launch(Odd))


def test_a_local_config_with_validators_is_refused_in_words() -> None:
    class Picky(Agent):
        class Config(Agent.Config):
            size: int = 1

            @field_validator("size")
            @classmethod
            def _even(cls, value: int) -> int:
                return value * 2

        def execute(self) -> None:
            pass

    with pytest.raises(SpecError, match="has validators: define it at the top level of a module"):
        check_payload(launch(Picky))


def test_what_belongs_to_a_fork_context_is_refused_with_a_hint() -> None:
    with pytest.raises(SpecError, match=r'params\[.lock.\] .* make it with multiprocess.get_context\("spawn"\)'):
        check_payload(launch(lock=multiprocess.get_context("fork").Lock()))


def test_too_many_descriptors_are_refused() -> None:
    pairs = [socket.socketpair() for _ in range(124)]
    with pytest.raises(SpecError, match="params hold 248 open files and connections"):
        check_payload(launch(pairs=pairs))
    for end in (end for pair in pairs for end in pair):
        end.close()


def test_an_error_that_is_met_while_pickling_never_gets_out() -> None:
    class Nasty:
        def __reduce__(self) -> Any:
            raise RuntimeError("not\nme")

    with pytest.raises(SpecError, match=r"params\['nasty'\] cannot be sent to a process: RuntimeError: not$"):
        check_payload(launch(nasty=Nasty()))


def test_prepare_and_check_refuse_before_anything_is_started() -> None:
    with Harness() as harness:
        with pytest.raises(SpecError, match=r"params\['bad'\]"):
            harness.prepare(launch(bad=UNPICKLABLE))
        assert harness.inner._server is None
    with pytest.raises(SpecError, match=r"params\['bad'\]"):
        ProcessExecutor.check(launch(bad=UNPICKLABLE))


def test_other_platforms_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SpecError, match="needs Linux"):
        ProcessExecutor.check(launch())


def test_open_connections_are_not_sent_back() -> None:
    ours, theirs = multiprocess.get_context("spawn").Pipe()
    with pytest.raises(TypeError, match="cannot be sent back"):
        dump_back(ours)
    ours.close()
    theirs.close()


def test_a_lock_of_threads_arrives_as_a_new_one(harness: Harness) -> None:
    params = {"value": threading.Lock()}
    ended = harness.run(agents.Caller, "lock", params={"call": agents.take_lock, **params})
    assert ended.result is True
