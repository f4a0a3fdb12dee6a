"""The pytest plugin in a run of its own, what the kit loads, and what it says where Hypothesis is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HEAD = """
import pytest
from orchestree import Agent, AgentEntry, AgentState

class Worker(Agent):
    def execute(self): ...

TREE = [AgentEntry(Worker, "worker")]
"""
WITHOUT_HYPOTHESIS = """
import sys
sys.modules["hypothesis"] = None
"""


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own in which every warning is an error."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=50)


def run_pytest(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on one file as a user would; of the plugins that are installed only ours and Hypothesis's."""
    (folder / "test_policy.py").write_text(HEAD + tests)
    # Where CI is set, pytest says everything once more in its summary.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST") and key != "CI"}
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:schemathesis", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *options, "test_policy.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_the_fixture_is_the_function_so_it_is_used_the_same_under_given_too(tmp_path: Path) -> None:
    tests = """
from hypothesis import given, settings
from orchestree.supervisor import testing

def test_plain(supervised):
    assert supervised is testing.supervised
    with supervised(TREE, seed=1) as t:
        t.crash("worker")
        assert (t.starts("worker"), t.seed) == (2, 1)
    with pytest.raises(Exception, match="its with block is over"):
        t.advance(1)

@settings(max_examples=20, database=None)
@given(testing.fault_schedules(TREE))
def test_given(supervised, schedule):
    with supervised(TREE) as t:
        t.run(schedule)
        t.check(testing.never_two_live)
"""
    done = run_pytest(tmp_path, tests, "--fixtures-per-test")
    assert "supervised -- " in done.stdout
    assert (
        "Put trees under virtual time: ``with supervised(tree, seed=0) as t:``, under ``@given``, too." in done.stdout
    )
    done = run_pytest(tmp_path, tests)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_a_run_that_uses_nothing_of_it_loads_nothing_of_it(tmp_path: Path) -> None:
    code = """
import json, sys
import pytest

class Look:
    def pytest_sessionfinish(self):
        print("LOADED", json.dumps([name for name in sys.modules if name.partition(".")[0] == "orchestree"]))

sys.exit(pytest.main(["-p", "no:schemathesis", "-p", "no:cacheprovider", "--collect-only", "-q"], plugins=[Look()]))
"""
    done = run_python(code, tmp_path)
    line = next(line for line in done.stdout.splitlines() if line.startswith("LOADED"))
    assert sorted(json.loads(line.removeprefix("LOADED "))) == [
        "orchestree",
        "orchestree.supervisor",
        "orchestree.supervisor.testing",
        "orchestree.supervisor.testing.pytest_plugin",
    ], done.stderr


def test_the_plugin_alone_loads_neither_hypothesis_nor_pydantic(tmp_path: Path) -> None:
    code = """
import sys
import orchestree.supervisor.testing.pytest_plugin
print({"hypothesis", "pydantic", "asyncio", "loguru", "psutil", "tenacity"} & sys.modules.keys())
"""
    assert run_python(code, tmp_path).stdout == "set()\n"


def test_a_failure_under_given_shows_the_shrunk_schedule_and_the_timeline(tmp_path: Path) -> None:
    tests = """
from hypothesis import given, settings
from orchestree import Orchestrator, RunMode
from orchestree.supervisor.testing import *
from orchestree.supervisor.testing import fault_schedules, recovers_within, supervised, Crash

def shop():
    return Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=1, max_seconds=60), TREE)

@settings(database=None, derandomize=True, deadline=None)
@given(schedule=fault_schedules(shop(), kinds=[Crash]))
def test_shop(schedule):
    with supervised(shop()) as t:
        t.run(schedule)
        t.check(recovers_within(60))
"""
    done = run_pytest(tmp_path, tests)
    assert done.returncode == 1
    told = [line.removeprefix("E").strip() for line in done.stdout.splitlines()]
    assert "2 faults led to it. To see that again:" in told
    assert "orchestree simulate TARGET --until 1ms --seed 0 \\" in told
    assert told.count('--fault "worker: crash at 0s" \\') == 1
    assert any(line.startswith("Simulated ") for line in told)
    assert '"worker: crash at 0s",' in told
    assert not [line for line in done.stdout.splitlines() if "supervised_tree.py" in line]  # pytest shows the test
    assert len(done.stdout.splitlines()) < 120


def test_without_hypothesis_all_but_the_strategies_works(tmp_path: Path) -> None:
    code = (
        WITHOUT_HYPOTHESIS
        + HEAD
        + """
from orchestree.supervisor.testing import supervised, never_two_live, recovers_within, stays_within, Schedule, Crash
with supervised(TREE) as t:
    t.run(Schedule(["worker: crash at 1s"], 2))
    t.check(never_two_live, recovers_within(60), stays_within(max_starts_per_minute=10))
print("works")
"""
    )
    done = run_python(code, tmp_path)
    assert done.stdout == "works\n", done.stderr


@pytest.mark.parametrize("name", ["trees", "fault_schedules"])
def test_without_hypothesis_the_strategies_say_what_to_install(name: str, tmp_path: Path) -> None:
    code = WITHOUT_HYPOTHESIS + f"from orchestree.supervisor.testing import {name}"
    done = run_python(code, tmp_path)
    assert done.stderr.splitlines()[-1] == (
        'ImportError: trees() and fault_schedules() need Hypothesis: pip install "orchestree[testing]"'
    )
    assert "During handling" not in done.stderr


def test_the_facade_offers_each_name_whatever_was_imported_before(tmp_path: Path) -> None:
    code = """
import orchestree.supervisor.testing as testing
for name in testing.__all__:
    getattr(testing, name)
kinds = {name: type(getattr(testing, name)).__name__ for name in ("supervised", "trees", "fault_schedules")}
assert set(kinds.values()) == {"function"}, kinds
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
