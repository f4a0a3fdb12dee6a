"""OTP's rules for the calls to a running supervisor (rows D).

start_child is `start_child`, terminate_child `stop_agent`, restart_child `start_agent`, delete_child
`unregister_agent`, which_child `status`; a child is named by its path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from checked import CheckedTree
from orchestree_testing.agents import AsyncScripted, Scripted
from orchestree_testing.each_executor import end_of
from orchestree_testing.trees import PATIENCE, Does, a_tree, add, trace, types
from otp_support import STRATEGIES, every_executor
from tenacity import stop_after_attempt, wait_fixed
from virtual import Worker, agent, process, refused, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.strategies import Backoff
from orchestree.supervisor import (
    AgentEntry,
    AgentState,
    AlreadyPresent,
    AlreadyStarted,
    ChildCounts,
    EventType,
    NotFound,
    NotRunning,
    Orchestrator,
    SpecError,
    StartError,
    SupervisorEntry,
    check_childspecs,
)
from orchestree.supervisor.inputs import RegisterChild
from orchestree.supervisor.world import Settings

E = EventType
RESTARTS = ("permanent", "transient", "temporary")
KINDS: dict[str, Any] = {"thread": Scripted, "process": Scripted, "async": AsyncScripted}
LATER = Backoff(wait=wait_fixed(100.0), jitter=0.0)
PARKS = Backoff(stop=stop_after_attempt(1))


def start_child(tree: Any, executor: str, name: str | None = None, **fields: Any) -> Any:
    """Start one more agent that does what its script says, and by default waits for its stop."""
    script = {"execute": "sleep", **fields}
    return tree.start_child(KINDS[executor], name, executor=executor, **script)


def kids(tree: Any, path: str = "") -> list[tuple[str, str]]:
    """Return name and state of the children of a supervisor, in start order."""
    if isinstance(tree, Orchestrator):
        return [(child.name, child.state.value) for child in tree.which_children(path)]
    return [(node.name, node.state.value) for node in tree.node(path).sequence]


def decisions(tree: Orchestrator) -> list[tuple[EventType, str]]:
    """Return type and path of everything that was decided: all events but what agents say by themselves."""
    return trace(tree, *(kind for kind in EventType if kind is not E.AGENT_MESSAGE))


# A child `x` in each state that a child can be in, beside siblings that are ready.


def with_x(entry: AgentEntry, *before: AgentEntry, manual: str = "", **settings: Any) -> CheckedTree:
    tree = CheckedTree(*before, entry, agent("z"), settings=Settings(**settings), started=False)
    tree.manual.update(manual)
    tree.start()
    return tree


def in_start() -> CheckedTree:
    return with_x(agent("x"), manual="x")


def in_stop() -> CheckedTree:
    tree = with_x(agent("x"))
    tree.stubborn.add("x")
    tree.stop_agent("x")
    return tree


def wedged() -> CheckedTree:
    tree = in_stop()
    tree.advance(6.0)
    return tree


def after(what: Callable[[CheckedTree], None], **fields: Any) -> Callable[[], CheckedTree]:
    def make() -> CheckedTree:
        tree = with_x(agent("x", **fields))
        what(tree)
        return tree

    return make


AS_CHILD: dict[str, Callable[[], CheckedTree]] = {
    "starting": in_start,
    "ready": lambda: with_x(agent("x")),
    "stopping": in_stop,
    "wedged": wedged,
    "backoff": after(lambda tree: tree.crash("x"), backoff=LATER),
    "waiting": lambda: with_x(agent("x", depends_on=["a"]), agent("a"), manual="a"),
    "queued": lambda: with_x(agent("x"), agent("a"), max_workers=1),
    "completed": after(lambda tree: tree.complete("x")),
    "stopped": after(lambda tree: tree.stop_agent("x")),
    "parked": after(lambda tree: tree.crash("x"), backoff=PARKS),
}
RUNS = ("starting", "ready", "stopping", "wedged")


def unchanged_by(tree: CheckedTree, call: Callable[[], None]) -> Exception:
    """Return what `call` is refused with, and make sure that it was without effect."""
    before = tree.mark(), tree.states(), tree.incarnations(), list(tree.live)
    error = refused(call)
    assert (tree.mark(), tree.states(), tree.incarnations(), list(tree.live)) == before
    return error


# start_child


@pytest.mark.otp("D01")
@every_executor
def test_start_child_returns_the_path_of_a_child_that_is_ready_and_the_last_one(executor: str) -> None:
    tree = a_tree(strategy="rest_for_one")
    inner = tree.add_supervisor("inner")
    add(tree, "static")
    with tree:
        assert start_child(tree, executor, "x") == "x"
        assert kids(tree) == [("inner", "ready"), ("static", "ready"), ("x", "ready")]
        assert start_child(inner, executor, "x") == "inner/x"
        assert start_child(inner, executor) == f"inner/{kids(tree, 'inner')[-1][0]}"
        assert [state for _, state in kids(tree, "inner")] == ["ready", "ready"]
        assert tree.start_child(SupervisorEntry("s", children=[AgentEntry(Does, "y")])) == "s"
        assert kids(tree)[-1] == ("s", "ready")
        assert tree.status("s/y").state is AgentState.READY
        assert tree.stats().restarts_total == 0


async def awaiting_start_child() -> list[str | None]:
    tree = a_tree(agents_loop="caller")
    tree.add_supervisor("inner")
    async with tree:
        paths = [await tree.aio.start_child(where, AsyncScripted, "x", execute="sleep") for where in ("", "inner")]
        states = [tree.status(path).state for path in paths if path]
        assert states == [AgentState.READY, AgentState.READY]
        return paths


@pytest.mark.otp("D01")
def test_start_child_can_be_awaited() -> None:
    assert asyncio.run(awaiting_start_child()) == ["x", "inner/x"]


@pytest.mark.otp("D01")
def test_start_child_needs_a_tree_that_runs() -> None:
    tree = a_tree()
    with pytest.raises(NotRunning):
        tree.start_child(Does, "x")
    with tree:
        pass
    with pytest.raises(NotRunning):
        tree.start_child(Does, "x")


@pytest.mark.otp("D02")
@pytest.mark.parametrize(
    ("state", "kind", "must_start"), list(product(AS_CHILD, (agent, process, supervisor), (True, False)))
)
def test_a_name_that_is_taken_is_already_started_or_already_present(state: str, kind: Any, must_start: bool) -> None:
    tree = AS_CHILD[state]()
    assert tree.state("x") == state
    held = tree.node("x").entry
    error = unchanged_by(tree, lambda: tree.tell(RegisterChild("", kind("x"), must_start=must_start)))
    assert type(error) is (AlreadyStarted if state in RUNS else AlreadyPresent)
    assert str(error) == f"name='x': 'x' is {state}"
    assert tree.node("x").entry is held


@pytest.mark.otp("D02")
@every_executor
def test_start_child_of_a_name_that_is_taken_leaves_the_child_as_it_is(executor: str) -> None:
    tree = a_tree()
    with tree:
        start_child(tree, executor, "x", restart="permanent")
        spec, before = tree.get_childspec("x"), decisions(tree)
        with pytest.raises(AlreadyStarted):
            start_child(tree, executor, "x", restart="transient", setup="raise never")
        assert (tree.get_childspec("x"), decisions(tree), tree.status("x").incarnation) == (spec, before, 1)
        tree.stop_agent("x")
        with pytest.raises(AlreadyPresent):
            start_child(tree, executor, "x", restart="transient", setup="raise never")
        assert tree.get_childspec("x") == spec
        assert kids(tree) == [("x", "stopped")]


@pytest.mark.otp("D03")
@pytest.mark.parametrize(("restart", "strategy"), list(product(RESTARTS, STRATEGIES)))
@pytest.mark.parametrize("how", ["fails", "times out"])
def test_a_child_whose_start_fails_is_forgotten_uncounted_and_no_sibling_is_touched(
    restart: str, strategy: str, how: str
) -> None:
    """With intensity 0 and OTP's backoff, whatever would count would end the supervisor."""
    tree = CheckedTree(agent("a"), agent("b"), strategy=strategy, max_restarts=0)
    tree.failing.update({"x"} if how == "fails" else ())
    tree.manual.add("x")
    entry = process("x", backoff=None, restart=restart, start_timeout=2.0)
    tree.tell(RegisterChild("", entry, must_start=True))
    tree.advance(2.0)
    assert tree.lines("AGENT_STARTING", "AGENT_CRASHED", "AGENT_RESTARTING", "AGENT_TERMINATED") == [
        "STARTING a",
        "STARTING b",
        "STARTING x",
        "CRASHED x",
        "TERMINATED x",
    ]
    assert kids(tree) == [("a", "ready"), ("b", "ready")]
    assert tree.incarnations() == {"a": 1, "b": 1}
    tree.advance(1e6)
    assert kids(tree) == [("a", "ready"), ("b", "ready")]
    tree.failing.clear()
    tree.manual.clear()
    tree.tell(RegisterChild("", entry, must_start=True))
    assert kids(tree) == [("a", "ready"), ("b", "ready"), ("x", "ready")]


