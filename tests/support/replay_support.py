"""What replays are tested with: a core whose commands are noted, and random trees with random faults."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from core_trees import Plan, changes, newcomers
from hypothesis import strategies as st
from virtual import VirtualTree

from orchestree import Replay, replay
from orchestree.agents.ends import Phase
from orchestree.strategies.restart import AutoShutdown
from orchestree.supervisor.core import Core
from orchestree.supervisor.events import Event
from orchestree.supervisor.inputs import (
    AskRunToStop,
    Effect,
    Emit,
    Input,
    KillRun,
    Reconfigure,
    RecycleRun,
    RegisterChild,
    RestartChild,
    StartChild,
    StartRun,
    StopChild,
    UnregisterChild,
)
from orchestree.supervisor.simulation.blueprint import Blueprint, walk_entries
from orchestree.supervisor.simulation.faults import (
    Complete,
    Crash,
    CrashCause,
    Down,
    Fault,
    Hang,
    IgnoreStop,
    SlowStart,
    cannot_happen,
)
from orchestree.supervisor.simulation.replayed.replay_result import Commanded
from orchestree.supervisor.simulation.result import EventLog
from orchestree.supervisor.simulation.simulator import Said, Simulator
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.world import Settings

COMMANDS = (StartRun, AskRunToStop, KillRun, RecycleRun)


class Noted:
    """The commands of a core, as it gave them, and what it said.

    Attributes:
        commands: but for questions, as `Replay.commands`.
        world: the tree, as it is now.
    """

    def __init__(self, core: Core) -> None:
        self.commands: list[Commanded] = []
        self.world = core.world
        self._said: list[Said] = []
        self._handle = core.handle
        core.handle = self._note  # type: ignore[method-assign]

    def _note(self, event: Input, now: float) -> list[Effect]:
        effects = self._handle(event, now)
        self.commands += [Commanded(now, effect) for effect in effects if isinstance(effect, COMMANDS)]
        self._said += [Said(now, effect) for effect in effects if isinstance(effect, Emit)]
        return effects

    def events(self) -> list[Event]:
        """Return what the core has said, as a log."""
        return list(EventLog(self._said))


def replayed(before: Noted, events: Sequence[Event] | None = None) -> Replay:
    """Return the replay of what was noted, or of these events of it, which commands what was commanded until then."""
    found = replay(before.events() if events is None else events)
    assert found.divergence is None, str(found.divergence)
    assert list(found.commands) == [made for made in before.commands if made.now <= found.events[-1].monotonic]
    return found


def noted(tree: VirtualTree) -> Noted:
    """Start a tree and note what its core does."""
    made = Noted(tree.core)
    tree.start()
    return made


def entry_of(*children: ChildEntry, **root: object) -> SupervisorEntry:
    """Return the root of a tree, as `VirtualTree` makes it."""
    return SupervisorEntry("", children=children, **root)  # type: ignore[arg-type]


def blueprint_of_plan(plan: Plan, default: object) -> Blueprint:
    def choose(queued: tuple[str, ...]) -> str:
        assert plan.choice is not None
        return queued[plan.choice % len(queued)] if plan.choice in (0, 1, -1) else "nobody"

    settings = Settings(
        run_mode=plan.run_mode,
        max_workers=plan.max_workers,
        backoff=default,  # type: ignore[arg-type]
        strict_start=plan.strict_start,
        draw=random.Random(7).random,
        seed=7,
        choose_next=None if plan.choice is None else choose,
    )
    return Blueprint(plan.root, settings)


def simulated(blueprint: Blueprint, faults: Sequence[Fault]) -> tuple[Simulator, Noted]:
    """Return a simulator that is ready to start, and what will be commanded."""
    simulator = Simulator(blueprint, random.Random(3).random, max_events=4000)
    noted = Noted(simulator.core)
    for fault in faults:
        simulator.plan(fault)
    return simulator, noted


@st.composite
def faults_of(draw: st.DrawFn, plan: Plan) -> tuple[Fault, ...]:
    """Draw faults that can happen to the agents of a tree."""
    entries = {path: entry for path, entry in walk_entries(plan.root) if isinstance(entry, AgentEntry)}
    found: list[Fault] = []
    for _ in range(draw(st.integers(1, 6)) if entries else 0):
        path = draw(st.sampled_from(sorted(entries)))
        fault = draw(_fault(path))
        if cannot_happen(fault, entries[path].executor) is None:
            found.append(fault)
    return tuple(found)


@st.composite
def _fault(draw: st.DrawFn, path: str) -> Fault:
    at = draw(st.sampled_from((0.0, 0.5, 1.0, 2.0, 3.25, 7.0, 30.0)))
    every = draw(st.sampled_from((None, 0.25, 1.0, 4.0)))
    times = draw(st.sampled_from((1, 2, 5, 12))) if every is not None else None
    cause: CrashCause = draw(st.sampled_from(("exception", "exit", "signal", "oom", "lost")))
    phase: Phase = draw(st.sampled_from(("execute", "execute", "setup", "teardown")))
    lasts = draw(st.sampled_from((0.5, 2.0, 100.0)))
    possible: tuple[Fault, ...] = (
        Crash(path, at=at, every=every, times=times, cause=cause, phase=phase),
        Crash(path, after=at, times=4, cause=cause),
        Hang(path, at=at, lasts=lasts),
        Hang(path, at=at),
        Complete(path, at=at, every=every, times=times),
        Down(path, at=at, until=at + lasts),
        SlowStart(path, at=at, until=at + 20.0, takes=lasts),
        SlowStart(path, takes=0.25),
        IgnoreStop(path, at=at, until=at + lasts),
        IgnoreStop(path, at=at),
    )
    return draw(st.sampled_from(possible))


@st.composite
def operations_on(draw: st.DrawFn, plan: Plan) -> tuple[Input, ...]:
    """Draw what a program may ask for meanwhile; some of it may be refused."""
    paths = [path for path, _ in walk_entries(plan.root) if path]
    parents = [path for path, entry in walk_entries(plan.root) if isinstance(entry, SupervisorEntry)]
    found: list[Input] = []
    for number in range(draw(st.integers(0, 6)) if paths else 0):
        path, parent = draw(st.sampled_from(paths)), draw(st.sampled_from(parents))
        entry = draw(_newcomer(plan, parent, f"late-{number}"))
        operations: tuple[Input, ...] = (
            StartChild(path),
            StopChild(path),
            StopChild(path),
            RestartChild(path),
            UnregisterChild(path),
            RegisterChild(parent, entry, must_start=_is_dynamic(plan, parent)),
            Reconfigure(path, draw(changes())),
        )
        found.append(draw(st.sampled_from(operations)))
    return tuple(found)


@st.composite
def _newcomer(draw: st.DrawFn, plan: Plan, parent: str, name: str) -> ChildEntry:
    above = dict(walk_entries(plan.root))[parent]
    assert isinstance(above, SupervisorEntry)
    siblings = [child.name for child in above.children]
    is_watched = above.auto_shutdown is not AutoShutdown.NEVER
    entry = draw(newcomers()).among(siblings, significant=is_watched, in_pool=above.dynamic)
    return replace(entry, name=name)


def _is_dynamic(plan: Plan, path: str) -> bool:
    entry = dict(walk_entries(plan.root))[path]
    return isinstance(entry, SupervisorEntry) and entry.dynamic
