"""What can be done through the API: each command is an event first, then it is handed in, then it is waited for.

Nothing here blocks: every wait is for a future of the supervision thread, with a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from orchestree.strategies.errors import NotFound, NotRunning, OrchestreeError, Running
from orchestree.supervisor.events import Command
from orchestree.supervisor.inputs import Input, Reconfigure, RestartChild, StartChild, StopChild, StopTree
from orchestree.supervisor.permissions import Who
from orchestree.supervisor.plain import plain
from orchestree.supervisor.policy_text import policy_changes
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.states import RUNNING_STATES, AgentState
from orchestree.supervisor.tree import AgentNode, SupervisorNode, walk
from orchestree.supervisor.waiting import is_settled
from orchestree.supervisor.world import World

from . import views
from .problems import Problem
from .reading_threads import TREES
from .reads import Reader

if TYPE_CHECKING:
    from orchestree.supervisor.driver import Driver
    from orchestree.supervisor.orchestrator import Orchestrator

ANSWER_S: Final = 10.0
"""Seconds in which supervision has to accept or refuse a command. It takes longer only if a hook blocks it."""

OPERATIONS: Final[Mapping[str, Callable[[str, bool], Input]]] = MappingProxyType(
    {"start": StartChild, "stop": StopChild, "restart": RestartChild}
)
_UP: Final = frozenset({AgentState.STARTING, AgentState.READY})
_KEPT_DOWN: Final = frozenset({AgentState.STOPPED, AgentState.PARKED})

Gone = Callable[[], Awaitable[None]]
"""Returns when whoever asked has gone."""


class _Look:
    """Notes what a node is like the first time it is asked, in the supervision thread; always true."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._has_looked = False
        self.state: AgentState | None = None
        self.purpose: str | None = None
        self.entry: ChildEntry | None = None

    def __call__(self, world: World) -> bool:
        node = world.find(self._path)
        if node is not None and not self._has_looked:
            self.state, self.purpose = node.state, node.purpose
            self.entry = node.entry if isinstance(node, AgentNode | SupervisorNode) else None
        self._has_looked = True
        return True

    def differs(self, other: _Look) -> bool:
        return (self.state, self.purpose) != (other.state, other.purpose)


