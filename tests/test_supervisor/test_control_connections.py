"""What a single connection may cost the control server: slow, stuck, half-closed and very many clients."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import resource
import select
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from control_support import (
    HELLO,
    PATIENCE_S,
    Message,
    Receive,
    Send,
    answer,
    ask,
    descriptors,
    dial,
    is_closed,
    read_all,
    read_answer,
    read_until,
    reads_body,
    says_who,
    serving,
)
from starlette.requests import Request

from orchestree.supervisor.control.limits import Limits, affordable_connections
from orchestree.supervisor.control.serving import TOO_MANY, Connection

POST = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def trickle(client: socket.socket, data: bytes, pause: float = 0.01) -> None:
    """Send byte by byte, until the other end has enough."""
    slow = threading.Event()
    try:
        for number in range(len(data)):
            client.sendall(data[number : number + 1])
            slow.wait(pause)
    except OSError:
        pass


@pytest.mark.parametrize("begun", [b"", b"G", b"GET / HTTP/1.1\r\nhost: x\r\n"])
def test_a_connection_on_which_no_request_comes_together_is_closed(begun: bytes) -> None:
    with serving(head_s=0.05) as server, dial(server) as client:
        client.sendall(begun)
        assert read_all(client) == b""


def test_a_head_that_comes_byte_by_byte_is_not_waited_for() -> None:
    with serving(head_s=0.05) as server, dial(server) as client:
        trickle(client, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 1000)
        assert read_all(client) == b""


def test_the_head_of_a_further_request_is_waited_for_as_long() -> None:
    with serving(head_s=0.05) as server, dial(server) as client:
        assert ask(client)
        client.sendall(b"GET ")
        assert read_all(client) == b""


def test_the_beginning_of_a_head_behind_a_request_is_not_waited_for_longer() -> None:
    with serving(head_s=0.05) as server, dial(server) as client:
        assert ask(client, HELLO + b"GET ")
        assert read_all(client) == b""


def test_an_idle_connection_is_closed_after_its_own_time() -> None:
    with serving(head_s=PATIENCE_S, idle_s=0.05) as server, dial(server) as client:
        assert ask(client)
        assert read_all(client) == b""


@pytest.mark.slow
def test_an_idle_connection_outlives_the_time_for_a_head() -> None:
    with serving(head_s=0.05) as server, dial(server) as client:
        assert ask(client)
        assert not is_closed(client, 0.3)
        assert ask(client)


def test_a_body_that_stalls_ends_the_connection() -> None:
    with serving(reads_body, body_s=0.05) as server, dial(server) as client:
        client.sendall(POST % 100 + b"x" * 10)
        assert read_all(client) == b""


@pytest.mark.slow
def test_a_body_that_comes_slowly_but_comes_is_taken() -> None:
    with serving(reads_body, body_s=0.3) as server, dial(server) as client:
        client.sendall(POST % 40)
        trickle(client, b"x" * 40, 0.02)
        assert read_answer(client) == "40"


def test_the_rest_of_a_body_that_was_answered_already_is_not_waited_for_for_ever() -> None:
    with serving(says_who, body_s=0.05) as server, dial(server) as client:
        assert ask(client, POST % 10_000)
        trickle(client, b"x" * 10_000)
        assert read_all(client) == b""


def test_after_the_rest_of_such_a_body_the_connection_goes_on() -> None:
    with serving(says_who) as server, dial(server) as client:
        assert ask(client, POST % 100_000)
        client.sendall(b"x" * 100_000)
        assert ask(client)


@pytest.mark.slow
def test_a_handler_that_takes_its_time_with_a_body_costs_nobody_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, look = asyncio.Semaphore(0), Connection._drop_unless_excused

    def watched(connection: Connection) -> None:
        look(connection)
        looked.release()

    monkeypatch.setattr(Connection, "_drop_unless_excused", watched)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):  # times that the limit has passed
                await looked.acquire()
        await reads_body(scope, receive, send)

    with serving(app, body_s=0.05) as server, dial(server) as client:
        client.sendall(POST % 2_000_000)
        sender = threading.Thread(target=client.sendall, args=(b"x" * 2_000_000,))
        sender.start()
        assert read_answer(client) == "2000000"
        sender.join()


def test_a_head_that_is_too_large_is_refused() -> None:
    with serving(head_bytes=1000) as server, dial(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nx: " + b"x" * 2000)
        assert read_all(client).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "nonsense",
    [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\r\n" * 10],
)
def test_what_is_no_request_gets_400(nonsense: bytes) -> None:
    with serving() as server, dial(server) as client:
        client.sendall(nonsense)
        assert read_all(client).startswith(b"HTTP/1.1 400 ")


def test_nonsense_in_a_body_while_it_is_answered_ends_the_connection() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begin", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    with serving(app) as server, dial(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        read_until(client, b"begin")
        client.sendall(b"nonsense\r\n")
        assert read_all(client) == b""


def test_a_client_that_closes_its_half_is_gone() -> None:
    gone = threading.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    with serving(app) as server:
        with dial(server) as client:
            client.sendall(HELLO)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
        assert gone.wait(PATIENCE_S)
        for begun in (b"", b"GET", POST % 10):
            with dial(server) as client:
                client.sendall(begun)
                client.shutdown(socket.SHUT_WR)
                read_all(client)


class Flood:
    """Streams without end, as much as is taken."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = threading.Event()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            gone = asyncio.create_task(_disconnect(receive))
            while not gone.done():
                await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
                self.sent += 10_000
                await asyncio.sleep(0)
        finally:
            self.ended.set()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def test_a_client_that_takes_nothing_is_dropped_and_little_was_kept_for_it() -> None:
    flood = Flood()
    with serving(flood, taking_s=0.1) as server, dial(server) as client:
        client.sendall(HELLO)
        assert flood.ended.wait(PATIENCE_S)
        assert flood.sent < 1_000_000
        assert is_closed(client)


