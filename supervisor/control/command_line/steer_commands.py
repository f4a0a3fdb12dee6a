"""The commands that change something: `start stop restart set shutdown`."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import click

from .choosing import Choice, ControlCommand, path_argument
from .client import Client, Refused, Unreachable, agent_route
from .exit_codes import REFUSALS, Exit, Failed, failure_of
from .human import duration, printable
from .tables import as_json, print_json
from .waiting_shown import Answer, answers_of
from .waiting_words import MOVING

LONGEST_S: Final = 3600.0
"""Seconds that `--wait` waits at most, and if none are given."""

AT_ONCE: Final = 100
"""Requests that are open at the same time: the orchestrator grants so many. Further ones wait for these."""

NOT_UP: Final = frozenset({"backoff", "parked", "failed", "wedged"})
"""States in which an agent did not come up that somebody waited for."""

HELD_UP: Final = frozenset({"waiting", "queued"})
"""States in which an agent waits for something else until it starts."""

GRAVITY: Final = (Exit.NO_ORCHESTRATOR, Exit.NOT_PERMITTED, Exit.FAILED, Exit.WAIT_RAN_OUT)
"""Of several failures the first of these is the exit code."""

AS_JSON: Final[Mapping[str, str]] = MappingProxyType({"None": "null", "True": "true", "False": "false"})
"""How a VALUE is written that the orchestrator writes as Python does."""

_NUMBER: Final = re.compile(r"-?(\d+(\.\d+)?|\.\d+)")


class WaitingCommand(ControlCommand):
    """A command whose ``--wait`` takes seconds or none: only a number right behind it belongs to it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line with the seconds attached to the option."""
        return super().parse_args(ctx, _attached(args))


def _attached(args: Sequence[str]) -> list[str]:
    found: list[str] = []
    for position, word in enumerate(args):
        if word == "--":
            return [*found, *args[position:]]
        if word == "--wait":
            has_seconds = _NUMBER.fullmatch(args[position + 1] if position + 1 < len(args) else "")
            found.append("--wait" if has_seconds else f"--wait={LONGEST_S:g}")
        else:
            found.append(word)
    return found


wait_option = click.option(
    "--wait",
    metavar="[SECONDS]",
    type=click.FloatRange(0, LONGEST_S),
    help=f"Wait until it is done, so many seconds at most ({LONGEST_S:g} if none are given); exit code "
    f"{Exit.WAIT_RAN_OUT:d} if it is not done by then. What was asked for goes on.",
)


def _steering(act: Callable[..., None]) -> click.Command:
    """Make a command that takes paths, and may wait for what it does to them."""
    return click.command(cls=WaitingCommand)(path_argument(many=True)(wait_option(as_json(act))))


@_steering
def start(choice: Choice, paths: tuple[str, ...], wait: float | None, as_json: bool) -> None:
    """Start agents that do not run.

    PATH is an agent, or a supervisor for all below it. If one of several does not exist, nothing is done.

    Returns when it is accepted; with --wait, when it is ready, completed or has to wait for something else.
    """
    _steer("start", choice, paths, wait, as_json)


@_steering
def stop(choice: Choice, paths: tuple[str, ...], wait: float | None, as_json: bool) -> None:
    """Stop agents, and keep them down.

    PATH is an agent, or a supervisor for all below it. If one of several does not exist, nothing is done.

    Returns when it is accepted; with --wait, when it has stopped.
    """
    _steer("stop", choice, paths, wait, as_json)


@_steering
def restart(choice: Choice, paths: tuple[str, ...], wait: float | None, as_json: bool) -> None:
    """Stop agents and start them at once.

    PATH is an agent, or a supervisor for all below it; also one that is parked or waits for its restart. If one of
    several does not exist, nothing is done.

    Returns when it is accepted; with --wait, when it is ready, completed or has to wait for something else.
    """
    _steer("restart", choice, paths, wait, as_json)


@click.command(cls=WaitingCommand)
@wait_option
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(0), help="Then kill what has not stopped.")
@as_json
def shutdown(choice: Choice, wait: float | None, timeout: float | None, as_json: bool) -> None:
    """Stop the whole tree.

    What the program that runs it does then is its own matter.

    Returns when it is accepted; with --wait, when all has stopped.
    """
    client = choice.client()
    body = {} if timeout is None else {"timeout": timeout}
    asked = client.ask("POST", "/shutdown", {"wait": _seconds(wait)}, body, wait or 0)
    answers = answers_of(client, "shutdown", {"": asked}, wait)
    answer = answers[""]
    if isinstance(answer, dict):
        print_json(answer) if as_json else click.echo(_outcome(answer, {}))
    _finish("shutdown", answers, wait)


@click.command("set", cls=ControlCommand)
@path_argument()
@click.argument("changes", metavar="KEY=VALUE...", nargs=-1, required=True)
@as_json
def set_policy(choice: Choice, path: str, changes: tuple[str, ...], as_json: bool) -> None:
    """Change the policy of what runs.

    Shows each field that has changed, old -> new.

    A VALUE is JSON (5, true, null, '{"initial": 0.5}'), or else a text (transient).
    """
    body = dict(map(_change, changes))
    answer = choice.client().ask("PATCH", agent_route(path), None, body).answer()
    if as_json:
        print_json(answer)
        return
    for change in answer["changes"]:
        click.echo(printable(f"{change['field']}: {_as_input(change['old'])} -> {_as_input(change['new'])}"))
    if not answer["changes"]:
        click.echo("nothing to change")


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.UsageError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value, parse_constant=_no_constant)
    except ValueError:
        return key, value


def _as_input(text: str) -> str:
    """Return what Python writes as a value would be given."""
    is_quoted = len(text) > 1 and text[0] == text[-1] == "'"
    return text[1:-1] if is_quoted else AS_JSON.get(text, text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _steer(command: str, choice: Choice, paths: Sequence[str], wait: float | None, as_json: bool) -> None:
    """Ask for all at the same time, in the order given, and show each answer in that order."""
    client = choice.client()
    began = time.monotonic()
    answers: dict[str, Answer] = {}
    different = list(dict.fromkeys(paths))
    if len(different) > 1 and (unknown := _unknown(client, different)):
        _finish(command, unknown, wait)
    for first in range(0, len(different), AT_ONCE):
        left = wait if not first or wait is None else max(0, math.ceil(wait - (time.monotonic() - began)))
        asked = {
            path: client.ask("POST", agent_route(path, command), {"wait": _seconds(left)}, wait_s=left or 0)
            for path in different[first : first + AT_ONCE]
        }
        answers |= answers_of(client, command, asked, left)
    good = {path: answer for path, answer in answers.items() if isinstance(answer, dict)}
    if as_json:
        print_json(list(good.values()))
    else:
        reasons = _reasons(client, command, good.values())
        for path, answer in good.items():
            click.echo(f"{path or '/'}  {_outcome(answer, reasons)}")
    _finish(command, answers, wait)


def _seconds(wait: float | None) -> float | None:
    """Return `wait` as a person would write it, 5 for 5.0: it stands in an event."""
    return int(wait) if wait is not None and wait == int(wait) else wait


def _unknown(client: Client, paths: Sequence[str]) -> dict[str, Answer]:
    """Return the refusal for each path at which there is nothing; none if this user may not look."""
    try:
        known = {node["path"] for node in client.get("/graph")["nodes"]}
    except Refused as error:
        if error.status in REFUSALS:
            return {}
        raise
    refused: dict[str, Answer] = {}
    for path in paths:
        if path not in known:
            try:
                client.get(agent_route(path))  # it may have left the tree and still be known
            except Refused as error:
                if error.status not in REFUSALS:
                    refused[path] = error
    return refused


def _reasons(client: Client, command: str, answers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what those wait for that were to start and have to wait, by path."""
    if command == "stop" or not any(answer["state"] in HELD_UP for answer in answers):
        return {}
    try:
        nodes = client.get("/agents", {"supervisors": 1})
    except (Refused, Unreachable):  # it is not needed
        return {}
    reasons = {node["path"]: f" (for {', '.join(node['waiting_for'])})" for node in nodes if node["waiting_for"]}
    return reasons | {node["path"]: " (for a free worker)" for node in nodes if node["queued"]}


