"""A program that has run out of descriptors: starts fail and come back, ends are told, reads answer."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.trees import PATIENCE, a_tree

from orchestree import Backoff, EventType, Orchestrator
from orchestree.agents.ends import Cause
from orchestree.supervisor import AgentCrashed

pytestmark = pytest.mark.slow

E: Final = EventType


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let no file be opened in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    try:
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@pytest.fixture
def tree() -> Iterator[Orchestrator]:
    tree = a_tree()
    tree.register_agent(Sleeper, "a", executor="process", backoff=Backoff(stable_after=3600))
    with tree:
        yield tree


def pid_of(tree: Orchestrator) -> int:
    pid = tree.status("a").pid
    assert pid is not None
    return pid


def test_reads_answer(tree: Orchestrator) -> None:
    with no_descriptors():
        assert tree.status("a").state == "ready"
        assert len(tree.which_children()) == 1


def test_a_start_fails_as_any_start_and_comes_back(tree: Orchestrator) -> None:
    with no_descriptors():
        since = tree.events.latest
        os.kill(pid_of(tree), signal.SIGKILL)
        tree.events.wait_for(E.AGENT_CRASHED, "a", since=since, timeout=PATIENCE)
        failed = tree.events.wait_for(
            E.AGENT_CRASHED, "a", since=since, timeout=PATIENCE, where=lambda event: "files" in str(event.data)
        )
        assert isinstance(failed.data, AgentCrashed)
        assert failed.data.report.cause is Cause.START_FAILED
    tree.wait_until("a", "ready", timeout=PATIENCE)


def test_agents_whose_fork_server_dies_are_lost_and_come_back(tree: Orchestrator) -> None:
    server = os.getsid(pid_of(tree))
    with no_descriptors():
        since = tree.events.latest
        os.kill(server, signal.SIGKILL)
        lost = tree.events.wait_for(E.AGENT_CRASHED, "a", since=since, timeout=PATIENCE)
        assert isinstance(lost.data, AgentCrashed)
        assert lost.data.report.cause is Cause.LOST
    tree.wait_until("a", "ready", timeout=PATIENCE)
