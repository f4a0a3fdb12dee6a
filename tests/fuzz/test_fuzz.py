"""Whatever is sent to the control API, the tree goes on and nothing happens that is not permitted.

`ORCHESTREE_FUZZ_SECONDS` is how long it is attacked (default 60), `ORCHESTREE_FUZZ_SEED` decides by what;
`python -m tests.fuzz` is the same without pytest.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
from orchestree_testing.scripts import SUPPORT

from .in_process import attack
from .inputs import COMMANDS, PERMISSIONS, Dealer
from .tree import Watch, attacked, judge

SECONDS: Final = float(os.environ.get("ORCHESTREE_FUZZ_SECONDS", "60"))
SEED: Final = int(os.environ.get("ORCHESTREE_FUZZ_SEED") or secrets.randbelow(10**6))
LEAST_A_SECOND: Final = 10_000 / 60
"""An attack that hardly comes through proves nothing; how quick it is depends on what else the machine does."""
LIMIT_S: Final = SECONDS + 240
ROOT: Final = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.timeout(LIMIT_S + 60)
def test_an_attacked_tree_goes_on_and_does_nothing_that_is_not_permitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    least = str(int(SECONDS * LEAST_A_SECOND))
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", str(SECONDS), "--seed", str(SEED), "--least", least]
    path = os.pathsep.join(filter(None, (str(SUPPORT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-5000:]}"
    assert done.stderr == ""


@pytest.mark.slow
def test_a_thousand_mutated_requests_change_nothing_that_is_not_permitted(tmp_path: Path) -> None:
    tree = attacked(tmp_path)
    watch = Watch(tree)
    watch.start()
    began = time.monotonic()
    with tree:
        answers, problems = asyncio.run(attack(tree, 1000, "1"))
        problems += judge(tree, watch, time.monotonic() - began)
        watch.expect_the_end()
    watch.join()
    assert problems == []
    assert answers.total() == 1000
    assert watch.commands.keys() <= COMMANDS


def test_the_same_seed_deals_the_same_requests() -> None:
    one, other = Dealer("1"), Dealer("1")
    assert [one.any() for _ in range(200)] == [other.any() for _ in range(200)]
    assert [one.mutated() for _ in range(200)] == [other.mutated() for _ in range(200)]
    assert Dealer("2").garbage(100) != Dealer("1").garbage(100)


def test_what_is_permitted_never_stops_restarts_or_changes_anything() -> None:
    assert not PERMISSIONS & {"stop", "restart", "set", "shutdown"}
