"""Planned restarts: of runs that use too much memory or are too old. Virtual time."""

from __future__ import annotations

import pytest
from checked import CheckedTree
from stories import LIFE, Story, told
from tenacity import stop_after_attempt, wait_fixed
from virtual import AsyncWorker, VirtualTree, Worker, agent, refused

from orchestree.agents.agent import LoopingAgent
from orchestree.agents.async_agent import PeriodicAsyncAgent
from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, CrashReport, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunMemory
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.events import AgentCrashed, AgentParked, AgentRestarting, RestartCause, StopCause
from orchestree.supervisor.inputs import KillRun, MeasureRun, RecycleRun, Tick
from orchestree.supervisor.spec import AgentEntry

pytestmark = pytest.mark.policy

MIB = 2**20
ONCE = Backoff(stop=stop_after_attempt(1))
LATE = Backoff(wait=wait_fixed(10.0), jitter=0.0)


class Looper(LoopingAgent):
    """Only the script moves it."""

    def runner(self) -> None: ...


class AsyncLooper(PeriodicAsyncAgent):
    """Only the script moves it."""

    async def runner(self) -> None: ...


def looper(name: str, **fields: object) -> AgentEntry:
    return AgentEntry(Looper, name, **{"executor": "process", **fields})  # type: ignore[arg-type]


def times(tree: VirtualTree, kind: type) -> int:
    return sum(isinstance(effect, kind) for effect in tree.effects)


def a_heavy_one(used: int = 200 * MIB, *others: AgentEntry, **fields: object) -> Story:
    """Return a tree in which ``a`` was fine at first and uses so much from now on."""
    tree = Story(looper("a", **{"max_memory": 100 * MIB, **fields}), *others)
    tree.forget()
    tree.memory["a"] = used
    return tree


def crash_of(tree: VirtualTree, path: str = "a") -> AgentCrashed:
    ((_, data),) = tree.events("AGENT_CRASHED", path)
    assert isinstance(data, AgentCrashed)
    return data


def test_memory_is_measured_as_soon_as_it_is_ready_and_every_five_seconds() -> None:
    tree = CheckedTree(looper("a", max_memory=100))
    tree.memory["a"] = 100
    seen = []
    for seconds in (0.0, 4.9, 0.1, 4.9, 0.1, 90.0):
        tree.advance(seconds)
        seen.append(times(tree, MeasureRun))
    assert (seen, tree.lines("AGENT_CRASHED"), times(tree, RecycleRun)) == ([1, 1, 2, 2, 3, 21], [], 0)


def test_a_late_measurement_is_not_made_up_for() -> None:
    tree = CheckedTree(looper("a", max_memory=100))
    tree.now = 42.0
    tree.tell(Tick())
    assert (times(tree, MeasureRun), tree.core.next_deadline()) == (2, 47.0)


def test_one_that_uses_too_much_is_recycled_at_the_end_of_its_round_and_that_is_no_failure() -> None:
    tree = a_heavy_one()
    tree.advance(7.0)
    assert (told(tree), times(tree, RecycleRun), tree.requests) == ([], 1, [])
    tree.memory.clear()
    tree.complete("a")
    assert told(tree) == ["7 RESTARTING a", "7 STARTING a", "7 READY a"]
    assert tree.events("AGENT_RESTARTING") == [(7.0, AgentRestarting(RestartCause.MEMORY, 0.0, 0))]
    assert tree.core.world.root.window.count(tree.now) == 0
    assert (tree.node("a").restarts_total, tree.node("a").incarnation) == (1, 2)


def test_nothing_is_measured_while_it_is_being_recycled() -> None:
    tree = a_heavy_one(shutdown="infinity")
    tree.advance(100.0)
    assert (times(tree, MeasureRun), times(tree, RecycleRun), tree.core.next_deadline()) == (2, 1, None)
    tree.tell(RunMemory(tree.run_of("a"), 300 * MIB))
    assert (tree.state("a"), times(tree, RecycleRun)) == ("ready", 1)


