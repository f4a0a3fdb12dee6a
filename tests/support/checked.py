"""A virtual tree that checks, after every single decision of the core, what must hold at any time."""

from __future__ import annotations

from collections import Counter
from typing import cast

from virtual import VirtualTree

from orchestree.supervisor.events import AgentStarting, EventData, SupervisorTerminated
from orchestree.supervisor.inputs import Effect, Emit, Input, RestartChild, StartChild, StartRun
from orchestree.supervisor.states import PENDING_STATES, RUNNING_STATES, AgentState, RunMode
from orchestree.supervisor.tree import AgentNode, AnyNode, Node, SupervisorNode, walk

S = AgentState
ENDS = ("AgentRestarting", "AgentTerminated", "AgentParked")
MET = (S.READY, S.COMPLETED)


class Grammar:
    """Follows the events of one agent: between two starts of it lies exactly one end."""

    def __init__(self) -> None:
        self.running = False
        self.pending = False
        self.wedged = False
        self.crashed = False

    def take(self, data: EventData, *, may_replace: bool) -> None:
        """Take in the next event; fail if it must not come now."""
        kind = type(data).__name__
        if self.crashed:
            assert kind in ENDS, f"{kind} after AgentCrashed"
        match kind:
            case "AgentStarting":
                assert not self.running or (self.wedged and may_replace), "started twice without an end"
                self.running, self.pending, self.wedged = True, False, False
            case "AgentReady" | "AgentStopping" | "AgentCrashed" | "AgentWedged":
                assert self.running or kind == "AgentWedged", f"{kind} of nothing"
                self.wedged = self.wedged or kind == "AgentWedged"
            case "AgentWaiting" | "AgentQueued":
                assert not self.running or (self.wedged and may_replace), f"{kind} while it runs"
                self.pending = True
                self.running = False
            case "AgentRestarting":
                assert self.running, "restarted twice for one end"
                self.running, self.pending = False, True
            case "AgentTerminated" | "AgentParked":
                assert self.running or self.pending, f"{kind} of something that was down already"
                self.running, self.pending = False, False
            case _:
                pass
        self.crashed = kind == "AgentCrashed"


