"""OTP's rules on significant children and automatic shutdown: A01 to A11. Virtual time, but for the exit codes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
from orchestree_testing.each_executor import add_scripted, only
from orchestree_testing.once import AsyncEndsOnce, EndsOnce
from orchestree_testing.trees import PATIENCE, a_tree, add, wait_for
from otp_support import STRATEGIES, at, child, every_executor, killable, stamps, story
from stories import LIFE, Story, reports, told
from virtual import agent, refused, supervisor

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, ExitKind, ExitReason, abnormal
from orchestree.supervisor import AgentState, EventType, SpecError
from orchestree.supervisor.events import OrchestratorStopped, SupervisorTerminated

MODES = ("any_significant", "all_significant")
GAVE_UP = ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS)

Ways = dict[str, Callable[[Story, str], None]]
PEACEFUL: Ways = {
    "returns": lambda tree, path: tree.end(path, NORMAL),
    "raises Shutdown": lambda tree, path: tree.end(path, SHUTDOWN),
}
VIOLENT: Ways = {
    cause.value: lambda tree, path, cause=cause: tree.end(path, abnormal(cause))  # type: ignore[misc]
    for cause in (
        Cause.EXCEPTION, Cause.EXIT, Cause.SIGNAL, Cause.OOM, Cause.WATCHDOG, Cause.MEMORY, Cause.LOST,
    )
}  # fmt: skip
EVERY_WAY = PEACEFUL | VIOLENT


def watched(*children: object, mode: str = "any_significant", **fields: object) -> Story:
    """Return a tree with a supervisor ``s`` of these children between two bystanders, which its end leaves alone."""
    fields = {"restart": "temporary", "auto_shutdown": mode, **fields}
    tree = Story(agent("left"), supervisor("s", *children, **fields), agent("right"))  # type: ignore[arg-type]
    tree.forget()
    return tree


def ended(tree: Story) -> list[SupervisorTerminated]:
    """Return with what the supervisor ``s`` ended, if it did."""
    return [data for _, data in tree.events("SUPERVISOR_TERMINATED", "s") if isinstance(data, SupervisorTerminated)]


# A01


@pytest.mark.otp("A01")
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_significant_child_is_refused_where_nothing_can_come_of_it_in_a_static_tree_and_in_a_running_one(
    restart: str,
) -> None:
    significant = child("a", restart=restart, significant=True)
    for children in (
        [significant],
        [supervisor("s", significant)],
        [supervisor("s", restart=restart, significant=True)],
    ):
        with pytest.raises(SpecError, match="auto_shutdown=never"):
            Story(*children)
    tree = Story(child("b"), supervisor("s"))
    tree.forget()
    for call in (tree.register, tree.start_child):
        for parent in ("", "s"):
            error = refused(lambda call=call, parent=parent: call(parent, significant))  # type: ignore[misc]
            assert isinstance(error, SpecError)
            assert "auto_shutdown=never" in str(error)
    assert (story(tree), tree.states()) == ([], {"b": "ready", "s": "ready"})


@pytest.mark.otp("A01")
def test_a_significant_child_is_accepted_where_it_counts() -> None:
    for mode in MODES:
        tree = Story(child("a", significant=True), supervisor("s", restart="transient", significant=True),
                     auto_shutdown=mode)  # fmt: skip
        tree.register("", child("late", restart="temporary", significant=True))
        assert set(tree.states().values()) == {"ready"}


# A02


@pytest.mark.otp("A02")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("restart", "way"),
    [("transient", way) for way in PEACEFUL] + [("temporary", way) for way in EVERY_WAY],
)
def test_any_significant_child_that_ends_by_itself_and_does_not_come_back_ends_its_supervisor(
    restart: str, way: str, strategy: str
) -> None:
    tree = watched(child("a"), killable("x", restart=restart, significant=True), child("b"), strategy=strategy)
    EVERY_WAY[way](tree, "s/x")
    assert ended(tree) == [SupervisorTerminated(SHUTDOWN, "s/x")]
    assert told(tree, "AGENT_STOPPING") == ["0 STOPPING s/b", "0 STOPPING s/a"]
    assert stamps(tree) == 0
    assert tree.states() == {"left": "ready", "right": "ready"}


# A03


@pytest.mark.otp("A03")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", VIOLENT)
def test_a_significant_transient_child_that_fails_is_restarted_as_usual(way: str, mode: str) -> None:
    tree = watched(killable("x", significant=True), child("b"), mode=mode)
    for number in range(1, 4):
        tree.advance(1.0)
        VIOLENT[way](tree, "s/x")
        assert tree.node("s/x").incarnation == number + 1
    assert ended(tree) == []
    assert stamps(tree, "s") == 3
    assert told(tree, "AGENT_STOPPING") == []


# A04


@pytest.mark.otp("A04")
@pytest.mark.parametrize("order", list(permutations("xyz")))
def test_all_significant_children_must_have_ended(order: tuple[str, ...]) -> None:
    tree = watched(
        child("x", significant=True),
        child("y", restart="temporary", significant=True),
        child("z", significant=True),
        child("plain"),
        mode="all_significant",
    )
    for number, name in enumerate(order):
        assert ended(tree) == [], f"after {number} of them"
        tree.advance(1.0)
        tree.complete(f"s/{name}")
    assert ended(tree) == [SupervisorTerminated(SHUTDOWN, f"s/{order[-1]}")]
    assert told(tree, "AGENT_STOPPING", "SUPERVISOR_TERMINATED") == ["3 STOPPING s/plain", "3 SUPERVISOR_TERMINATED s"]


@pytest.mark.otp("A04")
def test_one_that_restarts_counts_as_active() -> None:
    """Its restart keeps failing; the delay stands for OTP's loop of tries."""
    tree = watched(agent("x", significant=True), child("y", significant=True), mode="all_significant")
    tree.failing.add("s/x")
    tree.crash("s/x")
    assert tree.state("s/x") == "backoff"
    tree.complete("s/y")
    assert ended(tree) == []
    tree.failing.clear()
    tree.advance(60.0)
    assert tree.state("s/x") == "ready"
    tree.complete("s/x")
    assert len(ended(tree)) == 1


