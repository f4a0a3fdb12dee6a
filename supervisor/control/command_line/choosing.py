"""Which orchestrator a command talks to: ``--socket``, ``--name``, the environment, or the only one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from orchestree.supervisor.control import places

from .client import ANSWER_S, Client, Refused, Unreachable
from .exit_codes import Command
from .human import printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Function = TypeVar("Function", bound=Callable[..., Any])

VARIABLE: Final = "ORCHESTREE_SOCKET"
COMPLETION_S: Final = 1.0
"""Seconds that somebody waits for after the tabulator key, at most."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was said about the orchestrator to talk to; both None: the only one there is."""

    socket: str | None = None
    name: str | None = None

    def client(self, answer_s: float = ANSWER_S) -> Client:
        """Return a client of the chosen orchestrator, which has `answer_s` seconds for an answer.

        Raises:
            Unreachable: there is none, or none of this name.
            click.UsageError: there are several.
        """
        return Client(self.socket or self._find(), answer_s)

    def _find(self) -> str:
        found = running()
        if self.name is not None:
            socket = next((str(place.socket) for place in found if place.name == self.name), None)
            if socket is None:
                from orchestree.strategies.errors import did_you_mean

                hint = did_you_mean(self.name, [place.name for place in found])
                raise Unreachable(f"no orchestrator named {self.name!r} is running in {places.runtime_folder()}{hint}")
            return socket
        if not found:
            raise Unreachable(none_running())
        if len(found) > 1:
            listed = "\n".join(f"  --name {place.name}   ({place.socket})" for place in found)
            raise click.UsageError(f"several orchestrators are running; choose one (or set {VARIABLE}):\n{listed}")
        return str(found[0].socket)


def none_running() -> str:
    """Return one line: where there is none, and what to do."""
    return (
        f"no orchestrator is running in {places.runtime_folder()}: start one (`orchestree run TARGET`), "
        "or say where its socket is (--socket PATH)"
    )


def running() -> list[places.Place]:
    """Return the running orchestrators, by name.

    Raises:
        Refused: others could have put something into the folder of the sockets.
    """
    try:
        return places.find_orchestrators()
    except PermissionError as error:
        raise Refused(403, "not_permitted", str(error)) from None


def chosen(context: click.Context) -> Choice:
    """Return what the command line says; an option beats the environment.

    Raises:
        click.UsageError: both options are given.
    """
    socket, name = context.params.get("socket"), context.params.get("name")
    if socket and name:
        if context.get_parameter_source("socket") is not ParameterSource.ENVIRONMENT:
            raise click.UsageError("give --name or --socket, not both")
        socket = None
    return Choice(socket, name)


def complete_name(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of running orchestrators."""
    from click.shell_completion import CompletionItem

    try:
        names = [printable(place.name) for place in running()]
    except Refused:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_path(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the paths of agents and supervisors, as far as somebody answers at once."""
    from click.shell_completion import CompletionItem

    try:
        graph = chosen(context).client(COMPLETION_S).get("/graph")
    except Exception:  # whatever it is, the person is in the middle of typing
        return []
    given = (context.params.get("paths") or ()) if parameter.nargs == -1 else ()
    paths = [node["path"] or "/" for node in graph["nodes"] if node["path"] not in given]
    return [CompletionItem(path) for path in paths if path.startswith(incomplete)]


def complete_file(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete the name of a file."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


class ControlCommand(Command):
    """A command that talks to one orchestrator: has the options for it, and gets a `Choice` as ``choice``."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Add the options to the command's own."""
        super().__init__(*arguments, **settings)
        self.params += [
            click.Option(["--name"], metavar="NAME", help="Of the orchestrator to ask.", shell_complete=complete_name),
            click.Option(["--socket"], metavar="PATH", envvar=VARIABLE, show_envvar=True, help="Of its socket."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command with the choice."""
        choice = chosen(ctx)
        others = {key: value for key, value in ctx.params.items() if key not in ("socket", "name")}
        ctx.params = {"choice": choice, **others}
        return super().invoke(ctx)


def tree_path(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Turn PATH, or several, as people write them into what the tree calls them: ``/`` is the root, ``""``."""
    if isinstance(value, tuple):
        return tuple(path.strip("/") for path in value)
    return value.strip("/") if value is not None else None


def path_argument(*, many: bool = False, required: bool = True) -> Callable[[Function], Function]:
    """Return the argument PATH of an agent or supervisor."""
    return click.argument(
        "paths" if many else "path",
        metavar="PATH..." if many else "PATH" if required else "[PATH]",
        nargs=-1 if many else 1,
        required=required,
        callback=tree_path,
        shell_complete=complete_path,
    )
