"""Reading the memory file of a process from another thread while the supervision thread closes it."""

from __future__ import annotations

import os
import struct
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestree.agents.executor import RunId
from orchestree.agents.process import memory
from orchestree.agents.process.running import Process

STRANGER = 999.0


def a_file(beat: float) -> int:
    descriptor = memory.make("mark", b"")
    os.pwrite(descriptor, struct.pack("=d", beat), 0)
    return descriptor


def a_process(beat: float) -> Process:
    control = SimpleNamespace(sock=SimpleNamespace(close=lambda: None))
    nothing = cast(Any, None)
    return Process(RunId("a", 1), nothing, cast(Any, control), nothing, a_file(beat), started=5.0)


def test_the_start_counts_until_there_is_a_beat() -> None:
    silent, beating = a_process(0.0), a_process(7.0)
    assert (silent.last_beat(), beating.last_beat()) == (5.0, 7.0)
    silent.close()
    beating.close()
    assert (silent.last_beat(), beating.last_beat()) == (None, None)


def test_a_file_that_has_got_the_number_while_it_was_read_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    process, real = a_process(7.0), memory.try_beat
    number = process.memory

    def slowly(descriptor: int) -> float | None:
        process.close()
        assert a_file(STRANGER) == number
        return real(descriptor)

    monkeypatch.setattr(memory, "try_beat", slowly)
    assert process.last_beat() is None
    os.close(number)


@pytest.mark.parametrize("make", [os.eventfd, lambda _: os.open(os.devnull, os.O_RDONLY)])
def test_what_is_no_memory_file_has_no_beat(make: Any) -> None:
    descriptor = make(0)
    assert memory.try_beat(descriptor) is None
    os.close(descriptor)
    assert memory.try_beat(descriptor) is None


def test_while_files_come_and_go_no_beat_is_that_of_another() -> None:
    current, is_done, wrong = [(1.0, a_process(1.0))], threading.Event(), list[float | None]()

    def read() -> None:
        while not is_done.is_set():
            beat, process = current[0]
            if process.last_beat() not in (beat, None):
                wrong.append(beat)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(2, 2_000):
        _, before = current[0]
        current[0] = (float(number), a_process(float(number)))
        before.close()
    is_done.set()
    for thread in threads:
        thread.join()
    current[0][1].close()
    assert wrong == []
