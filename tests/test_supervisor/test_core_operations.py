"""What may be asked of a running tree, in every state. OTP's dynamic API, and restart. Virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, refused, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import (
    AlreadyPresent,
    AlreadyStarted,
    NotFound,
    NotRunning,
    OrchestreeError,
    Restarting,
    Running,
    SpecError,
)
from orchestree.supervisor.events import Command
from orchestree.supervisor.inputs import StartTree
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

STATES = (
    "waiting", "queued", "starting", "ready", "stopping", "backoff", "completed", "stopped", "parked", "wedged",
)  # fmt: skip


def tree_with(state: str) -> CheckedTree:
    """Return a tree whose agent ``it`` is in `state`; ``other`` is ready."""
    policy = Backoff(stop=stop_after_attempt(1)) if state == "parked" else Backoff(wait=wait_fixed(10.0))
    depends_on = ["dep"] if state == "waiting" else []
    tree = CheckedTree(
        agent("dep", restart="permanent"), agent("other"),
        agent("it", backoff=policy, shutdown=1.0, depends_on=depends_on),
        started=False, settings=Settings(max_workers=2 if state == "queued" else None),
    )  # fmt: skip
    tree.manual |= {"it"} | ({"dep"} if state == "waiting" else set())
    tree.start()
    if state in ("ready", "stopping", "wedged", "completed"):
        tree.ready("it")
    match state:
        case "stopping" | "wedged":
            tree.stop_agent("it")
            tree.advance(1.1 if state == "wedged" else 0.0)
        case "backoff" | "parked":
            tree.crash("it")
        case "completed":
            tree.complete("it")
        case "stopped":
            tree.stop_agent("it")
            tree.end("it", NORMAL)
        case _:
            pass
    assert tree.state("it") == state
    return tree


@pytest.mark.parametrize("state", STATES)
def test_start_agent_in_every_state(state: str) -> None:
    tree = tree_with(state)
    error = {
        "starting": Running, "ready": Running, "stopping": Running, "wedged": Running, "backoff": Restarting,
    }.get(state)  # fmt: skip
    if error is not None:
        mark = tree.mark()
        assert type(refused(lambda: tree.start_agent("it"))) is error
        assert tree.state("it") == state
        assert tree.lines(since=mark) == []
    else:
        tree.start_agent("it")
        assert tree.state("it") == (state if state in ("waiting", "queued") else "starting")
        assert tree.node("it").streak.failures == 0


@pytest.mark.parametrize("state", STATES)
def test_stop_agent_in_every_state_works_twice_and_keeps_it_down(state: str) -> None:
    tree = tree_with(state)
    tree.stop_agent("it")
    tree.stop_agent("it")
    if state in ("starting", "ready", "stopping"):
        assert tree.state("it") == "stopping"
        tree.end("it", NORMAL)
    kept = {"completed": "completed", "parked": "parked", "wedged": "wedged"}
    assert tree.state("it") == kept.get(state, "stopped")
    tree.advance(100.0)
    assert tree.state("it") == kept.get(state, "stopped")
    if state == "wedged":
        tree.end("it", NORMAL)
        assert tree.state("it") == "stopped"


@pytest.mark.parametrize("state", STATES)
def test_restart_agent_works_out_of_every_state_without_a_stamp_and_without_touching_siblings(state: str) -> None:
    tree = tree_with(state)
    before = tree.core.world.root.window.count(tree.now)
    tree.restart_agent("it")
    if state in ("starting", "ready", "stopping", "wedged"):
        assert tree.state("it") == ("stopping" if state != "wedged" else "wedged")
        tree.end("it", NORMAL)
    assert tree.state("it") == (state if state in ("waiting", "queued") else "starting")
    assert tree.node("it").streak.failures == 0
    assert tree.core.world.root.window.count(tree.now) == before
    assert tree.node("other").incarnation == 1


@pytest.mark.parametrize("state", STATES)
def test_unregister_agent_works_when_nothing_runs_and_is_refused_otherwise(state: str) -> None:
    tree = tree_with(state)
    if state in ("starting", "ready", "stopping", "wedged"):
        assert isinstance(refused(lambda: tree.unregister("it")), Running)
        assert tree.state("it") == state
    else:
        tree.unregister("it")
        assert "it" not in tree.states()
        assert tree.lines("AGENT_UNREGISTERED") == ["UNREGISTERED it"]
        tree.advance(100.0)
        assert "it" not in tree.states()
        tree.register("", agent("it"))


@pytest.mark.parametrize("state", STATES)
def test_a_duplicate_name_is_refused_by_whether_its_holder_runs(state: str) -> None:
    tree = tree_with(state)
    error = refused(lambda: tree.register("", agent("it")))
    runs = state in ("starting", "ready", "stopping", "wedged")
    assert type(error) is (AlreadyStarted if runs else AlreadyPresent)
    assert isinstance(error, SpecError)


OPERATIONS: tuple[Callable[[CheckedTree, str], None], ...] = (
    CheckedTree.start_agent, CheckedTree.stop_agent, CheckedTree.restart_agent, CheckedTree.unregister,
)  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_unknown_path_is_not_found_with_a_suggestion(operation: Callable[[CheckedTree, str], None]) -> None:
    tree = CheckedTree(agent("sensor"))
    error = refused(lambda: operation(tree, "senosr"))
    assert isinstance(error, NotFound)
    assert "did you mean 'sensor'" in str(error)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_root_is_no_child(operation: Callable[[CheckedTree, str], None]) -> None:
    tree = CheckedTree(agent("a"))
    assert isinstance(refused(lambda: operation(tree, "")), SpecError)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_temporary_agent_that_ended_is_not_found(operation: Callable[[CheckedTree, str], None]) -> None:
    tree = CheckedTree(agent("t", restart="temporary"), agent("a"))
    tree.complete("t")
    assert isinstance(refused(lambda: operation(tree, "t")), NotFound)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_before_the_start_and_after_the_end_every_command_is_not_running(
    operation: Callable[[CheckedTree, str], None], when: str
) -> None:
    tree = CheckedTree(agent("a"), started=False)
    if when == "after":
        tree.start()
        tree.stop()
    assert isinstance(refused(lambda: operation(tree, "a")), NotRunning)
    assert isinstance(refused(lambda: tree.register("", agent("b"))), NotRunning)


def test_a_tree_starts_once() -> None:
    tree = CheckedTree(agent("a"))
    assert isinstance(refused(lambda: tree.tell(StartTree())), NotRunning)


def test_a_command_is_an_event_and_a_refused_one_is_not() -> None:
    tree = CheckedTree(agent("a"))
    tree.restart_agent("a")
    refused(lambda: tree.start_agent("a"))
    assert [data for _, data in tree.events("COMMAND", "a")] == [Command("restart")]


def test_a_stopped_agent_stays_stopped_until_somebody_starts_it() -> None:
    tree = CheckedTree(agent("a"), agent("b"), strategy="one_for_all")
    tree.stop_agent("a")
    tree.crash("b")
    tree.advance(100.0)
    assert tree.state("a") == "stopped"
    tree.start_agent("a")
    assert tree.state("a") == "ready"


def test_stop_agent_touches_no_sibling_under_any_strategy() -> None:
    for strategy in ("one_for_all", "rest_for_one", "dependents"):
        tree = CheckedTree(agent("a"), agent("b", depends_on=["a"]), strategy=strategy)
        tree.stop_agent("a")
        assert tree.states() == {"a": "stopped", "b": "ready"}
        assert tree.node("b").incarnation == 1


def test_stop_agent_removes_a_temporary_agent() -> None:
    tree = CheckedTree(agent("t", restart="temporary"), agent("a"))
    tree.stop_agent("t")
    assert isinstance(refused(lambda: tree.stop_agent("t")), NotFound)


def test_register_appends_at_the_end_of_the_start_order_and_starts_the_agent() -> None:
    tree = CheckedTree(agent("a"), agent("b"), strategy="rest_for_one")
    tree.register("", agent("c"))
    assert tree.lines("AGENT_REGISTERED", "AGENT_STARTING")[-2:] == ["REGISTERED c", "STARTING c"]
    tree.crash("b")
    assert tree.incarnations() == {"a": 1, "b": 2, "c": 2}


def test_register_checks_dependencies_and_significance_against_the_running_tree() -> None:
    tree = CheckedTree(agent("a"))
    for entry in (
        agent("b", depends_on=["nobody"]),
        agent("b", depends_on=["b"]),
        agent("b", significant=True),
        supervisor("b", agent("x", depends_on=["a"])),
    ):
        assert isinstance(refused(lambda entry=entry: tree.register("", entry)), SpecError)  # type: ignore[misc]
    assert isinstance(refused(lambda: tree.register("a", agent("b"))), SpecError)
    assert isinstance(refused(lambda: tree.register("nobody", agent("b"))), NotFound)
    assert tree.states() == {"a": "ready"}
    assert tree.lines("AGENT_REGISTERED") == ["REGISTERED a"]


def test_a_whole_supervisor_can_be_registered_and_all_its_agents_are_announced() -> None:
    tree = CheckedTree(agent("a"))
    tree.register("", supervisor("team", agent("x"), supervisor("inner", agent("y"))))
    assert tree.states() == {
        "a": "ready", "team": "ready", "team/x": "ready", "team/inner": "ready", "team/inner/y": "ready",
    }  # fmt: skip
    assert tree.lines("AGENT_REGISTERED")[1:] == ["REGISTERED team/x", "REGISTERED team/inner/y"]
    tree.stop_agent("team")
    tree.unregister("team")
    assert tree.states() == {"a": "ready"}
    assert tree.lines("AGENT_UNREGISTERED") == ["UNREGISTERED team/x", "UNREGISTERED team/inner/y"]


def test_unregister_is_refused_while_others_depend_on_it() -> None:
    tree = CheckedTree(agent("a"), agent("b", depends_on=["a"]))
    tree.stop_agent("a")
    error = refused(lambda: tree.unregister("a"))
    assert isinstance(error, SpecError)
    assert "'b' depend" in str(error)
    tree.stop_agent("b")
    tree.unregister("b")
    tree.unregister("a")
    assert tree.states() == {}


def test_unregister_while_a_restart_is_pending_leaves_nothing_behind() -> None:
    tree = CheckedTree(agent("a", backoff=Backoff(wait=wait_fixed(5))), agent("b"))
    tree.crash("a")
    tree.unregister("a")
    assert tree.core.next_deadline() is None
    assert tree.states() == {"b": "ready"}


def test_commands_also_take_the_path_of_a_supervisor() -> None:
    tree = CheckedTree(supervisor("s", agent("x"), agent("y")), agent("a"))
    assert isinstance(refused(lambda: tree.start_agent("s")), Running)
    tree.stop_agent("s")
    assert tree.states() == {"s": "stopped", "s/x": "stopped", "s/y": "stopped", "a": "ready"}
    assert isinstance(refused(lambda: tree.start_agent("s/x")), NotRunning)
    tree.start_agent("s")
    tree.restart_agent("s")
    assert tree.incarnations() == {"s": 3, "s/x": 3, "s/y": 3, "a": 1}
    assert set(tree.states().values()) == {"ready"}


def test_an_agent_stopped_before_its_supervisor_ever_started_stays_down_and_blocks_nobody() -> None:
    tree = CheckedTree(
        agent("a"), supervisor("s", agent("x"), agent("y"), depends_on=["a"], strategy="rest_for_one"), started=False
    )
    tree.manual.add("a")
    tree.start()
    tree.stop_agent("s/x")
    tree.ready("a")
    assert tree.states() == {"a": "ready", "s": "ready", "s/x": "stopped", "s/y": "ready"}


def test_a_command_that_changes_its_mind_wins() -> None:
    tree = CheckedTree(agent("a"))
    tree.manual.add("a")
    tree.restart_agent("a")
    tree.stop_agent("a")
    tree.end("a", NORMAL)
    assert tree.state("a") == "stopped"
    tree.start_agent("a")
    tree.stop_agent("a")
    tree.restart_agent("a")
    tree.end("a", NORMAL)
    assert tree.state("a") == "starting"


def test_every_refusal_leaves_the_tree_as_it_was() -> None:
    tree = CheckedTree(agent("a"), agent("b", depends_on=["a"]))
    before = (tree.states(), tree.mark())
    for call in (
        lambda: tree.start_agent("a"), lambda: tree.unregister("a"), lambda: tree.register("", agent("a")),
        lambda: tree.register("b", agent("c")), lambda: tree.stop_agent("nobody"),
    ):  # fmt: skip
        assert isinstance(refused(call), OrchestreeError)
    assert (tree.states(), tree.mark()) == before
