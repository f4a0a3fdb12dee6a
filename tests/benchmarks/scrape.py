"""A scrape of all families of a large tree: beside a join of ready text, and beside the client's own writer.

Coroutine agents, 100 to a supervisor. While pages are made, how late another event loop of the program gets its turn.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Callable
from itertools import accumulate, cycle, islice

from loguru import logger
from prometheus_client import CollectorRegistry, generate_latest

from orchestree import AsyncAgent, Orchestrator, RunMode
from orchestree.metrics.exporter import Exporter
from orchestree.metrics.exposition import pieces
from orchestree.supervisor.events import EventType

from .common import milli, ratio, show

PER_SUPERVISOR = 100
ROUNDS = 15
SCRAPERS = 10
EVENTS = 20_000
TICK_S = 0.001
READY_BYTES = 1024
NEWLINE = b"\n"
COUNTED = [EventType.AGENT_RESTARTING, EventType.AGENT_STARTING, EventType.AGENT_READY]


class Idler(AsyncAgent):
    """Does nothing."""

    async def execute(self) -> None:
        """Wait to be stopped."""
        await self.sleep(3600.0)


def grown(agents: int, registry: CollectorRegistry) -> Orchestrator:
    """Return a tree that runs."""
    logger.remove()
    tree = Orchestrator(
        Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=10**9, max_seconds=1.0, backoff=None),
        registry=registry,
    )
    for group in range(-(-agents // PER_SUPERVISOR)):
        supervisor = tree.add_supervisor(f"group-{group:03}", max_restarts=10**9, max_seconds=1.0)
        for member in range(min(PER_SUPERVISOR, agents - group * PER_SUPERVISOR)):
            supervisor.register_agent(Idler, f"worker-{member:02}")
    return tree


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def scrape(exporter: Exporter) -> int:
    """Make one page, read it piece by piece as a server does, and return its bytes."""
    return sum(len(piece) for piece in exporter.page().pieces)


def lags(act: Callable[[], object]) -> list[float]:
    """Return how late the timers of another event loop are while `act` runs."""
    late: list[float] = []
    stop = threading.Event()

    async def tick() -> None:
        while not stop.is_set():
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            late.append(max(0.0, time.perf_counter() - due))

    thread = threading.Thread(target=asyncio.run, args=(tick(),))
    thread.start()
    act()
    stop.set()
    thread.join()
    return late


def late(of: list[float]) -> str:
    """Return median and 99th percentile."""
    ordered = sorted(of)
    return f"median {statistics.median(ordered) * 1e3:.2f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.2f} ms"


def at_once(exporter: Exporter, rounds: int = 1) -> None:
    """Have several scrape at the same time, `rounds` times each, and wait for all."""
    threads = [threading.Thread(target=lambda: [scrape(exporter) for _ in range(rounds)]) for _ in range(SCRAPERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def joins(page: bytes) -> list[float]:
    """Return the seconds of what is left if all text were ready: to join it."""
    parts = [page[at : at + READY_BYTES] for at in range(0, len(page), READY_BYTES)]
    ends = list(accumulate(map(len, parts)))
    return [seconds(lambda: sum(map(len, pieces(parts, ends)))) for _ in range(ROUNDS)]


def per_event(tree: Orchestrator, path: str) -> list[float]:
    """Return the seconds that each event of a restart costs, as means of thousands."""
    for _ in range(3):
        tree.restart_agent(path)
    events = [event for event in tree.history(path, limit=None) if event.type in COUNTED]
    many = list(islice(cycle(events), EVENTS))
    offer = tree.metrics.offer

    def offer_all() -> None:
        for event in many:
            offer(event)

    return [seconds(offer_all) / len(many) for _ in range(ROUNDS)]


def measure(tree: Orchestrator, registry: CollectorRegistry) -> list[str]:
    """Return the rows of a tree that runs."""
    exporter = tree.metrics
    paths = [child.path for group in tree.which_children() for child in tree.which_children(group.path)]
    first = seconds(lambda: scrape(exporter))
    unchanged = [seconds(lambda: scrape(exporter)) for _ in range(ROUNDS)]
    changed = []
    for round in range(ROUNDS):
        for path in paths[round::100]:
            tree.restart_agent(path)
        changed.append(seconds(lambda: scrape(exporter)))
    page = b"".join(exporter.page().pieces)
    floor = joins(page)
    reference = [seconds(lambda: generate_latest(registry)) for _ in range(3)]
    together = [seconds(lambda: at_once(exporter)) for _ in range(ROUNDS)]
    return [
        f"{len(paths):,} agents: {page.count(NEWLINE):,} lines, {len(page) / 1e6:.1f} MB",
        f"nothing changed: {ratio(unchanged, floor)} of a join of ready text; the client's writer takes "
        f"{ratio(reference, unchanged, 0)} as long "
        f"({milli(unchanged)}; join {milli(floor)}; client {milli(reference)})",
        f"1 % changed: {milli(changed)}; the first one: {first * 1e3:.0f} ms; "
        f"{SCRAPERS} at once, until the last has its page: {milli(together)}",
        f"an event costs {statistics.median(per_event(tree, paths[0])) * 1e6:.2f} us",
        *lag_rows(exporter, registry),
    ]


def lag_rows(exporter: Exporter, registry: CollectorRegistry) -> list[str]:
    """Return how late another event loop is, in several situations."""
    situations: dict[str, Callable[[], object]] = {
        "nobody scrapes": lambda: time.sleep(1.0),
        "one scrape after the other": lambda: [scrape(exporter) for _ in range(ROUNDS)],
        f"{SCRAPERS} at once": lambda: at_once(exporter, rounds=3),
        "the client's writer": lambda: generate_latest(registry),
    }
    return [f"another loop is late while {what}: {late(lags(act))}" for what, act in situations.items()]


if __name__ == "__main__":
    registry = CollectorRegistry()
    with grown(int(sys.argv[1]), registry) as tree:
        show(*measure(tree, registry))
