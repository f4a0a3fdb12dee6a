"""The command line tool.

Its help must come at once: nothing of the runtime may be imported before a command needs it.
"""

from __future__ import annotations

import click

from .run_commands import check, run


@click.group()
@click.version_option(package_name="orchestree")
def main() -> None:
    """Run supervision trees: agents that crash and come back.

    TARGET is a file (`path/to/app.py` or `path/to/app.py:name`) or `module:name`. It holds an Orchestrator,
    or a function without arguments that returns one.
    """


for command in (run, check):
    main.add_command(command)
