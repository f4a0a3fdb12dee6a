"""`orchestree explain`: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from explained import SOON, beating, looping, root
from tenacity import RetryCallState, stop_after_attempt, stop_after_delay
from virtual import supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.control.command_line.explain_text import explanation_lines
from orchestree.supervisor.explaining import explain
from orchestree.supervisor.spec import ChildEntry, SupervisorEntry

EXAMPLES = Path(__file__).parents[2] / "examples"


def orchestree(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from orchestree.supervisor.control.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "explain", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=50, check=False)


def text(*children: ChildEntry, **fields: object) -> str:
    lines = list(explanation_lines(explain(root(*children, **fields))))
    assert max(map(len, lines)) <= 100
    assert all(line.isprintable() and line == line.rstrip() for line in lines)
    return "\n".join(lines)


def row(head: str, shown: str) -> str:
    """Return the first row with this head, on one line."""
    found = re.search(rf"^  {head} +(.*(?:\n {{12}}.*)*)", shown, re.MULTILINE)
    assert found, shown
    return re.sub(r"\s+", " ", found[1])


@pytest.mark.slow
def test_it_says_what_the_default_policy_means() -> None:
    shown = text(looping("it"))
    assert shown.startswith("daemon tree: 1 agent, 1 supervisor; 0 warnings\n\n/: supervisor of 1 child\n")
    assert row("delays", shown) == ("0s, 0.19-0.25s, 0.38-0.5s, 0.75-1s, 1.5-2s, 3-4s, 6-8s, 12-16s ... up to 30s")
    assert row("ends", shown) == "never parks: still restarted after 1,000 failures in a row"
    assert row("restarts", shown) == "at most 9 a minute"
    assert row("a failure", shown) == "stops nobody else"


@pytest.mark.slow
def test_agents_of_one_policy_and_place_stand_together() -> None:
    workers = [looping(f"worker-{number}", backoff=SOON) for number in range(1, 9)]
    shown = text(*workers, looping("other", backoff=None), supervisor("in", looping("worker-1", backoff=SOON)))
    assert "\nworker-1 ... worker-8 (8): thread\n" in shown
    assert "\nother: thread\n" in shown
    assert "\nin/worker-1: thread\n" in shown
    three = text(*workers[:3], strategy="one_for_all")
    assert "\nworker-1, worker-2, worker-3: thread\n" in three
    assert row("a failure", three) == "stops all 2 siblings"


@pytest.mark.parametrize(
    ("backoff", "ends"),
    [
        (Backoff(stop=stop_after_attempt(5)), "parked by the 5th failure, 1.31-1.75s after the first"),
        (
            Backoff(stop=stop_after_attempt(2), on_give_up="escalate"),
            "supervisor / ends by the 2nd failure, 0s after the first (escalated), and with it the tree",
        ),
        (None, "supervisor / ends by the 11th failure, 0s after the first (max_restarts), and with it the tree"),
        (
            Backoff(stop=stop_after_delay(3.2)),
            "with the longest delays parked by the 6th failure, 3.75s after the first; "
            "with the shortest parked by the 7th failure, 5.81s after the first",
        ),
        (Backoff(rules=(Rule(action="park"),)), "parked by the 1st failure: a rule says so: RuntimeError: simulated"),
    ],
    ids=["attempts", "escalate", "none", "delay", "rule"],
)
def test_it_says_how_a_streak_of_failures_ends(backoff: Backoff | None, ends: str) -> None:
    assert row("ends", text(looping("it", backoff=backoff))) == ends


def test_it_says_how_a_supervisor_above_goes_on() -> None:
    inner = supervisor(
        "inner", looping("it", backoff=None), max_restarts=1, backoff=Backoff(stop=stop_after_attempt(3))
    )
    assert row("ends", text(inner).partition("\ninner/it: ")[2]) == (
        "supervisor inner ends by the 2nd failure, 0s after the first (max_restarts); in the end it stays down"
    )
    assert row("one fails", text(inner).partition("\ninner: ")[2]) == "again and again: it can end it alone"


def test_what_a_users_policy_says_cannot_steer_a_terminal() -> None:
    def raising(state: RetryCallState) -> float:
        raise ValueError("\x1b[31mred\nand a second line")

    assert r"raised ValueError: \x1b[31mred\nand" in row("ends", text(looping("it", backoff=Backoff(wait=raising))))


@pytest.mark.slow
def test_failures_in_setup_are_shown_where_they_differ() -> None:
    shown = text(looping("it", backoff=Backoff(rules=(Rule(action="park", phase="setup"),))))
    assert row("ends", shown.partition("  in setup")[2]).startswith("parked by the 1st failure")


def test_a_dynamic_supervisor_says_that_nothing_is_known_of_its_children() -> None:
    shown = text(SupervisorEntry("pool", dynamic=True, backoff=SOON))
    assert "\npool: dynamic supervisor, its children come when the tree runs: nothing can be said of them\n" in shown


@pytest.mark.slow
def test_warnings_come_first_and_alike_ones_together() -> None:
    agents = [beating(f"b{number}", 1.0, backoff=Backoff(stable_after=20.0)) for number in range(5)]
    lines = text(*agents).splitlines()
    assert lines[0] == "daemon tree: 5 agents, 1 supervisor; 5 warnings"
    assert lines[2] == "warning: stable-after-below-delay: b0 ... b4 (5)"
    assert lines[3].startswith("  problem   waits up to 30s, but 20s of being ready")
    assert lines[4].startswith("  advice    a stable_after of 30s or more")


@pytest.mark.slow
def test_the_command_explains_an_example(tmp_path: Path) -> None:
    done = orchestree(str(EXAMPLES / "monitoring.py"), "--check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("daemon tree: 5 agents, 1 supervisor; 0 warnings\n")
    assert row("a failure", done.stdout.partition("\nsite: thread\n")[2]) == (
        "stops tailer, prober, in this order; cannot start while it is down: prober, tailer"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "warning"),
    [
        *((name, None) for name in ("automation", "batch", "custom_orchestrator", "file_writers", "job_pool")),
        *((name, None) for name in ("monitoring", "pipeline")),
        ("nested_tree", "warning: exhaustible-window: devices"),  # which is what that example shows
    ],
)
def test_the_examples_have_no_warnings_but_what_they_show(tmp_path: Path, name: str, warning: str | None) -> None:
    done = orchestree(str(EXAMPLES / f"{name}.py"), cwd=tmp_path)
    found = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert (done.returncode, done.stderr, found) == (0, "", [warning] if warning else [])


@pytest.mark.slow
def test_json_has_stable_keys_and_null_for_never(tmp_path: Path) -> None:
    done = orchestree(str(EXAMPLES / "monitoring.py"), "site", "--json", cwd=tmp_path)
    found = json.loads(done.stdout, parse_constant=pytest.fail)
    assert list(found) == ["path", "run_mode", "warnings", "supervisors", "agents"]
    [agent] = found["agents"]
    assert list(agent) == [
        *("path", "executor", "depends_on", "policy", "fails", "fails_in_setup", "touched"),
    ]
    assert list(agent["fails"]) == ["longest", "shortest"]
    assert list(agent["fails"]["longest"]) == [
        *("delays_s", "largest_delay_s", "parked", "not_restarted", "supervisor_ends", "tree_ends", "goes_on"),
        *("failures", "starts_per_minute"),
    ]
    assert agent["fails"]["longest"]["parked"] is None
    assert agent["touched"] == {"stopped": ["tailer", "prober"], "all_siblings": False, "waiting": ["prober", "tailer"]}


@pytest.mark.slow
def test_check_ends_with_1_if_there_are_warnings(tmp_path: Path) -> None:
    words = (str(EXAMPLES / "monitoring.py"), "sensor", "--set", "max_restarts=3")
    assert orchestree(*words, cwd=tmp_path).returncode == 0
    done = orchestree(*words, "--check", cwd=tmp_path)
    assert done.returncode == 1
    assert "warning: exhaustible-window: /\n" in done.stdout


@pytest.mark.slow
def test_an_unknown_path_is_one_line_with_a_hint(tmp_path: Path) -> None:
    done = orchestree(str(EXAMPLES / "monitoring.py"), "sensr", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "Error: 'sensr': no such agent or supervisor (did you mean 'sensor'?)\n"


@pytest.mark.slow
def test_a_slash_is_the_whole_tree_and_arguments_of_target_come_behind_it(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "import sys\nfrom orchestree import *\n\nclass W(LoopingAgent):\n    def runner(self): ...\n\n"
        "made = Orchestrator(Orchestrator.Config(run_mode='daemon', control=False))\n"
        "for name in sys.argv[1:]:\n    made.register_agent(W, name, backoff=Backoff(rules=[Rule(action='park')]))\n"
    )
    done = orchestree("app.py", "/", "one", "two", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\none, two: thread\n" in done.stdout


def test_nothing_is_started() -> None:
    before = threading.enumerate()
    explain([looping("it", backoff=SOON)])
    assert threading.enumerate() == before