@pytest.mark.otp("D03")
@every_executor
def test_start_child_raises_what_failed_and_keeps_nothing(executor: str) -> None:
    tree = a_tree(max_restarts=0)
    with tree:
        for action, message in (("raise jammed", "SensorLost: jammed"), ("exit 3", "SystemExit: 3")):
            with pytest.raises(StartError, match=f"^'x' did not start: {message}$"):
                start_child(tree, executor, "x", setup=action, restart="permanent", backoff=None)
            assert kids(tree) == []
            assert tree.count_children() == ChildCounts(0, 0, 0, 0)
            assert tree.stats().restarts_total == 0
            for command in (tree.start_agent, tree.stop_agent, tree.unregister_agent):
                with pytest.raises(NotFound):
                    command("x")
        assert start_child(tree, executor, "x") == "x"
        assert E.AGENT_RESTARTING not in types(tree, "x")


@pytest.mark.otp("D03")
def test_a_child_that_has_started_once_is_kept_and_counted_like_any_other() -> None:
    tree = CheckedTree(max_restarts=1)
    tree.tell(RegisterChild("", agent("x", backoff=None), must_start=True))
    tree.crash("x")
    assert (tree.state("x"), tree.incarnations()) == ("ready", {"x": 2})
    tree.failing.add("x")
    tree.crash("x")
    assert tree.exit_code == 70


