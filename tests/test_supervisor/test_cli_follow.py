"""`events -f` and `logs -f`, end to end: both the orchestrator and the command are processes of their own."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from orchestree_testing.controlled import Controlled, controlled
from orchestree_testing.host import DEADLINE_S
from orchestree_testing.scripts import Program

pytestmark = pytest.mark.slow

TREE = """
farm = tree()
farm.register_agent(Idle, "site")
farm.register_agent(Talker, "prober")
farm.add_supervisor("ingest").register_agent(Idle, "collector")
serve(farm)
"""


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Controlled]:
    with controlled(tmp_path, TREE) as running:
        yield running


def read_until(program: Program, part: str) -> str:
    """Return the first line of output with `part`; the test's own deadline ends a wait in vain."""
    assert program.stdout
    for line in program.stdout:
        if part in line:
            return line
    raise AssertionError(f"no {part!r}, but: {program.communicate()}")


def test_followed_events_go_on_with_new_ones_until_ctrl_c_ends_them_without_a_word(farm: Controlled) -> None:
    with farm.start_cli("events", "-f", "--path", "site") as following:
        read_until(following, "READY    site")
        farm.cli("stop", "site")
        read_until(following, "STOPPED  site")
        following.send_signal(signal.SIGINT)
        _, errors = following.communicate(timeout=DEADLINE_S)
    assert (following.returncode, errors) == (130, "")


def test_the_end_of_the_orchestrator_ends_the_stream_with_exit_code_0(farm: Controlled) -> None:
    with farm.start_cli("events", "-f", "--json") as following:
        read_until(following, "orchestrator_started")
        farm.cli("stop", "site")
        read_until(following, "agent_terminated")
        farm.cli("shutdown")
        output, errors = following.communicate(timeout=DEADLINE_S)
    assert (following.returncode, errors) == (0, "")
    assert json.loads(output.splitlines()[-1])["type"] == "orchestrator_stopped"


@pytest.mark.parametrize("command", [["events", "-f"], ["events", "-f", "--since", "0"], ["logs", "-f", "/"]])
def test_a_killed_orchestrator_is_a_lost_connection(farm: Controlled, command: list[str]) -> None:
    with farm.start_cli(*command) as following:
        read_until(following, "READY    site")
        farm.cli("stop", "site")
        read_until(following, "STOPPED  site")
        farm.end()
        _, errors = following.communicate(timeout=DEADLINE_S)
    assert following.returncode == 3
    assert errors.startswith("Error: connection lost")
    assert errors.count("\n") == 1


def test_the_end_of_the_orchestrator_ends_followed_logs_with_exit_code_0(farm: Controlled) -> None:
    with farm.start_cli("logs", "-f", "prober") as following:
        read_until(following, "prober#1  first 1")
        farm.cli("shutdown")
        _, errors = following.communicate(timeout=DEADLINE_S)
    assert (following.returncode, errors) == (0, "")


