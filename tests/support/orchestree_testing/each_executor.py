"""The same scripted agent in every executor, under a real orchestrator."""

from __future__ import annotations

from typing import Any, Final

from orchestree.supervisor import AgentEntry, Event, EventType, Orchestrator
from orchestree.supervisor.events import AgentMessage, AgentTerminated

from .agents import AsyncScripted, Scripted
from .host import DEADLINE_S

EXECUTORS: Final = ("thread", "process", "async")


def add_scripted(tree: Any, executor: str, name: str, **fields: Any) -> AgentEntry:
    """Register an agent of `executor`; keywords are the hooks of its `Script` and fields of its entry."""
    kind = AsyncScripted if executor == "async" else Scripted
    entry: AgentEntry = tree.register_agent(kind, name, executor=executor, **fields)
    return entry


def end_of(tree: Orchestrator, path: str) -> AgentTerminated:
    """Return what the latest end for good of an agent was told with."""
    data = tree.history(path, EventType.AGENT_TERMINATED)[-1].data
    assert isinstance(data, AgentTerminated)
    return data


def hooks_of(tree: Orchestrator, path: str) -> list[str]:
    """Return the names of the hooks that the runs of an agent went through, in order."""
    messages = tree.history(path, EventType.AGENT_MESSAGE, limit=None)
    return [event.data.name for event in messages if isinstance(event.data, AgentMessage)]


def only(tree: Orchestrator, kind: EventType, path: str) -> Event:
    """Return the one event of this type and path."""
    (event,) = tree.history(path, kind, limit=None)
    return event


def wait_for_hook(tree: Orchestrator, path: str, hook: str = "execute", incarnation: int = 1) -> None:
    """Return when this incarnation of the agent runs `hook`; it is ready a little before its ``execute``."""

    def fits(event: Event) -> bool:
        data = event.data
        return event.incarnation == incarnation and isinstance(data, AgentMessage) and data.name == hook

    tree.events.wait_for(EventType.AGENT_MESSAGE, path, where=fits, since=0, timeout=DEADLINE_S)
