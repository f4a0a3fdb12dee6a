"""A core in a laboratory: it is driven by hand, recorded, checked after every decision, and can be played again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle

from checked import CheckedTree
from core_child import Answer, Decision, answer
from core_invariants import Ends, Held, Incarnations, OneEventEach, States, Times, Watchdogs
from core_ledger import Ledger
from core_order import Slots, StartOrder, StopOrder
from core_policies import POLICIES, policy_of
from core_rest import check_at_rest
from core_restarts import Delays, Groups, Outcomes, Windows
from core_trees import Plan, describe

from orchestree.agents.ends import IGNORED, NORMAL, ExitReason
from orchestree.agents.executor import RunEnded, RunId, RunReady
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor.core import Core
from orchestree.supervisor.inputs import (
    Effect,
    Input,
    Reconfigure,
    Refused,
    RegisterChild,
    StartRun,
    StartTree,
    StopTree,
    Tick,
)
from orchestree.supervisor.spec import SupervisorEntry
from orchestree.supervisor.world import Settings

ENOUGH = 2000  # inputs that any of these trees needs at most to come to rest


def shown(effect: Answer) -> object:
    """Return what an effect says; errors have no equality of their own."""
    return (type(effect.error), str(effect.error)) if isinstance(effect, Refused) else effect


def _worded_policy(value: object) -> object:
    return policy_of(value).label if isinstance(value, Backoff) else value


class RecordedCore(Core):
    """A core that remembers what it was told and what it drew, and shows each decision to a ledger."""

    def __init__(self, root: SupervisorEntry, settings: Settings, ledger: Ledger, observed: dict[str, str]) -> None:
        self.decisions: list[Decision] = []
        self.void: set[int] = set()
        """Numbers of the inputs that must not change anything: mistakes, and reports of runs that are no more."""
        self.draws: list[float] = []
        self.choices: list[str | None] = []
        self.ledger = ledger
        self.observed = observed
        source, choose = settings.draw, settings.choose_next

        def draw() -> float:
            self.draws.append(source())
            return self.draws[-1]

        def choose_next(queued: tuple[str, ...]) -> str | None:
            assert choose is not None
            self.choices.append(choose(queued))
            return self.choices[-1]

        self.plain = replace(settings, draw=draw, choose_next=choose_next if choose else None)
        super().__init__(root, self.plain)

    def handle(self, event: Input, now: float) -> list[Effect]:
        """Decide, and have it checked."""
        effects = super().handle(event, now)
        self.decisions.append(Decision(now, event, tuple(map(answer, effects)), self.next_deadline()))
        self.observed.clear()
        self.observed.update({path: node.state.value for path, node in self.world.nodes.items()})
        self.ledger.take(self.decisions[-1])
        too_late = isinstance(event, RunEnded) and self.ledger.ended is None
        if too_late or self.decisions[-1].is_refused or (isinstance(event, RunReady) and not effects):
            self.void.add(len(self.decisions) - 1)
        return effects

    def replay(self, root: SupervisorEntry, *, all_of_it: bool) -> None:
        """Tell a fresh core the same; `all_of_it`: also what was refused and what came too late."""
        draws, choices = iter(self.draws), iter(self.choices)
        choose_next = (lambda queued: next(choices)) if self.plain.choose_next else None
        fresh = Core(root, replace(self.plain, draw=lambda: next(draws), choose_next=choose_next))
        for number, decision in enumerate(self.decisions):
            if not all_of_it and number in self.void:
                continue
            again = [shown(answer(effect)) for effect in fresh.handle(decision.told, decision.now)]
            before = [shown(effect) for effect in decision.effects]
            assert again == before, f"input {number} ({decision.told}) led to {before}, and now to {again}"


class CoreLab(CheckedTree):
    """One plan carried out: the real core, a scripted executor, a clock, a ledger of what the log says.

    Attributes:
        script: what was done so far, a line each, for people.
        ignoring: paths whose ``setup()`` says that they are not needed.
    """

    def __init__(self, plan: Plan) -> None:
        draws: Iterator[float] = cycle(plan.draws)

        def choose(queued: tuple[str, ...]) -> str:
            return queued[plan.choice % len(queued)] if plan.choice in (0, 1, -1) else "nobody"

        default = POLICIES[plan.default]
        settings = Settings(
            run_mode=plan.run_mode,
            max_workers=plan.max_workers,
            backoff=default.backoff,
            strict_start=plan.strict_start,
            draw=lambda: next(draws),
            choose_next=None if plan.choice is None else choose,
        )
        super().__init__(settings=settings, started=False)
        observed: dict[str, str] = {}
        rules = (Incarnations(), Held(), Outcomes(), Windows(), Delays(), Groups(), StartOrder(), StopOrder(), Slots())
        rest = (OneEventEach(), Times(), Watchdogs(), Ends(), States(observed))
        self.plan = plan
        self.ledger = Ledger(plan.root, default, plan.max_workers, (*rules, *rest), strict_start=plan.strict_start)
        self.core: RecordedCore = RecordedCore(plan.root, settings, self.ledger, observed)
        self.ignoring: set[str] = set()
        self.has_failed = False
        self.script = [str(plan)]
        for path, habit in zip(list(self.ledger.children), cycle(plan.habits), strict=False):
            self.behave(path, habit)

    def behave(self, path: str, habit: str) -> None:
        """Set how runs of `path` behave.

        ``obedient``: ready at once, stops at once. ``manual``: neither, only when told. ``stubborn``: ready at once,
        does not stop. ``failing``: its setup fails at once. ``ignoring``: its setup says that it is not needed.
        ``hanging``: it makes no progress, and does not stop.
        """
        self.beats.pop(path, None)
        if habit == "hanging":
            self.beats[path], habit = (0.0, "hangs"), "stubborn"
        for name in ("manual", "stubborn", "failing", "ignoring"):
            paths: set[str] = getattr(self, name)
            (paths.add if name == habit else paths.discard)(path)

    def say(self, text: str) -> None:
        """Note a step for the script."""
        self.script.append(f"{self.now:g}: {text}")

    def do(self, event: Input, text: str = "") -> bool:
        """Tell the core something; False if it was refused."""
        self.say(text or self._worded(event))
        try:
            with self._explained():
                self.tell(event)
        except OrchestreeError as error:
            self.script.append(f"   refused: {error}")
            return False
        return True

    @staticmethod
    def _worded(event: Input) -> str:
        if isinstance(event, RegisterChild):
            how = " (must start)" if event.must_start else ""
            return f"register in {event.parent!r}{how}: {' | '.join(describe(event.entry))}"
        if isinstance(event, Reconfigure):
            fields = {name: _worded_policy(value) for name, value in event.fields.items()}
            return f"reconfigure {event.path!r}: {fields}"
        if isinstance(event, RunEnded):
            return f"late or final report: {event.run} ends"
        return str(event)

    def _carry_out(self, effect: Effect) -> list[Input]:
        if isinstance(effect, StartRun) and effect.run.path in self.ignoring:
            self.live[effect.run] = None
            return [self._end(effect.run, IGNORED)]
        return super()._carry_out(effect)

    def end_run(self, run: RunId, reason: ExitReason, message: str = "boom", **fields: object) -> None:
        """Have the executor report the end of a living run."""
        self.do(
            self._end(run, reason, message, **fields), f"{run.path} ({run.incarnation}) ends: {reason} {fields or ''}"
        )

    def pass_time(self, seconds: float) -> None:
        """Move the clock, firing each deadline at its own moment."""
        self.say(f"{seconds:g} s pass")
        if not seconds:
            self.do(Tick())
        target = self.now + seconds
        while (deadline := self.core.next_deadline()) is not None and deadline <= target:
            self.now = max(self.now, deadline)
            self.do(Tick())
        self.now = target

    def rest(self) -> None:
        """Let everything that can become ready do so, everything that is to stop stop, and all timers fire."""
        for name in ("manual", "stubborn", "failing", "ignoring"):
            getattr(self, name).clear()
        # A watchdog would go on for ever: from now on nobody answers.
        self.beats = dict.fromkeys(self.ledger.children)
        for _ in range(ENOUGH):
            report = self._next_report()
            deadline = self.core.next_deadline()
            if report is not None:
                self.do(report)
            elif deadline is not None and self.exit_code is None:
                self.now = max(self.now, deadline)
                self.do(Tick())
            else:
                return
        raise AssertionError("\n".join(["it never comes to rest", *self.script[:300]]))

    def _next_report(self) -> Input | None:
        for run, child in self.ledger.living.items():
            is_current = self.ledger.children.get(run.path) is child and child.incarnation == run.incarnation
            if is_current and child.phase == "starting":
                return RunReady(run)
            if not is_current or child.phase != "ready":
                return self._end(run, NORMAL)
        return None

    def stop_all(self, timeout: float | None) -> None:
        """Stop the tree: whatever happened before, it ends, and nothing is left."""
        self.do(StopTree(timeout_s=timeout))
        if timeout is not None and self.exit_code is None:
            self.pass_time(timeout + 1.0)
        self.rest()
        with self._explained():
            assert self.exit_code is not None, "the tree did not end"
            assert not self.live, "runs are left"
            assert self.core.next_deadline() is None, "a timer is left"
            world = self.core.world
            assert world.settings.max_workers in (None, world.free_slots), "slots are left"
            assert not world.queue or all(ticket.node.ticket is not ticket for ticket in world.queue)

    def start(self) -> None:
        """Start the tree."""
        self.do(StartTree())

    def check_rest(self) -> None:
        """Check that everything is as it should be, or says what keeps it from it."""
        if self.exit_code is None:
            waiting_for = {path: node.waiting_for for path, node in self.core.world.nodes.items()}
            with self._explained():
                check_at_rest(self.ledger, self.core.observed, waiting_for)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Add what was done to whatever is raised."""
        try:
            yield
        except OrchestreeError:
            raise
        except Exception as error:
            self.has_failed = True
            events = [f"{now:g}: {path or 'root'} {data}" for now, path, data in self.ledger.log[-20:]]
            error.add_note("\n".join(["The last events:", *events]))
            error.add_note("\n".join(["What was done:", *self.script]))
            raise

    def check_replay(self) -> None:
        """Check that the same inputs give the same answers, and that mistakes and late reports have no part in it."""
        with self._explained():
            self.core.replay(self.plan.root, all_of_it=True)
            self.core.replay(self.plan.root, all_of_it=False)
