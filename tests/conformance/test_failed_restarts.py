"""Failed restarts, Y01-Y09: tried again and again, while everything else goes on.

OTP's ``restarting`` is BACKOFF between two tries and STARTING while one is under way.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from checked import CheckedTree
from orchestree_testing.bombs import Bomb
from orchestree_testing.once import AsyncFailsToRestart, FailsToRestart
from orchestree_testing.trees import FAST, PATIENCE, a_tree, add, types, wait_for
from otp_support import (
    at,
    every_executor,
    every_strategy,
    permanent,
    pool_of,
    stamps,
    stops,
    story,
    ups,
)
from tenacity import wait_fixed
from virtual import agent, refused, supervisor

from orchestree.agents.ends import Cause, abnormal
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import AlreadyPresent, AlreadyStarted, NotFound, Restarting, Running, SpecError
from orchestree.supervisor import AgentState, EventType
from orchestree.supervisor.inputs import Effect, Input, StartRun
from orchestree.supervisor.reading import TreeReader
from orchestree.supervisor.spec import AgentEntry, ChildEntry
from orchestree.supervisor.status import ChildCounts

E = EventType
FAILS = "CRASHED(start_failed) it, RESTARTING(failure) it"
START_FAILED = abnormal(Cause.START_FAILED)


class Flaky(CheckedTree):
    """Starts of agents fail as often as `left` says for their path."""

    def __init__(self, *children: ChildEntry, **fields: Any) -> None:
        self.left: Counter[str] = Counter()
        super().__init__(*children, max_restarts=50, **fields)

    def _carry_out(self, effect: Effect) -> list[Input]:
        if not isinstance(effect, StartRun) or self.left[effect.run.path] == 0:
            return super()._carry_out(effect)
        self.left[effect.run.path] -= 1
        self.failing.add(effect.run.path)
        reports = super()._carry_out(effect)
        self.failing.clear()
        return reports


def late(name: str, **fields: object) -> AgentEntry:
    """Return the entry of an agent that is tried again 10 s after each failure."""
    return agent(name, restart="permanent", backoff=Backoff(wait=wait_fixed(10.0)), **fields)


def starts(tree: CheckedTree, path: str, since: int = 0) -> list[float]:
    return [now for now, line in story(tree, since) if line == f"STARTING {path}"]


@pytest.mark.otp("Y01")
@every_strategy
def test_each_restart_that_fails_is_reported_and_counted_and_the_child_is_listed_without_a_run(strategy: str) -> None:
    tree = Flaky(permanent("first"), late("it"), strategy=strategy)
    tree.left["it"] = 2
    tree.advance(1.0)
    mark = tree.mark()
    tree.crash("it")
    others = "first" if strategy == "one_for_all" else ""
    members = [*others.split(), "it"]
    down, again = f"RESTARTING(failure) it, {stops(*others.split())}", ", ".join(f"STARTING {name}" for name in members)
    others_up = "READY first" if others else ""
    failed = f"CRASHED(start_failed) it, {down}"
    tree.advance(10.0)
    assert story(tree, mark) == [
        *at(1.0, "CRASHED(exception) it", down),
        *at(11.0, again, others_up, failed),
    ]
    assert (tree.state("it"), stamps(tree)) == ("backoff", 2)
    assert [run.path for run in tree.live] == ([] if others else ["first"])
    counts = TreeReader(tree.core.world).count("")
    assert counts == ChildCounts(specs=2, active=0 if others else 1, supervisors=0, workers=2)
    tree.advance(20.0)
    assert story(tree, mark)[-len(at(0.0, ups(*members))) :] == at(31.0, ups(*members))


@pytest.mark.otp("Y01")
@every_strategy
def test_between_two_tries_commands_and_the_ends_of_others_are_served(strategy: str) -> None:
    tree = Flaky(permanent("first"), supervisor("team", late("it"), strategy=strategy), permanent("last"))
    tree.left["team/it"] = 100
    tree.crash("team/it")
    tree.advance(15.0)
    assert tree.state("team/it") == "backoff"
    mark = tree.mark()
    tree.crash("first")
    tree.stop_agent("last")
    tree.start_agent("last")
    tree.register("", permanent("new"))
    tree.stop()
    assert story(tree, mark) == at(
        15.0,
        "CRASHED(exception) first, RESTARTING(failure) first",
        ups("first"),
        "COMMAND last, STOPPING(command) last, TERMINATED(shutdown) last, COMMAND last",
        ups("last"),
        "REGISTERED new",
        ups("new"),
        "ORCHESTRATOR_STOPPING(command), STOPPING(supervisor) new, TERMINATED(shutdown) new",
        "STOPPING(supervisor) last, TERMINATED(shutdown) last, TERMINATED(shutdown) team/it",
        "SUPERVISOR_TERMINATED(shutdown) team, STOPPING(supervisor) first, TERMINATED(shutdown) first",
        "SUPERVISOR_TERMINATED(shutdown), ORCHESTRATOR_STOPPED(command)",
    )


@pytest.mark.otp("Y01", "Y02")
def test_between_two_tries_without_a_pause_the_next_thing_that_happened_is_served() -> None:
    """Each try ends in a report that comes in like any other; what came before it goes first."""
    tree = CheckedTree(permanent("it"), permanent("other"), max_restarts=50)
    tree.manual.add("it")
    tree.crash("it")
    mark = tree.mark()
    for _ in range(3):
        tree.end("it", START_FAILED)
        tree.crash("other")
    expected = f"{FAILS}, STARTING it, CRASHED(exception) other, RESTARTING(failure) other, {ups('other')}"
    assert story(tree, mark) == at(0.0, *[expected] * 3)


@pytest.mark.otp("Y02")
@every_strategy
@pytest.mark.parametrize("tries", [1, 2, 10])
def test_without_a_policy_there_is_no_pause_between_tries(strategy: str, tries: int) -> None:
    tree = CheckedTree(permanent("it"), strategy=strategy, max_restarts=50)
    tree.manual.add("it")
    tree.advance(1.0)
    tree.crash("it")
    for _ in range(tries):
        assert tree.state("it") == "starting"
        assert tree.node("it").deadline is not None
        tree.end("it", START_FAILED)
    tree.ready("it")
    assert starts(tree, "it") == [0.0, *[1.0] * (tries + 1)]
    assert stamps(tree) == tries + 1


def test_a_child_that_waits_for_its_next_try_can_be_removed_as_it_is() -> None:
    """Where Y03 differs: OTP refuses to delete it."""
    tree = Flaky(late("it"), permanent("other"))
    tree.left["it"] = 1
    tree.crash("it")
    tree.advance(10.0)
    assert tree.state("it") == "backoff"
    tree.unregister("it")
    assert tree.states() == {"other": "ready"}


@pytest.mark.parametrize("state", ["backoff", "starting"])
def test_what_the_calls_answer_for_a_child_that_is_being_restarted(state: str) -> None:
    """What holds of Y03, which the listing has under what differs."""
    tree = Flaky(late("it"), permanent("other"))
    tree.left["it"] = 1
    tree.crash("it")
    tree.advance(10.0)
    if state == "starting":
        tree.manual.add("it")
        tree.advance(10.0)
    assert tree.state("it") == state
    mark = tree.mark()
    is_trying = state == "starting"
    assert type(refused(lambda: tree.register("", permanent("it")))) is (
        AlreadyStarted if is_trying else AlreadyPresent
    )
    assert type(refused(lambda: tree.start_agent("it"))) is (Running if is_trying else Restarting)
    assert story(tree, mark) == []
    tree.stop_agent("it")
    if is_trying:
        assert type(refused(lambda: tree.unregister("it"))) is Running
        tree.end("it", START_FAILED)
    assert tree.state("it") == "stopped"
    tree.unregister("it")
    assert tree.states() == {"other": "ready"}
    assert type(refused(lambda: tree.start_agent("it"))) is NotFound
    mark = tree.mark()
    tree.advance(100.0)
    assert story(tree, mark) == []


@pytest.mark.otp("Y04")
@every_strategy
@pytest.mark.parametrize(
    "command", ["stop", "remove", "remove and add", "restart", "stop and start", "stop its supervisor"]
)
def test_a_retry_that_is_no_longer_wanted_never_comes(strategy: str, command: str) -> None:
    tree = Flaky(supervisor("team", late("it"), strategy=strategy))
    tree.left["team/it"] = 1
    tree.crash("team/it")
    tree.advance(10.0)
    assert (tree.state("team/it"), starts(tree, "team/it")) == ("backoff", [0.0, 10.0])
    tree.advance(4.0)
    match command:
        case "stop":
            tree.stop_agent("team/it")
        case "remove":
            tree.unregister("team/it")
        case "remove and add":
            tree.unregister("team/it")
            tree.register("team", late("it"))
        case "restart":
            tree.restart_agent("team/it")
        case "stop and start":
            tree.stop_agent("team/it")
            tree.start_agent("team/it")
        case _:
            tree.stop_agent("team")
    mark = tree.mark()
    tree.advance(100.0)
    assert story(tree, mark) == []
    started = command in ("remove and add", "restart", "stop and start")
    assert starts(tree, "team/it") == [0.0, 10.0, *[14.0] * started]
    assert tree.states().get("team/it", "gone") == (
        "ready" if started else "gone" if command == "remove" else "stopped"
    )


@pytest.mark.otp("Y04")
@every_strategy
@pytest.mark.parametrize("command", ["restart", "stop and start"])
def test_a_retry_that_is_no_longer_wanted_does_not_hasten_a_later_one(strategy: str, command: str) -> None:
    tree = Flaky(late("it"), strategy=strategy)
    tree.left["it"] = 1
    tree.crash("it")
    tree.advance(14.0)
    if command == "restart":
        tree.restart_agent("it")
    else:
        tree.stop_agent("it")
        tree.start_agent("it")
    tree.advance(1.0)
    tree.crash("it")
    tree.advance(100.0)
    assert starts(tree, "it") == [0.0, 10.0, 14.0, 25.0]


@pytest.mark.otp("Y04")
@every_strategy
def test_a_try_that_fails_after_it_was_told_to_stop_is_the_last(strategy: str) -> None:
    tree = CheckedTree(permanent("it"), permanent("other"), strategy=strategy)
    tree.manual.add("it")
    tree.crash("it")
    tree.stop_agent("it")
    mark = tree.mark()
    tree.end("it", START_FAILED)
    assert stamps(tree) == 1
    tree.advance(100.0)
    goes_on = ups("other") if strategy == "rest_for_one" else ""
    assert story(tree, mark) == at(0.0, "TERMINATED(shutdown) it", goes_on)


@pytest.mark.otp("Y05")
def test_under_one_for_all_a_member_that_fails_to_start_has_those_before_it_stopped_and_all_started_again() -> None:
    """The source's log: a,b,f!,a,b,f!,a,b,f,z. The dependencies make the starts wait for each other as in OTP."""
    names = "abfz"
    tree = Flaky(
        *(permanent(name, depends_on=tuple(names[max(0, number - 1) : number])) for number, name in enumerate(names)),
        strategy="one_for_all",
    )
    tree.advance(1.0)
    tree.left["f"] = 2
    mark = tree.mark()
    tree.crash("f")
    up_to_f = "STARTING a, WAITING b, WAITING f, WAITING z, READY a, STARTING b, READY b, STARTING f"
    again = ", ".join(
        ["CRASHED(start_failed) f, RESTARTING(failure) f", stops("b", "a"), up_to_f.replace("WAITING z, ", "")]
    )
    assert story(tree, mark) == at(
        1.0,
        "CRASHED(exception) f, RESTARTING(failure) f",
        stops("z", "b", "a"),
        up_to_f,
        again,
        again,
        "READY f",
        ups("z"),
    )
    assert stamps(tree) == 3
    assert tree.incarnations() == {"a": 4, "b": 4, "f": 4, "z": 2}


