"""What an agent's process prints: passed on to where the orchestrator prints; its last lines are for the report."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from orchestree.agents.secrets import NO_SECRETS, Masker

LINES: Final = 50
"""So many of the last lines are kept of both streams together."""
LINE: Final = 1_000
"""Characters that are kept of a line."""
_CHUNK: Final = 65_536
_MOST_CHUNKS: Final = 8
"""More than a pipe holds, unless somebody goes on writing."""


class Printed:
    """The reading ends of both pipes of one run. Never blocks. Two threads may use it, one at a time."""

    def __init__(
        self, out: int, err: int, mask: Masker = NO_SECRETS, keep: Callable[[int, str], None] | None = None
    ) -> None:
        """Own the descriptors.

        Args:
            out: what it prints on stdout.
            err: what it prints on stderr.
            mask: hides secrets in the lines that are kept; what is passed on is not touched.
            keep: takes each whole line and where it is to go, 1 or 2; must not block or raise.
        """
        self.pipes: Final = {out: 1, err: 2}
        """Where what comes from each is to go."""
        self._mask = mask
        self._keep = keep
        self._lines: deque[str] = deque(maxlen=LINES)
        self._unfinished = {out: b"", err: b""}
        self._begun = {out: b"", err: b""}  # of a very long line, what was passed on before its end
        for pipe in self.pipes:
            os.set_blocking(pipe, False)

    def read(self, pipe: int) -> Callable[[], None] | None:
        """Read some; return what passes on the lines that are whole now, and blocks; None at the end."""
        try:
            content = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return _do_nothing
        if not content:
            return None
        content = self._unfinished[pipe] + content
        whole = content.rfind(b"\n") + 1 or (len(content) if len(content) > _CHUNK else 0)
        self._unfinished[pipe] = content[whole:]
        *lines, begun = (self._begun[pipe] + content[:whole]).split(b"\n")
        self._keep_lines(pipe, lines)
        self._begun[pipe] = begun[: 4 * LINE]
        return partial(pass_on, content[:whole], self.pipes[pipe])

    def read_rest(self) -> list[Callable[[], None]]:
        """Read all that is left; return what passes it on."""
        found: list[Callable[[], None]] = []
        for pipe in self.pipes:
            for _ in range(_MOST_CHUNKS):
                action = self.read(pipe)
                if action is None or action is _do_nothing:
                    break
                found.append(action)
            rest, self._unfinished[pipe] = self._unfinished[pipe], b""
            if line := self._begun[pipe] + rest:
                self._keep_lines(pipe, [line])
            if rest:
                found.append(partial(pass_on, rest, self.pipes[pipe]))
        return found

    def _keep_lines(self, pipe: int, lines: list[bytes]) -> None:
        for line in lines if self._keep is not None else lines[-LINES:]:
            text = self._mask(line.decode(errors="replace").rstrip("\r"))  # before it is cut off
            self._lines.append(text[:LINE])
            if self._keep is not None:
                self._keep(self.pipes[pipe], text)

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines, oldest first, in the order in which they were read."""
        return tuple(self._lines)

    def close(self) -> None:
        """Close the pipes."""
        for pipe in self.pipes:
            os.close(pipe)


def pass_on(content: bytes, descriptor: int) -> None:
    """Write to the orchestrator's own stdout (1) or stderr (2); what cannot be written is nobody's loss."""
    if (sys.__stdout__ if descriptor == 1 else sys.__stderr__) is None:
        return  # the program was started without it, and the number may mean another file
    with suppress(OSError):
        while content:
            content = content[os.write(descriptor, content) :]


def _do_nothing() -> None:
    """Stand for nothing having been there."""
