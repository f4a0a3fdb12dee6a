"""The command `inspect`: all that is known of one agent or supervisor, in sections."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from .choosing import Choice, ControlCommand, path_argument
from .client import agent_route
from .human import clock, duration, printable, size
from .tables import as_json, is_coloured, painted, print_json

WIDTH: Final = 16
"""Of the column of names."""


@click.command(cls=ControlCommand)
@path_argument()
@as_json
def inspect(choice: Choice, path: str, as_json: bool) -> None:
    """Show all about an agent or supervisor.

    Its state, policy, config, and its last crash with traceback and output.
    """
    found = choice.client().get(agent_route(path))
    if as_json:
        print_json(found)
        return
    for line in sections(found, coloured=is_coloured()):
        click.echo(line)


def sections(found: Mapping[str, Any], *, coloured: bool = False) -> Iterator[str]:
    """Yield the lines for one agent or supervisor."""
    yield found["path"] or "/"
    yield from _fields(_state(found, coloured))
    for head in ("policy", "config"):
        if found[head]:
            yield f"{head.upper()}"
            yield from _fields({name: _value(value) for name, value in found[head].items()})
    if found["params"]:
        yield "PARAMS"
        yield from (f"  {printable(name)}" for name in found["params"])
    if found["children"]:
        yield "CHILDREN"
        yield from (f"  {path}" for path in found["children"])
    if found["last_crash"]:
        yield "LAST CRASH"
        yield from _crash(found["last_crash"])


def _state(found: Mapping[str, Any], coloured: bool) -> dict[str, str]:
    """Return the fields of the first section; those that say nothing are empty."""
    restart = found["next_restart_s"]
    return {
        "kind": found["kind"],
        "agent": printable(found["agent"] or ""),
        "state": painted(found["state"]) if coloured else found["state"],
        "executor": found["executor"] or "",
        "pid": "" if found["pid"] is None else str(found["pid"]),
        "uptime": "" if found["uptime_s"] is None else duration(found["uptime_s"]),
        "restarts in": "" if restart is None else duration(restart),
        "incarnation": str(found["incarnation"]),
        "restarts": str(found["restarts_total"]),
        "streak": str(found["streak"]),
        "depends on": ", ".join(found["depends_on"]),
        "waits for": ", ".join(found["waiting_for"]),
        "cpu": "" if found["cpu_percent"] is None else f"{found['cpu_percent']:.1f}%",
        "memory": "" if found["memory_bytes"] is None else size(found["memory_bytes"]),
        "result": "" if found["result"] is None else _value(found["result"]),
    }


def _crash(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report: short fields first, then the long texts whole."""
    long = {"traceback", "stacks", "output", "notes"}
    short = {name: value for name, value in report.items() if name not in long and value not in (None, "", [])}
    yield from _fields({name: _reported(name, value) for name, value in short.items()})
    for name in ("notes", "traceback", "stacks", "output"):
        text = report.get(name)
        if text:
            yield f"  {name}"
            lines = text.splitlines() if isinstance(text, str) else text
            yield from (f"    {printable(line)}" for line in lines)


def _reported(name: str, value: Any) -> str:
    match name:
        case "uptime_s" | "silent_s" | "delay_s":
            return duration(value)
        case "first_seen":
            return clock(value)
        case "max_memory":
            return size(value)
        case _:
            return _value(value)


def _fields(fields: Mapping[str, str]) -> Iterator[str]:
    return (f"  {printable(name):<{WIDTH}} {text}" for name, text in fields.items() if text)


def _value(value: Any) -> str:
    """Return a value of JSON on one line; a text without its quotes."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
