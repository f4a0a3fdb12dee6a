"""Torture one tree and write down all that it says: ``python -m tests.torture FOLDER [--seconds 60] [--seed 1]``.

It lasts so many seconds, and until each fault has hit often enough, but no longer than twice the time and two minutes.
The folder, which must be there, gets ``events.jsonl`` (every event), ``faults.jsonl`` (every fault, those that missed
with the reason) and ``summary.json``. Who reads them is `verdict`; the exit code is 0 if the run came to its end,
whatever it was like.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import psutil
from loguru import logger
from orchestree_testing.torture_agents import fifo_of
from orchestree_testing.trees import threads_left

from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor import AgentState, Event
from orchestree.supervisor.event_readers import EventIterator

from .faults import FAULTS, LEAST
from .hand import PATIENCE_S, Hand, Missed, Scene
from .trees import HOPELESS, JOBS, tortured

HANDS: Final = 3
PAUSE_S: Final = 0.1
"""The longest pause of a hand between two faults."""
DESCRIPTORS: Final = 1024
"""More than the tree needs; the soft limit."""


class Deck:
    """Which fault comes next. Each is in it as often as it has to hit; those that missed are put back."""

    def __init__(self, kinds: Sequence[str], seed: int, least_until: float, most_until: float) -> None:
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()
        self._least_until, self._most_until = least_until, most_until
        self._draw = random.Random(seed)
        self._kinds = kinds
        self._cards = [kind for kind in kinds for _ in range(LEAST)]
        self._draw.shuffle(self._cards)
        self._lock = threading.Lock()

    def deal(self) -> str | None:
        """Return the next fault; None when it is time to stop."""
        with self._lock:
            now = time.monotonic()
            missing = [kind for kind in self._kinds if self.hits[kind] < LEAST]
            if now > self._most_until or (now > self._least_until and not missing):
                return None
            return self._cards.pop() if self._cards else self._draw.choice(missing or self._kinds)

    def note(self, kind: str, *, has_hit: bool) -> None:
        with self._lock:
            (self.hits if has_hit else self.misses)[kind] += 1
            if not has_hit:
                self._cards.insert(self._draw.randint(0, len(self._cards)), kind)


def torture(hand: Hand, deck: Deck, log: TextIO) -> None:
    """Deal faults until it is enough. What a fault raises that is no miss is a problem."""
    over = threading.Event()  # nobody sets it: pauses are pauses
    while (kind := deck.deal()) is not None:
        began, since = time.monotonic(), hand.tree.events.latest
        try:
            executor = FAULTS[kind](hand)
        except Missed as missed:
            deck.note(kind, has_hit=False)
            record(log, kind=kind, missed=str(missed), began=began, seconds=time.monotonic() - began)
        except BaseException as error:
            logger.exception("a fault failed")
            hand.scene.problems.append(f"{kind}: {type(error).__name__}: {error}")
            deck.note(kind, has_hit=False)
            if not hand.tree.is_running:
                return
        else:
            deck.note(kind, has_hit=True)
            seconds = time.monotonic() - began
            record(log, kind=kind, executor=executor, since=since, began=began, seconds=seconds)
        over.wait(hand.draw.uniform(0.0, PAUSE_S))


def record(log: TextIO, **what: object) -> None:
    log.write(f"{json.dumps(what)}\n")


def settle(scene: Scene) -> int:
    """Let everything come to rest; return the number of the latest event then. What does not is a problem.

    Stops of one hand that another made hard to take back are taken back here.
    """
    tree, deadline = scene.tree, time.monotonic() + 2 * PATIENCE_S
    for path in ("alone", "together", "chain", "needs", "needs/inner", "fragile", "family", *tree.steady):
        with suppress(OrchestreeError, TimeoutError):
            tree.start_agent(path, max(0.0, deadline - time.monotonic()))
    expected = dict.fromkeys(tree.steady, AgentState.READY) | dict.fromkeys(HOPELESS, AgentState.PARKED)
    for path, state in (expected | dict.fromkeys(JOBS, AgentState.COMPLETED)).items():
        try:
            tree.wait_until(path, state, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            scene.problems.append(f"{path} is not {state}: {tree.status(path)}")
    for path in tree.steady:
        status = tree.status(path)
        if status.executor == "process" and not (status.pid and psutil.pid_exists(status.pid)):
            scene.problems.append(f"{path} is said to run, but its process is gone: {status}")
    return tree.events.latest


def still_works(scene: Scene) -> None:
    """What was taken away for a while is there again: this must show up in stdout and in the log."""
    hand = Hand(scene, random.Random(0))
    print("the storm is over", flush=True)
    logger.info("the storm is over")
    try:
        victim = hand.victim("process")
        hand.message_of(victim, "printed", hand.order(victim, "print"))
    except Missed as missed:
        scene.problems.append(f"after all that no process agent has done what it was told: {missed}")


def plain(value: object) -> object:
    """Return what JSON can hold."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def write_events(events: EventIterator, file: TextIO) -> None:
    """Write one JSON object a line until the orchestrator has ended."""
    for event in events:
        file.write(f"{json.dumps(line_of(event))}\n")
    file.flush()


