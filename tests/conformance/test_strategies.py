"""Strategies, O01-O11: who else is stopped and started when a child has to be restarted, and in which order."""

from __future__ import annotations

import itertools

import pytest
from checked import CheckedTree
from orchestree_testing.bombs import Bomb
from orchestree_testing.once import AsyncNumbered, Numbered
from orchestree_testing.trees import FAST, PATIENCE, Switch, a_tree, add, trace, wait_for
from otp_support import (
    GROUPING,
    at,
    child,
    every_executor,
    killable,
    permanent,
    pool_of,
    stamps,
    stops,
    story,
    ups,
)
from virtual import supervisor

from orchestree.agents.ends import NORMAL, Cause, abnormal
from orchestree.supervisor import Event, EventType
from orchestree.supervisor.events import AgentMessage, AgentRestarting, AgentTerminated

E = EventType
FIVE = ("c7", "c3", "c10", "c2", "c5")


def five(strategy: str, restart: str = "permanent") -> CheckedTree:
    """Return five children in an order that neither their names nor their numbers have, one second old."""
    tree = CheckedTree(*(child(name, restart=restart) for name in FIVE), strategy=strategy, max_restarts=1)
    tree.advance(1.0)
    return tree


def order(tree: CheckedTree) -> list[str]:
    return [node.name for node in tree.core.world.root.sequence]


def final_stop(tree: CheckedTree) -> list[str]:
    """Stop the whole tree; return whom it asked to stop, in order."""
    mark = tree.mark()
    tree.stop()
    return [path for _, name, path, _ in tree.log[mark:] if name == "AGENT_STOPPING"]


@pytest.mark.otp("O01")
@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("name", FIVE)
def test_one_for_one_restarts_the_one_that_failed_and_keeps_its_place(name: str, restart: str) -> None:
    tree = five("one_for_one", restart)
    runs = [run for run in tree.live if run.path != name]
    mark = tree.mark()
    tree.crash(name)
    assert story(tree, mark) == at(1.0, f"CRASHED(exception) {name}, RESTARTING(failure) {name}", ups(name))
    assert [run for run in tree.live if run.path != name] == runs
    assert order(tree) == list(FIVE)
    assert final_stop(tree) == list(reversed(FIVE))


@pytest.mark.otp("O02")
@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("name", FIVE)
def test_one_for_all_stops_all_others_in_reverse_order_then_starts_all_in_order(name: str, restart: str) -> None:
    tree = five("one_for_all", restart)
    mark = tree.mark()
    tree.crash(name)
    others = [other for other in reversed(FIVE) if other != name]
    assert story(tree, mark) == at(
        1.0, f"CRASHED(exception) {name}, RESTARTING(failure) {name}", stops(*others), ups(*FIVE)
    )
    assert tree.incarnations() == dict.fromkeys(FIVE, 2)
    assert final_stop(tree) == list(reversed(FIVE))


@pytest.mark.otp("O03")
@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("name", FIVE)
def test_rest_for_one_takes_along_those_behind_in_reverse_and_leaves_those_before_alone(
    name: str, restart: str
) -> None:
    tree = five("rest_for_one", restart)
    place = FIVE.index(name)
    before, behind = FIVE[:place], FIVE[place + 1 :]
    runs = [run for run in tree.live if run.path in before]
    mark = tree.mark()
    tree.crash(name)
    assert story(tree, mark) == at(
        1.0,
        f"CRASHED(exception) {name}, RESTARTING(failure) {name}",
        stops(*reversed(behind)),
        ups(name, *behind, one_by_one=True),
    )
    assert [run for run in tree.live if run.path in before] == runs
    assert tree.incarnations() == {other: 1 if other in before else 2 for other in FIVE}
    assert final_stop(tree) == list(reversed(FIVE))


