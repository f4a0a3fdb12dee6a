"""The core of a replay, and what it is told: inputs, the answers to its questions, and that time has come. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orchestree.agents.executor import RunMemory
from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor.core import Core
from orchestree.supervisor.events import ServiceFailed
from orchestree.supervisor.inputs import Emit, Input, LookAtRun, MeasureRun, Refused, RunEffect, Tick, TreeEnded
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.tree import AgentNode

from .answers import Answers
from .foresight import Foresight
from .given import deadline_told, tells_nothing
from .guided_deadlines import Firing, GuidedDeadlines
from .matching import SAME_MOMENT
from .replay_result import Commanded

LATE_S: Final = 0.5
"""Seconds by which the loop of a live run comes later than a deadline, at most; after that it told nothing.

Until then what is silent and due later has not fired either: a loop that is late fires all that is due, in order."""


@dataclass(slots=True)
class Said:
    """Something that the core has said and the log has not yet, and with what else."""

    emit: Emit
    batch: Sequence[Emit]
    place: int


class GuidedCore:
    """A core whose time is that of a log.

    Attributes:
        world: its tree.
        commands: what it has commanded so far.
        said: by it, and not yet by the log.
    """

    def __init__(self, blueprint: Blueprint, foresight: Foresight, answers: Answers) -> None:
        """Build the tree.

        Raises:
            SpecError: it breaks a rule.
        """
        self._core = Core(blueprint.root, blueprint.settings)
        self.world = foresight.world = self._core.world
        self.commands: list[Commanded] = []
        self.said: deque[Said] = deque()
        self._foresight = foresight
        self._answers = answers
        self._deadlines = GuidedDeadlines(
            lambda: self.world.now, lambda: deadline_told(self.world, foresight.coming_now(), answers)
        )
        self.world.deadlines = self._deadlines

    def tell(self, given: Input, now: float) -> OrchestreeError | None:
        """Have the core decide, and note what it says and commands; return what it refuses with."""
        todo: list[Input] = [given]
        while todo:
            one = todo.pop(0)
            self._deadlines.is_unsure = isinstance(one, RunMemory)  # the answer came later than here
            effects = self._core.handle(one, now)
            self._deadlines.is_unsure = False
            batch = [effect for effect in effects if isinstance(effect, Emit) and effect.kind is not ServiceFailed]
            self.said.extend(Said(emit, batch, place) for place, emit in enumerate(batch))
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
        node = self.world.nodes.get(effect.run.path)
        assert isinstance(node, AgentNode)
        asked = self._answers.to_look if isinstance(effect, LookAtRun) else self._answers.to_measure
        answer = asked(node, now)
        return [] if answer is None else [answer]

    def let_pass(self, moment: float, *, also_then: bool) -> None:
        """Have everything fire that was due before `moment` (or then), and that no event shows."""
        while not self.said and (due := self._deadlines.silent(moment, also_then=also_then)) is not None:
            self._fire(Firing.SILENT, due)

    def let_pass_before(self, now: float, *, is_reported: bool) -> None:
        """Have fire what no event shows and has fired before an event at `now`.

        Args:
            now: when it came.
            is_reported: whether it says that it is a report, so that no deadline has led to it.
        """
        late = self._late(now)
        if late is None or late <= now - LATE_S or (is_reported and late == now):
            self.let_pass(now, also_then=is_reported)
        else:
            self.let_pass(late, also_then=False)

    def fire_due(self, now: float) -> None:
        """Have everything fire that is due, if only by what two clocks may differ, or that the log tells."""
        due = self._deadlines.soonest()
        if due is not None and due <= now + SAME_MOMENT:
            self._fire(Firing.ALL_DUE, max(now, due))
        elif self._deadlines.told() is not None:
            self._fire(Firing.ALL_DUE, now)

    def fire_told(self, now: float) -> None:
        """Have nothing fire but what the log tells."""
        self._fire(Firing.TOLD, now)

    def _fire(self, firing: Firing, now: float) -> None:
        self._deadlines.firing = firing
        self.tell(Tick(), now)
        self._deadlines.firing = Firing.ALL_DUE

    def _late(self, now: float) -> float | None:
        """Return when something was due by `now` that leads to an event, and has not yet."""
        while (found := self._deadlines.telling()) is not None and found.at <= now:
            if not tells_nothing(self.world, found):
                return found.at
            self._deadlines.pass_over(found)
        return None
