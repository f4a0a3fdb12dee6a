"""`orchestree explain`: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import random
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from explained import SOON, beating, looping, root
from tenacity import RetryCallState, stop_after_attempt, stop_after_delay, wait_fixed, wait_random
from virtual import supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.explaining import ends_at_once, explain
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.simulation.explained import lints
from orchestree.supervisor.simulation.explained.explanation import explanation_of
from orchestree.supervisor.simulation.shown.explanation_text import explanation_lines
from orchestree.supervisor.spec import ChildEntry, SupervisorEntry

README = Path(__file__).parents[2] / "README.md"
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


@pytest.mark.parametrize("width", [20, 40, 60, 100])
def test_rows_are_as_wide_as_they_may_be_and_say_the_same(width: int) -> None:
    explanation = explain(root(looping("first"), looping("second", depends_on=["first"]), strategy="rest_for_one"))
    told = "\n".join(explanation_lines(explanation, width))
    rows = [line for line in told.splitlines() if line.startswith("  ")]
    assert max(width, 40) - 12 < max(map(len, rows)) <= max(width, 40)
    wide = "\n".join(explanation_lines(explanation))
    for head in ("policy", "backoff", "delays", "ends", "all fail", "a failure"):
        assert row(head, told) == row(head, wide)
    assert "a failure stops second, its only sibling" in wide


def test_an_order_is_told_of_several_that_are_stopped() -> None:
    agents = [looping(name, strategy="rest_for_one") for name in ("a", "b", "c")]
    shown = text(*agents)
    assert "a failure stops all 2 siblings\n" in shown
    assert "a failure stops c\n" in shown


@pytest.mark.slow
def test_it_says_what_the_default_policy_means() -> None:
    shown = text(looping("it"))
    assert shown.startswith("daemon tree: 1 agent, 1 supervisor; 0 warnings\n\n/: supervisor of 1 child\n")
    assert row("delays", shown) == ("0s, 0.19-0.25s, 0.38-0.5s, 0.75-1s, 1.5-2s, 3-4s, 6-8s, 12-16s ... up to 30s")
    assert row("ends", shown) == (
        "never parks, as there is no `stop`: still restarted after 64 failures in a row, 28m 2s"
    )
    assert row("restarts", shown) == "at most 15 a minute by its own failures, in whatever rhythm"
    assert row("one fails", shown) == "again and again, in whatever rhythm: no child can end it alone"
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
    assert (
        row("one fails", text(inner).partition("\ninner: ")[2])
        == "again and again, in whatever rhythm: it can end it alone"
    )


def test_what_a_users_policy_says_cannot_steer_a_terminal() -> None:
    def raising(state: RetryCallState) -> float:
        raise ValueError("\x1b[31mred\nand a second line")

    found = text(looping("it", backoff=Backoff(wait=raising)))
    assert "raised ValueError: [31mred and a second line" in row("ends", found)
    assert "\x1b" not in found


def test_one_failure_is_none_in_a_row() -> None:
    shown = text(looping("it", backoff=Backoff(wait=wait_fixed(1e12), jitter=0.0)))
    assert row("ends", shown) == "never parks, as there is no `stop`: still restarted after 1 failure, 0s"


def test_a_stop_that_was_not_reached_yet_is_not_said_to_be_out_of_reach() -> None:
    shown = text(looping("it", backoff=Backoff(stop=stop_after_delay(86_400), jitter=0.0)))
    assert row("ends", shown) == "still restarted after 1,000 failures in a row, 8h 16m"


def test_of_an_agent_whose_supervisor_comes_back_only_what_was_tried_is_said() -> None:
    inner = supervisor("inner", looping("it", backoff=None), max_restarts=1, backoff=SOON)
    shown = text(inner).partition("\ninner/it: ")[2]
    assert row("restarts", shown) == "3 a minute, of what was tried; there may be more"


def test_escalating_is_said_of_the_supervisor_and_of_the_agent() -> None:
    shown = text(looping("it", backoff=Backoff(stop=stop_after_attempt(3), on_give_up="escalate")))
    assert row("one fails", shown).endswith("it can end it alone")
    assert "(escalated), and with it the tree" in row("ends", shown)


def test_the_figures_of_a_policy_that_draws_by_itself_are_called_samples() -> None:
    shown = [text(looping("it", backoff=Backoff(wait=wait_random(0, 5), stop=stop_after_attempt(3)))) for _ in range(2)]
    assert row("samples", shown[0]).startswith("its policy draws by itself")
    assert row("restarts", shown[0]).endswith("of what was tried; there may be more")
    assert row("one fails", shown[0]).endswith("no child can end it alone, with the delays that were drawn here")
    assert shown[0] == shown[1]
    assert "samples" not in text(looping("it", backoff=SOON))


def test_a_strict_start_is_said_first() -> None:
    blueprint = Blueprint(root(looping("it", backoff=SOON)), Settings(strict_start=True))
    tree = explanation_of(blueprint, "", ends_at_once, random)
    assert list(explanation_lines(tree))[1].startswith("strict_start: a first start that fails ends the tree")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["explain", "simulate"])
def test_the_readme_shows_what_the_commands_print(command: str, tmp_path: Path) -> None:
    chapter = README.read_text(encoding="utf-8").partition("## A policy before it runs")[2]
    program = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)[0]
    (tmp_path / "shop.py").write_text(
        "from orchestree import Agent, Orchestrator, RunMode\n"
        + "".join(f"class {name}(Agent):\n    def execute(self): self.sleep(3600)\n" for name in ("Api", "Payments"))
        + program
    )
    samples = re.findall(r"```text\n\$ orchestree (.*?)\n(.*?)```", chapter, re.DOTALL)
    [(words, shown)] = [sample for sample in samples if sample[0].startswith(f"{command} ")]
    program = "import sys; from orchestree.supervisor.control.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, *shlex.split(words)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", shown)


def test_the_readme_names_every_warning() -> None:
    chapter = README.read_text(encoding="utf-8").partition("| warning | |")[2].partition("\n\n")[0]
    source = Path(lints.__file__).read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", chapter, re.MULTILINE)) == sorted(
        re.findall(r'name="(.*)"', source)
    )


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
    assert list(found) == ["path", "run_mode", "strict_start", "warnings", "supervisors", "agents"]
    [agent] = found["agents"]
    assert list(agent) == [
        *("path", "executor", "depends_on", "policy", "fails", "fails_in_setup", "restarts", "touched"),
    ]
    assert list(agent["fails"]) == ["longest", "shortest"]
    assert list(agent["fails"]["longest"]) == [
        *("delays_s", "largest_delay_s", "parked", "not_restarted", "supervisor_ends", "tree_ends", "goes_on"),
        *("failures", "lasted_s", "restarts_per_minute", "is_sample"),
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
