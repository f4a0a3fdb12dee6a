"""What the report of each simulated crash says: rules, hooks and logs get it as they get that of a real one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulated import simulated

from orchestree.agents.ends import Cause, CrashReport, ExitKind
from orchestree.supervisor.events import AgentCrashed

pytestmark = pytest.mark.policy

PLAIN = CrashReport(cause=Cause.EXCEPTION, message="", uptime_s=10.0, decision="restart", delay_s=0.0)
ANY_EXCEPTION = ("builtins.Exception", "builtins.BaseException")


def crashed(*faults: str, executor: str = "process") -> AgentCrashed:
    """Return the first crash of ``w``."""
    simulation = simulated(*faults, until=60.0, executor=executor)
    return next(event.data for event in simulation.events if isinstance(event.data, AgentCrashed))


@pytest.mark.parametrize(
    ("fault", "report"),
    [
        (
            "w: crash at 10s",
            replace(
                PLAIN,
                message="RuntimeError: simulated",
                exception_types=("builtins.RuntimeError", *ANY_EXCEPTION),
            ),
        ),
        (
            "w: crash with ZeroDivisionError at 10s",
            replace(
                PLAIN,
                message="ZeroDivisionError: simulated",
                exception_types=("builtins.ZeroDivisionError", "builtins.ArithmeticError", *ANY_EXCEPTION),
            ),
        ),
        (
            "w: crash with KeyboardInterrupt at 10s",
            replace(
                PLAIN,
                message="KeyboardInterrupt: simulated",
                exception_types=("builtins.KeyboardInterrupt", "builtins.BaseException"),
            ),
        ),
        (
            "w: crash with shop.errors.SoldOut at 10s",
            replace(PLAIN, message="SoldOut: simulated", exception_types=("shop.errors.SoldOut", *ANY_EXCEPTION)),
        ),
        (
            "w: crash with exit code 75 at 10s",
            replace(PLAIN, cause=Cause.EXIT, message="exited with code 75", exit_code=75),
        ),
        (
            "w: crash with SIGSEGV at 10s",
            replace(PLAIN, cause=Cause.SIGNAL, message="killed by SIGSEGV", signal="SIGSEGV"),
        ),
        (
            "w: run out of memory at 10s",
            replace(PLAIN, cause=Cause.OOM, message="killed by SIGKILL: out of memory", signal="SIGKILL"),
        ),
        ("w: lost at 10s", replace(PLAIN, cause=Cause.LOST, message="lost: nobody knows what became of it")),
        (
            "w: down from 10s to 11s",
            replace(
                PLAIN,
                message="ConnectionError: what it needs is down (simulated)",
                exception_types=("builtins.ConnectionError", "builtins.OSError", *ANY_EXCEPTION),
            ),
        ),
    ],
)
def test_a_crash_is_reported_as_a_real_one_of_its_kind(fault: str, report: CrashReport) -> None:
    data = crashed(fault)
    assert data.report == report
    assert (data.reason.kind, data.reason.cause) == (ExitKind.ABNORMAL, report.cause)


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ("crash", Cause.START_FAILED),
        ("crash with exit code 75", Cause.START_FAILED),
        ("crash with SIGSEGV", Cause.SIGNAL),
        ("run out of memory", Cause.OOM),
        ("lost", Cause.LOST),
    ],
)
def test_in_setup_an_exception_and_an_exit_are_a_failed_start_and_the_end_of_a_process_is_what_it_is(
    what: str, cause: Cause
) -> None:
    data = crashed(f"w: {what} in setup at 0s")
    assert (data.report.cause, data.reason.cause, data.report.phase) == (cause, cause, "setup")
    assert data.report == replace(crashed(f"w: {what} at 10s").report, cause=cause, phase="setup", uptime_s=0.0)


def test_what_is_down_when_an_agent_starts_is_a_failed_start() -> None:
    during = crashed("w: down from 10s to 11s").report
    data = crashed("w: down to 1s")
    assert data.report == replace(during, cause=Cause.START_FAILED, phase="setup", uptime_s=0.0)
    assert data.reason.cause is Cause.START_FAILED


def test_a_crash_in_teardown_says_so() -> None:
    data = crashed("w: crash with ValueError in teardown at 1s", "w: complete at 10s", executor="thread")
    assert data.report == replace(
        PLAIN,
        message="ValueError: simulated",
        exception_types=("builtins.ValueError", *ANY_EXCEPTION),
        phase="teardown",
    )
