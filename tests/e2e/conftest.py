"""The servers, started once for all tests of a file, and what those tests have measured, at the end of the session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from .servers import missing_programs
from .station import Station, station

measured = pytest.StashKey[list[str]]()


@pytest.fixture(scope="module")
def programs() -> None:
    """Skip, or fail where `CI` is set, on a machine without the servers."""
    if missing := missing_programs():
        reason = f"not installed: {', '.join(missing)} (Debian: apt-get install prometheus prometheus-alertmanager)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def running(programs: None) -> Iterator[Station]:
    """Everything, started and scraped. The folder has a short name, for there are UNIX sockets in it."""
    with TemporaryDirectory(prefix="orchestree-e2e-") as folder, station(Path(folder)) as started:
        yield started


@pytest.fixture
def report(request: pytest.FixtureRequest) -> list[str]:
    """Lines to be shown at the end of the session, whether the tests pass or not."""
    return request.config.stash.setdefault(measured, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what the tests have measured."""
    if lines := config.stash.get(measured, []):
        terminalreporter.section("end to end: measured")
        for line in lines:
            terminalreporter.write_line(line)
