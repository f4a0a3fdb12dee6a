"""The command `replay`: why something was restarted, or was not, as a history file and the tree tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .exit_codes import Command, Exit, Failed
from .human import clock, printable, shortened
from .loading_target import BadTarget, given_settings, load_quietly, takes_tree
from .tables import as_json, print_json, print_table

if TYPE_CHECKING:
    from orchestree.supervisor.events import Event
    from orchestree.supervisor.orchestrator import Orchestrator
    from orchestree.supervisor.simulation.replayed.decisions import EndDecided
    from orchestree.supervisor.simulation.replayed.replay_result import Replay
    from orchestree.supervisor.simulation.replayed.why import Account

HEADS = ("EVENT", "TIME", "PATH", "ENDED", "DECIDED")
MOST: Final = 80
"""Characters of how one ended, in the table."""


def _moment(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    from .moments import moment

    try:
        return None if text is None else moment(text, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(cls=Command)
@click.argument("history", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("path", default="")
@takes_tree
@click.option(
    "--run", metavar="ID", help="Of this run of the orchestrator; the default is that of --at, or the latest."
)
@click.option(
    "--at", metavar="WHEN", callback=_moment, help="10m or '10m ago', 03:12, or an ISO time; the default is the end."
)
@as_json
@click.pass_context
def replay(
    context: click.Context,
    history: Path,
    path: str,
    arguments: tuple[str, ...],
    target: str | None,
    settings: tuple[str, ...],
    file: str | None,
    run: str | None,
    at: float | None,
    as_json: bool,
) -> None:
    """Tell why PATH was restarted, or was not, and what was decided from.

    FILE is the history of an orchestrator, which may be running. The events of a run, which say its policies, too, are
    told once more to the code that decides. Without PATH: a table of what was decided about each end. Nothing is
    started.

    PATH is an agent or a supervisor; / is the root. If it is down or up for something else, such as the stop of the
    whole tree, what was decided when it last ended by itself is told below. --json has values, too: the state and since
    when, the decision that led to it, or else the earlier one.

    With --tree the policies are those of TARGET, to see where they would have decided something else: the replay ends
    at the first event that TARGET would not have decided, also if that is about an unrelated agent. A backoff whose
    text does not say all of it (functions of yours, wait_random, sums) is then asked; without --tree what it decided is
    taken from the log. ARGUMENTS for TARGET come behind PATH.

    Exit codes: 0 done, 1 the history cannot be read, or begins after WHEN, or something else would have been decided,
    78 bad TARGET, configuration or PATH.
    """
    if at is not None and not path:
        raise click.UsageError("--at needs a PATH")
    if target is None and (arguments or settings or file is not None):
        raise click.UsageError("ARGUMENTS, --set and --config need a --tree")
    given = given_settings(settings, file)
    events = _events(history, run, at)

    def use(orchestrator: Orchestrator | None) -> int:
        from orchestree.supervisor.replaying import replay

        found = replay(events, orchestrator)
        account = _account(found, path, at, history) if path else None
        if as_json:
            print_json(_as_json(found, account))
        else:
            _print(found, account)
        return Exit.DONE if found.divergence is None else Exit.FAILED

    if target is not None:
        load_quietly(target, arguments, given, use)
    context.exit(_from_the_log(history, use))


def _events(file: Path, run: str | None, at: float | None) -> tuple[Event, ...]:
    from orchestree.strategies.errors import SpecError
    from orchestree.supervisor.past_runs import run_at, whole_run

    try:
        return whole_run(file, run_at(file, at) if run is None and at is not None else run)
    except SpecError as error:
        raise Failed(str(error)) from None


def _from_the_log(history: Path, use: Callable[[None], int]) -> int:
    from orchestree.strategies.errors import SpecError

    try:
        return use(None)
    except SpecError as error:
        raise Failed(f"{history}: {error} (--tree)") from None


def _account(found: Replay, path: str, at: float | None, history: Path) -> Account:
    from orchestree.strategies.errors import NotFound, SpecError
    from orchestree.supervisor.past_runs import run_at
    from orchestree.supervisor.simulation.replayed.why import account_of

    try:
        return account_of(found, "" if path == "/" else path, at)
    except NotFound as error:
        raise BadTarget(str(error)) from None
    except SpecError as error:  # `at`, which is a moment, is before the run
        assert at is not None
        nothing = f"{history} holds nothing from before then"
        run = run_at(history, at)
        raise Failed(f"--{error}; {f'--run {run} is the latest that had begun by then' if run else nothing}") from None


def _print(found: Replay, account: Account | None) -> None:
    from orchestree.supervisor.simulation.replayed.wording import decided, ended

    if account is None:
        print_table(
            HEADS,
            [
                [
                    str(one.number),
                    clock(one.time),
                    one.path,
                    shortened(printable(ended(one)), MOST),
                    printable(decided(one)),
                ]
                for one in found.decisions
            ],
        )
    for line in account.lines if account is not None else ():
        click.echo(printable(line))
    for assumption in found.assumptions:
        click.echo(printable(f"assumed: {assumption}"), err=True)
    if found.divergence is not None and (account is None or account.asked_at < found.divergence.event.time):
        click.echo(printable(f"the replay ends at {found.divergence}"))


def _as_json(found: Replay, account: Account | None) -> dict[str, Any]:
    told = {"decisions": [_decision(one) for one in found.decisions]} if account is None else _told(account)
    divergence = None
    if found.divergence is not None:
        divergence = {"event": found.divergence.event.seq, "text": str(found.divergence)}
    return {"run": found.events[0].run, **told, "divergence": divergence, "assumptions": list(found.assumptions)}


def _told(account: Account) -> dict[str, Any]:
    told = {name: getattr(account, name) for name in ("path", "asked_at", "told_at", "state", "since")}
    ends = {"decision": account.decision, "earlier": account.earlier}
    decisions = {name: None if one is None else _decision(one) for name, one in ends.items()}
    return {**told, **decisions, "why": list(account.lines)}


def _decision(one: EndDecided) -> dict[str, Any]:
    given = one.inputs
    inputs = {name: getattr(given, name) for name in given.__slots__ if name != "rules"}
    told = ("number", "time", "monotonic", "path", "incarnation", "outcome", "delay", "why", "draw", "offender")
    return {
        **{name: getattr(one, name) for name in told},
        "group": list(one.group),
        "reason": {"kind": one.reason.kind, "cause": one.reason.cause},
        "message": one.report.message if one.report is not None else "",
        "rule": None if one.rule is None else str(one.rule),
        "inputs": inputs,
    }
