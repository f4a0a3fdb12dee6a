"""The command reference of the README, which is made from the commands themselves."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orchestree.supervisor.control.command_line.all_commands import orchestree
from orchestree.supervisor.control.reference import command_reference, with_references

pytestmark = pytest.mark.portable

README = Path(__file__).parents[2] / "README.md"
FIXED = (
    "run check simulate explain replay ls ps tree inspect start stop restart logs events history stats graph metrics "
    "set commands shutdown completion"
)


def has_json(command: click.Command) -> bool:
    parts = command.commands.values() if isinstance(command, click.Group) else [command]
    return any(parameter.name == "as_json" for part in parts for parameter in part.params)


def test_every_command_that_was_asked_for_is_there_and_in_the_reference() -> None:
    assert sorted(orchestree.commands) == sorted(FIXED.split())
    reference = command_reference()
    heads = [line.split("`")[1] for line in reference.splitlines() if line.startswith("#### ")]
    assert list(dict.fromkeys(head.split()[1] for head in heads)) == sorted(FIXED.split())
    assert all(head.split()[0] == "orchestree" for head in heads)
    assert "orchestree metrics export DIR" in heads
    assert "orchestree stop PATH..." in heads
    assert "orchestree inspect PATH" in heads
    assert "orchestree stats [PATH]" in heads


def test_the_reference_explains_arguments_options_and_exit_codes() -> None:
    reference = command_reference()
    assert "| `--wait [SECONDS]` | Wait until it is done" in reference
    assert "3 no orchestrator to talk to" in reference
    assert reference.count("`--socket PATH`") == 1
    assert "\b" not in reference
    assert "\n\n\n" not in reference


def test_the_reference_says_which_commands_have_no_json() -> None:
    without = {name for name, command in orchestree.commands.items() if not has_json(command)}
    assert without == {"run", "metrics", "completion"}
    assert "All but `run`, `metrics` and `completion` have `--json`:" in " ".join(command_reference().split())


def test_the_readme_has_the_references_of_today() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_references(text) == text, "run python -m orchestree.supervisor.control.reference README.md"


@pytest.mark.parametrize("name", FIXED.split())
def test_every_command_has_help(name: str) -> None:
    done = CliRunner().invoke(orchestree, [name, "--help"])
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()[2]) > 10


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    script = CliRunner().invoke(orchestree, ["completion", shell]).stdout
    assert f"_ORCHESTREE_COMPLETE={shell}_complete" in script


def test_completion_of_an_unknown_shell_is_a_usage_error() -> None:
    assert CliRunner().invoke(orchestree, ["completion", "tcsh"]).exit_code == 2
