"""Agents that hang, go on, grow or grow old, and a program of some that a test suspends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from loguru import logger

from orchestree.agents.agent import Agent, LoopingAgent, PeriodicAgent
from orchestree.agents.async_agent import AsyncAgent, LoopingAsyncAgent, PeriodicAsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.supervisor import Event, EventType, Orchestrator

from .process_agents import wait_for_ever
from .trees import PATIENCE, a_tree, trace

DOING: Final = "file 7 of 9"
"""What those that hang were doing."""
LINES: Final = ("opening file 7", "reading file 7")
"""What they have printed."""
PAUSE_S: Final = 0.02
"""Seconds between two signs of life of those that go on."""
SUSPENDED_WATCHDOG_S: Final = 1.0
"""The watchdog of all agents of the program."""
FEW_ROUNDS: Final = 4
"""Of those that have them rarely."""
STEP: Final = 8 * 2**20
"""Bytes by which one grows in a round."""
STEPS: Final = 12
"""In so many rounds, then no more."""


def get_busy(agent: BaseAgent) -> None:
    """Say and print what an agent is doing that will presently hang."""
    agent.progress(DOING)
    for line in LINES:
        print(line)


def alive(agent: BaseAgent) -> None:
    """Tell that it goes on, and when."""
    agent.emit("alive", at=time.monotonic(), pid=os.getpid(), stopped=agent.should_stop)


# Those that hang, once, and go on in their next incarnations:


class Beats(Agent):
    """Has no rounds, and makes progress all the time."""

    def execute(self) -> None:
        while not self.sleep(PAUSE_S):
            self.heartbeat()
            alive(self)


class Hangs(Beats):
    """Calls ``params["hang"]``, which does not return."""

    def setup(self) -> None:
        if self.incarnation == 1:
            get_busy(self)

    def execute(self) -> None:
        hang: Callable[[Agent], object] = self.params["hang"]
        if self.incarnation == 1:
            hang(self)
        super().execute()


class HangsAlways(Agent):
    """Hangs in each incarnation."""

    def execute(self) -> None:
        wait_for_ever()


class HangsInSetup(Beats):
    """Never becomes ready."""

    def setup(self) -> None:
        if self.incarnation == 1:
            get_busy(self)
            wait_for_ever()


class HangsInTeardown(Beats):
    """Hangs when it has already done its work."""

    def setup(self) -> None:
        if self.incarnation == 1:
            get_busy(self)

    def execute(self) -> None:
        if self.incarnation > 1:
            super().execute()

    def teardown(self) -> None:
        if self.incarnation == 1:
            wait_for_ever()


class AsyncBeats(AsyncAgent):
    """What `Beats` is."""

    async def execute(self) -> None:
        while not await self.sleep(PAUSE_S):
            self.heartbeat()
            alive(self)


class BlocksItsLoop(AsyncBeats):
    """Hangs in a call that is no coroutine."""

    async def setup(self) -> None:
        if self.incarnation == 1:
            get_busy(self)

    async def execute(self) -> None:
        if self.incarnation == 1:
            wait_for_ever()
        await super().execute()


class AwaitsForEver(BlocksItsLoop):
    """Hangs, and its loop does not."""

    async def execute(self) -> None:
        if self.incarnation == 1:
            await asyncio.Event().wait()
        await super().execute()


class AsyncHangsInSetup(AsyncBeats):
    """What `HangsInSetup` is."""

    async def setup(self) -> None:
        if self.incarnation == 1:
            get_busy(self)
            wait_for_ever()


def hang_with_a_child(agent: Agent) -> None:
    """Hang beside a process in a session of its own."""
    agent.emit("child", pid=fork_away(signal.pause))
    wait_for_ever()


def fork_away(function: Callable[[], object]) -> int:
    """Return the pid of a forked process, in a session of its own, that calls `function` again and again."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            while True:
                function()
        finally:
            os._exit(1)
    return child


def stop_itself(agent: Agent) -> None:
    """Be stopped by a signal, for ever."""
    os.kill(os.getpid(), signal.SIGSTOP)


# Those that have rounds:


class Rounds(LoopingAgent):
    """Has short rounds, and tells of each, of `on_stop` and of `teardown`."""

    def runner(self) -> bool | None:
        self.emit("begins")
        self.sleep(PAUSE_S)
        alive(self)
        return None

    def on_stop(self) -> None:
        self.emit("on_stop")

    def teardown(self) -> None:
        self.emit("teardown", stopped=self.should_stop)


class PeriodicRounds(Rounds, PeriodicAgent):
    """Has such rounds on a grid."""

    class Config:
        interval = 2 * PAUSE_S


class AsyncRounds(LoopingAsyncAgent):
    """What `Rounds` is."""

    async def runner(self) -> bool | None:
        self.emit("begins")
        await self.sleep(PAUSE_S)
        alive(self)
        return None

    async def on_stop(self) -> None:
        self.emit("on_stop")

    async def teardown(self) -> None:
        self.emit("teardown", stopped=self.should_stop)


class AsyncPeriodicRounds(AsyncRounds, PeriodicAsyncAgent):
    """What `PeriodicRounds` is."""

    class Config:
        interval = 2 * PAUSE_S


