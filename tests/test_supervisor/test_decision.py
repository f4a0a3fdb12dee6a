"""The restart decision by itself: what it says, and what it hands on."""

from __future__ import annotations

from asyncio import CancelledError

import pytest
from tenacity import RetryCallState, stop_after_attempt
from virtual import VirtualTree, agent, process

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, CrashReport, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunReady
from orchestree.strategies.backoff import AgentFailure, Backoff, Streak
from orchestree.strategies.restart import Restart
from orchestree.strategies.rules import Rule
from orchestree.strategies.window import RestartWindow
from orchestree.supervisor.decision import Decision, Finish, Park, decide
from orchestree.supervisor.events import AgentStarting, AgentTerminated
from orchestree.supervisor.inputs import KillRun
from orchestree.supervisor.states import AgentState

pytestmark = pytest.mark.policy

FAILURE = abnormal(Cause.EXCEPTION)
REPORT = CrashReport(cause=Cause.EXCEPTION, message="OSError: no disk")


def decided(backoff: Backoff, *, failures: int = 1, report: CrashReport | None = REPORT) -> Decision:
    """Return what follows the last of so many failures in a row of a permanent child."""
    return decide(
        FAILURE, report, restart=Restart.PERMANENT, backoff=backoff, streak=Streak(failures),
        window=RestartWindow(10, 10.0), now=0.0, draw=0.0,
    )  # fmt: skip


def test_a_rule_that_parks_says_so_with_the_message_of_the_failure() -> None:
    assert decided(Backoff(rules=(Rule(action="park"),))) == Park("a rule says so: OSError: no disk")


@pytest.mark.parametrize(
    ("failures", "why"), [(1, "failed"), (2, "failed 2 times in a row"), (7, "failed 7 times in a row")]
)
def test_one_that_is_given_up_on_is_parked_with_its_failures_in_a_row(failures: int, why: str) -> None:
    assert decided(Backoff(stop=stop_after_attempt(1)), failures=failures) == Park(why)


@pytest.mark.parametrize("backoff", [None, Backoff(), Backoff(rules=(Rule(action="escalate"),))])
def test_one_that_is_hopeless_parks_whatever_its_policy_says_and_without_a_stamp(backoff: Backoff | None) -> None:
    window = RestartWindow(10, 10.0)
    for restart, decision in (
        (Restart.PERMANENT, Park("too big")), (Restart.TRANSIENT, Park("too big")), (Restart.TEMPORARY, Finish()),
    ):  # fmt: skip
        decided = decide(
            FAILURE, REPORT, restart=restart, backoff=backoff, streak=Streak(1), window=window, now=0.0, draw=0.0,
            hopeless="too big",
        )  # fmt: skip
        assert decided == decision
    assert window.count(0.0) == 0


def test_a_policy_that_raises_parks_with_what_it_raised() -> None:
    def wait(state: RetryCallState) -> float:
        raise KeyError("rate")

    assert decided(Backoff(wait=wait)) == Park("its backoff policy raised KeyError: 'rate'")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit("no text")


class OddText(str):
    def __getitem__(self, key: object) -> str:
        raise SystemExit("no piece of it")


OddlyNamed = type("Oddly\n\x1b[31mNamed", (BaseException,), {})


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (AssertionError(), "AssertionError"),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit"),
        (CancelledError("too late"), "CancelledError: too late"),
        (OddlyNamed("x"), "Oddly [31mNamed: x"),
        (Unspeakable(), "Unspeakable: (its text cannot be made)"),
        (ValueError(OddText("odd")), "ValueError: odd"),
        (ValueError("one\n\n\x1b[31mtwo\r\n"), "ValueError: one [31mtwo"),
        (ValueError("x" * 1000), f"ValueError: {'x' * 488}"),
    ],
)
def test_what_a_policy_raised_is_told_in_one_line_whatever_it_is(error: BaseException, why: str) -> None:
    def stop(state: RetryCallState) -> bool:
        raise error

    assert decided(Backoff(stop=stop)) == Park(f"its backoff policy raised {why}")


def test_who_looks_ahead_can_break_that_off_while_a_policy_is_asked() -> None:
    def wait(state: RetryCallState) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decided(Backoff(wait=wait))


def test_a_policy_sees_the_report_of_the_failure() -> None:
    seen: list[object] = []

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        assert isinstance(error, AgentFailure)
        seen.append(error.failure)
        return 0.0

    decided(Backoff(wait=wait))
    decided(Backoff(wait=wait), report=None)
    assert seen == [REPORT, None]


@pytest.mark.parametrize("reason", [FAILURE, NORMAL])
def test_the_one_that_made_its_supervisor_give_up_ends_with_its_own_reason(reason: ExitReason) -> None:
    tree = VirtualTree(agent("a", restart="permanent", backoff=None), max_restarts=0)
    tree.end("a", reason)
    ((_, data),) = tree.events("AGENT_TERMINATED", "a")
    assert isinstance(data, AgentTerminated)
    assert (data.reason, data.state) == (reason, AgentState.STOPPED)


def test_the_process_that_became_ready_is_known_until_it_ends() -> None:
    tree = VirtualTree(process("a", backoff=None), started=False)
    tree.manual.add("a")
    tree.start()
    tree.tell(RunReady(tree.run_of("a"), 4711))
    assert tree.node("a").pid == 4711  # type: ignore[union-attr]
    tree.end("a", SHUTDOWN)
    assert tree.node("a").pid is None  # type: ignore[union-attr]


def test_a_start_that_nobody_queued_for_was_chosen_by_nobody() -> None:
    tree = VirtualTree(agent("a"))
    assert tree.events("AGENT_STARTING", "a") == [(0.0, AgentStarting("thread", chosen=False))]


def test_what_is_killed_brutally_and_can_be_is_killed_at_once_and_not_asked() -> None:
    tree = VirtualTree(process("p", shutdown="brutal_kill"), agent("t", shutdown="brutal_kill"))
    tree.stop_agent("p")
    tree.stop_agent("t")
    kinds = [type(effect).__name__ for effect in tree.effects if getattr(effect, "run", None) is not None]
    assert kinds == ["StartRun", "StartRun", "KillRun", "AskRunToStop", "KillRun"]
    assert [effect.run.path for effect in tree.effects if isinstance(effect, KillRun)] == ["p", "t"]
    assert tree.states() == {"p": "stopped", "t": "stopped"}
    ((_, data),) = tree.events("AGENT_TERMINATED", "p")
    assert data == AgentTerminated(SHUTDOWN, AgentState.STOPPED, None)


def test_a_brutal_kill_does_not_hide_that_the_run_had_failed_by_itself() -> None:
    tree = VirtualTree(process("p", shutdown="brutal_kill"))
    run = tree.run_of("p")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "_carry_out", lambda effect: [])
        tree.stop_agent("p")
    report = CrashReport(cause=Cause.EXCEPTION, message="OSError: x")
    tree.tell(RunEnded(run=run, reason=FAILURE, report=report))
    assert tree.state("p") == "stopped"
    ((_, data),) = tree.events("AGENT_TERMINATED", "p")
    assert data == AgentTerminated(SHUTDOWN, AgentState.STOPPED, "OSError: x")
