"""The control server as a whole: who is let in, how it comes, goes and comes again, and what it costs."""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
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
    control_thread,
    descriptors,
    dial,
    is_closed,
    read_all,
    read_answer,
    says_who,
    serving,
    wake_ups,
)

from orchestree.supervisor.control.limits import Limits
from orchestree.supervisor.control.places import find_orchestrators
from orchestree.supervisor.control.server import ControlServer
from orchestree.supervisor.control.serving import Service
from orchestree.supervisor.control.sockets import open_socket
from orchestree.supervisor.file_lock import Taken

pytestmark = pytest.mark.portable

NOBODY = 65534


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "orchestree"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whoever_asks_is_known_by_uid_and_pid() -> None:
    with serving() as server, dial(server) as client:
        assert ask(client) == f"{os.getuid()} {os.getpid()}"
        assert ask(client) == f"{os.getuid()} {os.getpid()}"


@pytest.mark.slow
def test_another_process_is_known_by_its_own_pid() -> None:
    request = HELLO.replace(b"host", b"connection: close\r\nhost")
    code = f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall({request!r}); "
    code += "print(s.makefile('rb').read().split()[-1].decode())"
    with serving() as server:
        command = [sys.executable, "-c", code, str(server.socket)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.communicate(timeout=PATIENCE_S)[0].strip() == str(process.pid)


def test_a_socket_at_a_given_path_is_served(tmp_path: Path, runtime: Path) -> None:
    with serving(path=str(tmp_path / "here.sock")) as server, dial(server) as client:
        assert server.socket == tmp_path / "here.sock"
        assert server.notice is None
        assert ask(client)
    assert files(tmp_path) == []


def test_a_socket_far_down_is_served(tmp_path: Path) -> None:
    (tmp_path / ("x" * 120)).mkdir()
    with serving(path=str(tmp_path / ("x" * 120) / "x.sock")) as server, dial(server) as client:
        assert ask(client)


def test_a_path_that_somebody_has_is_an_error(tmp_path: Path) -> None:
    with serving(path=str(tmp_path / "x.sock")) as server:
        second = ControlServer(lambda: says_who, name="x", path=str(server.socket), on_trouble=pytest.fail)
        with pytest.raises(Taken):
            second.open()
        second.start()
        second.close()
        assert second.join(PATIENCE_S)
        with dial(server) as client:
            assert ask(client)


def test_the_second_of_a_name_says_how_it_is_reached() -> None:
    with serving() as first, serving() as second:
        assert (first.name, first.notice) == ("x", None)
        assert second.name == f"x-{os.getpid()}"
        assert second.notice == f"another orchestrator is called 'x': this one is reached as '{second.name}'"
        with dial(first) as one, dial(second) as other:
            assert ask(one) == ask(other)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.parametrize(("uid", "is_let_in"), [(NOBODY, False), (0, True)])
def test_nobody_but_the_same_user_and_root_gets_an_answer(uid: int, is_let_in: bool) -> None:
    folder = Path("/tmp") / f"orchestree-test-{os.getpid()}"  # one that others can reach
    folder.mkdir()
    folder.chmod(0o755)
    try:
        with serving(path=str(folder / "x.sock")) as server:
            server.socket.chmod(0o666)
            assert bool(_answer_to(uid, str(server.socket))) is is_let_in
            with dial(server) as client:
                assert ask(client)
    finally:
        shutil.rmtree(folder)


def _answer_to(uid: int, path: str) -> bytes:
    """Return what a process of this user gets from the server."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # to fork beside threads; it does next to nothing
        child = os.fork()
    if child == 0:
        try:
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(HELLO)
                os.write(writing, client.recv(1000))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        got = file.read()
    os.waitpid(child, 0)
    return got


def test_a_client_of_the_same_user_is_let_in_where_that_is_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestree.supervisor.control import serving as serving_module

    ours, theirs = socket.socketpair()
    with ours, theirs:
        who = serving_module.peer_of(ours)
        assert who is not None
        assert (who.uid, who.pid, who.token) == (os.getuid(), os.getpid(), None)
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        assert (serving_module.peer_of(ours) is None) is (os.getuid() != 0)


@pytest.mark.slow
def test_what_speaks_http_is_loaded_only_in_the_thread() -> None:
    code = (
        "import sys; from orchestree.supervisor.control.server import ControlServer\n"
        "server = ControlServer(lambda: None, name='x', on_trouble=print); server.open()\n"
        "print([m for m in ('uvicorn', 'starlette', 'h11') if m in sys.modules])\n"
        "server.close(); server.join()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class SlowLoading:
    """Holds the thread of a server where it makes its application."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> object:
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        return says_who


@pytest.fixture
def loading() -> Iterator[SlowLoading]:
    loading = SlowLoading()
    yield loading
    loading.go_on.set()


def test_whoever_comes_before_it_can_serve_waits(loading: SlowLoading) -> None:
    server = ControlServer(loading, name="x", on_trouble=pytest.fail)  # type: ignore[arg-type]
    server.open()
    with dial(server) as early:
        early.sendall(HELLO)
        server.start()
        assert loading.begun.wait(PATIENCE_S)
        with dial(server) as late:
            late.sendall(HELLO)
            loading.go_on.set()
            assert read_answer(early) == read_answer(late)
    server.close()
    assert server.join(PATIENCE_S)


def test_it_can_be_closed_before_it_can_serve(loading: SlowLoading, runtime: Path) -> None:
    server = ControlServer(loading, name="x", on_trouble=pytest.fail)  # type: ignore[arg-type]
    server.open()
    server.start()
    assert loading.begun.wait(PATIENCE_S)
    with dial(server) as client:
        server.close()
        server.close()
        assert not server.join(0)
        loading.go_on.set()
        assert server.join(PATIENCE_S)
        assert is_closed(client)
    assert files(runtime) == []


def test_it_can_be_closed_at_once_after_its_start(runtime: Path) -> None:
    for _ in range(20):
        server = ControlServer(lambda: says_who, name="x", on_trouble=pytest.fail)
        server.open()
        server.start()
        server.close()
        assert server.join(PATIENCE_S)
        assert files(runtime) == []


def test_one_that_was_never_started_gives_its_socket_back(runtime: Path) -> None:
    server = ControlServer(lambda: says_who, name="x", on_trouble=pytest.fail)
    server.close()
    server.open()
    server.close()
    assert server.join()
    assert files(runtime) == []
    server.start()
    assert server.join()
    assert "orchestree-control" not in [thread.name for thread in threading.enumerate()]


def test_after_the_end_nothing_is_left(runtime: Path) -> None:
    with serving() as server, dial(server) as client:  # what is loaded once stays
        ask(client)
    before, threads = descriptors(), threading.active_count()
    for _ in range(3):
        with serving() as server, dial(server) as client, dial(server) as idle, dial(server) as half:
            ask(client)
            half.sendall(HELLO[:10])
            assert control_thread().daemon
            server.close()
            assert server.join(PATIENCE_S)
            assert is_closed(idle)
            assert is_closed(half)
    assert descriptors() == before
    assert threading.active_count() == threads
    assert files(runtime) == []


def test_no_descriptor_of_it_reaches_a_program_that_is_started() -> None:
    def inherited() -> set[str]:
        command = ["ls", "/proc/self/fd"]
        return set(subprocess.run(command, capture_output=True, text=True, check=True, close_fds=False).stdout.split())

    before = inherited()
    with serving() as server, dial(server) as client:
        ask(client)
        assert inherited() == before


def test_a_running_request_may_finish_while_it_closes() -> None:
    entered, go_on = threading.Event(), asyncio.Event()
    loops: queue.SimpleQueue[asyncio.AbstractEventLoop] = queue.SimpleQueue()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        loops.put(asyncio.get_running_loop())
        entered.set()
        await go_on.wait()
        await answer(send, "done")

    with serving(app, grace_s=PATIENCE_S) as server, dial(server) as client:
        client.sendall(HELLO)
        assert entered.wait(PATIENCE_S)
        server.close()
        while True:  # until nobody is let in any more
            try:
                dial(server).close()
            except (ConnectionRefusedError, FileNotFoundError):
                break
        loops.get().call_soon_threadsafe(go_on.set)
        assert read_answer(client) == "done"
        assert read_all(client) == b""


def test_a_connection_that_comes_as_accepting_ends_is_not_taken_and_left_open(tmp_path: Path) -> None:
    """It stays at the listener, with which it is closed."""

    async def cancel_as_it_comes(listener: socket.socket, client: socket.socket) -> None:
        accepting = asyncio.create_task(Service(says_who, Limits()).accept(listener))
        await asyncio.sleep(0)
        client.connect(listener.getsockname())
        await asyncio.sleep(0)  # the loop sees it now
        asyncio.get_running_loop().call_soon(accepting.cancel)
        await asyncio.wait({accepting})

    place = open_socket("x", str(tmp_path / "x.sock"))
    with closing(place), closing(socket.socket(socket.AF_UNIX)) as client:
        asyncio.run(cancel_as_it_comes(place.listener, client))
        place.listener.accept()[0].close()


def test_idle_connections_are_not_waited_for_when_it_closes() -> None:
    with serving(grace_s=100 * PATIENCE_S) as server, dial(server) as fresh, dial(server) as idle:
        ask(idle)
        server.close()
        assert server.join(PATIENCE_S)
        assert read_all(idle) == read_all(fresh) == b""


def test_a_request_that_does_not_finish_is_dropped_when_it_closes() -> None:
    entered, cancelled = threading.Event(), threading.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with serving(app, grace_s=0.01) as server, dial(server) as client:
        client.sendall(HELLO)
        assert entered.wait(PATIENCE_S)
        server.close()
        assert read_all(client) == b""
        assert server.join(PATIENCE_S)
        assert cancelled.is_set()


@pytest.mark.slow
def test_an_idle_server_is_never_woken() -> None:
    with serving() as server, dial(server) as client:
        ask(client)
        ask(client)
        before = wake_ups()
        threading.Event().wait(1.0)
        assert wake_ups() <= before + 1  # it may not have come to rest when counting began


def test_a_socket_that_somebody_removed_comes_again_and_connections_stay(runtime: Path) -> None:
    with serving(check_s=0.01) as server, dial(server) as old:
        ask(old)
        for remove in (
            lambda: (runtime / "x.sock").unlink(),
            lambda: (runtime / "x.lock").unlink(),
            lambda: shutil.rmtree(runtime),
            lambda: (runtime / "x.sock").rename(runtime / "away"),
        ):
            before = server.socket.stat().st_ctime_ns
            remove()
            _until_there(runtime, before)
            with dial(server) as new:
                assert ask(new) == ask(old)
            assert server.name == "x"
        (runtime / "away").unlink()
    assert files(runtime) == []


def _until_there(runtime: Path, before: int) -> None:
    """Return as soon as there is a new socket at which somebody listens."""
    deadline = threading.Event()
    timer = threading.Timer(PATIENCE_S, deadline.set)
    timer.start()
    while not deadline.is_set():
        try:
            if (runtime / "x.sock").stat().st_ctime_ns > before and find_orchestrators():
                break
        except FileNotFoundError:
            continue
    timer.cancel()
    timer.join()
    assert not deadline.is_set(), files(runtime)


def test_one_whose_name_was_taken_meanwhile_tells_its_new_one(runtime: Path) -> None:
    notices: queue.SimpleQueue[str] = queue.SimpleQueue()
    limits = Limits(check_s=0.05)
    server = ControlServer(lambda: says_who, name="x", on_trouble=pytest.fail, on_notice=notices.put, limits=limits)
    server.open()
    shutil.rmtree(runtime)
    with closing(open_socket("x")) as other:
        server.start()
        told, name = notices.get(timeout=PATIENCE_S), f"x-{os.getpid()}"
        assert told == f"the control socket was removed, it is {runtime / name}.sock now"
        assert (server.name, server.socket) == (name, runtime / f"{name}.sock")
        with dial(server) as client:
            assert ask(client)
        assert other.is_intact()
        server.close()
        assert server.join(PATIENCE_S)
        assert files(runtime) == ["x.lock", "x.sock"]
    assert notices.empty()


def test_where_no_socket_can_be_made_it_says_so_once_and_goes_on_trying(runtime: Path) -> None:
    troubles: queue.SimpleQueue[str] = queue.SimpleQueue()
    notices: queue.SimpleQueue[str] = queue.SimpleQueue()
    limits = Limits(check_s=0.01)
    server = ControlServer(lambda: says_who, name="x", on_trouble=troubles.put, on_notice=notices.put, limits=limits)
    server.open()
    server.start()
    with dial(server) as old:
        ask(old)
        runtime.chmod(0o755)
        (runtime / "x.sock").unlink()
        told = troubles.get(timeout=PATIENCE_S)
        assert told.startswith("the control socket was removed: ")
        assert "is open to other users" in told
        ask(old)
        runtime.chmod(0o700)
        assert "it is" in notices.get(timeout=PATIENCE_S)
        with dial(server) as new:
            assert ask(new) == ask(old)
    server.close()
    assert server.join(PATIENCE_S)
    assert troubles.empty()


@pytest.mark.parametrize("error", [RuntimeError("no way"), SystemExit(3), KeyboardInterrupt()])
def test_a_server_that_cannot_go_on_says_so_once_and_nothing_is_raised(error: BaseException, runtime: Path) -> None:
    troubles: list[str] = []

    def fail() -> object:
        raise error

    def tell(text: str) -> None:
        troubles.append(text)
        raise OSError("nobody listens")

    server = ControlServer(fail, name="x", on_trouble=tell)  # type: ignore[arg-type]
    server.open()
    server.start()
    assert server.join(PATIENCE_S)
    assert troubles == [f"the control server has ended: {type(error).__name__}{f': {error}' if str(error) else ''}"]
    assert files(runtime) == []
    server.close()


def test_that_nobody_can_be_let_in_any_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestree.supervisor.control.serving import Service

    async def fail(self: Service, listener: socket.socket) -> None:
        raise OSError("no more")

    monkeypatch.setattr(Service, "accept", fail)
    troubles: list[str] = []
    server = ControlServer(lambda: says_who, name="x", on_trouble=troubles.append)
    server.open()
    server.start()
    assert server.join(PATIENCE_S)
    assert troubles == ["the control server has ended: no more"]


def test_a_handler_that_raises_costs_its_own_request_only(warnings: queue.SimpleQueue[str]) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fail":
            raise RuntimeError("oops")
        await answer(send, "fine")

    with serving(app) as server:
        with dial(server) as client:
            client.sendall(b"GET /fail HTTP/1.1\r\nhost: x\r\n\r\n")
            assert read_all(client).startswith(b"HTTP/1.1 500 ")
        with dial(server) as client:
            assert ask(client) == "fine"
    told = warnings.get(timeout=PATIENCE_S)
    assert told.startswith("control: GET '/fail' has failed\nTraceback")
    assert told.endswith("RuntimeError: oops\n")
    assert warnings.empty()


def test_answers_do_not_say_what_serves_them() -> None:
    with serving() as server, dial(server) as client:
        client.sendall(HELLO)
        head = client.recv(65536).partition(b"\r\n\r\n")[0].lower()
        assert b"server:" not in head
        assert b"date:" not in head


def test_the_logging_of_the_program_is_left_alone() -> None:
    import logging

    access = logging.getLogger("uvicorn.access")
    handler = logging.NullHandler()
    access.addHandler(handler)
    try:
        with serving() as server, dial(server) as client:
            ask(client)
            client.sendall(b"nonsense\r\n\r\n")
            read_all(client)
            assert access.handlers == [handler]
            assert access.propagate
    finally:
        access.removeHandler(handler)


def test_a_name_is_free_again_as_soon_as_the_server_has_ended() -> None:
    for _ in range(3):
        with serving() as server, dial(server) as client:
            assert server.name == "x"
            ask(client)
