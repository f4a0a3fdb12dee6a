"""The command ``orchestree``. All that takes time to load is loaded in `main`, where Ctrl-C is expected."""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130
"""`Exit.INTERRUPTED`, which may not have been loaded yet."""


def main(arguments: Sequence[str] | None = None, prog_name: str | None = None) -> None:
    """Run the command line, and end with its exit code; Ctrl-C ends it without a word."""
    try:
        from orchestree.supervisor.control.command_line.all_commands import orchestree

        orchestree.main(arguments, prog_name)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