@pytest.mark.otp("O02", "O03")
@pytest.mark.parametrize("strategy", GROUPING)
def test_each_member_is_awaited_by_its_own_shutdown_value_before_the_next_is_asked(strategy: str) -> None:
    """One obeys after 3 s, one is killed after its 2 s, one at once, one after 0.5 s, and one obeys at once."""
    tree = CheckedTree(
        killable("a", shutdown="infinity"), killable("b", shutdown=2.0), killable("c", shutdown="brutal_kill"),
        killable("d", shutdown=0.5), killable("e"), strategy=strategy,
    )  # fmt: skip
    tree.manual |= {"a", "b", "c", "d"}
    mark = tree.mark()
    offender = "e" if strategy == "one_for_all" else "a"
    tree.crash(offender)
    rest = "e" if offender == "a" else ""
    while set("abcd") & {run.path for run in tree.live if run.incarnation == 1} - {"a"}:
        tree.advance(0.25)
    story_of_b_to_e = (
        at(0.0, f"CRASHED(exception) {offender}, RESTARTING(failure) {offender}", stops(*rest))
        + at(0.0, "STOPPING(group) d")
        + at(0.5, "RESTARTING(group) d", stops("c"), "STOPPING(group) b")
    )
    if strategy == "rest_for_one":
        assert story(tree, mark) == story_of_b_to_e + at(
            2.5, "RESTARTING(group) b, STARTING a, WAITING b, WAITING c, WAITING d, WAITING e"
        )
        return
    assert story(tree, mark) == [*story_of_b_to_e, *at(2.5, "RESTARTING(group) b, STOPPING(group) a")]
    tree.advance(3.0)
    tree.end("a", NORMAL)
    assert story(tree, mark)[-7:] == at(
        5.5, "RESTARTING(group) a, STARTING a, STARTING b, STARTING c, STARTING d, STARTING e, READY e"
    )


@pytest.mark.otp("O02", "O03")
@pytest.mark.parametrize("strategy", GROUPING)
def test_a_supervisor_is_stopped_and_started_in_its_place_with_all_below_it(strategy: str) -> None:
    tree = CheckedTree(
        permanent("a"), supervisor("team", permanent("x"), permanent("y"), backoff=None), permanent("z"),
        strategy=strategy,
    )  # fmt: skip
    mark = tree.mark()
    tree.crash("a")
    one_by_one = strategy == "rest_for_one"
    started = (
        ("STARTING a, WAITING z, READY a", "SUPERVISOR_STARTED team", ups("team/x", "team/y"))
        if one_by_one
        else ("STARTING a, SUPERVISOR_STARTED team, STARTING team/x, STARTING team/y, STARTING z",
              "READY a, READY team/x, READY team/y")
    )  # fmt: skip
    assert story(tree, mark) == at(
        0.0,
        "CRASHED(exception) a, RESTARTING(failure) a",
        stops("z"),
        "STOPPING(supervisor) team/y, TERMINATED(shutdown) team/y",
        "STOPPING(supervisor) team/x, TERMINATED(shutdown) team/x",
        "SUPERVISOR_TERMINATED(shutdown) team, SUPERVISOR_RESTARTING(group) team",
        *started,
        "SUPERVISOR_READY team",
        ups("z") if one_by_one else "READY z",
    )
    assert tree.incarnations() == {"a": 2, "team": 2, "team/x": 2, "team/y": 2, "z": 2}


@pytest.mark.otp("O01", "O02", "O03")
@pytest.mark.parametrize("strategy", ["one_for_one", *GROUPING])
@every_executor
def test_real_agents_are_restarted_with_whom_the_strategy_takes_along(executor: str, strategy: str) -> None:
    tree = a_tree(strategy=strategy)
    bombs = [Bomb(tree, name, executor) for name in "abc"]
    behind = {"one_for_one": "", "one_for_all": "ca", "rest_for_one": "c"}[strategy]
    group = sorted(f"b{behind}")
    with tree:
        mark = len(trace(tree, E.AGENT_STOPPING, E.AGENT_STARTING))
        bombs[1].go_off()
        for name in group:
            wait_for(tree, E.AGENT_READY, name, count=2)
        steps = trace(tree, E.AGENT_STOPPING, E.AGENT_STARTING)[mark:]
        assert [status.incarnation for status in tree.which_children()] == [1 + (name in group) for name in "abc"]
    assert steps == [*((E.AGENT_STOPPING, name) for name in behind), *((E.AGENT_STARTING, name) for name in group)]


