"""The commands that show a running tree, end to end: the orchestrator is another process."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from orchestree_testing.controlled import TOOL, Controlled, controlled
from orchestree_testing.scripts import run_program

pytestmark = pytest.mark.slow

TREE = """
farm = tree(max_workers=9)
farm.register_agent(Idle, "site")
farm.register_agent(Talker, "prober", depends_on=["site"], restart="permanent")
ingest = farm.add_supervisor("ingest", depends_on=["prober"])
ingest.register_agent(Idle, "collector", executor="process")
ingest.register_agent(Bad, "sensor", backoff=Backoff(stop=lambda state: True))
serve(farm)
"""
AGENTS = ["site", "prober", "ingest/collector", "ingest/sensor"]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controlled]:
    with controlled(tmp_path_factory.mktemp("farm"), TREE) as running:
        yield running


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of each row of a table by its first one."""
    return {line.split()[0]: re.split(" {3,}", line) for line in text.splitlines()}


def test_ls_lists_the_orchestrator_with_its_socket(farm: Controlled) -> None:
    (line,) = farm.cli("ls").stdout.splitlines()[1:]
    assert line.split()[:3] == ["farm", "degraded", str(farm.program.pid)]
    assert line.split()[-2] == "-"  # there are no metrics
    assert line.endswith("orchestree/farm.sock")
    (found,) = farm.json("ls")
    assert (found["name"], found["pid"], found["unhealthy"]) == ("farm", farm.program.pid, ["ingest/sensor"])


def test_ps_shows_agents_in_start_order(farm: Controlled) -> None:
    table = rows(farm.cli("ps").stdout)
    assert list(table) == ["PATH", *AGENTS]
    assert table["PATH"][:6] == ["PATH", "STATE", "UPTIME", "EXECUTOR", "PID", "RESTARTS"]
    assert table["site"][1] == "ready"
    assert table["ingest/collector"][3] == "process"
    assert table["ingest/sensor"][1] == "parked"
    assert table["ingest/sensor"][-1] == "last crash: ValueError: bad \\x1b[2J reading"


def test_ps_as_json_has_all_fields_of_an_agent(farm: Controlled) -> None:
    agents = farm.json("ps")
    assert [agent["path"] for agent in agents] == AGENTS
    fields = "path state executor pid incarnation restarts_total streak uptime_s next_restart_s depends_on queued"
    assert {*fields.split(), "last_crash", "cpu_percent", "memory_bytes"} <= agents[0].keys()


def test_ps_quiet_prints_paths_only(farm: Controlled) -> None:
    assert farm.cli("ps", "-q").stdout.splitlines() == AGENTS


def test_ps_check_exits_6_and_says_what_is_parked(farm: Controlled) -> None:
    done = farm.cli("ps", "-q", "--check", expect=6)
    assert done.stdout.splitlines() == AGENTS
    assert done.stderr == "Error: ingest/sensor is parked\n"


def test_tree_draws_the_branches(farm: Controlled) -> None:
    lines = farm.cli("tree").stdout.splitlines()
    assert [line[:17].rstrip() for line in lines] == [
        "NAME",
        "/",
        "├── site",
        "├── prober",
        "└── ingest",
        "    ├── collector",
        "    └── sensor",
    ]
    root = farm.json("tree")
    assert [child["name"] for child in root["children"]] == ["site", "prober", "ingest"]


def test_inspect_shows_policy_config_and_the_whole_crash(farm: Controlled) -> None:
    text = farm.cli("inspect", "ingest/sensor").stdout
    for part in ("ingest/sensor\n", "POLICY\n", "  restart          transient\n", "LAST CRASH\n", "  traceback\n"):
        assert part in text
    assert 'raise ValueError("bad ' in text
    assert "\x1b" not in text
    assert "ValueError: bad \x1b[2J reading" in farm.json("inspect", "ingest/sensor")["last_crash"]["traceback"]


def test_inspect_takes_slashes_around_a_path_and_one_alone_as_the_root(farm: Controlled) -> None:
    assert farm.json("inspect", "/ingest/")["children"] == ["ingest/collector", "ingest/sensor"]
    assert farm.json("inspect", "/")["path"] == ""