def test_a_stream_whose_client_has_gone_ends_and_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    flood = Flood()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        async def send_much(message: Message) -> None:
            for _ in range(20 if message["type"] == "http.response.body" else 1):
                await send(message)

        await flood(scope, receive, send_much)

    with serving(app) as server:
        for _ in range(20):
            flood.ended.clear()
            with dial(server) as client:
                client.sendall(HELLO)
                read_until(client, b"x")
            assert flood.ended.wait(PATIENCE_S)
    assert caplog.records == []


def test_a_handler_that_reads_from_a_client_that_has_gone_is_no_failure(warnings: queue.SimpleQueue[str]) -> None:
    ended = threading.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        try:
            await Request(scope, receive).body()
        finally:
            ended.set()

    with serving(app) as server:
        with dial(server) as client:
            client.sendall(POST % 10)
        assert ended.wait(PATIENCE_S)
    assert warnings.empty()


def test_the_limits_of_a_connection_end_with_it(caplog: pytest.LogCaptureFixture) -> None:
    with serving(head_s=0.05) as server:
        dial(server).close()
        with dial(server) as later:
            assert read_all(later) == b""
    assert caplog.records == []


def test_nothing_is_kept_of_a_connection_that_the_client_has_reset() -> None:
    def kept() -> int:
        gc.collect()
        return sum(isinstance(each, Connection) for each in gc.get_objects())

    pause, before = threading.Event(), kept()
    with serving() as server:
        for _ in range(10):
            with dial(server) as client:
                client.sendall(HELLO)
                assert select.select([client], [], [], PATIENCE_S)[0]  # the answer is there, and is not read
        deadline = time.monotonic() + PATIENCE_S
        while kept() > before and time.monotonic() < deadline:
            pause.wait(0.01)
        assert kept() <= before


