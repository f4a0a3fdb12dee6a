"""Runs an example as a person would, and compares what it does with what its header says.

A header has these blocks, each line indented by four spaces, each block at most once:

    Prints:                              stdout, line by line
    Shows, among others:                 log messages, in this order; numbers may differ
    Events, in this order:               ``type path``, all of them
    Events of each path, in this order:  ``path: type type ...``, all of the paths named (lines of a path add up)
    Among others, in this order:         ``type path``, the relative order where the tree guarantees it
    After Ctrl-C, in this order:         ``type path``, all from the signal on
    Exit code: N
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any

DEADLINE_S = 50.0
COMMAND = re.compile(r"^    (orchestree run|python) examples/\w+\.py$", re.MULTILINE)
TOOL = ("-c", "from orchestree.supervisor.control.cli import main; main()")
BLOCK = re.compile(r"^([A-Z][^\n]*):\n((?:    [^\n]+\n)+)", re.MULTILINE)
HIDDEN = ("agent_registered", "agent_message")
"""Logged below INFO: a person does not see them."""


class Header:
    """What the docstring of an example promises."""

    def __init__(self, source: str) -> None:
        text = (ast.get_docstring(ast.parse(source)) or "") + "\n"
        command = COMMAND.search(text)
        assert command, "the header shows no command"
        self.runs_itself = command[1] == "python"
        self.blocks = {title: [line[4:] for line in body.splitlines()] for title, body in BLOCK.findall(text)}
        code = re.search(r"^Exit code: (\d+)$", text, re.MULTILINE)
        assert code, "the header names no exit code"
        self.exit_code = int(code[1])

    def lines(self, title: str) -> list[str]:
        return self.blocks.get(title, [])

    @property
    def is_daemon(self) -> bool:
        return "After Ctrl-C, in this order" in self.blocks

    @property
    def by_path(self) -> dict[str, list[str]]:
        """The events of each path; the lines of one path add up."""
        events: dict[str, list[str]] = {}
        for line in self.lines("Events of each path, in this order"):
            path, _, types = line.partition(": ")
            events.setdefault(path, []).extend(types.split())
        return events


@dataclass
class Run:
    """What an example did."""

    header: Header
    events: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    stdout: str = ""
    exit_code: int | None = None

    def take(self, line: str) -> None:
        """Take in one line of JSON from stderr, of ``--log-json`` or of loguru's own."""
        record: dict[str, Any] = json.loads(line)
        record = record.get("record", record)
        extra = record["extra"]
        self.messages.append(record["message"].partition("\n")[0])
        kind = extra.get("event_type")
        if kind and kind not in HIDDEN:
            self.events.append(f"{kind} {record.get('path', extra.get('path'))}".rstrip())

    def missing(self) -> list[str]:
        """Return what the header promises of the running example and has not come yet."""
        numberless = [numbers_out(message) for message in self.messages]
        shown = [numbers_out(line) for line in self.header.lines("Shows, among others")]
        return not_found(self.header.lines("Among others, in this order"), self.events) + not_found(shown, numberless)

    def differences(self) -> list[str]:
        """Return in words where the run and its header differ."""
        header = self.header
        found = [f"not seen in this order: {line}" for line in self.missing()]
        found += differ("stdout", header.lines("Prints"), self.stdout.splitlines())
        found += differ("exit code", header.exit_code, self.exit_code)
        if "Events, in this order" in header.blocks:
            found += differ("events", header.lines("Events, in this order"), self.events)
        for path, types in header.by_path.items():
            own = [event.partition(" ")[0] for event in self.events if event.partition(" ")[2] == path]
            found += differ(path, types, own)
        if header.is_daemon:
            begin = self.events.index("orchestrator_stopping") if "orchestrator_stopping" in self.events else -1
            found += differ("after Ctrl-C", header.lines("After Ctrl-C, in this order"), self.events[begin:])
        return found


def run_example(file: Path, folder: Path) -> Run:
    """Run `file` in `folder` with the command of its header; a daemon gets its Ctrl-C when all has been seen."""
    run = Run(Header(file.read_text()))
    arguments = [str(file)] if run.header.runs_itself else [*TOOL, "run", "--log-json", str(file)]
    with started(arguments, folder, LOGURU_SERIALIZE="1", LOGURU_LEVEL="INFO") as process:
        assert process.stdout
        assert process.stderr
        interrupted = False
        for line in process.stderr:
            run.take(line)
            if run.header.is_daemon and not interrupted and not run.missing():
                process.send_signal(signal.SIGINT)
                interrupted = True
        run.stdout = process.stdout.read()
        run.exit_code = process.wait()
    return run


@contextmanager
def started(arguments: Sequence[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start Python with `arguments`; it is killed when it takes too long."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = Timer(DEADLINE_S, process.kill)
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()
            process.kill()


def not_found(wanted: Iterable[str], lines: Iterable[str]) -> list[str]:
    """Return the first of `wanted` that does not follow in `lines` after those before it, and all behind it."""
    rest = iter(lines)
    left = list(wanted)
    while left and left[0] in rest:
        left.pop(0)
    return left


def numbers_out(text: str) -> str:
    """Return `text` with a # for each number."""
    return re.sub(r"\d+(\.\d+)?", "#", text)


def differ(what: str, wanted: object, got: object) -> list[str]:
    """Return one line if the two differ."""
    return [] if wanted == got else [f"{what}:\n  header: {wanted}\n  run:    {got}"]
