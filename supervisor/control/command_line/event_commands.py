"""The commands that tell what happened: `events history logs`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from .choosing import Choice, ControlCommand, complete_path, path_argument, tree_path
from .client import Client, Query, Unreachable, agent_route
from .human import clock, printable
from .tables import as_json, print_json, print_json_line

MOST: Final = 10_000
"""Events, or lines, that one answer holds."""

LATEST: Final = 100
"""Events and lines that are shown unless somebody says how many, or since when."""


LIMIT_HELP: Final = f"At most so many (default {LATEST}; with a time {MOST}, the most there can be)."


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which events are meant."""
    options = (
        click.option("--since", metavar="WHEN", help="After the event of this number, 10m ago, or an ISO time."),
        click.option("--type", "types", metavar="TYPE", multiple=True, help="Such as agent_crashed; may be repeated."),
        click.option(
            "--path",
            metavar="PATH",
            callback=tree_path,
            shell_complete=complete_path,
            help="This agent, or all below a supervisor.",
        ),
        click.option("--run", metavar="ID", help="Only of this run of the orchestrator."),
        click.option("-n", "limit", metavar="N", type=click.IntRange(1, MOST), help=LIMIT_HELP),
        as_json,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(cls=ControlCommand)
@click.option("-f", "--follow", is_flag=True, help="Go on with new ones until Ctrl-C, or the orchestrator, ends it.")
@filters
def events(choice: Choice, follow: bool, as_json: bool, **asked: Any) -> None:
    """Show the latest events.

    With --since NUMBER the first ones after it. With --json an array; with -f one object a line.
    """
    query = _query(**asked)
    client = choice.client()
    if follow:
        if query["run"]:
            raise click.UsageError("--run is about what is over: not together with -f")
        _follow(client, query, print_json_line if as_json else _print_event)
        return
    found = client.get("/events", query)
    if as_json:
        print_json(found)
        return
    for event in found:
        _print_event(event)


@click.command(cls=ControlCommand)
@filters
@click.option("--after", metavar="WHEN", help="From then on: 10m ago, or an ISO time.")
@click.option("--before", metavar="WHEN", help="Before then.")
@click.option("--file", metavar="FILE", type=click.Path(path_type=Path), help="Of a history; no orchestrator needed.")
def history(choice: Choice, file: Path | None, as_json: bool, **asked: Any) -> None:
    """Show the latest events of all runs.

    Each with the id of its run. What the history file holds is there, too, and --file reads one that nobody writes.
    """
    query = _query(**asked)
    if file is None:
        found = choice.client().get("/events", query)
    else:
        from .closed_history import read_events

        found = read_events(file, query)
    if as_json:
        print_json(found)
        return
    for event in found:
        click.echo(f"{printable(event['run']):<12}  ", nl=False)
        _print_event(event)


@click.command(cls=ControlCommand)
@path_argument()
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C, or the orchestrator, ends it.")
@click.option(
    "-n", "limit", metavar="N", type=click.IntRange(1), default=LATEST, help=f"The last N (default {LATEST})."
)
@as_json
def logs(choice: Choice, path: str, follow: bool, limit: int, as_json: bool) -> None:
    """Show the latest log lines and output.

    PATH is an agent, or a supervisor for all below it. With --json an array; with -f one object a line.
    """
    client, route = choice.client(), agent_route(path, "logs")
    if follow:
        show = print_json_line if as_json else _print_log_line
        for message in client.stream(route, {"lines": limit, "follow": 1}):
            show(json.loads(message.data))
        return
    found = client.get(route, {"lines": limit})
    if as_json:
        print_json(found)
        return
    for line in found:
        _print_log_line(line)


def _query(
    *,
    since: str | None,
    types: tuple[str, ...],
    path: str | None,
    run: str | None,
    limit: int | None,
    after: str | None = None,
    before: str | None = None,
) -> dict[str, Any]:
    """Return the parameters of a question about events."""
    is_number = since is not None and since.isdecimal()
    start = after or (None if is_number else since)
    return {
        "type": ",".join(types).lower(),
        "path": path,
        "run": run,
        "limit": limit or (LATEST if start is None else MOST),
        "since": int(since) if since is not None and is_number else None,
        "after": _moment(start),
        "before": _moment(before),
    }


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    from .moments import moment

    try:
        return moment(text, time.time())
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _follow(client: Client, query: Query, show: Callable[[Any], None]) -> None:
    """Show what there is, then what comes, without a hole between the two and nothing twice."""
    since = query.get("since")
    wanted = {"path": query["path"], "type": query["type"]}
    if since is not None:
        _show_stream(client, {**wanted, "since": since}, show)
        return
    # Asked first: what happens after it comes with the stream, if it does not come with the events below.
    newest = client.get("/events", {"limit": 1})
    earlier = client.get("/events", query)
    for event in earlier:
        show(event)
    with suppress(Unreachable):  # it has answered before: it has ended just now
        since = max((event["seq"] for event in [*newest, *earlier]), default=0)
        _show_stream(client, {**wanted, "since": since}, show)


def _show_stream(client: Client, query: Query, show: Callable[[Any], None]) -> None:
    for message in client.stream("/events/stream", query):
        show(json.loads(message.data))


def _print_event(event: dict[str, Any]) -> None:
    click.echo(f"{event['seq']:>7}  {clock(event['time'])}  {printable(event['text'])}")


def _print_log_line(line: dict[str, Any]) -> None:
    kind = line["source"] if line["source"] in ("stdout", "stderr") else line["level"]
    who = f"{line['path'] or '/'}#{line['incarnation']}"
    click.echo(f"{clock(line['time'])} {printable(kind):<8} {who}  {printable(line['text'])}")
