"""What can be read through the API, as views. Changes nothing; may take a while with a large tree, in any thread."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from orchestree.agents.secrets import NO_SECRETS
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import NotFound, OrchestreeError
from orchestree.supervisor.entry_fields import Inherit
from orchestree.supervisor.event_json import to_json
from orchestree.supervisor.event_text import describe, metrics_address
from orchestree.supervisor.history import History
from orchestree.supervisor.permissions import Authority, Who
from orchestree.supervisor.plain import plain
from orchestree.supervisor.reconfiguring import AGENT_POLICY, ROOT_POLICY, SUPERVISOR_POLICY
from orchestree.supervisor.spec import AgentEntry, ChildEntry
from orchestree.supervisor.states import UNHEALTHY_STATES, AgentState
from orchestree.supervisor.status import Status
from orchestree.supervisor.tree_metrics import HOW_TO_SWITCH_ON

from . import views
from .large_answers import Content
from .problems import Problem
from .usage import Usages

if TYPE_CHECKING:
    from orchestree.agents.ends import CrashReport
    from orchestree.supervisor.agent_logs import AgentLogs, LogLine
    from orchestree.supervisor.events import Event
    from orchestree.supervisor.orchestrator import Orchestrator

_SUMMARY: Final = tuple(field.name for field in fields(views.CrashSummary))


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one orchestrator. Everything may be called from any thread."""

    orchestrator: Orchestrator
    agent_logs: AgentLogs
    usages: Usages

    def health(self, who: Who, authority: Authority) -> views.Health:
        """Return how the orchestrator is, and what `who` may do."""
        services, config = self.orchestrator.services, self.orchestrator.config
        stats, port = self.orchestrator.stats(), services.metrics.port
        is_well = UNHEALTHY_STATES.isdisjoint([*stats.agents, *stats.supervisors])  # then there is no need to look
        unhealthy = () if is_well else tuple(one.path for one in self._walk("") if one.state in UNHEALTHY_STATES)
        has_failed = any(state.startswith("failed") for state in services.states.values())
        return views.Health(
            status="degraded" if unhealthy or has_failed else "ok",
            name=services.name,
            pid=os.getpid(),
            version=_version(),
            run=services.run,
            uptime_s=stats.uptime_s,
            run_mode=config.run_mode,
            socket=str(services.socket),
            metrics=None if port is None else metrics_address(config.metrics_host, port),
            unhealthy=unhealthy,
            services=dict(services.states),
            commands=tuple(sorted(authority.commands_of(who))),
            who=views.Caller(uid=who.uid, pid=who.pid, token=who.token),
        )

    @property
    def history(self) -> History:
        """What happened."""
        return self.orchestrator.services.history

    def agents(self, path: str, *, supervisors: bool = False) -> list[views.Agent]:
        """Return the agents (and perhaps the supervisors) at `path` and below, in start order. Raises `NotFound`."""
        return [self._agent(status) for status in self._walk(path) if supervisors or status.kind == "agent"]

    def tree(self) -> views.TreeNode:
        """Return the whole tree."""
        return self._branch(self.orchestrator.status(""))

    def graph(self) -> views.Graph:
        """Return who depends on whom."""
        nodes, edges = [], []
        for status in self._walk(""):
            nodes.append(views.GraphNode(status.path, status.kind, status.state))
            parent = status.path.removesuffix(status.name)
            edges += [views.GraphEdge(status.path, f"{parent}{name}") for name in status.depends_on]
        return views.Graph(tuple(nodes), tuple(edges))

    def stats(self) -> views.Stats:
        """Return figures of the whole tree and of this process."""
        stats, usage = self.orchestrator.stats(), self.usages.of(os.getpid())
        return views.Stats(
            agents=_by_name(stats.agents),
            supervisors=_by_name(stats.supervisors),
            restarts_total=stats.restarts_total,
            events=stats.events,
            uptime_s=stats.uptime_s,
            max_workers=stats.max_workers,
            queued=stats.agents.get(AgentState.QUEUED, 0),
            cpu_percent=usage.cpu_percent,
            memory_bytes=usage.memory_bytes,
            threads=usage.threads,
        )

    def metrics(self, accept: str) -> Content:
        """Return what Prometheus scrapes, in the format that the header ``Accept`` asks for.

        Raises:
            Problem: ``no_route``: metrics are off, or could not be had.
        """
        services = self.orchestrator.services
        if not services.metrics.is_open:
            raise Problem("no_route", f"metrics are {services.states['metrics']}: {HOW_TO_SWITCH_ON}")
        page = services.metrics.exporter.page(accept)
        return Content(b"".join(page.pieces), page.content_type)

    def details(self, path: str) -> views.Details:
        """Return all that is known of what stands at `path`. Raises `NotFound`."""
        status = self.orchestrator.status(path)
        entry = self._entry(path)
        children = tuple(child.path for child in self._children(status)) if status.kind == "supervisor" else None
        agent = entry if isinstance(entry, AgentEntry) else None
        mask = agent.masker() if agent is not None else NO_SECRETS
        return views.Details(
            **self._node(status),
            last_crash=status.last_crash,
            agent=f"{agent.agent.__module__}:{agent.agent.__qualname__}" if agent is not None else None,
            policy=_policy(entry, path) if entry is not None else {},
            config=_object(plain(agent.config, mask)) if agent is not None else None,
            params=_names(agent.params) if agent is not None else (),
            result=plain(status.result, mask),
            children=children,
        )

    def logs(self, path: str, lines: int) -> list[LogLine]:
        """Return the last lines of an agent, or of all below a supervisor, oldest first. Raises `NotFound`."""
        self.orchestrator.status(path)
        return self.agent_logs.lines(path, lines)

    def moving(self, path: str) -> tuple[str, ...]:
        """Return the paths of what starts or stops at `path` or below; none if nothing is there."""
        stats = self.orchestrator.stats()
        if _MOVING.isdisjoint([*stats.agents, *stats.supervisors]):  # then there is no need to walk
            return ()
        try:
            return tuple(status.path for status in self._walk(path) if _moves(status))
        except NotFound:
            return ()

    def not_ended(self) -> tuple[str, ...]:
        """Return the paths of the agents that a stop of the whole tree still has to wait for."""
        return tuple(status.path for status in self._walk("") if status.kind == "agent" and _is_up(status))

    def _walk(self, path: str) -> Iterator[Status]:
        """Yield the statuses at `path` and below, in start order, depth first; the statuses have no usage."""
        yield from self._below(self.orchestrator.status(path))

    def _below(self, status: Status) -> Iterator[Status]:
        yield status
        for child in self._children(status):
            if child.kind == "supervisor":
                yield from self._below(child)
            else:
                yield child

    def _children(self, status: Status) -> list[Status]:
        if status.kind != "supervisor":
            return []
        try:
            return self.orchestrator.which_children(status.path)
        except OrchestreeError:  # it has left the tree since, or an agent has its path now
            return []

    def _entry(self, path: str) -> ChildEntry | None:
        try:
            return self.orchestrator.get_childspec(path)
        except NotFound:  # only its last outcome is left
            return None

    def _branch(self, status: Status) -> views.TreeNode:
        children = tuple(self._branch(child) for child in self._children(status))
        return views.TreeNode(**self._node(status), last_crash=_summary(status.last_crash), children=children)

    def _agent(self, status: Status) -> views.Agent:
        return views.Agent(**self._node(status), last_crash=_summary(status.last_crash))

    def _node(self, status: Status) -> dict[str, Any]:
        usage = self.usages.of(status.pid)
        return {
            "path": status.path,
            "name": status.name,
            "kind": status.kind,
            "state": status.state,
            "executor": status.executor,
            "pid": status.pid,
            "incarnation": status.incarnation,
            "restarts_total": status.restarts_total,
            "streak": status.streak,
            "uptime_s": status.uptime_s,
            "next_restart_s": status.next_restart_s,
            "depends_on": status.depends_on,
            "waiting_for": status.waiting_for,
            "queued": status.queued,
            "cpu_percent": usage.cpu_percent,
            "memory_bytes": usage.memory_bytes,
        }


