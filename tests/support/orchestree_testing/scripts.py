"""Whole programs that tests run as a user would, and the processes that they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Final

from .host import DEADLINE_S

SUPPORT: Final = Path(__file__).parents[1]


def start_program(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start this interpreter with `arguments`; the support packages can be imported."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{SUPPORT}:{os.environ.get('PYTHONPATH', '')}", **environment},
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
