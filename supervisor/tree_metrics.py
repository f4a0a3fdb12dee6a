"""The metrics of one orchestrator as a service: what counts, and the port at which it is served.

`orchestree.metrics` is loaded here and nowhere else, and only when metrics are on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from orchestree.strategies.errors import SpecError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from orchestree.agents.executor import KeepMetrics
    from orchestree.metrics.exporter import Exporter
    from orchestree.metrics.own import OwnMetrics
    from orchestree.metrics.server import MetricsServer

    from .orchestrator import Orchestrator

HOW_TO_SWITCH_ON: Final = "set metrics_port, or give the Orchestrator a registry"


class TreeMetrics:
    """Counts from `open` to `close`, whether or not the port can be had. Both again if a start is tried again.

    Args:
        orchestrator: whose tree is counted; nothing of it is used yet.
        registry: of the program, which the metrics join; None for one of their own.

    Attributes:
        is_open: whether they count.

    Raises:
        SpecError: `registry` is none.
    """

    def __init__(self, orchestrator: Orchestrator, registry: CollectorRegistry | None) -> None:
        """Make nothing yet."""
        if registry is not None:
            _check_registry(registry)
        self._orchestrator, self._is_joined = orchestrator, registry is not None
        self._registry = registry
        """Once there is one it stays, with the collectors that a user has registered."""
        self._exporter: Exporter | None = None
        self._own: OwnMetrics | None = None
        self._server: MetricsServer | None = None
        self.is_open = False
        self._was_closed = False
        self._lock = threading.Lock()  # there is one exporter, whoever asks first

    @property
    def are_on(self) -> bool:
        """Whether they are wanted."""
        return self._is_joined or self._orchestrator.config.metrics_port is not None

    @property
    def exporter(self) -> Exporter:
        """What makes the pages; from now on it is in its registry, until the end. Any thread.

        Raises:
            SpecError: metrics are off.
        """
        with self._lock:
            if self._exporter is None:
                if not self.are_on:
                    raise SpecError(f"metrics are off: {HOW_TO_SWITCH_ON}")
                self._exporter = self._new_exporter()
                self._registry = self._exporter.registry
            return self._exporter

    @property
    def keep(self) -> KeepMetrics | None:
        """What keeps the own metrics of agents; None if nobody collects them."""
        return self._own if self.is_open else None

    @property
    def on_lag(self) -> Callable[[float], None] | None:
        """What takes the lags of the supervision loop, in its thread."""
        return self._exporter.observe_lag if self._exporter is not None and self.is_open else None

    @property
    def port(self) -> int | None:
        """The port that is listened at; None if there is none."""
        return self._server.port if self._server is not None else None

    def open(self) -> None:
        """Begin to count, and take the port.

        Raises:
            OSError: the port cannot be had; it is counted all the same, and the port tried again once it was started.
            SpecError: the registry of the program has metrics of these names already.
        """
        with self._lock:
            if self._was_closed:  # a start is tried again
                self._exporter, self._was_closed = None, False
        exporter, config = self.exporter, self._orchestrator.config
        assert self._own is not None
        self._own.series = config.metrics_series  # the exporter may be older than the latest configuration
        self._orchestrator.events.watch(exporter.offer)
        self.is_open = True
        if config.metrics_port is not None:
            self._take_port(exporter, config.metrics_port)

    def start(self) -> None:
        """Begin to serve."""
        if self._server is not None:
            self._server.start()

    def close(self) -> None:
        """Begin to end, and leave the registry. Any thread; does not wait."""
        self.is_open, self._was_closed = False, True
        if self._server is not None:
            self._server.close()
        if self._exporter is not None:
            self._exporter.close()

    def join(self, timeout: float) -> bool:
        """Wait after `close` for the end of the answers on their way; return whether it came within `timeout` s."""
        server, self._server = self._server, None
        return server is None or server.join(timeout)

    def _take_port(self, exporter: Exporter, port: int) -> None:
        from orchestree.metrics.server import MetricsServer

        config = self._orchestrator.config
        server = MetricsServer(
            exporter.page,
            host=config.metrics_host,
            port=port,
            token=None if config.metrics_token is None else config.metrics_token.get_secret_value(),
            on_trouble=self._say,
            on_listening=self._note_port,
        )
        self._server = server
        server.open()

    def _new_exporter(self) -> Exporter:
        from prometheus_client import ProcessCollector

        from orchestree.metrics.exporter import Exporter
        from orchestree.metrics.own import OwnMetrics

        from .figures import TreeFigures

        source = TreeFigures(self._orchestrator)
        self._own = OwnMetrics(source, series=self._orchestrator.config.metrics_series, on_trouble=self._say)
        exporter = Exporter(source, own=self._own, registry=self._registry, on_trouble=self._say)
        if self._registry is None:  # of a program's own it is the program that decides what else is in it
            ProcessCollector(registry=exporter.registry)
        return exporter

    def _note_port(self) -> None:
        """Tell that the port could be had after all."""
        host = self._orchestrator.config.metrics_host
        self._orchestrator.services.is_back("metrics", f"the metrics are at port {self.port} on {host} now")

    def _say(self, text: str, path: str = "") -> None:
        """Make an event of it, which is no failure of the whole service."""
        self._orchestrator.services.tell("metrics", text, path)


def _check_registry(registry: object) -> None:
    from prometheus_client import CollectorRegistry

    if not isinstance(registry, CollectorRegistry):
        raise SpecError(f"registry={registry!r}: must be a prometheus_client.CollectorRegistry")
