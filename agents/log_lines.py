"""What happens to each log record of an agent before any sink sees it: its secrets go, a copy is kept if wanted."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from .executor import KeepLine, RunId
from .hiding import masked
from .secrets import Masker

if TYPE_CHECKING:
    from loguru import Record


class RecordPatch:
    """A patcher of loguru's. False if it would do nothing. Any thread; it never blocks.

    It sees the records that some sink of the application takes, and adds no sink. What a patcher of the application's
    own, added to `BaseAgent.logger`, puts into a record afterwards it does not see.
    """

    def __init__(self, run: RunId, mask: Masker, keep_line: KeepLine | None = None) -> None:
        """Hide what `mask` knows, and hand a copy of each line to `keep_line`."""
        self.run = run
        self._mask = mask
        self._keep_line = keep_line

    def __bool__(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self._mask) or self._keep_line is not None

    def __reduce__(self) -> tuple[type[RecordPatch], tuple[RunId, Masker]]:
        """Have a copy in another process keep no lines: nobody asks for them there."""
        return RecordPatch, (self.run, self._mask)

    def __call__(self, record: Record) -> None:
        """Patch the record."""
        if self._mask:
            self._hide(record)
        if self._keep_line is not None:
            when = record["time"].timestamp()
            self._keep_line(self.run, "log", record["level"].name, _whole_text(record), when)

    def _hide(self, record: Record) -> None:
        """Leave no secret in a record.

        An exception becomes a part of the message, as in the records of processes: how a sink would write it, perhaps
        with the values of variables, is not known here.
        """
        record["message"] = self._mask(_whole_text(record))
        record["exception"] = None
        hidden = masked(record["extra"], self._mask)
        assert isinstance(hidden, dict)
        record["extra"] = hidden


def _whole_text(record: Record) -> str:
    error = record["exception"]
    if error is None:
        return record["message"]
    try:
        text = "".join(traceback.format_exception(*error)).rstrip()
    except Exception:  # of the user's exception
        text = "(its traceback cannot be written)"
    return f"{record['message']}\n{text}"
