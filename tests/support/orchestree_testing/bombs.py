"""Agents of any executor that end when a test says so, and not before."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import Future

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.supervisor import Orchestrator

from .process_harness import wait_until_gone
from .trees import FAST, PATIENCE, AsyncDoes, add


class Bomb:
    """Lets a test end one agent of any executor, and know that nothing of its run is left."""

    def __init__(self, tree: Orchestrator, name: str, executor: str) -> None:
        self.tree, self.name, self.executor = tree, name, executor
        self.fuse: Future[None] = Future()
        self.begun, self.over = threading.Event(), threading.Event()
        match executor:
            case "thread":
                add(tree, name, self._wait, on_stop=lambda agent: self.fuse.cancel(), **FAST)
            case "async":
                add(tree, name, self._wait_async, kind=AsyncDoes, **FAST)
            case _:
                add(tree, name, executor=executor, **FAST)

    def _wait(self, agent: Agent) -> object:
        if agent.incarnation > 1:
            return agent.sleep(3600)
        self.thread = threading.current_thread()
        self.begun.set()
        return self.fuse.result()

    async def _wait_async(self, agent: AsyncAgent) -> object:
        if agent.incarnation > 1:
            return await agent.sleep(3600)
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda task: self.over.set())
        fuse = asyncio.wrap_future(self.fuse)
        rest = asyncio.ensure_future(agent.sleep(3600))
        await asyncio.wait((fuse, rest), return_when=asyncio.FIRST_COMPLETED)
        rest.cancel()
        return fuse.result() if fuse.done() else None

    def go_off(self) -> None:
        """End the agent's first incarnation, and return when it is over."""
        if self.executor == "process":
            pid = self.tree.status(self.name).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            wait_until_gone(pid)
            return
        self.fuse.set_exception(ValueError(self.name))
        if self.executor == "async":
            assert self.over.wait(PATIENCE)
        else:
            assert self.begun.wait(PATIENCE)
            self.thread.join(PATIENCE)
            assert not self.thread.is_alive()