@pytest.mark.otp("D04")
@pytest.mark.parametrize("restart", RESTARTS)
@every_executor
def test_start_child_of_a_child_that_ignores_returns_none_and_keeps_it_unless_temporary(
    executor: str, restart: str
) -> None:
    tree = a_tree(max_restarts=0)
    add(tree, "a")
    with tree:
        assert start_child(tree, executor, "x", setup="ignore", restart=restart) is None
        kept = restart != "temporary"
        assert kids(tree) == [("a", "ready"), *([("x", "completed")] if kept else [])]
        assert tree.count_children() == ChildCounts(specs=1 + kept, active=1, supervisors=0, workers=1 + kept)
        assert end_of(tree, "x").reason.cause == "ignore"
        if kept:
            tree.start_agent("x")  # which ignores again
            assert (tree.status("x").state, tree.status("x").incarnation) == (AgentState.COMPLETED, 2)
        else:
            assert start_child(tree, executor, "x") == "x"


INVALID: dict[str, Any] = {
    "restart": (lambda: agent("x", restart="prmanent"), (Worker, "x", {"restart": "prmanent"})),
    "shutdown": (lambda: agent("x", shutdown=-1), (Worker, "x", {"shutdown": -1})),
    "name": (lambda: AgentEntry(Worker, "a/b"), (Worker, "a/b", {})),
    "agent": (lambda: AgentEntry(object, "x"), (object, "x", {})),  # type: ignore[arg-type]
    "permanent": (
        lambda: AgentEntry(Worker, "x", significant=True, restart="permanent"),
        (Worker, "x", {"significant": True, "restart": "permanent"}),
    ),
    "in vain": (
        lambda: check_childspecs([AgentEntry(Worker, "x", significant=True)], "never"),
        (Worker, "x", {"significant": True}),
    ),
    "unknown need": (
        lambda: check_childspecs([AgentEntry(Worker, "x", depends_on=["y"])]),
        (Worker, "x", {"depends_on": ["y"]}),
    ),
    "further down": (
        lambda: check_childspecs([supervisor("s", agent("a", depends_on=["b"]))]),
        (supervisor("s", agent("a", depends_on=["b"])), None, {}),
    ),
}


