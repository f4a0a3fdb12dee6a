"""`fault_schedules`: a Hypothesis strategy for what may go wrong with a tree.

A schedule is made of incidents, one after the other: an agent flaps, a supervisor's agents fail together, something is
down for a while. In all choices what is simple, early and round stands first, so that shrinking leads there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from orchestree.agents.ends import Phase
from orchestree.strategies import checks
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.predicting import blueprint_of
from orchestree.supervisor.simulation.blueprint import walk_entries, who_comes_later
from orchestree.supervisor.simulation.faults import (
    Complete,
    Crash,
    Down,
    Fault,
    Hang,
    IgnoreStop,
    SlowStart,
    Spell,
    cannot_happen,
)
from orchestree.supervisor.spec import AgentEntry, ChildEntry

from .hypothesis_strategies import st
from .schedule import Schedule, later

if TYPE_CHECKING:
    from orchestree.supervisor.orchestrator import Orchestrator

Kind = type[Crash] | type[Hang] | type[Complete] | type[Down] | type[SlowStart] | type[IgnoreStop]

ALL_KINDS: Final[tuple[Kind, ...]] = (Crash, Hang, Down, SlowStart, IgnoreStop, Complete)
DEFAULT_KINDS: Final[tuple[Kind, ...]] = ALL_KINDS[:-1]

PAUSES: Final = (0.0, 0.0, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds from one incident to the next."""
GAPS: Final = (0.0, 1.0, 2.0, 5.0, 0.1, 10.0)
"""Seconds between the crashes of one that flaps."""
LASTS: Final = (1.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds that something lasts."""
TAKES: Final = (1.0, 5.0, 20.0)
"""Seconds that a slow start takes."""
PHASES: Final[tuple[Phase, ...]] = ("execute", "setup", "teardown")
WEIGHT_OF_CRASHES: Final = 3
"""So that they are about as common as all the rest."""
MOST_CRASHES: Final = 12
"""Of one that flaps."""


def fault_schedules(
    tree: Orchestrator | ChildEntry | Iterable[ChildEntry],
    *,
    max_faults: int = 20,
    within: float = 600.0,
    kinds: Collection[Kind] = DEFAULT_KINDS,
) -> st.SearchStrategy[Schedule]:
    """Return a strategy for schedules of faults that can happen to the agents of `tree`.

    An agent that flaps, bursts, and failures that the agents of one supervisor share are common. Every fault ends: the
    schedule lasts until the last one is over. Agents exit with code 1 only, as other codes may mean something.

    Args:
        tree: as for `supervised`; nothing happens to it.
        max_faults: in one schedule, 1 or more; each crash of one that flaps counts.
        within: seconds in which all faults begin and end.
        kinds: of faults; all but `Complete` by default.

    Raises:
        SpecError: the tree breaks a rule or has no agents, a value makes no sense, or no fault has room in `within`.
    """
    checks.count("max_faults", max_faults, least=1)
    checks.seconds("within", within)
    asked = [kinds] if isinstance(kinds, type) or not isinstance(kinds, Iterable) else list(kinds)
    chosen = [kind for kind in ALL_KINDS if kind in asked]
    if isinstance(kinds, type) or not chosen or any(kind not in ALL_KINDS for kind in asked):
        names = ", ".join(kind.__name__ for kind in ALL_KINDS)
        raise SpecError(f"kinds={kinds!r}: must be some of the classes {names}")
    blueprint = blueprint_of(tree)
    agents = blueprint.agents()
    if not agents:
        later = who_comes_later(walk_entries(blueprint.root), "")
        raise SpecError(f"fault_schedules(): the tree has no agents that something could happen to{later}")
    above = [path for path, entry in walk_entries(blueprint.root) if not isinstance(entry, AgentEntry)]
    shared = [path for path in above if len(blueprint.agents(path)) > 1]
    # What several share is what can happen to a thread: that can happen to all.
    executors = {path: entry.executor for path, entry in agents.items()} | dict.fromkeys(shared, "thread")
    possible = {
        path: [fault for fault in _faults(path, executors[path], chosen) if _seconds(fault) <= within]
        for path in executors
    }
    if not any(possible.values()):
        shortest = min(_seconds(fault) for path in executors for fault in _faults(path, executors[path], chosen))
        raise SpecError(f"within={within!r}: none of these faults is over so soon, it takes {shortest:g} s at least")
    # Each incident takes the same number of choices, whatever it is: only then can one fault shrink to another.
    incident = st.builds(
        _Incident,
        times=st.integers(1, MOST_CRASHES),
        pause=st.sampled_from([pause for pause in PAUSES if pause <= within]),
        fault=st.one_of([st.sampled_from(faults) for faults in possible.values() if faults]),
        gap=st.sampled_from(GAPS),
    )
    return _schedules(st.lists(incident, max_size=max_faults), max_faults, float(within))


@dataclass(frozen=True, slots=True)
class _Incident:
    """After `pause` seconds `fault`, as one planned then, happens; a crash `times` times, `gap` seconds apart."""

    times: int
    pause: float
    fault: Fault
    gap: float


@st.composite
def _schedules(
    draw: st.DrawFn, incidents: st.SearchStrategy[list[_Incident]], max_faults: int, within: float
) -> Schedule:
    """Draw the incidents one after the other, as far as there is room for them."""
    faults: list[Fault] = []
    now = end = 0.0
    for incident in draw(incidents):
        now += incident.pause
        for place in range(incident.times if isinstance(incident.fault, Crash) else 1):
            now = round(now + incident.gap, 3) if place else now
            over = now + _seconds(incident.fault)
            if over <= within and len(faults) < max_faults:
                faults.append(later(incident.fault, now))
                end = max(end, over)
    return Schedule(faults, duration=end)


def _faults(path: str, executor: str, kinds: Sequence[Kind]) -> list[Fault]:
    """Return what may happen to the agents at `path`, as faults that happen at once or begin to, the simplest first."""
    found: list[Fault] = []
    for kind in kinds:
        if kind is Crash:
            found += WEIGHT_OF_CRASHES * _crashes(path, executor)
        elif kind is Complete:
            found.append(Complete(path, at=0.0))
        elif kind is Hang:
            found += [Hang(path, at=0.0, lasts=lasts) for lasts in LASTS]
        elif kind is SlowStart:
            found += [SlowStart(path, until=lasts, takes=takes) for lasts in LASTS for takes in TAKES if takes <= lasts]
        else:
            found += [Down(path, until=lasts) if kind is Down else IgnoreStop(path, until=lasts) for lasts in LASTS]
    return found


def _crashes(path: str, executor: str) -> list[Fault]:
    ways: list[Crash] = [Crash(path, at=0.0), Crash(path, at=0.0, exception="ConnectionError")]
    ways.append(Crash(path, at=0.0, cause="exit"))
    ways += [Crash(path, at=0.0, cause="signal", signal=name) for name in ("SIGKILL", "SIGSEGV")]
    ways += [Crash(path, at=0.0, cause="oom"), Crash(path, at=0.0, cause="lost")]
    possible = [way for way in ways if cannot_happen(way, executor) is None]
    return [replace(way, phase=phase) for phase in PHASES for way in possible]


def _seconds(fault: Fault) -> float:
    """Return for how long a fault that begins at once lasts."""
    if isinstance(fault, Spell):
        return fault.until
    return fault.lasts if isinstance(fault, Hang) else 0.0
