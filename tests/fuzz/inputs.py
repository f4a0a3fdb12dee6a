"""What is sent to the API: requests that are right, requests that are wrong in one way, and bytes that are no request.

Everything is drawn from one seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

PERMISSIONS: Final = frozenset({"ps", "tree", "inspect", "logs", "events", "stats", "start"})
"""What those who ask may do. So nothing may ever be stopped, restarted, changed or shut down."""
COMMANDS: Final = frozenset({"start"})
"""The permitted ones that do something."""

AGENTS: Final = ("heartbeat", "group/heartbeat", "group/idle", "job")
PATHS: Final = (*AGENTS, "group", "")
JSON_TYPE: Final = (b"content-type", b"application/json")
MAX_BODY: Final = 1_000_000
ANSWERS: Final = frozenset({200, 202, 400, 403, 404, 405, 409, 413, 415, 503})
"""Every status that there is a reason for; 503 only where a client has too many connections."""
REFUSED: Final = ANSWERS - {200, 202, 503}


@dataclass(frozen=True, slots=True)
class Input:
    """One request.

    Attributes:
        kind: of trouble; ``right`` and ``forbidden`` are well formed.
        route: for the table.
        method: of HTTP.
        target: address with query.
        headers: without length.
        body: may be empty.
        expected: the statuses that are right.
    """

    kind: str
    route: str
    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    expected: frozenset[int] = ANSWERS

    def wire(self) -> bytes:
        """Return it as HTTP/1.1."""
        names = {name.lower() for name, _ in self.headers}
        lines = [b"%s %s HTTP/1.1" % (self.method, self.target)]
        if b"host" not in names:
            lines.append(b"Host: x")
        lines += [b"%s: %s" % header for header in self.headers]
        if not names & {b"content-length", b"transfer-encoding"} and (self.body or self.method != b"GET"):
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


class Dealer:
    """Deals inputs. Not for several threads at once."""

    def __init__(self, seed: str) -> None:
        self.draw = random.Random(seed)
        self._wrong: Mapping[str, Callable[[], Input]] = MappingProxyType(
            {
                "path": self._odd_path,
                "query": self._odd_query,
                "method": self._odd_method,
                "headers": self._odd_headers,
                "json": self._odd_json,
            }
        )

    def right(self) -> Input:
        """Return a request that reaches a handler."""
        path = self._path(self.draw.choice(PATHS))
        ok, draw = frozenset({200}), self.draw
        choices: tuple[tuple[str, str, bytes], ...] = (
            ("GET", "/health", b""),
            ("GET", "/agents", draw.choice([b"", b"?path=group", b"?path=", b"?path=job"])),
            ("GET", "/tree", b""),
            ("GET", "/stats", b""),
            ("GET", "/metrics", b""),
            ("GET", "/events", self._event_query()),
            ("GET", "/agents/{path}", b""),
            ("GET", "/agents/{path}/logs", b"?lines=%d" % draw.randint(0, 20)),
            ("HEAD", "/agents/{path}", b""),
            ("POST", "/agents/{path}/start", draw.choice([b"", b"?wait=0", b"?wait=0.01"])),
        )
        method, route, query = draw.choice(choices)
        target = b"/v1" + route.encode().replace(b"{path}", path) + query
        if method == "POST":
            body = draw.choice([b"", b"{}", b" { } "])
            started = frozenset({200, 202, 409})
            return Input("right", f"{method} {route}", b"POST", target, (JSON_TYPE,), body, started)
        return Input("right", f"{method} {route}", method.encode(), target, expected=ok)

    def forbidden(self) -> Input:
        """Return a request that is as right, but for what nobody may do."""
        path, draw = self._path(self.draw.choice(PATHS)), self.draw
        method, route, body = draw.choice(
            [
                ("GET", "/graph", {}),
                ("POST", "/agents/{path}/stop", {}),
                ("POST", "/agents/{path}/restart", {}),
                ("PATCH", "/agents/{path}", {"restart": "temporary", "shutdown": 1.5}),
                ("POST", "/shutdown", {"timeout": 1}),
            ]
        )
        target = b"/v1" + route.encode().replace(b"{path}", path)
        headers = () if method == "GET" else (JSON_TYPE,)
        text = b"" if method == "GET" else json.dumps(body).encode()
        return Input("forbidden", f"{method} {route}", method.encode(), target, headers, text, frozenset({403}))

    def wrong(self) -> Input:
        """Return a request that is HTTP, but not what the API understands."""
        return self._wrong[self.draw.choice(list(self._wrong))]()

    def any(self) -> Input:
        return self.draw.choice([self.right, self.forbidden, self.wrong])()

    def mutated(self) -> Input:
        """Return a request one part of which was changed at random, for an application that gets it in parts."""
        given = self.any()
        match self.draw.randrange(5):
            case 0:
                method = self.mutate(given.method)
                given = replace(given, method=bytes(byte for byte in method if byte < 128) or b"X")
            case 1 | 2:
                given = replace(given, target=self.mutate(given.target))
            case 3:
                given = replace(given, body=self.mutate(given.body or b"{}"))
            case _:
                pairs = given.headers or (JSON_TYPE,)
                headers = tuple((self.mutate(name), self.mutate(value)) for name, value in pairs)
                given = replace(given, headers=headers)
        return replace(given, kind="mutated", expected=ANSWERS)

    def mutate(self, data: bytes) -> bytes:
        """Return `data` with some bytes changed, inserted, taken out, doubled, or cut off."""
        changed = bytearray(data)
        for _ in range(self.draw.choice([1, 1, 1, 2, 3, 8])):
            at = self.draw.randrange(len(changed) + 1)
            match self.draw.randrange(6):
                case 0 if at < len(changed):
                    changed[at] ^= 1 << self.draw.randrange(8)
                case 1:
                    changed[at:at] = self.draw.choice([self.garbage(4), b"\x00", b"%00", b"%2F", b"/..", b"\r\n", b" "])
                case 2:
                    del changed[at : at + self.draw.randint(1, 8)]
                case 3:
                    changed[at:at] = changed[at : at + self.draw.randint(1, 20)]
                case 4 if at < len(changed):
                    changed[at] = self.draw.randrange(256)
                case _ if self.draw.random() < 0.2:
                    del changed[at:]
                case _:
                    pass
        return bytes(changed)

    def garbage(self, most: int) -> bytes:
        return self.draw.randbytes(self.draw.randint(1, most))

    def too_large(self) -> Input:
        """Return a body over the limit for a command that is permitted; its length may be wrong, or not be told."""
        body = b" " * (MAX_BODY + self.draw.randint(1, 100_000))
        headers: tuple[tuple[bytes, bytes], ...] = (JSON_TYPE,)
        if self.draw.random() < 0.5:
            headers += ((b"transfer-encoding", b"chunked"),)
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        route = "POST /agents/{path}/start"
        return Input("large", route, b"POST", b"/v1/agents/job/start", headers, body, frozenset({413}))

    def stream(self) -> Input:
        """Return a request whose answer never ends."""
        address = b"/v1/events/stream?since=%d" % self.draw.randint(0, 1000)
        target = self.draw.choice([address, b"/v1/agents/heartbeat/logs?follow=1", b"/v1/agents/group/logs?follow=1"])
        return Input("stream", "GET (stream)", b"GET", target, expected=frozenset({200}))

    def _path(self, path: str) -> bytes:
        if not path:
            return b"%2F"
        return (path if self.draw.random() < 0.5 else path.replace("/", "%2F")).encode()

    def _event_query(self) -> bytes:
        limit = self.draw.randint(1, 20)
        more = ["", "&path=heartbeat", "&type=agent_message", "&since=5", "&after=0&before=1e10", "&type=command"]
        return f"?limit={limit}{self.draw.choice(more)}".encode()

    def _odd_path(self) -> Input:
        parts = ["heartbeat", "/", "..", ".", "%2F", "%00", "%", "é", "//", "job", "\U0001f4a9"]
        text = "".join(self.draw.choice(parts) for _ in range(self.draw.randint(1, 6)))
        address = quote(text, safe="/%").encode()
        places = [b"/v1/agents/%b", b"/v1/%b", b"/%b", b"/v1/agents/%b/stop", b"/v1/agents/%b/start", b"%b"]
        target = self.draw.choice(places) % address
        if self.draw.random() < 0.1:
            target = b"/v1/agents/" + b"x" * self.draw.randint(1000, 20_000)
        method = self.draw.choice([b"GET", b"POST", b"PATCH"])
        return Input("path", f"{method.decode()} (odd path)", method, target, (JSON_TYPE,), b"{}" * (method != b"GET"))

    def _odd_query(self) -> Input:
        names = ["limit", "since", "type", "path", "run", "after", "wait", "lines", "follow", "x", "", "limit[]"]
        values = ["-1", "nan", "1e999", "9" * 30, "'", "%00", "%ff", "", "agent_ready", "é", "../..", "0x10", "1_000"]
        pairs = [f"{self.draw.choice(names)}={self.draw.choice(values)}" for _ in range(self.draw.randint(1, 5))]
        query = quote("&".join(pairs), safe="=&%").encode()
        target = self.draw.choice([b"/v1/events?", b"/v1/agents?", b"/v1/agents/job/logs?", b"/v1/health?"]) + query
        return Input("query", "GET (odd query)", b"GET", target)

    def _odd_method(self) -> Input:
        methods = [b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"get", b"G" * 50, b"M-SEARCH", b"PROPFIND", b"CONNECT"]
        target = self.draw.choice([b"/v1/health", b"/v1/agents/job", b"/v1/agents/job/start", b"/v1/shutdown", b"*"])
        expected = REFUSED
        return Input("method", "(odd method)", self.draw.choice(methods), target, (JSON_TYPE,), b"{}", expected)

    def _odd_headers(self) -> Input:
        draw = self.draw
        more: tuple[tuple[bytes, bytes], ...] = draw.choice(
            [
                tuple((b"x-%d" % number, b"y" * 20) for number in range(draw.randint(50, 500))),
                ((b"x", b"y" * draw.randint(1000, 60_000)),),
                ((b"content-type", b"text/plain"), (b"content-type", b"application/json")),
                ((b"content-type", b"application/json; charset=\xff"),),
                ((b"upgrade", b"websocket"), (b"connection", b"upgrade")),
                ((b"accept-encoding", b"gzip"), (b"range", b"bytes=0-1")),
                ((b"x-http-method-override", b"POST"), (b"x-forwarded-for", b"127.0.0.1")),
                ((b"last-event-id", draw.choice([b"-1", b"x", b"9" * 40])),),
                ((b"authorization", b"Bearer " + b"a" * draw.randint(1, 1000)),),
                ((b"expect", b"100-continue"),),
            ]
        )
        base = draw.choice([self.right, self.forbidden])()
        refused = base.expected if base.kind == "forbidden" else ANSWERS
        return replace(base, kind="headers", headers=base.headers + more, expected=refused | {400})

    def _odd_json(self) -> Input:
        target = self.draw.choice([b"/v1/agents/job/start", b"/v1/agents/job", b"/v1/shutdown"])
        method = b"PATCH" if target == b"/v1/agents/job" else b"POST"
        body = self._json()
        if self.draw.random() < 0.3:
            body = self.mutate(body)
        headers = self.draw.choice([(JSON_TYPE,), (JSON_TYPE,), (JSON_TYPE,), ((b"content-type", b"text/json"),), ()])
        return Input("json", f"{method.decode()} (odd body)", method, target, headers, body)

    def _json(self) -> bytes:
        draw = self.draw
        depth = draw.choice([10, 1000, 100_000])
        fixed = [
            b"[" * depth,
            b'{"a":' * depth + b"1" + b"}" * depth,
            b'{"timeout": NaN}',
            b'{"timeout": 1e999}',
            b'{"timeout": ' + b"9" * 5000 + b"}",
            b'{"timeout": 1, "timeout": 2}',
            b"\xff\xfe{}",
            b'"\\ud800"',
            b"null",
            b"{",
            self.garbage(200),
        ]
        return draw.choice(fixed) if draw.random() < 0.5 else json.dumps(self._value(4)).encode()

    def _value(self, depth: int) -> Any:
        draw = self.draw
        names = ["timeout", "restart", "backoff", "shutdown", "initial", "watchdog", "__class__", "", "é"]
        match draw.randrange(6 if depth else 4):
            case 0:
                return draw.choice([None, True, False, "", "infinity", "inherit", "temporary", "\u0000", "x" * 500])
            case 1:
                return draw.choice([0, -1, 1.5, 2**63, 10**400, -1e308])
            case 2 | 3:
                return draw.choice(["brutal_kill", "never", 5, []])
            case 4:
                return [self._value(depth - 1) for _ in range(draw.randrange(4))]
            case _:
                return {draw.choice(names): self._value(depth - 1) for _ in range(draw.randrange(5))}
