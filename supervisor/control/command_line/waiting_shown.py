"""Waits for the answers to commands, and shows meanwhile, agent by agent, what is being waited for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Final

import click

from .client import Asked, Client, Refused, Unreachable
from .human import duration, shortened
from .waiting_words import MOVING, Waited, waiting_text

LINE_S: Final = 2.0
"""Seconds between two lines on what is no terminal."""
TERMINAL_S: Final = 0.5
"""Seconds between two looks on a terminal, where one line is written over and over."""
WIDTH: Final = 80
"""Columns of a terminal that does not say how many it has."""

STILL_UP: Final = frozenset({"ready", "waiting", "queued", "backoff"})

Answer = dict[str, Any] | Refused | Unreachable


def answers_of(client: Client, command: str, asked: Mapping[str, Asked], wait: float | None) -> dict[str, Answer]:
    """Return the answer for each path, in the order of `asked`: an object, `Refused` or `Unreachable`.

    Who asked to `wait` (seconds) reads on stderr meanwhile what is being waited for.
    """
    if wait:
        _show_until_answered(WaitingLine(client, command), asked, time.monotonic() + wait)
    return {path: _answer(one) for path, one in asked.items()}


def _show_until_answered(line: WaitingLine, asked: Mapping[str, Asked], deadline: float) -> None:
    """Return when all answers have begun to come, or when the last of them is due."""
    with DefaultSelector() as selector:
        for path, one in asked.items():
            selector.register(one, EVENT_READ, path)
        try:
            while (waited_for := selector.get_map()) and time.monotonic() < deadline:
                ready = selector.select(line.interval_s)
                for key, _ in ready:
                    selector.unregister(key.fileobj)
                if not ready:
                    line.show([key.data for key in waited_for.values()])
        finally:
            line.clear()


def _answer(asked: Asked) -> Answer:
    try:
        answer: dict[str, Any] = asked.answer()
        return answer
    except (Refused, Unreachable) as error:
        return error


class WaitingLine:
    """One line on stderr: over and over on a terminal, else a new one each time."""

    def __init__(self, client: Client, command: str) -> None:
        """Show how `command` gets on at the orchestrator of `client`."""
        self._client, self._command = client, command
        self._is_terminal = sys.stderr.isatty()
        self._since = time.monotonic()
        self._is_shown = False
        self.interval_s = TERMINAL_S if self._is_terminal else LINE_S

    def show(self, paths: list[str]) -> None:
        """Say which agents at or below `paths` have not got there yet."""
        passed = duration(time.monotonic() - self._since)
        line = f"{self._command}: {passed}, {waiting_text(one for path in paths for one in self._moving(path))}"
        if self._is_terminal:
            self._is_shown = True
            click.echo(f"\r\x1b[K{shortened(line, _columns() - 1)}", nl=False, err=True)
        else:
            click.echo(line, err=True)

    def clear(self) -> None:
        """Leave a clean line behind."""
        if self._is_shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _moving(self, path: str) -> list[Waited]:
        """Return the agents that are on their way; `path` alone if nobody tells."""
        on_its_way = MOVING if self._command in ("start", "restart") else MOVING | STILL_UP
        try:
            agents = self._client.get("/agents", {"path": path})
        except (Refused, Unreachable):
            agents = []
        moving = [
            Waited(agent["path"], agent["state"], agent["next_restart_s"], tuple(agent["waiting_for"]))
            for agent in agents
            if agent["state"] in on_its_way
        ]
        return moving or [Waited(path or "/")]


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
    except OSError:
        return WIDTH
