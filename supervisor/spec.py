"""Child specifications: what the user asks for, checked as far as one child alone can be. Pure values.

What concerns several children (names, dependencies, cycles) is checked in `order.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final, Literal

from orchestree.agents.base import BaseAgent
from orchestree.agents.config import AgentConfig, build_config
from orchestree.strategies import checks
from orchestree.strategies.errors import AlreadyPresent, SpecError
from orchestree.strategies.restart import (
    AutoShutdown,
    AutoShutdownName,
    Restart,
    RestartName,
    Strategy,
    StrategyName,
    parse_enum,
)

from . import entry_fields
from .entry_fields import (
    INHERIT as INHERIT,
    BackoffChoice as BackoffChoice,
    Policy as Policy,
    ShutdownTime as ShutdownTime,
    check_name as check_name,
)
from .masking import WithSecrets

ExecutorName = Literal["thread", "process", "async"]
DEFAULT_MAX_RESTARTS: Final = 10
DEFAULT_MAX_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, init=False, repr=False)
class AgentEntry(WithSecrets):
    """The child spec of an agent. Enums also accept their lower-case names.

    Attributes:
        agent: its class.
        name: ``[A-Za-z0-9._-]{1,64}``, unique among its siblings.
        config: an instance of ``agent.Config``; None stands for its defaults.
        params: any further objects, read as ``self.params``.
        executor: ``thread``, ``process`` or ``async``; None stands for the class's default.
        restart: whether it comes back (default TRANSIENT).
        strategy: overrides its supervisor's strategy for the crashes of this agent.
        backoff: `INHERIT` takes the orchestrator's policy; None restarts at once, always, without rules.
        shutdown: seconds a stop may take (default 5), ``"brutal_kill"`` or ``"infinity"``.
        start_timeout: seconds that ``setup()`` may take (default 60); None for ever.
        watchdog: seconds without progress (see `BaseAgent.heartbeat`) after which a ready agent is hung: a crash.
        max_memory: bytes that its process and all below it may use; looked at every 5 s, beyond that the run is
            recycled: it ends between two rounds, or is killed after `shutdown`. Only with executor ``process``.
        max_age: seconds of being ready after which the run is recycled. Only looping and periodic agents.
        depends_on: names of siblings that must be ready, completed or ignored before it starts.
        significant: its end may end its supervisor, see `AutoShutdown`.
        replace_wedged: start the next incarnation beside one that cannot be stopped, or whose event loop is blocked.
        standby: keep a second process warm, that has got as far as just before ``setup()``. Only ``process``.

    Raises:
        SpecError: naming the field, its value and the rule.
    """

    agent: type[BaseAgent]
    name: str
    config: AgentConfig
    params: Mapping[str, object]
    executor: str
    restart: Restart
    strategy: Strategy | None
    backoff: BackoffChoice
    shutdown: ShutdownTime
    start_timeout: float | None
    watchdog: float | None
    max_memory: int | None
    max_age: float | None
    depends_on: tuple[str, ...]
    significant: bool
    replace_wedged: bool
    standby: bool

    def __init__(
        self,
        agent: type[BaseAgent],
        name: str,
        *,
        config: AgentConfig | None = None,
        params: Mapping[str, object] | None = None,
        executor: ExecutorName | str | None = None,
        restart: Restart | RestartName = Restart.TRANSIENT,
        strategy: Strategy | StrategyName | None = None,
        backoff: BackoffChoice = INHERIT,
        shutdown: ShutdownTime = 5.0,
        start_timeout: float | None = 60.0,
        watchdog: float | None = None,
        max_memory: int | None = None,
        max_age: float | None = None,
        depends_on: Iterable[str] = (),
        significant: bool = False,
        replace_wedged: bool = False,
        standby: bool = False,
    ) -> None:
        """Check and freeze the specification."""
        check_name(name)
        entry_fields.agent(agent)
        with_name = f"agent {name!r}: "
        try:
            parsed_restart = parse_enum(Restart, restart, "restart")
            values: dict[str, object] = {
                "restart": parsed_restart,
                "significant": entry_fields.significant(significant, parsed_restart),
                "executor": (chosen := entry_fields.executor(agent, executor)),
                "config": build_config(agent, config, {}, ENTRY_FIELDS),
                "params": entry_fields.params(params),
                "strategy": None if strategy is None else parse_enum(Strategy, strategy, "strategy"),
                "backoff": entry_fields.backoff(backoff),
                "shutdown": entry_fields.shutdown(shutdown),
                "start_timeout": entry_fields.time_limit("start_timeout", start_timeout),
                "watchdog": entry_fields.time_limit("watchdog", watchdog),
                "max_memory": entry_fields.max_memory(max_memory, chosen),
                "max_age": entry_fields.max_age(max_age, agent),
                "depends_on": entry_fields.depends_on(depends_on),
                "replace_wedged": checks.flag("replace_wedged", replace_wedged),
                "standby": entry_fields.standby(standby, chosen),
            }
        except SpecError as error:
            raise SpecError(f"{with_name}{error}") from None
        _fill(self, {"agent": agent, "name": name, **values})

    def without_arguments(self) -> AgentEntry:
        """Return a copy that keeps neither ``config`` nor ``params`` alive; nothing can be started with it."""
        bare = object.__new__(AgentEntry)
        values = {field.name: getattr(self, field.name) for field in fields(AgentEntry)}
        _fill(bare, values | {"config": AgentConfig.model_construct(), "params": entry_fields.params(None)})
        return bare


@dataclass(frozen=True, slots=True, init=False)
class SupervisorEntry:
    """The child spec of a supervisor. Enums also accept their lower-case names.

    Attributes:
        name: as an agent's.
        strategy: who goes along when a child is restarted (default ONE_FOR_ONE).
        max_restarts: within `max_seconds`; one more ends the supervisor.
        max_seconds: length of the window.
        auto_shutdown: whether the end of significant children ends it (default NEVER).
        restart: whether it comes back when it gave up (default PERMANENT).
        backoff: for its own restarts, as an agent's.
        shutdown: for its whole subtree (default ``"infinity"``).
        depends_on: names of siblings.
        significant: for its parent's `auto_shutdown`.
        children: its static children, in registration order.
        dynamic: its children come with `start_child`, know nothing of each other, leave the tree when they end for
            good, and are stopped all at the same time; it starts empty (Elixir: DynamicSupervisor).
        max_children: how many children a dynamic one may have in the tree (0 or more; None for no limit).

    Raises:
        SpecError: naming the field, its value and the rule.
    """

    name: str
    strategy: Strategy
    max_restarts: int
    max_seconds: float
    auto_shutdown: AutoShutdown
    restart: Restart
    backoff: BackoffChoice
    shutdown: ShutdownTime
    depends_on: tuple[str, ...]
    significant: bool
    children: tuple[ChildEntry, ...]
    dynamic: bool
    max_children: int | None

    def __init__(
        self,
        name: str,
        *,
        strategy: Strategy | StrategyName = Strategy.ONE_FOR_ONE,
        max_restarts: int = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        auto_shutdown: AutoShutdown | AutoShutdownName = AutoShutdown.NEVER,
        restart: Restart | RestartName = Restart.PERMANENT,
        backoff: BackoffChoice = INHERIT,
        shutdown: ShutdownTime = "infinity",
        depends_on: Iterable[str] = (),
        significant: bool = False,
        children: Iterable[ChildEntry] = (),
        dynamic: bool = False,
        max_children: int | None = None,
    ) -> None:
        """Check and freeze the specification. Only the root has the empty name."""
        if name != "":
            check_name(name)
        label = f"supervisor {name!r}: " if name else ""
        try:
            parsed_restart = parse_enum(Restart, restart, "restart")
            values: dict[str, object] = {
                "strategy": parse_enum(Strategy, strategy, "strategy"),
                "max_restarts": checks.count("max_restarts", max_restarts),
                "max_seconds": checks.seconds("max_seconds", max_seconds, allow_zero=False),
                "auto_shutdown": parse_enum(AutoShutdown, auto_shutdown, "auto_shutdown"),
                "restart": parsed_restart,
                "significant": entry_fields.significant(significant, parsed_restart),
                "backoff": entry_fields.backoff(backoff),
                "shutdown": entry_fields.shutdown(shutdown),
                "depends_on": entry_fields.depends_on(depends_on),
                "children": check_children(children),
                "dynamic": checks.flag("dynamic", dynamic),
                "max_children": entry_fields.max_children(max_children, dynamic),
            }
            if dynamic:
                entry_fields.check_dynamic(values)
        except SpecError as error:
            raise type(error)(f"{label}{error}") from None
        _fill(self, {"name": name, **values})


ChildEntry = AgentEntry | SupervisorEntry

ENTRY_FIELDS: Final = frozenset(field.name for field in fields(AgentEntry)) - {"agent", "name"}
"""Keywords of `register_agent` that belong to the entry; all others are config fields."""


def _fill(entry: object, values: Mapping[str, object]) -> None:
    for key, value in values.items():
        object.__setattr__(entry, key, value)


def check_children(children: object) -> tuple[ChildEntry, ...]:
    """Return the children of one supervisor; raise `SpecError` unless they are entries, each with its own name."""
    if not isinstance(children, Iterable):
        raise SpecError(f"children={children!r}: must be a list of AgentEntry and SupervisorEntry")
    names: set[str] = set()
    for child in (found := tuple(children)):
        if not isinstance(child, (AgentEntry, SupervisorEntry)):
            raise SpecError(f"children: {child!r}: must be an AgentEntry or a SupervisorEntry")
        check_name(child.name)
        if child.name in names:
            raise AlreadyPresent(f"name={child.name!r}: stands twice among the children")
        names.add(child.name)
    return found
