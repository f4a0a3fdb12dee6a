"""Log records on their way from the loguru of an agent's process to that of the orchestrator; output as well."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from loguru import logger

from orchestree.agents.log_lines import RecordPatch

from .wire import LogRecord

if TYPE_CHECKING:
    from loguru import Message, Record

BACKLOG: Final = 10_000
"""Records that may wait for a slow sink."""
PATIENCE_S: Final = 2.0
"""How long a sink that stands still holds up the reading of further records, once; then they are dropped."""
CLOSE_S: Final = 1.0
"""Seconds that `LogWriter.close` waits for slow sinks."""

_AS_THEY_ARE: Final = ("time", "message", "name", "function", "line", "module")
_PARTS: Final = {
    "level": ("name", "no", "icon"),
    "file": ("name", "path"),
    "process": ("id", "name"),
    "thread": ("id", "name"),
}
_PLAIN: Final = (str, int, float, bool, type(None))


class LogWriter:
    """Calls the application's sinks, in a daemon thread that they may hold up: ``orchestree-logs``."""

    def __init__(self) -> None:
        """Start the thread."""
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(BACKLOG)
        self._lost = 0
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="orchestree-logs", daemon=True)
        self._thread.start()

    def put(self, log: Callable[[], None]) -> None:
        """Have `log` called. Waits while too many are waiting, or counts what is lost; only one thread calls this."""
        try:
            self._queue.put(log, timeout=0.0 if self._lost else PATIENCE_S)
        except queue.Full:
            with self._lock:
                self._lost += 1

    def close(self) -> None:
        """Return when all has been logged, or when that takes too long: the thread then ends when its sink goes on."""
        self._closed = True
        with suppress(queue.Full):  # the thread then ends at the last of them
            self._queue.put(None, timeout=CLOSE_S)
        self._thread.join(CLOSE_S)

    def _serve(self) -> None:
        while log := self._queue.get():
            with suppress(Exception):  # what a sink raises is the application's own
                log()
                if self._lost:
                    self._tell_loss()
            if self._closed and self._queue.empty():
                return

    def _tell_loss(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        logger.warning("{} log records or prints of agents were lost: a log sink or the terminal is too slow", lost)


def pack(text: Message) -> LogRecord:
    """Return as plain values what a sink was given; `text` itself is the traceback, if there is one."""
    record: dict[str, object] = {**text.record}
    fields = {name: record[name] for name in _AS_THEY_ARE}
    for name, parts in _PARTS.items():
        fields[name] = {part: getattr(record[name], part) for part in parts}
    fields["extra"] = {
        key: value if isinstance(value, _PLAIN) else repr(value) for key, value in text.record["extra"].items()
    }
    return LogRecord(fields, str(text))


def relog(patch: RecordPatch, packed: LogRecord) -> None:
    """Log a packed record as if it had been made here, by the agent that `patch` is for."""
    fields, run = packed.fields, patch.run

    def restore(record: Record) -> None:
        target: dict[str, object] = record  # type: ignore[assignment]
        target.update({name: fields[name] for name in _AS_THEY_ARE})
        for name in _PARTS:
            for part, value in fields[name].items():
                setattr(target[name], part, value)
        record["extra"].update({"path": run.path, "incarnation": run.incarnation, **fields["extra"]})
        if packed.exception:
            record["message"] += f"\n{packed.exception.rstrip()}"

    level = fields["level"]
    logger.patch(restore).patch(patch).log(_known(level["name"], level["no"]), "")


def warn(patch: RecordPatch, text: str) -> None:
    """Log something about the run that `patch` is for."""
    run = patch.run
    logger.bind(path=run.path, incarnation=run.incarnation).patch(patch).warning("{}: {}", run.path, text)


def _known(name: str, number: int) -> str | int:
    """Return the level's name, or its number if only the agent knows the name."""
    try:
        return logger.level(name).name
    except ValueError:
        return number
