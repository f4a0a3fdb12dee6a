"""`orchestree simulate`, as a person or a CI job calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest
from click.testing import CliRunner, Result

from orchestree.supervisor.control.command_line.all_commands import orchestree

TOOL: Final = [sys.executable, "-c", "from orchestree.supervisor.control.cli import main; main()"]
DEADLINE_S: Final = 30

TREE: Final = """
import os, subprocess, sys, threading, time
from orchestree import Agent, Backoff, Orchestrator, RunMode

class Worker(Agent):
    def execute(self):
        open("it-ran", "w").close()

print("loading", sys.argv[1:])
tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=3, max_seconds=5.0, backoff=None))
tree.register_agent(Worker, "worker")
tree.register_agent(Worker, "api", depends_on=["worker"], backoff=Backoff())
"""
RUNS_ITSELF: Final = (
    TREE
    + """
try:
    code = tree.simple_join()
except Exception as error:
    print("caught", error)
    code = 5
finally:
    open("it-ended", "w").close()
raise SystemExit(code)
"""
)
LEAVES_A_THREAD: Final = (
    TREE + "def poll():\n    time.sleep(99)\n\nthreading.Thread(target=poll, name='poller').start()\n"
)
LEAVES_A_PROCESS: Final = TREE + 'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])\n'
FALLS: Final = ("--fault", "worker: crash every 1s from 3m8s", "--until", "24h")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with app.py; what a command does to this process is undone."""
    (tmp_path / "app.py").write_text(TREE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    yield tmp_path
    sys.modules.pop("__orchestree_main__", None)


def simulate(*arguments: str) -> Result:
    """Call the command in this process."""
    return CliRunner().invoke(orchestree, ["simulate", *arguments])


def simulate_apart(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the command in a process of its own."""
    return subprocess.run(
        [*TOOL, "simulate", *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def test_it_shows_what_would_become_of_a_tree_and_starts_nothing(folder: Path) -> None:
    done = simulate("app.py", *FALLS)
    assert done.exit_code == 0
    assert done.stdout.startswith("Simulated 3 min 11 s of 1d with seed 0:\n\n        |0  ")
    assert done.stdout.endswith(
        "The tree fell after 3 min 11 s: the root supervisor gave up, worker was one restart too many "
        "(max_restarts 3 in 5s).\n"
    )
    assert not (folder / "it-ran").exists()


def test_without_a_terminal_a_line_of_the_chart_has_80_characters_and_no_colours() -> None:
    text = simulate("app.py", *FALLS).stdout
    assert max(map(len, text.split("\n\n")[1].splitlines())) == 80
    assert "\x1b" not in text


def test_the_width_of_the_chart_can_be_set() -> None:
    text = simulate("app.py", *FALLS, "--width", "50").stdout
    assert max(map(len, text.split("\n\n")[1].splitlines())) == 50


def test_what_the_file_prints_goes_to_stderr_and_its_arguments_arrive() -> None:
    done = simulate("app.py", "--json", "--", "--fast", "now")
    assert "loading ['--fast', 'now']" in done.stderr
    assert all(line.startswith("{") for line in done.stdout.splitlines())


def test_json_prints_the_events_one_object_a_line() -> None:
    events = [json.loads(line) for line in simulate("app.py", *FALLS, "--json").stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "orchestrator_stopped"
    assert (events[-1]["monotonic"], events[-1]["data"]["exit_code"]) == (191.0, 70)


@pytest.mark.slow
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_two_runs_with_one_seed_print_the_same_bytes(form: list[str]) -> None:
    asked = ("app.py", "--fault", "/: crash about every 1h", "--until", "24h", *form)
    first, again, other = (simulate_apart(*asked, "--seed", seed).stdout for seed in ("42", "42", "43"))
    assert first == again
    assert len(first) > 500
    assert first != other


@pytest.mark.slow
def test_a_reader_that_has_read_enough_is_no_error_to_speak_of() -> None:
    asked = ("app.py", "--fault", "worker: crash every 10m", "--until", "30d", "--json")
    with subprocess.Popen([*TOOL, "simulate", *asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"seq":1,')
        process.stdout.close()
        assert process.stderr.read() == b"loading []\n"
        assert process.wait(DEADLINE_S) == 1


@pytest.mark.slow
@pytest.mark.parametrize("text", [TREE, RUNS_ITSELF], ids=["made only", "runs itself"])
def test_a_full_disk_is_one_line(folder: Path, text: str) -> None:
    (folder / "app.py").write_text(text)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*TOOL, "simulate", "app.py"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S
        )
    assert (done.returncode, done.stderr) == (
        1,
        "loading []\nError: cannot write to stdout: no space left on device\n",
    )


@pytest.mark.slow
def test_ctrl_c_ends_it_without_a_word(folder: Path) -> None:
    (folder / "app.py").write_text(TREE + "print('loaded', flush=True)\nimport signal\nsignal.raise_signal(2)\n")
    done = simulate_apart("app.py")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "loading []\nloaded\n")


@pytest.mark.slow
def test_a_script_that_runs_its_tree_itself_is_used_there_and_then_and_never_gets_to_its_end(folder: Path) -> None:
    (folder / "app.py").write_text(RUNS_ITSELF)
    done = simulate_apart("app.py", *FALLS)
    assert (done.returncode, done.stderr) == (0, "loading []\n")
    assert done.stdout.startswith("Simulated 3 min 11 s of 1d")
    assert not (folder / "it-ran").exists()
    assert not (folder / "it-ended").exists()


@pytest.mark.slow
def test_a_mistake_found_inside_such_a_script_is_not_for_the_script_to_catch(folder: Path) -> None:
    (folder / "app.py").write_text(RUNS_ITSELF)
    done = simulate_apart("app.py", "--fault", "worke: crash every 7s")
    assert (done.returncode, done.stdout) == (78, "")
    assert "did you mean 'worker'?" in done.stderr
    assert "caught" not in done.stderr


def test_settings_from_outside_hold_in_the_simulation() -> None:
    done = simulate("app.py", *FALLS, "--set", "max_restarts=1000")
    assert "Ran to the end (1d)" in done.stdout


def test_a_wrong_setting_is_refused() -> None:
    done = simulate("app.py", "--set", "agents.worker.restart=often")
    assert (done.exit_code, done.stdout) == (78, "")
    assert "restart='often'" in done.stderr


def test_faults_come_from_a_file_too(folder: Path) -> None:
    (folder / "faults.txt").write_text("# an outage\n\nworker: down from 10m to 20m  # and its end\n")
    done = simulate("app.py", "--faults", "faults.txt")
    assert "The tree fell after 10 min" in done.stdout


def test_a_wrong_fault_in_a_file_is_named_with_its_line(folder: Path) -> None:
    (folder / "faults.txt").write_text("# an outage\nworker: dawn from 10m\n")
    done = simulate("app.py", "--faults", "faults.txt")
    assert done.exit_code == 2
    assert "Error: faults.txt:2: fault 'worker: dawn from 10m': " in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x7fELF\x00\xff", "'--faults': faults.txt: is no text (UTF-8); right is, for example, a line such as"),
        (None, "'--faults': File 'faults.txt' does not exist"),
    ],
)
def test_a_file_that_holds_no_lines_is_refused(folder: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (folder / "faults.txt").write_bytes(content)
    done = simulate("app.py", "--faults", "faults.txt")
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_file_from_another_system_is_read_as_it_is_meant(folder: Path) -> None:
    (folder / "faults.txt").write_bytes(b"\xef\xbb\xbfworker: crash at 1s # first\r\n\r\nworker: crash at 2s\r\n")
    done = simulate("app.py", "--faults", "faults.txt", "--until", "10s")
    assert done.exit_code == 0
    assert "never happened" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--fault", "worker: crush every 7s"], 2, "right is, for example, 'worker: crash every 7s'"),
        (["--fault", "worker"], 2, "right is, for example"),
        (["--faults", "none.txt"], 2, "'none.txt' does not exist"),
        (["--until", "soon"], 2, "'--until': 'soon': must be above 0 seconds: a number, or a duration such as '24h'"),
        (["--until", "101w0d99999d"], 2, "must be at most 36500d, which is 100 years"),
        (["--seed", "x"], 2, "'--seed': 'x': must be a whole number"),
        (["--seed", "1.5"], 2, "'--seed': '1.5': must be a whole number"),
        (["--max-events", "0"], 2, "'--max-events': '0': must be a whole number, 1 or more"),
        (["--max-events", ""], 2, "'--max-events': '': must be a whole number, 1 or more"),
        (["--width", "39"], 2, "'--width': '39': must be a whole number, 40 to 1,000"),
        (["--width", "9999999999999"], 2, "'--width': '9999999999999': must be a whole number, 40 to 1,000"),
        (
            ["--fault", "worker: crash with KILL at 1s"],
            2,
            "exception='KILL': must be the name of a class (did you mean",
        ),
        (["--fault", "worker: crash with exit 78 at 1s"], 2, "'78': must be 'code'"),
        (["--until", "0"], 2, "above 0"),
        (["--fault", "worke: crash at 1s"], 78, "(did you mean 'worker'?)"),
        (
            ["--fault", "worker: lost at 5s"],
            78,
            "cannot happen to 'worker': executor='thread', and cause='lost' happens to process and async agents only",
        ),
    ],
)
def test_a_mistake_is_one_error_that_says_what_is_right(arguments: list[str], code: int, said: str) -> None:
    done = simulate("app.py", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_target_that_is_not_there_is_refused() -> None:
    done = simulate("ap.py")
    assert (done.exit_code, done.stderr) == (78, "Error: ap.py: no such file (did you mean 'app.py'?)\n")


def test_a_simulation_without_an_end_is_stopped_and_says_what_to_do() -> None:
    done = simulate("app.py", "--fault", "worker: crash every 10s", "--until", "30d", "--max-events", "200")
    assert done.exit_code == 1
    assert "Stopped by max_events after " in done.stdout
    assert "Error: stopped by --max-events 200 after " in done.stderr
    assert "ask for less (--until), or allow more (--max-events)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 0),
        (["--fault", "worker: crash every 1h"], 0),
        (FALLS, 1),
        (["--fault", "api: crash with exit code 78 at 10s"], 1),
        (["--fault", "worker: crash at 10s", "--set", "agents.worker.restart=temporary"], 1),
        (["--fault", "worker: down from 10s"], 1),
        (["--fault", "worker: slow start forever", "--set", "agents.worker.start_timeout=null"], 1),
        (["--fault", "worker: hang at 3m"], 1),
        (["--fault", "worker: crash at 2h"], 1),
    ],
    ids=["nothing happens", "comes back", "falls", "parks", "fails", "down", "starts", "hangs", "never happens"],
)
def test_check_makes_the_exit_code_1_unless_all_is_well(arguments: tuple[str, ...], code: int) -> None:
    assert simulate("app.py", *arguments, "--check").exit_code == code
    assert simulate("app.py", *arguments).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "raise SystemExit(tree.simple_join())\n"], ids=["made only", "runs itself"])
def test_a_target_that_leaves_a_thread_running_is_refused_and_the_command_ends(folder: Path, end: str) -> None:
    (folder / "app.py").write_text(LEAVES_A_THREAD + end)
    done = simulate_apart("app.py")
    assert (done.returncode, done.stdout) == (78, "")
    error = done.stderr.removeprefix("loading []\n")
    assert error.startswith("Error: app.py: starts work when it is loaded: leaves thread 'poller' (app.py:")
    assert error.count("\n") == 1
    assert 'below `if __name__ == "__main__":`' in error


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "raise SystemExit(tree.simple_join())\n"], ids=["made only", "runs itself"])
def test_a_target_that_leaves_a_process_running_is_refused_and_the_process_is_ended(folder: Path, end: str) -> None:
    (folder / "app.py").write_text(LEAVES_A_PROCESS + end)
    done = simulate_apart("app.py")
    assert (done.returncode, done.stdout) == (78, "")
    error = done.stderr.removeprefix("loading []\n")
    assert error.startswith("Error: app.py: starts work when it is loaded: leaves process '")
    pid = int(error.partition("(pid ")[2].partition(")")[0])
    if psutil.pid_exists(pid):  # its new parent may not have looked yet
        psutil.Process(pid).wait(DEADLINE_S)


@pytest.mark.slow
def test_a_bad_target_with_a_thread_does_not_keep_the_command_alive(folder: Path) -> None:
    (folder / "app.py").write_text(LEAVES_A_THREAD + "no_such_name\n")
    done = simulate_apart("app.py")
    assert (done.returncode, done.stdout) == (78, "")
    assert "NameError" in done.stderr


@pytest.mark.slow
def test_a_file_whose_threads_have_ended_when_it_is_loaded_is_fine(folder: Path) -> None:
    (folder / "app.py").write_text(
        TREE + "thread = threading.Thread(target=time.perf_counter)\nthread.start()\nthread.join()\n"
        "subprocess.run([sys.executable, '-c', ''], check=True)\n"
        "import multiprocessing\nlock = multiprocessing.get_context('spawn').Lock()\n"
    )
    assert simulate_apart("app.py").returncode == 0


def test_the_shell_completes_the_names_of_files() -> None:
    environment = {"_ORCHESTREE_COMPLETE": "bash_complete", "COMP_WORDS": "orchestree simulate ap", "COMP_CWORD": "2"}
    done = CliRunner().invoke(orchestree, [], prog_name="orchestree", env=os.environ | environment)
    assert done.stdout == "file,ap\n"


def test_a_pool_of_threads_that_has_gone_again_is_no_work_that_was_left_running(folder: Path) -> None:
    made = TREE.replace("tree = Orch", "def build():\n    tree = Orch").replace("\ntree.reg", "\n    tree.reg")
    pool = "    from concurrent.futures import ThreadPoolExecutor\n    ThreadPoolExecutor().submit(int).result()\n"
    (folder / "app.py").write_text(f"{made}{pool}    return tree\n")
    for _ in range(5):
        done = simulate("app.py:build", "--until", "1s")
        assert (done.exit_code, done.stderr.replace("loading []\n", "")) == (0, "")
