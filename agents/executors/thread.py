"""Runs each incarnation in a daemon thread of its own. A thread cannot be killed, only asked again."""

from __future__ import annotations

import threading
from typing import ClassVar, cast

from orchestree.agents.agent import Agent
from orchestree.agents.current import current_host
from orchestree.agents.executor import Host, Launch, RunId, RunMessage, RunProgress, RunReady
from orchestree.agents.lifecycle import failed_run, make_agent, request_recycle, request_stop, run_hooks


class ThreadExecutor:
    """See `Executor`. What outlives `close` goes on in its daemon thread and keeps no program from exiting."""

    can_kill: ClassVar[bool] = False

    def __init__(self, host: Host) -> None:
        """Own nothing before the first start."""
        self._host = host
        self._agents: dict[RunId, Agent] = {}

    @staticmethod
    def check(launch: Launch) -> None:
        """Do nothing: everything is in reach already."""

    def prepare(self, agents: list[Launch]) -> None:
        """Do nothing: threads need no preparation."""

    def start(self, launch: Launch) -> None:
        """Start the thread ``orchestree:<path>#<incarnation>``."""
        run, report = launch.run, self._host.report
        try:
            host, emit = self._host, lambda name, data: report(RunMessage(run, name, data))
            made = make_agent(launch, emit, host.keep_line, host.keep_metrics)
            agent = cast(Agent, made)
            self._agents[run] = agent
            name = f"orchestree:{run.path}#{run.incarnation}"
            threading.Thread(target=self._live, args=(run, agent), name=name, daemon=True).start()
        except BaseException as error:
            self._agents.pop(run, None)
            report(failed_run(run, error))

    def _live(self, run: RunId, agent: Agent) -> None:
        current_host.set(self._host)
        ended = run_hooks(agent, lambda: self._host.report(RunReady(run)))
        del self._agents[run]
        self._host.report(ended)

    def ask_stop(self, run: RunId) -> None:
        """Set ``should_stop`` and run ``on_stop()`` in another thread."""
        if agent := self._agents.get(run):
            request_stop(agent)

    def kill(self, run: RunId, *, hung: bool = False) -> None:
        """Ask again, which is all that can be done to a thread."""
        self.ask_stop(run)

    def look(self, run: RunId) -> None:
        """Report what the agent has noted."""
        if agent := self._agents.get(run):
            pulse = agent._orchestree.pulse
            self._host.report(RunProgress(run, pulse.last, pulse.text))

    def last_beat(self, run: RunId) -> float | None:
        """Return what the agent has noted."""
        agent = self._agents.get(run)
        return agent._orchestree.pulse.last if agent is not None else None

    def measure(self, run: RunId) -> None:
        """Do nothing: a thread has no memory of its own."""

    def stand_down(self, path: str) -> None:
        """Do nothing: nothing is kept ready."""

    def recycle(self, run: RunId) -> None:
        """Have the agent's rounds end."""
        if agent := self._agents.get(run):
            request_recycle(agent)

    def close(self) -> None:
        """Ask what is left to stop, and abandon it."""
        for run in list(self._agents):
            self.ask_stop(run)