def test_followed_events_have_every_number_once(farm: Controlled) -> None:
    with farm.start_cli("events", "-f", "--json", "--since", "0") as following:
        for _ in range(5):
            farm.cli("restart", "site", "--wait")
        farm.cli("shutdown")
        output, _ = following.communicate(timeout=DEADLINE_S)
    numbers = [json.loads(line)["seq"] for line in output.splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_followed_logs_begin_with_the_last_lines_and_go_on(farm: Controlled) -> None:
    with farm.start_cli("logs", "-f", "prober") as following:
        read_until(following, "prober#1  first 1")
        farm.cli("restart", "prober", "--wait")
        read_until(following, "prober#2  first 2")
        following.send_signal(signal.SIGINT)
        _, errors = following.communicate(timeout=DEADLINE_S)
    assert (following.returncode, errors) == (130, "")


def test_followed_logs_as_json_are_one_object_a_line(farm: Controlled) -> None:
    with farm.start_cli("logs", "-f", "--json", "prober") as following:
        line = json.loads(read_until(following, "first 1"))
        farm.cli("shutdown")
        following.communicate(timeout=DEADLINE_S)
    assert following.returncode == 0
    assert {"time", "level", "path", "incarnation", "source", "text"} <= line.keys()


def test_a_reader_that_closes_its_pipe_ends_the_stream_quietly(farm: Controlled) -> None:
    with farm.start_cli("events", "-f") as following:
        read_until(following, "READY    site")
        assert following.stdout
        following.stdout.close()
        farm.cli("restart", "site")
        assert following.stderr
        assert following.stderr.read() == ""
        following.wait(DEADLINE_S)


def test_following_an_unknown_path_fails_at_once(farm: Controlled) -> None:
    done = farm.cli("logs", "-f", "probe", expect=1)
    assert "did you mean 'prober'?" in done.stderr


def test_a_history_file_is_read_without_any_orchestrator(tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        with controlled(tmp_path, TREE.replace("tree()", "tree(history='events.db')")) as farm:
            runs.append(farm.json("ls")[0]["run"])
            farm.cli("shutdown", "--wait")
            assert farm.program.wait(DEADLINE_S) == 0
    events = farm.json("history", "--file", str(tmp_path / "events.db"), "-n", "1000")
    assert list(dict.fromkeys(event["run"] for event in events)) == runs
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    first = farm.json("history", "--file", str(tmp_path / "events.db"), "--run", runs[0], "--path", "site")
    assert {event["path"] for event in first} == {"site"}
    below = farm.json("history", "--file", str(tmp_path / "events.db"), "--path", "/ingest/")
    assert {event["path"] for event in below} == {"ingest", "ingest/collector"}
    ready = farm.json("history", "--file", str(tmp_path / "events.db"), "--type", "AGENT_READY", "--since", "3")
    assert {event["type"] for event in ready} == {"agent_ready"}
    wrong = farm.cli("history", "--file", str(tmp_path / "events.db"), "--type", "agent_red", expect=2).stderr
    assert "there is no type of event 'agent_red' (did you mean 'agent_ready'?)" in wrong
    nobody = farm.cli("history", "--file", str(tmp_path / "events.db"), "--path", "nosuch", "--run", "xx")
    assert (nobody.stdout, nobody.stderr) == ("", "no events of 'nosuch'\nno events of run 'xx'\n")
    assert "READY    site" in farm.cli("history", "--file", str(tmp_path / "events.db")).stdout


def test_events_of_several_runs_show_which_run_each_belongs_to(tmp_path: Path) -> None:
    for _ in range(2):
        with controlled(tmp_path, TREE.replace("tree()", "tree(history='events.db')")) as farm:
            run = farm.json("ls")[0]["run"]
            lines = farm.cli("events", "-n", "1000").stdout.splitlines()
            last = farm.cli("events", "-n", "1").stdout
            farm.cli("shutdown", "--wait")
            assert farm.program.wait(DEADLINE_S) == 0
    assert len({line.split()[0] for line in lines}) == 2
    assert lines[-1].startswith(run)
    assert run not in last


@pytest.mark.parametrize("option", [["--name", "farm"], ["--socket", "s"]])
def test_a_history_file_has_no_orchestrator(tmp_path: Path, option: list[str]) -> None:
    cli = Controlled(None, tmp_path, "farm").cli  # type: ignore[arg-type]
    assert "--file needs no orchestrator" in cli("history", "--file", "events.db", *option, expect=2).stderr


@pytest.mark.parametrize("content", [None, b"this is no database, and never was one" * 100])
def test_a_history_file_that_cannot_be_read_fails_with_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "events.db"
    if content is not None:
        path.write_bytes(content)
    done = Controlled(None, tmp_path, "farm").cli("history", "--file", str(path), expect=1)  # type: ignore[arg-type]
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr
    assert content is not None or not path.exists()
    assert content is None or done.stderr == f"Error: {path} is not a history file\n"


def test_a_folder_or_a_database_of_others_is_no_history_file(tmp_path: Path) -> None:
    cli = Controlled(None, tmp_path, "farm").cli  # type: ignore[arg-type]
    folder = cli("history", "--file", str(tmp_path), expect=1)
    assert folder.stderr == f"Error: {tmp_path} is a folder, not a history file\n"
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    assert cli("history", "--file", str(path), expect=1).stderr == f"Error: {path} is not a history file\n"


@pytest.mark.parametrize("since", ["10m", "2026-11-22T14:58:01"])
def test_two_times_to_begin_at_are_a_wrong_option(tmp_path: Path, since: str) -> None:
    history = ("history", "--file", str(tmp_path / "events.db"), "--after", "5m", "--since")
    cli = Controlled(None, tmp_path, "farm").cli  # type: ignore[arg-type]
    assert f"--since {since} and --after are both a time; use --after alone" in cli(*history, since, expect=2).stderr
    assert "no history file" in cli(*history, "7", expect=1).stderr  # a number goes with a time
