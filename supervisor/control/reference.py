"""The parts of the README that are made from the code: ``python -m orchestree.supervisor.control.reference README.md``.

Each is a function that returns markdown, so that a test can compare it with what the README says.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from orchestree.supervisor.control.api.endpoints import ENDPOINTS, Endpoint
from orchestree.supervisor.control.command_line.all_commands import orchestree

EVERYWHERE = frozenset({"name", "socket", "as_json"})
"""Options that are explained once for all commands."""


def with_references(text: str) -> str:
    """Return `text` with what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` made anew."""
    made_of = {"metrics": metrics_reference(), "api": api_reference(), "commands": command_reference()}
    for name, made in made_of.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{made.strip()}\n\n{end}{rest.partition(end)[2]}"
    return text


def api_reference() -> str:
    """Return markdown with a line for each endpoint of the API."""
    rows = [
        f"| `{row.method} /v1{row.route}` | {_permission(row)} | {row.about} | {_given(row)} |" for row in ENDPOINTS
    ]
    return "\n".join(["| request | permission | what | parameters |", "|---|---|---|---|", *rows, ""])


def metrics_reference() -> str:
    """Return markdown with a line for each family of metrics."""
    from orchestree.metrics.families import FAMILIES

    rows = [
        f"| `{family.name}` | {family.kind} | {' '.join(f'`{label}`' for label in family.labels)} | {family.help} |"
        for family in FAMILIES
    ]
    return "\n".join(["| family | type | labels | what |", "|---|---|---|---|", *rows, ""])


def command_reference() -> str:
    """Return markdown with every command of the command line, its arguments and options."""
    context = click.Context(orchestree, info_name="orchestree")
    commands = (orchestree.commands[name] for name in orchestree.list_commands(context))
    return "\n".join(
        [
            *_help(orchestree),
            "Those that ask an orchestrator have `--name NAME` and `--socket PATH`. All but `run`, `metrics` and",
            "`completion` have `--json`: an array for a list, one object otherwise, one object a line with `-f` and",
            "of `simulate`; the fields are those of the API. `start`, `stop` and `restart` print an array of the",
            "answers for each PATH in the order given; what was refused is a line on stderr.",
            "",
            *(line for command in commands for line in _command(command, context)),
        ]
    )


def _command(command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=command.name, parent=parent)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from _command(command.commands[name], context)
        return
    arguments = " ".join(piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]")
    yield f"#### `{f'{context.command_path} {arguments}'.strip()}`"
    yield ""
    yield from _help(command)
    options = [option for option in command.params if isinstance(option, click.Option)]
    records = [option.get_help_record(context) for option in options if option.name not in EVERYWHERE]
    rows = [f"| `{record[0]}` | {record[1]} |" for record in records if record]
    if rows:
        yield from ("| option | |", "|---|---|", *rows, "")


def _help(command: click.Command) -> list[str]:
    paragraphs = re.split(r"\n{2,}", inspect.cleandoc(command.help or ""))
    return [*"\n\n".join(paragraphs).splitlines(), ""]


def _permission(row: Endpoint) -> str:
    return f"`{row.command}`" if row.command else "none"


def _given(row: Endpoint) -> str:
    parameters = " ".join(f"`{parameter.name}`" for parameter in row.parameters)
    body = " ".join(f"`{name}`" for name in row.body.model_fields) if row.body else ""
    return "; ".join(filter(None, (parameters, body and f"in the body: {body}")))


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(with_references(readme.read_text(encoding="utf-8")), encoding="utf-8")
