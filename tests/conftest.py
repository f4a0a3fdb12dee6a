"""What holds for every test."""

from __future__ import annotations

import gc
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings
from loguru import logger

# By default the same random trees each time, so that what turns red is the change that was made;
# `pytest --hypothesis-profile=deep` looks at more than ten times as many, and at others each time.
settings.register_profile(
    "ci", max_examples=800, stateful_step_count=40, deadline=None, print_blob=True, derandomize=True
)
settings.register_profile(
    "deep", settings.get_profile("ci"), max_examples=10_000, stateful_step_count=60, derandomize=False
)
settings.load_profile("ci")

# A shell has its background jobs ignore SIGINT, `nohup` SIGHUP; the programs that tests start would inherit that.
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)

# Control sockets of this session have a folder of their own, also those of the programs that tests start.
_runtime = tempfile.TemporaryDirectory(prefix="orchestree-tests-")
os.environ["XDG_RUNTIME_DIR"] = _runtime.name

# Where nothing compiled may be kept, each of the many programs would compile all of the product anew.
if sys.dont_write_bytecode:
    _compiled = tempfile.TemporaryDirectory(prefix="orchestree-compiled-")
    os.environ["PYTHONPYCACHEPREFIX"] = _compiled.name
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

BARE_NAMES = frozenset({"supervisor", "agents", "strategies", "metrics"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let slow tests be slower than the limit of all others, where the machine has other work."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(240))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have garbage looked for in what tests make only: to look through all tests takes half a second each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def no_folder_is_imported_under_its_bare_name() -> Iterator[None]:
    """A second copy of a class, under a second name, would make `isinstance` lie."""
    yield
    assert not BARE_NAMES & sys.modules.keys()


@pytest.fixture(autouse=True)
def threads_of_earlier_tests_do_not_count() -> None:
    """Some hang on purpose, and nobody can end a thread."""
    if (trees := sys.modules.get("orchestree_testing.trees")) is not None:
        trees.of_earlier_tests.clear()
        trees.of_earlier_tests.update(threading.enumerate())


@pytest.fixture
def warnings() -> Iterator[queue.SimpleQueue[str]]:
    """What is logged as a warning or worse, from now on."""
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    sink = logger.add(lambda message: said.put(message.record["message"]), level="WARNING")
    yield said
    logger.remove(sink)
