"""A tree under virtual time: the real core, a scripted executor, a clock that only the test moves.

Every run becomes ready and stops at once unless the test says otherwise, so a test names only what matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.ends import (
    IGNORED,
    NORMAL,
    SHUTDOWN,
    Cause,
    CrashReport,
    ExitKind,
    ExitReason,
    abnormal,
)
from orchestree.agents.executor import RunEnded, RunId, RunMemory, RunProgress, RunReady
from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor.core import Core
from orchestree.supervisor.events import TYPE_OF, EventData
from orchestree.supervisor.inputs import (
    AskRunToStop,
    Effect,
    Emit,
    Input,
    KillRun,
    LookAtRun,
    MeasureRun,
    Reconfigure,
    RecycleRun,
    Refused,
    RegisterChild,
    RestartChild,
    StartChild,
    StartRun,
    StartTree,
    StopChild,
    StopTree,
    Tick,
    TreeEnded,
    UnregisterChild,
)
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.tree import AgentNode, AnyNode
from orchestree.supervisor.world import Settings


class Worker(Agent):
    """An agent that only the script moves."""

    def execute(self) -> None: ...


class AsyncWorker(AsyncAgent):
    """A coroutine agent that only the script moves."""

    async def execute(self) -> None: ...


def agent(name: str, **fields: object) -> AgentEntry:
    """Return the entry of a thread agent."""
    return AgentEntry(Worker, name, **fields)  # type: ignore[arg-type]


def process(name: str, **fields: object) -> AgentEntry:
    """Return the entry of a process agent, which can be killed."""
    return AgentEntry(Worker, name, executor="process", **fields)  # type: ignore[arg-type]


def supervisor(name: str, *children: ChildEntry, **fields: object) -> SupervisorEntry:
    """Return the entry of a supervisor."""
    return SupervisorEntry(name, children=children, **fields)  # type: ignore[arg-type]


class VirtualTree:
    """One core and its scripted executor.

    Attributes:
        now: virtual seconds; only `advance` and `run_until` move it.
        log: ``(now, event type, path, data)`` of every event so far.
        manual: paths whose runs neither become ready nor stop by themselves.
        failing: paths whose ``setup()`` fails at once.
        stubborn: paths whose runs ignore being asked to stop.
        live: the runs that the executor has, in start order.
        beats: for each path, the moment of its latest progress and what it says; it has made some all the time if
            there is none, and does not answer if it is None.
        memory: for each path, the bytes that it uses.
        rounds: paths whose runs end at once when they are to be recycled.
    """

    def __init__(
        self, *children: ChildEntry, settings: Settings | None = None, started: bool = True, **root: object
    ) -> None:
        self.now = 0.0
        self.log: list[tuple[float, str, str, EventData]] = []
        self.effects: list[Effect] = []
        self.manual: set[str] = set()
        self.failing: set[str] = set()
        self.stubborn: set[str] = set()
        self.live: dict[RunId, None] = {}
        self.beats: dict[str, tuple[float, str] | None] = {}
        self.memory: dict[str, int] = {}
        self.rounds: set[str] = set()
        self.exit_code: int | None = None
        entry = SupervisorEntry("", children=children, **root)  # type: ignore[arg-type]
        self.core = Core(entry, settings or Settings())
        if started:
            self.start()

    def start(self) -> None:
        self.tell(StartTree())

    def tell(self, event: Input) -> None:
        """Hand one input to the core and carry out what follows; raises what was refused."""
        pending = [event]
        while pending:
            for effect in self.core.handle(pending.pop(0), self.now):
                self.effects.append(effect)
                pending += self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> list[Input]:
        match effect:
            case StartRun(run):
                self.live[run] = None
                if run.path in self.failing:
                    return [self._end(run, abnormal(Cause.START_FAILED), "no")]
                return [] if run.path in self.manual else [RunReady(run)]
            case AskRunToStop(run):
                free = run in self.live and run.path not in self.stubborn | self.manual
                return [self._end(run, NORMAL)] if free else []
            case KillRun(run):
                killable = cast(AgentNode, self.core.world.nodes[run.path]).can_kill
                return [self._end(run, abnormal(Cause.SIGNAL), "killed")] if killable and run in self.live else []
            case Emit(path=path, data=data):
                self.log.append((self.now, TYPE_OF[type(data)].name, path, data))
            case TreeEnded(code):
                self.exit_code = code
            case LookAtRun(run):
                beat = self.beats.get(run.path, (self.now, ""))
                return [RunProgress(run, *beat)] if beat else []
            case MeasureRun(run):
                return [RunMemory(run, self.memory.get(run.path, 0))]
            case RecycleRun(run):
                return [self._end(run, NORMAL)] if run.path in self.rounds else []
            case Refused(error):
                raise error
        return []

    def _end(self, run: RunId, reason: ExitReason, message: str = "boom", **fields: object) -> RunEnded:
        del self.live[run]
        report = None
        if reason.kind is ExitKind.ABNORMAL:
            report = CrashReport(cause=reason.cause, message=message, **fields)  # type: ignore[arg-type]
        return RunEnded(run=run, reason=reason, report=report)

    def run_of(self, path: str) -> RunId:
        """Return the newest live run of an agent."""
        return [run for run in self.live if run.path == path][-1]

    def end(self, path: str, reason: ExitReason, message: str = "boom", **fields: object) -> None:
        self.tell(self._end(self.run_of(path), reason, message, **fields))

    def crash(self, path: str, message: str = "boom", **fields: object) -> None:
        self.end(path, abnormal(Cause.EXCEPTION), message, **fields)

    def complete(self, path: str) -> None:
        self.end(path, NORMAL)

    def ready(self, path: str) -> None:
        self.tell(RunReady(self.run_of(path)))

    def ignore(self, path: str) -> None:
        self.end(path, IGNORED)

    def shut_itself_down(self, path: str) -> None:
        self.end(path, SHUTDOWN)

    def advance(self, seconds: float) -> None:
        """Move the clock, firing each deadline on the way at its own moment."""
        target = self.now + seconds
        while (deadline := self.core.next_deadline()) is not None and deadline <= target:
            self.now = max(self.now, deadline)
            self.tell(Tick())
        self.now = target

    def start_agent(self, path: str) -> None:
        self.tell(StartChild(path))

    def stop_agent(self, path: str) -> None:
        self.tell(StopChild(path))

    def restart_agent(self, path: str) -> None:
        self.tell(RestartChild(path))

    def register(self, parent: str, entry: ChildEntry) -> None:
        self.tell(RegisterChild(parent, entry))

    def start_child(self, parent: str, entry: ChildEntry) -> None:
        self.tell(RegisterChild(parent, entry, must_start=True))

    def reconfigure(self, path: str, **fields: object) -> None:
        self.tell(Reconfigure(path, fields))

    def unregister(self, path: str) -> None:
        self.tell(UnregisterChild(path))

    def stop(self, timeout: float | None = None) -> None:
        self.tell(StopTree(timeout_s=timeout))

    def node(self, path: str) -> AnyNode:
        return self.core.world.nodes[path]

    def state(self, path: str) -> str:
        return self.node(path).state.value

    def states(self) -> dict[str, str]:
        """Return the state of every agent and supervisor but the root."""
        return {path: node.state.value for path, node in self.core.world.nodes.items() if path}

    def incarnations(self) -> dict[str, int]:
        return {path: node.incarnation for path, node in self.core.world.nodes.items() if path}

    def lines(self, *types: str, since: int = 0) -> list[str]:
        """Return ``TYPE path`` of the events of these types (all if none is given), from index `since` on."""
        return [
            f"{name.removeprefix('AGENT_')} {path}".strip()
            for _, name, path, _ in self.log[since:]
            if not types or name in types
        ]

    def events(self, name: str, path: str | None = None) -> list[tuple[float, EventData]]:
        return [(now, data) for now, kind, where, data in self.log if kind == name and path in (None, where)]

    def mark(self) -> int:
        return len(self.log)


def refused(call: Callable[[], object]) -> OrchestreeError:
    """Return the error that `call` is refused with."""
    try:
        call()
    except OrchestreeError as error:
        return error
    raise AssertionError("it was not refused")