def event_record(event: Event) -> views.EventRecord:
    """Return an event as the API shows it."""
    return views.EventRecord(**to_json(event), text=describe(event))


_MOVING: Final = frozenset({AgentState.STARTING, AgentState.STOPPING})


def _moves(status: Status) -> bool:
    starts = status.state is AgentState.STARTING and status.kind == "agent"
    return starts or status.state is AgentState.STOPPING


def _is_up(status: Status) -> bool:
    return status.state in (AgentState.STARTING, AgentState.READY, AgentState.STOPPING)


def _summary(report: CrashReport | None) -> views.CrashSummary | None:
    return None if report is None else views.CrashSummary(**{name: getattr(report, name) for name in _SUMMARY})


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _policy(entry: ChildEntry, path: str) -> dict[str, object]:
    names = AGENT_POLICY if isinstance(entry, AgentEntry) else SUPERVISOR_POLICY if path else ROOT_POLICY
    return {field.name: _policy_value(getattr(entry, field.name)) for field in fields(entry) if field.name in names}


def _policy_value(value: object) -> object:
    if isinstance(value, Inherit):
        return "inherit"
    return str(value) if isinstance(value, Backoff) else value


def _names(params: Mapping[str, object]) -> tuple[str, ...]:
    names = plain(list(params))
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _by_name(counts: Mapping[AgentState, int]) -> dict[str, int]:
    return {state.value: count for state, count in counts.items()}


@cache
def _version() -> str:
    try:
        return version("orchestree")
    except PackageNotFoundError:  # it runs out of a folder that nobody installed
        return "unknown"
