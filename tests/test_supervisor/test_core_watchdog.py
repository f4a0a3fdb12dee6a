"""Alive but hung: when a watchdog looks, whom it condemns and whom it spares, what follows. Virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from checked import CheckedTree
from stories import LIFE, Story, told
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, agent, process

from orchestree.agents.ends import NORMAL, Cause, CrashReport, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunProgress
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.events import AgentCrashed, AgentHung, AgentWedged, StopCause
from orchestree.supervisor.inputs import KillRun, LookAtRun, Tick
from orchestree.supervisor.stopping import GIVEN_UP_S, GRACE_S
from orchestree.supervisor.streaks import current_streak

pytestmark = pytest.mark.policy

LATE = Backoff(wait=wait_fixed(10.0), jitter=0.0)
OF_HANGS = (*LIFE, "AGENT_HUNG", "AGENT_READY")


def looks(tree: VirtualTree) -> int:
    return sum(isinstance(effect, LookAtRun) for effect in tree.effects)


def next_look(tree: VirtualTree) -> float | None:
    return tree.core.next_deadline()


def hung(tree: VirtualTree, path: str = "a") -> list[tuple[float, AgentHung]]:
    return [(now, data) for now, data in tree.events("AGENT_HUNG", path) if isinstance(data, AgentHung)]


def last_report(tree: VirtualTree, path: str = "a") -> CrashReport:
    (_, data) = tree.events("AGENT_CRASHED", path)[-1]
    assert isinstance(data, AgentCrashed)
    assert data.report.decision == "restart"
    return replace(data.report, decision="", delay_s=None)


def test_a_hung_process_is_killed_at_once_and_that_is_a_crash_like_any_other() -> None:
    tree = Story(process("a", watchdog=10.0, backoff=LATE), process("b"), max_restarts=1)
    tree.beats["a"] = (0.0, "loading 7")
    tree.forget()
    tree.advance(10.0)
    assert tree.core.world.root.window.count(tree.now) == 1
    tree.advance(15.0)
    assert told(tree, *OF_HANGS) == [
        "10 HUNG a", "10 STOPPING a", "10 CRASHED a", "10 RESTARTING a", "20 STARTING a", "20 READY a",
    ]  # fmt: skip
    assert tree.requests == ["10 kill a"]
    assert hung(tree) == [(10.0, AgentHung(10.0, "loading 7", 10.0))]
    assert [effect for effect in tree.effects if isinstance(effect, KillRun)] == [KillRun(RunId("a", 1), hung=True)]
    ((_, crash),) = tree.events("AGENT_CRASHED", "a")
    assert isinstance(crash, AgentCrashed)
    assert crash.reason == abnormal(Cause.WATCHDOG)


def test_the_report_of_the_executor_is_kept_but_for_cause_and_message() -> None:
    tree = Story(process("a", watchdog=2.0, backoff=LATE), started=False)
    tree.undying.add("a")
    tree.start()
    tree.beats["a"] = (0.0, "")
    tree.advance(2.0)
    killed = CrashReport(cause=Cause.SIGNAL, message="killed by SIGKILL", signal="SIGKILL", pid=7, traceback="stacks")
    tree.advance(0.5)
    run = tree.run_of("a")
    del tree.live[run]
    tree.tell(RunEnded(run=run, reason=abnormal(Cause.SIGNAL), report=killed))
    assert last_report(tree) == CrashReport(
        cause=Cause.WATCHDOG, message="no progress for 2 s (watchdog 2 s)", signal="SIGKILL", pid=7,
        traceback="stacks", uptime_s=2.5,
    )  # fmt: skip


def test_a_start_timeout_keeps_the_report_of_the_executor_as_well() -> None:
    tree = Story(process("a", start_timeout=2.0, backoff=LATE), started=False)
    tree.undying.add("a")
    tree.manual.add("a")
    tree.start()
    tree.advance(2.0)
    tree.end("a", abnormal(Cause.SIGNAL), "killed by SIGKILL", signal="SIGKILL", pid=7, phase="setup")
    assert last_report(tree) == CrashReport(
        cause=Cause.START_TIMEOUT, message="setup() did not return within 2 s", phase="setup", signal="SIGKILL",
        pid=7, uptime_s=2.0,
    )  # fmt: skip
    assert KillRun(RunId("a", 1), hung=True) in tree.effects


def test_who_makes_progress_is_looked_at_once_for_each_watchdog_time_and_left_alone() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.advance(1000.0)
    assert (looks(tree), hung(tree), tree.state("a")) == (100, [], "ready")


def test_the_next_look_is_due_when_the_rest_of_the_time_is_over() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (4.0, "")
    tree.advance(10.0)
    assert (next_look(tree), tree.state("a")) == (14.0, "ready")
    tree.advance(4.0)
    assert hung(tree) == [(14.0, AgentHung(10.0, "", 10.0))]


def test_the_first_look_counts_from_the_moment_at_which_it_became_ready() -> None:
    tree = CheckedTree(process("a", watchdog=10.0), started=False)
    tree.manual.add("a")
    tree.start()
    tree.advance(7.0)
    assert next_look(tree) == 60.0  # its start_timeout
    tree.beats["a"] = (6.5, "")
    tree.ready("a")
    assert next_look(tree) == 17.0
    tree.advance(10.0)
    assert hung(tree) == [(17.0, AgentHung(10.5, "", 10.0))]


def test_one_that_waits_for_its_next_round_is_not_hung_before_that_was_due_long_ago() -> None:
    tree = CheckedTree(process("a", watchdog=1.0))
    tree.beats["a"] = (3600.0, "")
    tree.advance(1.0)
    assert next_look(tree) == 3601.0
    tree.advance(3600.0)
    assert hung(tree) == [(3601.0, AgentHung(1.0, "", 1.0))]


@pytest.mark.parametrize("late", [0.0, 0.5, 0.99])
def test_the_time_by_which_the_look_comes_too_late_does_not_count(late: float) -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (4.0, "")
    tree.now = 10.0 + late
    tree.tell(Tick())
    assert (hung(tree), next_look(tree)) == ([], 14.0 + late)


@pytest.mark.parametrize("late", [1.0, 6.0, 500.0])
def test_after_a_very_late_look_the_agent_gets_the_whole_time_again_also_if_it_had_gone_on_before(late: float) -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (4.0, "")
    tree.now = 10.0 + late
    tree.tell(Tick())
    assert (hung(tree), next_look(tree)) == ([], 20.0 + late)


def test_one_that_waits_on_purpose_keeps_that_time_after_a_very_late_look() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (60.0, "")
    tree.now = 20.0
    tree.tell(Tick())
    assert (hung(tree), next_look(tree)) == ([], 70.0)


def test_a_late_look_condemns_nobody_once_as_supervision_may_have_stood_still_before_it_was_due() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (0.0, "")
    tree.now = 11.0
    tree.tell(Tick())
    assert (hung(tree), next_look(tree)) == ([], 21.0)
    tree.now = 25.0
    tree.tell(Tick())
    assert hung(tree) == [(25.0, AgentHung(10.0, "", 10.0))]


def test_a_new_watchdog_of_one_that_was_spared_counts_from_then() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (0.0, "")
    tree.now = 11.0
    tree.tell(Tick())
    tree.reconfigure("a", watchdog=30.0)
    assert next_look(tree) == 41.0


def test_one_that_was_spared_and_went_on_is_spared_again() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (0.0, "")
    for now, at in ((11.0, 12.0), (21.0, 12.0), (32.0, 12.0)):
        tree.now = now
        tree.tell(Tick())
        tree.beats["a"] = (at, "")
    assert (hung(tree), next_look(tree)) == ([], 42.0)


def test_a_look_that_is_hardly_late_condemns() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (0.0, "")
    tree.now = 10.9
    tree.tell(Tick())
    assert hung(tree) == [(10.9, AgentHung(10.0, "", 10.0))]


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    tree = CheckedTree(process("a", watchdog=10.0), process("b"))
    before = tree.mark()
    for path in ("a", "b", "c"):
        tree.tell(RunProgress(RunId(path, 1), -100.0))
    tree.tell(RunProgress(RunId("a", 0), -100.0))
    assert (tree.mark(), next_look(tree)) == (before, 10.0)


def test_an_answer_that_comes_when_the_run_is_being_stopped_changes_nothing() -> None:
    tree = Story(agent("a", watchdog=10.0))
    tree.beats["a"] = None
    tree.stubborn.add("a")
    tree.advance(10.0)
    tree.stop_agent("a")
    tree.forget()
    tree.tell(RunProgress(tree.run_of("a"), 0.0))
    assert told(tree) == []
    assert next_look(tree) == 15.0  # its shutdown time


def test_a_run_of_which_nobody_gets_an_answer_is_not_condemned() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = None
    tree.advance(100.0)
    assert (looks(tree), hung(tree), tree.state("a")) == (1, [], "ready")


def test_a_thread_is_asked_then_told_then_wedged_and_comes_back_beside_its_old_run_if_it_may() -> None:
    tree = Story(agent("a", watchdog=10.0, shutdown=2.0, replace_wedged=True))
    tree.stubborn.add("a")
    tree.beats["a"] = (0.0, "")
    tree.forget()
    tree.advance(10.0)
    tree.beats.clear()
    tree.advance(5.0)
    assert told(tree, *OF_HANGS) == [
        "10 HUNG a", "10 STOPPING a", "12.1 WEDGED a", "12.1 CRASHED a", "12.1 RESTARTING a", "12.1 STARTING a",
        "12.1 READY a",
    ]  # fmt: skip
    assert tree.requests == ["10 ask a", "12 kill a"]
    assert tree.events("AGENT_WEDGED") == [(12.0 + GRACE_S, AgentWedged(StopCause.WATCHDOG))]
    assert last_report(tree) == CrashReport(
        cause=Cause.WATCHDOG, message="no progress for 10 s (watchdog 10 s)", uptime_s=12.0 + GRACE_S
    )


def test_a_wedged_thread_without_replace_wedged_comes_back_when_its_run_has_ended_with_one_stamp() -> None:
    tree = Story(agent("a", watchdog=10.0, shutdown=2.0))
    tree.stubborn.add("a")
    tree.beats["a"] = (0.0, "")
    tree.advance(1000.0)
    assert tree.state("a") == "wedged"
    assert current_streak(tree.node("a"), tree.now).failures == 1
    tree.forget()
    tree.beats.clear()
    tree.end("a", NORMAL)
    assert told(tree, *OF_HANGS) == ["1000 STARTING a", "1000 READY a"]
    assert (tree.node("a").restarts_total, tree.node("a").streak.failures) == (1, 1)


@pytest.mark.parametrize(
    ("shutdown", "told_at"), [("infinity", 10.0 + GIVEN_UP_S), ("brutal_kill", 10.0), (0.0, 10.0), (3.0, 13.0)]
)
def test_a_hung_thread_gets_its_shutdown_time_and_never_all_the_time_in_the_world(
    shutdown: float | str, told_at: float
) -> None:
    tree = Story(agent("a", watchdog=10.0, shutdown=shutdown))
    tree.stubborn.add("a")
    tree.beats["a"] = (0.0, "")
    tree.advance(100.0)
    assert tree.requests == ["10 ask a", f"{told_at:g} kill a"]
    assert [now for now, _ in tree.events("AGENT_WEDGED")] == [told_at + GRACE_S]


@pytest.mark.parametrize("shutdown", ["infinity", "brutal_kill", 0.0, 3.0])
def test_a_hung_process_is_killed_once_whatever_its_shutdown_time_is(shutdown: float | str) -> None:
    tree = Story(process("a", watchdog=10.0, shutdown=shutdown, backoff=LATE))
    tree.beats["a"] = (0.0, "")
    tree.advance(19.0)
    assert tree.requests == ["10 kill a"]


def test_a_thread_that_ends_when_it_is_asked_has_crashed_all_the_same() -> None:
    tree = Story(agent("a", watchdog=10.0, backoff=LATE))
    tree.beats["a"] = (0.0, "")
    tree.forget()
    tree.advance(10.0)
    assert told(tree, *OF_HANGS) == ["10 HUNG a", "10 STOPPING a", "10 CRASHED a", "10 RESTARTING a"]


def test_a_hang_takes_the_group_along() -> None:
    tree = Story(agent("b"), process("a", watchdog=10.0), agent("c"), strategy="rest_for_one")
    tree.beats["a"] = (0.0, "")
    tree.forget()
    tree.advance(10.0)
    assert told(tree, *LIFE) == [
        "10 STOPPING a", "10 CRASHED a", "10 RESTARTING a", "10 STOPPING c", "10 RESTARTING c", "10 STARTING a",
        "10 STARTING c",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"restart": "temporary"}, None),
        ({"backoff": Backoff(rules=(Rule(action="park", cause="watchdog"),))}, "parked"),
        ({"backoff": Backoff(stop=stop_after_attempt(1))}, "parked"),
        ({"backoff": None}, "ready"),
    ],
)
def test_restart_type_rules_and_policy_decide_about_a_hang(fields: dict[str, object], state: str | None) -> None:
    tree = Story(process("a", watchdog=10.0, **fields), agent("b"))
    tree.beats["a"] = (0.0, "")
    tree.advance(10.0)
    assert tree.states().get("a") == state


def test_a_hang_while_it_waits_to_be_stopped_for_its_group_is_told_and_is_no_failure_of_its_own() -> None:
    tree = Story(agent("c", watchdog=10.0), agent("b", shutdown=60.0), agent("a", backoff=LATE), strategy="one_for_all")
    tree.stubborn |= {"b", "c"}
    tree.beats["c"] = (0.0, "")
    tree.advance(5.0)
    tree.crash("a")
    tree.forget()
    tree.advance(5.0)
    assert told(tree) == ["10 HUNG c", "10 STOPPING c"]
    tree.end("c", NORMAL)
    tree.end("b", NORMAL)
    assert tree.lines("AGENT_CRASHED") == []
    assert tree.core.world.root.window.count(tree.now) == 1


def test_a_stop_that_comes_while_a_hung_thread_is_waited_for_overrides_it() -> None:
    tree = Story(agent("a", watchdog=10.0, shutdown=60.0), agent("b"))
    tree.stubborn.add("a")
    tree.beats["a"] = (0.0, "")
    tree.advance(10.0)
    tree.stop_agent("a")
    tree.forget()
    tree.end("a", NORMAL)
    assert told(tree) == ["10 TERMINATED a"]
    assert tree.state("a") == "stopped"


def test_nothing_is_watched_before_it_is_ready_nor_after() -> None:
    tree = CheckedTree(process("a", watchdog=1.0, start_timeout=None, backoff=LATE), started=False)
    tree.manual.add("a")
    tree.start()
    assert next_look(tree) is None
    tree.ready("a")
    tree.stop_agent("a")
    tree.end("a", NORMAL)
    assert next_look(tree) is None


def test_each_incarnation_is_watched_anew() -> None:
    tree = CheckedTree(process("a", watchdog=10.0, backoff=None))
    tree.advance(8.0)
    tree.crash("a")
    tree.beats["a"] = (8.0, "")
    assert next_look(tree) == 18.0
    tree.advance(10.0)
    assert [now for now, _ in hung(tree)] == [18.0]


def test_without_a_watchdog_there_is_no_timer() -> None:
    assert next_look(CheckedTree(process("a"), agent("b"))) is None


def test_a_new_watchdog_counts_from_the_latest_progress_that_is_known() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (8.0, "")
    tree.advance(12.0)
    tree.reconfigure("a", watchdog=30)
    assert next_look(tree) == 38.0
    tree.reconfigure("a", watchdog=None)
    assert next_look(tree) is None
    tree.reconfigure("a", watchdog=2.0)
    assert next_look(tree) == 12.0  # at once: that has been over since 10
    tree.advance(0.0)
    assert hung(tree) == [(12.0, AgentHung(4.0, "", 2.0))]


def test_a_shorter_watchdog_looks_before_it_condemns() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = (5.5, "")
    tree.advance(6.0)
    tree.reconfigure("a", watchdog=2.0)
    tree.advance(0.0)
    assert (hung(tree), next_look(tree)) == ([], 7.5)


def test_a_first_watchdog_counts_from_when_it_became_ready() -> None:
    tree = CheckedTree(process("a"))
    tree.advance(3.0)
    tree.reconfigure("a", watchdog=10.0)
    assert next_look(tree) == 10.0


def test_a_new_watchdog_judges_an_answer_that_is_on_its_way() -> None:
    tree = CheckedTree(process("a", watchdog=10.0))
    tree.beats["a"] = None
    tree.advance(10.0)
    tree.reconfigure("a", watchdog=15.0)
    assert next_look(tree) is None
    tree.tell(RunProgress(tree.run_of("a"), 0.0))
    assert (hung(tree), next_look(tree)) == ([], 15.0)
    tree.advance(5.0)
    tree.reconfigure("a", watchdog=None)
    tree.tell(RunProgress(tree.run_of("a"), 0.0))
    assert (hung(tree), next_look(tree)) == ([], None)


def test_a_new_watchdog_of_what_is_not_ready_starts_no_timer() -> None:
    tree = CheckedTree(process("a", start_timeout=None), started=False)
    tree.manual.add("a")
    tree.start()
    tree.reconfigure("a", watchdog=10.0)
    assert next_look(tree) is None
    tree.ready("a")
    assert next_look(tree) == 10.0
