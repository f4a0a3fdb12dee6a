"""One answer to a scrape: a value, between who renders it and who sends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """A page of metrics in one of Prometheus' text formats.

    Attributes:
        content_type: value of the HTTP header.
        length: bytes of all pieces together.
        pieces: UTF-8 text, made while it is read, once; each is at most about 256 KiB.
    """

    content_type: str
    length: int
    pieces: Iterable[bytes]
