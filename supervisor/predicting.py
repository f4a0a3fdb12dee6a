"""What a tree would do: `simulate`. Brings the specification, randomness and the pure simulator together.

Nothing is started: no thread, no process, no clock.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestree.strategies import checks
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.simulation.asked_faults import faults_of
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.durations import in_words, parse_seconds
from orchestree.supervisor.simulation.faults import Fault
from orchestree.supervisor.simulation.limits import DEFAULT_MAX_EVENTS, LONGEST_S
from orchestree.supervisor.simulation.result import Simulation, result_of
from orchestree.supervisor.simulation.simulator import Simulator

from .spec import AgentEntry, ChildEntry, SupervisorEntry

if TYPE_CHECKING:
    from .orchestrator import Orchestrator


def simulate(
    tree: Orchestrator | ChildEntry | Iterable[ChildEntry],
    faults: Iterable[Fault | str] = (),
    *,
    until: float | str,
    seed: int = 0,
    max_events: int = DEFAULT_MAX_EVENTS,
) -> Simulation:
    """Run a tree under virtual time, with pretended runs that suffer `faults`, and tell what came of it.

    The specifications and the core are the real ones. A run becomes ready at once, goes on for ever and stops when
    asked, unless a fault says so. The same arguments give the same `Simulation`, byte for byte.

    Args:
        tree: an orchestrator that has not been started (its hooks `choose_next` and `classify_exit` are asked, and
            what they raise is raised here; `before_start` is not called), or entries, for a tree with the default
            configuration in `DAEMON` mode.
        faults: values, or lines such as ``"worker: crash every 7s"``, see `parse_fault`.
        until: virtual seconds, or a text such as ``"24h"``; at most 100 years.
        seed: of jitter, of faults whose times are drawn, and of policies that draw by themselves from ``random``.
        max_events: the simulation stops when so many events have happened, or moments that led to none: of faults, and
            of looks at agents with a ``watchdog`` or ``max_memory``.

    Raises:
        SpecError: the tree or a fault breaks a rule, or cannot happen to whom it names. NotFound: it names nobody.
    """
    end = seconds_of("until", until)
    parsed = faults_of(faults)
    simulator = seeded_simulator(tree, seed, max_events)
    for fault in parsed:
        simulator.plan(fault)
    with without_collections():
        simulator.start()
        simulator.advance_to(end)
    return result_of(simulator, parsed, seed, end)


def seconds_of(field: str, value: float | str) -> float:
    """Return `value` as seconds above 0, at most 100 years; a text is a duration such as ``24h``.

    Raises:
        SpecError: it is none; names `field`.
    """
    try:
        seconds = checks.seconds(field, parse_seconds(value) if isinstance(value, str) else value, allow_zero=False)
    except SpecError:
        raise SpecError(f"{field}={value!r}: must be above 0 seconds: a number, or a duration such as '24h'") from None
    if seconds > LONGEST_S:
        raise SpecError(f"{field}={value!r}: must be at most {in_words(LONGEST_S)}, which is 100 years")
    return seconds


@contextmanager
def without_collections() -> Iterator[None]:
    """Have nobody look for garbage meanwhile: the log is none, and to look through it again and again takes as long."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # what somebody else has frozen is not ours to thaw
            # Counts all that was made as old, so that it is not looked through at once.
            gc.freeze()
            gc.unfreeze()
        gc.enable()


def seeded_simulator(
    tree: Orchestrator | ChildEntry | Iterable[ChildEntry], seed: int, max_events: int = DEFAULT_MAX_EVENTS
) -> Simulator:
    """Return a simulator of `tree` that has not been started; everything random in it comes from `seed`."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise SpecError(f"seed={seed!r}: must be a whole number")
    checks.count("max_events", max_events, least=1)
    blueprint = blueprint_of(tree)
    jitter = random.Random(f"jitter {seed}").getrandbits(53)  # as `Config.settings` makes one
    settings = replace(blueprint.settings, draw=random.Random(jitter).random, seed=jitter)
    draw = random.Random(f"faults {seed}").random
    return Simulator(replace(blueprint, settings=settings), draw, max_events, within=seeded_waits(seed))


def seeded_waits(seed: int) -> AbstractContextManager[None]:
    """Return a context in which what the module `random` draws comes from `seed`; it can be entered again and again.

    For policies that draw by themselves, such as ``wait_random_exponential`` of tenacity. Each time it goes on where it
    was left last; what is drawn outside is neither changed nor seen. A thread that draws meanwhile takes numbers away.
    """
    return _SeededWaits(seed)


class _SeededWaits(AbstractContextManager[None]):
    """See `seeded_waits`."""

    def __init__(self, seed: int) -> None:
        """Begin with `seed`."""
        self._inside = random.Random(f"waits {seed}").getstate()

    def __enter__(self) -> None:
        """Draw from here on."""
        self._outside = random.getstate()
        random.setstate(self._inside)

    def __exit__(self, *error: object) -> None:
        """Draw again as before."""
        self._inside = random.getstate()
        random.setstate(self._outside)


def blueprint_of(tree: Orchestrator | ChildEntry | Iterable[ChildEntry]) -> Blueprint:
    """Return what `tree` is simulated from.

    Raises:
        SpecError: it is no tree, or one that runs already.
    """
    if isinstance(tree, SupervisorEntry) and tree.name == "":
        return Blueprint(tree)
    if isinstance(tree, (AgentEntry, SupervisorEntry)):
        return Blueprint(SupervisorEntry("", children=[tree]))
    if not isinstance(tree, type) and hasattr(tree, "blueprint"):
        made: Blueprint = tree.blueprint()
        return made
    if isinstance(tree, (type, str)) or not isinstance(tree, Iterable):
        raise SpecError(
            f"tree={tree!r}: must be an Orchestrator, an AgentEntry, a SupervisorEntry or a list of entries"
        )
    return Blueprint(SupervisorEntry("", children=tuple(tree)))
