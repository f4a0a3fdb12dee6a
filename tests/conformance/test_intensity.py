"""Restart intensity, X01-X14: what is counted, when it is too much, and what follows then."""

from __future__ import annotations

import random
from typing import Any

import pytest
from checked import CheckedTree
from otp_support import (
    GROUPING,
    STRATEGIES,
    at,
    child,
    every_strategy,
    killable,
    permanent,
    pool_of,
    stamps,
    stops,
    story,
)
from virtual import supervisor

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, ExitKind, ExitReason, abnormal
from orchestree.strategies.window import RestartWindow
from orchestree.supervisor.events import SupervisorTerminated
from orchestree.supervisor.world import Settings

GAVE_UP = ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS)
CRASH = abnormal(Cause.EXCEPTION)


def crash_at(tree: CheckedTree, *times: float, path: str = "a") -> float | None:
    """Crash an agent at each of these times; return the one that was too much."""
    for time in times:
        tree.advance(time - tree.now)
        tree.crash(path)
        if tree.exit_code is not None:
            return time
    return None


def too_much(times: list[float], limit: int, period: float) -> float | None:
    """Return the first time with more than `limit` restarts in the `period` that ends with it: the rule as a sum."""
    for number, now in enumerate(times):
        if sum(now - period <= time for time in times[: number + 1]) > limit:
            return now
    return None


@pytest.mark.otp("X01")
@pytest.mark.parametrize(
    ("limit", "period", "times", "fatal"),
    [
        (2, 5.0, (0.0, 1.0, 2.0), 2.0),
        (2, 5.0, (0.0, 0.0, 0.0), 0.0),
        (2, 5.0, (0.0, 3.0, 6.0, 9.0, 12.0), None),
        (2, 5.0, (0.0, 3.0, 6.0, 7.0), 7.0),
        (2, 5.0, (0.0, 4.0, 8.0, 9.0, 10.0), 9.0),
        (1, 1.0, (0.0, 2.1, 4.2, 6.3, 8.4), None),
        (1, 1.0, (0.0, 2.1, 4.2, 4.3), 4.3),
        (3, 10.0, (0.0, 9.0, 9.5, 10.5, 11.0), 11.0),
        (10, 10.0, (*[0.0] * 5, *[10.5] * 10), None),
        (10, 10.0, (*[0.0] * 5, *[9.5] * 6), 9.5),
    ],
)
def test_more_than_max_restarts_within_max_seconds_is_too_much(
    limit: int, period: float, times: tuple[float, ...], fatal: float | None
) -> None:
    """What is older than the period no longer counts. The case of 2.1 s is the suite's `multiple_restarts`."""
    assert too_much(list(times), limit, period) == fatal
    tree = CheckedTree(permanent("a"), max_restarts=limit, max_seconds=period)
    assert crash_at(tree, *times) == fatal
    assert tree.exit_code == (None if fatal is None else 70)
    crashes, restarts = (len(tree.events(name)) for name in ("AGENT_CRASHED", "AGENT_RESTARTING"))
    assert restarts == crashes - (fatal is not None) == len(tree.events("AGENT_STARTING")) - 1


@pytest.mark.otp("X01", "X12")
@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("period", [0.25, 1.0, 5.0])
def test_any_history_is_judged_as_counting_it_would(limit: int, period: float) -> None:
    """Times are multiples of 1/8 s, which floats hold exactly, so that many of them fall on the very bound."""
    numbers = random.Random(f"{limit} {period}")
    verdicts = []
    for _ in range(20):
        now, times = 0.0, []
        for _ in range(30):
            now += numbers.choice((0, 0, 1, 2, 4, 8, 16, 40)) / 8
            times.append(now)
        tree = CheckedTree(permanent("a"), max_restarts=limit, max_seconds=period)
        expected = too_much(times, limit, period)
        assert crash_at(tree, *times) == expected
        verdicts.append(expected)
    assert limit == 7 or set(verdicts) - {None}


@pytest.mark.otp("X02")
@pytest.mark.parametrize("period", [0.125, 0.5, 1.0, 5.0, 3600.0])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5, 0.75])
def test_the_bound_is_inclusive_and_exact_at_every_phase_of_the_clock(period: float, phase: float) -> None:
    """OTP cuts its clock to whole seconds, so that there the phase decides between P and P + 1 s; here nothing does.

    That is within OTP's bounds: less than P apart always counts together, P + 1 s apart never does.
    """
    just_over = 2.0**-10
    for gap, together in (
        (0.0, True),
        (period / 2, True),
        (period, True),
        (period + just_over, False),
        (period + 1.0, False),
    ):
        tree = CheckedTree(permanent("a"), max_restarts=1, max_seconds=period)
        assert crash_at(tree, phase, phase + gap) == (phase + gap if together else None)