def test_an_unknown_path_gets_a_suggestion_and_exit_code_1(farm: Controlled) -> None:
    done = farm.cli("inspect", "ingest/colector", expect=1)
    assert done.stdout == ""
    assert "did you mean 'ingest/collector'?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_stats_shows_the_whole_or_each_agent(farm: Controlled) -> None:
    text = farm.cli("stats").stdout
    assert re.search(r"^AGENTS +4 \(.*3 ready", text, re.MULTILINE)
    assert "1 parked" in text
    assert farm.json("stats")["max_workers"] == 9
    table = rows(farm.cli("stats", "ingest").stdout)
    assert list(table) == ["PATH", "ingest/collector", "ingest/sensor"]
    assert table["ingest/collector"][3].endswith("MiB")
    assert [agent["path"] for agent in farm.json("stats", "ingest")] == ["ingest/collector", "ingest/sensor"]


def test_graph_is_text_or_dot(farm: Controlled) -> None:
    assert "prober -> site\n" in farm.cli("graph").stdout
    dot = farm.cli("graph", "--dot").stdout
    assert dot.startswith("digraph orchestree {\n")
    assert '    "ingest" -> "prober"\n' in dot
    assert {"from": "prober", "to": "site"} in farm.json("graph")["edges"]


def test_commands_lists_what_i_may_do(farm: Controlled) -> None:
    allowed = farm.json("commands")
    assert {"ps", "stop", "set", "shutdown", "events", "history"} <= set(allowed)
    assert list(rows(farm.cli("commands").stdout)) == ["COMMAND", *allowed]


def test_logs_show_the_last_lines_and_no_escapes(farm: Controlled) -> None:
    lines = farm.cli("logs", "prober").stdout.splitlines()
    assert any(line.endswith(" INFO     prober#1  first 1") for line in lines)
    assert any(line.endswith(" WARNING  prober#1  second \\x1b[31mred") for line in lines)
    assert len(farm.json("logs", "prober", "-n", "1")) == 1


def test_events_filter_by_path_and_type(farm: Controlled) -> None:
    (event,) = farm.json("events", "--path", "ingest", "--type", "AGENT_PARKED")
    assert (event["path"], event["type"]) == ("ingest/sensor", "agent_parked")
    (line,) = farm.cli("events", "--path", "ingest/sensor", "--type", "agent_parked").stdout.splitlines()
    assert re.match(rf" +{event['seq']}  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}}  PARKED   ingest/sensor ", line)


def test_events_since_a_number_are_the_first_ones_after_it(farm: Controlled) -> None:
    assert [event["seq"] for event in farm.json("events", "--since", "3", "-n", "2")] == [4, 5]


def test_events_since_a_time(farm: Controlled) -> None:
    assert farm.json("events", "--since", "1h")
    assert farm.json("events", "--since", "2200-01-01") == []
    assert farm.json("history", "--before", "2001-01-01") == []
    assert farm.json("history", "--after", "10m", "--path", "site")


@pytest.mark.parametrize("arguments", [["--since", "yesterday"], ["-n", "0"], ["-f", "--run", "x"]])
def test_bad_options_of_events_are_usage_errors(farm: Controlled, arguments: list[str]) -> None:
    farm.cli("events", *arguments, expect=2)


def test_an_unknown_type_of_event_is_a_usage_error_with_a_suggestion(farm: Controlled) -> None:
    wrong = farm.cli("events", "--type", "agent_red", expect=2).stderr
    assert "there is no type of event 'agent_red' (did you mean 'agent_ready'?)" in wrong


def test_a_filter_that_nothing_ever_fits_gets_a_note(farm: Controlled) -> None:
    done = farm.cli("events", "--path", "nosuch", "--json")
    assert (json.loads(done.stdout), done.stderr) == ([], "no events of 'nosuch'\n")
    assert farm.cli("history", "--run", "xx").stderr == "no events of run 'xx'\n"
    assert farm.cli("events", "--path", "site", "--since", "2200-01-01").stderr == ""


@pytest.mark.parametrize("count", ["-1", "10001"])
def test_the_bounds_of_a_number_of_log_lines_are_those_of_the_api(farm: Controlled, count: str) -> None:
    assert "-n" in farm.cli("logs", "prober", "-n", count, expect=2).stderr
    assert farm.json("logs", "prober", "-n", "0") == []
    assert farm.json("logs", "prober", "-n", "10000")


def test_a_crash_in_the_logs_has_its_traceback_below_its_line(farm: Controlled) -> None:
    text = farm.cli("logs", "ingest/sensor").stdout
    assert "\n    Traceback (most recent call last):\n" in text
    assert "\n    ValueError: bad \\x1b[2J reading\n" in text
    assert "\\n" not in text


def test_history_shows_the_run_of_each_event(farm: Controlled) -> None:
    run = farm.json("ls")[0]["run"]
    lines = farm.cli("history", "-n", "3").stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(run) for line in lines)
    assert farm.json("history", "--run", "another") == []


