"""From the lines of a text/event-stream to its messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a stream.

    Attributes:
        data: its text; lines are joined with a line break.
        event: its type; empty if it has none.
        id: what the stream can be resumed after; empty if it has none.
    """

    data: str
    event: str = ""
    id: str = ""


def messages(lines: Iterable[bytes]) -> Iterator[Message]:
    """Yield each message when its blank line has come. Comments, and a message that was cut off, are left out."""
    fields: dict[str, list[str]] = {}
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line:
            field, _, value = line.partition(":")
            fields.setdefault(field, []).append(value.removeprefix(" "))
            continue
        if "data" in fields:
            event, identity = (fields.get(field, [""])[-1] for field in ("event", "id"))
            yield Message("\n".join(fields["data"]), event, identity)
        fields = {}
