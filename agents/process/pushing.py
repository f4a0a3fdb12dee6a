"""From an agent's metrics to its data channel: what has changed within one tick travels as one message.

Without metrics there is no thread and no message; with them the thread sleeps after a change only.
"""

from __future__ import annotations

import _thread
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from orchestree.agents.metric_data import MetricBatch, MetricsOfRun
from orchestree.agents.run_id import RunId

TICK_S: Final = 0.25
"""How long changes gather before they are sent: what a process that is killed loses at most."""
LAST_TRIES: Final = 3
"""How often the last batch of a run is tried, if the channel is full each time for as long as a message waits."""


class MetricPusher:
    """Follows the metrics of the one run in this process (see `FollowMetrics`); a forked copy sends nothing.

    A batch that the full channel did not take is sent before the next, so each arrives once.
    """

    def __init__(self, send: Callable[[MetricBatch], bool]) -> None:
        """Send with `send`, which returns False if it is to be tried again."""
        self._send = send
        self._pid = os.getpid()
        self._metrics: MetricsOfRun | None = None
        self._unsent: MetricBatch | None = None
        self._pushing = _thread.allocate_lock()
        self._unchanged = _thread.allocate_lock()
        self._unchanged.acquire()
        self._serves = False

    def follow(self, run: RunId, metrics: MetricsOfRun) -> None:
        """Send what changes in `metrics`."""
        self._metrics = metrics
        metrics.when_changed(self._wake)

    def leave(self, run: RunId, metrics: MetricsOfRun) -> None:
        """Send the rest, now."""
        if os.getpid() == self._pid:
            metrics.close()
            for _ in range(LAST_TRIES):
                if self._push(metrics):
                    return

    def _wake(self) -> None:
        """Have the thread push once more. Only one thread at a time is here: it has the lock of the metrics."""
        if self._unchanged.locked():  # else an earlier change, which was sent already, is yet to wake it
            self._unchanged.release()
        if not self._serves:
            with suppress(RuntimeError):  # no more threads: all is sent at the end
                # No Thread: agents see only their own in threading.enumerate().
                _thread.start_new_thread(self._serve, ())
                self._serves = True

    def _serve(self) -> None:
        assert self._metrics is not None
        while True:
            self._unchanged.acquire()
            time.sleep(TICK_S)
            while not self._push(self._metrics):
                time.sleep(TICK_S)

    def _push(self, metrics: MetricsOfRun) -> bool:
        """Return whether all that had changed by now has been sent."""
        with self._pushing:
            if self._unsent is not None and not self._send(self._unsent):
                return False
            self._unsent = metrics.take()
            if self._unsent is not None and not self._send(self._unsent):
                return False
            self._unsent = None
            return True