class CheckedTree(VirtualTree):
    """Raises `AssertionError` as soon as an invariant is broken."""

    grammars: dict[int, Grammar]

    def tell(self, event: Input) -> None:
        pending = [event]
        while pending:
            told = pending.pop(0)
            held = {path: node for path, node in self.core.world.nodes.items() if node.held}
            effects = self.core.handle(told, self.now)
            self._check_starts(told, effects, held)
            for effect in effects:
                self.effects.append(effect)
                pending += self._carry_out(effect)
                if isinstance(effect, Emit):
                    self._check_grammar(effect)
            if not pending:
                self.check()

    def _check_starts(self, told: Input, effects: list[Effect], held: dict[str, AnyNode]) -> None:
        asked = told.path if isinstance(told, StartChild | RestartChild) else None
        for effect in effects:
            if isinstance(effect, StartRun):
                path = effect.run.path
                node = self.core.world.nodes[path]
                assert path not in held or held[path] is not node or asked == path, f"{path} was held down"
                living = {run for run in self.live if run.path == path}
                assert living <= self.core.world.abandoned, f"{path} runs already"
        for effect in effects:
            if isinstance(effect, Emit) and isinstance(effect.data, AgentStarting):
                self._check_dependencies(effect.path)

    def _check_dependencies(self, path: str) -> None:
        node = cast(AgentNode, self.core.world.nodes[path])
        parent = cast(SupervisorNode, node.parent)
        for name in node.entry.depends_on:
            dependency = parent.find(name)
            assert dependency is not None, f"{path}: {name} is not there"
            assert dependency.state in MET, f"{path}: {name} is {dependency.state}"

    def _check_grammar(self, effect: Emit) -> None:
        node = self.core.world.nodes.get(effect.path)
        if type(effect.data).__name__ == "AgentRegistered":
            self._grammars()[effect.path] = Grammar()
        elif effect.path in self._grammars():
            may_replace = isinstance(node, AgentNode) and node.entry.replace_wedged
            self._grammars()[effect.path].take(effect.data, may_replace=may_replace)
        elif isinstance(effect.data, SupervisorTerminated):
            pass

    def _grammars(self) -> dict[str, Grammar]:
        if not hasattr(self, "_by_path"):
            self._by_path: dict[str, Grammar] = {}
        return self._by_path

    def check(self) -> None:
        """Check everything that must hold when nothing is left to decide."""
        world = self.core.world
        assert not world.out
        nodes = [node for node in walk(world.root) if node.path in world.nodes]
        agents = [node for node in nodes if isinstance(node, AgentNode) and self._is_here(node)]
        supervisors = [node for node in nodes if isinstance(node, SupervisorNode) and self._is_here(node)]
        self._check_active(agents, supervisors)
        self._check_slots(agents)
        for agent in agents:
            self._check_agent(agent)
        for supervisor in supervisors:
            self._check_supervisor(supervisor)

    def _is_here(self, node: Node) -> bool:
        return self.core.world.nodes.get(node.path) is node

    def _check_active(self, agents: list[AgentNode], supervisors: list[SupervisorNode]) -> None:
        world = self.core.world
        of_agents = (S.QUEUED, S.STARTING, S.READY, S.STOPPING, S.BACKOFF)
        count = sum(node.state in of_agents for node in agents)
        count += sum(node.state in (S.STOPPING, S.BACKOFF) for node in supervisors)
        assert world.active == count, f"active is {world.active}, counted {count}"
        if count == 0 and world.settings.run_mode is RunMode.STOP_ON_EMPTY and not self._waits_with_group():
            assert not world.root.is_up, "nothing is active, and the tree goes on"

    def _waits_with_group(self) -> bool:
        return any(node.state is S.WAITING and node.group is not None for node in walk(self.core.world.root))

    def _check_slots(self, agents: list[AgentNode]) -> None:
        world = self.core.world
        if world.settings.max_workers is None:
            return
        pools = {id(node.pool): node.pool for node in agents if node.pool is not None}
        used = sum(node.has_slot for node in agents) + sum(pool.slots for pool in pools.values())
        used += len(world.abandoned)
        assert world.abandoned <= self.live.keys()
        assert used + world.free_slots == world.settings.max_workers, f"{used} used, {world.free_slots} free"
        queued = [node for node in agents if node.state is S.QUEUED and node.group is None]
        assert not (queued and world.free_slots), "a slot is free and somebody queues"
        held = {ticket.node for ticket in world.queue if ticket.node.ticket is ticket}
        assert held == set(queued), "the queue is not those that are QUEUED"
        assert all(not node.has_slot for node in queued)

    def _check_agent(self, node: AgentNode) -> None:
        world, parent = self.core.world, cast(SupervisorNode, node.parent)
        alive = node.state in RUNNING_STATES or node.state is S.WEDGED
        runs = Counter(run.path for run in self.live if run not in world.abandoned)[node.path]
        assert runs == alive, f"{node.path} is {node.state} with {runs} runs"
        if alive:
            assert node.has_slot, f"{node.path} runs without a slot"
        if node.state in RUNNING_STATES:
            assert parent.state in RUNNING_STATES, f"{node.path} runs in a supervisor that is {parent.state}"
        if node.state is S.STARTING and node.entry.start_timeout is not None:
            assert node.deadline is not None
        if node.watch is not None and node.state is not S.READY:
            assert all(d.cancelled for d in node.watch.deadlines.values()), f"{node.path} is watched, {node.state}"
        if node.state is S.READY and node.entry.watchdog is not None:
            assert node.watch is not None
            timer = node.watch.deadlines.get("watchdog")
            is_timed = timer is not None and not timer.cancelled
            assert is_timed or node.watch.look_due is not None, f"nobody looks at {node.path}"
        self._check_pending(node)
        if node.purpose is not None and node.state not in (S.STOPPING, S.WEDGED):
            assert node.state in (S.STARTING, S.READY), f"{node.path} is {node.state}, and to be stopped"
            assert (-node.position, node) in parent.to_stop
        if node.state is not S.WAITING:
            assert node.waiting_for == ()
        if node.state is S.STARTING:
            assert (node in world.starting_up) == node.first_run

    def _check_pending(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        if node.state in PENDING_STATES:
            assert parent.is_up, f"{node.path} is {node.state} in a supervisor that is {parent.state}"
            assert not node.held, f"{node.path} is {node.state} and held"
        if node.state is S.BACKOFF:
            group = node.group
            assert group is not None, f"{node.path} is in no group"
            assert node in group.members
            assert not group.started
            timed = group.deadline is not None and not group.deadline.cancelled
            assert group.stopping or timed, f"{node.path} waits for nothing"
        if node.state is S.WAITING and node.group is None:
            assert node.waiting_for
            for name in node.waiting_for:
                other = parent.find(name)
                assert other is None or other.state not in MET or other is parent.before(node), (
                    f"{node.path} waits for {name}, which is {other and other.state}"
                )
        if node.state is S.REGISTERED:
            assert not parent.is_up, f"{node.path} was never looked at"
        if node.state is S.STOPPED and parent.is_up:
            assert node.held, f"{node.path} is stopped, and nobody stopped it"
        if node.group is not None:
            assert node.group.started or node in node.group.members
            for member in node.group.stopping:
                assert member.state in RUNNING_STATES, f"the group of {node.path} waits for {member.path}"

    def _check_supervisor(self, node: SupervisorNode) -> None:
        assert [child.position for child in node.sequence] == sorted(child.position for child in node.sequence)
        assert set(node.children.values()) == set(node.sequence)
        if node.state is S.STOPPING:
            assert any(child.state in RUNNING_STATES for child in node.sequence), f"{node.path} stops for nothing"
            assert node.awaited
        if node.state is S.STARTING:
            assert node.unready, f"{node.path} should be ready"
        assert node.unready | node.excused <= node.children.keys()
        assert not node.unready & node.excused
        for name in node.excused if node.is_up else ():
            assert node.children[name].held, f"{name} is up and excused"
        for child in node.awaited:
            assert child.state is S.STOPPING, f"{node.path} awaits {child.path}"
        assert len(node.awaited) <= 1 or node.entry.dynamic, f"{node.path} stops several at once"
        if not node.is_up and node.state is not S.STOPPING:
            for child in node.sequence:
                assert child.state not in RUNNING_STATES | PENDING_STATES, f"{child.path} is left over"
        if node.parent is not None:
            self._check_pending(node)