@pytest.mark.parametrize("shutdown", [5.0, 0.5, 0.0])
def test_one_that_does_not_end_between_two_rounds_within_its_shutdown_time_is_killed(shutdown: float) -> None:
    tree = a_heavy_one(shutdown=shutdown, backoff=LATE)
    tree.advance(14.0)
    at = f"{5.0 + shutdown:g}"
    assert told(tree) == [f"{at} STOPPING a", f"{at} CRASHED a", f"{at} RESTARTING a"]
    assert tree.requests == [f"{at} kill a"]
    assert KillRun(RunId("a", 1), hung=False) in tree.effects
    crash = crash_of(tree)
    assert crash.reason == abnormal(Cause.MEMORY)
    assert (crash.report.cause, crash.report.uptime_s) == (Cause.MEMORY, 5.0 + shutdown)
    assert crash.report.message == (
        f"uses 200.0 MiB, more than max_memory (100.0 MiB), and did not end within {shutdown:g} s"
    )
    assert tree.core.world.root.window.count(tree.now) == 1


def test_one_that_is_killed_late_is_told_the_time_that_it_was_given() -> None:
    tree = a_heavy_one(shutdown=3.0, backoff=LATE)
    tree.advance(5.0)
    tree.now = 50.0
    tree.tell(Tick())
    assert crash_of(tree).report.message.endswith(", and did not end within 3 s")


def test_with_brutal_kill_it_is_killed_at_once() -> None:
    tree = a_heavy_one(shutdown="brutal_kill", backoff=LATE)
    tree.advance(5.0)
    assert (tree.requests, times(tree, RecycleRun)) == (["5 kill a"], 0)
    assert crash_of(tree).report.message == "uses 200.0 MiB, more than max_memory (100.0 MiB)"


def test_one_that_uses_too_much_from_the_beginning_is_killed_and_parks_without_a_stamp() -> None:
    tree = Story(looper("a", max_memory=100 * MIB, backoff=None, restart="permanent"), agent("b"), started=False)
    tree.memory["a"] = 120 * MIB
    tree.start()
    assert told(tree, *LIFE) == [
        "0 SUPERVISOR_STARTED", "0 STARTING a", "0 STARTING b", "0 STOPPING a", "0 CRASHED a", "0 PARKED a",
    ]  # fmt: skip
    why = "uses 120.0 MiB, more than max_memory (100.0 MiB), right after setup()"
    assert tree.events("AGENT_PARKED") == [(0.0, AgentParked(why, 1))]
    assert (crash_of(tree).reason, crash_of(tree).report.message) == (abnormal(Cause.MEMORY), why)
    assert (tree.requests, tree.state("b")) == (["0 kill a"], "ready")
    assert tree.core.world.root.window.count(tree.now) == 0


def test_one_that_is_temporary_and_uses_too_much_from_the_beginning_has_failed() -> None:
    tree = CheckedTree(looper("a", max_memory=100, restart="temporary"), started=False)
    tree.memory["a"] = 101
    tree.start()
    assert tree.lines("AGENT_PARKED", "AGENT_TERMINATED") == ["TERMINATED a"]


def test_one_that_parked_for_its_memory_may_be_started_by_hand() -> None:
    tree = CheckedTree(looper("a", max_memory=100), started=False)
    tree.memory["a"] = 101
    tree.start()
    tree.memory.clear()
    tree.start_agent("a")
    tree.memory["a"] = 101
    tree.advance(5.0)
    tree.memory.clear()
    tree.complete("a")
    assert tree.lines("AGENT_PARKED", "AGENT_RESTARTING") == ["PARKED a", "RESTARTING a"]


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN])
def test_a_recycled_run_comes_back_at_once_whatever_its_restart_type_is(restart: str, reason: ExitReason) -> None:
    tree = Story(looper("a", max_age=60.0, restart=restart, backoff=ONCE), started=False)
    tree.start()
    tree.forget()
    tree.advance(60.0)
    tree.end("a", reason)
    assert told(tree) == ["60 RESTARTING a", "60 STARTING a", "60 READY a"]
    assert tree.events("AGENT_RESTARTING") == [(60.0, AgentRestarting(RestartCause.MAX_AGE, 0.0, 0))]


def test_what_went_wrong_in_the_end_of_a_recycled_run_is_told() -> None:
    tree = Story(looper("a", max_age=60.0))
    tree.advance(60.0)
    run = tree.run_of("a")
    del tree.live[run]
    report = CrashReport(cause=Cause.NORMAL, message="teardown: OSError: x", notes=("teardown: OSError: x",))
    tree.tell(RunEnded(run=run, reason=NORMAL, report=report))
    expected = AgentRestarting(RestartCause.MAX_AGE, 0.0, 0, "teardown: OSError: x")
    assert tree.events("AGENT_RESTARTING") == [(60.0, expected)]


