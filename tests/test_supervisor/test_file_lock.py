"""Whose a lock file is; what only shows with sockets and history files is tested with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from control_support import descriptors

from orchestree.supervisor.file_lock import Lock, Taken

pytestmark = pytest.mark.portable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.lock"


def test_a_lock_is_for_one_and_leaves_nothing(path: Path) -> None:
    before = descriptors()
    lock = Lock(path)
    with pytest.raises(Taken, match=r"x\.lock: another orchestrator holds this lock"):
        Lock(path)
    assert lock.is_held
    assert lock.is_in_place()
    lock.release()
    lock.release()
    assert not lock.is_held
    assert not path.exists()
    assert descriptors() == before
    Lock(path).release()


def test_a_link_is_not_followed(path: Path) -> None:
    path.symlink_to(path.parent / "precious")
    with pytest.raises(OSError, match="symbolic link"):
        Lock(path)
    assert not (path.parent / "precious").exists()


def test_a_file_of_somebody_else_in_its_place_is_left_alone(path: Path) -> None:
    first = Lock(path)
    path.unlink()
    assert not first.is_in_place()
    second = Lock(path)
    first.release()
    assert second.is_in_place()
    second.release()


def test_a_forked_process_holds_nothing_and_can_release_nothing(path: Path) -> None:
    lock = Lock(path)
    child = os.fork()
    if child == 0:
        held = lock.is_held or lock.is_in_place()
        lock.release()
        os._exit(1 if held else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert lock.is_in_place()
    with pytest.raises(Taken):
        Lock(path)
    lock.release()
