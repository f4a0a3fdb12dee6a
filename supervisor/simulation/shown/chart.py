"""States over time as rows of signs, one character for each equal stretch of time, and their time axis. Pure.

In each stretch the most telling thing wins. All signs are ASCII, and mean the same without colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from types import MappingProxyType
from typing import Final, NamedTuple

from orchestree.supervisor.simulation.durations import in_words
from orchestree.supervisor.simulation.simulator import StateChange
from orchestree.supervisor.states import UNHEALTHY_STATES, AgentState

LEAST_GAP: Final = 9
"""Characters from one tick of the axis to the next, at least: the longest label and a blank."""

_GAP: Final = "   "
_NOTHING: Final = 1e-12
"""Share of the whole time that is only a rounding error."""

_S = AgentState
_GAVE_UP: Final = "G"
_CRASHED: Final = "x"
_MOSTLY_DOWN: Final = "X"
_RESTARTED: Final = "r"
_HANGS: Final = "h"
_SIGN_OF: Final = MappingProxyType(
    {
        _S.WEDGED: "W",
        _S.PARKED: "P",
        _S.FAILED: "F",
        _S.BACKOFF: ".",
        _S.WAITING: "w",
        _S.QUEUED: "q",
        _S.STARTING: "s",
        _S.STOPPING: "t",
        _S.READY: "=",
        _S.COMPLETED: "c",
        _S.STOPPED: "-",
        _S.REGISTERED: " ",
    }
)
"""Worst first."""
_RANK: Final = tuple(_SIGN_OF)

MEANINGS: Final = MappingProxyType(
    {
        "=": "ready",
        _CRASHED: "crashed, ready most of the time",
        _MOSTLY_DOWN: "crashed, down most of the time",
        _RESTARTED: "restarted, no crash of its own",
        _HANGS: "hangs, and nobody has noticed yet",
        ".": "waits for its restart",
        "s": "starts",
        "t": "stops",
        "w": "waits for others to be ready",
        "q": "queued: max_workers",
        "c": "completed",
        "-": "stopped",
        _GAVE_UP: "gave up",
        "P": "parked",
        "F": "failed, not restarted",
        "W": "wedged",
    }
)
"""What each sign means, in the order of a legend."""

_STEPS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0),
    *(3600.0, 7200.0, 10800.0, 21600.0, 43200.0, 86400.0, 172800.0, 604800.0, 2592000.0),
    *(86400.0 * days for days in (90, 365, 1825, 3650, 7300)),
)


class Spell(NamedTuple):
    """A time from a moment to a later one."""

    begins: float
    ends: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What became of one agent or supervisor: its states, and when it crashed, hung, and gave up."""

    changes: Sequence[StateChange]
    crashes: Sequence[float] = ()
    hangs: Sequence[Spell] = ()
    gave_up: Sequence[float] = ()


def row(course: Course, *, end: float, width: int) -> str:
    """Return `width` signs for the time from 0 to `end` (seconds)."""
    changes = course.changes
    stretches: list[dict[AgentState, float]] = [{} for _ in range(width)]
    for state, begins, ends in _spells(changes, end):
        for place in _places(Spell(begins, ends), end, width):
            lasted = min(ends, (place + 1) * end / width) - max(begins, place * end / width)
            if (
                lasted > end * _NOTHING or begins == end
            ):  # what came at the very end lasted no time, and is what is left
                stretches[place][state] = stretches[place].get(state, 0.0) + max(lasted, 0.0)
    told = (
        (_GAVE_UP, {_place(at, end, width) for at in course.gave_up}),
        (_CRASHED, {_place(at, end, width) for at in course.crashes}),
        (_HANGS, {place for hang in course.hangs for place in _places(hang, end, width)}),
        (_RESTARTED, {_place(at, end, width) for at in _interruptions(changes)}),
    )
    return "".join(
        _sign(states, end / width, next((sign for sign, places in told if place in places), ""))
        for place, states in enumerate(stretches)
    )


def axis(end: float, width: int) -> str:
    """Return the time axis of such rows: ``|0        |6h       |12h``, each mark where its moment is."""
    step = next((step for step in _STEPS if step * width / end >= LEAST_GAP), end)
    marks = [" "] * width
    for count in range(int(end / step) + 1):
        begin = _place(count * step, end, width)
        label = f"|{in_words(round(count * step, 3)) if count else '0'}"
        if count * step < end and begin + len(label) <= width:
            marks[begin : begin + len(label)] = label
    return "".join(marks).rstrip()


def legend(rows: Iterable[str], width: int) -> list[str]:
    """Return lines that explain the signs in `rows`, in two columns where `width` has room for them."""
    used = set().union(*rows)
    entries = [f"{sign}  {meaning}" for sign, meaning in MEANINGS.items() if sign in used]
    half = (len(entries) + 1) // 2
    left, right = entries[:half], entries[half:]
    widest = max(map(len, left), default=0)
    if widest + len(_GAP) + max(map(len, right), default=0) > width:
        return entries
    return [f"{one:{widest}}{_GAP}{other}".rstrip() for one, other in zip_longest(left, right, fillvalue="")]


def _spells(changes: Sequence[StateChange], end: float) -> Iterator[tuple[AgentState, float, float]]:
    for place, (at, state) in enumerate(changes):
        yield state, at, changes[place + 1].at if place + 1 < len(changes) else end


def _interruptions(changes: Sequence[StateChange]) -> Iterator[float]:
    """Yield when it was ready and then was not, but comes back, or may."""
    for before, after in pairwise(changes):
        if before.state is _S.READY and after.state in (_S.STOPPING, _S.BACKOFF, _S.STARTING):
            yield after.at


def _place(moment: float, end: float, width: int) -> int:
    """Return the number of the stretch that `moment` is in; the end itself is in the last one."""
    return min(int(moment * width / end), width - 1)


def _places(spell: Spell, end: float, width: int) -> range:
    return range(_place(spell.begins, end, width), _place(spell.ends, end, width) + 1)


def _sign(states: dict[AgentState, float], size: float, happened: str) -> str:
    """Return what stands for a stretch of `size` seconds, with the seconds of each state in it."""
    worst = next((state for state in _RANK if state in UNHEALTHY_STATES and state in states), None)
    is_mostly_up = states.get(_S.READY, 0.0) * 2 >= size
    if happened == _GAVE_UP:
        return _GAVE_UP
    if worst is not None:
        return _SIGN_OF[worst]
    if happened == _CRASHED:
        return _CRASHED if is_mostly_up else _MOSTLY_DOWN
    if happened in (_HANGS, _RESTARTED) and is_mostly_up:
        return happened
    longest = max(states, key=lambda state: (states[state], -_RANK.index(state)), default=_S.REGISTERED)
    return _SIGN_OF[longest]
