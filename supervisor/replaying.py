"""Why was it not restarted: `replay`. Brings the log, the specification and randomness to the pure replay.

A history file is read; nothing is started: no thread, no process, no clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.replayed.leaving_out import added, with_registered
from orchestree.supervisor.simulation.replayed.log import checked, missing_messages
from orchestree.supervisor.simulation.replayed.replay_result import Replay
from orchestree.supervisor.simulation.replayed.replayer import Replayer

from .events import Event
from .past_runs import whole_run
from .phrases import listed
from .predicting import blueprint_of
from .spec import ChildEntry

if TYPE_CHECKING:
    from .orchestrator import Orchestrator


def replay(
    events: str | Path | Iterable[Event],
    tree: Orchestrator | ChildEntry | Iterable[ChildEntry] | None = None,
    *,
    run: str | None = None,
) -> Replay:
    """Tell the core once more what the events of a run say that it was told, and note what it decides from what.

    The core is the one that decides in production. Where it decides something else than the log says, because the tree
    was another one then, the replay ends (`Replay.divergence`).

    Args:
        events: path of a history file; or all events of one run, in order, from ``ORCHESTRATOR_STARTED`` on, of
            `Orchestrator.history` or a `Simulation`. The end may be missing.
        tree: that decides, as for `simulate`; with what a hook ``before_start`` adds (what it leaves out may be there).
            None: the one that the log says. A backoff whose text does not say all of it (functions of your own,
            `wait_random`, sums) then decides what the log says that it decided (`Replay.assumptions` names whose).
            Hooks are not called: what they answered is in the log.
        run: id of the run of the orchestrator (`Event.run`), of those in a history file; None: the latest.

    Raises:
        SpecError: these are not the events of one run, or some are missing; or the file cannot be read, or is no
            history file, or has no such run; or the tree breaks a rule, or there is none and the log is of a version
            that did not say policies.
    """
    if isinstance(events, str | Path):
        events = whole_run(Path(events), run)
    elif run is not None:
        raise SpecError(f"run={run!r}: chooses one of the runs in a history file: give the path of that, not events")
    return replay_of(events, None if tree is None else blueprint_of(tree))


def replay_of(events: Iterable[Event], blueprint: Blueprint | None = None) -> Replay:
    """Do what `replay` does, with a tree as a core gets it."""
    log = checked(events)
    tree, left_out = (None, ()) if blueprint is None else with_registered(blueprint, log)
    replayer = Replayer(log, tree, _seeded)
    replayer.run()
    assumptions = _assumptions(log, left_out, replayer)
    divergence = replayer.divergence
    if divergence is not None and blueprint is not None and (more := added(blueprint, log)):
        divergence = replace(divergence, hint=f"a hook before_start may have added {listed(more)}: register that too")
    return Replay(
        events=replayer.steps[: replayer.taken] or log[:1],
        commands=tuple(replayer.commands),
        decisions=tuple(replayer.decisions),
        divergence=divergence,
        assumptions=tuple(assumptions),
        paths=frozenset({event.path for event in log} | set(replayer.core.world.nodes)),
        left=dict(replayer.leavers.numbers),
    )


def _assumptions(log: Sequence[Event], left_out: tuple[str, ...], replayer: Replayer) -> list[str]:
    """Return what was taken for what the log does not say; policies last."""
    found = []
    if lost := missing_messages(log):
        found.append(f"{lost} messages of agents are missing in the log")
    if left_out:
        found.append(f"the log does not name {listed(left_out)}: a hook before_start has left that out")
    found += replayer.assumptions
    if paths := tuple(replayer.policy.assumed):
        found.append(f"the log does not say the policy of {listed(paths)}: it is taken for the default")
    if paths := tuple(path or "/" for path in replayer.policy.not_computed):
        whose = f"the log does not say all of the backoff of {listed(paths)}"
        found.append(f"{whose}: what it decided is taken from the log")
    return found


def _seeded(seed: int) -> Callable[[], float]:
    return random.Random(seed).random
