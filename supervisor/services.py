"""What runs beside supervision, the event history and the control API: opened before the tree starts, closed after it.

One that fails is a ``SERVICE_FAILED`` event, and supervision goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from loguru import logger

from orchestree.agents.executor import KeepLine
from orchestree.strategies.errors import OrchestreeError

from .events import EventData, ServiceFailed
from .history import History

if TYPE_CHECKING:
    from orchestree.supervisor.control.api.app import Application
    from orchestree.supervisor.control.server import ControlServer

    from .agent_logs import AgentLogs
    from .config import OrchestratorConfig
    from .history_writer import HistoryWriter
    from .orchestrator import Orchestrator

END_S: Final = 5.0
"""Seconds that whoever waits for the end of the tree also waits for each service."""


class Services:
    """The services of one orchestrator.

    Attributes:
        run: id of this run, of every event.
        last_seq: number of the latest event of the runs before, 0 without a history file.
        history: answers for events from memory and file.
        logs: what agents said lately; None unless the control API is on.
        states: of each service by its name: ``off``, ``on`` or ``failed: why``.
    """

    def __init__(self, orchestrator: Orchestrator) -> None:
        """Open nothing yet."""
        self.run = token_hex(6)
        self.last_seq = 0
        self.history = History(orchestrator.events)
        self.logs: AgentLogs | None = None
        self.states = {"control": "off", "history": "off", "metrics": "off"}
        self._orchestrator = orchestrator
        self._say: Callable[[EventData], None] | None = None
        self._control: ControlServer | None = None
        self._writer: HistoryWriter | None = None

    @property
    def socket(self) -> str:
        """Path of the control socket; empty if there is none."""
        return str(self._control.socket) if self._control is not None else ""

    @property
    def name(self) -> str:
        """Name by which the control API is found; another than the configured one if that was taken."""
        return self._control.name if self._control is not None else self._orchestrator.config.name

    @property
    def keep_line(self) -> KeepLine | None:
        """What keeps the lines of agents for the API; None if nobody can ask for them."""
        return self.logs.keep if self.logs is not None else None

    def open(self) -> None:
        """Take files and sockets. Nothing is served or written before `start`; never raises for what the world did."""
        config = self._orchestrator.config
        if config.history is not None:
            self._try("history", partial(self._open_history, config.history, config))
        if config.control:
            self._try("control", partial(self._open_control, config))
        if config.metrics_port is not None:
            self.states["metrics"] = "failed: not part of this version yet"

    def start(self, say: Callable[[EventData], None]) -> None:
        """Begin, and tell what could not be opened. `say` makes an event, from any thread."""
        self._say = say
        for service, state in self.states.items():
            if state.startswith("failed: "):
                say(ServiceFailed(service, state.removeprefix("failed: ")))
        if self._writer is not None:
            self._writer.start()
        if self._control is not None:
            if self._control.notice is not None:
                logger.warning("{}", self._control.notice)
            self._control.start()

    def close(self) -> None:
        """End, once what was published is written and sent. Any thread; does not wait."""
        if self._writer is not None:
            self._writer.close()
        if self._control is not None:
            self._control.close()

    def join(self) -> None:
        """Wait after `close` until the services have ended, for a bounded time. Not from a thread of theirs."""
        if self._writer is not None:
            self._writer.join(END_S)
        if self._control is not None:
            self._control.join(END_S)

    def _open_history(self, path: str, config: OrchestratorConfig) -> None:
        from .history_sqlite import SqliteHistory
        from .history_writer import HistoryWriter

        events = self._orchestrator.events
        store = SqliteHistory.open(path, name=config.name, run=self.run)
        self.last_seq = store.last_seq
        self._writer = HistoryWriter(
            store,
            events,
            rows=config.history_rows,
            age=config.history_age,
            on_trouble=lambda text: self._failed("history", text),
        )
        self.history = History(self._writer, store)

    def _open_control(self, config: OrchestratorConfig) -> None:
        from orchestree.supervisor.control.server import ControlServer

        from .agent_logs import AgentLogs

        path = config.control if isinstance(config.control, str) else None

        def make_app() -> Application:
            from orchestree.supervisor.control.api.app import control_app

            return control_app(self._orchestrator)

        control = ControlServer(
            make_app, name=config.name, path=path, on_trouble=lambda text: self._failed("control", text)
        )
        control.open()
        self._control = control
        self.logs = AgentLogs()
        self._orchestrator.events.subscribe(self.logs.keep_event)

    def _try(self, service: str, open_it: Callable[[], None]) -> None:
        self.states[service] = "on"
        try:
            open_it()
        except (OSError, OrchestreeError) as error:
            self._failed(service, str(error))

    def _failed(self, service: str, why: str) -> None:
        """Note it, and say it as soon as there is somebody to say it to. Any thread."""
        self.states[service] = f"failed: {why}"
        if self._say is not None:
            self._say(ServiceFailed(service, why))
