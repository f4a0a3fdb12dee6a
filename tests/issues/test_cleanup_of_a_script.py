"""What a script does at its end is done once, by the program itself, after its tree has run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, sys, tempfile
from pathlib import Path
from orchestree import Agent, Orchestrator, RunMode

WORK = Path(sys.argv[1])


class Worker(Agent):
    def execute(self):
        folder, temporary = WORK.is_dir(), self.params["temporary"].is_dir()
        (WORK / f"found-{self.incarnation}").write_text(f"{folder} {temporary}")
        if self.incarnation == 1:
            raise ValueError("once more")


with tempfile.TemporaryDirectory() as temporary:
    orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY))
    orchestrator.register_agent(Worker, "worker", executor="process", params={"temporary": Path(temporary)})
    try:
        code = orchestrator.simple_join()
        print("after the tree")
    finally:
        with (WORK / "ends").open("a") as ends:
            ends.write(f"{os.getpid()} {Path(temporary).is_dir()}\\n")
sys.exit(code)
"""

pytestmark = [pytest.mark.slow, pytest.mark.portable]
ORCHESTREE = str(Path(sys.executable).with_name("orchestree"))


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(SCRIPT)
    (folder / "work").mkdir()
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=40, check=False)


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "app.py", "work"], [ORCHESTREE, "run", "app.py", "--", "work"]],
    ids=["python", "orchestree run"],
)
def test_what_a_script_does_at_its_end_is_done_once_and_after_the_tree(command: list[str], tmp_path: Path) -> None:
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    found = [(tmp_path / "work" / f"found-{number}").read_text() for number in (1, 2)]
    assert found == ["True True", "True True"]
    (end,) = (tmp_path / "work" / "ends").read_text().splitlines()
    assert end.endswith("True")


def test_check_leaves_alone_what_belongs_to_a_run(tmp_path: Path) -> None:
    done = run([ORCHESTREE, "check", "app.py", "--", "work"], tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ok: 1 agent, 0 supervisors"), done.stderr
    assert list((tmp_path / "work").iterdir()) == []
