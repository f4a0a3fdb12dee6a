"""What the command line loads: nothing of the runtime, so that it answers at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FORBIDDEN = frozenset(
    [
        "pydantic",
        "loguru",
        "multiprocess",
        "multiprocessing",
        "asyncio",
        "starlette",
        "uvicorn",
        "psutil",
        "tenacity",
        "rich",
        "dill",
        "prometheus_client",
        "tempfile",
    ]
)
COMMANDS = [
    *(["ps"], ["tree"], ["ls"], ["inspect", "x"], ["stats"], ["graph"], ["commands"], ["logs", "x"]),
    *(["events", "--since", "10m"], ["history"], ["stop", "x", "--wait"], ["set", "x", "a=1"], ["shutdown"]),
    *(["--help"], ["statz"], ["completion", "bash"]),
    ["simulate", "--help"],
    ["replay", "--help"],
    *(["metrics", "show"], ["metrics", "export", "--help"]),
]


INTERRUPTED_WHILE_LOADING = """
import signal, sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name.endswith(%r):
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
from orchestree.supervisor.control.cli import main
main(%r)
"""


@pytest.mark.portable
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_loads_nothing_of_the_runtime(tmp_path: Path, command: list[str]) -> None:
    program = f"from orchestree.supervisor.control.cli import main; main({command})"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert {"click", "http.client"} <= modules, done.stderr
    assert not {module.partition(".")[0] for module in modules} & FORBIDDEN
    runtime = {"orchestree.supervisor.orchestrator", "orchestree.supervisor.driver", "orchestree.supervisor.spec"}
    assert not runtime & modules


@pytest.mark.portable
@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("click", ["ps"]),
        ("command_line.all_commands", ["ps"]),
        ("command_line.client", ["ps"]),
        ("command_line.moments", ["events", "--since", "10m"]),
        ("click.shell_completion", ["completion", "bash"]),
        ("supervisor.logging_setup", ["run", "app.py"]),
        ("tomllib", ["check", "app.py"]),
    ],
)
def test_ctrl_c_while_a_module_loads_ends_a_command_without_a_word(
    tmp_path: Path, module: str, command: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_LOADING % (module, command)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
