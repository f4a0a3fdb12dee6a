"""Killing probes in a running tree, and what is then read off its events and off /proc."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestree import Event, EventType, Orchestrator
from orchestree.supervisor.events import AgentMessage

from .common import orchestrator
from .probe import Probe

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Monotonic times of one: the kill, the decision about it, the decision to start again, and ``setup()``."""

    killed: float
    crashed: float
    starting: float
    setup: float


def a_tree(names: Sequence[str], *, standby: bool = False, **params: object) -> Orchestrator:
    """Return an orchestrator, not started, with a probe of each name."""
    tree = orchestrator()
    for name in names:
        tree.register_agent(Probe, name, params=params, standby=standby)
    return tree


def up_at(event: Event) -> float:
    """Return when the ``setup()`` ran that this message tells of."""
    assert isinstance(event.data, AgentMessage)
    return float(str(event.data.data["at"]))


def restart(tree: Orchestrator, name: str) -> Restart:
    """Kill the probe, and return when it is ready again."""
    before, pid = tree.events.latest, tree.status(name).pid
    assert pid is not None
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    tree.events.wait_for(EventType.AGENT_READY, name, since=before, timeout=PATIENCE_S)
    found = {event.type: event for event in tree.history(path=name, since=before)}
    setup = tree.events.wait_for(EventType.AGENT_MESSAGE, name, since=before, timeout=PATIENCE_S)
    crashed, starting = found[EventType.AGENT_CRASHED].monotonic, found[EventType.AGENT_STARTING].monotonic
    return Restart(killed, crashed, starting, up_at(setup))


def all_up(tree: Orchestrator, count: int, since: int) -> float:
    """Wait until `count` probes have become ready since then, and return when the last of them ran ``setup()``."""
    ups, ready = [], 0
    kinds = (EventType.AGENT_MESSAGE, EventType.AGENT_READY)
    for event in tree.events.iterate(since, PATIENCE_S, type=kinds):
        if event.type is EventType.AGENT_READY:
            ready += 1
        else:
            ups.append(up_at(event))
        if ready == len(ups) == count:
            return max(ups)
    raise TimeoutError(f"{ready} of {count} probes became ready")


def kill_all(tree: Orchestrator, names: Sequence[str]) -> float:
    """Kill all probes at once, and return the seconds until the last ``setup()`` of their replacements."""
    before = tree.events.latest
    pids = [tree.status(name).pid for name in names]
    killed = time.monotonic()
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    return all_up(tree, len(names), before) - killed


def fork_server() -> int:
    """Return the pid of the one fork server that this process has."""
    (found,) = (each.pid for each in psutil.Process().children() if "orchestree-server" in each.cmdline())
    return found


def memory(pid: int) -> dict[str, int]:
    """Return the lines of smaps_rollup, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in map(str.split, lines)}


def private(pid: int) -> int:
    """Return the bytes that end with the process."""
    found = memory(pid)
    return found["Private_Dirty"] + found["Private_Clean"]


def cpu_s(pid: int) -> float:
    """Return the seconds that the living threads of a process have spent on a CPU; of this one, all its threads."""
    if pid == os.getpid():  # whose running thread /proc lags behind
        return time.process_time()
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