class Rarely(PeriodicAgent):
    """Has few rounds, much further apart than its watchdog allows silence."""

    class Config:
        interval = 0.8

    def runner(self) -> bool:
        self.rounds = getattr(self, "rounds", 0) + 1
        alive(self)
        return self.rounds < FEW_ROUNDS


class AsyncRarely(PeriodicAsyncAgent):
    """What `Rarely` is."""

    class Config:
        interval = 0.8

    async def runner(self) -> bool:
        self.rounds = getattr(self, "rounds", 0) + 1
        alive(self)
        return self.rounds < FEW_ROUNDS


class Talks(LoopingAgent):
    """Has short rounds, and soon fills its channel when nobody reads that."""

    def runner(self) -> None:
        self.emit("talk", words="x" * 120_000)
        alive(self)
        self.sleep(PAUSE_S)


class WaitsForTheGo(Rounds):
    """The first round of its first incarnation ends when the file ``params["go"]`` is there."""

    def runner(self) -> bool | None:
        self.emit("begins")
        while self.incarnation == 1 and not self.params["go"].exists():
            self.sleep(PAUSE_S)
        alive(self)
        return None


# Those that grow, once:


class Grows(Rounds):
    """Calls ``params["grow"]`` in each round of its first incarnation, as soon as the file ``params["go"]`` exists."""

    def setup(self) -> None:
        self.taken: list[Any] = []

    def runner(self) -> bool | None:
        grow: Callable[[Grows], object] = self.params["grow"]
        if self.incarnation == 1 and self.params["go"].exists():
            grow(self)
        return super().runner()


class GrowsInSetup(Rounds):
    """Is too big from the beginning, always."""

    def setup(self) -> None:
        self.taken = bytes_of(STEPS)


class GrowsAtWork(Agent):
    """Grows as `Grows` does, and has no rounds."""

    def execute(self) -> None:
        while not self.sleep(PAUSE_S):
            if self.incarnation == 1 and self.params["go"].exists():
                self.taken = bytes_of(STEPS)


def bytes_of(steps: int) -> bytes:
    """Return so much memory, touched."""
    return b"x" * (steps * STEP)


def grow_step_by_step(agent: Grows) -> None:
    if len(agent.taken) < STEPS:
        agent.taken.append(bytes_of(1))


def have_a_child_grow(agent: Grows) -> None:
    """Start a process, in a session of its own, that takes the memory."""
    if agent.taken:
        return
    agent.taken.append(fork_away(Hoarder()))
    agent.emit("child", pid=agent.taken[0])


class Hoarder:
    """Takes memory when it is called first."""

    taken = b""

    def __call__(self) -> None:
        self.taken = self.taken or bytes_of(STEPS)
        signal.pause()


def grow_and_hang(agent: Grows) -> None:
    agent.taken.append(bytes_of(STEPS))
    agent.emit("hanging")
    wait_for_ever()


# The program:

SUSPENDED: Final[dict[str, type[BaseAgent]]] = {
    "beats": Beats,
    "rounds": Rounds,
    "periodic": PeriodicRounds,
    "rarely": PeriodicRounds,
    "talks": Talks,
    "async-beats": AsyncBeats,
    "async-rounds": AsyncRounds,
}
"""The agents of the program, all in processes."""
BAD: Final = (
    EventType.AGENT_HUNG,
    EventType.AGENT_CRASHED,
    EventType.AGENT_STOPPING,
    EventType.AGENT_PARKED,
    EventType.AGENT_WEDGED,
    EventType.SERVICE_FAILED,
)
"""What must not happen to anybody who is only suspended."""


def main() -> None:
    """Run those agents and tell who they are; answer each line of stdin with what `tell_of_life` prints."""
    logger.remove()
    tree = a_tree()
    for name, kind in SUSPENDED.items():
        config: dict[str, Any] = {"interval": 1.5 * SUSPENDED_WATCHDOG_S} if name == "rarely" else {}
        tree.register_agent(kind, name, executor="process", watchdog=SUSPENDED_WATCHDOG_S, backoff=None, **config)
    with tree:
        print(json.dumps({name: tree.status(name).pid for name in SUSPENDED}), flush=True)
        for line in sys.stdin:
            tell_of_life(tree, float(line))


def tell_of_life(tree: Orchestrator, seconds: float) -> None:
    """Print the pid in which each agent is alive after so many seconds from now, and all that has gone wrong."""
    after = time.monotonic() + seconds

    def is_late(event: Event) -> bool:
        data: Any = event.data
        return bool(data.name == "alive" and data.data["at"] >= after)

    pids = {}
    for name in SUSPENDED:
        data: Any = tree.events.wait_for(EventType.AGENT_MESSAGE, name, where=is_late, timeout=PATIENCE).data
        pids[name] = data.data["pid"]
    print(json.dumps({"pids": pids, "bad": trace(tree, *BAD)}), flush=True)


class Lingers(Agent):
    """Is done at once, and exits a second later, as the feeder of a queue that has much to flush does."""

    def execute(self) -> str:
        threading.Thread(target=threading.Event().wait, args=(1.0,)).start()
        return "done"
