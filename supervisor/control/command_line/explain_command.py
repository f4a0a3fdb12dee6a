"""The command `explain`: what a tree would do about failures, and what looks wrong in its numbers."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .exit_codes import Command, Exit
from .loading_target import given_settings, load_quietly, takes_target_and_path
from .tables import as_json, print_json

if TYPE_CHECKING:
    from orchestree.supervisor.orchestrator import Orchestrator


@click.command(cls=Command)
@takes_target_and_path
@click.option("--check", "is_check", is_flag=True, help="Exit with 1 if there are warnings.")
@as_json
def explain(
    target: str,
    path: str,
    arguments: tuple[str, ...],
    settings: tuple[str, ...],
    file: str | None,
    is_check: bool,
    as_json: bool,
) -> None:
    """Tell what TARGET would do about failures, and warn of what looks like a mistake in its numbers.

    For each agent: its next delays when it fails again and again as soon as it is ready (a range, because of jitter),
    when it is given up on, how often its own failures can have it restarted in a minute, and what a failure stops.
    For each supervisor: whether one child alone can end it, and what happens when all of them fail. All of it is
    simulated with the specifications that would run; nothing is started.

    PATH is an agent, or a supervisor with all below it. ARGUMENTS for TARGET come behind it (`/` is all).

    Exit codes: 0 done, 1 warnings with --check, 78 bad TARGET, configuration or PATH.
    """
    given = given_settings(settings, file)

    def use(orchestrator: Orchestrator) -> int:
        from orchestree.supervisor.explaining import explain
        from orchestree.supervisor.simulation.shown.explanation_text import WIDTH, explanation_lines

        explanation = explain(orchestrator, path)
        if as_json:
            print_json(asdict(explanation))
        else:
            columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
            for line in explanation_lines(explanation, min(columns, WIDTH)):
                click.echo(line)
        return Exit.FAILED if is_check and explanation.warnings else Exit.DONE

    load_quietly(target, arguments, given, use)
