"""A tree of all kinds of agents survives whatever is done to it, and its event log says so.

`ORCHESTREE_TORTURE_SECONDS` is how long the torture lasts at least (more, if each fault has not hit 20 times by then);
`ORCHESTREE_TORTURE_SEED` decides what happens to whom. `python -m tests.torture` is the same without pytest.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from orchestree_testing.scripts import SUPPORT
from survivors import Watch, household, survivors

from .faults import LEAST
from .verdict import first_of, judge, table

SECONDS: Final = float(os.environ.get("ORCHESTREE_TORTURE_SECONDS", "60"))
SEED: Final = int(os.environ.get("ORCHESTREE_TORTURE_SEED") or secrets.randbelow(10**6))
LIMIT_S: Final = 2 * SECONDS + 360
ROOT: Final = Path(__file__).parents[2]


def events(folder: Path) -> Iterator[dict[str, Any]]:
    with open(folder / "events.jsonl") as file:
        for line in file:
            yield json.loads(line)


def run(folder: Path, environment: dict[str, str]) -> str | None:
    """Return what went wrong with the program itself."""
    arguments = [str(folder), "--seconds", str(SECONDS), "--seed", str(SEED)]
    with open(folder / "stdout", "w") as out, open(folder / "stderr", "w") as err:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tests.torture", *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            return f"it has not come to an end within {LIMIT_S:g} s"
    return f"exit code {done.returncode}" if done.returncode else None


def is_open(file: Path) -> bool:
    """Return whether what was said at the end has come there."""
    return "the storm is over" in file.read_text(errors="replace")


def complaints(file: Path) -> list[str]:
    """Return what Python itself has written about threads, tasks and finalizers that failed."""
    words = ("Exception in thread", "never retrieved", "Exception ignored", "Fatal Python error")
    return [line for line in file.read_text(errors="replace").splitlines() if any(word in line for word in words)]


def tail(file: Path) -> str:
    return file.read_text(errors="replace")[-2_000:]


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.timeout(LIMIT_S + 60)
def test_a_tortured_tree_survives_and_its_log_accounts_for_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = f"ORCHESTREE_TORTURE_SEED={SEED} ORCHESTREE_TORTURE_SECONDS={SECONDS:g}, in {tmp_path}"
    with household() as house:
        path = os.pathsep.join(filter(None, (str(SUPPORT), os.environ.get("PYTHONPATH"))))
        failure = run(tmp_path, {**os.environ, **house.environment, "PYTHONPATH": path})
        problems = [f"has outlived the program: {each}" for each in survivors(house.mark, Watch())]
        house.reap_zombies()
    if failure:
        pytest.fail(f"{again}: {failure}\n{first_of(problems)}\n{tail(tmp_path / 'stderr')}", pytrace=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    verdict = judge(events(tmp_path), summary, LEAST)
    problems += verdict.problems
    problems += complaints(tmp_path / "stderr")
    problems += [f"{each} was not given back" for each in ("stdout", "tree.log") if not is_open(tmp_path / each)]
    with capsys.disabled():
        print(f"\n{table(summary, verdict)}")
    if problems:
        pytest.fail(f"{again}:\n{first_of(problems)}", pytrace=False)