@pytest.mark.otp("O04")
@pytest.mark.parametrize("strategy", GROUPING)
@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_temporary_member_is_stopped_and_dropped(strategy: str, place: int) -> None:
    """The suite's `temporary_bystander`, wherever the bystander stands behind the one that fails."""
    names = ["a", "b", "c"]
    children = [permanent(name) for name in names]
    children.insert(place, child("t", restart="temporary"))
    tree = CheckedTree(*children, strategy=strategy, max_restarts=1)
    everybody = order(tree)
    tree.advance(1.0)
    mark = tree.mark()
    tree.crash("a")
    stopped = [
        "STOPPING(group) t, TERMINATED(shutdown) t" if name == "t" else stops(name)
        for name in reversed(everybody)
        if name != "a"
    ]
    assert story(tree, mark) == at(
        1.0,
        "CRASHED(exception) a, RESTARTING(failure) a",
        *stopped,
        ups(*names, one_by_one=strategy == "rest_for_one"),
    )
    tree.advance(100.0)
    assert tree.states() == dict.fromkeys(names, "ready")
    assert order(tree) == names
    tree.crash("a")
    assert tree.states() == dict.fromkeys(names, "ready")
    tree.register("", child("t", restart="temporary"))
    assert order(tree) == [*names, "t"]


@pytest.mark.otp("O04")
def test_under_rest_for_one_a_temporary_child_before_the_one_that_fails_stays() -> None:
    tree = CheckedTree(child("t", restart="temporary"), permanent("a"), strategy="rest_for_one", max_restarts=1)
    tree.crash("a")
    assert tree.incarnations() == {"t": 1, "a": 2}


@pytest.mark.otp("O04")
@pytest.mark.parametrize("strategy", GROUPING)
def test_a_temporary_supervisor_is_dropped_with_all_below_it(strategy: str) -> None:
    tree = CheckedTree(
        permanent("a"), supervisor("t", permanent("x"), restart="temporary"), permanent("b"), strategy=strategy
    )
    tree.crash("a")
    assert tree.states() == {"a": "ready", "b": "ready"}
    assert not [run for run in tree.live if run.path == "t/x"]


@pytest.mark.parametrize("strategy", GROUPING)
def test_a_group_restart_starts_members_that_had_completed_or_ignored_but_not_those_an_operator_stopped(
    strategy: str,
) -> None:
    """What holds of O05, which the listing has under what differs."""
    tree = CheckedTree(
        permanent("a"), child("completed", restart="transient"), child("ignored", restart="transient"),
        permanent("ignored_too"), permanent("stopped"), strategy=strategy, max_restarts=1,
    )  # fmt: skip
    tree.complete("completed")
    for name in ("ignored", "ignored_too"):
        tree.restart_agent(name)
        tree.ignore(name)
    tree.stop_agent("stopped")
    assert [node.state for node in tree.core.world.root.sequence[1:]] == [*["completed"] * 3, "stopped"]
    mark = tree.mark()
    tree.crash("a")
    assert story(tree, mark) == at(
        0.0,
        "CRASHED(exception) a, RESTARTING(failure) a",
        ups("a", "completed", "ignored", "ignored_too", one_by_one=strategy == "rest_for_one"),
    )
    assert tree.state("stopped") == "stopped"
    assert stamps(tree) == 1


@pytest.mark.otp("O06", "O07")
@pytest.mark.parametrize("deaths", list(itertools.permutations("abc")), ids="".join)
def test_three_deaths_at_once_are_one_restart_under_one_for_all(deaths: tuple[str, ...]) -> None:
    """With intensity 1 the supervisor lives. Those found dead while they are to be stopped: a shutdown error each."""
    tree = CheckedTree(*(permanent(name) for name in "abcz"), strategy="one_for_all", max_restarts=1)
    tree.manual |= {"a", "b", "c"}
    tree.advance(1.0)
    mark = tree.mark()
    for name in deaths:
        tree.crash(name, f"boom {name}")
    told = [data for _, _, _, data in tree.log[mark:] if isinstance(data, AgentRestarting)]
    paths = [path for _, _, path, data in tree.log[mark:] if isinstance(data, AgentRestarting)]
    first = deaths[0]
    assert {path: data.shutdown_error for path, data in zip(paths, told, strict=True)} == {
        "z": None, first: None, **{name: f"boom {name}" for name in deaths[1:]},
    }  # fmt: skip
    assert tree.lines("AGENT_CRASHED", since=mark) == [f"CRASHED {first}"]
    assert [path for path, data in zip(paths, told, strict=True) if data.cause == "failure"] == [first]
    assert tree.incarnations() == dict.fromkeys("abcz", 2)
    assert stamps(tree) == 1
    assert tree.exit_code is None


