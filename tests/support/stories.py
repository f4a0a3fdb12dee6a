"""What a virtual tree did and told, as lines that a test compares whole: order, times, requests, reports."""

from __future__ import annotations

from typing import Any, Final

from checked import CheckedTree
from virtual import VirtualTree, supervisor

from orchestree.supervisor.event_text import describe
from orchestree.supervisor.events import TYPE_OF, AgentRestarting, AgentTerminated, Event
from orchestree.supervisor.inputs import AskRunToStop, Effect, Input, KillRun
from orchestree.supervisor.lifecycle_log import level_of

ENDS: Final = (
    "AGENT_CRASHED", "AGENT_STOPPING", "AGENT_TERMINATED", "AGENT_WEDGED", "AGENT_PARKED",
    "SUPERVISOR_TERMINATED", "ORCHESTRATOR_STOPPED",
)  # fmt: skip
LIFE: Final = (*ENDS, "AGENT_STARTING", "AGENT_RESTARTING", "SUPERVISOR_STARTED", "SUPERVISOR_RESTARTING")
REPORTED: Final = ("WARNING", "ERROR", "CRITICAL")
"""Levels of what somebody has to know; OTP's error reports. The rest is progress."""


class Story(CheckedTree):
    """A tree that also keeps, with their times, the requests that were made of its runs.

    Attributes:
        requests: ``1.5 ask path`` and ``1.5 kill path``, in order.
        undying: paths whose runs survive even a kill until the test ends them.
    """

    def __init__(self, *children: Any, **fields: Any) -> None:
        self.requests: list[str] = []
        self.undying: set[str] = set()
        super().__init__(*children, **fields)

    def _carry_out(self, effect: Effect) -> list[Input]:
        match effect:
            case AskRunToStop(run):
                self.requests.append(f"{self.now:g} ask {run.path}")
            case KillRun(run):
                self.requests.append(f"{self.now:g} kill {run.path}")
                if run.path in self.undying:
                    return []
        return super()._carry_out(effect)

    def forget(self) -> None:
        """Begin anew: what has happened so far is of no interest."""
        self.log.clear()
        self.requests.clear()


def told(tree: VirtualTree, *types: str, since: int = 0) -> list[str]:
    """Return ``1.5 TYPE path`` of the events of these types (all if none is given), in order."""
    return [
        f"{now:g} {name.removeprefix('AGENT_')} {path}".rstrip()
        for now, name, path, _ in tree.log[since:]
        if not types or name in types
    ]


def as_event(tree: VirtualTree, index: int) -> Event:
    """Return the event at `index` of the log as subscribers see it, but for its incarnation."""
    now, _, path, data = tree.log[index]
    return Event(index + 1, now, now, TYPE_OF[type(data)], path, 1, data)


def reports(tree: VirtualTree, since: int = 0) -> list[str]:
    """Return ``LEVEL TYPE path`` of every event that the log of the tree shows as more than progress."""
    events = [as_event(tree, index) for index in range(since, len(tree.log))]
    return [
        f"{level_of(event)} {event.type.name.removeprefix('AGENT_')} {event.path}".rstrip()
        for event in events
        if level_of(event) in REPORTED
    ]


def lines(tree: VirtualTree, since: int = 0) -> list[str]:
    """Return the text of every event."""
    return [describe(as_event(tree, index)) for index in range(since, len(tree.log))]


def a_pool(*children: Any, **fields: object) -> Story:
    """Return a tree with the dynamic supervisor ``pool``, in which these children have started."""
    tree = Story(supervisor("pool", dynamic=True, **fields))
    for each in children:
        tree.start_child("pool", each)
    tree.forget()
    return tree


def shutdown_errors(tree: Story) -> dict[str, str | None]:
    """Return, for each child that was stopped, what its stop was told to have gone wrong."""
    return {
        path: data.shutdown_error
        for _, _, path, data in tree.log
        if isinstance(data, AgentTerminated | AgentRestarting)
    }
