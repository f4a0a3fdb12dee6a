"""One process executor with a host that records, and the questions that tests ask about both."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestree.agents.base import BaseAgent
from orchestree.agents.executor import Launch, RunEnded, RunId, RunReady
from orchestree.agents.executors.process import ProcessExecutor

from .host import DEADLINE_S, RecordingHost


class Harness:
    """Starts agents in processes; whatever is waited for has a deadline. The block must be left to end them."""

    def __init__(self) -> None:
        self.host = RecordingHost()
        self.inner = ProcessExecutor(self.host)

    def __enter__(self) -> Harness:
        self._supervision = self.host.supervising()
        self._supervision.__enter__()
        return self

    def __exit__(self, *failure: object) -> None:
        self.host.call(self.inner.close)
        self._supervision.__exit__(None, None, None)

    def prepare(self, *launches: Launch) -> None:
        self.host.call(lambda: self.inner.prepare(list(launches)))

    def stop(self, run: RunId) -> None:
        self.host.call(lambda: self.inner.ask_stop(run))

    def kill(self, run: RunId, *, hung: bool = False) -> None:
        self.host.call(lambda: self.inner.kill(run, hung=hung))

    def launch(
        self,
        agent: type[BaseAgent],
        path: str = "agent",
        *,
        incarnation: int = 1,
        params: Mapping[str, object] | None = None,
        shutdown_s: float = 5.0,
        **config: Any,
    ) -> Launch:
        return Launch(
            run=RunId(path, incarnation),
            agent=agent,
            config=agent.Config(**config),
            params=params or {},
            shutdown_s=shutdown_s,
        )

    def start(self, agent: type[BaseAgent], path: str = "agent", **options: Any) -> RunId:
        """Prepare and start; return at once."""
        launch = self.launch(agent, path, **options)
        self.prepare(launch)
        self.host.call(lambda: self.inner.start(launch))
        return launch.run

    def start_ready(self, agent: type[BaseAgent], path: str = "agent", **options: Any) -> tuple[RunId, int]:
        """Prepare and start; return the run and its pid when it is ready."""
        run = self.start(agent, path, **options)
        pid = self.host.wait(RunReady, run).pid
        assert pid is not None
        return run, pid

    def run(self, agent: type[BaseAgent], path: str = "agent", **options: Any) -> RunEnded:
        """Prepare and start; return how it ended."""
        return self.ended(self.start(agent, path, **options))

    def ended(self, run: RunId) -> RunEnded:
        return self.host.wait(RunEnded, run)

    def server_pid(self) -> int:
        def pid() -> int:
            assert self.inner._server is not None
            return self.inner._server.pid

        return self.host.call(pid)


def wait_until_gone(*pids: int) -> None:
    """Return when none of the processes runs any more; fail after a while."""
    deadline = time.monotonic() + DEADLINE_S
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ready = select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]
        os.close(pidfd)
        assert ready, f"process {pid} is still there"


def is_alive(pid: int) -> bool:
    """Say whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"
