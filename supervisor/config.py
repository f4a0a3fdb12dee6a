"""`Orchestrator.Config`: what a user may set for a whole tree. A strict pydantic model, one line per mistake."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import InstanceOf, SecretStr, ValidationInfo, field_validator
from tenacity import stop_after_attempt

from orchestree.agents.config import StrictConfig
from orchestree.strategies import checks
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.strategies.restart import AutoShutdown, Strategy

from .permissions import permitted
from .reachable import Killable
from .spec import DEFAULT_MAX_RESTARTS, DEFAULT_MAX_SECONDS, ChildEntry, SupervisorEntry, check_name
from .states import RunMode
from .world import ChooseNext, Settings

_OFF: Final = MappingProxyType({"control": False, "history": None})
_TOKEN: Final = re.compile("[!-~]+")


class OrchestratorConfig(StrictConfig):
    """Settings of one orchestrator. Unknown keys are errors; enums also accept their lower-case names.

    Attributes:
        run_mode: required; ``STOP_ON_EMPTY`` or ``DAEMON``.
        name: of the orchestrator, by which the control socket is found; `orchestree_build_info` of the metrics has it.
        strategy: of the root supervisor (default ONE_FOR_ONE).
        max_restarts: of the root supervisor, within `max_seconds`.
        max_seconds: length of its window.
        auto_shutdown: of the root supervisor.
        backoff: for every child that names none. The default is ``Backoff()`` in ``DAEMON`` and
            ``Backoff(stop=stop_after_attempt(5))`` in ``STOP_ON_EMPTY``; None restarts at once, always.
        max_workers: how many agents of the whole tree run at once; None for no limit.
        metrics_port: TCP port of the Prometheus endpoint; 0 for any free one, None for none.
        metrics_host: address or name that it listens on. All but a loopback address and ``localhost`` need a
            `metrics_token`.
        metrics_required: the start fails (`StartError`) if the port cannot be had; else that is an event, and the tree
            does without until it can.
        metrics_token: shown by whoever may scrape, as ``Authorization: Bearer <token>``; ASCII characters without
            spaces. None lets everybody who reaches the port.
        metrics_series: how many label sets all own metrics of one agent may have together; the rest is left out.
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
    metrics_host: str = "127.0.0.1"
    metrics_required: bool = False
    metrics_token: SecretStr | None = None
    metrics_series: int = 1000
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
            self._check_metrics()
        except SpecError as error:
            raise SpecError(f"{self.__repr_name__()}: {error}") from None

    def _check_metrics(self) -> None:
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65535:
            raise SpecError(f"metrics_port={self.metrics_port!r}: must be from 0 to 65535")
        if self.metrics_required and self.metrics_port is None:
            raise SpecError("metrics_required=True: needs metrics_port, which is None")
        checks.count("metrics_series", self.metrics_series, least=1)
        if not self.metrics_host:
            raise SpecError("metrics_host='': must be an address of this machine, or a name")
        if self.metrics_token is not None:
            if not _TOKEN.fullmatch(self.metrics_token.get_secret_value()):
                raise SpecError("metrics_token=...: must be one or more ASCII characters without spaces")
        elif not _is_loopback(self.metrics_host):
            raise SpecError(
                f"metrics_host={self.metrics_host!r}: other machines may reach it, so metrics_token must be set"
            )

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

    def settings(self, choose_next: ChooseNext | None) -> Settings:
        """Return what the core of this tree is built from; `choose_next` as it is there."""
        # Not from the random numbers of the program, which are its own; so long that every reader of JSON can hold it.
        seed = random.SystemRandom().getrandbits(53)
        return Settings(
            name=self.name,
            run_mode=self.run_mode,
            backoff=self.default_backoff(),
            max_workers=self.max_workers,
            strict_start=self.strict_start,
            killable=Killable(),
            draw=random.Random(seed).random,
            seed=seed,
            choose_next=choose_next,
        )

    def __repr_name__(self) -> str:
        """Return the name that a user knows it by."""
        return "Orchestrator.Config"


def _is_loopback(host: str) -> bool:
    """Return whether nobody on another machine reaches what listens there; of a name nobody knows."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
