"""What holds for every test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

BARE_NAMES = frozenset({"supervisor", "agents", "strategies", "metrics"})


@pytest.fixture(autouse=True)
def no_folder_is_imported_under_its_bare_name() -> Iterator[None]:
    """A second copy of a class, under a second name, would make `isinstance` lie."""
    yield
    assert not BARE_NAMES & sys.modules.keys()
