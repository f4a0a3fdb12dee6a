"""Agents that count, as ``params["call"]`` says; with ``params["stays"]`` they then wait for a stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import Any

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.strategies.errors import MetricError


class Counting(Agent):
    def execute(self) -> object:
        result = self.params["call"](self)
        self.emit("counted")
        while self.params.get("stays") and not self.should_stop:
            self.sleep(3600)
        return result

    def teardown(self) -> None:
        if self.params.get("late"):
            items(self).inc(0.5)


class AsyncCounting(AsyncAgent):
    async def execute(self) -> object:
        result = self.params["call"](self)
        self.emit("counted")
        while self.params.get("stays") and not self.should_stop:
            await self.sleep(3600)
        return result

    async def teardown(self) -> None:
        if self.params.get("late"):
            items(self).inc(0.5)


def items(agent: BaseAgent) -> Any:
    return agent.metrics.counter("items_total", "Items written")


def count(agent: BaseAgent) -> None:
    """Count ``params["times"]`` items, and one of a kind for each."""
    for number in range(agent.params["times"]):
        items(agent).inc()
        agent.metrics.counter("kinds_total", "Kinds", labels=("kind",)).labels(kind=f"k{number % 3}").inc(2)
        agent.metrics.histogram("size_bytes", "Sizes", buckets=(1, 2)).observe(number % 4)
    agent.metrics.gauge("level", "Level").set(agent.incarnation)


def count_and_raise(agent: BaseAgent) -> None:
    count(agent)
    raise ValueError("no such sensor")


def count_in_threads(agent: BaseAgent) -> None:
    """Count from eight threads at once, which ask for the metrics themselves."""
    threads = [threading.Thread(target=count, args=(agent,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_away(agent: BaseAgent) -> int:
    """Use a label of ever new values; return how many label sets are remembered."""
    items(agent).inc()
    hits = agent.metrics.counter("hits_total", "Hits", labels=["user"])
    for number in range(20_000):
        hits.labels(f"user-{number}").inc()
    items(agent).inc()
    return len(hits._children)


def keep_counting(agent: BaseAgent) -> None:
    """Count for ever, a few at a time."""
    while True:
        items(agent).inc()
        time.sleep(0.001)


def count_until_killed(agent: BaseAgent) -> None:
    """Count, let a tick pass, count more, and die at once of SIGKILL."""
    for _ in range(1000):
        items(agent).inc()
    agent.emit("first")
    agent.params["go"].get()
    for _ in range(1000):
        items(agent).inc()
    os.kill(os.getpid(), signal.SIGKILL)


def count_in_a_fork(agent: BaseAgent) -> int | None:
    """Count before a fork and in it, while the counts of before are pending; return the exit code of the copy."""
    for _ in range(100):
        items(agent).inc()

    def more() -> None:
        for _ in range(1000):
            items(agent).inc()
            agent.metrics.counter("forked_total", "In the fork").inc()

    copy = multiprocessing.get_context("fork").Process(target=more)
    copy.start()
    copy.join()
    return copy.exitcode


def live_on_in_a_fork(agent: BaseAgent) -> int:
    """Have a copy go through the end of the run as well; only the agent itself waits for it."""
    items(agent).inc()
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    else:
        items(agent).inc()
        agent._orchestree.ended()
        os._exit(0)
    return pid


def first_count_in_a_fork(agent: BaseAgent) -> None:
    pid = os.fork()
    if not pid:
        items(agent).inc()
        agent._orchestree.ended()
        os._exit(0)
    os.waitpid(pid, 0)


def misuse(agent: BaseAgent) -> list[str]:
    """Return what each mistake is told."""
    told = []
    items(agent)
    for mistake in (
        lambda: agent.metrics.gauge("items", "Items written"),
        lambda: agent.metrics.counter("my-items", "Items"),
        lambda: items(agent).inc(-1),
        lambda: agent.metrics.counter("orchestree_items", "Items"),
    ):
        try:
            mistake()
        except MetricError as error:
            told.append(str(error))
    return told


def count_with_log_flood(agent: BaseAgent) -> None:
    """Count between log lines that fill the channel."""
    for number in range(agent.params["times"]):
        agent.logger.info("{} {}", number, "x" * 30_000)
        items(agent).inc()


def threads_of(agent: BaseAgent) -> int:
    """Return how many threads the process has."""
    return len(os.listdir("/proc/self/task"))