@pytest.mark.otp("X02")
@pytest.mark.parametrize(("first", "second"), [(0.01, 1.91), (0.90, 2.10), (0.99, 2.0), (0.5, 1.500001)])
def test_what_depends_on_the_phase_in_otp_never_counts_together_here(first: float, second: float) -> None:
    tree = CheckedTree(permanent("a"), max_restarts=1, max_seconds=1.0)
    assert crash_at(tree, first, second) is None


@pytest.mark.otp("X03")
@every_strategy
@pytest.mark.parametrize("limit", [0, 1, 3])
def test_the_fatal_failure_is_stamped_and_starts_and_stops_nothing_for_a_restart(strategy: str, limit: int) -> None:
    tree = CheckedTree(permanent("a"), permanent("it"), permanent("z"), strategy=strategy, max_restarts=limit)
    for _ in range(limit):
        tree.crash("it")
    assert stamps(tree) == limit
    tree.advance(1.0)
    mark = tree.mark()
    tree.crash("it")
    assert stamps(tree) == limit + 1
    # No step of a group: what is stopped is stopped because the supervisor ends.
    assert story(tree, mark) == at(
        1.0,
        "CRASHED(exception) it, TERMINATED(exception) it, ORCHESTRATOR_STOPPING(max_restarts)",
        "STOPPING(supervisor) z, TERMINATED(shutdown) z, STOPPING(supervisor) a, TERMINATED(shutdown) a",
        "SUPERVISOR_TERMINATED(max_restarts), ORCHESTRATOR_STOPPED(max_restarts)",
    )


@pytest.mark.otp("X04")
@pytest.mark.parametrize("strategy", [*GROUPING, "dependents"])
@pytest.mark.parametrize("size", [2, 5, 50])
def test_one_failure_is_one_stamp_however_many_members_restart(strategy: str, size: int) -> None:
    names = [f"m{number}" for number in range(size)]
    on_first = {"depends_on": ["m0"]} if strategy == "dependents" else {}
    tree = CheckedTree(
        permanent("m0"), *(permanent(name, **on_first) for name in names[1:]), strategy=strategy, max_restarts=1
    )
    tree.crash("m0")
    assert stamps(tree) == 1
    assert tree.incarnations() == dict.fromkeys(names, 2)
    assert tree.exit_code is None
    tree.crash("m0")
    assert tree.exit_code == 70


@pytest.mark.otp("X05")
@every_strategy
@pytest.mark.parametrize("limit", [0, 1, 2, 4, 10])
def test_each_retry_of_a_failed_start_is_a_stamp_so_that_there_are_as_many_tries_as_max_restarts(
    strategy: str, limit: int
) -> None:
    tree = CheckedTree(permanent("before"), permanent("it"), strategy=strategy, max_restarts=limit)
    tree.advance(1.0)
    tree.failing.add("it")
    mark = tree.mark()
    tree.crash("it")
    assert tree.lines("AGENT_STARTING", since=mark).count("STARTING it") == limit
    assert stamps(tree) == limit + 1
    assert tree.exit_code == 70
    assert {now for now, _, _, _ in tree.log[mark:]} == {1.0}


@pytest.mark.otp("X05")
def test_a_failing_restart_is_tried_again_at_once_without_pause() -> None:
    """The source's case: one_for_one, intensity 4, four attempts."""
    tree = CheckedTree(permanent("it"), max_restarts=4)
    tree.advance(1.0)
    tree.failing.add("it")
    mark = tree.mark()
    tree.crash("it")
    again = "CRASHED(start_failed) it, RESTARTING(failure) it, STARTING it"
    assert story(tree, mark) == at(
        1.0,
        "CRASHED(exception) it, RESTARTING(failure) it, STARTING it",
        *[again] * 3,
        "CRASHED(start_failed) it, TERMINATED(start_failed) it, ORCHESTRATOR_STOPPING(max_restarts)",
        "SUPERVISOR_TERMINATED(max_restarts), ORCHESTRATOR_STOPPED(max_restarts)",
    )