@pytest.mark.otp("A04")
@pytest.mark.parametrize("state", ["starting", "waiting", "stopping", "wedged"])
def test_one_that_is_about_to_run_or_still_runs_counts_as_active(state: str) -> None:
    tree = watched(
        child("gate"),
        agent("x", significant=True, shutdown=1.0, depends_on=["gate"]),
        child("y", significant=True),
        mode="all_significant",
    )
    tree.manual.add("s/x")
    if state == "waiting":
        tree.stop_agent("s/gate")
    tree.restart_agent("s/x")
    if state != "stopping":
        tree.advance(1.0)
    if state in ("starting", "waiting"):
        tree.advance(10.0)
        tree.end("s/x", NORMAL)
    if state == "wedged":
        tree.advance(1.0)
    assert tree.state("s/x") == state
    tree.complete("s/y")
    assert ended(tree) == []


@pytest.mark.otp("A04")
def test_one_that_never_ran_or_said_that_it_is_not_needed_does_not_count() -> None:
    tree = watched(child("x", significant=True), child("y", significant=True), mode="all_significant")
    tree.crash("s/x")
    tree.ignore("s/x")
    assert ended(tree) == []
    tree.complete("s/y")
    assert ended(tree) == [SupervisorTerminated(SHUTDOWN, "s/y")]


# A05


def stop_all(tree: Story) -> None:
    for name in "xy":
        tree.stop_agent(f"s/{name}")


def remove(tree: Story) -> None:
    tree.stop_agent("s/y")
    tree.unregister("s/y")


NOT_BY_ITSELF: dict[str, Callable[[Story], None]] = {
    "an operator stops it": lambda tree: tree.stop_agent("s/x"),
    "an operator stops all of them": stop_all,
    "an operator restarts it": lambda tree: tree.restart_agent("s/x"),
    "an operator stops and removes it": remove,
    "it says that it is not needed": lambda tree: tree.ignore("s/x"),
}