@pytest.mark.slow
def test_a_client_that_is_just_slow_stays() -> None:
    flood, slow = Flood(), threading.Event()
    with serving(flood, taking_s=0.25) as server, dial(server) as client:
        client.sendall(HELLO)
        for _ in range(10):
            slow.wait(0.1)  # five times its limit, ten times a little
            assert client.recv(30_000)
        assert not flood.ended.is_set()


@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize("length", [3_000_000, *range(200_000, 300_000, 20_000)])  # what fits nowhere, and just about
def test_an_answer_that_nobody_takes_ends_the_connection(length: int, goes_on: bool) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await answer(send, "x" * length)

    request = HELLO if goes_on else HELLO.replace(b"host", b"connection: close\r\nhost")
    with serving(app, taking_s=0.1, idle_s=0.1) as server, ExitStack() as stack:
        clients = [stack.enter_context(dial(server)) for _ in range(3)]
        for client in clients:
            client.sendall(request * 3)
        for client in clients:
            assert is_closed(client)
            assert len(read_all(client)) < 1_000_000


@pytest.mark.slow
def test_a_long_answer_reaches_a_slow_client_whole_even_if_the_connection_is_to_be_closed() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await answer(send, "x" * 1_000_000)

    slow, got = threading.Event(), 0
    with serving(app, taking_s=0.25, idle_s=0.25) as server, dial(server) as client:
        client.sendall(HELLO.replace(b"host", b"connection: close\r\nhost"))
        while piece := client.recv(100_000):
            got += len(piece)
            slow.wait(0.1)
    assert got > 1_000_000


@pytest.mark.slow
def test_two_hundred_streams_one_of_them_stuck_disturb_nobody() -> None:
    flood = Flood()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await (flood if scope["path"] == "/flood" else says_who)(scope, receive, send)

    with serving(app) as server, ExitStack() as stack:
        stuck = stack.enter_context(dial(server))
        stuck.sendall(HELLO.replace(b"/hello", b"/flood"))
        clients = [stack.enter_context(dial(server)) for _ in range(200)]
        for client in clients:
            client.sendall(HELLO)
        assert {read_answer(client) for client in clients} == {f"{os.getuid()} {os.getpid()}"}


def test_beyond_the_limit_connections_get_503_until_one_has_gone() -> None:
    with serving(connections=3) as server, ExitStack() as stack:
        clients = [stack.enter_context(dial(server)) for _ in range(3)]
        for client in clients:
            assert ask(client)
        with dial(server) as one_more:
            assert read_all(one_more) == TOO_MANY
        assert ask(clients[0])
        clients[0].sendall(HELLO.replace(b"host", b"connection: close\r\nhost"))
        read_all(clients[0])
        clients[0].close()
        with dial(server) as one_more:
            assert ask(one_more)


def test_the_answer_to_one_too_many_says_how_long_it_is() -> None:
    head, _, body = TOO_MANY.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head


@pytest.mark.slow
def test_thousands_of_short_connections_leave_nothing() -> None:
    with serving() as server:
        before = descriptors()
        for number in range(3000):
            with dial(server) as client:
                if number % 3 == 0:
                    assert ask(client)
                elif number % 3 == 1:
                    client.sendall(HELLO[: number % 30])
        with dial(server) as client:
            assert ask(client)
        assert descriptors() <= before + 10


def test_the_tree_keeps_most_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, expected in ((1024, 256), (100_000, 512), (resource.RLIM_INFINITY, 512)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, resource.RLIM_INFINITY))
        assert affordable_connections() == expected
        assert Limits().connections == expected


@pytest.mark.slow
def test_without_descriptors_it_waits_and_then_goes_on() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving() as server, dial(server) as early, socket.socket(socket.AF_UNIX) as waiting:
        ask(early)
        address = str(server.socket)
        resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1, hard))
        try:
            waiting.connect(address)
            waiting.sendall(HELLO)
            assert ask(early)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        waiting.settimeout(PATIENCE_S)
        assert read_answer(waiting)
