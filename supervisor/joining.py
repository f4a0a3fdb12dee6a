"""`Orchestrator.simple_join`: run a tree as the main thing a program does, with signals and an exit code."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final

from orchestree.strategies.errors import SpecError, StartError

from .inputs import StopTree

if TYPE_CHECKING:
    from .orchestrator import Orchestrator

BAD_SPECIFICATION: Final = 78
"""EX_CONFIG of sysexits.h."""
AT_ONCE_S: Final = 1.0
"""What killing everything may take after the second signal before the program leaves all the same."""


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