def test_a_looping_agent_that_is_too_old_is_recycled_again_and_again() -> None:
    tree = Story(looper("a", max_age=60.0, executor="thread"))
    tree.rounds.add("a")
    tree.forget()
    tree.advance(180.0)
    assert told(tree, "AGENT_STARTING") == ["60 STARTING a", "120 STARTING a", "180 STARTING a"]
    assert tree.requests == []


def test_one_that_is_too_old_is_never_killed() -> None:
    tree = Story(looper("a", max_age=60.0, shutdown=1.0))
    tree.forget()
    tree.advance(10_000.0)
    assert (told(tree), times(tree, RecycleRun), tree.core.next_deadline()) == ([], 1, None)


def test_the_age_counts_from_when_it_became_ready() -> None:
    tree = CheckedTree(looper("a", max_age=10.0, start_timeout=None), started=False)
    tree.manual.add("a")
    tree.start()
    tree.advance(100.0)
    tree.ready("a")
    assert tree.core.next_deadline() == 110.0


def test_recycling_touches_no_sibling_and_no_streak() -> None:
    tree = Story(agent("b"), looper("a", max_age=5.0, backoff=Backoff()), agent("c"), strategy="one_for_all")
    tree.crash("a")
    assert tree.node("a").streak.failures == 1
    tree.forget()
    tree.advance(5.0)
    tree.complete("a")
    assert tree.incarnations() == {"b": 2, "a": 3, "c": 2}
    assert told(tree) == ["5 RESTARTING a", "5 STARTING a", "5 READY a"]
    assert tree.node("a").streak.failures == 1
    assert tree.core.world.root.window.count(tree.now) == 1


def test_a_stable_run_ends_the_streak_also_if_it_is_recycled() -> None:
    tree = Story(looper("a", max_age=100.0, backoff=Backoff(stable_after=30.0)))
    tree.crash("a")
    tree.advance(100.0)
    tree.complete("a")
    tree.crash("a")
    (_, data) = tree.events("AGENT_RESTARTING")[-1]
    assert data == AgentRestarting(RestartCause.FAILURE, 0.0, 1)


def test_a_crash_while_it_is_to_be_recycled_is_a_crash() -> None:
    tree = a_heavy_one(backoff=LATE)
    tree.advance(6.0)
    tree.crash("a")
    assert told(tree) == ["6 CRASHED a", "6 RESTARTING a"]
    assert crash_of(tree).reason == abnormal(Cause.EXCEPTION)
    tree.advance(9.9)
    assert tree.state("a") == "backoff"


@pytest.mark.parametrize("max_age", [None, 3.0])
def test_a_command_overrides_a_recycling(max_age: float | None) -> None:
    for command, lines in (
        ("stop_agent", ["6 COMMAND a", "6 STOPPING a", "6 TERMINATED a"]),
        ("restart_agent", ["6 COMMAND a", "6 STOPPING a", "6 RESTARTING a", "6 STARTING a", "6 READY a"]),
    ):
        tree = a_heavy_one(200 * MIB, agent("b"), max_age=max_age)
        tree.advance(6.0)
        tree.memory.clear()
        getattr(tree, command)("a")
        assert told(tree) == lines
        tree.advance(4.0)
        assert tree.requests == ["6 ask a"]


def test_the_end_of_the_tree_overrides_a_recycling() -> None:
    tree = a_heavy_one()
    tree.advance(6.0)
    tree.stop()
    assert told(tree, "AGENT_TERMINATED", "AGENT_RESTARTING") == ["6 TERMINATED a"]
    assert tree.exit_code == 0


def test_a_group_restart_overrides_a_recycling() -> None:
    tree = Story(looper("a", max_age=5.0), agent("b", backoff=None), strategy="one_for_all")
    tree.forget()
    tree.advance(5.0)
    tree.crash("b")
    ((_, data),) = tree.events("AGENT_RESTARTING", "a")
    assert data == AgentRestarting(RestartCause.GROUP, 0.0, 0)