@pytest.mark.otp("Y05")
@pytest.mark.parametrize("failures", [1, 2, 5])
def test_under_one_for_all_the_new_first_child_is_stopped_when_the_second_fails_to_start(failures: int) -> None:
    """The suite's `one_for_all_other_child_fails_restart`."""
    tree = Flaky(permanent("one"), permanent("two"), strategy="one_for_all")
    tree.left["two"] = failures
    mark = tree.mark()
    tree.crash("one")
    again = ", ".join(
        ["CRASHED(start_failed) two, RESTARTING(failure) two", stops("one"), "STARTING one, STARTING two, READY one"]
    )
    assert story(tree, mark) == at(
        0.0,
        "CRASHED(exception) one, RESTARTING(failure) one",
        stops("two"),
        "STARTING one, STARTING two, READY one",
        *[again] * failures,
        "READY two",
    )
    assert stamps(tree) == 1 + failures


@pytest.mark.otp("Y06")
@pytest.mark.parametrize("failures", [1, 2, 5])
@pytest.mark.parametrize("delay", [None, 10.0])
def test_under_rest_for_one_those_before_the_member_that_fails_to_start_stay_up(
    failures: int, delay: float | None
) -> None:
    """The source's log, b,f!,f!,f,z; and the suite's `rest_for_one_other_child_fails_restart`."""
    tree = Flaky(
        permanent("a"), permanent("b"), late("f") if delay else permanent("f"), permanent("z"), strategy="rest_for_one"
    )
    tree.left["f"] = failures
    mark = tree.mark()
    tree.crash("b")
    tree.advance(1000.0)
    pause = delay or 0.0
    failed = "CRASHED(start_failed) f, RESTARTING(failure) f"
    tries = [
        entry
        for number in range(failures)
        for entry in (*at(number * pause, failed), *at((number + 1) * pause, "STARTING f"))
    ]
    assert story(tree, mark) == [
        *at(0.0, "CRASHED(exception) b, RESTARTING(failure) b", stops("z", "f")),
        *at(0.0, "STARTING b, WAITING f, WAITING z, READY b, STARTING f"),
        *tries,
        *at(failures * pause, "READY f", ups("z")),
    ]
    assert tree.incarnations() == {"a": 1, "b": 2, "f": 2 + failures, "z": 2}