def line_of(event: Event) -> dict[str, Any]:
    line = plain(event)
    assert isinstance(line, dict)
    return line


def descriptors() -> dict[str, str]:
    """Return number and target of every descriptor of this process."""
    folder = Path("/proc/self/fd")
    return {name: os.readlink(folder / name) for name in os.listdir(folder) if (folder / name).is_symlink()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", action="append", default=[], choices=FAULTS, help="to look at the others")
    arguments = parser.parse_args()
    kinds = [kind for kind in FAULTS if kind not in arguments.without]
    os.chdir(arguments.folder)
    faulthandler.register(signal.SIGUSR1)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    logger.remove()
    sink = logger.add("tree.log", level="INFO", format="{time:HH:mm:ss.SSS} {level} {message}", backtrace=False)
    with open("events.jsonl", "w") as events, open("faults.jsonl", "w", buffering=1) as faults:
        summary = run(kinds, arguments.seed, arguments.seconds, events, faults)
    logger.remove(sink)
    Path("summary.json").write_text(json.dumps(summary, indent=1))


def run(kinds: Sequence[str], seed: int, seconds: float, events: TextIO, faults: TextIO) -> dict[str, Any]:
    """Do it all; return the summary."""
    folder = Path("orders").absolute()
    folder.mkdir()
    tree = tortured(folder)
    for path in tree.steady:
        os.mkfifo(fifo_of(folder, path))
    before, before_children = descriptors(), len(psutil.Process().children())
    scene = Scene(tree, folder)
    writer = threading.Thread(target=write_events, args=(tree.events.iterate(since=0), events), daemon=True)
    writer.start()
    tree.start()
    now = time.monotonic()
    deck = Deck(kinds, seed, now + seconds, now + 2 * seconds + 120)
    hands = [Hand(scene, random.Random(f"{seed} {number}")) for number in range(HANDS)]
    threads = [threading.Thread(target=torture, args=(hand, deck, faults)) for hand in hands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stormy = time.monotonic() - now
    settled = settle(scene)
    still_works(scene)
    if not tree.is_running:
        scene.problems.append("the tree has ended by itself")
    tree.stop(timeout=PATIENCE_S)
    writer.join()
    left = threads_left()
    return {
        "seed": seed,
        "kinds": list(kinds),
        "seconds": stormy,
        "hits": deck.hits,
        "misses": deck.misses,
        "settled": settled,
        "steady": tree.steady,
        "hopeless": HOPELESS,
        "jobs": JOBS,
        "problems": scene.problems,
        "threads": left,
        "descriptors": new_ones(before, descriptors()),
        "children": len(psutil.Process().children()) - before_children,
    }


def new_ones(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [f"{number}: {target}" for number, target in after.items() if before.get(number) != target]


if __name__ == "__main__":
    main()
