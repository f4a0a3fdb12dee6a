"""The process agent that is measured: the one of ``examples/monitoring.py``, with all that this file imports."""

from __future__ import annotations

import time

from examples.monitoring import Host


class Probe(Host):
    """Says when its ``setup()`` ran, measures the host once if ``params["works"]``, and is idle from then on."""

    class Config(Host.Config):
        interval = 1e6

    def setup(self) -> None:
        """Tell the time; monotonic time is the same in all processes."""
        self.emit("up", at=time.monotonic())

    def runner(self) -> None:
        """Measure, or wait to be stopped or killed."""
        if self.params.get("works"):
            super().runner()
        else:
            self.sleep(1e6)
