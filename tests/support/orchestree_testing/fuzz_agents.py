"""Agents of the tree whose control API is attacked."""

from __future__ import annotations

from typing import Final

from orchestree.agents.agent import Agent, PeriodicAgent

BEAT_S: Final = 0.1


class Heartbeat(PeriodicAgent):
    """Shows that it lives."""

    class Config(PeriodicAgent.Config):
        interval = BEAT_S

    def runner(self) -> None:
        self.emit("beat")
        self.logger.debug("beat")


class Idle(Agent):
    """Waits to be stopped."""

    def execute(self) -> None:
        self.sleep(10**9)


class Job(Agent):
    """Is done at once, so that it can be started again and again."""

    def execute(self) -> str:
        return "done"