@pytest.mark.otp("O06", "O07")
@pytest.mark.parametrize("deaths", list(itertools.permutations("bcd")), ids="".join)
def test_under_rest_for_one_the_deaths_behind_the_first_one_are_not_counted(deaths: tuple[str, ...]) -> None:
    """Those before it are outside of its group: their deaths are failures of their own."""
    tree = CheckedTree(*(permanent(name) for name in "abcd"), strategy="rest_for_one", max_restarts=3)
    tree.manual |= {"b", "c", "d"}
    # Once they are told to stop, they do not, so that each can die by itself.
    mark = tree.mark()
    alone = [name for number, name in enumerate(deaths) if name < min([*deaths[:number], "z"])]
    for name in deaths:
        tree.crash(name)
    assert tree.lines("AGENT_CRASHED", since=mark) == [f"CRASHED {name}" for name in alone]
    assert stamps(tree) == len(alone)
    assert tree.node("a").incarnation == 1


@pytest.mark.otp("O06")
@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize(
    "end", [NORMAL, *[abnormal(cause) for cause in (Cause.EXCEPTION, Cause.EXIT, Cause.SIGNAL)]], ids=str
)
@pytest.mark.parametrize("command", ["stop one", "stop its supervisor", "stop all"])
def test_what_the_supervisor_ends_itself_is_neither_counted_nor_restarted(
    restart: str, end: object, command: str
) -> None:
    tree = CheckedTree(
        supervisor("team", child("it", restart=restart), strategy="one_for_all", max_restarts=0), max_restarts=0
    )
    tree.manual.add("team/it")
    tree.ready("team/it")
    mark = tree.mark()
    match command:
        case "stop one":
            tree.stop_agent("team/it")
        case "stop its supervisor":
            tree.stop_agent("team")
        case _:
            tree.stop()
    tree.end("team/it", end)  # type: ignore[arg-type]
    tree.advance(100.0)
    words = {name for _, name, _, _ in tree.log[mark:]}
    assert not words & {"AGENT_CRASHED", "AGENT_RESTARTING", "SUPERVISOR_RESTARTING", "AGENT_STARTING"}
    assert stamps(tree) == stamps(tree, "team") == 0
    assert tree.state("team/it") == "stopped"
    assert tree.exit_code == (0 if command == "stop all" else None)
    ((_, data),) = tree.events("AGENT_TERMINATED", "team/it")
    assert isinstance(data, AgentTerminated)
    assert (data.shutdown_error is None) is (end == NORMAL)


@pytest.mark.otp("O08")
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations("abc", 2)))
def test_under_one_for_one_two_deaths_at_once_are_two_restarts(first: str, second: str) -> None:
    tree = CheckedTree(*(permanent(name) for name in "abc"), max_restarts=1)
    tree.advance(1.0)
    mark = tree.mark()
    tree.crash(first)
    tree.crash(second)
    left = [name for name in "cba" if name != second]
    assert story(tree, mark) == at(
        1.0,
        f"CRASHED(exception) {first}, RESTARTING(failure) {first}",
        ups(first),
        f"CRASHED(exception) {second}, TERMINATED(exception) {second}, ORCHESTRATOR_STOPPING(max_restarts)",
        *(f"STOPPING(supervisor) {name}, TERMINATED(shutdown) {name}" for name in left),
        "SUPERVISOR_TERMINATED(max_restarts), ORCHESTRATOR_STOPPED(max_restarts)",
    )
    assert tree.exit_code == 70


@pytest.mark.otp("O09")
def test_a_child_that_is_added_stands_behind_all_others() -> None:
    tree = CheckedTree(permanent("b"), permanent("a"), strategy="rest_for_one")
    tree.register("", permanent("0"))
    assert order(tree) == ["b", "a", "0"]
    mark = tree.mark()
    tree.crash("a")
    assert story(tree, mark) == at(
        0.0, "CRASHED(exception) a, RESTARTING(failure) a", stops("0"), ups("a", "0", one_by_one=True)
    )
    tree.crash("0")
    assert tree.incarnations() == {"b": 1, "a": 2, "0": 3}
    assert final_stop(tree) == ["0", "a", "b"]


