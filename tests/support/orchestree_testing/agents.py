"""Agents that do what their configuration says, hook by hook; the same script for both families."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any, ClassVar

from orchestree.agents.agent import Agent, LoopingAgent, PeriodicAgent
from orchestree.agents.async_agent import AsyncAgent, LoopingAsyncAgent, PeriodicAsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.agents.current import current_run
from orchestree.agents.ends import IGNORE, Ignore, Shutdown


class SensorLost(LookupError):
    """An error that only tests raise."""


class UnspeakableError(Exception):
    """Breaks whoever asks for its text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def act(agent: BaseAgent, hook: str, action: str) -> Any:
    """Do what needs no waiting. Every hook emits its name first, so that a host sees the order."""
    agent.emit(hook)
    match action.split(" "):
        case ["return", value]:
            return value
        case ["ignore"]:
            return IGNORE
        case ["raise", text]:
            raise SensorLost(text)
        case ["raise-unspeakable"]:
            raise UnspeakableError
        case ["interrupt"]:
            raise KeyboardInterrupt
        case ["cancel"]:
            raise asyncio.CancelledError
        case ["exit"]:
            sys.exit()
        case ["exit", code]:
            sys.exit(int(code) if code.isdecimal() else code)
        case ["shutdown"]:
            raise Shutdown("enough")
        case ["describe"]:
            agent.emit("described", **description(agent))
    return None


def description(agent: BaseAgent) -> dict[str, object]:
    """Return what an agent knows about itself."""
    run = current_run.get()
    return {
        "name": agent.name,
        "path": agent.path,
        "incarnation": agent.incarnation,
        "params": dict(agent.params),
        "should_stop": agent.should_stop,
        "current_run": (run.path, run.incarnation) if run else None,
        "thread": threading.current_thread().name,
        "daemon": threading.current_thread().daemon,
        "pid": os.getpid(),
    }


class Script(Agent.Config):
    """What each hook does: ``""`` for nothing, or an action of `act` or of the agent."""

    setup: str = ""
    execute: str = ""
    teardown: str = ""
    on_stop: str = ""


class Scripted(Agent):
    """Also knows ``sleep`` (until asked to stop), ``block`` (until ``on_stop`` opens the gate), ``never``.

    And ``work 0.3``: so many seconds, which no stop cuts short.
    """

    class Config(Script):
        pass

    config: Config

    def __init__(self) -> None:  # without super().__init__(), which must not matter
        self.gate = threading.Event()

    def _do(self, hook: str) -> Any:
        action = getattr(self.config, hook)
        answer = act(self, hook, action)
        if action.startswith("work "):
            time.sleep(float(action.split()[1]))
        if action == "sleep":
            return self.sleep(60.0)
        if action == "block":
            return self.gate.wait(60.0)
        if action == "never":
            threading.Event().wait()
        return answer

    def setup(self) -> Ignore | None:
        return IGNORE if self._do("setup") is IGNORE else None

    def execute(self) -> object:
        return self._do("execute")

    def teardown(self) -> None:
        self._do("teardown")

    def on_stop(self) -> None:
        self.gate.set()
        self._do("on_stop")


class AsyncScripted(AsyncAgent):
    """Also knows ``work``, ``sleep``, ``block`` and ``never`` as `Scripted` does, and ``swallow`` (a cancellation)."""

    class Config(Script):
        pass

    config: Config

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def _do(self, hook: str) -> Any:
        action = getattr(self.config, hook)
        answer = act(self, hook, action)
        if action.startswith("work "):
            await asyncio.sleep(float(action.split()[1]))
        if action == "sleep":
            return await self.sleep(60.0)
        if action == "block":
            return await self.gate.wait()
        if action == "never":
            await asyncio.Event().wait()
        if action == "swallow":
            await self._swallow()
        return answer

    async def _swallow(self) -> None:
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.emit("swallowed")

    async def setup(self) -> Ignore | None:
        return IGNORE if await self._do("setup") is IGNORE else None

    async def execute(self) -> object:
        return await self._do("execute")

    async def teardown(self) -> None:
        await self._do("teardown")

    async def on_stop(self) -> None:
        self.gate.set()
        await self._do("on_stop")


class Rounds(Agent.Config):
    """How many rounds a looping agent does before it answers False."""

    rounds: int = 3


class Looper(LoopingAgent):
    """Emits its rounds."""

    class Config(Rounds):
        pass

    config: Config
    done: int = 0

    def runner(self) -> bool:
        self.done += 1
        self.emit(f"round {self.done}")
        return self.done < self.config.rounds


class AsyncLooper(LoopingAsyncAgent):
    """Emits its rounds, and never waits by itself."""

    class Config(Rounds):
        pass

    config: Config
    done: int = 0

    async def runner(self) -> bool:
        self.done += 1
        self.emit(f"round {self.done}")
        return self.done < self.config.rounds


class Ticker(PeriodicAgent):
    """Two rounds; the first takes longer than its interval, so that one at least is missed."""

    class Config:
        interval = 0.02

    first_takes: ClassVar[float] = 0.03
    ticks: int = 0

    def runner(self) -> bool | None:
        self.ticks += 1
        if self.ticks == 1:
            self.sleep(self.first_takes)
            return None
        self.emit("ticked", ticks=self.ticks, overruns=self.overruns)
        return False


class AsyncTicker(PeriodicAsyncAgent):
    """What `Ticker` is."""

    class Config(PeriodicAsyncAgent.Config):
        interval = 0.02

    first_takes: ClassVar[float] = 0.03
    ticks: int = 0

    async def runner(self) -> bool | None:
        self.ticks += 1
        if self.ticks == 1:
            await self.sleep(self.first_takes)
            return None
        self.emit("ticked", ticks=self.ticks, overruns=self.overruns)
        return False
