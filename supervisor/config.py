"""`Orchestrator.Config`: what a user may set for a whole tree. A strict pydantic model, one line per mistake."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import InstanceOf, ValidationInfo, field_validator
from tenacity import stop_after_attempt

from orchestree.agents.config import StrictConfig
from orchestree.strategies import checks
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.strategies.restart import AutoShutdown, Strategy

from .permissions import permitted
from .spec import DEFAULT_MAX_RESTARTS, DEFAULT_MAX_SECONDS, ChildEntry, SupervisorEntry, check_name
from .states import RunMode

_OFF: Final = MappingProxyType({"control": False, "history": None})


class OrchestratorConfig(StrictConfig):
    """Settings of one orchestrator. Unknown keys are errors; enums also accept their lower-case names.

    Attributes:
        run_mode: required; ``STOP_ON_EMPTY`` or ``DAEMON``.
        name: of the orchestrator, for the control socket and the metrics.
        strategy: of the root supervisor (default ONE_FOR_ONE).
        max_restarts: of the root supervisor, within `max_seconds`.
        max_seconds: length of its window.
        auto_shutdown: of the root supervisor.
        backoff: for every child that names none. The default is ``Backoff()`` in ``DAEMON`` and
            ``Backoff(stop=stop_after_attempt(5))`` in ``STOP_ON_EMPTY``; None restarts at once, always.
        max_workers: how many agents of the whole tree run at once; None for no limit.
        metrics_port: TCP port of the Prometheus endpoint; 0 for any free one, None for none.
        control: whether (or at which path) the control socket is opened.
        control_permissions: what whoever reaches that socket may do: ``full``, ``operate`` (read, start, stop,
            restart), ``read_only``, or a set of command names.
        history: file of the event history; None keeps the latest 10,000 events in memory.
        history_rows: how many events the file keeps; None for no limit.
        history_age: seconds for which it keeps an event; None for no limit.
        strict_start: a failed first start ends the whole start, as in OTP.
        agents_loop: ``own``: coroutine agents run on a loop in a thread of its own; ``caller``: on the loop
            of the program that awaits the orchestrator.
    """

    run_mode: RunMode
    name: str = "orchestree"
    strategy: Strategy = Strategy.ONE_FOR_ONE
    max_restarts: int = DEFAULT_MAX_RESTARTS
    max_seconds: float = DEFAULT_MAX_SECONDS
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    backoff: InstanceOf[Backoff] | None = Backoff()
    max_workers: int | None = None
    metrics_port: int | None = None
    control: bool | str = True
    control_permissions: Literal["full", "operate", "read_only"] | frozenset[str] = "full"
    history: str | None = None
    history_rows: int | None = 1_000_000
    history_age: float | None = None
    strict_start: bool = False
    agents_loop: Literal["own", "caller"] = "own"

    def __init__(self, **values: Any) -> None:
        """Check and take over the fields."""
        if "run_mode" not in values and type(self).model_fields["run_mode"].is_required():
            raise SpecError("Orchestrator.Config: run_mode is required: RunMode.STOP_ON_EMPTY or RunMode.DAEMON")
        super().__init__(**values)
        try:
            check_name(self.name)
            for field, path in (("control", self.control), ("history", self.history)):
                if path == "":
                    raise SpecError(f"{field}='': must be the path of a file; {field}={_OFF[field]} turns it off")
            if self.max_workers is not None:
                checks.count("max_workers", self.max_workers, least=1)
            if self.history_rows is not None:
                checks.count("history_rows", self.history_rows, least=1)
            if self.history_age is not None:
                checks.seconds("history_age", self.history_age, allow_zero=False)
            if self.metrics_port is not None and not 0 <= self.metrics_port <= 65535:
                raise SpecError(f"metrics_port={self.metrics_port!r}: must be from 0 to 65535")
        except SpecError as error:
            raise SpecError(f"{self.__repr_name__()}: {error}") from None

    @field_validator("control_permissions", mode="before")
    @classmethod
    def _commands_that_exist(cls, value: object) -> object:
        """Check the names here; a list of them is as good as a set."""
        if isinstance(value, (list, tuple, set)):
            value = frozenset(value)
        if isinstance(value, (str, frozenset)):
            try:
                permitted(value)
            except SpecError as error:
                raise ValueError(str(error).partition(": ")[2]) from None
        return value

    @field_validator("max_restarts", "max_seconds")
    @classmethod
    def _within_bounds(cls, value: float, info: ValidationInfo) -> float:
        """Check what concerns the root here, so that the first wrong field is the first that is named."""
        try:
            SupervisorEntry("", **{str(info.field_name): value})  # type: ignore[arg-type]
        except SpecError as error:
            raise ValueError(str(error).partition(": ")[2]) from None
        return value

    def root_entry(self, children: Iterable[ChildEntry]) -> SupervisorEntry:
        """Return the specification of the root supervisor."""
        return SupervisorEntry(
            "",
            strategy=self.strategy,
            max_restarts=self.max_restarts,
            max_seconds=self.max_seconds,
            auto_shutdown=self.auto_shutdown,
            children=children,
        )

    def default_backoff(self) -> Backoff | None:
        """Return the policy of children that name none."""
        untouched = "backoff" not in self.model_fields_set and self.backoff == Backoff()
        if untouched and self.run_mode is RunMode.STOP_ON_EMPTY:
            return Backoff(stop=stop_after_attempt(5))
        return self.backoff

    def __repr_name__(self) -> str:
        """Return the name that a user knows it by."""
        return "Orchestrator.Config"
