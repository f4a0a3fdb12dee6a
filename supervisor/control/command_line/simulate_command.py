"""The command `simulate`: what a tree would do under faults, in virtual time. The runtime is imported when called."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from orchestree.supervisor.simulation.limits import DEFAULT_MAX_EVENTS

from .exit_codes import Command, Exit, Failed
from .loading_target import given_settings, load_quietly, takes_target
from .tables import as_json

if TYPE_CHECKING:
    from orchestree.supervisor.orchestrator import Orchestrator
    from orchestree.supervisor.simulation.faults import Fault
    from orchestree.supervisor.simulation.result import Simulation

PLAIN_WIDTH: Final = 80
"""Characters of a line where there is no terminal."""
MOST_WIDTH: Final = 1000


def _seconds(context: click.Context, parameter: click.Parameter, text: str) -> float:
    from orchestree.strategies.errors import SpecError
    from orchestree.supervisor.predicting import seconds_of

    try:
        return seconds_of("until", text)
    except SpecError as error:
        raise click.BadParameter(str(error).removeprefix("until=")) from None


def _whole_number(
    least: int | None = None, most: int | None = None
) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """Return what reads a whole number from `least` to `most`."""
    within = "" if least is None else f", {least} or more" if most is None else f", {least} to {most:,}"

    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
        if text is None:
            return None
        number = int(text) if re.fullmatch(r"[+-]?[0-9]{1,1000}", text) else None
        if number is None or (least is not None and number < least) or (most is not None and number > most):
            raise click.BadParameter(f"{text!r}: must be a whole number{within}")
        return number

    return read


def _fault(line: str, place: str = "") -> Fault:
    """Return the fault of one line; `place` goes before the message if it is wrong."""
    from orchestree.strategies.errors import SpecError
    from orchestree.supervisor.simulation import parse_fault

    try:
        return parse_fault(line)
    except SpecError as error:
        raise click.UsageError(f"{place}{error}") from None


def _faults_of_option(context: click.Context, parameter: click.Parameter, lines: tuple[str, ...]) -> list[Fault]:
    return [_fault(line) for line in lines]


def _faults_of_file(context: click.Context, parameter: click.Parameter, file: Path | None) -> list[Fault]:
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise click.BadParameter(f"{file}: {error.strerror}") from None
    except ValueError:
        example = "right is, for example, a line such as 'worker: crash every 7s'"
        raise click.BadParameter(f"{file}: is no text (UTF-8); {example}") from None
    said = [(number, line.partition("#")[0].strip()) for number, line in enumerate(lines, start=1)]
    return [_fault(line, f"{file}:{number}: ") for number, line in said if line]


@click.command(cls=Command)
@takes_target
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="LINE",
    callback=_faults_of_option,
    help="What goes wrong, such as 'worker: crash every 7s'; can be repeated.",
)
@click.option(
    "--faults",
    "more_faults",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_faults_of_file,
    help="The same from a file, one a line; # begins a comment.",
)
@click.option(
    "--until", default="1h", metavar="TIME", callback=_seconds, help="Time to simulate: 90, 24h, 1h30m.  [1h]"
)
@click.option(
    "--seed",
    default="0",
    metavar="N",
    callback=_whole_number(),
    help="Of everything random; the same one, the same output.  [0]",
)
@click.option(
    "--max-events",
    default=str(DEFAULT_MAX_EVENTS),
    metavar="N",
    callback=_whole_number(1),
    help=f"Stop when so many have happened, or moments that led to none.  [{DEFAULT_MAX_EVENTS}]",
)
@click.option(
    "--width",
    metavar="N",
    callback=_whole_number(40, MOST_WIDTH),
    help="Characters of a line of the chart.  [the terminal's, or 80]",
)
@click.option("--check", "must_be_well", is_flag=True, help="Exit code 1 unless all is well at the end.")
@as_json
def simulate(
    target: str,
    arguments: tuple[str, ...],
    settings: tuple[str, ...],
    file: str | None,
    faults: list[Fault],
    more_faults: list[Fault],
    until: float,
    seed: int,
    max_events: int,
    width: int | None,
    must_be_well: bool,
    as_json: bool,
) -> None:
    """Show what TARGET would do if this and that went wrong, in virtual time; nothing is started.

    The policies are the real ones. Agents only pretend to run: they are ready at once, go on for ever and stop
    when asked, unless a fault says otherwise (a job that ends needs `complete`). A fault is written `PATH: WHAT
    WHEN`, such as `worker: crash every 7s`; PATH is an agent, or a supervisor with all agents below it, and / is the
    whole tree. WHAT WHEN is `crash every 7s`, `crash about every 60s`, `crash 5s after ready`,
    `crash 5 times every 1s from 10s`, `crash in setup at 10s`, `crash with ValueError at 10s`, `crash with exit code
    78 at 10s`, `crash with SIGKILL at 10s`, `run out of memory at 5s`, `lost at 5s`, `hang at 30s`, `hang every 10m
    for 20s`, `complete 5s after ready`, `down from 10s to 20m` (what it needs is down: it crashes, and each start
    fails until then), `slow start 20s`, `slow start forever`, `ignore stop from 10s to 1m`.

    Prints states over time as a chart, with the figures of each agent. --json prints the events, one object a line.

    Exit codes: 0 simulated, whatever became of the tree, 1 stopped by --max-events (or, with --check, an agent is
    down, waits or hangs at the end, the tree fell, or a fault never happened), 2 wrong options or a wrong fault, 78
    bad TARGET or configuration, or a fault that cannot happen in it.
    """
    given = given_settings(settings, file)

    def use(orchestrator: Orchestrator) -> int:
        from orchestree.supervisor.predicting import simulate

        with redirect_stdout(sys.stderr):  # the tree's own hooks may print
            simulation = simulate(orchestrator, [*faults, *more_faults], until=until, seed=seed, max_events=max_events)
        if as_json:
            sys.stdout.writelines(f"{line}\n" for line in simulation.json_lines())
        else:
            _print_timeline(simulation, width)
        if simulation.stopped_by == "max_events":
            raise Failed(_cut_short(simulation, max_events))
        return Exit.FAILED if must_be_well and not _is_well(simulation) else Exit.DONE

    load_quietly(target, arguments, given, use)


def _is_well(simulation: Simulation) -> bool:
    from orchestree.supervisor.simulation.shown.timeline import is_well

    return is_well(simulation)


def _print_timeline(simulation: Simulation, width: int | None) -> None:
    from orchestree.supervisor.simulation.shown.timeline import timeline

    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH
    click.echo(timeline(simulation, width=width or columns))


def _cut_short(simulation: Simulation, max_events: int) -> str:
    from orchestree.supervisor.phrases import duration
    from orchestree.supervisor.simulation.durations import in_words

    return (
        f"stopped by --max-events {max_events} after {duration(simulation.ended_at)} of {in_words(simulation.until)}: "
        "ask for less (--until), or allow more (--max-events)"
    )
