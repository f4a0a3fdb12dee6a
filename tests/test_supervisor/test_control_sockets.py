"""Whose a control socket is: names, locks, what is replaced and what is left alone."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from control_support import PATIENCE_S, descriptors

from orchestree.supervisor.control.places import connect, find_orchestrators, is_live
from orchestree.supervisor.control.sockets import ControlSocket, open_socket
from orchestree.supervisor.file_lock import Lock, Taken

pytestmark = pytest.mark.portable

HOLDER = """
import sys
from orchestree.supervisor.control.sockets import open_socket
held = open_socket(*sys.argv[1:])
print(held.name, flush=True)
sys.stdin.read()
held.close()
"""

FORKING_HOLDER = """
import os, sys
from orchestree.supervisor.control.sockets import open_socket
held = open_socket("x")
if os.fork() == 0:
    print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "orchestree"


@contextmanager
def holder(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Have another process hold a name; give it, and the name that it got."""
    command = [sys.executable, "-c", HOLDER, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_heard(opened: ControlSocket) -> bool:
    """Return whether a client that connects to the path is at this listener."""
    with connect(opened.path, PATIENCE_S) as client:
        client.sendall(b"x")
        while True:  # those who only looked whether it is live come first
            with opened.listener.accept()[0] as accepted:
                accepted.settimeout(PATIENCE_S)
                if accepted.recv(1) == b"x":
                    return True


def test_a_socket_is_listening_under_its_name_and_leaves_nothing(runtime: Path) -> None:
    before = descriptors()
    with closing(open_socket("x")) as opened:
        assert (opened.name, opened.path) == ("x", runtime / "x.sock")
        assert files(runtime) == ["x.lock", "x.sock"]
        assert opened.is_intact()
        assert is_heard(opened)
        assert not os.get_inheritable(opened.listener.fileno())
        assert all(not os.get_inheritable(int(name)) for name in _open_numbers())
    assert files(runtime) == []
    assert descriptors() == before


def _open_numbers() -> list[str]:
    """Return the descriptors that lead to a lock file."""
    folder = "/proc/self/fd"
    numbers = [name for name in os.listdir(folder) if os.path.lexists(f"{folder}/{name}")]
    return [name for name in numbers if os.readlink(f"{folder}/{name}").endswith(".lock")]


@pytest.mark.parametrize("umask", [0, 0o077, 0o177])
def test_nobody_else_may_use_it_from_its_first_instant_whatever_the_umask(
    umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    really_listen = socket.socket.listen

    def listen(self: socket.socket, backlog: int) -> None:
        modes.append(stat.S_IMODE(os.stat(self.getsockname()).st_mode))
        really_listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", listen)
    before = os.umask(umask)
    try:
        open_socket("x").close()
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_further_orchestrators_of_one_process_get_names_of_their_own(runtime: Path) -> None:
    own = f"x-{os.getpid()}"
    with closing(open_socket("x")) as first, closing(open_socket("x")) as second, closing(open_socket("x")) as third:
        assert [each.name for each in (first, second, third)] == ["x", own, f"{own}-2"]
        assert [place.name for place in find_orchestrators()] == ["x", own, f"{own}-2"]
        assert is_heard(first)
        assert is_heard(second)
        assert is_heard(third)
    assert files(runtime) == []


def test_a_name_that_was_given_back_can_be_had_again() -> None:
    open_socket("x").close()
    with closing(open_socket("x")) as again:
        assert again.name == "x"


@pytest.mark.slow
def test_a_live_one_of_another_process_is_respected(runtime: Path) -> None:
    with holder("x") as (process, name):
        assert name == "x"
        with closing(open_socket("x")) as second:
            assert second.name == f"x-{os.getpid()}"
            assert is_heard(second)
        process.communicate("")
        with closing(open_socket("x")) as after:
            assert after.name == "x"


@pytest.mark.slow
def test_the_socket_of_one_that_was_killed_is_replaced(runtime: Path) -> None:
    with holder("x") as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
        assert files(runtime) == ["x.lock", "x.sock"]
        assert find_orchestrators() == []
        with closing(open_socket("x")) as opened:
            assert opened.name == "x"
            assert is_heard(opened)
    assert files(runtime) == []


@pytest.mark.slow
def test_one_that_was_killed_is_replaced_while_a_child_that_it_forked_lives_on(runtime: Path) -> None:
    command = [sys.executable, "-c", FORKING_HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait(PATIENCE_S)
        try:
            with closing(open_socket("x")) as opened:
                assert opened.name == "x"
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_path_is_taken_as_it_is(tmp_path: Path, runtime: Path) -> None:
    with closing(open_socket("x", str(tmp_path / "here.sock"))) as opened:
        assert (opened.name, opened.path) == ("x", tmp_path / "here.sock")
        assert files(tmp_path) == ["here.sock", "here.sock.lock"]
    assert files(tmp_path) == []
    assert not runtime.exists()


def test_a_relative_path_stays_where_it_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(open_socket("x", "here.sock")) as opened:
        monkeypatch.chdir("/")
        assert opened.path == tmp_path / "here.sock"
        assert opened.is_intact()
    assert files(tmp_path) == []


def test_a_path_that_somebody_has_is_an_error(tmp_path: Path) -> None:
    path = str(tmp_path / "here.sock")
    with closing(open_socket("x", path)) as first:
        with pytest.raises(Taken, match=r"here\.sock\.lock: another orchestrator holds this lock"):
            open_socket("y", path)
        assert is_heard(first)


def test_the_folder_of_a_path_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*/missing for the control socket; create it"):
        open_socket("x", str(tmp_path / "missing" / "x.sock"))


@pytest.mark.parametrize("kind", ["file", "folder", "link", "fifo"])
def test_what_is_no_socket_is_never_deleted(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "thing"
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(tmp_path / "nowhere")
        case _:
            os.mkfifo(path)
    before = descriptors()
    with pytest.raises(FileExistsError, match="thing: is no socket and is left alone"):
        open_socket("x", str(path))
    assert os.path.lexists(path)
    assert files(tmp_path) == ["thing"]
    assert descriptors() == before


def test_what_is_no_socket_is_not_deleted_in_the_runtime_folder_either(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    (runtime / "x.sock").write_text("precious")
    with pytest.raises(FileExistsError):
        open_socket("x")
    assert (runtime / "x.sock").read_text() == "precious"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_at_which_another_program_listens_is_left_alone(kind: socket.SocketKind, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(tmp_path / "theirs.sock"))
        if kind is socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(Taken, match="somebody listens at this socket; choose another path"):
            open_socket("x", str(tmp_path / "theirs.sock"))
        assert files(tmp_path) == ["theirs.sock"]


def test_one_whose_lock_file_was_removed_keeps_its_socket_and_the_next_takes_another_name(runtime: Path) -> None:
    with closing(open_socket("x")) as first:
        (runtime / "x.lock").unlink()
        assert not first.is_intact()
        with closing(open_socket("x")) as second:
            assert second.name == f"x-{os.getpid()}"
        assert is_heard(first)
    assert files(runtime) == []


def test_a_socket_of_somebody_else_in_its_place_is_left_alone(runtime: Path) -> None:
    first = open_socket("x")
    for name in files(runtime):
        (runtime / name).unlink()
    with closing(open_socket("x")) as second:
        assert not first.is_intact()
        first.close()
        assert second.is_intact()
        assert is_heard(second)


def test_a_lock_whose_file_is_removed_between_its_opening_and_the_locking_is_taken_on_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever held it last removes the file while the next one has it open already."""
    import fcntl

    path, really_lock = tmp_path / "x.lock", fcntl.flock
    removed: list[Path] = []

    def flock(descriptor: int, operation: int) -> None:
        if not removed:
            path.unlink()
            removed.append(path)
        really_lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    lock = Lock(path)
    assert removed
    assert lock.is_in_place()
    with pytest.raises(Taken):
        Lock(path)
    lock.release()


def test_only_one_of_many_gets_the_name(runtime: Path) -> None:
    start, opened = threading.Barrier(8), []

    def take() -> None:
        start.wait()
        for _ in range(50):
            mine = open_socket("x")
            if mine.name == "x":
                opened.append("+")
                assert [mine.name, mine.is_intact()] == ["x", True]
                opened.append("-")
            mine.close()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "".join(opened).replace("+-", "") == ""
    assert files(runtime) == []


def test_a_long_path_is_served_and_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with closing(open_socket("x", str(folder / "far.sock"))) as opened:
        assert is_heard(opened)
        assert stat.S_IMODE(opened.path.stat().st_mode) == 0o600
        assert opened.is_intact()
    assert files(folder) == []


def test_a_long_runtime_folder_is_served_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    with closing(open_socket("x")) as opened:
        assert [place.socket for place in find_orchestrators()] == [opened.path]


def test_a_name_of_a_file_that_is_too_long_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(OSError, match=r"the name of this socket has 125 bytes, .* choose a shorter one"):
        open_socket("x", str(tmp_path / f"{'n' * 120}.sock"))
    assert files(tmp_path) == []
    assert descriptors() == before


def test_nobody_is_let_in_after_the_end_even_if_a_forked_process_still_has_a_copy() -> None:
    opened = open_socket("x")
    copies = [os.dup(opened.listener.fileno())]
    opened.close()
    try:
        assert not is_live(opened.path)
        with closing(open_socket("x")) as again:
            assert again.name == "x"
    finally:
        os.close(copies[0])
