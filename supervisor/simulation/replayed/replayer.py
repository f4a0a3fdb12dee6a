"""Has a core decide once more what a log says that it has decided, step by step. Pure.

The log is the guide: each of its events must be the next thing that the core says. Where the core has nothing left to
say, the event is the first of a new decision, and says itself (`inputs_of_core`) what the core was told, and when. What
it does not say is that time has come, which is tried next, or that a run has ended that nobody waited for any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestree.agents.executor import RunEnded
from orchestree.supervisor.events import AgentQueued, Event, EventType, OrchestratorStarted
from orchestree.supervisor.inputs import Input
from orchestree.supervisor.simulation.blueprint import Blueprint

from .answers import Answers
from .asked import AskedFor
from .decisions import EndDecided, Inputs, decision_in, inputs_of
from .foresight import Foresight
from .given import given_for
from .guided_core import GuidedCore
from .inputs_of_core import REPORTED, ended_meanwhile, silent_ends
from .leavers import Leavers
from .log import NOT_DECIDED, is_asked
from .logged_policy import LoggedPolicy
from .logged_tree import tree_of
from .matching import agrees, divergence_at
from .replay_result import Commanded, Divergence


class Replayer:
    """One replay.

    Attributes:
        core: that decides.
        decisions: about ended children so far.
        divergence: where the log and the core part; None if they do not.
        leavers: who has left the tree so far.
        assumptions: what the log does not say, and what was taken for it.
        policy: what it says of policies.
        taken: how many events of `steps` agree.
        steps: what the core has decided, as the log says it, and what it was asked through the control API.
    """

    def __init__(
        self,
        log: Sequence[Event],
        blueprint: Blueprint | None,
        seeded: Callable[[int], Callable[[], float]],
    ) -> None:
        """Build the tree.

        Args:
            log: that is replayed.
            blueprint: of the tree; None: as the log says it.
            seeded: makes the source of jitter that belongs to a seed.

        Raises:
            SpecError: the tree breaks a rule, or the log does not say enough of it.
        """
        self.steps = tuple(event for event in log if event.type not in NOT_DECIDED)
        self.decisions: list[EndDecided] = []
        self.divergence: Divergence | None = None
        self.assumptions: list[str] = []
        self.taken = 0
        self._answers = Answers(self.steps)
        self._foresight = Foresight(self.steps)
        started = self.steps[0].data
        assert isinstance(started, OrchestratorStarted)
        if started.seed is None:
            self._assume("the log has no seed: what was drawn is computed from the delays")
        draw = self._foresight.draw if started.seed is None else seeded(started.seed)
        self.policy = LoggedPolicy(self._foresight, is_said=bool(started.policies))
        blueprint = blueprint or tree_of(self.steps, self.policy)
        has_choices = self._foresight.has_choices or blueprint.settings.choose_next is not None
        choose_next = self._foresight.choose_next if has_choices else None
        settings = replace(blueprint.settings, draw=draw, seed=started.seed, choose_next=choose_next)
        self.core = GuidedCore(replace(blueprint, settings=settings), self._foresight, self._answers)
        self._world = self.core.world
        self.leavers = Leavers(self._world)
        self._inputs: dict[str, Inputs] = {}
        self._asked = AskedFor(self._world)

    @property
    def commands(self) -> list[Commanded]:
        """What the core has commanded so far."""
        return self.core.commands

    def run(self) -> None:
        """Go through the log, until its end or until it says something else than the core."""
        for place, event in enumerate(self.steps):
            self._foresight.place = place
            if is_asked(event):
                if (changed := self._asked.note(event)) is not None:
                    self.core.tell(changed, event.monotonic)
            elif not self._take(event):
                return
            self.taken = place + 1
            if not self.core.said:
                self.leavers.note(event.seq)
        self.core.let_pass(self.steps[-1].monotonic, also_then=True)

    def _take(self, event: Event) -> bool:
        """Go on to `event`; return whether the core says it as well."""
        if not self.core.said:
            self._explain(event)
        if not self._agrees(event) and not (self._free_a_slot(event) and self._agrees(event)):
            self.divergence = divergence_at(event, self.core.said[0].emit if self.core.said else None)
            return False
        said = self.core.said.popleft()
        inputs = self._inputs.get(event.path)
        decision = decision_in(event, said.batch, said.place, inputs, self._world)
        if decision is not None:
            self.decisions.append(decision)
        return True

    def _agrees(self, event: Event) -> bool:
        return bool(self.core.said) and agrees(self.core.said[0].emit, event)

    def _explain(self, event: Event) -> None:
        """Tell the core what must have led to `event`, the first of a decision, until it says something."""
        now, core = event.monotonic, self.core
        core.let_pass_before(now, is_reported=event.type in REPORTED or bool(self._given(event)))
        if core.said:
            return
        for ended in ended_meanwhile(self._world, self._foresight.decision(), self._foresight.was_empty):
            self.core.tell(ended, self._moment_of(ended, event))
        self._note_inputs(event)
        if self._hand_in(event) or self._tell_what_it_says(event):
            return
        if event.type is EventType.AGENT_HUNG:
            core.fire_told(now)  # the look, which was due later here, or is held up here by something late
            self._tell_what_it_says(event)
        else:
            core.fire_due(now)
        for ended in () if self.core.said else silent_ends(self._world, event.path):
            self.core.tell(ended, now)
            if self.core.said:
                self._assume(f"event {event.seq}: {ended.run.path!r} has ended, which could not be ended before")
                return

    def _moment_of(self, ended: RunEnded, event: Event) -> float:
        """Return when a run has ended that is started anew in the decision on `event`.

        If it is to start after that, not with that, it has its place by its delay: it ended before that was over.
        """
        node, first = self._world.nodes.get(ended.run.path), self._world.nodes.get(event.path)
        group = node.group if node is not None else None
        if group is None or self._world.now >= group.due_at or (first is not None and first.group is group):
            return event.monotonic
        return self._world.now

    def _hand_in(self, event: Event) -> bool:
        """Hand in what was asked for and may have led to `event`; return whether that said something."""
        while not self.core.said and (operation := self._asked.due(event)) is not None:
            if self.core.tell(operation, event.monotonic) is not None:
                self._asked.refused(operation, event.monotonic)
        return bool(self.core.said)

    def _tell_what_it_says(self, event: Event) -> bool:
        """Tell the core what `event` says that it was told; return whether that said something."""
        for one in self._given(event):
            self.core.tell(one, event.monotonic)
        return bool(self.core.said)

    def _given(self, event: Event) -> tuple[Input, ...]:
        return given_for(self._world, event, self._foresight, self._answers, self.policy)

    def _free_a_slot(self, event: Event) -> bool:
        """Have a run end that could not be ended, if a slot was free in the log that is taken here."""
        head = self.core.said[0].emit if self.core.said else None
        if head is None or head.kind is not AgentQueued or event.type is EventType.AGENT_QUEUED:
            return False
        for ended in silent_ends(self._world, event.path):
            self.core.said.popleft()
            self.core.tell(ended, event.monotonic)
            self._assume(f"event {event.seq}: {ended.run.path!r} has ended, which could not be ended before")
            return True
        return False

    def _note_inputs(self, event: Event) -> None:
        """Note what will have been decided from: of everybody of whom the log says something at the same moment."""
        self._inputs.clear()
        for path in self._foresight.ending():
            node = self._world.nodes.get(path)
            if node is not None and (inputs := inputs_of(self._world, node, event.monotonic)) is not None:
                self._inputs[path] = inputs

    def _assume(self, text: str) -> None:
        self.assumptions.append(text)
