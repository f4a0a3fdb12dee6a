"""Where children are registered: an orchestrator, or a supervisor in it."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from orchestree.agents.base import BaseAgent
from orchestree.agents.config import AgentConfig
from orchestree.strategies import checks
from orchestree.strategies.errors import NotRunning, Restarting, Running, SpecError
from orchestree.strategies.restart import (
    AutoShutdown,
    AutoShutdownName,
    Restart,
    RestartName,
    Strategy,
    StrategyName,
)

from .draft import join_path
from .keywords import agent_entry
from .partitions import partition_of
from .reachable import check_reachable
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
    check_children,
)
from .states import PENDING_STATES, RUNNING_STATES, AgentState

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
        watchdog: float | None = None,
        max_memory: int | None = None,
        max_age: float | None = None,
        depends_on: Iterable[str] = (),
        significant: bool = False,
        replace_wedged: bool = False,
        standby: bool = False,
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
        own = {
            "config": config,
            "params": params,
            "executor": executor,
            "restart": restart,
            "strategy": strategy,
            "backoff": backoff,
            "shutdown": shutdown,
            "start_timeout": start_timeout,
            "watchdog": watchdog,
            "max_memory": max_memory,
            "max_age": max_age,
            "depends_on": depends_on,
            "significant": significant,
            "replace_wedged": replace_wedged,
            "standby": standby,
        }
        entry = agent_entry(agent, name, own | config_fields)
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
        dynamic: bool = False,
        max_children: int | None = None,
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
            dynamic=dynamic,
            max_children=max_children,
        )
        orchestrator = self._orchestrator()
        orchestrator.register(self.path, entry)
        return Supervisor(orchestrator, join_path(self.path, name))

    def start_child(self, agent: type[BaseAgent] | ChildEntry, name: str | None = None, **fields: Any) -> str | None:
        """Start one more child of the running tree, and wait for its start (OTP: start_child).

        It is all or nothing: of an agent whose first start fails nothing is kept, and no restart is counted. One
        that has to wait (for a sibling, for a worker slot) is there for good, as with `register_agent`.

        Args:
            agent: a class, or a whole specification.
            name: of an agent given as a class; None makes one up (``worker-1``).
            fields: all other keywords of `register_agent`.

        Returns:
            The path of the child; None if its ``setup()`` said IGNORE. In a hook of an agent of this tree, which
            does not wait, always the path.

        Raises:
            StartError: its first start failed. MaxChildren: the supervisor is full. SpecError: as `register_agent`.
            NotRunning: the tree does not run.
        """
        return self._orchestrator().start_under(self.path, self.child_entry(agent, name, fields))

    def child_entry(
        self, agent: type[BaseAgent] | ChildEntry, name: str | None, fields: Mapping[str, object]
    ) -> ChildEntry:
        """Return the checked specification that `start_child` is asked for."""
        if not isinstance(agent, (AgentEntry, SupervisorEntry)):
            chosen = self._orchestrator().names.make(self.path, agent) if name is None else name
            entry: ChildEntry = agent_entry(agent, chosen, fields)
        elif name is not None or fields:
            raise SpecError(f"start_child(): {agent.name!r} is a whole specification; it takes no name and no fields")
        else:
            [entry] = check_children([agent])
        check_reachable(entry, self.path)
        return entry

    def add_partitions(
        self,
        name: str,
        agent: type[BaseAgent],
        *,
        partitions: int | None = None,
        with_params: Callable[[Mapping[str, object], int], Mapping[str, object]] | None = None,
        strategy: Strategy | StrategyName = Strategy.ONE_FOR_ONE,
        max_restarts: int = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        params: Mapping[str, object] | None = None,
        **fields: Any,
    ) -> Partitions:
        """Register a supervisor of equal agents, named ``0``, ``1`` ..., that share work by key (Elixir's idea).

        Args:
            name: of the supervisor.
            agent: class of all of them.
            partitions: how many (1 or more); None for one per CPU.
            with_params: makes the params of each agent from `params` and its number.
            strategy: of the supervisor.
            max_restarts: of the supervisor.
            max_seconds: of the supervisor.
            params: of each agent.
            fields: all other keywords of `register_agent`, for each agent.

        Raises:
            SpecError: as `register_agent`.
        """
        if with_params is not None and not callable(with_params):
            raise SpecError(f"with_params={with_params!r}: must be a function of the params and a number")
        count = checks.count("partitions", (os.cpu_count() or 1) if partitions is None else partitions, least=1)
        given = dict(params or {})
        children = [
            agent_entry(agent, str(index), {**fields, "params": with_params(given, index) if with_params else given})
            for index in range(count)
        ]
        supervisor = self.add_supervisor(
            name, strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds, children=children
        )
        return Partitions(self._orchestrator(), supervisor.path, count)


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
        return f"{type(self).__name__}({self._path!r})"


class Partitions(Supervisor):
    """A supervisor of equal agents, each of which has its share of all keys. Any thread."""

    def __init__(self, orchestrator: Orchestrator, path: str, count: int) -> None:
        """Refer to the supervisor at `path`, whose children ``0`` to ``count - 1`` are all in use."""
        super().__init__(orchestrator, path)
        self._most = self._count = self._wanted = count
        self._counting = threading.Lock()

    @property
    def partitions(self) -> int:
        """How many are in use."""
        return self._count

    def path_for(self, key: int | str | bytes) -> str:
        """Return the path of the agent that `key` belongs to: the same in every process, for the same count.

        Raises:
            SpecError: `key` is neither int, str nor bytes. NotFound: no partition is in use.
        """
        return self._path_of(partition_of(key, self._count))

    def resize(self, partitions: int) -> int:
        """Change how many are in use, and return how many were; the children stay registered.

        Fewer: keys go to the remaining ones at once, then the others are stopped. More: they are started first. Of
        two calls at the same time the later one holds. In a hook of an agent of this tree it does not wait.

        Raises:
            SpecError: not a whole number from 0 to what was registered. NotRunning: the tree does not run.
            NotFound: one of the partitions was unregistered. Nothing has changed then.
        """
        if checks.count("partitions", partitions) > self._most:
            raise SpecError(f"partitions={partitions!r}: must be from 0 to {self._most}")
        tree = self._owner
        tree.driver.refuse_to_block("resize()")
        if not tree.is_running:
            raise NotRunning("the orchestrator has ended")
        for index in range(self._most):
            tree.status(self._path_of(index))
        with self._counting:
            before, self._wanted = self._wanted, partitions
            self._count = min(self._count, partitions)
        # Again, as another call may have changed its mind meanwhile; in a hook nothing moves before it returns.
        while self._move() and not tree.driver.is_inside:
            pass
        with self._counting:
            self._count = self._wanted
        return before

    def _move(self) -> bool:
        """Stop and start what is not as it is wanted to be; return whether there was anything."""
        moved = False
        for index in reversed(range(self._most)):
            path = self._path_of(index)
            state, is_wanted = self._owner.status(path).state, index < self._wanted
            if not is_wanted and state in RUNNING_STATES | PENDING_STATES:
                self._owner.stop_agent(path)
                moved = True
            elif is_wanted and state is AgentState.STOPPED:
                with suppress(Running, Restarting):  # somebody was faster
                    self._owner.start_agent(path)
                moved = True
        return moved

    def _path_of(self, index: int) -> str:
        return join_path(self.path, str(index))
