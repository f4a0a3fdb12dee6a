"""OTP's rules for starting a supervisor and its children (rows I).

What OTP does when a first start fails is ``strict_start=True`` here, so the rows about that are shown with it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest
from orchestree_testing.each_executor import add_scripted, end_of, only
from orchestree_testing.trees import PATIENCE, AsyncDoes, Does, a_tree, add, trace, types, wait_for
from otp_support import every_executor
from virtual import VirtualTree, agent, process, supervisor

from orchestree.agents import IGNORE
from orchestree.agents.base import BaseAgent
from orchestree.supervisor import (
    AgentCrashed,
    AgentEntry,
    AgentState,
    AlreadyPresent,
    AlreadyStarted,
    ChildCounts,
    ChildEntry,
    EventType,
    NotFound,
    NotRunning,
    Orchestrator,
    OrchestreeError,
    SpecError,
    StartError,
)
from orchestree.supervisor.world import Settings

E = EventType
STRICT = Settings(strict_start=True)
PLAIN = {"backoff": None, "restart": "permanent"}


def doing(executor: str, setup: Callable[[Any], object]) -> dict[str, Any]:
    """Return the keywords for `add` of an agent that calls `setup` as its ``setup()``."""
    if executor != "async":
        return {"kind": Does, "executor": executor, "setup": setup}

    async def in_task(agent: Any) -> object:
        return setup(agent)

    return {"kind": AsyncDoes, "setup": in_task}


@pytest.mark.otp("I01")
@pytest.mark.slow
@every_executor
def test_start_waits_for_the_setup_of_every_child_however_deep(executor: str) -> None:
    tree = a_tree()
    add_scripted(tree, executor, "a", setup="work 0.2", execute="sleep")
    inner = tree.add_supervisor("inner").add_supervisor("deeper")
    add_scripted(inner, executor, "b", setup="work 0.3", execute="sleep")
    began = time.monotonic()
    with tree:
        took = time.monotonic() - began
        assert took >= 0.3
        assert {tree.status(path).state for path in ("a", "inner", "inner/deeper/b")} == {AgentState.READY}


@pytest.mark.otp("I01")
def test_start_does_not_return_before_the_last_setup_has() -> None:
    tree = a_tree()
    gates = [threading.Event() for _ in range(3)]
    returned = threading.Event()
    for number, gate in enumerate(gates):
        add(tree, f"a{number}", setup=lambda agent, gate=gate: gate.wait(PATIENCE) and None)

    def start() -> None:
        tree.start()
        returned.set()

    threading.Thread(target=start).start()
    for number, gate in enumerate(gates):
        assert not returned.is_set()
        gate.set()
        wait_for(tree, E.AGENT_READY, f"a{number}")
    assert returned.wait(PATIENCE)
    tree.stop()


# I03: calls to the own tree out of a setup that the tree waits for.

CALLS: dict[str, Callable[[Orchestrator, str], object]] = {
    "start_agent": lambda tree, me: tree.start_agent(me),
    "start_agent of a sibling": lambda tree, me: tree.start_agent("last"),
    "stop_agent of a sibling": lambda tree, me: tree.stop_agent("last"),
    "restart_agent of a sibling": lambda tree, me: tree.restart_agent("last"),
    "unregister_agent": lambda tree, me: tree.unregister_agent(me),
    "register_agent": lambda tree, me: tree.register_agent(Does, "new"),
    "start_child": lambda tree, me: tree.start_child(Does, "new"),
    "add_supervisor": lambda tree, me: tree.add_supervisor("new"),
    "reconfigure": lambda tree, me: tree.reconfigure(me, shutdown=1.0),
    "start": lambda tree, me: tree.start(),
    "join": lambda tree, me: tree.join(),
    "status": lambda tree, me: tree.status(me),
    "which_children": lambda tree, me: tree.which_children(),
    "count_children": lambda tree, me: tree.count_children(),
    "get_childspec": lambda tree, me: tree.get_childspec(me),
    "wait_until": lambda tree, me: tree.wait_until(me, "ready", 0.01),
}


@pytest.mark.otp("I03")
@pytest.mark.parametrize(
    ("executor", "call", "strategy"), list(product(("thread", "async"), CALLS, ("one_for_one", "rest_for_one")))
)
def test_a_setup_that_calls_its_own_tree_gets_an_answer_and_the_tree_starts(
    executor: str, call: str, strategy: str
) -> None:
    """OTP refuses (`calling_self`) or deadlocks; here a command is handed in, and what cannot be is refused."""
    tree = a_tree(strategy=strategy)
    answers: list[object] = []

    def setup(agent: BaseAgent) -> None:
        if agent.incarnation == 1:
            try:
                answers.append(CALLS[call](tree, agent.path))
            except (OrchestreeError, TimeoutError) as error:
                answers.append(error)

    add(tree, "first", **doing(executor, setup))
    add(tree, "last")
    with tree:
        assert len(answers) == 1
        assert tree.status("first").state is AgentState.READY
        tree.wait_until("last", "stopped" if call.startswith("stop") else "ready", PATIENCE)


@pytest.mark.otp("I03")
@pytest.mark.slow
def test_a_setup_in_a_process_has_only_a_copy_which_refuses_to_act() -> None:
    tree = a_tree()

    def setup(agent: BaseAgent) -> None:
        try:
            a_tree().start()
        except NotRunning as error:
            agent.emit("refused", why=str(error))

    add(tree, "a", kind=Does, executor="process", setup=setup)
    with tree:
        assert "copy of the orchestrator inside an agent's process" in str(wait_for(tree, E.AGENT_MESSAGE, "a").data)


# What a setup may answer


def always(answer: object) -> Callable[[Any], object]:
    return lambda agent: answer


ANSWERS: list[object] = [None, 5, ("ok", "pid"), ("ok", "pid", "info"), False, "ignore", [IGNORE]]


@pytest.mark.otp("I04")
@every_executor
def test_a_setup_that_returns_has_started_whatever_it_returns(executor: str) -> None:
    """OTP needs the pid, so any other answer is an error to it; here there is nothing to be answered."""
    tree = a_tree()
    for number, answer in enumerate(ANSWERS):
        add(tree, f"a{number}", **doing(executor, always(answer)))
    with tree:
        for number in range(len(ANSWERS)):
            assert tree.status(f"a{number}").state is AgentState.READY
            assert types(tree, f"a{number}") == [E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY]


# What `setup` does -> what the report says, and the exit code if it was an exit.
RAISING: dict[str, tuple[str, int | None]] = {
    "raise jammed": ("SensorLost: jammed", None),
    "raise-unspeakable": ("UnspeakableError: (its text cannot be made)", None),
    "interrupt": ("KeyboardInterrupt", None),
    "exit 3": ("SystemExit: 3", 3),
    "exit bye": ("SystemExit: bye", 1),
}


@pytest.mark.otp("I04", "I05")
@every_executor
def test_a_setup_that_raises_is_a_start_error_with_the_exception(executor: str) -> None:
    tree = a_tree()
    actions = RAISING | ({"cancel": ("CancelledError", None)} if executor == "async" else {})
    for number, action in enumerate(actions):
        add_scripted(tree, executor, f"a{number}", setup=action, restart="temporary")
    with tree:
        for number, (message, code) in enumerate(actions.values()):
            crashed = only(tree, E.AGENT_CRASHED, f"a{number}").data
            assert isinstance(crashed, AgentCrashed)
            assert (crashed.reason.cause, crashed.report.phase) == ("start_failed", "setup")
            assert (crashed.report.message, crashed.report.exit_code) == (message, code)
            assert E.AGENT_READY not in types(tree, f"a{number}")
        assert tree.which_children() == []


@pytest.mark.otp("I05")
@every_executor
def test_a_setup_that_ends_its_agent_by_its_own_wish_is_no_failure(executor: str) -> None:
    """OTP takes an exit with reason normal in a start function for an error; here code 0 is a normal end anywhere."""
    tree = a_tree(strict_start=True)
    wishes = {"exit": "normal", "exit 0": "normal", "shutdown": "shutdown"}
    for number, action in enumerate(wishes):
        add_scripted(tree, executor, f"a{number}", setup=action)
    with tree:
        for number, cause in enumerate(wishes.values()):
            assert tree.status(f"a{number}").state is AgentState.COMPLETED
            assert end_of(tree, f"a{number}").reason.cause == cause


# IGNORE

RESTARTS = ("permanent", "transient", "temporary")


@pytest.mark.otp("I04", "I06")
@every_executor
def test_children_that_ignore_their_start_are_listed_unless_temporary_and_their_siblings_go_on(executor: str) -> None:
    tree = a_tree(strategy="rest_for_one", strict_start=True)
    add_scripted(tree, executor, "before", execute="sleep", **PLAIN)
    for restart in RESTARTS:
        add_scripted(tree, executor, restart, setup="ignore", backoff=None, restart=restart)
    add_scripted(tree, executor, "after", execute="sleep", **PLAIN)
    with tree:
        children = [(child.path, child.state.value) for child in tree.which_children()]
        down = [("permanent", "completed"), ("transient", "completed")]
        assert children == [("before", "ready"), *down, ("after", "ready")]
        assert tree.count_children() == ChildCounts(specs=4, active=2, supervisors=0, workers=4)
        assert [end_of(tree, restart).reason.cause for restart in RESTARTS] == ["ignore"] * 3
        assert tree.stats().restarts_total == 0
        with pytest.raises(NotFound):
            tree.start_agent("temporary")
        tree.unregister_agent("permanent")
        tree.unregister_agent("transient")
        assert tree.count_children() == ChildCounts(specs=2, active=2, supervisors=0, workers=2)


# A start that fails


def story(tree: VirtualTree) -> list[str]:
    """Return what happened to the agents and the whole, in order."""
    return tree.lines(
        "AGENT_STARTING",
        "AGENT_READY",
        "AGENT_CRASHED",
        "AGENT_STOPPING",
        "AGENT_TERMINATED",
        "AGENT_WAITING",
        "ORCHESTRATOR_STOPPING",
    )


def failing(paths: Iterable[str], *children: ChildEntry, **root: object) -> VirtualTree:
    """Return a tree, started strictly, in which the setups of `paths` fail."""
    tree = VirtualTree(*children, settings=STRICT, started=False, **root)
    tree.failing.update(paths)
    tree.start()
    return tree


@pytest.mark.otp("I07", "I08")
@pytest.mark.parametrize(("kind", "restart"), list(product((agent, process), RESTARTS)))
def test_a_failed_first_start_stops_what_had_started_in_reverse_and_nothing_else_starts(
    kind: Any, restart: str
) -> None:
    names = ["a", "b", "c", "d", "e"]
    entries = [kind(name, backoff=None, restart=restart) for name in names]
    tree = failing({"c"}, *entries, strategy="rest_for_one", max_restarts=1000)
    started = tree.lines("AGENT_STARTING")
    assert started == ["STARTING a", "STARTING b", "STARTING c"]
    ended = [line for line in story(tree) if line.split()[0] in ("CRASHED", "ORCHESTRATOR_STOPPING", "STOPPING")]
    assert ended == ["CRASHED c", "ORCHESTRATOR_STOPPING", "STOPPING b", "STOPPING a"]
    assert tree.live == {}
    assert tree.exit_code is not None
    tree.advance(1e6)
    assert tree.lines("AGENT_STARTING") == started


@pytest.mark.otp("I07")
def test_a_failed_start_further_down_fails_the_whole_start_level_by_level() -> None:
    inner = supervisor("inner", agent("x"), supervisor("deeper", agent("y"), agent("z"), strategy="rest_for_one"))
    tree = failing({"inner/deeper/z"}, agent("a"), inner, agent("b"), strategy="rest_for_one")
    assert [line for line in story(tree) if "WAITING" not in line and "READY" not in line] == [
        "STARTING a",
        "STARTING inner/x",
        "STARTING inner/deeper/y",
        "STARTING inner/deeper/z",
        "CRASHED inner/deeper/z",
        "TERMINATED inner/deeper/z",
        "ORCHESTRATOR_STOPPING",
        "TERMINATED b",
        "STOPPING inner/deeper/y",
        "TERMINATED inner/deeper/y",
        "STOPPING inner/x",
        "TERMINATED inner/x",
        "STOPPING a",
        "TERMINATED a",
    ]


@pytest.mark.otp("I07", "I08")
@pytest.mark.parametrize("nested", [False, True])
@every_executor
def test_start_raises_what_failed_when_everything_is_down_again(executor: str, nested: bool) -> None:
    tree = a_tree(strict_start=True)
    where: Any = tree.add_supervisor("inner") if nested else tree
    add_scripted(where, executor, "a", execute="sleep", **PLAIN)
    add_scripted(where, executor, "b", setup="raise jammed", depends_on=["a"], **PLAIN)
    add_scripted(where, executor, "c", execute="sleep", depends_on=["b"], **PLAIN)
    path = "inner/" if nested else ""
    with pytest.raises(StartError, match=f"^'{path}b' did not start: SensorLost: jammed$"):
        tree.start()
    assert not tree.is_running
    assert trace(tree, E.AGENT_STARTING) == [(E.AGENT_STARTING, f"{path}a"), (E.AGENT_STARTING, f"{path}b")]
    assert end_of(tree, f"{path}a").reason.kind == "shutdown"
    assert tree.status(f"{path}b").incarnation == 1


# What stands for the init callback of a supervisor: `before_start`, which says what to start


class Init(Orchestrator):
    """Starts what its attribute says, or raises it."""

    answer: object = ()
    calls = 0

    def before_start(self, entries: tuple[ChildEntry, ...]) -> Any:
        self.calls += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class SetupError(Exception):
    """Nobody else raises this."""


@pytest.mark.otp("I09")
@pytest.mark.parametrize("error", [SetupError("no"), KeyError("a"), SystemExit(3), KeyboardInterrupt()])
def test_what_before_start_raises_is_what_start_raises_and_nothing_has_started(error: BaseException) -> None:
    tree = a_tree(Init)
    assert isinstance(tree, Init)
    tree.answer = error
    with pytest.raises(type(error)) as caught:
        tree.start()
    assert caught.value is error
    assert (tree.is_running, tree.history(), tree.calls) == (False, [], 1)
    tree.answer = ()
    with tree:
        assert tree.calls == 2


@pytest.mark.otp("I09")
@pytest.mark.parametrize("answer", [None, 5, IGNORE, Does, "ab", ["invalid"], [None], {"a": Does}])
def test_a_before_start_that_returns_something_else_is_refused(answer: object) -> None:
    tree = a_tree(Init)
    assert isinstance(tree, Init)
    tree.answer = answer
    with pytest.raises(SpecError, match="children"):
        tree.start()
    assert (tree.is_running, tree.history()) == (False, [])


@pytest.mark.otp("I10")
@pytest.mark.parametrize(("nested", "is_running"), list(product((False, True), repeat=2)))
def test_a_second_supervisor_of_one_name_is_refused_and_none_of_its_children_is_looked_at(
    nested: bool, is_running: bool
) -> None:
    tree = a_tree()
    where = tree.add_supervisor("outer") if nested else tree
    where.add_supervisor("sup", children=[AgentEntry(Does, "a")])
    add(where, "worker")
    if is_running:
        tree.start()
    before = tree.events.latest, tree.count_children(where.path)
    for name in ("sup", "worker"):
        with pytest.raises(AlreadyStarted if is_running else AlreadyPresent, match=f"name='{name}'"):
            where.add_supervisor(name, children=[agent("b")])
    assert (tree.events.latest, tree.count_children(where.path)) == before
    path = f"{where.path}/sup" if nested else "sup"
    assert [child.name for child in tree.which_children(path)] == ["a"]
    if is_running:
        tree.stop()


@pytest.mark.otp("I10")
def test_a_tree_starts_once() -> None:
    tree = a_tree(Init)
    assert isinstance(tree, Init)
    with tree, pytest.raises(NotRunning, match="starts once"):
        tree.start()
    with pytest.raises(NotRunning, match="starts once"):
        tree.start()
    assert tree.calls == 1


@pytest.mark.otp("I11")
@every_executor
def test_a_name_that_a_stranger_holds_fails_the_start_of_the_child_with_that_reason(executor: str) -> None:
    """OTP has one register of names for all; here an agent that wants a name of its own finds out in its setup."""
    tree = a_tree()

    def setup(agent: BaseAgent) -> None:
        raise AlreadyStarted("'printer' belongs to somebody else")

    fields = doing(executor, setup)
    kind, executor_name = fields["kind"], fields.get("executor", "async")
    with tree:
        before = tree.count_children()
        with pytest.raises(StartError, match=r"^'p' did not start: AlreadyStarted: 'printer' belongs to") as caught:
            tree.start_child(kind, "p", executor=executor_name, params={"setup": fields["setup"]}, **PLAIN)
        assert not isinstance(caught.value, AlreadyStarted)
        assert tree.count_children() == before
        assert tree.stats().restarts_total == 0


# How long a start may take


@pytest.mark.otp("I13")
@pytest.mark.parametrize("kind", [agent, process])
def test_without_a_start_timeout_a_start_may_take_for_ever(kind: Any) -> None:
    tree = VirtualTree(kind("a", start_timeout=None), agent("b"), started=False)
    tree.manual.add("a")
    tree.start()
    tree.advance(1e9)
    assert tree.states() == {"a": "starting", "b": "ready"}
    tree.ready("a")
    assert tree.states() == {"a": "ready", "b": "ready"}


@pytest.mark.otp("I13")
@pytest.mark.parametrize(("timeout", "seconds"), [({}, 60.0), ({"start_timeout": 0.25}, 0.25)])
def test_a_start_timeout_is_an_end_like_any_other_at_its_exact_time(timeout: dict[str, Any], seconds: float) -> None:
    tree = VirtualTree(process("a", backoff=None, **timeout), started=False)
    tree.manual.add("a")
    tree.start()
    tree.advance(seconds - 0.001)
    assert tree.state("a") == "starting"
    tree.advance(0.001)
    ((when, crashed),) = tree.events("AGENT_CRASHED")
    assert isinstance(crashed, AgentCrashed)
    assert (when, crashed.reason.cause) == (seconds, "start_timeout")


@pytest.mark.otp("I13")
@pytest.mark.parametrize("executor", ["thread", "async"])
def test_a_start_that_hangs_blocks_nobody(executor: str) -> None:
    """OTP's supervisor is inside the start function and answers nobody; ours waits for nothing but events."""
    tree = a_tree()
    release = threading.Event()

    async def hang(agent: Any) -> None:
        await asyncio.to_thread(release.wait, PATIENCE)

    add(tree, "sibling")
    with tree:
        if executor == "async":
            add(tree, "hangs", kind=AsyncDoes, setup=hang, start_timeout=None)
        else:
            add(tree, "hangs", setup=lambda agent: release.wait(PATIENCE) and None, start_timeout=None)
        tree.restart_agent("sibling", PATIENCE)
        tree.stop_agent("sibling", PATIENCE)
        tree.start_agent("sibling", PATIENCE)
        assert tree.start_child(Does, "new") == "new"
        states = [(child.path, child.state.value) for child in tree.which_children()]
        assert states == [("sibling", "ready"), ("hangs", "starting"), ("new", "ready")]
        assert tree.count_children() == ChildCounts(specs=3, active=3, supervisors=0, workers=3)
        release.set()
        tree.wait_until("hangs", "ready", PATIENCE)
