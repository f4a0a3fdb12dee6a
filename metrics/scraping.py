"""One connection of a scraper: HTTP/1.1 requests one after the other, each with its deadlines."""

from __future__ import annotations

import hmac
import io
import math
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import Any, Final

from .page import Page

TEXT: Final = "text/plain; charset=utf-8"
BUSY_TEXT: Final = b"too many connections\n"
BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    % (TEXT.encode(), len(BUSY_TEXT), BUSY_TEXT)
)
"""The whole answer to one connection too many."""

WELCOME: Final = "Metrics of an Orchestree supervision tree.\nPrometheus scrapes them at /metrics\n"
METHODS: Final = "GET, HEAD"
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeLimits:
    """Seconds that a connection gets; whoever needs longer is dropped.

    Attributes:
        head_s: for a request, from its first byte, and for the first byte of all.
        idle_s: between two requests.
        taking_s: to take an answer.
    """

    head_s: float = 10.0
    idle_s: float = 90.0
    taking_s: float = 60.0


class Scrape:
    """What is the same for all connections. Any thread.

    Args:
        page: see `MetricsServer`, and so are the two behind it.
        token: that must be shown.
        on_trouble: told that `page` has raised.
        limits: for each connection.
    """

    def __init__(
        self, page: Callable[[str], Page], token: str | None, on_trouble: Callable[[str], None], limits: ScrapeLimits
    ) -> None:
        """Keep them."""
        self.page, self.limits = page, limits
        self._credentials = None if token is None else token.encode()
        self._on_trouble = on_trouble
        self._has_trouble = False

    def serve(self, connection: socket.socket, waits: Callable[[bool], None]) -> None:
        """Answer all requests of a connection, until it ends or has to. Never raises; leaves it open.

        Args:
            connection: of a scraper.
            waits: told when a request is waited for, and when there is one to be answered; raises `OSError` if it
                must not be any more.
        """
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Requests(connection, self, waits)
        except OSError:  # it has gone, or was too slow
            pass
        except Exception as error:
            self.note_trouble(error)

    def admits(self, authorization: str) -> bool:
        """Return whether the value of the header ``Authorization`` shows the token."""
        if self._credentials is None:
            return True
        scheme, _, shown = authorization.partition(" ")
        is_right = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), self._credentials)
        return is_right and scheme.lower() == "bearer"

    def note_success(self) -> None:
        """Have the next trouble told again."""
        self._has_trouble = False

    def note_trouble(self, error: BaseException) -> None:
        """Tell that the page could not be made, unless that is known."""
        if not self._has_trouble:
            self._has_trouble = True
            said = " ".join(str(error).split())
            self._on_trouble(f"the page of metrics could not be made: {type(error).__name__}: {said}")


class _TimedFile(io.RawIOBase):
    """A socket as a file; reading and writing raise `TimeoutError` once the time allowed last is over."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = math.inf

    def allow(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._set_timeout()
        return self._connection.recv_into(buffer)

    def write(self, data: Any) -> int:
        self._set_timeout()
        self._connection.sendall(data)
        return len(data)

    def _set_timeout(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)


class _Requests(BaseHTTPRequestHandler):
    """Parses requests as the standard library does, and answers each. Made for one connection; that does it all."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # also what does not say so gets an answer with a head

    def __init__(self, connection: socket.socket, scrape: Scrape, waits: Callable[[bool], None]) -> None:
        self._scrape, self._limits, self._waits = scrape, scrape.limits, waits
        super().__init__(connection, None, None)  # type: ignore[arg-type]  # which it only keeps

    def setup(self) -> None:
        self.file = _TimedFile(self.request)
        self.rfile, self.wfile = io.BufferedReader(self.file), self.file  # type: ignore[assignment]

    def finish(self) -> None:
        """Leave the socket to the server."""

    def handle(self) -> None:
        self.close_connection = False
        first_byte_s = self._limits.head_s
        while not self.close_connection:
            self._waits(True)
            self.file.allow(first_byte_s)
            if not self.rfile.peek(1):  # type: ignore[attr-defined]
                return
            self.file.allow(self._limits.head_s)
            self.handle_one_request()
            first_byte_s = self._limits.idle_s

    def handle_one_request(self) -> None:
        """Read a request and answer it."""
        self.raw_requestline = self.rfile.readline(65537)
        self.requestline, self.request_version, self.command = "", self.default_request_version, ""
        if len(self.raw_requestline) > 65536:
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif self.parse_request():
            self._waits(False)
            if self._may_have_body():
                self.close_connection = True  # nobody here reads it, and it must not be taken for a request
            self._answer()

    def _may_have_body(self) -> bool:
        lengths = self.headers.get_all("Content-Length", ["0"])
        return bool(self.headers.defects) or lengths != ["0"] or "Transfer-Encoding" in self.headers

    def handle_expect_100(self) -> bool:
        """Do not ask for a body."""
        return True

    def _answer(self) -> None:
        if not self._scrape.admits(self.headers.get("Authorization", "")):
            self.close_connection = True
            self._say(HTTPStatus.UNAUTHORIZED, "metrics_token must be shown\n", {"WWW-Authenticate": "Bearer"})
        elif self.command not in ("GET", "HEAD"):
            self._say(HTTPStatus.METHOD_NOT_ALLOWED, f"only {METHODS}\n", {"Allow": METHODS})
        else:
            match self.path.partition("?")[0]:
                case "/metrics":
                    self._send_page()
                case "/":
                    self._say(HTTPStatus.OK, WELCOME)
                case _:
                    self._say(HTTPStatus.NOT_FOUND, "there is nothing at this address; the metrics are at /metrics\n")

    def _send_page(self) -> None:
        try:
            page = self._scrape.page(", ".join(self.headers.get_all("Accept", ())))
        except BaseException as error:  # also what ends a program: a collector of a user may have run
            self._scrape.note_trouble(error)
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, "the metrics could not be made\n")
            return
        self._begin(HTTPStatus.OK, page.content_type, page.length)
        if self.command != "HEAD":
            self._send_pieces(page)

    def _send_pieces(self, page: Page) -> None:
        """Send a page; if it breaks off, so does the connection, which says that it is not complete."""
        sent = 0
        try:
            for piece in page.pieces:
                self.wfile.write(piece)
                sent += len(piece)
            if sent != page.length:
                raise ValueError(f"{sent} bytes instead of {page.length}")
        except OSError:  # whoever asked has gone, or is too slow
            raise
        except BaseException as error:
            self._scrape.note_trouble(error)
            self.close_connection = True
            return
        self._scrape.note_success()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what could not be parsed, without repeating it."""
        self.close_connection = True
        self._say(HTTPStatus(code), f"{HTTPStatus(code).phrase}\n")

    def _say(self, status: HTTPStatus, text: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        body = text.encode()
        self._begin(status, TEXT, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: HTTPStatus, kind: str, length: int, headers: Mapping[str, str] = NO_HEADERS) -> None:
        self.file.allow(self._limits.taking_s)
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
