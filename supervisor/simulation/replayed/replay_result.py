"""What came of a replay, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestree.supervisor.entry_fields import named_path
from orchestree.supervisor.event_text import describe
from orchestree.supervisor.events import Event
from orchestree.supervisor.inputs import AskRunToStop, KillRun, RecycleRun, StartRun
from orchestree.supervisor.phrases import counted

from .decisions import EndDecided


@dataclass(frozen=True, slots=True)
class Commanded:
    """At `now` (monotonic seconds) the core had something done to a run.

    That it had a run looked at or measured is none: it changes no run, and when it is done depends on the answers.
    """

    now: float
    command: StartRun | AskRunToStop | KillRun | RecycleRun


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a log and the core part.

    Attributes:
        event: the first of the log that the core would not have decided, with the tree that is replayed.
        would: what it would have decided instead; None: nothing.
        differs: in what, if it would have decided on an event of the same type about the same run.
        hint: what may be the reason, in words; empty if nothing is known.
    """

    event: Event
    would: Event | None
    differs: tuple[str, ...] = ()
    hint: str = ""

    def __str__(self) -> str:
        """Return what the log says and what the core would have decided, in one line."""
        if self.would is None:
            instead = "decides nothing then"
        elif self.differs:
            instead = f"decides {'; '.join(self.differs)}"
        else:
            instead = f"decides: {_line(self.would)}"
        hint = f" ({self.hint})" if self.hint else ""
        return f"event {self.event.seq}: {_line(self.event)}; replayed, the core {instead}{hint}"


def _line(event: Event) -> str:
    return " ".join(describe(event).split())


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Replay:
    """What the core decides when it is told once more what a log says that it was told; as text, a summary.

    Attributes:
        events: of the log, up to where it and the core part, without what was not decided (failed handlers, gaps).
        commands: everything that was commanded, in order. No event tells when a run was killed whose time to stop was
            over: that is taken to be when it was, so of a live run that ended within the lateness of its loop after
            that it may be here though it was not commanded.
        decisions: one for each end of a child that nobody had asked for, in order, with what it was made from.
        divergence: None if the core decides all of the log.
        assumptions: what the log does not say, and what was taken for it.
        paths: of everything that there was in the tree.
        left: numbers of the events with which something has left the tree, by its path, ascending.
    """

    events: tuple[Event, ...]
    commands: tuple[Commanded, ...]
    decisions: tuple[EndDecided, ...]
    divergence: Divergence | None
    assumptions: tuple[str, ...]
    paths: frozenset[str]
    left: Mapping[str, Sequence[int]]

    def __repr__(self) -> str:
        """Return, say, ``<Replay of 120 events: 14 decisions; it and the log part at event 121>``."""
        parts = f"; it and the log part at event {self.divergence.event.seq}" if self.divergence else ""
        return f"<Replay of {counted(len(self.events), 'event')}: {counted(len(self.decisions), 'decision')}{parts}>"

    def why(self, path: str, at: float | None = None) -> str:
        """Return why the child at `path` was up or down at a moment, in a few lines: the decision, with its inputs.

        If it was for something else, such as a stop of the tree, also what was decided when it last ended by itself.

        Args:
            path: of an agent or a supervisor; ``""`` or ``"/"`` is the root.
            at: wall time, seconds since 1970 (of a simulation: virtual seconds); None: at the end of the log.

        Raises:
            NotFound: nothing ever had this path. SpecError: `at` is no such number, or before the first event; the
                message says when that was.
        """
        from .why import account_of

        return "\n".join(account_of(self, named_path(path), at).lines)
