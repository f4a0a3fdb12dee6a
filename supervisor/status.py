"""What `status`, `tree`, `which_children` and the stats show of a child. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from orchestree.agents.ends import CrashReport

from .blocking import blocker_of
from .states import AgentState
from .streaks import current_streak, stable_after
from .tree import AgentNode, AnyNode, SupervisorNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One agent or supervisor at one moment. Seconds are relative to that moment.

    Attributes:
        path: names from the root down, joined with ``/``; ``""`` is the root.
        kind: ``agent`` or ``supervisor``.
        state: where it is.
        executor: what runs it; None for a supervisor.
        pid: of the agent's own process; None if it has none.
        incarnation: 0 before the first start.
        restarts_total: restarts decided since it was registered.
        streak: failures in a row; 0 after a stable run.
        uptime_s: seconds since it became ready; None while it is not.
        next_restart_s: seconds until it starts again; None unless it waits for that.
        depends_on: names of siblings, as registered.
        waiting_for: names of the siblings it waits for now; of a running coroutine agent whose event loop is
            blocked, who blocks it: the name of a sibling, the path of another agent, or `blocking.NO_AGENT`.
        queued: whether it waits for a worker slot.
        last_crash: of its latest abnormal end.
        result: what ``execute()`` returned at the latest normal end.
        cpu_percent: of its own process since the last look; None if it has none.
        memory_bytes: resident, of its own process; None if it has none.
    """

    path: str
    kind: Literal["agent", "supervisor"]
    state: AgentState
    executor: str | None = None
    pid: int | None = None
    incarnation: int = 0
    restarts_total: int = 0
    streak: int = 0
    uptime_s: float | None = None
    next_restart_s: float | None = None
    depends_on: tuple[str, ...] = ()
    waiting_for: tuple[str, ...] = ()
    queued: bool = False
    last_crash: CrashReport | None = None
    result: object = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None

    @property
    def name(self) -> str:
        """Name among its siblings."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """OTP's count_children. `active`: running or wedged; `specs` = `supervisors` + `workers`."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node of `Orchestrator.tree()`; children in start order."""

    status: Status
    children: tuple[TreeNode, ...] = ()


def status_of(node: AnyNode, now: float) -> Status:
    """Return the status of `node` at `now` (monotonic seconds)."""
    is_up = node.state is AgentState.READY and node.ready_since is not None
    waits = node.state is AgentState.BACKOFF and node.group is not None
    common = Status(
        path=node.path,
        kind="supervisor" if isinstance(node, SupervisorNode) else "agent",
        state=node.state,
        incarnation=node.incarnation,
        restarts_total=node.restarts_total,
        streak=current_streak(node, now).failures,
        uptime_s=now - node.ready_since if is_up and node.ready_since is not None else None,
        next_restart_s=max(0.0, node.group.due_at - now) if waits and node.group else None,
        depends_on=node.entry.depends_on,
        waiting_for=node.waiting_for,
    )
    if isinstance(node, AgentNode):
        return replace(
            common,
            executor=node.entry.executor,
            pid=node.pid,
            queued=node.state is AgentState.QUEUED,
            last_crash=node.last_crash,
            result=node.result,
            waiting_for=node.waiting_for or blocker_of(node),
        )
    return common


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The status of a node as of its last change, readable from any thread and brought up to date at any time.

    Attributes:
        taken_at: monotonic seconds of that change.
        departed: whether it has left the tree, and only its last outcome is remembered.
    """

    status: Status
    taken_at: float
    stable_after_s: float
    departed: bool = False

    @classmethod
    def of(cls, node: AnyNode, now: float, *, departed: bool = False) -> Snapshot:
        """Take a snapshot of `node`; only the owner of the tree may."""
        return cls(status_of(node, now), now, stable_after(node), departed)

    def at(self, now: float) -> Status:
        """Return the status with its seconds moved on to `now`."""
        status, passed = self.status, now - self.taken_at
        if status.uptime_s is not None:
            uptime_s = status.uptime_s + passed
            streak = 0 if uptime_s >= self.stable_after_s else status.streak
            return replace(status, uptime_s=uptime_s, streak=streak)
        if status.next_restart_s is not None:
            return replace(status, next_restart_s=max(0.0, status.next_restart_s - passed))
        return status
