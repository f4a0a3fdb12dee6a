"""The server of the metrics, over real sockets: what it answers, to whom, and what it does not let itself in for."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from typing import Final

import pytest

from orchestree.metrics.listening import try_to_listen
from orchestree.metrics.page import Page
from orchestree.metrics.scraping import ScrapeLimits
from orchestree.metrics.server import Limits, MetricsServer

PATIENCE_S: Final = 20.0
KIND: Final = "text/plain; version=0.0.4; charset=utf-8"
GET: Final = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
TEXT: Final = b"orchestree_agents 3\n"

LISTENS: Final = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


def a_page(accept: str) -> Page:
    return Page(KIND, len(TEXT), [TEXT])


@contextmanager
def serving(
    page: Callable[[str], Page] = a_page,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    limits: Limits | None = None,
    troubles: list[str] | None = None,
) -> Iterator[MetricsServer]:
    told: list[str] = [] if troubles is None else troubles
    server = MetricsServer(page, host=host, port=0, token=token, on_trouble=told.append, limits=limits)
    server.open()
    server.start()
    try:
        yield server
    finally:
        server.close()
        assert server.join(PATIENCE_S)
    assert troubles is not None or told == []


def port_of(server: MetricsServer) -> int:
    assert server.port is not None
    return server.port


def dial(server: MetricsServer, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port_of(server)), PATIENCE_S)


def scraper(server: MetricsServer) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", port_of(server), timeout=PATIENCE_S)


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the other end closes."""
    got = b""
    while piece := client.recv(65536):
        got += piece
    return got


def ask(server: MetricsServer, request: bytes) -> bytes:
    with dial(server) as client:
        client.sendall(request)
        return read_all(client)


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def closing(head: str) -> bytes:
    """Return a request after whose answer the connection ends."""
    return f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


def test_a_scraper_gets_the_page_again_and_again_on_one_connection() -> None:
    with serving() as server:
        connection = scraper(server)
        for _ in range(3):
            connection.request("GET", "/metrics?x=1")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, TEXT)
            assert response.headers["Content-Type"] == KIND
            assert response.headers["Content-Length"] == str(len(TEXT))
        connection.close()


def test_what_is_accepted_reaches_the_page_and_pieces_come_in_order() -> None:
    seen: list[str] = []
    large = [bytes([letter]) * 200_000 for letter in b"abc"]

    def page(accept: str) -> Page:
        seen.append(accept)
        return Page("application/openmetrics-text; version=1.0.0; charset=utf-8", 600_000, iter(large))

    with serving(page) as server:
        connection = scraper(server)
        connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*"})
        response = connection.getresponse()
        assert response.read() == b"".join(large)
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        connection.close()
    assert seen == ["application/openmetrics-text;version=1.0.0,*/*"]


def test_head_has_the_length_and_no_body() -> None:
    with serving() as server:
        answer = ask(server, closing("HEAD /metrics HTTP/1.1"))
        assert status(answer) == 200
        assert f"Content-Length: {len(TEXT)}".encode() in answer
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "wanted", "said"),
    [
        ("GET / HTTP/1.1", 200, b"scrapes them at /metrics"),
        ("GET /metrics/ HTTP/1.1", 404, b"the metrics are at /metrics"),
        ("GET /v1/agents HTTP/1.1", 404, b"nothing at this address"),
        ("POST /metrics HTTP/1.1", 405, b"Allow: GET, HEAD"),
        ("DELETE / HTTP/1.1", 405, b"only GET, HEAD"),
        ("GET /metrics HTTP/1.0", 200, TEXT),
        ("GET /metrics", 200, TEXT),
        ("GET /metrics HTTP/2.0", 505, b"HTTP Version Not Supported"),
        ("<script> of nonsense here", 400, b"Bad Request"),
        ("nonsense", 400, b"Bad Request"),
        (f"GET /{'x' * 70_000} HTTP/1.1", 414, b"URI"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_every_request_has_its_answer_and_none_tells_what_serves_it(
    request_line: str, wanted: int, said: bytes
) -> None:
    with serving() as server:
        answer = ask(server, closing(request_line))
    assert status(answer) == wanted
    assert said in answer
    assert b"script" not in answer
    assert b"Server:" not in answer
    assert b"Python" not in answer


def test_too_many_or_too_long_headers_are_refused() -> None:
    with serving() as server:
        assert (
            status(ask(server, closing("GET /metrics HTTP/1.1\r\n" + "\r\n".join(f"A{n}: 1" for n in range(200)))))
            == 431
        )
        assert status(ask(server, closing(f"GET /metrics HTTP/1.1\r\nA: {'x' * 70_000}"))) == 431


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 18",
        "Content-Length: 0\r\nContent-Length: 18",
        "Content-Length : 18",
        "Content-Length: +0",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
    ],
)
def test_what_may_be_a_body_is_no_second_request(headers: str) -> None:
    with serving() as server:
        answer = ask(server, f"GET /metrics HTTP/1.1\r\n{headers}\r\n\r\nGET / HTTP/1.1\r\n\r\n".encode())
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.endswith(TEXT)


