"""`orchestree replay`, as a person calls it the morning after."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from orchestree import SpecError, replay as replayed
from orchestree.supervisor.control.command_line.all_commands import orchestree
from orchestree.supervisor.control.command_line.human import clock
from orchestree.supervisor.events import Event, EventType
from orchestree.supervisor.history import EventQuery
from orchestree.supervisor.history_queries import HistoryReader

TREE: Final = """
from tenacity import stop_after_attempt, wait_fixed
from orchestree import Agent, Backoff, Orchestrator, RunMode

class Worker(Agent):
    def execute(self):
        if self.incarnation < 9:
            raise ValueError("no such sensor")

class Idle(Agent):
    def execute(self): ...

tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY, control=False, history="history"))
tree.register_agent(Worker, "worker", backoff=Backoff(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
tree.register_agent(Idle, "idle")
"""
RUN: Final = TREE + "\nif __name__ == '__main__':\n    tree.simple_join()\n"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tree and the history of three runs of it, also as an earlier version wrote it, cut, and torn."""
    folder = tmp_path_factory.mktemp("replay")
    (folder / "app.py").write_text(RUN)
    for _ in range(3):
        subprocess.run([sys.executable, "app.py"], cwd=folder, timeout=30, capture_output=True, check=False)
    with closing(sqlite3.connect(folder / "history")) as now, closing(sqlite3.connect(folder / "earlier")) as earlier:
        now.backup(earlier)
        earlier.execute("UPDATE events SET data = json_remove(data, '$.policies', '$.settings', '$.policy')")
        earlier.commit()
    with closing(sqlite3.connect(folder / "history")) as now, closing(sqlite3.connect(folder / "cut")) as cut:
        now.backup(cut)
        cut.execute("DELETE FROM events WHERE seq < (SELECT max(seq) - 3 FROM events)")
        cut.commit()
    with closing(sqlite3.connect(folder / "foreign")) as foreign:
        foreign.execute("CREATE TABLE mine (x)")
    (folder / "torn").write_bytes((folder / "history").read_bytes()[:5000])
    return folder


@pytest.fixture(autouse=True)
def folder(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That folder, as the current one; what a command does to this process is undone."""
    monkeypatch.chdir(recorded)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    yield recorded
    sys.modules.pop("__orchestree_main__", None)


def replay(*words: str) -> Result:
    return CliRunner().invoke(orchestree, ["replay", *words])


def crashes(run: int = -1, kind: EventType = EventType.AGENT_CRASHED) -> list[Event]:
    events = HistoryReader("history").query(EventQuery(types=frozenset({kind}), limit=None))
    runs = list(dict.fromkeys(event.run for event in events))
    return [event for event in events if event.run == runs[run]]


def test_it_tells_why_an_agent_is_down() -> None:
    done = replay("history", "worker")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].endswith(f"parked since {clock(crashes(kind=EventType.AGENT_PARKED)[-1].time)}")
    assert lines[1].startswith(
        f"worker ended at {clock(crashes()[-1].time)}, event {crashes()[-1].seq}, incarnation 3, after "
    )
    assert lines[1].endswith("of being ready: ValueError: no such sensor (abnormal (exception))")
    assert lines[-1] == "decided: parked: failed 3 times in a row"


def test_it_tells_of_any_moment_of_any_run() -> None:
    first = crashes(0)
    done = replay("history", "worker", "--run", first[0].run, "--at", clock(first[1].time + 0.001))
    assert done.exit_code == 0
    assert f"event {first[1].seq}, incarnation 2" in done.stdout
    assert re.match(r"decided: restarted after 0\.0\d+ ?s \(jitter 0\.25, drawn 0\.", done.stdout.splitlines()[-1])


def test_without_a_path_it_prints_a_table_of_all_decisions() -> None:
    done = replay("history")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert done.exit_code == 0
    assert rows[0] == ["EVENT", "TIME", "PATH", "ENDED", "DECIDED"]
    assert sorted(row[3] for row in rows[1:]) == ["idle", "worker", "worker", "worker"]
    assert "parked: failed 3 times in a row" in done.stdout


def test_json_has_the_inputs_of_each_decision() -> None:
    found = json.loads(replay("history", "--json").stdout)
    assert (found["run"], found["divergence"], found["assumptions"]) == (crashes()[0].run, None, [])
    last = [one for one in found["decisions"] if one["path"] == "worker"][-1]
    assert (last["outcome"], last["why"], last["inputs"]["failures"]) == ("parked", "failed 3 times in a row", 2)
    assert last["reason"] == {"kind": "abnormal", "cause": "exception"}


def test_json_of_a_path_has_values_and_the_lines() -> None:
    decisions = json.loads(replay("history", "--json").stdout)["decisions"]
    end = crashes(kind=EventType.ORCHESTRATOR_STOPPED)[-1].time
    found = json.loads(replay("history", "worker", "--json").stdout)
    assert found["why"] == replay("history", "worker").stdout.splitlines()
    assert (found["run"], found["path"], found["state"]) == (crashes()[0].run, "worker", "parked")
    assert (found["asked_at"], found["told_at"]) == (end, end)
    assert found["since"] == crashes(kind=EventType.AGENT_PARKED)[-1].time
    assert found["decision"] == [one for one in decisions if one["path"] == "worker"][-1]
    assert (found["earlier"], found["divergence"], found["assumptions"]) == (None, None, [])
    root = json.loads(replay("history", "/", "--json").stdout)
    assert (root["path"], root["state"], root["decision"], root["earlier"]) == ("", "stopped", None, None)


def test_a_moment_before_the_run_is_one_error_that_names_when_it_began_and_the_run_of_then() -> None:
    first, second, latest = (crashes(run, EventType.ORCHESTRATOR_STARTED)[0] for run in range(3))
    began = f"Error: --at: the run begins at {clock(latest.time)}, and {{}} is before that; "
    for at, hint in [
        ("2001-01-01 03:12:00.000", "history holds nothing from before then\n"),
        (clock(first.time + 0.01), f"--run {first.run} is the latest that had begun by then\n"),
        (clock(second.time + 0.01), f"--run {second.run} is the latest that had begun by then\n"),
    ]:
        for tree in ((), ("--tree", "app.py")):
            done = replay("history", "worker", "--run", latest.run, "--at", at, *tree)
            assert (done.exit_code, done.stdout, done.stderr) == (1, "", began.format(at) + hint)


def test_a_moment_chooses_the_run_that_had_begun_last_by_then() -> None:
    for run in range(3):
        moment = clock(crashes(run)[0].time + 0.001)
        chosen = replay("history", "worker", "--at", moment, "--json")
        assert json.loads(chosen.stdout)["run"] == crashes(run)[0].run
    before_all = replay("history", "worker", "--at", "2001-01-01")
    assert (before_all.exit_code, before_all.stdout) == (1, "")
    assert before_all.stderr.endswith("history holds nothing from before then\n")


def test_where_another_tree_would_have_decided_otherwise_is_said_once() -> None:
    done = replay("history", "worker", "--tree", "app.py", "--set", "agents.worker.backoff=null")
    assert done.exit_code == 1
    assert done.output.count("replayed, the core decides") == 1


def test_a_run_whose_log_has_no_end_is_not_told_as_if_it_were_known_how_it_goes_on() -> None:
    with closing(sqlite3.connect("history")) as whole, closing(sqlite3.connect("killed")) as killed:
        whole.backup(killed)
        killed.execute("DELETE FROM events WHERE seq > ?", (crashes()[-1].seq,))
        killed.commit()
    last = "the log tells no end of the run: the program still runs, or it was killed"
    assert replay("killed", "worker").stdout.splitlines()[-1] == last
    assert replay("killed", "worker", "--at", clock(crashes()[0].time)).stdout.count(last) == 0
    assert replay("history", "worker").stdout.count(last) == 0


@pytest.mark.parametrize("at", ["5000-01-01", "9999-12-31", "0001-01-01"])
def test_a_moment_that_no_calendar_shows_is_refused_as_it_was_written(at: str) -> None:
    done = replay("history", "worker", "--at", at)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"'{at}' is too far away: the years 69 to 3871 can be told" in done.stderr


# In Python


@pytest.mark.parametrize("kind", [str, Path])
def test_a_history_file_is_replayed_in_python(kind: type[str] | type[Path]) -> None:
    latest, first = replayed(kind("history")), replayed(kind("history"), run=crashes(0)[0].run)
    assert [found.events[0].run for found in (latest, first)] == [crashes()[0].run, crashes(0)[0].run]
    assert latest.why("worker").splitlines() == replay("history", "worker").stdout.splitlines()


@pytest.mark.parametrize(
    ("file", "run", "said"),
    [
        ("none", None, "there is no history file none"),
        ("app.py", None, "app.py is not a history file"),
        (".", None, ". is a folder, not a history file"),
        ("foreign", None, "foreign is not a history file"),
        ("torn", None, "history file torn: database disk image is malformed$"),
        ("history", "x", "history holds no events of run 'x': `orchestree history --file history` shows the runs"),
        ("cut", None, r"cut: event \d+: is .*, not orchestrator_started"),
        ([], "x", "run='x': chooses one of the runs in a history file: give the path of that, not events"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line_in_python(file: Any, run: str | None, said: str) -> None:
    with pytest.raises(SpecError, match=f"^{said}") as raised:
        replayed(file, run=run)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("history", ["history", "earlier"])
def test_with_the_tree_it_tells_the_same(history: str) -> None:
    done = replay(history, "worker", "--tree", "app.py")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == replay("history", "worker").stdout


def test_policies_of_the_tree_can_be_set_from_outside() -> None:
    done = replay("history", "worker", "x", "--tree", "app.py", "--set", "agents.worker.restart=temporary")
    assert done.exit_code == 1
    assert done.stdout.endswith("; replayed, the core decides restart=temporary where the log has transient\n")


def test_another_policy_is_told_and_the_exit_code_is_1(folder: Path) -> None:
    (folder / "other.py").write_text(TREE.replace("stop_after_attempt(3)", "stop_after_attempt(2)"))
    done = replay("history", "worker", "--tree", "other.py")
    assert done.exit_code == 1
    assert "decision=park where the log has restart" in done.stdout.splitlines()[-1]
    assert json.loads(replay("history", "--tree", "other.py", "--json").stdout)["divergence"]["event"] > 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "Error: Missing argument 'FILE'."),
        (("none",), 1, "Error: there is no history file none"),
        (("app.py",), 1, "Error: app.py is not a history file"),
        (("history", "--run", "x"), 1, "Error: history holds no events of run 'x'"),
        (("history", "--at", "noon"), 2, "'noon' is neither so long ago"),
        (("history", "--at", "1h"), 2, "--at needs a PATH"),
        (("history", "wroker"), 78, "Error: 'wroker': no such agent or supervisor in the log (did you mean 'worker'?)"),
        (("history", "wroker", "--tree", "app.py"), 78, "Error: 'wroker': no such agent or supervisor in the log"),
        (("history", "--tree", "no.py"), 78, "Error: no.py: no such file"),
        (("history", "worker", "app.py"), 2, "ARGUMENTS, --set and --config need a --tree"),
        (("history", "--set", "max_workers=1"), 2, "ARGUMENTS, --set and --config need a --tree"),
        (
            ("earlier",),
            1,
            "Error: earlier: the events are of an earlier version, and say nothing of policies: give the",
        ),
    ],
)
def test_what_is_wrong_is_one_line(words: tuple[str, ...], code: int, said: str) -> None:
    done = replay(*words)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr.splitlines()[-1]
