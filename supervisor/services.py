"""What runs beside supervision (event history, metrics, control API): opened before the tree starts, closed after it.

One that fails is a ``SERVICE_FAILED`` event, and supervision goes on without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Final, Literal, Protocol

from loguru import logger

from orchestree.agents.executor import KeepLine
from orchestree.strategies.errors import StartError

from .core_settings import Settings
from .events import EventData, ServiceFailed
from .history import History

if TYPE_CHECKING:
    from orchestree.supervisor.control.api.app import Application
    from orchestree.supervisor.control.server import ControlServer

    from .agent_logs import AgentLogs
    from .event_subscriptions import Subscription
    from .history_writer import HistoryWriter
    from .orchestrator import Orchestrator
    from .tree_metrics import TreeMetrics

_FAILED: Final = "failed: "
END_S: Final = 5.0
"""Seconds that whoever waits for the end of the tree also waits for each service."""


class Service(Protocol):
    """What has a thread of its own, from `start` to the end of `join`."""

    def start(self) -> None:
        """Begin. Once."""

    def close(self) -> None:
        """Begin to end, once what was published is written and sent. Any thread; does not wait."""

    def join(self, timeout: float) -> bool:
        """Wait after `close` for the end, at most `timeout` seconds; return whether it has come."""


class Services:
    """The services of one orchestrator.

    Attributes:
        run: id of this run, of every event.
        last_seq: number of the latest event of the runs before, 0 without a history file.
        history: answers for events from memory and file.
        logs: what agents said lately; None unless the control API is on.
        metrics: what counts for Prometheus; outlives these services if a start is tried again.
        states: of each service by its name: ``off``, ``on`` or ``failed: why``.
    """

    def __init__(self, orchestrator: Orchestrator, metrics: TreeMetrics) -> None:
        """Open nothing yet."""
        self.run = token_hex(6)
        self.last_seq = 0
        self.history = History(orchestrator.events)
        self.logs: AgentLogs | None = None
        self.metrics = metrics
        self.states = {"control": "off", "history": "off", "metrics": "off"}
        self._orchestrator = orchestrator
        self._opened: dict[str, Service] = {}
        self._writer: HistoryWriter | None = None
        self._control: ControlServer | None = None
        self._subscription: Subscription | None = None
        self._lock = threading.Lock()  # for the two below: each failure is told once, by `start` or when it comes
        self._say: Callable[[EventData, str], None] | None = None
        self._untold: list[tuple[ServiceFailed, str]] = []

    @property
    def socket(self) -> str:
        """Path of the control socket; empty if there is none."""
        return str(self._control.socket) if self._control is not None else ""

    @property
    def name(self) -> str:
        """Name by which the control API is found; another than the configured one if that was taken."""
        return self._control.name if self._control is not None else self._orchestrator.config.name

    @property
    def history_lag_s(self) -> float:
        """See `HistoryWriter.lag_s`; 0.0 without a history file."""
        return self._writer.lag_s if self._writer is not None else 0.0

    @property
    def keep_line(self) -> KeepLine | None:
        """What keeps the lines of agents for the API; None if nobody can ask for them."""
        return self.logs.keep if self.logs is not None else None

    def open(self) -> None:
        """Take files and sockets; nothing is served or written before `start`. What cannot be had is a failed service.

        If it raises all the same, `close` gives back what was taken.

        Raises:
            StartError: the port of the metrics cannot be had, and ``metrics_required`` is set.
        """
        config = self._orchestrator.config
        if config.history is not None:
            self._open("history", partial(self._open_history, config.history))
        if self.metrics.are_on:
            self._open("metrics", self._open_metrics)
            if config.metrics_required and (state := self.states["metrics"]).startswith(_FAILED):
                raise StartError(state.removeprefix(_FAILED))
        if config.control:
            self._open("control", partial(self._open_control, config.control))

    def shown_in(self, settings: Settings) -> Settings:
        """Return `settings` with what people are told of where to find what has been opened."""
        port = self.metrics.port
        host = "" if port is None else self._orchestrator.config.metrics_host
        return replace(settings, socket=self.socket, metrics_port=port, metrics_host=host)

    def start(self, say: Callable[[EventData, str], None]) -> None:
        """Begin, and tell what has failed so far. `say` makes an event of what is at a path, from any thread."""
        for service, opened in self._opened.items():
            self._try(service, opened.start)
        if self._control is not None and self._control.notice is not None:
            logger.warning("{}", self._control.notice)
        with self._lock:
            self._say, untold = say, self._untold
        for failed, path in untold:
            say(failed, path)

    def tell(self, service: str, why: str, path: str = "") -> None:
        """Make it an event that something of a service has failed, as soon as there can be one. Any thread.

        Args:
            service: its name.
            why: one line.
            path: of the agent that this is about; empty if it is about none.
        """
        failed = ServiceFailed(service, why)
        with self._lock:
            say = self._say
            if say is None:
                self._untold.append((failed, path))
        if say is not None:
            say(failed, path)

    def close(self) -> None:
        """End, once what was published is written and sent. Any thread; does not wait."""
        if self._subscription is not None:
            self._subscription.close()
        for opened in self._opened.values():
            opened.close()

    def join(self) -> None:
        """Wait after `close` until the services have ended, for a bounded time. Not from a thread of theirs."""
        for opened in self._opened.values():
            opened.join(END_S)

    def _open_history(self, path: str) -> None:
        from .history_writer import HistoryWriter

        orchestrator = self._orchestrator
        config, opened = orchestrator.config, orchestrator.open_history(path)
        try:
            writer = HistoryWriter(
                opened,
                orchestrator.events,
                rows=config.history_rows,
                age=config.history_age,
                on_trouble=partial(self._failed, "history"),
            )
        except BaseException:
            opened.close()
            raise
        self._opened["history"] = self._writer = writer
        self.last_seq = opened.last_seq
        self.history = History(writer, opened.store)

    def _open_metrics(self) -> None:
        self._opened["metrics"] = self.metrics  # it counts even if the port cannot be had
        self.metrics.open()

    def _open_control(self, where: Literal[True] | str) -> None:
        from orchestree.supervisor.control.server import ControlServer

        from .agent_logs import AgentLogs

        control = ControlServer(
            self._make_app,
            name=self._orchestrator.config.name,
            path=where if isinstance(where, str) else None,
            on_trouble=partial(self._failed, "control"),
            on_notice=partial(self.is_back, "control"),
        )
        control.open()
        self._opened["control"] = self._control = control
        self.logs = AgentLogs()
        self._subscription = self._orchestrator.events.subscribe(self.logs.keep_event)

    def _make_app(self) -> Application:
        from orchestree.supervisor.control.api.app import control_app

        return control_app(self._orchestrator)

    def _open(self, service: str, open_it: Callable[[], None]) -> None:
        self.states[service] = "on"
        self._try(service, open_it)

    def _try(self, service: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # of whichever kind: supervision does not depend on it
            self._failed(service, str(error) or type(error).__name__)

    def _failed(self, service: str, why: str) -> None:
        """Note it, and say it as soon as there is somebody to say it to. Any thread."""
        self.states[service] = f"{_FAILED}{why}"
        self.tell(service, why)

    def is_back(self, service: str, what: str) -> None:
        """Note that a service that had failed works again, and log it. Any thread."""
        self.states[service] = "on"
        logger.warning("{}", what)