def test_a_port_that_is_taken_is_had_as_soon_as_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestree.metrics.server.LISTEN_AGAIN_S", 0.01)
    tries, listening = threading.Semaphore(0), threading.Event()

    def noted(host: str, port: int) -> socket.socket:
        tries.release()
        return try_to_listen(host, port)

    monkeypatch.setattr("orchestree.metrics.server.try_to_listen", noted)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = MetricsServer(a_page, host="127.0.0.1", port=port, on_trouble=pytest.fail, on_listening=listening.set)
        with pytest.raises(OSError, match="is taken"):
            server.open()
        assert server.port is None
        server.start()
        for _ in range(2):
            assert tries.acquire(timeout=PATIENCE_S)
        assert not listening.is_set()
    assert listening.wait(PATIENCE_S)
    assert server.port == port
    assert status(ask(server, closing("GET /metrics HTTP/1.1"))) == 200
    server.close()
    assert server.join(PATIENCE_S)


def test_one_that_still_waits_for_its_port_ends_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = MetricsServer(a_page, host="127.0.0.1", port=other.getsockname()[1], on_trouble=pytest.fail)
        with pytest.raises(OSError, match="is taken"):
            server.open()
        server.start()
        server.close()
        assert server.join(PATIENCE_S)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("orchestree-metrics")]


def test_without_the_token_nothing_is_shown() -> None:
    with serving(token="s3cret") as server:
        for line in (
            "",
            "\r\nAuthorization: Bearer wrong",
            "\r\nAuthorization: Basic s3cret",
            "\r\nAuthorization: s3cret",
        ):
            for path in ("/metrics", "/", "/other"):
                answer = ask(server, f"GET {path} HTTP/1.1{line}\r\n\r\n".encode())
                assert status(answer) == 401
                assert b"WWW-Authenticate: Bearer\r\n" in answer
                assert TEXT not in answer
                assert b"s3cret" not in answer
        for shown in ("Bearer s3cret", "bearer s3cret"):
            answer = ask(server, closing(f"GET /metrics HTTP/1.1\r\nAuthorization: {shown}"))
            assert (status(answer), answer.endswith(TEXT)) == (200, True)
        strange = "Bearer s3cretä".encode("latin-1")
        assert status(ask(server, b"GET /metrics HTTP/1.1\r\nAuthorization: " + strange + b"\r\n\r\n")) == 401