@pytest.mark.otp("A05")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", NOT_BY_ITSELF)
def test_what_others_do_to_a_significant_child_ends_nothing(way: str, mode: str) -> None:
    tree = watched(child("x", significant=True), child("y", significant=True), child("z"), mode=mode)
    NOT_BY_ITSELF[way](tree)
    tree.advance(100.0)
    assert (ended(tree), tree.state("s"), tree.state("s/z")) == ([], "ready", "ready")


@pytest.mark.otp("A05")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_bystander_of_a_siblings_crash_ends_nothing_not_even_if_it_is_dropped(
    restart: str, strategy: str, mode: str
) -> None:
    tree = watched(
        child("a"),
        child("x", restart=restart, significant=True, depends_on=["a"]),
        child("z", depends_on=["a"]),
        mode=mode,
        strategy=strategy,
    )
    tree.crash("s/a")
    tree.advance(100.0)
    assert (ended(tree), tree.state("s"), tree.state("s/z")) == ([], "ready", "ready")
    group = strategy != "one_for_one"
    assert told(tree, "AGENT_STOPPING") == (["0 STOPPING s/z", "0 STOPPING s/x"] if group else [])
    assert ("s/x" in tree.states()) == (not group or restart == "transient")


@pytest.mark.otp("A05")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("way", EVERY_WAY)
def test_the_end_of_a_child_that_is_not_significant_ends_nothing(way: str, restart: str, mode: str) -> None:
    tree = watched(killable("x", restart=restart), child("y", significant=True), mode=mode)
    EVERY_WAY[way](tree, "s/x")
    assert (ended(tree), tree.state("s"), tree.state("s/y")) == ([], "ready", "ready")


# A06


@pytest.mark.otp("A06")
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_child_that_an_operator_stopped_counts_as_inactive_when_the_last_other_one_ends(restart: str) -> None:
    tree = watched(
        child("x", significant=True, restart=restart), child("y", significant=True), child("z"), mode="all_significant"
    )
    tree.stop_agent("s/x")
    assert ended(tree) == []
    tree.complete("s/y")
    assert ended(tree) == [SupervisorTerminated(SHUTDOWN, "s/y")]


# A07


@pytest.mark.otp("A07")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_on_automatic_shutdown_the_rest_ends_in_reverse_order_and_there_is_nothing_to_report(
    restart: str, mode: str
) -> None:
    children = [child("a"), child("x", restart=restart, significant=True), child("y"), child("z")]
    tree = watched(*children, mode=mode, restart="transient")
    tree.manual |= {"s/a", "s/z"}
    tree.complete("s/x")
    tree.advance(1.0)
    tree.end("s/z", NORMAL)
    tree.advance(1.0)
    tree.end("s/a", NORMAL)
    assert story(tree) == [
        *at(0.0, "TERMINATED(normal) s/x, STOPPING(supervisor) s/z"),
        *at(1.0, "TERMINATED(shutdown) s/z, STOPPING(supervisor) s/y, TERMINATED(shutdown) s/y",
            "STOPPING(supervisor) s/a"),
        *at(2.0, "TERMINATED(shutdown) s/a, SUPERVISOR_TERMINATED(shutdown) s"),
    ]  # fmt: skip
    assert reports(tree) == []
    assert tree.state("s") == "completed"


@pytest.mark.otp("A07")
def test_only_the_failure_of_a_temporary_child_that_led_to_it_is_reported() -> None:
    tree = watched(child("x", restart="temporary", significant=True), child("y"))
    tree.crash("s/x")
    assert reports(tree) == ["ERROR CRASHED s/x", "ERROR TERMINATED s/x"]


