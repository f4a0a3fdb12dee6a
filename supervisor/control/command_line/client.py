"""Asks an orchestrator over its UNIX socket. Standard library only, so that a command answers at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from socket import AF_UNIX, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET, socket
from struct import pack
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from orchestree.supervisor.control import places

from .sse_reading import Message, messages

ANSWER_S: Final = 15.0
"""Seconds in which an orchestrator has to answer what needs no waiting."""

CONNECT_S: Final = 10
"""Seconds in which there has to be room for another connection."""

PART: Final = 65_536
"""Bytes of a stream that are read at once."""

Found = TypeVar("Found")
Query = Mapping[str, "str | int | float | None"]
"""Parameters of a request; what is None or empty is left out."""


class Refused(Exception):
    """The orchestrator said no.

    Attributes:
        status: of HTTP.
        code: stable word of the API, such as ``not_found``.
        detail: one line for a person. May quote what agents and people wrote.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        """Keep what was said."""
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Unreachable(Exception):
    """There is no orchestrator to talk to; the message is one line."""


class ConnectionLost(Unreachable):
    """An orchestrator that was answering has gone before the end of its answer."""


class Connection(HTTPConnection):
    """HTTP over the UNIX socket at `path`."""

    def __init__(self, path: str, timeout: float | None) -> None:
        """Connect with the first request. `timeout` is for each read, in seconds; None for none."""
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect.

        Raises:
            OSError: nobody listens there, or there is no room for another one within `CONNECT_S`.
        """
        self.sock = socket(AF_UNIX, SOCK_STREAM)
        # A socket with a timeout of Python's would not wait for room in the queue of one that is busy.
        self.sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, pack("ll", CONNECT_S, 0))
        try:
            with places.short_address(self._path) as address:
                self.sock.connect(address)
        except BaseException:
            self.close()
            raise
        self.sock.settimeout(self.timeout)


class Asked:
    """A request that was sent and whose answer may not have come yet."""

    def __init__(self, socket: str, connection: Connection) -> None:
        """Take over a connection with a request on its way."""
        self._socket, self._connection = socket, connection

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the answer comes."""
        return self._connection.sock.fileno()

    def close(self) -> None:
        """Do without the answer."""
        self._connection.close()

    def answer(self) -> Any:
        """Wait for the answer and return its JSON. Raises as `text`."""
        return self._read(json.loads)

    def text(self) -> str:
        """Wait for the answer and return its text.

        Raises:
            Refused: the orchestrator said no.
            Unreachable: it has gone, or speaks something else.
        """
        return self._read(bytes.decode)

    def _read(self, read: Callable[[bytes], Found]) -> Found:
        try:
            with self._response() as response:
                return read(_checked(response))
        except (HTTPException, OSError, ValueError) as error:
            raise self._no_answer(error) from None
        finally:
            self._connection.close()

    def messages(self) -> Iterator[Message]:
        """Yield the messages of an event stream until the orchestrator ends it, or itself.

        Raises:
            Refused: the orchestrator said no.
            ConnectionLost: it was killed meanwhile, or somebody cut the connection.
            Unreachable: it has gone before it answered.
        """
        try:
            with self._response() as response:
                if response.status != 200:
                    _checked(response)
                yield from messages(_lines(response))
        except (HTTPException, OSError):
            raise ConnectionLost(f"connection lost: the orchestrator at {self._socket} has gone") from None
        finally:
            self._connection.close()

    def _response(self) -> HTTPResponse:
        try:
            return self._connection.getresponse()
        except (HTTPException, OSError) as error:
            raise self._no_answer(error) from None

    def _no_answer(self, error: Exception) -> Unreachable:
        return Unreachable(f"the orchestrator at {self._socket} gave no answer: {_why(error)}")


class Client:
    """Asks the orchestrator behind one socket; each request has a connection of its own."""

    def __init__(self, socket: str, answer_s: float = ANSWER_S) -> None:
        """Choose the socket at this path. Does not connect yet."""
        self.socket = socket
        self._answer_s = answer_s

    def get(self, route: str, query: Query | None = None) -> Any:
        """Return the JSON at `route`, which begins with ``/`` and stands below the API's version.

        Raises:
            Refused: the orchestrator said no.
            Unreachable: there is none.
        """
        return self.ask("GET", route, query).answer()

    def get_text(self, route: str) -> str:
        """Return the text at `route`. Otherwise as `get`."""
        return self.ask("GET", route).text()

    def ask(self, method: str, route: str, query: Query | None = None, body: object = None, wait_s: float = 0) -> Asked:
        """Send a request and return without waiting for the answer, which may take `wait_s` seconds longer.

        Raises:
            Refused: this user may not use the socket.
            Unreachable: nobody listens there.
        """
        return self._ask(method, route, query, body, self._answer_s + wait_s)

    def stream(self, route: str, query: Query | None = None) -> Iterator[Message]:
        """Yield the messages of an event stream for as long as there are any.

        Raises:
            Refused: the orchestrator said no.
            Unreachable: there is none.
        """
        return self._ask("GET", route, query, None, None).messages()

    def _ask(self, method: str, route: str, query: Query | None, body: object, timeout: float | None) -> Asked:
        connection = Connection(self.socket, timeout)
        text = None if method == "GET" else json.dumps({} if body is None else body)
        headers = {"Accept": "application/json, text/plain"} | ({"Content-Type": "application/json"} if text else {})
        given = {key: value for key, value in (query or {}).items() if value is not None and value != ""}
        url = f"/v1{route}?{urlencode(given)}" if given else f"/v1{route}"
        try:
            connection.request(method, url, text, headers)
        except PermissionError:
            raise Refused(403, "not_permitted", f"you may not use the socket {self.socket}") from None
        except (HTTPException, OSError) as error:
            connection.close()
            raise Unreachable(f"no orchestrator answers at {self.socket}: {_why(error)}") from None
        return Asked(self.socket, connection)


def agent_route(path: str, action: str = "") -> str:
    """Return the route of an agent or supervisor, whose path may hold slashes; ``""`` is the root."""
    return f"/agents/{quote(path, safe='') or '%2F'}" + (f"/{action}" if action else "")


def _checked(response: HTTPResponse) -> bytes:
    """Return the body of a good answer."""
    text = response.read()
    if response.status < 400:
        return text
    try:
        problem = json.loads(text)
        detail = problem.get("detail") or problem["title"]
        raise Refused(response.status, str(problem["code"]), str(detail))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused(response.status, "unknown", f"HTTP {response.status} {response.reason}") from None


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    """Yield whole lines until the orderly end of the body. Its own readline() would take any end for that."""
    rest = b""
    while part := response.read1(PART):
        *lines, rest = (rest + part).split(b"\n")
        yield from lines


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
