"""Has a core decide once more what a log says that it has decided, step by step. Pure.

The log is the guide: each of its events must be the next thing that the core says. Where the core has nothing left to
say, the event is the first of a new decision, and says itself (`inputs_of_core`) what the core was told, and when. What
it does not say is that time has come, which is tried next, or that a run has ended that nobody waited for any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor.core import Core
from orchestree.supervisor.events import AgentQueued, Event, EventType, OrchestratorStarted, ServiceFailed
from orchestree.supervisor.inputs import (
    Emit,
    Input,
    LookAtRun,
    MeasureRun,
    Refused,
    RunEffect,
    Tick,
    TreeEnded,
)
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.tree import AgentNode

from .answers import Answers
from .asked import AskedFor
from .decisions import EndDecided, Inputs, decision_in, inputs_of
from .foresight import Foresight
from .given import given_for
from .guided_deadlines import GuidedDeadlines
from .inputs_of_core import REPORTED, ended_meanwhile, silent_ends
from .log import NOT_DECIDED, is_asked
from .logged_policy import LoggedPolicy
from .logged_tree import tree_of
from .matching import SAME_MOMENT, agrees, divergence_at
from .replay_result import Commanded, Divergence

LATE_S: Final = 0.05
"""Seconds by which the loop of a live run comes later than a deadline, at most as a rule."""


@dataclass(slots=True)
class _Said:
    """Something that the core has said and the log has not yet, and with what else."""

    emit: Emit
    batch: Sequence[Emit]
    place: int


class Replayer:
    """One replay.

    Attributes:
        commands: what the core has commanded so far.
        decisions: about ended children so far.
        divergence: where the log and the core part; None if they do not.
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
        self.commands: list[Commanded] = []
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
        self.core = Core(blueprint.root, replace(blueprint.settings, draw=draw, choose_next=choose_next))
        self._world = self._foresight.world = self.core.world
        self._deadlines = GuidedDeadlines(lambda: self._world.now)
        self._world.deadlines = self._deadlines
        self._expected: deque[_Said] = deque()
        self._inputs: dict[str, Inputs] = {}
        self._asked = AskedFor(self._world)

    def run(self) -> None:
        """Go through the log, until its end or until it says something else than the core."""
        for place, event in enumerate(self.steps):
            self._foresight.place = place
            if is_asked(event):
                if (changed := self._asked.note(event)) is not None:
                    self._tell(changed, event.monotonic)
            elif not self._take(event):
                return
            self.taken = place + 1
        self._let_pass(self.steps[-1].monotonic, also_then=True)

    def _take(self, event: Event) -> bool:
        """Go on to `event`; return whether the core says it as well."""
        if not self._expected:
            self._explain(event)
        if not self._agrees(event) and not (self._free_a_slot(event) and self._agrees(event)):
            self.divergence = divergence_at(event, self._expected[0].emit if self._expected else None)
            return False
        said = self._expected.popleft()
        inputs = self._inputs.get(event.path)
        decision = decision_in(event, said.batch, said.place, inputs, self._world)
        if decision is not None:
            self.decisions.append(decision)
        return True

    def _agrees(self, event: Event) -> bool:
        return bool(self._expected) and agrees(self._expected[0].emit, event)

    def _let_pass(self, moment: float, *, also_then: bool) -> None:
        """Have everything fire that was due before `moment` (or then), and that no event shows."""
        while not self._expected and (due := self._deadlines.silent(moment, also_then=also_then)) is not None:
            self._deadlines.only_silent = True
            self._tell(Tick(), due)
            self._deadlines.only_silent = False

    def _explain(self, event: Event) -> None:
        """Tell the core what must have led to `event`, the first of a decision, until it says something."""
        now, due = event.monotonic, self._deadlines.telling()
        # What is due with or after a deadline that has led to the event has fired together with it.
        self._let_pass(due if due is not None and now - LATE_S < due <= now else now, also_then=False)
        if event.type in REPORTED or self._given(event):
            self._let_pass(now, also_then=True)
        if self._expected:
            return
        for ended in ended_meanwhile(self._world, self._foresight.decision(), self._foresight.was_empty):
            self._tell(ended, now)
        self._note_inputs(event)
        if self._hand_in(event) or self._tell_what_it_says(event):
            return
        due = self._deadlines.soonest()
        if due is not None and due <= now + SAME_MOMENT:
            self._deadlines.rough_too = self._foresight.has_stops()
            self._tell(Tick(), max(now, due))
            if event.type is EventType.AGENT_HUNG and self._tell_what_it_says(event):  # a look was due at once
                return
        for ended in () if self._expected else silent_ends(self._world, event.path):
            self._tell(ended, now)
            if self._expected:
                self._assume(f"event {event.seq}: {ended.run.path!r} has ended, which could not be ended before")
                return

    def _hand_in(self, event: Event) -> bool:
        """Hand in what was asked for and may have led to `event`; return whether that said something."""
        while not self._expected and (operation := self._asked.due(event)) is not None:
            if self._tell(operation, event.monotonic) is not None:
                self._asked.refused(operation, event.monotonic)
        return bool(self._expected)

    def _tell_what_it_says(self, event: Event) -> bool:
        """Tell the core what `event` says that it was told; return whether that said something."""
        for one in self._given(event):
            self._tell(one, event.monotonic)
        return bool(self._expected)

    def _given(self, event: Event) -> tuple[Input, ...]:
        return given_for(self._world, event, self._foresight, self._answers, self.policy)

    def _free_a_slot(self, event: Event) -> bool:
        """Have a run end that could not be ended, if a slot was free in the log that is taken here."""
        head = self._expected[0].emit if self._expected else None
        if head is None or head.kind is not AgentQueued or event.type is EventType.AGENT_QUEUED:
            return False
        for ended in silent_ends(self._world, event.path):
            self._expected.popleft()
            self._tell(ended, event.monotonic)
            self._assume(f"event {event.seq}: {ended.run.path!r} has ended, which could not be ended before")
            return True
        return False

    def _tell(self, given: Input, now: float) -> OrchestreeError | None:
        """Have the core decide, and note what it says and commands; return what it refuses with."""
        todo: list[Input] = [given]
        while todo:
            effects = self.core.handle(todo.pop(0), now)
            batch = [effect for effect in effects if isinstance(effect, Emit) and effect.kind is not ServiceFailed]
            self._expected.extend(_Said(emit, batch, place) for place, emit in enumerate(batch))
            for effect in effects:
                if isinstance(effect, Refused):
                    return effect.error
                if not isinstance(effect, Emit | TreeEnded):
                    todo += self._command(effect, now)
        return None

    def _command(self, effect: RunEffect, now: float) -> list[Input]:
        """Note a command; return the answer if it is a question, which changes no run and is not noted."""
        if not isinstance(effect, LookAtRun | MeasureRun):
            self.commands.append(Commanded(now, effect))
            return []
        node = self._world.nodes.get(effect.run.path)
        assert isinstance(node, AgentNode)
        asked = self._answers.to_look if isinstance(effect, LookAtRun) else self._answers.to_measure
        answer = asked(node, now)
        return [] if answer is None else [answer]

    def _note_inputs(self, event: Event) -> None:
        """Note what will have been decided from: of everybody of whom the log says something at the same moment."""
        self._inputs.clear()
        for path in self._foresight.ending():
            node = self._world.nodes.get(path)
            if node is not None and (inputs := inputs_of(self._world, node, event.monotonic)) is not None:
                self._inputs[path] = inputs

    def _assume(self, text: str) -> None:
        self.assumptions.append(text)
