"""The commands that show what there is: `ls ps tree stats graph commands`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import click

from .choosing import Choice, ControlCommand, none_running, path_argument, running
from .client import Client, Refused, Unreachable
from .exit_codes import Command, Exit, Failed
from .human import duration, printable, size
from .tables import STATE, as_json, is_coloured, painted, print_json, print_table

HELP_LENGTH: Final = 80
"""Characters of what a command does, in a list of them."""

NOTES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "queued": "max_workers reached",
        "wedged": "cannot be killed; replace_wedged starts another beside it",
    }
)
"""What to say of agents in these states."""

LOOK_S: Final = 2.0
"""Seconds that `ls` waits for each orchestrator."""


@click.command(cls=Command)
@as_json
def ls(as_json: bool) -> None:
    """List the running orchestrators, and where their metrics are served.

    With --json what each says at /health; of one that does not answer there is name, socket, status and detail.
    """
    found = [_health(place.name, str(place.socket)) for place in running()]
    if not found:
        click.echo(none_running(), err=True)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            printable(health["name"]),
            health["status"],
            _or_dash(health.get("pid")),
            _seconds(health.get("uptime_s")),
            _or_dash(health.get("metrics")),
            printable(health["socket"]),
        )
        for health in found
    ]
    print_table(("NAME", "STATUS", "PID", "UPTIME", "METRICS", "SOCKET"), rows)


@click.command(cls=ControlCommand)
@click.option("--check", is_flag=True, help=f"Exit with {Exit.UNHEALTHY:d} if something is parked or wedged.")
@click.option("-q", "--quiet", is_flag=True, help="Only the paths.")
@as_json
def ps(choice: Choice, check: bool, quiet: bool, as_json: bool) -> None:
    """List the agents in their start order."""
    client = choice.client()
    nodes = client.get("/agents", {"supervisors": 1} if check else None)
    agents = [node for node in nodes if node["kind"] == "agent"]
    if as_json:
        print_json(agents)
    elif quiet:
        for agent in agents:
            click.echo(agent["path"])
    else:
        heads = ("PATH", STATE, "UPTIME", "EXECUTOR", "PID", "RESTARTS", "CPU", "MEMORY", "NOTE")
        print_table(heads, map(_agent_row, agents))
    if check:
        _expect_health(nodes)


@click.command(cls=ControlCommand)
@as_json
def tree(choice: Choice, as_json: bool) -> None:
    """Show the tree with states and restarts."""
    root = choice.client().get("/tree")
    if as_json:
        print_json(root)
        return
    rows = [
        (drawn, node["state"], _seconds(node["uptime_s"]), str(node["restarts_total"]), note(node))
        for drawn, node in _branches(root, "", "")
    ]
    print_table(("NAME", STATE, "UPTIME", "RESTARTS", "NOTE"), rows)


@click.command(cls=ControlCommand)
@path_argument(required=False)
@as_json
def stats(choice: Choice, path: str | None, as_json: bool) -> None:
    """Show figures: states, restarts, CPU, memory.

    Those of the whole and of its process, or, with PATH, those of each agent there and below (with --json an array).
    """
    client = choice.client()
    if path is None:
        figures = client.get("/stats")
        print_json(figures) if as_json else _print_figures(figures)
        return
    agents = client.get("/stats", {"path": path or "/"})
    if as_json:
        print_json(agents)
        return
    rows = [
        (
            agent["path"],
            agent["state"],
            _percent(agent["cpu_percent"]),
            _bytes(agent["memory_bytes"]),
            str(agent["incarnation"]),
            str(agent["restarts_total"]),
            str(agent["streak"]),
            _seconds(agent["uptime_s"]),
        )
        for agent in agents
    ]
    print_table(("PATH", STATE, "CPU", "MEMORY", "INCARNATION", "RESTARTS", "STREAK", "UPTIME"), rows)


@click.command(cls=ControlCommand)
@click.option("--dot", is_flag=True, help="In the language of Graphviz.")
@as_json
def graph(choice: Choice, dot: bool, as_json: bool) -> None:
    """Show who depends on whom."""
    found = choice.client().get("/graph")
    if as_json:
        print_json(found)
    else:
        for line in _dot_lines(found) if dot else _graph_lines(found):
            click.echo(line)


@click.command(cls=ControlCommand)
@as_json
@click.pass_context
def commands(context: click.Context, choice: Choice, as_json: bool) -> None:
    """List what I may do here.

    With --json an array of names.
    """
    allowed: list[str] = choice.client().get("/health")["commands"]
    if "events" in allowed:  # which is all that it asks for
        allowed = sorted([*allowed, "history"])
    if as_json:
        print_json(allowed)
        return
    group = context.parent.command if context.parent else None
    known = group.commands if isinstance(group, click.Group) else {}
    rows = [(name, known[name].get_short_help_str(HELP_LENGTH) if name in known else "") for name in allowed]
    print_table(("COMMAND", "WHAT IT DOES"), rows)


def note(node: dict[str, Any]) -> str:
    """Return what else there is to say of an agent or supervisor in a table: what it waits for, or its last crash."""
    if node["next_restart_s"] is not None:
        first = f"restarts in {duration(node['next_restart_s'])}"
    elif node["waiting_for"]:
        first = f"waits for {', '.join(node['waiting_for'])}"
    else:
        first = NOTES.get(node["state"], "")
    is_over_it = node["state"] == "ready" and node["streak"] == 0
    crash = f"last crash: {node['last_crash']['message']}" if node["last_crash"] and not is_over_it else ""
    return printable("; ".join(filter(None, (first, crash))))


def _health(name: str, socket: str) -> dict[str, Any]:
    """Return the answer of one orchestrator, or the little that is known of one that does not answer."""
    try:
        health: dict[str, Any] = Client(socket, LOOK_S).get("/health")
    except (Refused, Unreachable) as error:
        return {"name": name, "socket": socket, "status": "no answer", "detail": str(error)}
    return {**health, "name": name, "socket": socket}


def _agent_row(agent: dict[str, Any]) -> tuple[str, ...]:
    return (
        agent["path"],
        agent["state"],
        _seconds(agent["uptime_s"]),
        _or_dash(agent["executor"]),
        _or_dash(agent["pid"]),
        str(agent["restarts_total"]),
        _percent(agent["cpu_percent"]),
        _bytes(agent["memory_bytes"]),
        note(agent),
    )


def _expect_health(nodes: list[dict[str, Any]]) -> None:
    """Fail if one of these agents and supervisors is parked or wedged."""
    bad = [f"{node['path'] or '/'} is {node['state']}" for node in nodes if node["state"] in ("parked", "wedged")]
    if bad:
        raise Failed(", ".join(bad), Exit.UNHEALTHY)


def _branches(node: dict[str, Any], before: str, below: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each node with its name behind the lines of the tree: `before` it, and `below` it for its children."""
    yield before + (node["name"] or "/"), node
    children = node["children"]
    for number, child in enumerate(children, start=1):
        is_last = number == len(children)
        branch, rest = ("└── ", "    ") if is_last else ("├── ", "│   ")
        yield from _branches(child, below + branch, below + rest)