@pytest.mark.otp("Y07")
@pytest.mark.parametrize("phase", ["between two tries", "during a try"])
def test_while_rest_for_one_retries_one_those_before_it_are_up_and_those_behind_it_are_not_started(phase: str) -> None:
    """OTP's `undefined` of those behind is WAITING: down, and due as soon as the one before is."""
    tree = Flaky(permanent("1"), late("2"), permanent("3"), permanent("4"), strategy="rest_for_one")
    tree.left["2"] = 2
    tree.crash("2")
    tree.advance(10.0)
    if phase == "during a try":
        tree.left.clear()
        tree.manual.add("2")
        tree.advance(10.0)
    tries = "backoff" if phase == "between two tries" else "starting"
    assert tree.states() == {"1": "ready", "2": tries, "3": "waiting", "4": "waiting"}
    assert [run.path for run in tree.live] == (["1"] if tries == "backoff" else ["1", "2"])
    assert tree.incarnations() == {"1": 1, "2": 2 + (tries == "starting"), "3": 1, "4": 1}


@pytest.mark.otp("Y08")
@every_strategy
@pytest.mark.parametrize("what", ["the tree", "its supervisor", "a supervisor further up"])
@pytest.mark.parametrize("tries", [1, 2, 5])
def test_a_supervisor_whose_child_is_being_restarted_stops_at_once(strategy: str, what: str, tries: int) -> None:
    """Nothing of that child has to be stopped, and nothing of it comes afterwards."""
    team = supervisor("team", permanent("first"), late("it"), permanent("last"), strategy=strategy, max_restarts=50)
    tree = Flaky(supervisor("top", team), permanent("bystander"))
    tree.left["top/team/it"] = 100
    tree.crash("top/team/it")
    tree.advance(tries * 10.0 + 1.0)
    assert tree.state("top/team/it") == "backoff"
    before = tree.states()
    mark = tree.mark()
    match what:
        case "the tree":
            tree.stop()
        case "its supervisor":
            tree.stop_agent("top/team")
        case _:
            tree.stop_agent("top")
    assert tree.lines("AGENT_STOPPING", since=mark) == [
        f"STOPPING {path}" for path in ("bystander", "top/team/last", "top/team/first")
        if before[path] == "ready" and (path != "bystander" or what == "the tree")
    ]  # fmt: skip
    assert tree.exit_code == (0 if what == "the tree" else None)
    assert {tree.state(path) for path in ("top/team", *(f"top/team/{name}" for name in ("first", "it", "last")))} == {
        "stopped"
    }
    mark = tree.mark()
    tree.advance(1000.0)
    assert story(tree, mark) == []