@pytest.mark.otp("X06")
@every_strategy
@pytest.mark.parametrize(
    ("restart", "reason"),
    [("permanent", NORMAL), ("permanent", SHUTDOWN), ("permanent", CRASH), ("transient", CRASH)],
    ids=str,
)
def test_with_max_restarts_0_the_first_end_that_calls_for_a_restart_ends_the_supervisor(
    strategy: str, restart: str, reason: ExitReason
) -> None:
    tree = CheckedTree(child("it", restart=restart), permanent("other"), strategy=strategy, max_restarts=0)
    mark = tree.mark()
    tree.end("it", reason)
    assert tree.exit_code == 70
    assert tree.lines("AGENT_STARTING", "AGENT_RESTARTING", since=mark) == []


@pytest.mark.otp("X07")
@every_strategy
@pytest.mark.parametrize("paths", ["abc", "aab", "aba", "cca", "ccc"])
def test_restarts_are_counted_over_all_children_together(strategy: str, paths: str) -> None:
    tree = CheckedTree(*(permanent(name) for name in "abc"), strategy=strategy, max_restarts=2)
    for name in paths[:2]:
        tree.crash(name)
        assert tree.exit_code is None
    tree.crash(paths[2])
    assert tree.exit_code == 70


@pytest.mark.otp("X07")
def test_each_supervisor_counts_its_own_children_only() -> None:
    teams = [supervisor(name, permanent("x"), permanent("y"), max_restarts=2) for name in ("one", "two")]
    tree = CheckedTree(*teams, permanent("a"), max_restarts=2)
    for path in ("one/x", "two/x", "a", "one/y", "two/y", "a"):
        tree.crash(path)
    assert (stamps(tree), stamps(tree, "one"), stamps(tree, "two")) == (2, 2, 2)
    assert tree.lines("SUPERVISOR_TERMINATED") == []


def be_stopped(tree: CheckedTree) -> None:
    tree.stop_agent("it")
    tree.start_agent("it")


def be_added_and_removed(tree: CheckedTree) -> None:
    tree.register("", permanent("new"))
    tree.stop_agent("new")
    tree.unregister("new")


def be_added_and_fail(tree: CheckedTree) -> None:
    tree.register("", child("brief", restart="temporary"))
    tree.crash("brief")


def complete_and_be_started(tree: CheckedTree) -> None:
    tree.complete("transient")
    tree.start_agent("transient")


@pytest.mark.otp("X08")
@every_strategy
@pytest.mark.parametrize("step", [be_stopped, be_added_and_removed, be_added_and_fail, complete_and_be_started])
def test_what_is_no_automatic_restart_is_not_counted_however_often_it_happens(strategy: str, step: object) -> None:
    """Starts by the static tree and by commands, stops by commands, a transient's good end, a temporary's any end."""
    tree = CheckedTree(
        permanent("it"), child("transient", restart="transient"), *(permanent(f"b{number}") for number in range(5)),
        strategy=strategy, max_restarts=0,
    )  # fmt: skip
    for _ in range(100):
        assert callable(step)
        step(tree)
    assert stamps(tree) == 0
    assert tree.exit_code is None


@pytest.mark.otp("X09")
@every_strategy
def test_giving_up_reports_the_failure_stops_all_others_in_reverse_and_ends_with_shutdown(strategy: str) -> None:
    """The others by their own shutdown values: 2 s, none, as long as it takes. Then the report names the offender."""
    tree = CheckedTree(
        supervisor(
            "team",
            killable("slow", shutdown="infinity"), permanent("it"), killable("stubborn", shutdown=2.0),
            child("transient"), killable("brutal", shutdown="brutal_kill"), child("brief", restart="temporary"),
            strategy=strategy, max_restarts=0, restart="temporary",
        ),
        permanent("bystander"),
    )  # fmt: skip
    tree.complete("team/transient")
    tree.manual |= {"team/slow", "team/stubborn", "team/brutal"}
    tree.advance(1.0)
    mark = tree.mark()
    tree.crash("team/it")
    tree.advance(5.0)
    tree.end("team/slow", NORMAL)
    assert story(tree, mark) == (
        at(1.0, "CRASHED(exception) team/it, TERMINATED(exception) team/it")
        + at(1.0, "STOPPING(supervisor) team/brief, TERMINATED(shutdown) team/brief")
        + at(1.0, "STOPPING(supervisor) team/brutal, TERMINATED(shutdown) team/brutal")
        + at(1.0, "STOPPING(supervisor) team/stubborn")
        + at(3.0, "TERMINATED(shutdown) team/stubborn, STOPPING(supervisor) team/slow")
        + at(6.0, "TERMINATED(shutdown) team/slow, SUPERVISOR_TERMINATED(max_restarts) team")
    )
    ((_, data),) = tree.events("SUPERVISOR_TERMINATED")
    assert data == SupervisorTerminated(GAVE_UP, "team/it")
    assert tree.states() == {"bystander": "ready"}