@pytest.mark.otp("D05")
@pytest.mark.parametrize("case", INVALID)
def test_start_child_refuses_a_specification_as_the_check_does(case: str) -> None:
    make, (cls, name, fields) = INVALID[case]
    with pytest.raises(SpecError, match=r"\w") as by_check:
        make()
    tree = a_tree()
    with tree:
        before = tree.events.latest
        with pytest.raises(SpecError, match=r"\w") as by_call:
            tree.start_child(cls, name, **fields)
        assert (type(by_call.value), str(by_call.value)) == (type(by_check.value), str(by_check.value))
        assert (tree.events.latest, kids(tree)) == (before, [])


# terminate_child


@pytest.mark.otp("D07")
@pytest.mark.parametrize("state", AS_CHILD)
def test_a_child_can_be_stopped_in_any_state_and_again_and_is_then_down_for_good(state: str) -> None:
    tree = AS_CHILD[state]()
    tree.stop_agent("x")
    if state in ("starting", "stopping", "wedged"):
        tree.end("x", NORMAL)  # it did not want to, so far
    down = tree.state("x")
    assert down == (state if state in ("completed", "parked") else "stopped")
    marked = tree.mark()
    tree.stop_agent("x")
    assert (tree.state("x"), tree.lines(since=marked)) == (down, ["COMMAND x"])
    runs = tree.incarnations()["x"]
    tree.advance(1e6)
    assert (tree.state("x"), tree.incarnations()["x"]) == (down, runs)


@pytest.mark.otp("D07")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stopping_touches_no_sibling_in_any_strategy(strategy: str) -> None:
    tree = CheckedTree(
        agent("a"), agent("x", depends_on=["a"]), agent("z", depends_on=["x"]), strategy=strategy, max_restarts=0
    )
    tree.stop_agent("x")
    tree.stop_agent("x")
    assert kids(tree) == [("a", "ready"), ("x", "stopped"), ("z", "ready")]
    assert tree.incarnations() == {"a": 1, "x": 1, "z": 1}


@pytest.mark.otp("D07")
@every_executor
def test_stopping_a_temporary_child_removes_it_and_the_second_time_it_is_not_found(executor: str) -> None:
    tree = a_tree()
    with tree:
        start_child(tree, executor, "x", restart="temporary")
        start_child(tree, executor, "y", restart="transient")
        for name in ("x", "y"):
            tree.stop_agent(name, PATIENCE)
        assert kids(tree) == [("y", "stopped")]
        tree.stop_agent("y")
        with pytest.raises(NotFound, match="'x'"):
            tree.stop_agent("x")
        with pytest.raises(NotFound, match="'nobody'"):
            tree.stop_agent("nobody")
        assert trace(tree, E.AGENT_STOPPING) == [(E.AGENT_STOPPING, "x"), (E.AGENT_STOPPING, "y")]
