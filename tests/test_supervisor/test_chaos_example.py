"""The chaos example finds the weakness in every run, however the dice fall, and shrinks it to a few faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "chaos_test.py"
ONE_RUN = f"""
import importlib.util, sys
specification = importlib.util.spec_from_file_location("chaos_test", {str(EXAMPLE)!r})
example = importlib.util.module_from_spec(specification)
sys.modules["chaos_test"] = example
specification.loader.exec_module(example)
found = example.weakness_of_the_first_draft()
assert found is not None, "Hypothesis has found nothing"
assert "the root supervisor gave up" in str(found), found
print(len(found.faults))
"""


def faults_of_a_fresh_run(folder: Path) -> int:
    """Return to how many faults the weakness shrinks, in a new process: another seed, no examples of earlier runs."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ONE_RUN],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("run", range(3))
def test_the_weakness_is_found_and_shrunk_to_at_most_six_faults(run: int, tmp_path: Path) -> None:
    assert 1 <= faults_of_a_fresh_run(tmp_path) <= 6


@pytest.mark.torture
@pytest.mark.timeout(180)
@pytest.mark.parametrize("run", range(10))
def test_the_weakness_is_found_in_ten_of_ten_runs(run: int, tmp_path: Path) -> None:
    assert 1 <= faults_of_a_fresh_run(tmp_path) <= 6


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_example_is_collected_by_pytest_and_passes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", str(EXAMPLE)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
