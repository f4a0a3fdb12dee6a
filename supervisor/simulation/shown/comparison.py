"""What came of a comparison of a simulated log and a live one, as values and as text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from orchestree.supervisor.phrases import counted

DifferenceKind = Literal["steps", "delays", "times", "texts"]

_WHY: Final = MappingProxyType[DifferenceKind, str](
    {
        "steps": "a fault met another state than was foreseen, or something happened that nobody has simulated",
        "delays": "each log draws its own jitter, and whoever took time to stop has less of the delay left",
        "times": "real starts and ends take time, signals and timers come a little late, who hangs was silent before",
        "texts": "the words of a simulated crash are made up; what a real one says nobody knows before",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One event of an agent or supervisor.

    Attributes:
        at: seconds since the start of the tree.
        what: its type, and what was decided: the cause, the failure's number in its streak.
        delay: seconds from this event to the start; None if it is no restart.
        text: message of a crash; else empty.
    """

    at: float
    what: str
    delay: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A step in both logs, or in one of them (the other is None).

    Attributes:
        shift: seconds by which a start or its end is later in the live log only because its delay was longer.
    """

    simulated: Step | None
    live: Step | None
    shift: float = 0.0

    @property
    def later(self) -> float | None:
        """Seconds by which it came later in the live log; None if it is not in both."""
        return self.live.at - self.simulated.at if self.live and self.simulated else None

    def __str__(self) -> str:
        """Return one line: what, the two times, their difference, other delays."""
        step = self.live or self.simulated
        assert step is not None
        times = "".join(f"{one.at:10.3f}" if one else f"{'-':>10}" for one in (self.simulated, self.live))
        later = f"{self.later:+10.3f}" if self.later is not None else ""
        delays = " / ".join(f"{one.delay:.3f}" for one in (self.simulated, self.live) if one and one.delay is not None)
        return f"  {step.what:<38}{times}{later}" + (f"   in {delays} s" if delays else "")


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which two logs differ.

    Attributes:
        kind: ``steps``: a step is in one log only; ``delays`` of restarts; ``times``, apart from what other delays
            explain; ``texts`` of crashes.
        number: of steps that differ so.
        how: by how much at most, or an example.
    """

    kind: DifferenceKind
    number: int
    how: str

    @property
    def why(self) -> str:
        """What it comes from: one line."""
        return _WHY[self.kind]

    def __str__(self) -> str:
        """Return two lines."""
        what = "in one log only" if self.kind == "steps" else f"with other {self.kind}"
        return f"  {counted(self.number, 'step')} {what}, {self.how}:\n      {self.why}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two logs side by side.

    Attributes:
        rows: of each agent and supervisor, by path, in the order in which they first appear.
        differences: as far as there are any: ``steps``, ``delays``, ``times``, ``texts``.
    """

    rows: Mapping[str, Sequence[Row]]
    differences: tuple[Difference, ...]

    @property
    def apart(self) -> tuple[str, ...]:
        """Paths whose decisions are not the same, in the order of `rows`."""
        return tuple(path for path, rows in self.rows.items() if any(row.later is None for row in rows))

    @property
    def is_same(self) -> bool:
        """Whether the same was decided for everybody, in the same order; times, delays and texts may differ."""
        return not self.apart

    def __str__(self) -> str:
        """Return both logs as a table, where they differ and why, and the verdict."""
        lines = [f"{'':<40}{'simulated':>10}{'live':>10}{'later':>10}"]
        for path, rows in self.rows.items():
            lines += [path or "(the root)", *map(str, rows)]
        if self.differences:
            lines += ["Where they differ, and why:", *map(str, self.differences)]
        alike = len(self.rows) - len(self.apart)
        verdict = f"The same decisions, in the same order, for {alike} of {len(self.rows)} agents and supervisors"
        return "\n".join([*lines, f"{verdict}{'; not for ' if self.apart else ''}{', '.join(self.apart)}."])
