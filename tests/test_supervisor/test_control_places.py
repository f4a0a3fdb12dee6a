"""Where control sockets are, who may have made the folder, and how they are found."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestree.supervisor.control import places
from orchestree.supervisor.control.places import connect, find_orchestrators, make_folder, runtime_folder, short_address

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "orchestree"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No runtime folder: what is left is the temporary one."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 987_654)
    return tmp_path / "orchestree-987654"


@pytest.fixture
def listener(runtime: Path) -> Iterator[socket.socket]:
    make_folder(runtime)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(runtime / "alive.sock"))
        listener.listen()
        yield listener


def test_the_folder_is_in_the_runtime_folder_of_the_user(runtime: Path) -> None:
    assert runtime_folder() == runtime
    assert not runtime.exists()


@pytest.mark.parametrize("value", ["", "relative/folder", "/does/not/exist", "/etc/passwd"])
def test_a_runtime_folder_that_is_none_is_passed_over(
    value: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    assert runtime_folder() == temporary


def test_the_runtime_folder_of_somebody_else_is_passed_over(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(temporary.parent))  # it belongs to whoever runs the tests
    assert runtime_folder() == temporary


def test_without_any_folder_set_the_temporary_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 987_654)
    assert runtime_folder() == Path("/tmp/orchestree-987654")


def test_the_folder_is_made_for_the_user_alone_whatever_the_umask(runtime: Path) -> None:
    before = os.umask(0)
    try:
        make_folder(runtime)
        make_folder(runtime)  # it may be there
    finally:
        os.umask(before)
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700


def test_a_symbolic_link_in_its_place_is_refused(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir(mode=0o700)
    runtime.symlink_to(tmp_path / "trap")
    with pytest.raises(PermissionError, match=r"orchestree: is a symbolic link, .* remove it"):
        make_folder(runtime)
    with pytest.raises(PermissionError, match="symbolic link"):
        find_orchestrators()
    assert list((tmp_path / "trap").iterdir()) == []


def test_a_link_that_leads_nowhere_is_refused_too(runtime: Path, tmp_path: Path) -> None:
    runtime.symlink_to(tmp_path / "nowhere")
    with pytest.raises(PermissionError, match="symbolic link"):
        make_folder(runtime)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_in_its_place_is_refused(runtime: Path) -> None:
    runtime.write_text("")
    with pytest.raises(PermissionError, match="is no folder"):
        make_folder(runtime)


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o750, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_can_look_into_is_refused(mode: int, runtime: Path) -> None:
    runtime.mkdir()
    runtime.chmod(mode)
    with pytest.raises(PermissionError, match=rf"open to other users \(mode {mode:04o}\); run: chmod 700 "):
        make_folder(runtime)


def test_a_folder_of_somebody_else_is_refused(temporary: Path) -> None:
    temporary.mkdir(mode=0o700)  # by whoever runs the tests
    with pytest.raises(PermissionError, match=rf"belongs to uid {os.getuid()}, .* XDG_RUNTIME_DIR"):
        make_folder(temporary)


@as_root
def test_a_folder_that_somebody_else_made_first_is_refused(runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    os.chown(runtime, NOBODY, NOBODY)
    with pytest.raises(PermissionError, match=f"belongs to uid {NOBODY}"):
        make_folder(runtime)


def test_nothing_is_found_and_nothing_made_where_there_is_no_folder(runtime: Path) -> None:
    assert find_orchestrators() == []
    assert not runtime.exists()


def test_those_that_listen_are_found_and_dead_sockets_are_passed_over(runtime: Path, listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime / "dead.sock"))
    (runtime / "file.sock").write_text("")
    (runtime / "alive.lock").write_text("")
    before = sorted(runtime.iterdir())
    assert find_orchestrators() == [places.Place("alive", runtime / "alive.sock")]
    assert sorted(runtime.iterdir()) == before


def test_one_that_is_too_busy_to_accept_is_found_at_once(listener: socket.socket, runtime: Path) -> None:
    listener.listen(0)
    with connect(runtime / "alive.sock"):
        with pytest.raises(BlockingIOError):
            connect(runtime / "alive.sock", timeout=0)
        assert [place.name for place in find_orchestrators()] == ["alive"]


def test_several_are_found_in_the_order_of_their_names(listener: socket.socket, runtime: Path) -> None:
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(runtime / "a.sock"))
        first.listen()
        assert [place.name for place in find_orchestrators()] == ["a", "alive"]


def test_a_socket_far_down_is_reached_and_no_descriptor_stays(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / ("y" * 120)
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        with short_address(folder / "far.sock") as address:
            listener.bind(address)
        listener.listen()
        before = len(os.listdir("/proc/self/fd"))
        with connect(folder / "far.sock", timeout=5) as client:
            accepted, _ = listener.accept()
            with accepted:
                client.sendall(b"x")
                assert accepted.recv(1) == b"x"
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_that_alone_is_too_long_is_refused_with_its_length(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"has 125 bytes, at most \d\d are possible; choose a shorter one"):
        connect(tmp_path / f"{'n' * 120}.sock")


@pytest.mark.parametrize("length", [107, 108])
def test_the_longest_address_is_taken_as_it_is(length: int) -> None:
    path = f"/tmp/{'x' * (length - 5)}"
    if length == 107:
        with short_address(path) as address:
            assert address == path
    else:
        with pytest.raises(OSError, match="103 bytes"), short_address(path):
            pass


def test_a_socket_that_cannot_be_reached_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        connect(tmp_path / "none.sock")
    with pytest.raises(FileNotFoundError):
        connect(tmp_path / ("x" * 120) / "none.sock")
    assert len(os.listdir("/proc/self/fd")) == before


@as_root
def test_the_socket_of_somebody_else_counts_as_live(runtime: Path, listener: socket.socket) -> None:
    folder = Path("/tmp") / f"orchestree-test-{os.getpid()}"  # one that others can reach
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    try:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(folder / "x.sock"))
            (folder / "x.sock").chmod(0o600)
            os.seteuid(NOBODY)
            try:
                assert places.is_live(folder / "x.sock")
            finally:
                os.seteuid(0)
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_the_file_needs_nothing_but_the_standard_library() -> None:
    heavy = ["asyncio", "tempfile", "subprocess", "random", "click", "pydantic", "loguru", "starlette", "uvicorn"]
    code = f"import sys, orchestree.supervisor.control.places; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
