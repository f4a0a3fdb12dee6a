"""Who may do what through the control API: the commands, their groups, and the one place that decides.

Standard library only (beside the errors), since the command line imports it, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from orchestree.strategies.errors import SpecError, did_you_mean

READ_ONLY: Final = frozenset({"ps", "tree", "inspect", "logs", "events", "stats", "graph"})
OPERATE: Final = READ_ONLY | {"start", "stop", "restart"}
FULL: Final = OPERATE | {"set", "shutdown"}
COMMANDS: Final = FULL
"""Every command that there is."""

GROUPS: Final = MappingProxyType({"read_only": READ_ONLY, "operate": OPERATE, "full": FULL})
"""What a name in ``control_permissions`` stands for."""


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever sent a request.

    Attributes:
        uid: of the process at the other end of the UNIX socket, as the kernel says; None if it came another way.
        pid: of that process.
        token: name (not the secret) of the token that was shown; None if there was none.
    """

    uid: int | None = None
    pid: int | None = None
    token: str | None = None


NOBODY: Final = Who()
"""Somebody of whom nothing is known."""


def permitted(permissions: str | Iterable[str]) -> frozenset[str]:
    """Return the commands that `permissions` allow: the name of a group, or names of commands.

    Raises:
        SpecError: there is no such group or command.
    """
    if isinstance(permissions, str):
        group = GROUPS.get(permissions)
        if group is None:
            hint = did_you_mean(permissions, GROUPS)
            raise SpecError(f"control_permissions={permissions!r}: must be {_listed(GROUPS)} or commands{hint}")
        return group
    commands = frozenset(permissions)
    for unknown in sorted(map(str, commands - COMMANDS)):
        hint = did_you_mean(unknown, sorted(COMMANDS))
        raise SpecError(f"control_permissions: there is no command {unknown!r}{hint}; there are {_listed(COMMANDS)}")
    return commands


class Authority:
    """The one place that decides what somebody may do. Whoever it does not know may do nothing.

    Args:
        local: what a process may do that came through the UNIX socket, as for `permitted`. (The socket itself lets
            in nobody but the same user and root.)
    """

    def __init__(self, local: str | Iterable[str]) -> None:
        """Check the names."""
        self._local = permitted(local)

    def commands_of(self, who: Who) -> frozenset[str]:
        """Return all that `who` may do."""
        came_by_socket = who.uid is not None and who.token is None
        return self._local if came_by_socket else frozenset()

    def lets_in(self, who: Who) -> bool:
        """Return whether `who` is known at all."""
        return who.uid is not None and who.token is None

    def may(self, who: Who, command: str | None) -> bool:
        """Return whether `who` may use `command`; None stands for what everybody may who is let in."""
        return self.lets_in(who) and (command is None or command in self.commands_of(who))


def _listed(names: Iterable[str]) -> str:
    return " ".join(sorted(names))