def test_ten_scrapers_at_once_each_get_the_whole_page() -> None:
    together = threading.Barrier(10, timeout=PATIENCE_S)
    pieces = [b"x" * 100_000] * 20

    def page(accept: str) -> Page:
        together.wait()  # none is answered before all have asked
        return Page(KIND, 2_000_000, pieces)

    got: list[int] = []
    with serving(page) as server:
        threads = [
            threading.Thread(target=lambda: got.append(len(ask(server, closing("GET /metrics HTTP/1.1")))))
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert len(got) == 10
    assert min(got) > 2_000_000


def test_there_is_room_for_one_more_as_long_as_somebody_only_waits() -> None:
    with serving(limits=Limits(connections=2)) as server, dial(server) as silent:
        kept = scraper(server)
        kept.request("GET", "/metrics")
        assert kept.getresponse().read() == TEXT
        for _ in range(3):
            assert status(ask(server, closing("GET /metrics HTTP/1.1"))) == 200
        assert silent.recv(1) == b"", "it had waited longest"
        kept.close()


def test_who_is_being_answered_is_never_sent_away_and_one_too_many_is_refused_then() -> None:
    asked, go_on = threading.Semaphore(0), threading.Event()

    def page(accept: str) -> Page:
        asked.release()
        assert go_on.wait(PATIENCE_S)
        return a_page(accept)

    with serving(page, limits=Limits(connections=2)) as server, dial(server) as first, dial(server) as second:
        for client in (first, second):
            client.sendall(closing("GET /metrics HTTP/1.1"))
            assert asked.acquire(timeout=PATIENCE_S)
        with dial(server) as third:
            assert status(read_all(third)) == 503
        go_on.set()
        for client in (first, second):
            assert read_all(client).endswith(TEXT)


def test_a_page_is_served_however_many_hold_a_connection_and_say_nothing() -> None:
    with serving() as server, ExitStack() as held:
        for _ in range(2 * Limits().connections):
            held.enter_context(dial(server))
        assert status(ask(server, closing("GET /metrics HTTP/1.1"))) == 200


def test_who_sends_nothing_or_not_enough_is_dropped() -> None:
    with serving(limits=Limits(of_each=ScrapeLimits(head_s=0.05))) as server:
        for sent in (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"):
            with dial(server) as client:
                client.sendall(sent)
                assert read_all(client) == b""


def test_a_request_that_drips_has_one_deadline_for_all_of_it() -> None:
    with serving(limits=Limits(of_each=ScrapeLimits(head_s=0.2))) as server, dial(server) as client:
        client.settimeout(0.02)
        assert any(drip_drops(client) for _ in range(1_000))


def drip_drops(client: socket.socket) -> bool:
    """Send one byte; return whether the other end has closed."""
    try:
        client.sendall(b"x")
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        return True


def test_an_idle_connection_is_dropped_after_its_time() -> None:
    with serving(limits=Limits(of_each=ScrapeLimits(idle_s=0.05))) as server, dial(server) as client:
        client.sendall(GET)
        assert read_all(client).endswith(TEXT)


@pytest.mark.slow
def test_who_does_not_take_the_answer_is_dropped_and_others_are_served_meanwhile() -> None:
    dropped = threading.Event()

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            dropped.set()

    def page(accept: str) -> Page:
        return Page(KIND, 2**40, pieces()) if accept == "endless" else a_page(accept)

    with serving(page, limits=Limits(of_each=ScrapeLimits(taking_s=0.3))) as server, dial(server) as stuck:
        stuck.sendall(b"GET /metrics HTTP/1.1\r\nAccept: endless\r\n\r\n")
        assert status(stuck.recv(20)) == 200
        assert status(ask(server, closing("GET /metrics HTTP/1.1"))) == 200
        assert dropped.wait(PATIENCE_S)


def test_a_page_that_raises_is_an_answer_and_one_trouble_until_it_works_again() -> None:
    troubles: list[str] = []
    failing = [True]

    def page(accept: str) -> Page:
        if failing[0]:
            raise ValueError("no\nsuch thing")
        return a_page(accept)

    with serving(page, troubles=troubles) as server:
        connection = scraper(server)
        for is_failing, wanted in ((True, 500), (True, 500), (False, 200), (True, 500)):
            failing[0] = is_failing
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            assert response.status == wanted
            assert response.read().count(b"\n") == 1
        connection.close()
    assert troubles == ["the page of metrics could not be made: ValueError: no such thing"] * 2


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_a_page_that_tries_to_end_the_program_is_an_answer_too(error: BaseException) -> None:
    def page(accept: str) -> Page:
        raise error

    troubles: list[str] = []
    with serving(page, troubles=troubles) as server:
        assert status(ask(server, closing("GET /metrics HTTP/1.1"))) == 500
    assert len(troubles) == 1


def broken() -> Iterator[bytes]:
    yield TEXT
    raise ValueError("in the middle")


@pytest.mark.parametrize("pieces", [broken, lambda: [TEXT]], ids=["it raises", "it is too short"])
def test_a_page_that_breaks_off_ends_the_connection_before_the_length_that_was_said(
    pieces: Callable[[], Iterator[bytes]],
) -> None:
    troubles: list[str] = []
    with serving(lambda accept: Page(KIND, 1_000, pieces()), troubles=troubles) as server:
        answer = ask(server, GET)
    assert answer.endswith(TEXT)
    assert len(troubles) == 1


def test_the_end_sends_those_away_who_wait_and_lets_an_answer_on_its_way_finish() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def page(accept: str) -> Page:
        asked.set()
        assert go_on.wait(PATIENCE_S)
        return a_page(accept)

    server = MetricsServer(page, host="127.0.0.1", port=0, on_trouble=lambda text: None)
    server.open()
    server.start()
    with dial(server) as idle, dial(server) as busy:
        busy.sendall(GET)
        assert asked.wait(PATIENCE_S)
        server.close()
        assert read_all(idle) == b""
        go_on.set()
        assert read_all(busy).endswith(TEXT)
        assert server.join(PATIENCE_S)
        with pytest.raises(ConnectionRefusedError):
            dial(server)


@pytest.mark.slow
def test_who_takes_nothing_does_not_hold_up_the_end() -> None:
    def page(accept: str) -> Page:
        return Page(KIND, 2**40, iter(lambda: b"x" * 65536, b""))

    with serving(page) as server, dial(server) as stuck:
        stuck.sendall(GET)
        assert status(stuck.recv(20)) == 200
        server.close()
        assert server.join(PATIENCE_S)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("orchestree-metrics")]


def test_one_that_was_opened_and_never_started_gives_its_port_back() -> None:
    server = MetricsServer(a_page, host="127.0.0.1", port=0, on_trouble=lambda text: None)
    server.open()
    server.close()
    assert server.join(PATIENCE_S)
    again = MetricsServer(a_page, host="127.0.0.1", port=port_of(server), on_trouble=lambda text: None)
    again.open()
    assert again.port == server.port
    again.close()


def test_a_port_is_free_for_the_next_run_although_a_scraper_was_connected() -> None:
    with serving() as server:
        connection = scraper(server)
        connection.request("GET", "/metrics")
        connection.getresponse().read()
    again = MetricsServer(a_page, host="127.0.0.1", port=port_of(server), on_trouble=lambda text: None)
    again.open()
    again.close()
    connection.close()


def test_it_goes_on_when_there_are_descriptors_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = threading.Semaphore(0)
    monkeypatch.setattr("orchestree.metrics.server.ACCEPT_AGAIN_S", 0.01)
    accept = socket.socket.accept
    left = [3]

    def scarce(listener: socket.socket) -> tuple[socket.socket, object]:
        if left[0]:
            left[0] -= 1
            refused.release()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    with serving() as server:
        for _ in range(3):
            assert refused.acquire(timeout=PATIENCE_S)
        assert status(ask(server, closing("GET /metrics HTTP/1.1"))) == 200


def test_there_is_no_thread_for_a_connection_and_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            assert status(ask(server, b"")) == 503
        assert status(ask(server, closing("GET /metrics HTTP/1.1"))) == 200


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_port_that_another_process_has_is_one_line_that_names_it() -> None:
    other = subprocess.Popen([sys.executable, "-c", LISTENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    port = int(other.stdout.readline())
    try:
        server = MetricsServer(a_page, host="127.0.0.1", port=port, on_trouble=lambda text: None)
        with pytest.raises(
            OSError, match=rf"^port {port} on 127\.0\.0\.1 is taken by pid {other.pid} \(python"
        ) as error:
            server.open()
        assert error.value.errno == errno.EADDRINUSE
        assert str(error.value).endswith("; metrics_port=0 takes any free one")
        server.close()
        assert server.join(PATIENCE_S)
    finally:
        other.communicate()


def test_a_process_that_has_the_port_and_a_name_of_several_lines_is_named_in_one() -> None:
    renamed = f"with open('/proc/self/comm', 'w') as name: name.write('py\\nthon')\n{LISTENS}"
    other = subprocess.Popen([sys.executable, "-c", renamed], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    port = int(other.stdout.readline())
    try:
        server = MetricsServer(a_page, host="127.0.0.1", port=port, on_trouble=lambda text: None)
        with pytest.raises(OSError, match=rf"is taken by pid {other.pid} \(py thon\); metrics_port=0"):
            server.open()
    finally:
        other.communicate()


def test_who_has_the_port_may_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.net_connections", lambda kind: [])
    with serving() as server:
        second = MetricsServer(a_page, host="127.0.0.1", port=port_of(server), on_trouble=lambda text: None)
        with pytest.raises(OSError, match=r"is taken \(ask `ss -ltnp` by whom\); metrics_port=0"):
            second.open()


@pytest.mark.parametrize(
    ("host", "said"), [("192.0.2.1", "is no address of this machine"), ("no.such.host.invalid", "has no address: ")]
)
def test_a_host_that_cannot_be_listened_at_is_one_line(host: str, said: str) -> None:
    with pytest.raises(OSError, match=f"metrics_host='{host}' {said}"):
        MetricsServer(a_page, host=host, port=0, on_trouble=lambda text: None).open()


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="this machine has no IPv6")
def test_addresses_of_ipv6_and_names_work() -> None:
    with serving(host="::1") as server, dial(server, "::1") as client:
        client.sendall(closing("GET /metrics HTTP/1.1"))
        assert read_all(client).endswith(TEXT)
    with serving(host="localhost") as server:
        assert ask(server, closing("GET /metrics HTTP/1.1")).endswith(TEXT)


def test_nothing_is_left_of_a_server(capfd: pytest.CaptureFixture[str]) -> None:
    def live() -> None:
        with serving() as server:
            ask(server, closing("GET /metrics HTTP/1.1"))
            ask(server, closing("nonsense"))

    live()
    before = len(os.listdir("/proc/self/fd"))
    live()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("orchestree-metrics")]
    assert capfd.readouterr() == ("", "")