@pytest.mark.otp("Y01", "Y08")
@pytest.mark.parametrize("how", ["raise lost", "sleep"])
@every_executor
def test_a_real_tree_answers_and_stops_while_a_restart_fails_again_and_again_or_hangs(executor: str, how: str) -> None:
    """The suite's `hanging_restart_loop`. Nobody has to wait for an hour, which is what the agent may take to stop."""
    tree = a_tree()
    kind = AsyncFailsToRestart if executor == "async" else FailsToRestart
    register: Any = tree.register_agent
    for name in ("it", "also"):
        register(kind, name, setup=how, execute="raise lost", executor=executor, shutdown=3600.0, **FAST)
    add(tree, "other")
    tree.start()
    for name in ("it", "also"):
        wait_for(tree, E.AGENT_STARTING, name, count=5 if how != "sleep" else 2)
    assert {status.path for status in tree.which_children()} == {"it", "also", "other"}
    assert tree.status("it").state in (AgentState.STARTING, AgentState.BACKOFF)
    assert tree.count_children().specs == 3
    with pytest.raises(SpecError):
        add(tree, "it")
    tree.restart_agent("other", PATIENCE)
    assert tree.status("other").incarnation == 2
    tree.stop_agent("it", PATIENCE)
    assert tree.status("it").state is AgentState.STOPPED
    last = tree.status("it").incarnation
    tree.restart_agent("other", PATIENCE)
    assert (tree.status("it").incarnation, types(tree, "it")[-1]) == (last, E.AGENT_TERMINATED)
    tree.unregister_agent("it")
    assert [status.path for status in tree.which_children()] == ["also", "other"]
    tree.stop()
    assert tree.status("also").state is AgentState.STOPPED
    assert tree.exit_code == 0