@pytest.mark.otp("O09")
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_stopping_and_starting_keeps_the_place_and_deleting_and_adding_moves_to_the_end(name: str) -> None:
    def three() -> CheckedTree:
        tree = CheckedTree(*(permanent(each) for each in "abc"), strategy="rest_for_one", max_restarts=3)
        tree.stop_agent(name)
        return tree

    tree = three()
    tree.start_agent(name)
    assert order(tree) == ["a", "b", "c"]
    tree.crash("b")
    assert [run.path for run in tree.live][-2:] == ["b", "c"]
    assert final_stop(tree) == ["c", "b", "a"]
    tree = three()
    tree.unregister(name)
    tree.register("", permanent(name))
    others = [each for each in "abc" if each != name]
    assert order(tree) == [*others, name]
    mark = tree.mark()
    tree.crash(others[1])
    assert tree.lines("AGENT_STARTING", since=mark) == [f"STARTING {others[1]}", f"STARTING {name}"]
    assert final_stop(tree) == [name, others[1], others[0]]


@pytest.mark.otp("O09")
@pytest.mark.parametrize("strategy", GROUPING)
@pytest.mark.parametrize("step", ["restart", "group restart", "stop and start"])
def test_what_was_added_keeps_its_place_over_restarts(strategy: str, step: str) -> None:
    tree = CheckedTree(permanent("a"), permanent("b"), strategy=strategy)
    tree.register("", permanent("new"))
    match step:
        case "restart":
            tree.restart_agent("a")
        case "group restart":
            tree.crash("a")
        case _:
            tree.stop_agent("a")
            tree.start_agent("a")
    assert order(tree) == ["a", "b", "new"]
    assert final_stop(tree) == ["new", "b", "a"]


@pytest.mark.otp("O10")
@pytest.mark.parametrize("limit", [1, 2])
def test_a_child_that_goes_down_with_another_counts_as_a_failure_of_its_own(limit: int) -> None:
    """A link is the program's to make, of an event and a switch; nothing links siblings by itself."""
    tree = a_tree(max_restarts=limit, max_seconds=1000.0)
    one, other = Switch(), Switch()
    add(tree, "one", **one.hooks(), backoff=None)
    add(tree, "other", **other.hooks(), backoff=None)
    add(tree, "bystander")

    @tree.on(E.AGENT_CRASHED, "one")
    def link(event: Event) -> None:
        other.throw()

    tree.start()
    one.throw()
    if limit == 1:
        assert tree.join(PATIENCE)
        assert tree.exit_code == 70
        return
    wait_for(tree, E.AGENT_READY, "one", count=2)
    wait_for(tree, E.AGENT_READY, "other", count=2)
    assert [tree.status(name).incarnation for name in ("one", "other", "bystander")] == [2, 2, 1]
    tree.stop()


@pytest.mark.otp("O11")
@pytest.mark.parametrize("number", [0, 3, 7, 9])
@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_in_a_dynamic_supervisor_only_the_one_that_failed_is_restarted_as_it_was_asked_for(
    number: int, restart: str
) -> None:
    entries = [child(f"w{each}", restart=restart, params={"number": each}) for each in range(10)]
    tree = pool_of(*entries, max_restarts=1)
    path = f"pool/w{number}"
    runs = [run for run in tree.live if run.path != path]
    mark = tree.mark()
    tree.crash(path)
    assert story(tree, mark) == at(0.0, f"CRASHED(exception) {path}, RESTARTING(failure) {path}", ups(path))
    assert [run for run in tree.live if run.path != path] == runs
    assert tree.node(path).entry is entries[number]


@pytest.mark.otp("O11")
@every_executor
def test_real_dynamic_agents_come_back_with_the_arguments_they_were_started_with(executor: str) -> None:
    tree = a_tree()
    pool = tree.add_supervisor("pool", dynamic=True, max_restarts=1)
    kind = AsyncNumbered if executor == "async" else Numbered
    with tree:
        for number in range(10):
            pool.start_child(
                kind, f"w{number}", params={"number": number}, fails=number == 7, executor=executor, **FAST
            )
        wait_for(tree, E.AGENT_MESSAGE, "pool/w7", count=2)
        told = [event for event in tree.history(None, E.AGENT_MESSAGE) if event.path == "pool/w7"]
        assert [event.data.data["number"] for event in told if isinstance(event.data, AgentMessage)] == [7, 7]
        assert [status.incarnation for status in tree.which_children("pool")] == [*[1] * 7, 2, 1, 1]
