"""The memory file of one run: shared by the orchestrator and the agent's process, and alive as long as one of them.

It holds, from its beginning: the agent's latest progress, which it writes without telling anybody; the stacks of its
threads, which ``faulthandler`` writes when the process dies by its own fault; the pickled launch.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import pickle
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from orchestree.agents.executor import Launch
from orchestree.agents.pulse import Pulse

from .descendants import MEMORY

WORDS: Final = 1_000
"""Bytes of the agent's own words about what it is doing."""
STACKS_AT: Final = 4_096
LAUNCH_AT: Final = 65_536

_OURS: Final = re.compile(r'agents/(lifecycle|process/child)\.py", line \d+ in \w+$')
"""A frame of the runtime in a process of an agent; what it was called from is of no interest either."""
_MOMENT: Final = struct.Struct("=d")
_PROGRESS: Final = struct.Struct("=dI")  # when, and how many bytes of words follow


@dataclass(frozen=True, slots=True)
class Progress:
    """The latest that an agent has shown.

    Attributes:
        at: monotonic seconds; 0.0 when there was none yet.
        words: those of ``progress()``.
    """

    at: float = 0.0
    words: str = ""


def make(mark: str, launch: bytes) -> int:
    """Return the descriptor of a memory file; its name carries the mark, see `descendants`."""
    descriptor = os.memfd_create(f"{MEMORY}{mark}", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, LAUNCH_AT)
        os.pwrite(descriptor, launch, LAUNCH_AT)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_progress(descriptor: int) -> Progress:
    """Return the latest progress."""
    page = os.pread(descriptor, _PROGRESS.size + WORDS, 0)
    at, length = _PROGRESS.unpack_from(page)
    return Progress(at, page[_PROGRESS.size : _PROGRESS.size + min(length, WORDS)].decode(errors="replace"))


def try_beat(descriptor: int) -> float | None:
    """Return the moment of the latest progress, see `Progress`; None if this is no memory file any more."""
    with suppress(OSError, struct.error):
        at: float = _MOMENT.unpack(os.pread(descriptor, _MOMENT.size, 0))[0]
        return at
    return None


def read_stacks(descriptor: int) -> str:
    """Return what ``faulthandler`` has written; empty if nothing."""
    if os.pread(descriptor, 1, STACKS_AT) == b"\0":
        return ""
    text = os.pread(descriptor, LAUNCH_AT - STACKS_AT, STACKS_AT).rstrip(b"\0").decode(errors="replace")
    blocks = text.partition("\nExtension modules:")[0].strip().split("\n\n")
    return "\n\n".join(kept for block in blocks if (kept := _of_the_agent(block)))


def _of_the_agent(block: str) -> str:
    """Return the stack of one thread down to where the agent was called; empty for a thread that only waits for us."""
    lines = block.splitlines()
    ours = next((number for number, line in enumerate(lines) if _OURS.search(line)), len(lines))
    if ours > 1:
        return "\n".join(lines[:ours])
    return "" if block.startswith("Thread") else block


def read_launch(descriptor: int) -> Launch:
    """Unpickle the launch. Raises whatever an unpickled object raises."""
    size = os.lseek(descriptor, 0, os.SEEK_END) - LAUNCH_AT
    launch: Launch = pickle.loads(os.pread(descriptor, size, LAUNCH_AT))
    return launch


class SharedPulse(Pulse):
    """The agent's side. Any of its threads may write; whoever looks meanwhile may see half of the words."""

    def __init__(self, descriptor: int) -> None:
        """Map the first page, which also marks this process and what it forks."""
        super().__init__()
        self._page = mmap.mmap(descriptor, STACKS_AT)

    def beat(self, at: float | None = None) -> None:
        """See `Pulse.beat`."""
        super().beat(at)
        struct.pack_into("d", self._page, 0, self.last)  # native: stored at once, so never read by halves

    def say(self, text: str) -> None:
        """See `Pulse.say`; more than `WORDS` bytes are cut off."""
        super().say(text)
        words = text.encode(errors="replace")[:WORDS]
        struct.pack_into("=I", self._page, 8, 0)
        self._page[_PROGRESS.size : _PROGRESS.size + len(words)] = words
        struct.pack_into("=I", self._page, 8, len(words))


class FaultLog:
    """Where ``faulthandler`` writes in this process and its forks. To enable it takes long; to aim it does not."""

    def __init__(self) -> None:
        """Write nothing yet."""
        self._descriptor: int | None = None

    def enable(self) -> None:
        """Have faults written, for now nowhere; again after somebody else has enabled it for himself."""
        if self._descriptor is None:
            self._descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        faulthandler.enable(self._descriptor)

    def aim(self, memory: int) -> None:
        """Have the faults of this process written to the memory file, whose descriptor is not needed any more."""
        assert self._descriptor is not None
        os.lseek(memory, STACKS_AT, os.SEEK_SET)
        os.dup2(memory, self._descriptor, inheritable=False)
        os.close(memory)


faults: Final = FaultLog()
