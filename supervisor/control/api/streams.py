"""Events and log lines as they come, as server-sent events: ``GET /events/stream`` and ``GET /agents/{path}/logs``.

One `Streams` lives as long as the application. ``control_app`` makes it and hands it to the endpoints::

    streams = Streams(orchestrator.events, services.history.query, services.logs, before=services.last_seq)
    return streams.events(request, EventFilter.of(types, path), since)

Nothing runs while nobody streams. How slow a client is concerns nobody else: see `event_hub`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

from starlette.responses import Response, StreamingResponse

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.event_manager import KEPT_EVENTS
from orchestree.supervisor.event_readers import EventFilter
from orchestree.supervisor.events import Event, EventType
from orchestree.supervisor.history import EventQuery, a_gap, first_of

from .event_hub import EventHub, Write
from .line_box import LineBox, without
from .reading_threads import VALUES
from .reads import event_record
from .views import to_bytes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Send

    from orchestree.supervisor.agent_logs import AgentLogs, LogLine
    from orchestree.supervisor.event_manager import EventManager

SILENCE_S: Final = 15.0
"""Seconds after which a client that was sent nothing gets a comment, so that one that has gone is noticed."""
MEDIA_TYPE: Final = "text/event-stream"
COMMENT: Final = b":\n\n"
PAGE: Final = 100
"""How many events are read from the history at once."""
GAPS: Final = frozenset({EventType.EVENT_GAP})
LAST_NUMBER: Final = 2**63 - 1
"""What a history file can hold."""

_Arguments = TypeVarTuple("_Arguments")
_Found = TypeVar("_Found")

Query = Callable[[EventQuery], list[Event]]


@dataclass(frozen=True, slots=True)
class LastSeen:
    """What a client knows: all up to the event with the number `seq`, of this run if it says of which."""

    seq: int
    run: str | None = None


def encode(event: Event) -> bytes:
    """Return `event` as one message. Its id names the run, since another one may use the same numbers."""
    text = b"id: %b:%d\nevent: %b\ndata: %b\n\n"
    return text % (event.run.encode(), event.seq, event.type.encode(), to_bytes(event_record(event)))


def encode_line(line: LogLine) -> bytes:
    """Return `line` as one message."""
    return b"data: %b\n\n" % to_bytes(line)


def last_event_id(header: str | None) -> LastSeen | None:
    """Return what a client says it has seen last, ``<run>:<seq>`` or ``<seq>``; None if it says nothing.

    Raises:
        SpecError: it is no such id.
    """
    if not header:
        return None
    run, colon, seq = header.rpartition(":")
    if not (seq.isascii() and seq.isdecimal() and len(seq) < 20 and int(seq) <= LAST_NUMBER):
        raise SpecError(f"Last-Event-ID: {header[:40]!r} is not the id of an event")
    return LastSeen(int(seq), run if colon else None)


class Streams:
    """Answers with streams. Task of the API's loop only."""

    def __init__(
        self,
        events: EventManager,
        history: Query,
        logs: AgentLogs,
        *,
        before: int = 0,
        silence_s: float = SILENCE_S,
        kept: int = KEPT_EVENTS,
    ) -> None:
        """Start nothing yet.

        Args:
            events: of the orchestrator.
            history: answers from memory and file; is called in worker threads.
            logs: of its agents.
            before: number of the latest event of the runs before this one.
            silence_s: seconds between comments.
            kept: how many events a client may fall behind.
        """
        self._events = events
        self._history = history
        self._logs = logs
        self._before = before
        self._silence_s = silence_s
        self._one_at_a_time = asyncio.Semaphore(1)
        self._hub = EventHub(events, encode, before=before, limit=kept)

    def events(self, request: Request, wanted: EventFilter, since: int | None) -> Response:
        """Answer with the events above `since`, else from now on, until the tree has ended and all are sent.

        The header ``Last-Event-ID`` goes before `since`. If the run that it names is an earlier one, what follows
        the end of that comes, as far as it was stored; if nothing of that run is kept, all that is. A bare number
        that no event has yet is of an earlier run, whose numbers began anew: then all events of this run come.

        What is no longer there is an ``EVENT_GAP``, whatever is wanted; so is what a client was too slow for (10,000
        events).

        Raises:
            SpecError: the header is no id of an event.
        """
        known = last_event_id(request.headers.get("last-event-id"))
        if known is None or known.run is None:
            known = LastSeen(self._begin(since if known is None else known.seq))
        return _answer(request, self._event_messages(known, wanted))

    def lines(self, request: Request, path: str, limit: int) -> Response:
        """Answer with the last `limit` lines of an agent, or of all below a supervisor, and with those to come.

        What a client was too slow for is said in a line of its own. Ends when the tree has ended and all are sent.
        """
        return _answer(request, self._line_messages(path, limit))

    def _begin(self, since: int | None) -> int:
        latest = max(self._events.latest, self._before)
        if since is None:
            return latest
        return since if since <= latest else self._before

    async def _event_messages(self, known: LastSeen, wanted: EventFilter) -> AsyncGenerator[bytes, None]:
        with self._hub.listening() as feed:
            seq = known.seq if known.run is None else await self._in_turn(self._resumed, known.seq, known.run)
            if not feed.reaches_back_to(seq) and (gap := await self._in_turn(self._gap_after, seq)):
                yield gap
            while not feed.reaches_back_to(seq):
                page = await self._in_turn(self._page, seq, wanted)
                if page.data:
                    yield page.data
                seq = page.seq

            def take() -> bytes | None:
                nonlocal seq
                write = feed.after(seq, wanted)
                seq = write.seq
                return None if feed.ended and not write.data else write.data

            while (messages := await self._next(take, feed.news)) is not None:
                yield messages

    async def _line_messages(self, path: str, limit: int) -> AsyncGenerator[bytes, None]:
        def take() -> bytes | None:
            lines = box.take()
            return None if lines is None else _joined(lines)

        box = LineBox()
        unfollow = self._logs.follow(path, box.put, box.end)
        try:
            past = await self._in_turn(self._logs.lines, path, limit)
            if lines := [*past, *without(past, box.take() or [])]:
                yield _joined(lines)
            while (messages := await self._next(take, box.news)) is not None:
                yield messages
        finally:
            unfollow()

    async def _next(self, take: Callable[[], bytes | None], news: Callable[[], Awaitable[None]]) -> bytes | None:
        """Return what `take` has as soon as that is something, None at the end; a comment after a long silence."""
        try:
            async with asyncio.timeout(self._silence_s):
                while (messages := take()) == b"":
                    await news()
        except TimeoutError:
            return COMMENT
        return messages

    def _resumed(self, seq: int, run: str) -> int:
        """Return the number up to which a client knows all, that has seen the event `seq` of `run`.

        What that run could not store has its numbers used again by the next one.
        """
        kept = self._history(EventQuery(run=run, limit=1))
        return min(seq, kept[-1].seq) if kept else 0

    def _gap_after(self, seq: int) -> bytes:
        """Return the message that says what nobody keeps any more after `seq`, empty if all is there."""
        for event in self._history(EventQuery(since=seq, limit=1)):
            if first_of(event) > seq + 1:
                return encode(a_gap(seq + 1, first_of(event) - 1, event))
        return b""

    def _page(self, seq: int, wanted: EventFilter) -> Write:
        newest = max(self._events.latest, self._before)  # before the look: what comes meanwhile is for the next one
        found = self._history(EventQuery(wanted.path, wanted.types, since=seq, limit=PAGE))
        until = found[-1].seq if found else newest
        if wanted != EventFilter():  # which hides the gaps
            gaps = self._history(EventQuery(types=GAPS, since=seq, until=until, limit=None))
            found = sorted({event.seq: event for event in [*found, *gaps]}.values(), key=lambda event: event.seq)
        return Write(b"".join(map(encode, found)), until)

    async def _in_turn(self, look: Callable[[*_Arguments], _Found], *args: *_Arguments) -> _Found:
        """Return what `look` finds, in a worker thread; one at a time, since each competes with the tree."""
        async with self._one_at_a_time:
            return await VALUES.call(lambda: look(*args))


class _Stream(StreamingResponse):
    """Leaves the feed as soon as the client has gone, not when its garbage is collected."""

    def __init__(self, messages: AsyncGenerator[bytes, None]) -> None:
        super().__init__(messages, media_type=MEDIA_TYPE)
        self._messages = messages

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._messages):
            await super().stream_response(send)


def _answer(request: Request, messages: AsyncGenerator[bytes, None]) -> Response:
    response = _Stream(messages)
    return Response(headers=response.headers) if request.method == "HEAD" else response


def _joined(lines: Sequence[LogLine]) -> bytes:
    return b"".join(map(encode_line, lines))
