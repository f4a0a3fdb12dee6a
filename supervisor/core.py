"""The core: every rule of supervision behind one total function, ``handle(what happened, now) -> what to do``.

It has no clock, no thread, no randomness and no I/O: time comes in as an argument, jitter from a source that is
handed in. The same core runs in production, in the tests and in the simulator.

The rules live in the files around it: `decision` (does it come back), `groups` (with whom, when), `starting`,
`stopping`, `watching`, `slots`, `ending`, `operations`. They call downwards only and leave follow-up work on agendas,
which `_settle` works off until nothing is left to decide.
"""

from __future__ import annotations

from orchestree.agents.executor import RunEnded, RunId, RunMemory, RunMessage, RunProgress, RunReady
from orchestree.strategies.errors import NotRunning, OrchestreeError

from . import ending, groups, operations, slots, starting, stopping, watching
from .events import AgentMessage, AllAgentsTerminated, OrchestratorStarted
from .inputs import Effect, Input, Refused, StartTree, StopTree, Tick
from .order import check_tree
from .policy_text import policy_of, settings_of
from .spec import SupervisorEntry
from .states import REGISTERED, RUNNING_STATES, STARTING, STOPPING, WAITING, WEDGED, RunMode
from .tree import AgentNode, SupervisorNode, walk
from .world import Settings, World


class Core:
    """Decides for one tree. Not thread-safe: one owner, which also says what time it is.

    Args:
        root: the whole static tree; its name is ``""``.
        settings: see `Settings`.

    Raises:
        SpecError: the tree breaks a rule that needs several children to see.
    """

    def __init__(self, root: SupervisorEntry, settings: Settings) -> None:
        """Check the tree and build it, everything REGISTERED."""
        check_tree(root)
        self.world = World(root, settings)
        self._was_empty = False
        self._stop_first: StopTree | None = None
        """A stop that came before the start."""

    def handle(self, event: Input, now: float) -> list[Effect]:
        """Decide what follows from `event`.

        Args:
            event: what happened, or what is asked for. Reports of an incarnation that is not the current one
                change nothing.
            now: monotonic seconds; must not decrease between calls.

        Returns:
            What to do, in order. ``Refused`` alone when an operation was a mistake; then nothing has changed.
        """
        world = self.world
        if now > world.now:
            world.now = now
        try:
            self._take_in(event)
        except OrchestreeError as error:
            return [Refused(error)]
        self._settle()
        if not world.starting_up:
            world.first_start = False
        if world.must_start:
            world.forget_starts()
        effects, world.out = world.out, []
        return effects

    def next_deadline(self) -> float | None:
        """Return when `Tick` is due at the latest (monotonic seconds), None if nothing waits for time."""
        return self.world.deadlines.soonest()

    @property
    def is_starting(self) -> bool:
        """Whether some agent's first start is still running."""
        return bool(self.world.starting_up)

    def _take_in(self, event: Input) -> None:
        match event:
            case RunEnded():
                self._run_ended(event)
            case RunReady():
                node = self._current(event.run)
                if node is not None and node.state is STARTING:
                    starting.ready(self.world, node, event.pid)
            case Tick():
                while (deadline := self.world.deadlines.pop_due(self.world.now)) is not None:
                    deadline.action()
            case StartTree():
                self._start()
            case StopTree():
                self._stop(event)
            case RunMessage(run, name, data):
                node = self._current(run)
                if node is not None:
                    self.world.emit(node, AgentMessage, name, data)
            case RunProgress(run):
                if (node := self._current(run)) is not None:
                    watching.progressed(self.world, node, event)
            case RunMemory(run):
                if (node := self._current(run)) is not None:
                    watching.measured(self.world, node, event)
            case _:
                if not self.world.root.is_up:
                    raise NotRunning("the tree does not run")
                operations.operate(self.world, event)

    def _start(self) -> None:
        world = self.world
        if world.root.state is not REGISTERED:
            raise NotRunning("an orchestrator starts once; make a new one")
        nodes = list(walk(world.root))[1:]
        agents = [node for node in nodes if isinstance(node, AgentNode)]
        settings = world.settings
        world.emit(
            world.root,
            OrchestratorStarted,
            settings.name,
            settings.run_mode,
            len(agents),
            len(nodes) - len(agents),
            settings.socket,
            settings.metrics_port,
            settings.metrics_host,
            settings.seed,
            settings_of(settings),
            {node.path: policy_of(node.entry) for node in walk(world.root) if isinstance(node, SupervisorNode)},
        )
        for agent in agents:
            operations.say_registered(world, agent)
        if self._stop_first is None:
            starting.start_supervisor(world, world.root)
        else:
            world.set_state(world.root, STARTING)
            self._stop(self._stop_first)

    def _stop(self, event: StopTree) -> None:
        world = self.world
        if world.root.state is REGISTERED:
            self._stop_first = event
            return
        ending.stop_tree(world, event.cause, event.timeout_s)
        root, running = world.root, world.root.deadline
        if event.timeout_s is not None and root.state is STOPPING:
            moment = world.now + event.timeout_s
            if running is None or moment < running.at:
                world.cancel_deadline(root)
                root.deadline = world.deadlines.add(moment, lambda: stopping.kill(world, root), silent=True)

    def _current(self, run: RunId) -> AgentNode | None:
        node = self.world.nodes.get(run.path)
        if isinstance(node, AgentNode) and node.incarnation == run.incarnation:
            return node
        return None

    def _run_ended(self, event: RunEnded) -> None:
        node = self._current(event.run)
        if self.world.abandoned and event.run in self.world.abandoned:
            self.world.abandoned.discard(event.run)
            self.world.free_slots += 1
        elif node is not None and (node.state in RUNNING_STATES or node.state is WEDGED):
            ending.run_ended(self.world, node, event)

    def _settle(self) -> None:
        """Work off the agendas until nothing is left to decide."""
        world = self.world
        while True:
            if world.wedged:
                # First: what is decided here says whether its siblings go on at all.
                ending.wedged(world, world.wedged.popleft())
            elif world.start_failure and world.settings.strict_start and world.root.is_up:
                ending.stop_tree(world, "start_failed")
            elif world.changed:
                starting.react(world, world.changed.popleft())
            elif world.ended:
                ending.supervisor_ended(world, world.ended.popleft())
            elif world.due_groups:
                groups.start_when_due(world, world.due_groups.popleft())
            elif world.queue and world.free_slots >= 1:
                starting.grant_slots(world)
            elif world.unannounced:
                slots.announce(world)
            elif world.active:
                self._was_empty = False
                return
            elif not self._look_for_the_end():
                return

    def _look_for_the_end(self) -> bool:
        """Say so when nothing runs or can come to run by itself; True if that led to more to decide."""
        world = self.world
        if self._was_empty or not world.root.is_up:
            return False
        waiting = [node for node in walk(world.root) if node.state is WAITING]
        if any(node.group is not None for node in waiting):
            # It is looked at again at the time of its group.
            return False
        self._was_empty = True
        paths = tuple(node.path for node in waiting)
        world.emit(world.root, AllAgentsTerminated, paths)
        if world.settings.run_mode is RunMode.STOP_ON_EMPTY:
            world.left_waiting = paths
            ending.stop_tree(world, "all_agents_terminated")
            return True
        return False