@pytest.mark.otp("A07")
@every_executor
def test_automatic_shutdown_of_the_root_ends_the_program_well(executor: str) -> None:
    tree = a_tree(auto_shutdown="any_significant")
    add(tree, "first")
    add_scripted(tree, executor, "x", execute="return done", significant=True)
    add(tree, "last")
    assert tree.simple_join() == 0
    data = only(tree, EventType.ORCHESTRATOR_STOPPED, "").data
    assert data == OrchestratorStopped(0, "auto_shutdown")
    stopped = [event.path for event in tree.history(type=EventType.AGENT_STOPPING)]
    assert stopped == ["last", "first"]


# A08


@pytest.mark.otp("A08")
@pytest.mark.parametrize("mode", MODES)
def test_a_significant_child_supervisor_that_ends_takes_its_parent_along_level_by_level(mode: str) -> None:
    low = supervisor("low", child("x", significant=True), child("y"), auto_shutdown=mode, restart="transient",
                     significant=True)  # fmt: skip
    tree = watched(low, child("z"), mode=mode)
    tree.complete("s/low/x")
    assert told(tree) == [
        "0 TERMINATED s/low/x", "0 STOPPING s/low/y", "0 TERMINATED s/low/y", "0 SUPERVISOR_TERMINATED s/low",
        "0 STOPPING s/z", "0 TERMINATED s/z", "0 SUPERVISOR_TERMINATED s",
    ]  # fmt: skip
    assert ended(tree) == [SupervisorTerminated(SHUTDOWN, "s/low")]
    assert tree.states() == {"left": "ready", "right": "ready"}


@pytest.mark.otp("A08")
@pytest.mark.parametrize(
    ("restart", "state"), [("permanent", "ready"), ("transient", "completed"), ("temporary", None)]
)
@pytest.mark.parametrize("mode", MODES)
def test_a_child_supervisor_that_is_not_significant_leaves_its_parent_alone(
    mode: str, restart: str, state: str | None
) -> None:
    low = supervisor("low", child("x", significant=True), auto_shutdown=mode, restart=restart, backoff=None)
    tree = watched(low, child("z", significant=True), mode=mode)
    tree.complete("s/low/x")
    assert (ended(tree), tree.state("s/z")) == ([], "ready")
    assert tree.states().get("s/low") == state
    assert stamps(tree, "s") == (restart == "permanent")


# A09: the seven cases of significant_upgrade_*


@pytest.mark.otp("A09")
@pytest.mark.parametrize(
    ("before", "after", "ends_at"),
    [
        ("never", "any_significant", 1),
        ("any_significant", "never", None),
        ("never", "all_significant", 2),
        ("all_significant", "never", None),
        ("any_significant", "all_significant", 2),
        ("all_significant", "any_significant", 1),
    ],
)
def test_another_automatic_shutdown_acts_from_the_next_end_on(before: str, after: str, ends_at: int | None) -> None:
    significant = before != "never"
    tree = watched(*(child(name, significant=significant) for name in "xy"), child("z"), mode=before)
    if after == "never":
        error = refused(lambda: tree.reconfigure("s", auto_shutdown="never"))
        assert isinstance(error, SpecError)
        for name in "xy":
            tree.reconfigure(f"s/{name}", significant=False)
    tree.reconfigure("s", auto_shutdown=after)
    if before == "never":
        for name in "xy":
            tree.reconfigure(f"s/{name}", significant=True)
    for number, name in enumerate("xy", start=1):
        if ends_at is None or number <= ends_at:
            tree.complete(f"s/{name}")
        assert len(ended(tree)) == (ends_at is not None and number >= ends_at)
    if after == "never":
        late = refused(lambda: tree.start_child("s", child("late", significant=True)))
        assert "auto_shutdown=never" in str(late)


@pytest.mark.otp("A09")
@pytest.mark.parametrize("mode", MODES)
def test_whether_a_running_child_is_significant_can_be_changed_both_ways(mode: str) -> None:
    tree = watched(child("x", significant=True), child("y"), child("z"), mode=mode)
    tree.reconfigure("s/x", significant=False)
    tree.complete("s/x")
    assert ended(tree) == []
    tree.reconfigure("s/y", significant=True)
    assert ended(tree) == []
    tree.complete("s/y")
    assert ended(tree) == [SupervisorTerminated(SHUTDOWN, "s/y")]