@pytest.mark.otp("X09")
def test_the_offender_has_no_run_left_when_its_supervisor_ends() -> None:
    tree = CheckedTree(permanent("a"), permanent("it"), max_restarts=0)
    tree.manual.add("a")
    tree.crash("it")
    assert [run.path for run in tree.live] == ["a"]
    assert tree.state("it") == "stopped"


@pytest.mark.otp("X10")
@pytest.mark.parametrize("parent", STRATEGIES)
@pytest.mark.parametrize(("restart", "after"), [("permanent", "ready"), ("transient", "failed"), ("temporary", "gone")])
def test_a_supervisor_that_gives_up_ends_with_shutdown_which_its_parent_takes_for_a_good_end(
    parent: str, restart: str, after: str
) -> None:
    tree = CheckedTree(
        permanent("a"), supervisor("team", permanent("x"), max_restarts=0, restart=restart, backoff=None),
        permanent("z"), strategy=parent, max_restarts=1,
    )  # fmt: skip
    mark = tree.mark()
    tree.crash("team/x")
    comes_back = restart == "permanent"
    behind = {"one_for_all": "za", "rest_for_one": "z"}.get(parent, "") if comes_back else ""
    before = "a" in behind
    is_rest = parent == "rest_for_one"
    assert story(tree, mark) == at(
        0.0,
        "CRASHED(exception) team/x, TERMINATED(exception) team/x, SUPERVISOR_TERMINATED(max_restarts) team",
        *(["SUPERVISOR_RESTARTING(failure) team", stops(*behind)] if comes_back else []),
        "STARTING a" if before else "",
        "SUPERVISOR_STARTED team, STARTING team/x" if comes_back else "",
        f"{'WAITING' if is_rest else 'STARTING'} z" if behind else "",
        "READY a" if before else "",
        "READY team/x, SUPERVISOR_READY team" if comes_back else "",
        "STARTING z" if behind and is_rest else "",
        "READY z" if behind else "",
    )
    assert tree.states().get("team", "gone") == after
    assert stamps(tree) == int(comes_back)
    assert (tree.state("a"), tree.state("z"), tree.exit_code) == ("ready", "ready", None)


@pytest.mark.otp("X10")
def test_giving_up_goes_up_one_level_at_a_time() -> None:
    leaf = supervisor("s3", permanent("leaf"), max_restarts=0, backoff=None)
    tree = CheckedTree(
        supervisor("s1", supervisor("s2", leaf, max_restarts=0, backoff=None), max_restarts=0, backoff=None),
        max_restarts=1,
    )
    mark = tree.mark()
    tree.crash("s1/s2/s3/leaf")
    assert tree.lines("SUPERVISOR_TERMINATED", "SUPERVISOR_RESTARTING", since=mark) == [
        "SUPERVISOR_TERMINATED s1/s2/s3", "SUPERVISOR_TERMINATED s1/s2", "SUPERVISOR_TERMINATED s1",
        "SUPERVISOR_RESTARTING s1",
    ]  # fmt: skip
    assert set(tree.states().values()) == {"ready"}
    assert stamps(tree) == 1
    tree.crash("s1/s2/s3/leaf")
    assert tree.exit_code == 70


@pytest.mark.otp("X11")
@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("how", ["gave up", "by command", "with its group"])
def test_a_supervisor_that_starts_again_has_an_empty_window(limit: int, how: str) -> None:
    tree = CheckedTree(
        supervisor("team", permanent("x"), max_restarts=limit, backoff=None), permanent("other"),
        strategy="one_for_all", max_restarts=1,
    )  # fmt: skip
    for _ in range(limit):
        tree.crash("team/x")
    assert stamps(tree, "team") == limit
    match how:
        case "gave up":
            tree.crash("team/x")
        case "by command":
            tree.restart_agent("team")
        case _:
            tree.crash("other")
    assert tree.node("team").incarnation == 2
    assert stamps(tree, "team") == 0
    for _ in range(limit):
        tree.crash("team/x")
    assert (tree.node("team").incarnation, stamps(tree, "team")) == (2, limit)


