"""The group of all commands.

Its help must come at once: nothing of the runtime may be imported before a command needs it.
"""

from __future__ import annotations

import click

from .completion_command import completion
from .event_commands import events, history, logs
from .explain_command import explain
from .inspect_command import inspect
from .metrics_commands import metrics
from .replay_command import replay
from .run_commands import check, run
from .show_commands import commands, graph, ls, ps, stats, tree
from .simulate_command import simulate
from .steer_commands import restart, set_policy, shutdown, start, stop
from .suggesting_group import SuggestingGroup


@click.group(cls=SuggestingGroup)
@click.version_option(package_name="orchestree")
def orchestree() -> None:
    """Run supervision trees: agents that crash and come back.

    TARGET is a file (`path/to/app.py` or `path/to/app.py:name`) or `module:name`. It holds an Orchestrator,
    or a function without arguments that returns one.

    All commands but `run`, `check`, `simulate`, `explain`, `replay` and `metrics export` ask a running orchestrator,
    through its socket: the only one, or the one that --name, --socket or ORCHESTREE_SOCKET names. PATH is an agent or a
    supervisor, with all below it; / is the root.

    Exit codes of these: 0 done, 1 failed, 2 wrong options, 3 no orchestrator to talk to, 4 not permitted, 5 --wait
    ran out, 6 something is parked or wedged (`ps --check`), 130 Ctrl-C.
    """


for command in (
    *(run, check, simulate, explain, replay),
    *(ls, ps, tree, inspect, stats, graph, metrics, commands),
    *(logs, events, history),
    *(start, stop, restart, set_policy, shutdown),
    completion,
):
    orchestree.add_command(command)