class _KeptDown:
    """Notes what is stopped or parked below a supervisor that runs, in the supervision thread; always true."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.paths: list[str] = []

    def __call__(self, world: World) -> bool:
        node = world.find(self._path)
        self.paths = [
            below.path
            for below in (walk(node) if node is not None else ())
            if below.state in _KEPT_DOWN and below.parent is not None and below.parent.is_up
        ]
        return True


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands to one orchestrator, for one task each."""

    orchestrator: Orchestrator
    reader: Reader

    async def operate(self, who: Who, command: str, path: str, wait: float | None, gone: Gone) -> views.Operation:
        """Start, stop or restart what stands at `path`; return when that is accepted, or over, at most `wait` s later.

        The start of a supervisor that runs starts what was stopped, or parked, below it.

        Raises:
            NotFound, Restarting, NotRunning: as the method of the orchestrator. Running: it stops, or is wedged.
            Problem: the path is the root. TimeoutError: see `ANSWER_S`.
        """
        driver = self._driver()
        await self._find(path)
        if not path:
            raise Problem("conflict", f"{command}: not of the root, which is no child; shutdown stops the whole tree")
        self._say(who, command, {} if wait is None else {"wait": round(wait, 3)}, path)
        before, after = _Look(path), _Look(path)
        accepted = driver.submit(OPERATIONS[command](path, True), after, before=before)
        try:
            await _answer(accepted)
            changed = after.differs(before)
        except Running:
            if before.state not in _UP:
                raise
            changed = command == "start" and await self._start_below(path)
        if wait:
            with suppress(NotRunning):  # the whole tree has ended meanwhile
                await _first(asyncio.wrap_future(driver.when(is_settled(path))), gone, wait)
        state, pending = self._state(path), self.reader.moving(path)
        if not pending:  # it may have come to rest between the two looks
            state = self._state(path)
        return views.Operation(
            path=path, command=command, changed=changed, done=not pending, state=state, pending=pending
        )

    async def set_policy(self, who: Who, path: str, changes: Mapping[str, object], given: object) -> views.Changes:
        """Change the policy of what stands at `path`; `given` is what was asked for, as JSON.

        Raises:
            SpecError, NotFound: as `Orchestrator.reconfigure`. TimeoutError: see `ANSWER_S`.
        """
        driver = self._driver()
        await self._find(path)
        self._say(who, "set", given, path)
        before, after = _Look(path), _Look(path)
        await _answer(driver.submit(Reconfigure(path, changes), after, before=before))
        if before.entry is None or after.entry is None:
            raise NotFound(f"{path!r}: it has left the tree")
        return views.Changes(path, policy_changes(before.entry, after.entry))

    async def shutdown(self, who: Who, timeout: float | None, wait: float | None, gone: Gone) -> views.Shutdown:
        """Stop the whole tree; return when that is accepted, or when it has ended, at most `wait` seconds later.

        Args:
            who: asks.
            timeout: seconds after which all that is left is killed or abandoned; None for no limit.
            wait: seconds; None for not at all.
            gone: see `Gone`.
        """
        driver = self._driver()
        given = {"wait": wait, "timeout": timeout}
        self._say(who, "shutdown", {name: value for name, value in given.items() if value is not None}, "")
        before, after = _Look(""), _Look("")
        with suppress(NotRunning):  # it has ended with this
            await _answer(driver.submit(StopTree(timeout_s=timeout), after, before=before))
        if wait:
            await _first(asyncio.wrap_future(driver.ended), gone, wait)
        pending = () if driver.ended.done() else self.reader.not_ended()
        state = self._state("")
        return views.Shutdown(
            command="shutdown",
            changed=before.state in RUNNING_STATES and before.state is not AgentState.STOPPING,
            done=not pending and state not in RUNNING_STATES,
            state=state,
            pending=pending,
        )

    def _driver(self) -> Driver:
        if not self.orchestrator.is_running:
            raise Problem("ended", "the tree has ended")
        return self.orchestrator.driver

    async def _find(self, path: str) -> None:
        """Raise `NotFound` if nothing stands at `path`; which takes a while, for the names that are like it."""
        if path not in self.orchestrator.driver.snapshots:
            await TREES.call(lambda: self.orchestrator.status(path))

    async def _start_below(self, path: str) -> bool:
        """Start what is kept down below `path`; return whether there was any such."""
        driver, down = self._driver(), _KeptDown(path)
        await _answer(driver.when(down))
        starts = [driver.submit(StartChild(below, True)) for below in down.paths]
        has_started = False
        for accepted in starts:
            with suppress(OrchestreeError):  # somebody else has started or removed it meanwhile
                await _answer(accepted)
                has_started = True
        return has_started

    def _say(self, who: Who, command: str, arguments: object, path: str) -> None:
        shown = plain(arguments)
        assert isinstance(shown, dict)
        self.orchestrator.driver.emit_soon(Command(command, shown, who.uid, who.pid, who.token), path)

    def _state(self, path: str) -> AgentState:
        try:
            return self.orchestrator.status(path).state
        except NotFound:  # it has left the tree, and not even its last outcome is kept
            return AgentState.STOPPED


async def _answer(accepted: Future[None]) -> None:
    async with asyncio.timeout(ANSWER_S):
        await asyncio.wrap_future(accepted)


async def _first(done: asyncio.Future[None], gone: Gone, seconds: float) -> None:
    """Wait until `done`, at most `seconds`, and not for somebody who has gone. Raises what `done` raises."""
    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((done, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            done.result()
    finally:
        done.cancel()
        leaving.cancel()