class Moment(float):
    """A time that counts how often any of its kind is looked at."""

    looks = 0

    def __sub__(self, other: float) -> float:
        Moment.looks += 1
        return float(self) - float(other)

    def __rsub__(self, other: float) -> float:
        Moment.looks += 1
        return float(other) - float(self)

    def __le__(self, other: object) -> bool:
        Moment.looks += 1
        return float(self) <= float(other)  # type: ignore[arg-type]


@pytest.mark.otp("X12")
@pytest.mark.parametrize("limit", [0, 1, 10, 1000, 100_000])
def test_the_window_looks_at_a_bounded_number_of_stamps_and_keeps_no_more_than_it_needs(limit: int) -> None:
    window = RestartWindow(limit, 1e9)
    for second in range(limit):
        assert window.add(float(second))
    Moment.looks = 0
    assert not window.add(Moment(limit))
    assert Moment.looks <= 4
    for second in range(limit, limit + 10):
        assert not window.add(float(second))
    assert window.count(float(limit)) == limit + 1


@pytest.mark.otp("X12")
def test_a_supervisor_with_a_long_history_of_restarts_judges_as_on_its_first_day() -> None:
    tree = CheckedTree(permanent("a"), max_restarts=3, max_seconds=1.0)
    for number in range(500):
        tree.now = number * 0.5
        tree.crash("a")
    assert tree.exit_code is None
    tree.crash("a")
    assert tree.exit_code == 70


@pytest.mark.otp("X07", "X13")
@pytest.mark.parametrize("paths", ["abc", "aab", "ccc"])
def test_a_dynamic_supervisor_counts_over_all_its_children(paths: str) -> None:
    tree = pool_of(*(permanent(name) for name in "abc"), max_restarts=2, restart="temporary")
    for name in paths[:2]:
        tree.crash(f"pool/{name}")
    assert tree.state("pool") == "ready"
    tree.crash(f"pool/{paths[2]}")
    assert tree.states() == {}


@pytest.mark.otp("X13")
@pytest.mark.parametrize("limit", [0, 1, 2, 7])
@pytest.mark.parametrize("period", [0.25, 1.0, 5.0])
def test_a_dynamic_supervisor_judges_any_history_as_any_other_supervisor_does(limit: int, period: float) -> None:
    numbers = random.Random(f"dynamic {limit} {period}")
    for _ in range(20):
        now, times = 0.0, []
        for _ in range(30):
            now += numbers.choice((0, 1, 2, 4, 8, 40)) / 8
            times.append(now)
        expected = too_much(times, limit, period)
        tree = pool_of(
            *(permanent(name) for name in "abc"), max_restarts=limit, max_seconds=period, restart="temporary"
        )
        found = None
        for number, time in enumerate(times):
            tree.advance(time - tree.now)
            tree.crash(f"pool/{'abc'[number % 3]}")
            if tree.states() == {}:
                found = time
                break
        assert found == expected


@pytest.mark.otp("X13")
@pytest.mark.parametrize(("gap", "lives"), [(5.0, False), (5.0009765625, True)])
def test_the_bound_of_a_dynamic_supervisor_is_inclusive_too(gap: float, lives: bool) -> None:
    tree = pool_of(permanent("a"), max_restarts=1, max_seconds=5.0, restart="temporary")
    tree.crash("pool/a")
    tree.advance(gap)
    tree.crash("pool/a")
    assert (tree.states() != {}) is lives


@pytest.mark.otp("X13", "X09")
def test_a_dynamic_supervisor_that_gives_up_stops_all_at_once_and_comes_back_empty() -> None:
    tree = CheckedTree(supervisor("pool", dynamic=True, backoff=None, max_restarts=0))
    for name in "abc":
        tree.start_child("pool", permanent(name))
    mark = tree.mark()
    tree.crash("pool/b")
    assert story(tree, mark) == at(
        0.0,
        "CRASHED(exception) pool/b, TERMINATED(exception) pool/b",
        "STOPPING(supervisor) pool/c, STOPPING(supervisor) pool/a",
        "TERMINATED(shutdown) pool/c, TERMINATED(shutdown) pool/a",
        "SUPERVISOR_TERMINATED(max_restarts) pool, SUPERVISOR_RESTARTING(failure) pool",
        "SUPERVISOR_STARTED pool, SUPERVISOR_READY pool, ALL_AGENTS_TERMINATED",
    )
    assert tree.states() == {"pool": "ready"}


