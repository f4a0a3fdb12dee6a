"""`Orchestrator.simple_join`: run a tree as the main thing a program does, with signals and an exit code."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from orchestree.strategies.errors import SpecError, StartError

from .inputs import StopTree

if TYPE_CHECKING:
    from .orchestrator import Orchestrator

T = TypeVar("T")

BAD_SPECIFICATION: Final = 78
"""EX_CONFIG of sysexits.h."""
NO_SIGNAL: Final = b"\0"
"""What stands among the numbers of signals for something else."""
AT_ONCE_S: Final = 1.0
"""What killing everything may take after the second signal before the program leaves all the same."""


def alert_result(future: Future[T], timeout: float | None = None) -> T:
    """Return ``future.result(timeout)``; in the main thread the handlers of signals run while it waits.

    `Future.result` waits for a lock, and a signal that comes just before it does, or that the kernel gives to
    another thread, does not end that wait: its handler would run when the wait is over.

    Raises:
        TimeoutError: it took longer than `timeout` seconds. Also whatever the future holds, or a handler raises.
    """
    if threading.current_thread() is not threading.main_thread():
        return future.result(timeout)
    end = None if timeout is None else time.monotonic() + timeout
    with Alarm() as alarm:
        future.add_done_callback(lambda done: alarm.ring())
        while not future.done() and alarm.wait(None if end is None else max(0.0, end - time.monotonic())):
            pass
    return future.result(0.0)


class Alarm:
    """A pipe that each signal of this process writes to, and `ring`. Main thread, but for `ring`."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._lock = threading.Lock()
        self._bell: int | None = None  # never written to once it is closed: its number may mean another file then

    def __enter__(self) -> Self:
        """Take the place of the wake-up descriptor that was set before, if any."""
        self._woken, self._bell = os.pipe()
        os.set_blocking(self._bell, False)
        self._before = signal.set_wakeup_fd(self._bell, warn_on_full_buffer=False)
        return self

    def __exit__(self, *error: object) -> None:
        """Put it back."""
        signal.set_wakeup_fd(self._before)
        with self._lock:
            bell, self._bell = self._bell, None
            os.close(self._woken)
            if bell is not None:
                os.close(bell)

    def ring(self) -> None:
        """End a wait that runs; too late is fine. Any thread."""
        with self._lock, suppress(BlockingIOError):
            if self._bell is not None:
                os.write(self._bell, NO_SIGNAL)

    def wait(self, timeout: float | None) -> bool:
        """Wait for a signal or a ring; return whether one came within `timeout` seconds."""
        poll = select.poll()  # select() takes no descriptor above 1,023
        poll.register(self._woken, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            return False
        signals = os.read(self._woken, 64).replace(NO_SIGNAL, b"")
        if self._before >= 0 and signals:
            with suppress(OSError):
                os.write(self._before, signals)
        return True


class SecondSignal(BaseException):
    """Raised out of the wait by the second signal; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        """Carry the number of the signal."""
        super().__init__(number)
        self.number = number


class StopSignals:
    """While entered, in the main thread: the first SIGINT or SIGTERM stops the tree in order, the second at once."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        """Stop `orchestrator`."""
        self._orchestrator = orchestrator
        self._came = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        """Set the handlers; in another thread there are none to set."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._came or not self._orchestrator.is_running:
            # Before the tree runs there is nothing to stop in order.
            raise SecondSignal(number)
        self._came = True
        self._orchestrator.driver.submit(StopTree("signal"))


def simple_join(orchestrator: Orchestrator) -> int:
    """See `Orchestrator.simple_join`."""
    try:
        with StopSignals(orchestrator):
            if orchestrator.exit_code is None and not orchestrator.is_running:
                orchestrator.start()
            orchestrator.join()
    except (SpecError, StartError) as error:
        print(f"orchestree: {error}", file=sys.stderr)
        return BAD_SPECIFICATION if isinstance(error, SpecError) else 1
    except SecondSignal as second:
        if orchestrator.is_running:
            orchestrator.driver.submit(StopTree("signal", timeout_s=0.0))
            orchestrator.join(AT_ONCE_S)
        print(f"orchestree: ended at once by {signal.Signals(second.number).name}", file=sys.stderr)
        return 128 + second.number
    return orchestrator.exit_code or 0
