"""The executors of one tree, each made when it is first needed. Supervision thread only, but for `last_beat`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from orchestree.agents.executor import Executor, Host, Launch, RunId
from orchestree.agents.executors import executor_class

from .runs import launch_of
from .tree import AgentNode, Node


class ExecutorSet:
    """One executor of each kind that the tree's agents name."""

    def __init__(self, host: Host) -> None:
        """Make none yet; those that are made belong to `host`."""
        self._host = host
        self._made: dict[str, Executor] = {}

    def __getitem__(self, name: str) -> Executor:
        """Return the executor of this name."""
        executor = self._made.get(name)
        if executor is None:
            executor = self._made[name] = executor_class(name)(self._host)
        return executor

    def prepare(self, nodes: Iterable[Node]) -> None:
        """Have them get ready for all agents among `nodes`, before anything starts.

        Raises:
            SpecError: one of them can never run.
        """
        launches: dict[str, list[Launch]] = {}
        for node in nodes:
            if isinstance(node, AgentNode):
                launch = launch_of(node.entry, RunId(node.path, 0))
                launches.setdefault(node.entry.executor, []).append(launch)
        for name, agents in launches.items():
            self[name].prepare(agents)

    def last_beat(self, node: Node | None, run: RunId) -> float | None:
        """Return when a run of `node` made progress last, see `Executor.last_beat`. Any thread."""
        executor = self._made.get(node.entry.executor) if isinstance(node, AgentNode) else None
        return executor.last_beat(run) if executor is not None else None

    def close(self) -> None:
        """Close each, whatever it raises."""
        for executor in self._made.values():
            with suppress(Exception):
                executor.close()
