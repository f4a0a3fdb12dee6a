"""The commands that tell what happened: `events history logs`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from .choosing import Choice, ControlCommand, complete_path, path_argument, tree_path
from .client import Client, ConnectionLost, Query, Unreachable, agent_route
from .human import clock, printable, printable_lines
from .tables import as_json, print_json, print_json_line

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

MOST: Final = 10_000
"""Events, or lines, that one answer holds."""

LATEST: Final = 100
"""Events and lines that are shown unless somebody says how many, or since when."""


LIMIT_HELP: Final = f"At most so many (default {LATEST}; with a time {MOST}, the most there can be)."


WHEN: Final = "10m or '10m ago', 03:12, or an ISO time"


def _known_types(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> str:
    """Return types of events, repeated or between commas, as the API takes them."""
    types = [word.strip().lower() for words in given for word in words.split(",") if word.strip()]
    if types:
        from orchestree.strategies.errors import did_you_mean
        from orchestree.supervisor.event_types import EventType

        known = [str(type) for type in EventType]
        for type in types:
            if type not in known:
                raise click.UsageError(f"there is no type of event {type!r}{did_you_mean(type, known)}")
    return ",".join(types)


def _complete_type(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from orchestree.supervisor.event_types import EventType

    return [CompletionItem(str(type)) for type in EventType if type.startswith(incomplete.lower())]


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which events are meant."""
    options = (
        click.option("--since", metavar="WHEN", help=f"After the event of this number, or after {WHEN}."),
        click.option(
            "--type",
            "types",
            metavar="TYPE",
            multiple=True,
            callback=_known_types,
            shell_complete=_complete_type,
            help="Such as agent_crashed; may be repeated.",
        ),
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
    """Show the latest events, and with -f those to come.

    To look back between two times, or into a file without an orchestrator, there is `history`.

    With --since NUMBER the first ones after it. With --json an array; with -f one object a line.
    """
    query = _query(**asked)
    client = choice.client()
    if follow:
        if query["run"]:
            raise click.UsageError("--run is about what is over: not together with -f")
        _follow(client, query, print_json_line if as_json else _EventLines())
        return
    found = _read(client, query)
    print_json(found) if as_json else _print_events(found)
    if not found:
        _note_unknown(query, lambda asked: _read(client, asked))


@click.command(cls=ControlCommand)
@filters
@click.option("--after", metavar="WHEN", help=f"From then on: {WHEN}.")
@click.option("--before", metavar="WHEN", help=f"Before then: {WHEN}.")
@click.option("--file", metavar="FILE", type=click.Path(path_type=Path), help="Of a history; no orchestrator needed.")
@click.pass_context
def history(context: click.Context, /, choice: Choice, file: Path | None, as_json: bool, **asked: Any) -> None:
    """Look back at events, each with the id of its run.

    The same events as of `events`, which can also follow new ones; here also between two times, and with --file out
    of a history file, without any orchestrator.
    """
    query = _query(**asked)
    read = _reader(context, choice, file)
    found = read(query)
    print_json(found) if as_json else _print_events(found, with_run=True)
    if not found:
        _note_unknown(query, read)


def _reader(context: click.Context, choice: Choice, file: Path | None) -> Callable[[Query], list[dict[str, Any]]]:
    """Return what reads events from `file`, or from the orchestrator if there is none."""
    if file is None:
        client = choice.client()
        return lambda query: _read(client, query)
    for option in ("name", "socket"):
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--file needs no orchestrator: not together with --{option}")
    from .closed_history import read_events

    return partial(read_events, file)


@click.command(cls=ControlCommand)
@path_argument()
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C, or the orchestrator, ends it.")
@click.option(
    "-n", "limit", metavar="N", type=click.IntRange(0, MOST), default=LATEST, help=f"The last N (default {LATEST})."
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
    types: str,
    path: str | None,
    run: str | None,
    limit: int | None,
    after: str | None = None,
    before: str | None = None,
) -> dict[str, Any]:
    """Return the parameters of a question about events."""
    is_number = since is not None and since.isdecimal()
    if after is not None and since is not None and not is_number:
        raise click.UsageError(f"--since {since} and --after are both a time; use --after alone")
    start = after or (None if is_number else since)
    return {
        "type": types,
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


def _read(client: Client, query: Query) -> list[dict[str, Any]]:
    """Return events, oldest first. Asks on where an answer is shorter than it might be, as it is with large events."""
    found: list[dict[str, Any]] = []
    left = int(query["limit"] or 0)
    while left and (page := client.get("/events", {**query, "limit": left})):
        left -= len(page)
        if query["since"] is None:
            found = page + found
            query = {**query, "until": page[0]["seq"] - 1}
        else:
            found += page
            query = {**query, "since": page[-1]["seq"]}
    return found


def _follow(client: Client, query: Query, show: Callable[[Any], None]) -> None:
    """Show what there is, then what comes, without a hole between the two and nothing twice."""
    since = query.get("since")
    wanted = {"path": query["path"], "type": query["type"]}
    if since is not None:
        _show_stream(client, {**wanted, "since": since}, show)
        return
    # Asked first: what happens after it comes with the stream, if it does not come with the events below.
    newest = client.get("/events", {"limit": 1})
    earlier = _read(client, query)
    for event in earlier:
        show(event)
    if not earlier:
        _note_unknown(query, lambda asked: _read(client, asked))
    since = max((event["seq"] for event in [*newest, *earlier]), default=0)
    try:
        _show_stream(client, {**wanted, "since": since}, show)
    except ConnectionLost:
        raise
    except Unreachable:  # it has answered before: it has ended just now
        return


def _show_stream(client: Client, query: Query, show: Callable[[Any], None]) -> None:
    for message in client.stream("/events/stream", query):
        show(json.loads(message.data))


def _note_unknown(query: Query, read: Callable[[Query], list[dict[str, Any]]]) -> None:
    """Say of each filter of an empty answer that nothing at all fits it, if so: it may be a mistyped one."""
    everything = dict.fromkeys(query) | {"type": "", "limit": 1}
    for name, word in (("path", ""), ("run", "run ")):
        if query[name] and not read({**everything, name: query[name]}):
            click.echo(f"no events of {word}{printable(str(query[name]))!r}", err=True)


def _print_events(events: list[dict[str, Any]], *, with_run: bool = False) -> None:
    show = _EventLines({event["run"] for event in events}, with_run=with_run)
    for event in events:
        show(event)


class _EventLines:
    """Prints events, each with its run as soon as there are several."""

    def __init__(self, runs: Iterable[str] = (), *, with_run: bool = False) -> None:
        """`runs`: that are known already; `with_run`: even if there is only one."""
        self._runs = set(runs)
        self._with_run = with_run

    def __call__(self, event: dict[str, Any]) -> None:
        self._runs.add(event["run"])
        run = f"{printable(event['run']):<12}  " if self._with_run or len(self._runs) > 1 else ""
        click.echo(f"{run}{event['seq']:>7}  {clock(event['time'])}  {printable(event['text'])}")


def _print_log_line(line: dict[str, Any]) -> None:
    kind = line["source"] if line["source"] in ("stdout", "stderr") else line["level"]
    who = f"{line['path'] or '/'}#{line['incarnation']}"
    click.echo(f"{clock(line['time'])} {printable(kind):<8} {who}  {printable_lines(line['text'])}")