def test_paths_are_completed_from_the_tree(farm: Controlled) -> None:
    environment = {"COMP_WORDS": "orchestree stop ing", "COMP_CWORD": "2", "_ORCHESTREE_COMPLETE": "bash_complete"}
    program = "from orchestree.supervisor.control.cli import main; main(prog_name='orchestree')"

    found = run_program("-c", program, cwd=farm.folder, XDG_RUNTIME_DIR=str(farm.folder), **environment)
    assert found.splitlines() == ["plain,ingest", "plain,ingest/collector", "plain,ingest/sensor"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("stop ingest/collector /ingest ing", ["plain,ingest/sensor"]),
        ("events --type agent_par", ["plain,agent_parked"]),
        ("run ap", ["file,ap"]),
        ("check ap", ["file,ap"]),
    ],
)
def test_what_fits_is_completed(farm: Controlled, words: str, found: list[str]) -> None:
    line = f"orchestree {words}"
    environment = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    program = "from orchestree.supervisor.control.cli import main; main(prog_name='orchestree')"
    complete = {"_ORCHESTREE_COMPLETE": "bash_complete", "XDG_RUNTIME_DIR": str(farm.folder)}
    assert run_program("-c", program, cwd=farm.folder, **complete, **environment).splitlines() == found


@pytest.mark.parametrize("command", [["ps"], ["ps", "--json"], ["ps", "--help"], ["events", "-f"]])
@pytest.mark.parametrize("stdout", ["/dev/full", "&-"])
def test_output_that_cannot_be_written_is_one_line_and_exit_code_1(
    farm: Controlled, command: list[str], stdout: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" >{stdout}', "sh", sys.executable, *TOOL, *command],
        env={**os.environ, "XDG_RUNTIME_DIR": str(farm.folder), "PYTHONUNBUFFERED": ""},  # else nothing is left over
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Error: cannot write to stdout: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["ps", "tree", "inspect site", "stats", "graph", "commands", "ls", "history -n 2"])
def test_json_is_an_array_for_lists_and_else_one_object(farm: Controlled, command: str) -> None:
    is_list = command in ("ps", "commands", "ls", "history -n 2")
    text = farm.cli(*command.split(), "--json").stdout
    assert isinstance(json.loads(text), list if is_list else dict)
    assert text.isascii()


def test_two_orchestrators_have_to_be_told_apart(farm: Controlled) -> None:
    with controlled(farm.folder, "serve(tree())", name="mill") as mill:
        assert [one["name"] for one in farm.json("ls")] == ["farm", "mill"]
        assert "--name mill" in farm.cli("ps", expect=2).stderr
        assert farm.json("ps", "--name", "mill") == []
        assert len(farm.json("ps", "--name", "farm")) == 4
        mill.end()
    assert farm.cli("ps", "-q").stdout.splitlines() == AGENTS


def test_check_and_stats_of_a_path_need_no_permission_but_their_own(tmp_path: Path) -> None:
    config, wanted = "tree(max_workers=9)", "tree(control_permissions={'ps', 'stats'})"
    with controlled(tmp_path, TREE.replace(config, wanted)) as few:
        assert few.cli("ps", "-q", "--check", expect=6).stdout.splitlines() == AGENTS
        assert list(rows(few.cli("stats", "ingest").stdout)) == ["PATH", "ingest/collector", "ingest/sensor"]
        assert list(rows(few.cli("stats", "/").stdout)) == ["PATH", *AGENTS]
        few.cli("tree", expect=4)


def test_tables_have_colours_on_a_terminal_only(farm: Controlled, tmp_path: Path) -> None:
    assert "\x1b" not in farm.cli("ps").stdout
    assert "\x1b[32mready" in on_a_terminal(farm, "ps")
    assert "\x1b[3" not in on_a_terminal(farm, "ps", NO_COLOR="1")


def test_notes_are_cut_to_the_terminal_and_whole_in_a_pipe(farm: Controlled) -> None:
    assert "last crash: ValueEr…" in on_a_terminal(farm, "ps", COLUMNS="60")
    assert "…" not in farm.cli("ps").stdout


def on_a_terminal(farm: Controlled, *arguments: str, **environment: str) -> str:
    """Return what a command writes to a terminal."""
    master, slave = pty.openpty()
    where = {**os.environ, "XDG_RUNTIME_DIR": str(farm.folder), "TERM": "xterm", **environment}
    subprocess.run([sys.executable, *TOOL, *arguments], stdout=slave, env=where, check=True, timeout=30)
    os.close(slave)
    written = b""
    try:
        while part := os.read(master, 65536):
            written += part
    except OSError:  # all has been read
        os.close(master)
    return written.decode()
