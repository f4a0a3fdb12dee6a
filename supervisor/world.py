"""The state of one tree while the core decides, and the few ways to change it. Pure.

Whoever changes a node goes through `set_state`, so that counters, snapshots and neighbours never lag behind.
Follow-up work goes on the agendas `changed`, `ended`, `wedged`, `due_groups`, which the core works off.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TypeGuard, TypeVarTuple

from orchestree.agents.ends import ExitReason
from orchestree.agents.executor import RunId
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import NotFound, did_you_mean
from orchestree.strategies.restart import Restart

from .core_settings import ChooseNext as ChooseNext, Settings as Settings
from .deadlines import Deadlines
from .entry_fields import Inherit, check_path
from .events import AgentTerminated, EventData
from .inputs import Effect, Emit
from .order import start_order
from .pending import Group, Ticket
from .spec import AgentEntry, ChildEntry, SupervisorEntry
from .states import COMPLETED, STARTING, STOPPING, WEDGED, AgentState
from .tree import AgentNode, AnyNode, Node, SupervisorNode, walk

_STARTS = frozenset({STARTING, STOPPING})  # its first start is not over

Arguments = TypeVarTuple("Arguments")

_new_tuple = tuple.__new__  # half the time of a call of the class; an event is made several times a decision


class World:
    """One tree: its nodes, clock, deadlines, worker slots, agendas and what has been decided so far."""

    def __init__(self, root: SupervisorEntry, settings: Settings) -> None:
        """Build all nodes, REGISTERED.

        Raises:
            SpecError: as `order.start_order`.
        """
        self.settings = settings
        self.now = 0.0
        self.nodes: dict[str, AnyNode] = {}
        self.deadlines = Deadlines()
        self.out: list[Effect] = []
        self.active = 0
        self.free_slots: float = math.inf if settings.max_workers is None else settings.max_workers
        self.queue: list[Ticket] = []
        """A heap; void tickets are skipped."""
        self.abandoned: set[RunId] = set()
        """Runs that cannot be ended and whose agent goes on without them or left; each still holds a slot."""
        self.unannounced: list[AgentNode] = []
        """Queued in this decision; those that get no slot in it are announced."""
        self.tickets = 0
        self.changed: deque[Node] = deque()
        self.ended: deque[SupervisorNode] = deque()
        self.wedged: deque[AgentNode] = deque()
        self.due_groups: deque[Group] = deque()
        self.touched: dict[Node, None] = {}
        self.starting_up: set[Node] = set()
        """Agents whose first start is still running."""
        self.must_start: set[Node] = set()
        """Agents whose start was asked for by `start_child` and runs: if it fails they leave the tree."""
        self.first_start = True
        """Until no first start of the static tree is running any more."""
        self.start_failure: str | None = None
        """Path of the first agent whose start failed then."""
        self.left_waiting: tuple[str, ...] = ()
        self.told_blocks: dict[int | None, float] = {}
        """For each event loop, since when the latest block had lasted that no agent was found to be the cause of."""
        self.stop_cause: str | None = None
        self.root = self._root(root)

    def _root(self, entry: SupervisorEntry) -> SupervisorNode:
        node = SupervisorNode("", None, 0, (), None, entry=replace(entry, children=()))
        self.nodes[""] = node
        self.touched[node] = None
        self._add_children(node, entry)
        return node

    def _add_children(self, parent: SupervisorNode, entry: ChildEntry) -> None:
        for child in start_order(getattr(entry, "children", ()), parent.path):
            self.add(parent, child)

    def add(self, parent: SupervisorNode, entry: ChildEntry) -> AnyNode:
        """Append a child (and, for a supervisor, all its static children), REGISTERED."""
        path = f"{parent.path}/{entry.name}" if parent.path else entry.name
        position = parent.next_position
        parent.next_position += 1
        key = (*parent.key, position)
        backoff = self.backoff_of(entry)
        node: AnyNode
        if isinstance(entry, AgentEntry):
            can_kill = entry.executor in self.settings.killable
            node = AgentNode(path, parent, position, key, backoff, entry=entry, can_kill=can_kill)
        else:
            bare = replace(entry, children=())  # which are nodes of their own from now on
            node = SupervisorNode(path, parent, position, key, backoff, entry=bare)
        # A run that was abandoned under this path must not be taken for one of the new agent.
        node.incarnation = max((run.incarnation for run in self.abandoned if run.path == path), default=0)
        parent.add(node, entry)
        self.nodes[path] = node
        self.touched[node] = None
        if isinstance(node, SupervisorNode):
            self._add_children(node, entry)
        return node

    def forget_starts(self) -> None:
        """Whoever asked for a start that is over, or has to wait, was told: from now on the child is like any other."""
        self.must_start = {node for node in self.must_start if node.state in _STARTS}

    def backoff_of(self, entry: ChildEntry) -> Backoff | None:
        """Return the policy that `entry` names, or the one of the whole tree."""
        return self.settings.backoff if isinstance(entry.backoff, Inherit) else entry.backoff

    def get(self, path: str) -> AnyNode:
        """Return the node at `path`.

        Raises:
            NotFound: there is none.
        """
        check_path(path)
        node = self.nodes.get(path)
        if node is None:
            raise NotFound(f"{path!r}: no such agent or supervisor{did_you_mean(path, self.nodes)}")
        return node

    def find(self, path: str) -> Node | None:
        """Return the node at `path`, or what is left of a temporary child."""
        node = self.nodes.get(path)
        if node is None:
            parent, _, name = path.rpartition("/")
            supervisor = self.nodes.get(parent)
            return supervisor.departed.get(name) if isinstance(supervisor, SupervisorNode) else None
        return node

    def emit(self, node: Node, kind: Callable[[*Arguments], EventData], *arguments: *Arguments) -> None:
        """Decide on an event of `node`: the class of its data, and what that is made of."""
        self.out.append(_new_tuple(Emit, (node.path, node.incarnation, kind, arguments)))
        self.touched[node] = None

    def set_state(self, node: Node, state: AgentState) -> None:
        """Move `node` to `state`; its neighbours are looked at afterwards."""
        active = node.active_states
        self.active += (state in active) - (node.state in active)
        node.state = state
        node.waiting_for = ()
        if self.starting_up and state not in _STARTS:
            self.starting_up.discard(node)
        self.touched[node] = None
        parent = node.parent
        if parent is not None and (parent.state is STARTING or parent.heeds(node)):
            self.changed.append(node)

    def cancel_deadline(self, node: Node) -> None:
        """Forget the running start or stop deadline of `node`, and those of what is watched."""
        if node.deadline is not None:
            self.deadlines.cancel(node.deadline)
            node.deadline = None
        if isinstance(node, AgentNode) and node.watch is not None:
            for deadline in node.watch.deadlines.values():
                self.deadlines.cancel(deadline)

    def leave_group(self, node: Node) -> None:
        """Take `node` out of the group it waits in; the rest goes on as if it had never belonged to it."""
        group, node.group, node.delay = node.group, None, None
        if group is None:
            return
        group.members.pop(node, None)
        group.stopping.discard(node)
        if not group.members:
            self.deadlines.cancel(group.deadline)
        elif not group.started:
            self.due_groups.append(group)

    def retire(self, node: AnyNode, state: AgentState, reason: ExitReason, error: str | None = None) -> None:
        """Move a child that does not run to its last state.

        A temporary one leaves the tree (R03), and so does a child of a dynamic supervisor (R05), and one that was
        to start or else be forgotten (D03).
        """
        node.purpose = None
        self.leave_group(node)
        self.set_state(node, state)
        if isinstance(node, AgentNode):
            self.emit(node, AgentTerminated, reason, state, error)
        assert node.parent is not None
        never_started = node in self.must_start and state is not COMPLETED
        if node.entry.restart is Restart.TEMPORARY or node.parent.entry.dynamic or never_started:
            self.remove(node, remember=not never_started)

    def remove(self, node: AnyNode, *, remember: bool) -> None:
        """Take a child that does not run, and all below it, out of the tree."""
        assert node.parent is not None
        forgotten = node.parent.remove(node, remember=remember)
        # Its supervisor may have waited for it to become ready, and under REST_FOR_ONE the one behind it.
        self.changed.append(node)
        for gone in [*walk(node), *([forgotten] if forgotten else [])]:
            self.touched[gone] = None
            if isinstance(gone, AgentNode):
                # It never starts again: what its arguments hold on to is let go.
                gone.entry = gone.entry.without_arguments()
            if self.nodes.get(gone.path) is gone:
                del self.nodes[gone.path]
                if gone.state is WEDGED:
                    self.abandoned.add(RunId(gone.path, gone.incarnation))

    def is_known(self, node: Node) -> TypeGuard[AnyNode]:
        """Return whether `node` is in the tree, or is what a supervisor in the tree keeps of a temporary child."""
        parent = node.parent
        if parent is None:
            return True
        return self.nodes.get(parent.path) is parent and parent.find(node.name) is node

    def take(self) -> list[Effect]:
        """Return what has been decided since the last call."""
        out, self.out = self.out, []
        return out