def two_stamps(path: str) -> CheckedTree:
    """Return a tree whose supervisor at `path` allows 5 restarts in 10 s, and decided on one at 1 s and at 2 s."""
    policy: dict[str, Any] = {"max_restarts": 5, "max_seconds": 10.0}
    tree = (
        CheckedTree(supervisor(path, permanent("a"), restart="temporary", **policy))
        if path
        else CheckedTree(permanent("a"), **policy)
    )
    for _ in range(2):
        tree.advance(1.0)
        tree.crash(f"{path}/a".lstrip("/"))
    return tree


@pytest.mark.otp("X14")
@pytest.mark.parametrize("path", ["", "team"])
@pytest.mark.parametrize(
    ("changes", "then", "lives"),
    [
        ({"max_restarts": 2}, 3.0, False),
        ({"max_restarts": 3}, 3.0, True),
        ({"max_restarts": 0}, 3.0, False),
        ({"max_restarts": 0}, 1000.0, False),
        ({"max_restarts": 1}, 12.0, False),
        ({"max_restarts": 1}, 12.5, True),
        ({"max_restarts": 2}, 11.0, False),
        ({"max_restarts": 2}, 11.5, True),
        ({"max_restarts": 2, "max_seconds": 1.5}, 3.0, True),
        ({"max_restarts": 1, "max_seconds": 1.0}, 3.0, False),
        ({"max_restarts": 1, "max_seconds": 0.5}, 3.0, True),
        ({"max_restarts": 2, "max_seconds": 100.0}, 90.0, False),
        ({"max_restarts": 2, "max_seconds": 100.0}, 101.5, True),
        ({"max_seconds": 0.5}, 3.0, True),
        ({"strategy": "one_for_all", "max_restarts": 2}, 3.0, False),
    ],
    ids=str,
)
def test_other_bounds_keep_the_stamps_and_hold_from_the_next_restart_on(
    path: str, changes: dict[str, object], then: float, lives: bool
) -> None:
    tree = two_stamps(path)
    mark = tree.mark()
    tree.reconfigure(path, **changes)
    assert story(tree, mark) == at(2.0, f"POLICY_CHANGED {path}".rstrip())
    tree.advance(then - 2.0)
    tree.crash(f"{path}/a".lstrip("/"))
    assert (tree.states() != {} and tree.exit_code is None) is lives


@pytest.mark.otp("X14")
def test_new_bounds_alone_end_nothing_even_if_the_stamps_are_too_many_for_them() -> None:
    tree = two_stamps("")
    mark = tree.mark()
    tree.reconfigure("", max_restarts=0)
    tree.advance(1000.0)
    assert story(tree, mark) == at(2.0, "POLICY_CHANGED")
    assert tree.exit_code is None


@pytest.mark.otp("X14")
def test_bounds_that_were_narrower_for_a_while_forget_no_stamp() -> None:
    tree = CheckedTree(permanent("a"), max_restarts=3)
    for _ in range(3):
        tree.crash("a")
    tree.reconfigure("", max_restarts=0)
    tree.reconfigure("", max_restarts=3)
    tree.crash("a")
    assert tree.exit_code == 70


@pytest.mark.otp("X08")
def test_a_failed_start_that_fails_the_whole_start_is_not_counted() -> None:
    settings = Settings(strict_start=True)
    tree = CheckedTree(permanent("it"), max_restarts=0, settings=settings, started=False)
    tree.failing.add("it")
    tree.start()
    assert tree.lines("AGENT_RESTARTING") == []
    assert stamps(tree) == 0
    assert tree.core.world.stop_cause == "start_failed"


@pytest.mark.otp("X14")
@pytest.mark.parametrize("limit", [6, 10, 100])
def test_wider_bounds_allow_as_many_more_as_they_say(limit: int) -> None:
    tree = two_stamps("")
    tree.reconfigure("", max_restarts=limit)
    for _ in range(limit - 2):
        tree.crash("a")
    assert (stamps(tree), tree.exit_code) == (limit, None)
    tree.crash("a")
    assert tree.exit_code == 70
