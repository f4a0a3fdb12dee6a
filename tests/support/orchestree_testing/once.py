"""Agents that end once, in a way that is asked for by name, and from then on wait to be stopped."""

from __future__ import annotations

import os

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent

from .agents import AsyncScripted, Scripted, SensorLost


class EndsOnce(Scripted):
    """Does what its script says in its first incarnation only; ``leave N`` exits without any ado."""

    def execute(self) -> object:
        if self.incarnation > 1:
            return self.sleep(3600.0)
        leave(self.config.execute)
        return super().execute()


class AsyncEndsOnce(AsyncScripted):
    """What `EndsOnce` is."""

    async def execute(self) -> object:
        if self.incarnation > 1:
            return await self.sleep(3600.0)
        leave(self.config.execute)
        return await super().execute()


class FailsToRestart(Scripted):
    """Does nothing of note in its first ``setup``; from then on what its script says, and fails."""

    def setup(self) -> None:
        if self.incarnation > 1:
            super().setup()
            raise SensorLost("again")


class AsyncFailsToRestart(AsyncScripted):
    """What `FailsToRestart` is."""

    async def setup(self) -> None:
        if self.incarnation > 1:
            await super().setup()
            raise SensorLost("again")


class Fails(Agent.Config):
    """Whether the first incarnation fails."""

    fails: bool = False


class Numbered(Agent):
    """Says the number that it was given, in each incarnation."""

    class Config(Fails):
        pass

    config: Config

    def execute(self) -> object:
        self.emit("number", number=self.params["number"])
        if self.config.fails and self.incarnation == 1:
            raise SensorLost("once")
        return self.sleep(3600.0)


class AsyncNumbered(AsyncAgent):
    """What `Numbered` is."""

    class Config(Fails):
        pass

    config: Config

    async def execute(self) -> object:
        self.emit("number", number=self.params["number"])
        if self.config.fails and self.incarnation == 1:
            raise SensorLost("once")
        return await self.sleep(3600.0)


def leave(action: str) -> None:
    """Carry out ``leave N``: exit with code N, so that Python has no chance to clean up."""
    word, _, code = action.partition(" ")
    if word == "leave":
        os._exit(int(code))
