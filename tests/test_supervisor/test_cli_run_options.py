"""Settings from outside of the code with `orchestree run` and `check`, as a person types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

MAIN: Final = "from orchestree.supervisor.control.cli import main; main()"
TOOL: Final = [sys.executable, "-c", MAIN]
DEADLINE_S: Final = 30

TREE: Final = """
import sys
from orchestree import Agent, Orchestrator, RunMode

class Writer(Agent):
    class Config(Agent.Config):
        path: str = "log.txt"
        token: str = ""

    config: Config

    def execute(self):
        print(self.config.path + "\\n", end="", flush=True)  # in one piece: there are two of them

tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY, control=False))
tree.register_agent(Writer, "writer-a", path="a.txt")
tree.add_supervisor("ingest").register_agent(Writer, "collector")
"""
RUNS_ITSELF: Final = TREE + "raise SystemExit(tree.simple_join())\n"
CATCHES_ALL: Final = (
    TREE + "try:\n    tree.start()\nexcept Exception as error:\n    print('caught', error, flush=True)\n"
)


@pytest.fixture(params=[TREE, RUNS_ITSELF, CATCHES_ALL], ids=["made only", "runs itself", "catches all"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder with app.py, in its three kinds."""
    (tmp_path / "app.py").write_text(request.param)
    return tmp_path


@pytest.fixture
def plain_app(tmp_path: Path) -> Path:
    """The folder with an app.py that only makes its tree."""
    (tmp_path / "app.py").write_text(TREE)
    return tmp_path


def orchestree(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOOL, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.slow
def test_run_starts_the_tree_with_what_was_set(app: Path) -> None:
    (app / "prod.toml").write_text('[agents."ingest/collector"]\npath = "from-toml"\n')
    done = orchestree(app, "run", "app.py", "--config", "prod.toml", ORCHESTREE_AGENTS__WRITER_A__PATH="from-variable")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["from-toml", "from-variable"]


@pytest.mark.slow
def test_run_refuses_a_wrong_setting_before_anything_starts(app: Path) -> None:
    done = orchestree(app, "run", "app.py", "--set", "agents.writer-a.path=x", "--set", "agents.writer-a.restart=often")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == (
        "Error: --set agents.writer-a.restart: agent 'writer-a': restart='often': "
        "must be one of permanent, transient, temporary\n"
    )


@pytest.mark.slow
def test_check_prints_what_was_set_and_where(app: Path) -> None:
    (app / "prod.toml").write_text('name = "shop"\n[agents."ingest/collector"]\npath = "from-toml"\n')
    done = orchestree(
        app,
        *("check", "app.py", "--set", "max_workers=4", "--set", "agents.writer-a.token=hunter2"),
        *("--config", "prod.toml"),
        ORCHESTREE_SUPERVISORS__INGEST__MAX_RESTARTS="3",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "1.  writer-a     thread      transient",
        "2.  ingest/      supervisor  permanent",
        "3.    collector  thread      transient",
        "",
        "run_mode                         stop_on_empty  code",
        "name                             shop           prod.toml",
        "max_workers                      4              --set",
        "control                          false          code",
        "agents.writer-a.path             a.txt          code",
        "agents.writer-a.token            **********     --set",
        "supervisors.ingest.max_restarts  3              ORCHESTREE_SUPERVISORS__INGEST__MAX_RESTARTS",
        "agents.ingest/collector.path     from-toml      prod.toml",
        "",
        "ok: 2 agents, 1 supervisor",
    ]


@pytest.mark.slow
def test_check_prints_defaults_only_when_asked_to(plain_app: Path) -> None:
    short, whole = (orchestree(plain_app, "check", "app.py", *options).stdout for options in ((), ("--all",)))
    assert "max_workers" not in short
    assert "max_workers" in whole
    assert "agents.writer-a.backoff" in whole


@pytest.mark.slow
def test_check_prints_one_json_object_when_asked_to(plain_app: Path) -> None:
    done = orchestree(plain_app, "check", "app.py", "--json", "--set", "max_workers=4")
    found = json.loads(done.stdout)
    assert found["start_order"][2] == {
        "path": "ingest/collector",
        "kind": "agent",
        "executor": "thread",
        "restart": "transient",
        "depends_on": [],
    }
    assert {"key": "max_workers", "value": 4, "source": "--set"} in found["values"]


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.slow
def test_a_setting_without_an_equals_sign_is_a_wrong_option(plain_app: Path, command: str) -> None:
    done = orchestree(plain_app, command, "app.py", "--set", "max_workers")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'max_workers' is not of the form KEY=VALUE" in done.stderr


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--config", "prd.toml"), "Error: prd.toml: no such file (did you mean 'prod.toml'?)\n"),
        (("--config", "."), "Error: .: Is a directory\n"),
        (
            ("--config", "bad.toml"),
            "Error: bad.toml: Expected '=' after a key in a key/value pair (at line 1, column 5)\n",
        ),
        (
            ("--config", "prod.toml"),
            "Error: prod.toml: max_worker: unknown key (did you mean 'max_workers'?)\n",
        ),
        (("--set", "agents.x.path=1"), "Error: --set agents.x.path: no such agent 'x'\n"),
    ],
)
@pytest.mark.slow
def test_other_mistakes_are_one_line_and_exit_code_78(
    plain_app: Path, command: str, options: tuple[str, ...], said: str
) -> None:
    (plain_app / "prod.toml").write_text("max_worker = 4\n")
    (plain_app / "bad.toml").write_text("max workers")
    done = orchestree(plain_app, command, "app.py", *options)
    assert (done.returncode, done.stdout, done.stderr) == (78, "", said)


@pytest.mark.slow
def test_help_says_what_can_be_set(plain_app: Path) -> None:
    said = " ".join(orchestree(plain_app, "run", "--help").stdout.split())
    assert "agents.PATH.FIELD" in said
    assert "Children that come only when the tree runs cannot be set" in said


@pytest.mark.slow
def test_run_says_whom_a_long_start_waits_for(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        TREE.replace("def execute", "def setup(self):\n        self.sleep(30)\n\n    def execute")
    )
    soon = "from orchestree.supervisor.control.command_line import waiting_logged as log; log.FIRST_LINE_S = 0.1; "
    tool = [sys.executable, "-c", soon + MAIN]
    command = [*tool, "run", "app.py", "--set", 'supervisors.ingest.depends_on=["writer-a"]']
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr
            line = next(line for line in running.stderr if "waiting for writer-a" in line)
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=DEADLINE_S)
        finally:
            running.kill()
    assert re.search(r"INFO +waiting for writer-a \(starting, [^)]+\), ingest \(waits for writer-a\)$", line.rstrip())
    assert running.returncode == 0
