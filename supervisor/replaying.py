"""Why was it not restarted: `replay`. Brings the log, the specification and randomness to the pure replay.

Nothing is started: no thread, no process, no clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.replay_log import checked, missing_messages
from orchestree.supervisor.simulation.replay_result import Replay
from orchestree.supervisor.simulation.replayer import Replayer

from .events import Event
from .predicting import blueprint_of
from .spec import ChildEntry

if TYPE_CHECKING:
    from .orchestrator import Orchestrator


def replay(events: Iterable[Event], tree: Orchestrator | ChildEntry | Iterable[ChildEntry]) -> Replay:
    """Tell the core once more what the events of a run say that it was told, and note what it decides from what.

    The core is the one that decides in production. Where it decides something else than the log says, because the tree
    was another one then, the replay ends (`Replay.divergence`).

    Args:
        events: all of one run, in order, from ``ORCHESTRATOR_STARTED`` on: of `Orchestrator.history`, a history file or
            a `Simulation`. The end may be missing.
        tree: that the events are of, as for `simulate`; with what a hook ``before_start`` adds. An event log holds no
            policies: those are functions. Hooks are not called: what they answered is in the log.

    Raises:
        SpecError: these are not the events of one run, or some are missing; or the tree breaks a rule.
    """
    return replay_of(events, blueprint_of(tree))


def replay_of(events: Iterable[Event], blueprint: Blueprint) -> Replay:
    """Do what `replay` does, with a tree as a core gets it."""
    log = checked(events)
    replayer = Replayer(blueprint, log, _seeded)
    replayer.run()
    lost = missing_messages(log)
    paths = {event.path for event in log} | set(replayer.core.world.nodes)
    return Replay(
        events=replayer.steps[: replayer.taken] or log[:1],
        commands=tuple(replayer.commands),
        decisions=tuple(replayer.decisions),
        divergence=replayer.divergence,
        assumptions=(*replayer.assumptions, *([f"{lost} messages of agents are missing in the log"] if lost else [])),
        paths=frozenset(paths),
    )


def _seeded(seed: int) -> Callable[[], float]:
    return random.Random(seed).random