def test_one_that_waits_for_its_turn_to_stop_is_neither_recycled_nor_measured() -> None:
    tree = Story(
        looper("a", max_age=5.0, max_memory=100), agent("b", shutdown=60.0), agent("c", backoff=LATE),
        strategy="one_for_all",
    )  # fmt: skip
    tree.stubborn.add("b")
    tree.crash("c")
    tree.memory["a"] = 1000
    tree.tell(RunMemory(tree.run_of("a"), 1000))
    tree.advance(50.0)
    assert (times(tree, RecycleRun), times(tree, MeasureRun)) == (0, 1)


def test_one_that_is_too_old_and_then_uses_too_much_is_asked_once_and_killed_in_the_end() -> None:
    tree = a_heavy_one(used=50, max_age=7.0, shutdown=2.0, backoff=LATE)
    tree.advance(8.0)
    tree.memory["a"] = 200 * MIB
    tree.advance(4.0)
    assert (times(tree, RecycleRun), tree.requests) == (1, ["12 kill a"])
    assert crash_of(tree).reason == abnormal(Cause.MEMORY)


def test_one_that_uses_too_much_is_not_too_old_as_well() -> None:
    tree = a_heavy_one(max_age=6.0, shutdown=20.0)
    tree.advance(7.0)
    tree.complete("a")
    ((_, data),) = tree.events("AGENT_RESTARTING")
    assert (data, times(tree, RecycleRun)) == (AgentRestarting(RestartCause.MEMORY, 0.0, 0), 1)


def test_a_run_that_hangs_while_it_is_to_be_recycled_is_hung() -> None:
    tree = Story(looper("a", max_age=5.0, watchdog=20.0, backoff=LATE))
    tree.beats["a"] = (0.0, "")
    tree.advance(20.0)
    assert crash_of(tree).reason == abnormal(Cause.WATCHDOG)


def test_a_recycled_run_keeps_its_slot_but_waits_for_what_it_depends_on() -> None:
    tree = Story(agent("b", backoff=LATE), looper("a", max_age=5.0, depends_on=["b"]))
    tree.crash("b")
    tree.advance(5.0)
    tree.complete("a")
    assert tree.states() == {"b": "backoff", "a": "waiting"}
    tree.advance(5.0)
    assert tree.states() == {"b": "ready", "a": "ready"}


def test_an_answer_about_another_run_or_without_a_limit_changes_nothing() -> None:
    tree = Story(looper("a", max_memory=100), looper("b"), looper("c", max_age=9.0))
    tree.forget()
    for path, incarnation in (("a", 0), ("b", 1), ("c", 1), ("d", 1)):
        tree.tell(RunMemory(RunId(path, incarnation), 1000))
    assert (told(tree), times(tree, RecycleRun)) == ([], 0)


def test_an_answer_about_a_run_that_has_ended_changes_nothing() -> None:
    tree = a_heavy_one(backoff=LATE)
    tree.crash("a")
    tree.forget()
    tree.tell(RunMemory(RunId("a", 1), 1000 * MIB))
    assert (told(tree), times(tree, RecycleRun)) == ([], 0)


def test_the_next_run_of_one_that_crashed_while_it_was_to_be_recycled_is_not_recycled() -> None:
    tree = Story(looper("a", max_age=5.0, backoff=LATE))
    tree.advance(5.0)
    tree.crash("a")
    tree.reconfigure("a", max_age=None)
    tree.advance(10.0)
    tree.complete("a")
    assert tree.state("a") == "completed"


def test_a_new_max_age_counts_from_when_it_became_ready() -> None:
    tree = CheckedTree(looper("a", max_age=100.0))
    tree.advance(20.0)
    tree.reconfigure("a", max_age=30)
    assert tree.core.next_deadline() == 30.0
    tree.reconfigure("a", max_age=None)
    assert tree.core.next_deadline() is None
    tree.reconfigure("a", max_age=5.0)
    assert tree.core.next_deadline() == 20.0
    tree.advance(0.0)
    assert times(tree, RecycleRun) == 1
    tree.reconfigure("a", max_age=50.0)
    assert tree.core.next_deadline() is None


def test_a_first_max_memory_is_looked_at_at_once_and_does_not_park() -> None:
    tree = Story(looper("a"))
    tree.memory["a"] = 1000
    tree.advance(20.0)
    tree.reconfigure("a", max_memory=999)
    assert (times(tree, RecycleRun), tree.core.next_deadline()) == (1, 25.0)
    tree.complete("a")
    assert tree.lines("AGENT_PARKED", "AGENT_RESTARTING") == ["RESTARTING a", "PARKED a"]  # the next run is no better


