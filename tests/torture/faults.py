"""The faults. Each is a function of a `Hand` that returns when its effect was seen, and else raises `Missed`.

It returns whom it has hit: an agent's executor, or "" for what belongs to nobody.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from loguru import logger

from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor import AgentCrashed, AgentState, Event, EventType, HandlerFailed

from .hand import PATIENCE_S, Hand, Missed, Victim, alone, pidfd_of, trying
from .trees import HOPELESS, JOBS

E = EventType
FLOOD: Final = 5_000
TIDE: Final = 100
"""Of so many a flood is known to have come."""


def kill(hand: Hand) -> str:
    return die_of(hand, signal.SIGKILL)


def segfault(hand: Hand) -> str:
    return die_of(hand, signal.SIGSEGV)


def die_of(hand: Hand, number: signal.Signals) -> str:
    victim = hand.victim("process")
    hand.signal(victim, number)
    hand.crash_of(victim, lambda crash: crash.reason.cause in ("signal", "oom") and crash.report.signal == number.name)
    return victim.executor


def stop(hand: Hand) -> str:
    """Have the watchdog find it."""
    victim = hand.victim("process")
    hand.scene.frozen.add((victim.path, victim.incarnation))
    hand.signal(victim, signal.SIGSTOP)
    hand.crash_of(victim, lambda crash: crash.reason.cause == "watchdog")
    return victim.executor


def fail(hand: Hand) -> str:
    executor = hand.draw.choice(("thread", "async", "process"))
    return crash_by_order(hand, hand.victim(executor))


def crash_by_order(hand: Hand, victim: Victim) -> str:
    number = hand.order(victim, "raise")
    hand.crash_of(victim, lambda crash: f"order {number}." in crash.report.message)
    return victim.executor


def exit_(hand: Hand) -> str:
    victim = hand.victim(hand.draw.choice(("thread", "async", "process")))
    hand.order(victim, "exit")
    hand.crash_of(victim, lambda crash: crash.reason.cause == "exit")
    return victim.executor


def server_of(victim: Victim) -> int:
    """Return the pid of the fork server."""
    with trying():
        status = Path(f"/proc/{victim.pid}/stat").read_text()
    parent = int(status.rpartition(")")[2].split()[1])
    if parent == os.getpid() or "orchestree" not in command_line(parent):
        raise Missed("the agent has just lost its server")
    return parent


def command_line(pid: int) -> str:
    with trying():
        return Path(f"/proc/{pid}/cmdline").read_text()


def kill_server(hand: Hand) -> str:
    with alone(hand.scene.servers):
        victim = hand.victim("process")
        with pidfd_of(server_of(victim)) as server:
            signal.pidfd_send_signal(server, signal.SIGKILL)
        hand.crash_of(victim, lambda crash: crash.reason.cause == "lost")
        with suppress(TimeoutError):
            hand.tree.wait_until(victim.path, AgentState.READY, PATIENCE_S)
    return victim.executor


def run_out_of_descriptors(hand: Hand) -> str:
    """Let nobody in this process open anything for a moment; the start of a process agent fails of that."""
    with alone(hand.scene.servers):
        victim = hand.victim("process")
        target = server_of(victim) if hand.draw.random() < 0.25 else victim.pid
        with pidfd_of(target) as pidfd, no_descriptors():
            since = hand.tree.events.latest
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            hand.event(E.AGENT_CRASHED, lacks_descriptors, since)
        with suppress(TimeoutError):
            hand.tree.wait_until(victim.path, AgentState.READY, PATIENCE_S)
    return victim.executor


def lacks_descriptors(event: Event) -> bool:
    return isinstance(event.data, AgentCrashed) and "Too many open files" in event.data.report.message


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Allow no number above those in use, and take whatever is free below; who closes one makes room for one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    with trying():
        highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def fill_the_disk(hand: Hand) -> str:
    """Have a log sink fail, and in half of the cases whoever logs as well."""
    victim, is_full = hand.victim(), threading.Event()
    with trying():
        disk = os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC)

    def write(line: str) -> None:
        try:
            os.write(disk, line.encode())
        except OSError:
            is_full.set()
            raise

    try:
        sink = logger.add(write, format="{message}", level="INFO", catch=hand.draw.random() < 0.5)
        try:
            hand.order(victim, "lines", 3)
            if not is_full.wait(5.0):
                raise Missed("nobody has logged anything")
        finally:
            logger.remove(sink)
    finally:
        os.close(disk)
    return ""


def take_stdout_away(hand: Hand) -> str:
    """Make it a pipe whose reader has gone, or one that is full and that nobody reads."""
    with alone(hand.scene.stdout):
        victim, is_broken = hand.victim("process"), hand.draw.random() < 0.5
        with no_stdout(is_broken):
            hand.message_of(victim, "printed", hand.order(victim, "print"))
            if is_broken:
                expect_nobody_reads()
    return ""


@contextmanager
def no_stdout(is_broken: bool) -> Iterator[None]:
    """Put a pipe in the place of stdout for the block."""
    with ExitStack() as after:
        with trying():
            kept = os.dup(1)
            after.callback(os.close, kept)
            read, write = os.pipe()
        if is_broken:
            os.close(read)
        else:
            after.callback(os.close, read)  # who waits in a write gets an error then
            fill(write)
        os.dup2(write, 1, inheritable=False)
        os.close(write)
        after.callback(os.dup2, kept, 1, inheritable=False)
        yield


def fill(pipe: int) -> None:
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 4096)
    os.set_blocking(pipe, True)


def expect_nobody_reads() -> None:
    try:
        os.write(1, b"\n")
    except BrokenPipeError:
        return
    raise AssertionError("stdout is not away")


def set_the_clock(hand: Hand) -> str:
    """Have wall time jump by hours, in either direction."""
    with alone(hand.scene.clock):
        clock = hand.tree.clock
        before = clock.offset
        clock.offset = before + hand.draw.choice((-1, 1)) * hand.draw.uniform(3_600, 48 * 3_600)
        middle, is_later = (before + clock.offset) / 2, clock.offset > before
        victim = hand.victim()
        hand.order(victim, "messages", 1)

        def is_labelled(event: Event) -> bool:
            return (event.time - time.time() > middle) is is_later

        hand.event(tuple(E), is_labelled, victim.since)
    return ""


def flood_of_messages(hand: Hand) -> str:
    victim = hand.victim()
    number = hand.order(victim, "messages", FLOOD)
    hand.message_of(victim, "flood", number, least=TIDE)
    return victim.executor


def flood_of_lines(hand: Hand) -> str:
    victim = hand.victim()
    number = hand.order(victim, "lines", FLOOD // 5)
    hand.message_of(victim, "logged", number)
    return victim.executor


def block_a_handler(hand: Hand) -> str:
    """Have a handler stand still while an agent crashes and comes back."""
    with alone(hand.scene.handlers):
        entered, release = threading.Event(), threading.Event()

        def slow(event: Event) -> None:
            entered.set()
            release.wait(PATIENCE_S)

        with hand.tree.events.subscribe(slow):
            try:
                hand.order(hand.victim(), "messages", 1)
                if not entered.wait(5.0):
                    raise Missed("nothing has happened")
                victim = hand.victim("thread", "async")
                crash_by_order(hand, victim)
                hand.event(E.AGENT_STARTING, lambda event: event.path == victim.path, victim.since, PATIENCE_S)
            finally:
                release.set()
    return victim.executor


def break_a_handler(hand: Hand) -> str:
    word = f"handler {next(hand.scene.orders)}."

    def bad(event: Event) -> None:
        raise ValueError(word)

    victim = hand.victim()
    with hand.tree.events.subscribe(bad):
        hand.order(victim, "messages", 1)
        hand.event(
            E.HANDLER_FAILED,
            lambda event: isinstance(event.data, HandlerFailed) and word in event.data.error,
            victim.since,
        )
    return ""


def have_it_park(hand: Hand) -> str:
    """Start one that always fails, until it is given up on again."""
    path = hand.draw.choice(HOPELESS)
    since = hand.tree.events.latest
    with commanding():
        hand.tree.start_agent(path, PATIENCE_S)
    hand.event(E.AGENT_PARKED, lambda event: event.path == path, since, PATIENCE_S)
    return ""


def queue_jobs(hand: Hand) -> str:
    """Start all jobs that are done: there are not enough worker slots for them."""
    since, started = hand.tree.events.latest, 0
    for path in JOBS:
        if hand.tree.status(path).state is AgentState.COMPLETED:
            with suppress(Missed), commanding():
                hand.tree.start_agent(path, PATIENCE_S)
                started += 1
    if not started:
        raise Missed("none is done")
    hand.event(E.AGENT_QUEUED, lambda event: event.path in JOBS, since, 1.0)
    return ""


def command(hand: Hand) -> str:
    """Restart an agent or a supervisor, or stop it and start it again."""
    path = hand.draw.choice([*hand.tree.steady, "alone", "together", "chain", "needs", "needs/inner", "family"])
    try:
        with commanding():
            if hand.draw.random() < 0.5:
                hand.tree.restart_agent(path, PATIENCE_S)
                return ""
            try:
                hand.tree.stop_agent(path, PATIENCE_S)
            finally:
                hand.tree.start_agent(path, PATIENCE_S)
    except TimeoutError:
        hand.scene.problems.append(f"a command to {path} was not carried out: {hand.tree.status(path)}")
    return ""


@contextmanager
def commanding() -> Iterator[None]:
    """Others command as well: it may run or stand already, and so may what is above it."""
    try:
        yield
    except OrchestreeError as error:
        raise Missed(str(error)) from None


FAULTS: Final = MappingProxyType[str, Callable[[Hand], str]](
    {
        "sigkill": kill,
        "sigsegv": segfault,
        "sigstop": stop,
        "exception": fail,
        "sys.exit": exit_,
        "fork server killed": kill_server,
        "no descriptors": run_out_of_descriptors,
        "log disk full": fill_the_disk,
        "stdout closed": take_stdout_away,
        "clock step": set_the_clock,
        "flood of messages": flood_of_messages,
        "flood of log lines": flood_of_lines,
        "slow handler": block_a_handler,
        "failing handler": break_a_handler,
        "parking": have_it_park,
        "queue": queue_jobs,
        "command": command,
    }
)
LEAST: Final = 20
"""So often each of them has to hit."""
