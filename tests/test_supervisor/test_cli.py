"""`orchestree run` and `check`, as a person types them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

TOOL: Final = [sys.executable, "-c", "from orchestree.supervisor.control.cli import main; main()"]
DEADLINE_S: Final = 30

TREE: Final = """
import sys
from orchestree import Agent, LoopingAgent, Orchestrator, RunMode

class Once(Agent):
    def execute(self):
        self.logger.info("arguments {}", sys.argv[1:])

class Waiter(Agent):
    def execute(self):
        print("waiting", flush=True)
        self.sleep(3600)

tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY, control=False))
"""

WHOLE_TREE: Final = (
    TREE
    + """
tree.register_agent(Once, "writer", depends_on=["database"], restart="permanent")
tree.register_agent(Once, "database")
ingest = tree.add_supervisor("ingest", depends_on=["writer"])
ingest.register_agent(Once, "collector", executor="process")
"""
)


def orchestree(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TOOL, *arguments], cwd=cwd, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def app(folder: Path, text: str) -> str:
    (folder / "app.py").write_text(text)
    return "app.py"


def test_check_prints_the_start_order_and_counts(tmp_path: Path) -> None:
    done = orchestree("check", app(tmp_path, WHOLE_TREE), cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "1.  database     thread      transient",
        "2.  writer       thread      permanent  after database",
        "3.  ingest/      supervisor  permanent  after writer",
        "4.    collector  process     transient",
        "",
        "run_mode                          stop_on_empty  code",
        "control                           false          code",
        "agents.writer.restart             permanent      code",
        'agents.writer.depends_on          ["database"]   code',
        'supervisors.ingest.depends_on     ["writer"]     code',
        "agents.ingest/collector.executor  process        code",
        "",
        "ok: 3 agents, 1 supervisor",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_check_of_an_empty_tree_is_ok(tmp_path: Path) -> None:
    done = orchestree("check", app(tmp_path, TREE), cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ok: 0 agents, 0 supervisors")


def test_check_shows_a_cycle_as_one_line(tmp_path: Path) -> None:
    cycle = TREE + "for a, b in ('ab', 'ba'):\n    tree.register_agent(Once, a, depends_on=[b])\n"
    done = orchestree("check", app(tmp_path, cycle), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.count("\n") == 1
    assert "a -> b -> a" in done.stderr


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_bad_target_is_one_line_and_exit_code_78(tmp_path: Path, command: str) -> None:
    done = orchestree(command, "missing.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "Error: missing.py: no such file\n"


def test_run_shows_a_cycle_as_one_line_and_starts_nothing(tmp_path: Path) -> None:
    cycle = TREE + "for a, b in ('ab', 'ba'):\n    tree.register_agent(Waiter, a, depends_on=[b])\n"
    done = orchestree("run", app(tmp_path, cycle), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert "a -> b -> a" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_runs_the_tree_to_its_end_and_hands_arguments_on(tmp_path: Path) -> None:
    target = app(tmp_path, TREE + "tree.register_agent(Once, 'once')\n")
    done = orchestree("run", target, "--", "--fast", "x", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "arguments ['--fast', 'x']" in done.stdout + done.stderr


def test_run_allows_as_many_open_files_as_the_hard_limit(tmp_path: Path) -> None:
    shown = "import resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    target = app(tmp_path, TREE + shown + "tree.register_agent(Once, 'once')\n")
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400)); {TOOL[-1]}"
    done = subprocess.run(
        [*TOOL[:-1], limited, "run", target],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout.splitlines() == ["(400, 400)"], done.stderr


def test_run_logs_json_objects_when_asked_to(tmp_path: Path) -> None:
    target = app(tmp_path, TREE + "tree.register_agent(Once, 'once')\n")
    done = orchestree("run", "--log-json", target, cwd=tmp_path)
    records = [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]
    assert any("arguments []" in json.dumps(record) for record in records)


def test_run_does_not_run_a_tree_twice_that_its_file_runs_itself(tmp_path: Path) -> None:
    own = TREE + "tree.register_agent(Once, 'once')\nraise SystemExit(tree.simple_join())\n"
    done = orchestree("run", app(tmp_path, own), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("arguments []") == 1


@pytest.mark.portable
def test_ctrl_c_ends_a_running_tree_in_order_with_exit_code_0(tmp_path: Path) -> None:
    target = app(tmp_path, TREE + "tree.register_agent(Waiter, 'waiter')\n")
    with subprocess.Popen(
        [*TOOL, "run", target], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout
            assert "waiting" in running.stdout.readline()
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=DEADLINE_S)
        finally:
            running.kill()
    assert running.returncode == 0, said
    assert "Traceback" not in said


def test_version_is_printed(tmp_path: Path) -> None:
    assert "version 0.1.0" in orchestree("--version", cwd=tmp_path).stdout


def test_help_says_what_a_target_is(tmp_path: Path) -> None:
    done = orchestree("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "path/to/app.py:name" in done.stdout
