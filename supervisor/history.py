"""What happened: questions about events, and who answers them. Pure.

The newest events are in memory, every one of them (the ring); older ones are in a store, if there is one. `History`
answers from both as if they were one list.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

from orchestree.strategies.errors import SpecError

from .events import Event, EventGap, EventType


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events are wanted. What is None does not restrict.

    Attributes:
        path: of an agent or supervisor, with everything below it; ``""`` is the whole tree.
        types: of the events.
        since: only events with a number above it; the answer is then the first `limit` of them, so that one page
            can follow another. Without it the answer is the newest `limit`.
        until: only events with a number up to it (inclusive), for pages that go back.
        after: only events of this wall time (seconds since 1970) or later.
        before: only events of an earlier wall time.
        run: id of the run of the orchestrator.
        limit: how many events at most; None for all.

    Raises:
        SpecError: a value is of the wrong type, a time is no number, or the limit is negative.
    """

    path: str = ""
    types: frozenset[EventType] | None = None
    since: int | None = None
    after: float | None = None
    before: float | None = None
    run: str | None = None
    limit: int | None = 100
    until: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check what a user may have written."""
        _check("path", self.path, "a string", isinstance(self.path, str))
        _check("run", self.run, "the id of a run", isinstance(self.run, str | None))
        for name, number in (("since", self.since), ("until", self.until)):
            _check(name, number, "a whole number", number is None or _is_whole(number))
        for name, time in (("after", self.after), ("before", self.before)):
            _check(name, time, "seconds since 1970", time is None or _is_time(time))
        limit = self.limit
        _check("limit", limit, "0 or more", limit is None or (_is_whole(limit) and 0 <= limit <= sys.maxsize))

    @property
    def newest_first(self) -> bool:
        """Whether the newest events count, rather than the first above `since`."""
        return self.since is None

    def matches(self, event: Event) -> bool:
        """Return whether `event` is wanted, whatever the limit."""
        path = self.path
        return (
            (self.types is None or event.type in self.types)
            and (not path or event.path == path or event.path.startswith(f"{path}/"))
            and (self.since is None or event.seq > self.since)
            and (self.until is None or event.seq <= self.until)
            and (self.after is None or event.time >= self.after)
            and (self.before is None or event.time < self.before)
            and (self.run is None or event.run == self.run)
        )

    def among(self, events: list[Event]) -> list[Event]:
        """Return the answer if there are only these `events`, which are in order; oldest first."""
        if not self.newest_first:
            return list(islice(filter(self.matches, events), self.limit))
        found = list(islice(filter(self.matches, reversed(events)), self.limit))
        found.reverse()
        return found


class HistoryStore(Protocol):
    """Keeps events for longer than a run. Another kind of store needs these three methods and no more.

    How it is opened and closed is the affair of who makes the `OpenedHistory` of it.
    """

    def append(self, events: Sequence[Event]) -> None:
        """Store events, which come in order. Returns when they are safe from a power cut. Writer's thread only.

        Raises:
            OSError: none of them was stored.
        """

    def query(self, query: EventQuery) -> list[Event]:
        """Return what is stored, oldest first. Any thread; never waits for `append`.

        Raises:
            OSError: the store cannot be read.
        """

    def prune(self, rows: int | None, before: float | None) -> bool:
        """Forget a few of the events beyond the newest `rows` and of those from before the wall time `before`.

        None does not restrict. Writer's thread only. Returns whether there is more to forget; call again then.

        Raises:
            OSError: nothing was forgotten.
        """


@dataclass(frozen=True, slots=True)
class OpenedHistory:
    """A store that is ready for the events of one run.

    Attributes:
        store: the events.
        last_seq: the highest number that an event in it ever had; this run goes on with the next one.
        close: called once when nothing more will be stored, in the thread that stored. An `OSError` of it is told as
            one of the store.
    """

    store: HistoryStore
    last_seq: int = 0
    close: Callable[[], None] = lambda: None


class Memory(Protocol):
    """Who knows the newest events."""

    def recent(self) -> list[Event]:
        """Return the newest events, oldest first; losses among them are an ``EVENT_GAP``. Any thread."""


@dataclass(frozen=True, slots=True)
class History:
    """All that is known of what happened. Any thread.

    Attributes:
        memory: knows the newest events: the `EventManager` where nothing is stored, else the `HistoryWriter`, whose
            answer begins at the latest where the store ends.
        store: holds older ones; None if nothing is stored.
    """

    memory: Memory
    store: HistoryStore | None = None

    def query(self, query: EventQuery) -> list[Event]:
        """Return the events that fit, oldest first: no event twice, and an ``EVENT_GAP`` where some are missing.

        Never waits for what is being written. What a store that cannot be read would hold is missing.
        """
        # What moves into the store after this look is found twice, not missed; `until` below drops it there.
        recent = self.memory.recent()
        first = first_of(recent[0]) if recent else None
        if self.store is None or (first is not None and query.since is not None and query.since >= first - 1):
            return query.among(recent)
        if query.newest_first and len(found := query.among(recent)) == query.limit:
            return found
        try:
            return _in_both(self.store, query, recent)
        except OSError:
            unread = [a_gap(1, first - 1, recent[0])] if first is not None and first > 1 else []
            return query.among(unread + recent)


def _in_both(store: HistoryStore, query: EventQuery, recent: list[Event]) -> list[Event]:
    if not recent:
        return store.query(query)
    first = first_of(recent[0])
    # The store may have lost what is still in memory: of a gap that reaches into it, only the part before is one.
    across = store.query(EventQuery(types=frozenset({EventType.EVENT_GAP}), since=first - 1, limit=1))
    found = query.among(
        [a_gap(first_of(gap), first - 1, recent[0]) for gap in across if first_of(gap) < first] + recent
    )
    until = first - 1 if query.until is None else min(query.until, first - 1)
    if not query.newest_first or query.limit is None:
        return [*store.query(replace(query, until=until)), *found][: query.limit]
    return [*store.query(replace(query, until=until, limit=query.limit - len(found))), *found]


def joined(stored: int, on_the_way: Sequence[Event], ring: list[Event]) -> list[Event]:
    """Return the newest events, oldest first: the `ring`, and before it what is only `on_the_way` into the store.

    What is neither there nor stored, because the writer was too slow or gave up, is an ``EVENT_GAP``.

    Args:
        stored: number up to which everything is in the store.
        on_the_way: the events after it that are being stored, oldest first.
        ring: the newest events, without holes.
    """
    if not ring:
        return list(on_the_way)
    first = ring[0].seq
    before = [event for event in on_the_way if event.seq < first]
    across = [gap for gap in on_the_way if gap.seq >= first > first_of(gap)]
    before += [a_gap(first_of(gap), first - 1, ring[0]) for gap in across]
    known = on_the_way[-1].seq if on_the_way else stored
    if known < first - 1:
        before.append(a_gap(known + 1, first - 1, ring[0]))
    return before + ring


def first_of(event: Event) -> int:
    """Return the number of the first event that `event` stands for: of a gap its `first`."""
    return event.data.first if isinstance(event.data, EventGap) else event.seq


def a_gap(first: int, last: int, follower: Event) -> Event:
    """Return the ``EVENT_GAP`` that stands for the events `first` to `last`, which are missing before `follower`."""
    gap = EventGap(first, last)
    return Event(last, follower.time, follower.monotonic, EventType.EVENT_GAP, "", 0, gap, follower.run)


def _check(field: str, value: object, must_be: str, is_so: bool) -> None:
    if not is_so:
        unless = "" if field == "path" else ", or None"
        raise SpecError(f"{field}={value!r}: must be {must_be}{unless}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_time(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return not math.isnan(float(value))
    except OverflowError:
        return False
