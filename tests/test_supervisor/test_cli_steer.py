"""The commands that change a running tree, end to end: the orchestrator is another process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from orchestree_testing.controlled import Controlled, controlled
from orchestree_testing.host import DEADLINE_S

from orchestree.supervisor.control.command_line.steer_commands import _as_input, _attached, _change, _failure, _seconds

TREE = """
class Broken(Agent):
    def setup(self):
        raise ValueError("bad sensor")
    def execute(self):
        pass

farm = tree({config})
farm.register_agent(Idle, "site")
farm.register_agent(Broken, "sensor", backoff=Backoff(stop=lambda state: True))
farm.register_agent(Slow, "slow", shutdown=300.0)
farm.register_agent(Deaf, "deaf", shutdown=0.05)
farm.add_supervisor("ingest").register_agent(Idle, "collector")
serve(farm)
"""


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Controlled]:
    with controlled(tmp_path, TREE.format(config="")) as running:
        yield running


def state(farm: Controlled, path: str) -> str:
    return str(farm.json("inspect", path)["state"])


@pytest.mark.slow
def test_stop_and_start_of_several_paths_answer_in_the_order_given(farm: Controlled) -> None:
    done = farm.cli("stop", "site", "ingest/collector", "--wait")
    assert done.stdout.splitlines() == ["site  stopped", "ingest/collector  stopped"]
    assert (state(farm, "site"), state(farm, "ingest/collector")) == ("stopped", "stopped")
    assert farm.cli("start", "ingest/collector", "site", "--wait", "20").stdout.splitlines() == [
        "ingest/collector  ready",
        "site  ready",
    ]


@pytest.mark.slow
def test_stop_of_a_stopped_one_and_start_of_a_running_one_change_nothing_and_succeed(farm: Controlled) -> None:
    (answer,) = farm.json("start", "site")
    assert (answer["changed"], answer["state"]) == (False, "ready")
    assert farm.cli("start", "site").stdout == "site  ready (nothing to do)\n"
    farm.cli("stop", "site", "--wait")
    (answer,) = farm.json("stop", "site", "--wait=5")
    assert (answer["changed"], answer["done"], answer["state"]) == (False, True, "stopped")


@pytest.mark.slow
def test_restart_begins_a_new_incarnation(farm: Controlled) -> None:
    farm.cli("restart", "site", "--wait")
    assert farm.json("inspect", "site")["incarnation"] == 2


@pytest.mark.slow
def test_the_path_of_a_supervisor_stands_for_all_below_it(farm: Controlled) -> None:
    assert farm.cli("stop", "ingest", "--wait").stdout == "ingest  stopped\n"
    assert state(farm, "ingest/collector") == "stopped"


@pytest.mark.slow
def test_without_wait_it_returns_as_soon_as_it_is_accepted(farm: Controlled) -> None:
    (answer,) = farm.json("stop", "slow")
    assert (answer["changed"], answer["done"], answer["pending"]) == (True, False, ["slow"])
    assert state(farm, "slow") == "stopping"


@pytest.mark.slow
def test_a_wait_that_runs_out_is_exit_code_5_and_the_stop_goes_on(farm: Controlled) -> None:
    done = farm.cli("stop", "slow", "--wait", "0.1", expect=5)
    assert done.stderr == "Error: stop slow: not done after 0.1s, it is stopping\n"
    assert state(farm, "slow") == "stopping"
    (farm.folder / "let-go").touch()
    farm.cli("stop", "slow", "--wait")
    assert state(farm, "slow") == "stopped"


@pytest.mark.slow
def test_a_long_wait_says_agent_by_agent_what_it_waits_for(farm: Controlled) -> None:
    with farm.start_cli("stop", "slow", "site", "--wait") as waiting:
        assert waiting.stderr
        line = waiting.stderr.readline()
        assert line.startswith("stop: ")
        assert line.endswith("s, waiting for slow (stopping)\n")
        (farm.folder / "let-go").touch()
        output, _ = waiting.communicate(timeout=DEADLINE_S)
    assert (waiting.returncode, output.splitlines()) == (0, ["slow  stopped", "site  stopped"])


@pytest.mark.slow
def test_ctrl_c_ends_the_waiting_without_a_word_and_the_stop_goes_on(farm: Controlled) -> None:
    with farm.start_cli("stop", "slow", "--wait") as waiting:
        assert waiting.stderr
        waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        output, errors = waiting.communicate(timeout=DEADLINE_S)
    assert (waiting.returncode, output, errors) == (130, "", "")
    assert state(farm, "slow") == "stopping"


@pytest.mark.slow
def test_one_wrong_path_among_several_fails_and_nothing_is_done(farm: Controlled) -> None:
    done = farm.cli("stop", "ingest", "--wait", "sit", "nosuch", expect=1)
    assert (done.stdout, done.stderr.count("\n")) == ("", 2)
    assert "did you mean 'site'?" in done.stderr
    assert state(farm, "ingest/collector") == "ready"


@pytest.mark.slow
def test_a_start_that_has_to_wait_says_for_what(tmp_path: Path) -> None:
    tree = """