def _finish(command: str, answers: Mapping[str, Answer], wait: float | None) -> None:
    """End with what is wrong with the answers, if anything is."""
    failures = [failure for path, answer in answers.items() if (failure := _failure(command, path, answer, wait))]
    for failure in failures[:-1]:
        failure.show()
    if failures:
        worst = min((failure.code for failure in failures), key=GRAVITY.index)
        raise Failed(failures[-1].message, worst)


def _outcome(answer: dict[str, Any], reasons: Mapping[str, str]) -> str:
    unchanged = "" if answer["changed"] else " (nothing to do)"
    others = [path for path in answer["pending"] if path != answer.get("path")]
    goes_on = f" (still on their way: {_some(others)})" if others else ""
    reason = reasons.get(answer.get("path", ""), "") if answer["state"] in HELD_UP else ""
    return f"{answer['state']}{reason}{unchanged}{goes_on}"


def _failure(command: str, path: str, answer: Answer, wait: float | None) -> Failed | None:
    """Return what is wrong with an answer, or None."""
    shown = path or "/"
    if isinstance(answer, Refused | Unreachable):
        return failure_of(answer)
    if wait is None:
        return None
    others = [one for one in answer["pending"] if one != path]
    # The state is newer than the rest: it may have got there in between.
    if not answer["done"] and (others or answer["state"] in MOVING):
        goes_on = f"waits for {_some(others)}" if others else f"it is {answer['state']}"
        return Failed(f"{command} {shown}: not done after {duration(wait)}, {goes_on}", Exit.WAIT_RAN_OUT)
    if answer["state"] == "wedged" or (command in ("start", "restart") and answer["state"] in NOT_UP):
        return Failed(f"{command} {shown}: it is {answer['state']}; see `orchestree inspect {shown}`")
    return None


def _some(paths: Sequence[str], most: int = 5) -> str:
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(path or "/" for path in paths[:most]) + more
