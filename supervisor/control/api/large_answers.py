"""Answers that may be large: only a few at once are in memory, from before they are made until the client has them.

Each is sent in pieces, the next one when the client has taken most of the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from .problems import Problem
from .reading_threads import ReadingThreads

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

JSON: Final = "application/json"

PIECE: Final = 64 * 1024
"""Bytes; what is not larger is sent at once, and nobody waits until it is taken."""

AT_ONCE: Final = 4
"""Answers of one kind."""

ROOM_S: Final = 10.0
"""Seconds that a request waits until there is room for its answer."""

TAKEN_S: Final = 60.0
"""Seconds in which a client has to take a large answer."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an answer holds."""

    body: bytes
    media_type: str = JSON


class LargeAnswers:
    """Makes and sends one kind of answers. Tasks of one loop."""

    def __init__(self, threads: ReadingThreads) -> None:
        """Have them made in these threads."""
        self._threads = threads
        self._room = asyncio.Semaphore(AT_ONCE)

    async def answer(self, make: Callable[[], Content]) -> Response:
        """Return an answer with what `make` returns.

        Raises:
            Problem: ``busy``: there is no room within `ROOM_S`; and as `ReadingThreads.call`.
        """
        try:
            async with asyncio.timeout(ROOM_S):
                await self._room.acquire()
        except TimeoutError:
            raise Problem("busy", "too many large answers are on their way, try again later") from None
        content = Content(b"")
        try:
            content = await self._threads.call(make)
        finally:
            is_large = len(content.body) > PIECE
            if not is_large:
                self._room.release()
        if is_large:
            return _InPieces(content, self._room.release)
        return Response(content.body, media_type=content.media_type)


class _InPieces(Response):
    """Says that it is done when the last piece is handed to the connection, or the client does not take it."""

    def __init__(self, content: Content, done: Callable[[], None]) -> None:
        super().__init__(content.body, media_type=content.media_type)
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(TimeoutError):  # the server closes a connection whose answer is not complete
                async with asyncio.timeout(TAKEN_S):
                    await self._send(send)
        finally:
            self._done()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for begin in range(0, len(self.body), PIECE):
            end = begin + PIECE
            await send({"type": "http.response.body", "body": self.body[begin:end], "more_body": end < len(self.body)})