def test_a_new_max_memory_holds_from_the_next_measurement_on() -> None:
    tree = a_heavy_one(used=200)
    tree.advance(2.0)
    tree.reconfigure("a", max_memory=100)
    assert (times(tree, MeasureRun), tree.core.next_deadline()) == (1, 5.0)
    tree.advance(3.0)
    assert times(tree, RecycleRun) == 1


def test_without_max_memory_nothing_is_measured_and_nothing_is_killed_any_more() -> None:
    tree = a_heavy_one()
    tree.advance(6.0)
    tree.reconfigure("a", max_memory=None)
    assert tree.core.next_deadline() is None
    tree.advance(100.0)
    assert (tree.requests, times(tree, MeasureRun)) == ([], 2)


@pytest.mark.parametrize(("shutdown", "at"), [(1.0, [6.0]), (30.0, [35.0]), ("infinity", []), ("brutal_kill", [6.0])])
def test_a_new_shutdown_time_counts_from_when_the_recycling_began(shutdown: float | str, at: list[float]) -> None:
    tree = a_heavy_one(shutdown=5.0, backoff=LATE)
    tree.advance(6.0)
    tree.reconfigure("a", shutdown=shutdown)
    tree.advance(35.0)
    assert [now for now, data in tree.events("AGENT_STOPPING", "a")][:1] == at


def test_a_new_shutdown_time_of_what_is_not_recycled_sets_no_timer() -> None:
    tree = CheckedTree(looper("a", max_age=100.0))
    tree.reconfigure("a", shutdown=1.0)
    assert tree.core.next_deadline() == 100.0


def test_the_purposes_of_what_was_given_up_on_are_told() -> None:
    tree = a_heavy_one(shutdown="brutal_kill", backoff=LATE)
    tree.advance(5.0)
    ((_, data),) = tree.events("AGENT_STOPPING", "a")
    assert data.cause is StopCause.MEMORY  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"watchdog": 0}, "agent 'a': watchdog=0: must be a finite number of seconds, above 0"),
        ({"watchdog": True}, "agent 'a': watchdog=True: must be a finite number of seconds, above 0"),
        ({"max_age": -1.0}, "agent 'a': max_age=-1.0: must be a finite number of seconds, above 0"),
        ({"max_age": "1"}, "agent 'a': max_age='1': must be a finite number of seconds, above 0"),
        ({"max_memory": 0}, "agent 'a': max_memory=0: must be a whole number, 1 or more"),
        ({"max_memory": True}, "agent 'a': max_memory=True: must be a whole number, 1 or more"),
        ({"max_memory": 1e9}, "agent 'a': max_memory=1000000000.0: must be a whole number, 1 or more"),
        ({"max_memory": 10, "executor": "thread"},
         "agent 'a': max_memory=10: needs executor='process': only a process has memory of its own"),
    ],
)  # fmt: skip
def test_a_wrong_limit_is_told_with_field_value_and_rule(fields: dict[str, object], message: str) -> None:
    error = refused(lambda: looper("a", **fields))
    assert (type(error), str(error)) == (SpecError, message)


@pytest.mark.parametrize("kind", [Worker, AsyncWorker])
def test_only_what_has_rounds_can_have_a_max_age(kind: type) -> None:
    error = refused(lambda: AgentEntry(kind, "a", max_age=5))
    assert str(error) == ("agent 'a': max_age=5: needs a looping or periodic agent, which can end between two rounds")
    assert AgentEntry(kind, "a", max_age=None).max_age is None


def test_limits_are_kept_as_given() -> None:
    entry = AgentEntry(AsyncLooper, "a", executor="process", watchdog=1, max_memory=5, max_age=2)
    assert (entry.watchdog, entry.max_memory, entry.max_age) == (1.0, 5, 2.0)
    plain = AgentEntry(Looper, "a")
    assert (plain.watchdog, plain.max_memory, plain.max_age) == (None, None, None)


def test_reconfigure_checks_the_limits() -> None:
    tree = VirtualTree(agent("a"))
    assert "max_age=5: needs a looping" in str(refused(lambda: tree.reconfigure("a", max_age=5)))
    assert "max_memory=5: needs executor='process'" in str(refused(lambda: tree.reconfigure("a", max_memory=5)))
