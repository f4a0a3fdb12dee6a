"""Where children are registered: an orchestrator, or a supervisor in it; and the tree as it stands before the start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestree.agents.base import BaseAgent
from orchestree.agents.config import AgentConfig
from orchestree.strategies.errors import AlreadyPresent, NotFound, SpecError, did_you_mean
from orchestree.strategies.restart import (
    AutoShutdown,
    AutoShutdownName,
    Restart,
    RestartName,
    Strategy,
    StrategyName,
)

from .spec import (
    DEFAULT_MAX_RESTARTS,
    DEFAULT_MAX_SECONDS,
    INHERIT,
    AgentEntry,
    BackoffChoice,
    ChildEntry,
    ExecutorName,
    ShutdownTime,
    SupervisorEntry,
    agent_entry,
    check_children,
)

if TYPE_CHECKING:
    from .orchestrator import Orchestrator


class Registry(ABC):
    """Registers agents and supervisors under one supervisor."""

    @property
    @abstractmethod
    def path(self) -> str:
        """Path of the supervisor that new children belong to."""

    @abstractmethod
    def _orchestrator(self) -> Orchestrator:
        """Return the orchestrator that it all belongs to."""

    def register_agent(
        self,
        agent: type[BaseAgent],
        name: str,
        *,
        config: AgentConfig | None = None,
        params: Mapping[str, object] | None = None,
        executor: ExecutorName | None = None,
        restart: Restart | RestartName = Restart.TRANSIENT,
        strategy: Strategy | StrategyName | None = None,
        backoff: BackoffChoice = INHERIT,
        shutdown: ShutdownTime = 5.0,
        start_timeout: float | None = 60.0,
        depends_on: Iterable[str] = (),
        significant: bool = False,
        replace_wedged: bool = False,
        **config_fields: Any,
    ) -> AgentEntry:
        """Register an agent, and on a running tree start it (without waiting for that).

        Args: as the fields of `AgentEntry`; all other keywords are fields of ``agent.Config``.

        Returns:
            The checked, frozen child spec.

        Raises:
            SpecError: naming field, value and rule (`AlreadyStarted` or `AlreadyPresent` for a name that is
                taken); nothing was registered. Dependencies are checked by `start`, or at once on a running tree.
        """
        entry = agent_entry(
            agent,
            name,
            config_fields,
            config=config,
            params=params,
            executor=executor,
            restart=restart,
            strategy=strategy,
            backoff=backoff,
            shutdown=shutdown,
            start_timeout=start_timeout,
            depends_on=depends_on,
            significant=significant,
            replace_wedged=replace_wedged,
        )
        self._orchestrator().register(self.path, entry)
        return entry

    def add_supervisor(
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
    ) -> Supervisor:
        """Register a supervisor; further children can be registered with what this returns.

        Args: as the fields of `SupervisorEntry`.

        Raises:
            SpecError: as `register_agent`.
        """
        entry = SupervisorEntry(
            name,
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            auto_shutdown=auto_shutdown,
            restart=restart,
            backoff=backoff,
            shutdown=shutdown,
            depends_on=depends_on,
            significant=significant,
            children=children,
        )
        orchestrator = self._orchestrator()
        orchestrator.register(self.path, entry)
        return Supervisor(orchestrator, join_path(self.path, name))


class Supervisor(Registry):
    """A supervisor in the tree of an orchestrator, to register children with."""

    def __init__(self, orchestrator: Orchestrator, path: str) -> None:
        """Refer to the supervisor at `path`."""
        self._owner = orchestrator
        self._path = path

    @property
    def path(self) -> str:
        """Path of the supervisor."""
        return self._path

    def _orchestrator(self) -> Orchestrator:
        return self._owner

    def __repr__(self) -> str:
        """Return the path."""
        return f"Supervisor({self._path!r})"


class Draft:
    """The static tree before the start: what has been registered so far, by path of the supervisor."""

    def __init__(self) -> None:
        """Begin with nothing under the root."""
        self._children: dict[str, dict[str, ChildEntry]] = {"": {}}

    def children(self) -> tuple[ChildEntry, ...]:
        """Return the entries below the root, in registration order, each supervisor with its children."""
        return self._collect("")

    def start_over(self, children: Iterable[ChildEntry]) -> None:
        """Start over with these entries below the root."""
        self._children = {"": {}}
        for entry in check_children(children):
            self.add("", entry)

    def add(self, parent: str, entry: ChildEntry) -> None:
        """Add a child.

        Raises:
            SpecError: `parent` is no supervisor, or its name is taken.
        """
        siblings = self._children.get(parent)
        if siblings is None:
            raise SpecError(f"{parent!r}: no such supervisor{did_you_mean(parent, self._children)}")
        path = join_path(parent, entry.name)
        if entry.name in siblings:
            raise AlreadyPresent(f"name={entry.name!r}: {path!r} is registered already")
        siblings[entry.name] = entry
        if isinstance(entry, SupervisorEntry):
            self._children[path] = {}
            for child in entry.children:
                self.add(path, child)

    def remove(self, path: str) -> None:
        """Remove a child and all below it.

        Raises:
            NotFound: there is none.
            SpecError: a sibling depends on it.
        """
        parent, _, name = path.rpartition("/")
        siblings = self._children.get(parent, {})
        if name not in siblings:
            raise NotFound(f"{path!r}: no such agent or supervisor{did_you_mean(path, self._paths())}")
        dependents = [repr(entry.name) for entry in siblings.values() if name in entry.depends_on]
        if dependents:
            raise SpecError(f"{path!r}: {', '.join(dependents)} depend on it")
        del siblings[name]
        for supervisor in [key for key in self._children if key == path or key.startswith(f"{path}/")]:
            del self._children[supervisor]

    def _paths(self) -> list[str]:
        return [join_path(parent, name) for parent, siblings in self._children.items() for name in siblings]

    def _collect(self, parent: str) -> tuple[ChildEntry, ...]:
        return tuple(
            replace(entry, children=self._collect(join_path(parent, entry.name)))
            if isinstance(entry, SupervisorEntry)
            else entry
            for entry in self._children[parent].values()
        )


def join_path(parent: str, name: str) -> str:
    """Return the path of a child."""
    return f"{parent}/{name}" if parent else name