farm = tree(max_workers=1)
farm.register_agent(Slow, "db", executor="process")
farm.register_agent(Idle, "host", depends_on=["db"])
serve(farm)
"""
    with controlled(tmp_path, tree) as farm:
        farm.cli("stop", "host", "--wait")
        farm.cli("stop", "db")
        assert farm.cli("start", "host", "--wait").stdout == "host  waiting (for db)\n"


@pytest.mark.parametrize(
    ("command", "state", "pending", "said"),
    [
        ("shutdown", "stopped", [], None),
        ("stop", "stopped", ["a"], None),
        ("stop", "stopping", ["a"], "stop a: not done after 0.0s, it is stopping"),
        ("start", "starting", ["a", "a/b"], "start a: not done after 0.0s, waits for a/b"),
    ],
)
def test_what_has_got_there_is_done_whatever_the_wait(
    command: str, state: str, pending: list[str], said: str | None
) -> None:
    answer = {"state": state, "changed": True, "done": False, "pending": pending}
    failure = _failure(command, "a", answer, 0.0)
    assert (failure and failure.message) == said


@pytest.mark.slow
def test_hundreds_of_paths_at_once_are_all_done(tmp_path: Path) -> None:
    many = "farm = tree()\nfor n in range(300):\n    farm.register_agent(IdleTask, f'a{n}')\nserve(farm)"
    with controlled(tmp_path, many) as farm:
        paths = farm.cli("ps", "-q").stdout.split()
        answers = farm.json("stop", *paths, "--wait")
        assert [(answer["path"], answer["state"]) for answer in answers] == [(path, "stopped") for path in paths]
        assert len(paths) == 300


@pytest.mark.slow
def test_an_agent_that_does_not_come_up_fails_the_waiting_start(farm: Controlled) -> None:
    done = farm.cli("start", "sensor", "--wait", expect=1)
    assert done.stderr.startswith("Error: start sensor: it is parked")


@pytest.mark.slow
def test_an_agent_that_cannot_be_stopped_fails_the_waiting_stop(farm: Controlled) -> None:
    done = farm.cli("stop", "deaf", "--wait", expect=1)
    assert done.stderr.startswith("Error: stop deaf: it is wedged")
    assert "deaf is wedged" in farm.cli("ps", "--check", expect=6).stderr


@pytest.mark.slow
def test_set_shows_what_was_and_what_is(farm: Controlled) -> None:
    done = farm.cli("set", "site", "restart=permanent", "shutdown=2.5", "watchdog=null")
    assert done.stdout.splitlines() == ["restart: transient -> permanent", "shutdown: 5.0 -> 2.5"]
    assert farm.cli("set", "site", "watchdog=30").stdout == "watchdog: null -> 30.0\n"
    assert farm.json("inspect", "site")["policy"]["shutdown"] == 2.5
    assert farm.cli("set", "site", "restart=permanent").stdout == "nothing to change\n"
    (change,) = farm.json("set", "ingest", "max_restarts=3")["changes"]
    assert (change["field"], change["old"], change["new"]) == ("max_restarts", "10", "3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"), [("restrat=permanent", "restart"), ("shutdown=soon", "shutdown"), ("restart=5", "restart")]
)
def test_what_cannot_be_set_fails_with_one_line(farm: Controlled, change: str, said: str) -> None:
    done = farm.cli("set", "site", change, expect=1)
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_value_is_json_or_else_text() -> None:
    texts = ["a=5", "a=null", 'a={"initial": 1}', "a=transient", "a=NaN", "a=b=c", "a="]
    values = [5, None, {"initial": 1}, "transient", "NaN", "b=c", ""]
    assert [_change(text) for text in texts] == [("a", value) for value in values]


def test_old_and_new_values_are_shown_as_they_are_given() -> None:
    texts = ["None", "True", "5.0", "'inherit'", "transient", "'"]
    assert [_as_input(text) for text in texts] == ["null", "true", "5.0", "inherit", "transient", "'"]


def test_the_orchestrator_is_asked_for_whole_seconds_if_they_are_whole() -> None:
    assert [repr(_seconds(wait)) for wait in (None, 3600.0, 0.0, 2.5)] == ["None", "3600", "0", "2.5"]


@pytest.mark.parametrize(
    ("words", "attached"),
    [
        (["--wait", "site"], ["--wait=3600", "site"]),
        (["--wait", "2.5", "site"], ["--wait", "2.5", "site"]),
        (["site", "--wait"], ["site", "--wait=3600"]),
        (["--wait=7", "site"], ["--wait=7", "site"]),
        (["--wait", "-1", "site"], ["--wait", "-1", "site"]),
        (["--", "--wait"], ["--", "--wait"]),
    ],
)
def test_only_a_number_right_behind_wait_belongs_to_it(words: list[str], attached: list[str]) -> None:
    assert _attached(words) == attached


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["stop"], ["stop", "x", "--wait", "9999"], ["set", "x"], ["set", "x", "novalue"]],
)
def test_wrong_options_are_exit_code_2(farm: Controlled, arguments: list[str]) -> None:
    farm.cli(*arguments, expect=2)


@pytest.mark.slow
@pytest.mark.parametrize("wait", [["--wait", "-1"], ["--wait=-1"]])
def test_a_negative_wait_is_told_the_bounds(farm: Controlled, wait: list[str]) -> None:
    assert "'--wait': -1.0 is not in the range 0<=x<=3600" in farm.cli("stop", "x", *wait, expect=2).stderr


@pytest.mark.slow
def test_what_is_not_permitted_is_exit_code_4(tmp_path: Path) -> None:
    with controlled(tmp_path, TREE.format(config="control_permissions='read_only'")) as farm:
        for command in (["stop", "site"], ["set", "site", "shutdown=1"], ["shutdown"]):
            done = farm.cli(*command, expect=4)
            assert (done.stdout, done.stderr.count("\n")) == ("", 1)
        assert "stop" not in farm.json("commands")
        assert state(farm, "site") == "ready"


@pytest.mark.slow
def test_shutdown_stops_the_whole_tree_and_the_program_ends(farm: Controlled) -> None:
    (farm.folder / "let-go").touch()
    farm.cli("shutdown", "--wait")
    assert farm.program.wait(DEADLINE_S) == 0
    assert farm.json("ls") == []
    farm.cli("ps", expect=3)


@pytest.mark.slow
def test_shutdown_without_wait_returns_at_once_and_a_timeout_bounds_the_stop(farm: Controlled) -> None:
    farm.cli("shutdown", "--timeout", "0.1")
    assert farm.program.wait(DEADLINE_S) == 0