@pytest.mark.otp("A09")
def test_a_child_cannot_become_significant_where_nothing_can_come_of_it() -> None:
    tree = watched(child("x"), mode="never")
    error = refused(lambda: tree.reconfigure("s/x", significant=True))
    assert isinstance(error, SpecError)
    tree.complete("s/x")
    assert (ended(tree), tree.state("s")) == ([], "ready")


# A10


@pytest.mark.otp("A10")
@pytest.mark.parametrize("mode", MODES)
def test_a_dynamic_supervisor_has_no_automatic_shutdown(mode: str) -> None:
    """As since OTP 27; 24 to 26 allowed it."""
    with pytest.raises(SpecError, match="auto_shutdown"):
        supervisor("pool", dynamic=True, auto_shutdown=mode)
    tree = Story(supervisor("pool", dynamic=True))
    assert isinstance(refused(lambda: tree.reconfigure("pool", auto_shutdown=mode)), SpecError)
    refusal = refused(lambda: tree.start_child("pool", child("x", restart="temporary", significant=True)))
    assert isinstance(refusal, SpecError)
    assert tree.states() == {"pool": "ready"}


# A11


@pytest.mark.otp("A11")
@pytest.mark.parametrize("mode", MODES)
def test_too_many_restarts_of_a_significant_child_are_an_ordinary_shutdown_with_one_report_more(mode: str) -> None:
    tree = watched(child("x", significant=True), child("y"), mode=mode, max_restarts=1)
    tree.crash("s/x")
    tree.crash("s/x")
    assert ended(tree) == [SupervisorTerminated(GAVE_UP, "s/x")]
    assert ended(tree)[0].reason.kind is SHUTDOWN.kind
    assert told(tree, *LIFE) == [
        "0 CRASHED s/x", "0 RESTARTING s/x", "0 STARTING s/x",
        "0 CRASHED s/x", "0 TERMINATED s/x", "0 STOPPING s/y", "0 TERMINATED s/y", "0 SUPERVISOR_TERMINATED s",
    ]  # fmt: skip
    assert [line for line in reports(tree) if "SUPERVISOR" in line] == ["CRITICAL SUPERVISOR_TERMINATED s"]


@pytest.mark.otp("A11")
def test_to_a_parent_both_kinds_of_end_are_the_same_shutdown() -> None:
    """A transient child supervisor stays down after either; a significant one takes its parent along after either."""
    for crash_first in (True, False):
        low = supervisor("low", child("x", significant=True), max_restarts=0, auto_shutdown="any_significant",
                         restart="transient", significant=True)  # fmt: skip
        tree = watched(low, child("z"))
        if crash_first:
            tree.crash("s/low/x")
        else:
            tree.complete("s/low/x")
        assert ended(tree) == [SupervisorTerminated(SHUTDOWN, "s/low")]


@pytest.mark.otp("A02", "A03")
@pytest.mark.slow
@every_executor
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_on_real_executors_a_failure_ends_the_supervisor_only_if_the_child_does_not_come_back(
    restart: str, executor: str
) -> None:
    tree: Any = a_tree(auto_shutdown="any_significant")
    kind = AsyncEndsOnce if executor == "async" else EndsOnce
    tree.register_agent(
        kind, "x", executor=executor, execute="raise once", significant=True, backoff=None, restart=restart
    )
    add(tree, "y")
    tree.start()
    if restart == "transient":
        wait_for(tree, EventType.AGENT_READY, "x", count=2)
        assert tree.is_running
        tree.stop()
        expected = AgentState.STOPPED
    else:
        assert tree.join(PATIENCE)
        expected = AgentState.FAILED
    assert (tree.status("x").state, tree.status("y").state) == (expected, AgentState.STOPPED)
