"""Every example does what its header says, and a person who copies it gets no complaint from the type checker."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from examples_support import COMMAND, TOOL, Header, numbers_out, run_example, started

CHECKOUT: Final = Path(__file__).parents[1]
EXAMPLES: Final = sorted((CHECKOUT / "examples").glob("*.py"))
SIMULATED: Final = frozenset({"chaos_test"})
"""Nothing runs in them, so no events come."""
README: Final = (CHECKOUT / "README.md").read_text()

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_does_what_its_header_says(file: Path, tmp_path: Path) -> None:
    assert not run_example(file, tmp_path).differences()


@pytest.mark.parametrize("name", ["file_writers", "pipeline", "monitoring"])
def test_an_example_also_runs_as_a_plain_script(name: str, tmp_path: Path) -> None:
    source = (CHECKOUT / "examples" / f"{name}.py").read_text()
    copy = tmp_path / f"{name}.py"
    source = COMMAND.sub(f"    python examples/{name}.py", source, count=1)
    copy.write_text(source.replace("interval = 0.5", "interval = 0.05"))  # the sensor chokes sooner, as often
    assert not run_example(copy, tmp_path).differences()


@pytest.mark.parametrize(
    ("name", "line", "broken"),
    [
        ("file_writers", "fails_once=True", "fails_once=False"),
        ("file_writers", ', depends_on=["writer-a"]', ""),
        ("batch", "max_workers=2", "max_workers=3"),
        ("nested_tree", "max_restarts=2", "max_restarts=1"),
        ("custom_orchestrator", "return min(", "return max("),
    ],
)
def test_a_broken_line_of_an_example_is_noticed(name: str, line: str, broken: str, tmp_path: Path) -> None:
    source = (CHECKOUT / "examples" / f"{name}.py").read_text()
    assert source.count(line) == 1
    copy = tmp_path / f"{name}.py"
    copy.write_text(source.replace(line, broken))
    assert run_example(copy, tmp_path).differences()


def test_every_header_says_which_events_come() -> None:
    titles = {file.stem: " ".join(Header(file.read_text()).blocks) for file in EXAMPLES}
    assert not [name for name, found in titles.items() if "in this order" not in found and name not in SIMULATED]


@pytest.mark.timeout(300)
def test_the_examples_pass_mypy_strict_as_a_consumers_code(tmp_path: Path) -> None:
    for file in EXAMPLES:
        shutil.copy(file, tmp_path)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", *(file.name for file in EXAMPLES)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_first_program_of_the_readme_prints_what_stands_below_it(tmp_path: Path) -> None:
    program, shown = re.findall(r"```(?:python|text)\n(.*?)```", README, re.DOTALL)[:2]
    assert len(program.splitlines()) <= 20
    (tmp_path / "counter.py").write_text(program)
    with started([*TOOL, "run", "counter.py"], tmp_path) as process:
        assert process.stderr
        lines = {numbers_out(line.rstrip()) for line in process.stderr}
    assert process.returncode == 0
    assert {numbers_out(line) for line in shown.splitlines() if line != "..."} <= lines