@pytest.mark.otp("Y07")
@every_executor
def test_in_a_real_tree_under_rest_for_one_those_behind_a_hanging_restart_are_not_there(executor: str) -> None:
    """The suite's `hanging_restart_loop_rest_for_one`."""
    tree = a_tree(strategy="rest_for_one")
    kind = AsyncFailsToRestart if executor == "async" else FailsToRestart
    bomb = Bomb(tree, "1", executor)
    register: Any = tree.register_agent
    register(kind, "2", setup="sleep", execute="raise lost", executor=executor, **FAST)
    Bomb(tree, "3", executor)
    with tree:
        wait_for(tree, E.AGENT_STARTING, "2", count=2)
        found = {status.path: (status.state.value, status.waiting_for) for status in tree.which_children()}
        assert found == {"1": ("ready", ()), "2": ("starting", ()), "3": ("waiting", ("2",))}
        assert tree.status("1").incarnation == 1
        assert tree.status("3").pid is None
        bomb.go_off()
        wait_for(tree, E.AGENT_STARTING, "2", count=3)


def stuck_pool() -> CheckedTree:
    """Return a dynamic supervisor with three children, two of which wait for their next try."""
    tree = pool_of(late("1"), late("2"), late("3"), max_restarts=50)
    tree.failing |= {"pool/1", "pool/2"}
    tree.crash("pool/1")
    tree.crash("pool/2")
    tree.advance(10.0)
    return tree


def counts(tree: CheckedTree) -> ChildCounts:
    return TreeReader(tree.core.world).count("pool")


@pytest.mark.otp("Y09")
def test_a_dynamic_child_that_is_being_restarted_is_counted_but_not_as_active() -> None:
    """The suite's `count_restarting_children`."""
    tree = stuck_pool()
    assert tree.states() == {"pool": "ready", "pool/1": "backoff", "pool/2": "backoff", "pool/3": "ready"}
    assert counts(tree) == ChildCounts(specs=3, active=1, supervisors=0, workers=3)
    tree.failing.clear()
    tree.advance(10.0)
    assert counts(tree) == ChildCounts(specs=3, active=3, supervisors=0, workers=3)
    for left, name in ((2, "1"), (1, "2"), (0, "3")):
        tree.stop_agent(f"pool/{name}")
        assert counts(tree) == ChildCounts(specs=left, active=left, supervisors=0, workers=left)


@pytest.mark.otp("Y09")
@pytest.mark.parametrize("name", ["1", "2"])
@pytest.mark.parametrize("phase", ["between two tries", "during a try"])
def test_a_dynamic_child_that_is_being_restarted_can_be_stopped_under_the_name_it_had(name: str, phase: str) -> None:
    """The suite's `hanging_restart_loop_simple`. It leaves the tree, and no further try comes."""
    tree = stuck_pool()
    path = f"pool/{name}"
    if phase == "during a try":
        tree.failing.clear()
        tree.manual |= {"pool/1", "pool/2"}
        tree.advance(10.0)
    mark = tree.mark()
    tree.stop_agent(path)
    if phase == "during a try":
        tree.end(path, START_FAILED)
    stopping = f"STOPPING(command) {path}, " if phase == "during a try" else ""
    assert story(tree, mark) == at(tree.now, f"COMMAND {path}, {stopping}TERMINATED(shutdown) {path}")
    assert path not in tree.states()
    assert counts(tree).specs == 2
    assert type(refused(lambda: tree.stop_agent(path))) is NotFound
    tree.advance(100.0)
    assert [line for _, line in story(tree, mark) if line.endswith(f"STARTING {path}")] == []


@pytest.mark.otp("Y08", "Y09")
def test_a_dynamic_supervisor_whose_children_are_being_restarted_stops_at_once() -> None:
    tree = stuck_pool()
    mark = tree.mark()
    tree.stop()
    assert tree.lines("AGENT_STOPPING", since=mark) == ["STOPPING pool/3"]
    assert (tree.exit_code, tree.now) == (0, 10.0)
    tree.advance(100.0)
    assert {now for now, _ in story(tree, mark)} == {10.0}
