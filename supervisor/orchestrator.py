"""The `Orchestrator`: the root supervisor as users see it. Turns calls into inputs of the core, and waits for them.

It decides nothing. Before `start()` it only collects entries in memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeAlias, Unpack

from orchestree.agents.loading import refuse_if_copy
from orchestree.strategies.errors import NotRunning, SpecError, StartError
from orchestree.supervisor.simulation.blueprint import Blueprint

from .aio import AsyncOrchestrator
from .clock import Clock
from .config import OrchestratorConfig
from .core import Core
from .draft import Draft
from .driver import Driver
from .event_manager import EventManager
from .events import HandlerFailed
from .hooks import Failed, Hooks, chooser, classifier, describe, raise_failure
from .inputs import Reconfigure, RegisterChild, StartTree, StopTree, UnregisterChild
from .joining import alert_result, simple_join
from .lifecycle_log import LifecycleLog
from .made_up_names import MadeUpNames
from .order import StartStep, check_tree, start_steps
from .reachable import check_reachable
from .reading import Readable, TreeReader
from .registry import Registry
from .services import Services
from .spec import ChildEntry, Policy, SupervisorEntry, check_children
from .steering import Steerable
from .tree_metrics import TreeMetrics
from .waiting import HANDLERS_END_S, check_timeout, is_started
from .world import Settings, World

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class Orchestrator(Registry, Readable, Steerable, Hooks):
    """A supervision tree: register agents and supervisors, start it, read it, steer it.

    All methods may be called from any thread. Called from a hook of an agent of this tree, those that act hand
    in what is asked and return at once. In an agent's process, where this object is only a copy, they raise
    `NotRunning`.

    Subclasses may write their own ``class Config(Orchestrator.Config)`` and override `before_start`,
    `on_event`, `choose_next` and `classify_exit`.

    Args:
        config: None stands for ``Config()`` of a subclass that sets ``run_mode``.
        children: a static tree of `AgentEntry` and `SupervisorEntry`.
        registry: of prometheus_client, which the metrics join while the tree runs; None for one of their own.

    Raises:
        SpecError: the configuration or a child breaks a rule.
    """

    Config: TypeAlias = OrchestratorConfig
    clock = Clock()  # a test may give it another one before the start

    def __init__(
        self,
        config: OrchestratorConfig | None = None,
        children: Iterable[ChildEntry] = (),
        *,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """Collect in memory; nothing else happens before `start`."""
        if config is not None and not isinstance(config, self.Config):
            raise SpecError(f"config={config!r}: must be a {type(self).__qualname__}.Config")
        self.config = self.Config() if config is None else config
        self.events = EventManager(self._handler_failed)
        self.aio = AsyncOrchestrator(self)
        self._draft = Draft(self.config.root_entry(children))
        self.names = MadeUpNames(lambda path: self._world is not None and path in self._world.nodes)
        self.services = Services(self, TreeMetrics(self, registry))
        self._lock = threading.RLock()
        """Nobody changes the draft, or starts the tree, while it is being read for the start."""
        self._driver: Driver | None = None
        self._world: World | None = None
        self._reader: TreeReader | None = None
        self.events.subscribe(LifecycleLog())
        if self.overrides("on_event"):
            self.events.subscribe(self.on_event)

    # Registration

    @property
    def path(self) -> str:
        """Path of the root."""
        return ""

    def _orchestrator(self) -> Orchestrator:
        return self

    def register(self, parent: str, entry: ChildEntry) -> None:
        """Add a child to the supervisor at `parent`; on a running tree also start it, without waiting.

        Raises:
            SpecError: the parent does not exist, the name is taken, or (running) a dependency is unknown.
        """
        refuse_if_copy("register_agent()", defines=True)
        check_children([entry])
        check_reachable(entry, parent)
        with self._lock:
            if self._driver is None:
                self._draft.add(parent, entry)
                return
        self._act("register_agent()", RegisterChild(parent, entry))

    def unregister_agent(self, path: str) -> None:
        """Remove a child that does not run (OTP: delete_child); one in BACKOFF is stopped first.

        Raises:
            Running: it runs. SpecError: others depend on it. NotFound: there is none.
        """
        refuse_if_copy("unregister_agent()", defines=True)
        with self._lock:
            if self._driver is None:
                self._draft.remove(path)
                return
        self._act("unregister_agent()", UnregisterChild(path))

    def reconfigure(self, path: str, **changes: Unpack[Policy]) -> None:
        """Change the policy of a child or supervisor, which goes on as it is; in force from the next decision on.

        A restart delay that runs is computed anew from when it began, and so is the time for a start or a stop.
        The root's own policy (path ``""``) is ``strategy max_restarts max_seconds auto_shutdown``.

        Args:
            path: of the child.
            changes: fields of `AgentEntry` or `SupervisorEntry`, see `Policy`.

        Raises:
            SpecError: the field is no policy, the value breaks a rule, or it does not go with what the supervisor
                or a child has; nothing has changed. NotFound: there is no such child.
        """
        done = self.reconfiguring(path, changes)
        if done is not None and not self.driver.is_inside:
            done.result()

    def check(self) -> list[StartStep]:
        """Check the whole tree without starting it; return its start order, depth first.

        Raises:
            SpecError: a rule is broken.
        """
        root = self._root_entry(self._draft.children())
        check_tree(root)
        return start_steps(root)

    def blueprint(self) -> Blueprint:
        """Return what this tree is simulated from, as it is registered now; nothing is started.

        Raises:
            SpecError: a rule is broken, or it was started: what is left then is no specification.
        """
        if self._driver is not None:
            raise SpecError("this orchestrator has been started: make a new one to simulate, explain or replay it")
        classify = classifier(self.classify_exit, raise_failure) if self.overrides("classify_exit") else None
        return Blueprint(self._root_entry(self._draft.children()), self._settings(raise_failure), classify)

    # Life

    def start(self) -> None:
        """Start the tree; return when each child is ready, failed its first start, completed, or has to wait.

        Raises:
            SpecError: the tree breaks a rule; nothing was started.
            StartError: a first start failed under ``strict_start``; everything was stopped again. Or the port of the
                metrics cannot be had under ``metrics_required``; nothing was started, and it can be tried again.
            NotRunning: it was started before.
        """
        self.prepare(None)
        alert_result(self.launch())
        self.check_started()

    def stop(self, timeout: float | None = None) -> None:
        """Stop everything in reverse start order and return when it has ended.

        Args:
            timeout: deadline in seconds for the whole tree; then all that is left is killed or abandoned.

        Raises:
            NotRunning: the tree was never started. A tree that has ended is fine.
        """
        self.driver.refuse_to_block("stop()")
        if not self.ask_to_stop(timeout):
            self.join()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the tree has ended and its event handlers are through; False after `timeout` seconds.

        In a hook of an agent of this tree, whose end waits for the hook, it only says whether the tree has ended.
        """
        refuse_if_copy("join()")
        driver, timeout = self.driver, check_timeout(timeout)
        driver.refuse_to_block("join()")
        try:
            alert_result(driver.ended, 0.0 if driver.is_inside else timeout)
        except TimeoutError:
            return False
        self.events.join(HANDLERS_END_S)
        self.services.join()
        return True

    def simple_join(self) -> int:
        """Start the tree if need be, wait for its end, and return the exit code for the program.

        In the main thread the first SIGINT or SIGTERM stops the tree in order, the second ends it at once.

        Returns:
            0 done; 1 an agent is parked, failed, wedged or was left waiting, a supervisor gave up for good, or
            ``strict_start`` failed; 70 the root gave up; 78 a bad specification (printed as one line);
            128 + n for a second signal n.
        """
        refuse_if_copy("simple_join()")
        return simple_join(self)

    @property
    def exit_code(self) -> int | None:
        """Exit code of the tree; None until it has ended."""
        return self._driver.exit_code if self._driver is not None else None

    @property
    def is_running(self) -> bool:
        """Whether the tree was started and has not ended."""
        return self._driver is not None and not self._driver.ended.done()

    def __enter__(self) -> Self:
        """Start the tree."""
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the tree."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Start the tree from an asyncio program."""
        await self.aio.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop the tree and wait for its end."""
        await self.aio.stop()

    async def run(self) -> int:
        """Start the tree, wait for its end and return its exit code; a cancellation stops it in order first."""
        return await self.aio.run()

    # For the files beside this one

    @property
    def draft(self) -> Draft:
        """What is registered so far; empty once the tree runs."""
        return self._draft

    def reconfiguring(self, path: str, changes: Mapping[str, object]) -> Future[None] | None:
        """Hand in other policy; None if the tree has not been started: then it is changed already."""
        refuse_if_copy("reconfigure()", defines=True)
        with self._lock:
            if self._driver is None:
                self._draft.reconfigure(path, changes)
                return None
        return self._noted("reconfigure()", self.driver.submit(Reconfigure(path, changes)))

    def ask_to_stop(self, timeout: float | None) -> bool:
        """Have the tree stopped; return whether the caller must not wait for that.

        Raises:
            NotRunning: it was never started.
        """
        refuse_if_copy("stop()")
        self.driver.submit(StopTree(timeout_s=check_timeout(timeout)))
        return self.driver.is_inside

    @property
    def driver(self) -> Driver:
        """The driver of a tree that was started.

        Raises:
            NotRunning: it was not.
        """
        if self._driver is None:
            raise NotRunning("the orchestrator has not been started: call start() first")
        return self._driver

    def prepare(self, caller_loop: asyncio.AbstractEventLoop | None) -> None:
        """Check the tree and get everything ready to start it. Blocks for as long as a fork server takes to start.

        Raises:
            SpecError, StartError: nothing was started, and it can be tried again.
            NotRunning: it was started before.
        """
        refuse_if_copy("start()")
        with self._lock:
            if self._driver is not None:
                raise NotRunning("an orchestrator starts once; make a new one")
            if self.config.agents_loop == "caller" and caller_loop is None:
                raise SpecError("agents_loop='caller': start it with `async with` or `await run()`")
            root = self._root_entry(self.before_start(self._draft.children()))
            core = Core(root, self._settings(self._handler_failed))
            with self._giving_up_start():
                self.services.open()
                core.world.settings = self.services.shown_in(core.world.settings)
                self._driver = driver = self._new_driver(core, caller_loop)
                driver.start()
        with self._giving_up_start():
            alert_result(driver.call(driver.prepare))
        self._reader = TreeReader(core.world, driver.snapshots)
        self._world = core.world

    def give_up_start(self) -> None:
        """Undo `prepare`, as far as it came."""
        if self._driver is not None:
            self._driver.shut()
        self._driver = self._reader = self._world = None
        self.services.close()
        self.services.join()
        self.services = Services(self, self.services.metrics)

    def launch(self) -> Future[None]:
        """Start the prepared tree; the future is done when every first start is over.

        Raises:
            SpecError: an ``async def`` handler finds no event loop; nothing was started, and it can be tried again.
        """
        with self._giving_up_start():
            self.events.start()
        started = self.driver.submit(StartTree(), is_started)
        self.services.start(self.driver.emit_soon)
        self._draft = Draft(self._draft.root)  # its entries would keep alive what agents let go
        return started

    def check_started(self) -> None:
        """Raise `StartError` if a first start failed under ``strict_start``, once everything is down again."""
        failed = self._world.start_failure if self._world is not None else None
        if self.config.strict_start and failed is not None:
            self.join()
            crash = self.status(failed).last_crash
            raise StartError(f"{failed!r} did not start: {crash.message if crash else 'it failed'}")

    # Inside

    @contextmanager
    def _giving_up_start(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.give_up_start()
            raise

    def _new_driver(self, core: Core, caller_loop: asyncio.AbstractEventLoop | None) -> Driver:
        classify = classifier(self.classify_exit, self._handler_failed)
        return Driver(
            core,
            self.events.publish,
            agents_loop=caller_loop if self.config.agents_loop == "caller" else None,
            classify=classify if self.overrides("classify_exit") else None,
            on_ended=self._ended,
            clock=self.clock,
            run=self.services.run,
            last_seq=self.services.last_seq,
            keep_line=self.services.keep_line,
            keep_metrics=self.services.metrics.keep,
            on_lag=self.services.metrics.on_lag,
        )

    def _ended(self) -> None:
        self.events.close()
        self.services.close()

    def _handler_failed(self, handler: str, error: BaseException) -> None:
        if self._driver is not None:
            self._driver.emit_soon(HandlerFailed(handler, describe(error)))

    def _read(self) -> TreeReader:
        if (reader := self._reader) is not None:
            return reader
        return TreeReader(Core(self._root_entry(self._draft.children()), Settings()).world)

    def _root_entry(self, children: Iterable[ChildEntry]) -> SupervisorEntry:
        return replace(self._draft.root, children=children)  # type: ignore[arg-type]  # which the specification checks

    def _settings(self, on_failed: Failed) -> Settings:
        choose_next = chooser(self.choose_next, on_failed)
        return self.config.settings(choose_next if self.overrides("choose_next") else None)
