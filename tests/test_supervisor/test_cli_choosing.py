"""Which orchestrator a command talks to. The sockets are real, and nobody ever answers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from orchestree_testing.host import DEADLINE_S

from orchestree.supervisor.control.command_line.all_commands import orchestree
from orchestree.supervisor.control.command_line.choosing import Choice, complete_name, running
from orchestree.supervisor.control.command_line.client import Client, Refused, Unreachable
from orchestree.supervisor.control.places import runtime_folder

Listen = Callable[[str], Path]


@pytest.fixture
def listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listen]:
    """Opens the socket of an orchestrator of this name."""
    monkeypatch.delenv("ORCHESTREE_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "orchestree"
    folder.mkdir(0o700)
    opened = []

    def listening(name: str) -> Path:
        server = socket.socket(socket.AF_UNIX)
        opened.append(server)
        monkeypatch.chdir(folder)  # a short address
        server.bind(f"{name}.sock")
        server.listen()
        return folder / f"{name}.sock"

    yield listening
    for server in opened:
        server.close()


def test_the_only_one_needs_no_flag(listen: Listen) -> None:
    only = listen("farm")
    assert Choice().client().socket == str(only)


def test_a_name_chooses_among_several(listen: Listen) -> None:
    sockets = {name: listen(name) for name in ("farm", "mill")}
    assert Choice(name="mill").client().socket == str(sockets["mill"])
    assert [place.name for place in running()] == ["farm", "mill"]


def test_a_socket_is_taken_as_it_is() -> None:
    assert Choice(socket="anywhere").client().socket == "anywhere"


def test_several_are_listed_and_it_is_a_usage_error(listen: Listen) -> None:
    listen("farm")
    listen("mill")
    done = CliRunner().invoke(orchestree, ["ps"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--name farm" in done.stderr
    assert "--name mill" in done.stderr
    assert "ORCHESTREE_SOCKET" in done.stderr
    with pytest.raises(click.UsageError):
        Choice().client()


@pytest.mark.parametrize("arguments", [["ps"], ["tree"], ["stop", "x"], ["events", "-f"], ["shutdown", "--wait"]])
def test_without_any_the_exit_code_is_3_and_one_line_says_so(listen: Listen, arguments: list[str]) -> None:
    done = CliRunner().invoke(orchestree, arguments)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith(f"Error: no orchestrator is running in {runtime_folder()}: ")
    assert done.stderr.count("\n") == 1
    assert "orchestree run" in done.stderr
    assert "--socket PATH" in done.stderr


def test_a_list_of_none_is_empty_and_says_where_it_looked(listen: Listen) -> None:
    done = CliRunner().invoke(orchestree, ["ls"])
    assert (done.exit_code, done.stdout.split()) == (0, ["NAME", "STATUS", "PID", "UPTIME", "METRICS", "SOCKET"])
    assert done.stderr.startswith(f"no orchestrator is running in {runtime_folder()}: ")
    done = CliRunner().invoke(orchestree, ["ls", "--json"])
    assert (done.exit_code, done.stdout) == (0, "[]\n")
    assert done.stderr.startswith("no orchestrator is running")


def test_a_wrong_name_gets_a_suggestion(listen: Listen) -> None:
    listen("farm")
    done = CliRunner().invoke(orchestree, ["ps", "--name", "frm"])
    assert done.exit_code == 3
    assert (
        done.stderr == f"Error: no orchestrator named 'frm' is running in {runtime_folder()} (did you mean 'farm'?)\n"
    )


@pytest.mark.parametrize("is_left_behind", [False, True])
def test_a_socket_that_nobody_listens_at_is_exit_code_3(tmp_path: Path, is_left_behind: bool) -> None:
    path = tmp_path / "dead.sock"
    if is_left_behind:
        path.touch()
    done = CliRunner().invoke(orchestree, ["ps", "--socket", str(path)])
    assert done.exit_code == 3
    assert done.stderr.startswith(f"Error: no orchestrator answers at {path}: ")
    assert done.stderr.count("\n") == 1


def test_the_environment_names_a_socket_and_an_option_is_stronger(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTREE_SOCKET", "/nowhere/of/environment")
    assert "/nowhere/of/environment" in CliRunner().invoke(orchestree, ["ps"]).stderr
    assert "/nowhere/of/option" in CliRunner().invoke(orchestree, ["ps", "--socket", "/nowhere/of/option"]).stderr
    assert "no orchestrator named 'farm'" in CliRunner().invoke(orchestree, ["ps", "--name", "farm"]).stderr


def test_name_and_socket_together_are_a_usage_error() -> None:
    done = CliRunner().invoke(orchestree, ["ps", "--name", "a", "--socket", "b"])
    assert done.exit_code == 2
    assert "not both" in done.stderr


def test_a_folder_that_others_may_write_to_is_not_trusted(listen: Listen, tmp_path: Path) -> None:
    (tmp_path / "orchestree").chmod(0o777)
    with pytest.raises(Refused):
        running()
    done = CliRunner().invoke(orchestree, ["ls"])
    assert done.exit_code == 4
    assert "chmod 700" in done.stderr


def test_names_are_completed(listen: Listen) -> None:
    listen("farm")
    listen("mill")
    context = click.Context(click.Command("ps"))
    assert [item.value for item in complete_name(context, click.Argument(["x"]), "f")] == ["farm"]


def test_one_that_never_answers_is_given_up(listen: Listen) -> None:
    with pytest.raises(Unreachable, match="gave no answer: timed out"):
        Client(str(listen("frozen")), answer_s=0.05).get("/health")


def test_a_full_queue_is_waited_for(listen: Listen) -> None:
    busy = listen("busy")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as other:
        busy.unlink()
        server.bind(busy.name)
        server.listen(0)
        other.connect(busy.name)  # which fills it
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(Client(str(busy)).ask, "GET", "/health")
            with server.accept()[0]:
                asked.result(DEADLINE_S).close()


def test_an_unknown_command_gets_a_suggestion() -> None:
    done = CliRunner().invoke(orchestree, ["statz"])
    assert done.exit_code == 2
    assert "No such command 'statz'. (did you mean 'stats'?)" in done.stderr
