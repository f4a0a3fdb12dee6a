"""Agents whose fork server was killed, while the orchestrator looks for what they have left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable

import pytest
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.trees import PATIENCE, a_tree, types

from orchestree import EventType
from orchestree.agents.ends import Cause
from orchestree.agents.process import descendants, sweep
from orchestree.agents.process.descendants import VARIABLE
from orchestree.supervisor import AgentCrashed


@pytest.mark.slow
def test_who_is_lost_is_not_called_hung_however_long_the_search_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = descendants.processes

    def slowly() -> Iterable[int]:
        threading.Event().wait(1.0)  # as on a machine with very many processes
        return processes()

    tree = a_tree()
    tree.register_agent(Sleeper, "a", executor="process", watchdog=0.3)
    with tree:
        pid = tree.status("a").pid
        assert pid is not None
        monkeypatch.setattr(sweep, "processes", slowly)
        since = tree.events.latest
        os.kill(os.getsid(pid), signal.SIGKILL)
        crashed = tree.events.wait_for(EventType.AGENT_CRASHED, "a", since=since, timeout=PATIENCE)
        assert isinstance(crashed.data, AgentCrashed)
        assert crashed.data.report.cause is Cause.LOST
        assert EventType.AGENT_HUNG not in types(tree, "a")


def test_what_was_found_and_has_ended_is_no_survivor_also_when_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "PATIENCE_S", 0.0)
    prefix = "0123456789abcdef:"
    with subprocess.Popen(
        [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"],
        env={**os.environ, VARIABLE: f"{prefix}1:a#1"},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        left = sweep.sweep(sweep.Estate(prefix, -1), [])
        assert process.stdout.read() == b""  # it has ended; being ours, it may also have been reaped
    assert left in ((), (process.pid,))  # no time was given to see it end
    assert sweep.sweep(sweep.Estate(prefix, -1), []) == ()


def test_nobody_belongs_to_the_session_of_the_machine() -> None:
    assert not any(sweep.Estate("no such mark", session).includes(1) for session in (-1, 0, 1))
