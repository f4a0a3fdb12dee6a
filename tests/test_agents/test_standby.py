"""A process that stands by: made in advance up to just before ``setup()``, for the next incarnation alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from orchestree_testing import process_agents as agents
from orchestree_testing.process_harness import Harness, is_alive, wait_until_gone

from orchestree.agents.executor import Launch, RunEnded, RunId, RunReady


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


def start(harness: Harness, launch: Launch) -> int:
    """Return the pid when it is ready."""
    harness.host.call(lambda: harness.inner.start(launch))
    pid = harness.host.wait(RunReady, launch.run).pid
    assert pid is not None
    return pid


def begin(harness: Harness, agent: type = agents.Sleeper) -> tuple[Launch, int]:
    launch = replace(harness.launch(agent, "kept"), standby=True)
    harness.prepare(launch)
    return launch, start(harness, launch)


def following(launch: Launch) -> Launch:
    return replace(launch, run=RunId(launch.run.path, launch.run.incarnation + 1))


def standby_pid(harness: Harness, path: str = "kept") -> int:
    """Return the pid of the process that stands by, when the fork server has made it."""

    def pid() -> int | None:
        process = harness.inner._standbys.get(path)
        return process.pid if process is not None else None

    return harness.host.until(pid)


@pytest.mark.parametrize("agent", [agents.Sleeper, agents.AsyncSleeper])
def test_the_next_incarnation_is_the_process_that_stood_by(harness: Harness, agent: type) -> None:
    launch, pid = begin(harness, agent)
    standby = standby_pid(harness)
    assert standby != pid
    os.kill(pid, signal.SIGKILL)
    harness.ended(launch.run)
    assert start(harness, following(launch)) == standby
    harness.stop(following(launch).run)
    assert harness.ended(following(launch).run).result == "asked to stop"


def test_nothing_of_the_users_runs_before_it_is_asked_for(harness: Harness) -> None:
    launch, pid = begin(harness, agents.Timed)
    standby_pid(harness)
    os.kill(pid, signal.SIGKILL)
    harness.ended(launch.run)
    asked = time.monotonic()
    start(harness, following(launch))
    made, ready = (harness.host.wait_message(following(launch).run, name).data["at"] for name in ("made", "setup"))
    assert isinstance(made, float)
    assert isinstance(ready, float)
    assert asked < made < ready


def test_one_that_dies_while_it_stands_by_ends_unheard_and_the_next_start_is_an_ordinary_one(harness: Harness) -> None:
    launch, pid = begin(harness)
    standby = standby_pid(harness)
    os.kill(standby, signal.SIGKILL)
    wait_until_gone(standby)
    os.kill(pid, signal.SIGKILL)
    harness.ended(launch.run)
    assert start(harness, following(launch)) != standby
    assert harness.host.of(RunEnded, following(launch).run) == []


def test_another_launch_than_it_was_made_for_gets_another_process(harness: Harness) -> None:
    launch, pid = begin(harness)
    standby = standby_pid(harness)
    os.kill(pid, signal.SIGKILL)
    harness.ended(launch.run)
    assert start(harness, replace(following(launch), params={"other": 1})) != standby
    wait_until_gone(standby)


def test_one_that_has_taken_over_is_killed_in_order_like_any_other(harness: Harness) -> None:
    launch, pid = begin(harness)
    standby_pid(harness)
    os.kill(pid, signal.SIGKILL)
    harness.ended(launch.run)
    start(harness, following(launch))
    harness.kill(following(launch).run)
    report = harness.ended(following(launch).run).report
    assert report is not None
    assert report.signal == "SIGTERM"


def test_it_is_killed_when_no_next_incarnation_is_expected(harness: Harness) -> None:
    launch, pid = begin(harness)
    standby = standby_pid(harness)
    harness.host.call(lambda: harness.inner.stand_down("kept"))
    wait_until_gone(standby)
    assert is_alive(pid)
    harness.stop(launch.run)
    harness.ended(launch.run)


def test_it_ends_with_the_executor(harness: Harness) -> None:
    begin(harness)
    standby = standby_pid(harness)
    harness.host.call(harness.inner.close)
    wait_until_gone(standby)
