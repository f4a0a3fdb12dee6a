"""Agents that the torture run hurts. Each takes its orders from a FIFO of its own, whatever it runs in.

An order is one line: ``raise 7``, ``exit 7``, ``messages 7 5000``, ``lines 7 5000``, ``print 7``. The number tells
orders apart. What was meant for an earlier incarnation is dropped.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from orchestree.agents.agent import Agent, LoopingAgent, PeriodicAgent
from orchestree.agents.async_agent import AsyncAgent, LoopingAsyncAgent, PeriodicAsyncAgent
from orchestree.agents.base import BaseAgent

from .family import start_helper

BEAT_S: Final = 0.2
"""Seconds after which an agent without orders shows that it is alive."""


class Ordered(Exception):
    """An exception that was ordered."""


def fifo_of(folder: Path, path: str) -> Path:
    """Return where the agent at `path` gets its orders."""
    return folder / path.replace("/", "_")


def give_order(folder: Path, path: str, order: str) -> None:
    """Write one line.

    Raises:
        OSError: nobody reads there, or too much is there to be read.
    """
    fifo = os.open(fifo_of(folder, path), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fifo, f"{order}\n".encode())
    finally:
        os.close(fifo)


class Orders:
    """The reading side."""

    def __init__(self, agent: BaseAgent) -> None:
        folder = agent.params["folder"]
        assert isinstance(folder, Path)
        self.fifo = os.open(fifo_of(folder, agent.path), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._agent = agent
        self._unfinished = b""
        self._read()

    def _read(self) -> bytes:
        content = b""
        with suppress(BlockingIOError):
            while more := os.read(self.fifo, 65_536):
                content += more
        return content

    def wake(self) -> None:
        """Have whoever waits look up."""
        with suppress(BlockingIOError):
            os.write(self.fifo, b"\n")

    def wait(self) -> None:
        """Wait for an order, at most for one beat."""
        poll = select.poll()
        poll.register(self.fifo, select.POLLIN)
        poll.poll(BEAT_S * 1000)

    async def wait_async(self) -> None:
        """Do the same in a coroutine."""
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.fifo, came.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await came.wait()
        finally:
            loop.remove_reader(self.fifo)

    def obey(self) -> None:
        """Do what was ordered by now."""
        *lines, self._unfinished = (self._unfinished + self._read()).split(b"\n")
        for line in filter(None, lines):
            obey(self._agent, line.decode())

    def close(self) -> None:
        os.close(self.fifo)


def obey(agent: BaseAgent, order: str) -> None:
    match order.split():
        case ["raise", number]:
            raise Ordered(f"order {number}.")
        case ["exit", _]:
            sys.exit(3)
        case ["messages", burst, count]:
            for each in range(int(count)):
                agent.emit("flood", burst=int(burst), number=each)
        case ["lines", burst, count]:
            for each in range(int(count)):
                agent.logger.info("burst {}: line {}", burst, each)
            agent.emit("logged", burst=int(burst))
        case ["print", number]:
            print(f"order {number}.", flush=True)
            agent.logger.info("printed {}.", number)
            agent.emit("printed", burst=int(number))
        case _:
            raise AssertionError(f"what is {order!r}?")


class Obedient(Agent):
    """What the plain, looping and periodic ones share. It starts ``params["helpers"]`` before it is ready."""

    orders: Orders | None = None

    def setup(self) -> None:
        self.orders = Orders(self)
        helpers = self.params.get("helpers", ())
        assert isinstance(helpers, tuple)
        for kind in helpers:
            start_helper(kind)

    def round(self) -> None:
        assert self.orders is not None
        self.heartbeat()
        self.orders.wait()
        if not self.should_stop:
            self.orders.obey()

    def on_stop(self) -> None:
        if self.orders is not None:
            self.orders.wake()

    def teardown(self) -> None:
        if self.orders is not None:
            self.orders.close()


class Plain(Obedient):
    def execute(self) -> None:
        while not self.should_stop:
            self.round()


class Loop(Obedient, LoopingAgent):
    def runner(self) -> None:
        self.round()


class Tick(Obedient, PeriodicAgent):
    """Looks for orders now and then."""

    class Config(PeriodicAgent.Config):
        interval: float = 0.05

    def runner(self) -> None:
        assert self.orders is not None
        self.orders.obey()


class AsyncObedient(AsyncAgent):
    """What `Obedient` is."""

    orders: Orders | None = None

    async def setup(self) -> None:
        self.orders = Orders(self)

    async def round(self) -> None:
        assert self.orders is not None
        self.heartbeat()
        await self.orders.wait_async()
        if not self.should_stop:
            self.orders.obey()

    async def on_stop(self) -> None:
        if self.orders is not None:
            self.orders.wake()

    async def teardown(self) -> None:
        if self.orders is not None:
            self.orders.close()


class AsyncPlain(AsyncObedient):
    async def execute(self) -> None:
        while not self.should_stop:
            await self.round()


class AsyncLoop(AsyncObedient, LoopingAsyncAgent):
    async def runner(self) -> None:
        await self.round()


class AsyncTick(AsyncObedient, PeriodicAsyncAgent):
    class Config(PeriodicAsyncAgent.Config):
        interval: float = 0.05

    async def runner(self) -> None:
        assert self.orders is not None
        self.orders.obey()


class Hopeless(Agent):
    """Becomes ready and fails."""

    def execute(self) -> None:
        raise Ordered("as ever")


class Job(Agent):
    """Takes a moment and is done."""

    def execute(self) -> str:
        self.sleep(0.2)
        return "done"


class AsyncJob(AsyncAgent):
    async def execute(self) -> str:
        await self.sleep(0.2)
        return "done"
