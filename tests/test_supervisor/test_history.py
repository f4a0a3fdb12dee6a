"""One answer from memory and store, by the same rules as from a plain list of everything that happened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from history_support import numbered, stored
from hypothesis import given, settings, strategies as some

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.event_manager import EventManager
from orchestree.supervisor.events import (
    AgentParked,
    AgentReady,
    AgentUnregistered,
    Event,
    EventData,
    EventGap,
    EventType,
)
from orchestree.supervisor.history import EventQuery, History, joined

PATHS = ("", "a", "a/b", "a/bc", "ab", "x/y/z")
DATA: tuple[EventData, ...] = (AgentReady(0.5), AgentParked("why", 3), AgentUnregistered())
TIMES = some.floats(0.0, 10.0)
SHM = Path("/dev/shm")
MEMORY = SHM if SHM.is_dir() else None
"""Where files wait for no disk: what is asked here is the same of any."""


class ListStore:
    """The store of the fewest lines."""

    def __init__(self, events: Sequence[Event] = (), *, broken: bool = False) -> None:
        self.events = list(events)
        self.broken = broken

    def append(self, events: Sequence[Event]) -> None:
        self.events += events

    def query(self, query: EventQuery) -> list[Event]:
        if self.broken:
            raise OSError("the disk is gone")
        return query.among(self.events)

    def prune(self, rows: int | None, before: float | None) -> bool:
        return False


class Memory:
    def __init__(self, events: Sequence[Event], stored: int = 0, on_the_way: Sequence[Event] = ()) -> None:
        self.events, self.stored, self.on_the_way = list(events), stored, on_the_way

    def recent(self) -> list[Event]:
        return joined(self.stored, self.on_the_way, self.events)


def numbers(events: Sequence[Event]) -> list[int | tuple[int, int]]:
    return [(e.data.first, e.data.last) if isinstance(e.data, EventGap) else e.seq for e in events]


def some_events(first: int, last: int) -> list[Event]:
    return [numbered(seq) for seq in range(first, last + 1)]


def gap(first: int, last: int) -> Event:
    return numbered(last, EventGap(first, last), "")


@some.composite
def histories(draw: some.DrawFn) -> list[Event]:
    rows = some.tuples(some.sampled_from(PATHS), some.sampled_from(DATA), TIMES, some.sampled_from(("r1", "r2")))
    found = draw(some.lists(rows, max_size=40))
    runs = sorted(run for *_, run in found)  # one run comes after the other
    return [numbered(seq, data, path, time, runs[seq - 1]) for seq, (path, data, time, _) in enumerate(found, start=1)]


QUERIES = some.builds(
    EventQuery,
    path=some.sampled_from((*PATHS, "a/b/c", "nobody")),
    types=some.none() | some.frozensets(some.sampled_from(EventType)),
    since=some.none() | some.integers(-1, 45),
    until=some.none() | some.integers(-1, 45),
    after=some.none() | TIMES,
    before=some.none() | TIMES,
    run=some.none() | some.sampled_from(("r1", "r2", "r3")),
    limit=some.none() | some.integers(0, 20),
)


def expected(events: Sequence[Event], query: EventQuery) -> list[Event]:
    """Say it again in other words."""
    found = [
        e
        for e in events
        if (query.types is None or e.type in query.types)
        and (f"{e.path}/".startswith(f"{query.path}/") or not query.path)
        and e.seq > (e.seq - 1 if query.since is None else query.since)
        and e.seq <= (e.seq if query.until is None else query.until)
        and e.time >= (0.0 if query.after is None else query.after)
        and e.time < (11.0 if query.before is None else query.before)
        and e.run == (query.run or e.run)
    ]
    if query.limit is None:
        return found
    return found[: query.limit] if query.since is not None else found[::-1][: query.limit][::-1]


@given(histories(), QUERIES)
@pytest.mark.slow
def test_the_ring_answers_like_a_plain_list(events: list[Event], query: EventQuery) -> None:
    manager = EventManager(lambda _, error: None)
    for event in events:
        manager.publish(event)
    assert History(manager).query(query) == expected(events, query)


@pytest.mark.slow
@settings(max_examples=60)
@given(histories(), some.lists(QUERIES, min_size=4, max_size=4), some.integers(1, 12))
def test_the_file_answers_like_a_plain_list(events: list[Event], queries: list[EventQuery], batch: int) -> None:
    with TemporaryDirectory(dir=MEMORY) as folder:
        for run in ("r1", "r2"):
            of_run = [event for event in events if event.run == run]
            with stored(Path(folder, "h.db"), run) as store:
                for start in range(0, len(of_run), batch):
                    store.append(of_run[start : start + batch])
                for query in queries if run == "r2" else ():
                    assert store.query(query) == expected(events, query)


@given(histories(), QUERIES, some.integers(0, 40), some.integers(0, 40), some.integers(0, 40))
@pytest.mark.slow
def test_ring_and_store_together_answer_like_a_plain_list(
    events: list[Event], query: EventQuery, kept: int, stored: int, on_the_way: int
) -> None:
    # The newest `kept` are in the ring; the oldest `stored` in the store, and so many more are on their way.
    ring = events[max(0, len(events) - kept) :]
    stored = max(min(stored, len(events)), len(events) - len(ring) - on_the_way)
    memory = Memory(ring, stored, events[stored : stored + on_the_way])
    assert History(memory, ListStore(events[:stored])).query(query) == expected(events, query)


def test_what_the_store_lost_is_told_from_the_ring_as_long_as_it_has_it() -> None:
    store = ListStore([*some_events(1, 3), gap(4, 8), numbered(9)])
    history = History(Memory(some_events(6, 10), stored=9), store)
    assert numbers(history.query(EventQuery())) == [1, 2, 3, (4, 5), 6, 7, 8, 9, 10]
    assert numbers(history.query(EventQuery(since=2))) == [3, (4, 5), 6, 7, 8, 9, 10]
    assert numbers(history.query(EventQuery(since=2, limit=2))) == [3, (4, 5)]
    assert numbers(history.query(EventQuery(limit=6))) == [(4, 5), 6, 7, 8, 9, 10]
    assert numbers(history.query(EventQuery(limit=7))) == [3, (4, 5), 6, 7, 8, 9, 10]
    assert numbers(history.query(EventQuery(path="a"))) == [1, 2, 3, 6, 7, 8, 9, 10]


def test_a_loss_that_is_on_its_way_into_the_store_is_cut_in_the_same_way() -> None:
    history = History(
        Memory(some_events(6, 10), 2, [numbered(3), gap(4, 8), numbered(9)]), ListStore(some_events(1, 2))
    )
    assert numbers(history.query(EventQuery())) == [1, 2, 3, (4, 5), 6, 7, 8, 9, 10]


def test_what_the_writer_has_not_stored_and_the_ring_has_lost_is_a_gap() -> None:
    history = History(Memory(some_events(8, 10), stored=3), ListStore(some_events(1, 3)))
    assert numbers(history.query(EventQuery())) == [1, 2, 3, (4, 7), 8, 9, 10]
    assert numbers(history.query(EventQuery(since=0, limit=4))) == [1, 2, 3, (4, 7)]


def test_an_event_that_is_stored_while_we_look_is_not_found_twice() -> None:
    on_the_way = some_events(4, 6)
    history = History(Memory(some_events(6, 8), 3, on_the_way), ListStore(some_events(1, 6)))
    assert numbers(history.query(EventQuery())) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_store_that_cannot_be_read_is_a_gap_before_what_is_in_memory() -> None:
    history = History(Memory(some_events(8, 10), stored=7), ListStore(broken=True))
    assert numbers(history.query(EventQuery())) == [(1, 7), 8, 9, 10]
    assert numbers(history.query(EventQuery(limit=2))) == [9, 10]
    assert History(Memory([]), ListStore(broken=True)).query(EventQuery()) == []


def test_before_the_first_event_of_a_run_the_store_alone_answers() -> None:
    history = History(Memory([], stored=3), ListStore(some_events(1, 3)))
    assert numbers(history.query(EventQuery(limit=2))) == [2, 3]


WRONG: dict[str, tuple[object, ...]] = {
    "limit": (-1, 1.5, "3", True, 10**30),
    "since": (1.5, "3", True),
    "after": ("yesterday", float("nan"), True, 10**400),
    "before": ([], float("nan")),
    "path": (5, b"a"),
    "run": (5,),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_question_that_makes_no_sense_is_an_error_that_names_the_field(field: str, value: object) -> None:
    with pytest.raises(SpecError, match=f"{field}=.*: must be"):
        EventQuery(**{field: value})  # type: ignore[arg-type]


def test_no_events_at_all_and_numbers_without_bounds_may_be_asked_for(tmp_path: Path) -> None:
    with stored(tmp_path / "h.db") as store:
        store.append(some_events(1, 5))
        for memory, kept in (
            (Memory([]), store),
            (Memory(some_events(4, 5), stored=5), store),
            (Memory(some_events(1, 5)), None),
        ):
            history = History(memory, kept)
            assert history.query(EventQuery(limit=0)) == history.query(EventQuery(limit=0, since=0)) == []
            assert history.query(EventQuery(since=10**30)) == history.query(EventQuery(until=-(10**30))) == []
            assert numbers(history.query(EventQuery(since=-(10**30), until=10**30))) == [1, 2, 3, 4, 5]
            assert numbers(history.query(EventQuery(after=float("-inf"), before=float("inf")))) == [1, 2, 3, 4, 5]
