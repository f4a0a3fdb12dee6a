"""Whole programs that tests run as a user would, and the processes that they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

from .host import DEADLINE_S

SUPPORT: Final = Path(__file__).parents[1]


class Program(subprocess.Popen[str]):
    """A running program, which does not outlive its ``with`` block: a test that fails leaves nothing behind."""

    def __exit__(self, *failure: Any) -> None:
        self.kill()
        super().__exit__(*failure)


def start_program(*arguments: str, cwd: Path, **environment: str) -> Program:
    """Start this interpreter with `arguments`; the support packages can be imported, and stdin stays open."""
    # No empty entry: that would be the working folder, without which no interpreter starts.
    path = os.pathsep.join(filter(None, (str(SUPPORT), os.environ.get("PYTHONPATH"))))
    return Program(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(*arguments: str, cwd: Path, **environment: str) -> str:
    """Run this interpreter to its end, which must be a good one, and return what it has printed."""
    with start_program(*arguments, cwd=cwd, **environment) as program:
        output, errors = program.communicate(timeout=2 * DEADLINE_S)
    assert program.returncode == 0, errors
    assert errors == "", errors
    return output


def write(path: Path, source: str) -> Path:
    """Write a program, without its indentation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(source), encoding="utf-8")
    return path