def _print_figures(figures: dict[str, Any]) -> None:
    limit = figures["max_workers"]
    rows = (
        ("AGENTS", _counts(figures["agents"])),
        ("SUPERVISORS", _counts(figures["supervisors"])),
        ("QUEUED", str(figures["queued"]) + (f" (at most {limit} run at once)" if limit is not None else "")),
        ("RESTARTS", str(figures["restarts_total"])),
        ("EVENTS", str(figures["events"])),
        ("UPTIME", _seconds(figures["uptime_s"])),
        ("CPU", _percent(figures["cpu_percent"])),
        ("MEMORY", _bytes(figures["memory_bytes"])),
        ("THREADS", _or_dash(figures["threads"])),
    )
    for head, text in rows:
        click.echo(f"{head:<12} {text}")


def _counts(by_state: dict[str, int]) -> str:
    present = ((state, count) for state, count in by_state.items() if count)
    shown = ", ".join(f"{count} {painted(state) if is_coloured() else state}" for state, count in present)
    return f"{sum(by_state.values())}" + (f" ({shown})" if shown else "")


def _graph_lines(found: dict[str, Any]) -> Iterator[str]:
    after: dict[str, list[str]] = {}
    for edge in found["edges"]:
        after.setdefault(edge["from"], []).append(edge["to"])
    for node in found["nodes"]:
        needs = after.get(node["path"])
        yield (node["path"] or "/") + (f" -> {', '.join(needs)}" if needs else "")


def _dot_lines(found: dict[str, Any]) -> Iterator[str]:
    yield "digraph orchestree {"
    yield "    rankdir=LR"
    for node in found["nodes"]:
        shape = "box" if node["kind"] == "supervisor" else "ellipse"
        name = node["path"] or "/"
        yield f'    "{name}" [shape={shape}, tooltip="{node["state"]}"]'
    for edge in found["edges"]:
        yield f'    "{edge["from"]}" -> "{edge["to"]}"'
    yield "}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else duration(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}%"


def _bytes(value: int | None) -> str:
    return "-" if value is None else size(value)


def _or_dash(value: object) -> str:
    return "-" if value is None else printable(str(value))
