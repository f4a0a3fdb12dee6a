"""Where log lines go when Orchestree is the program, as in ``orchestree run``.

In a user's own program nothing here is called: the sinks of an application are its own affair.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from functools import partial
from json import dumps
from typing import TYPE_CHECKING, TextIO

from loguru import logger

from orchestree.agents.hiding import masked
from orchestree.agents.secrets import NO_SECRETS

if TYPE_CHECKING:
    from loguru import Message, Record


def setup_logging(json: bool = False, level: str = "INFO") -> None:
    """Send log lines of `level` and above to stderr, in place of loguru's default sink.

    Args:
        json: one JSON object a line, with ``time level message path incarnation exception extra``, in place
            of text. `path` and `incarnation` are null for a line that is not about an agent.
        level: name of a loguru level.
    """
    with suppress(ValueError):  # the default sink is number 0; somebody has removed it already
        logger.remove(0)
    if json:
        logger.add(partial(_write_json, sys.stderr), level=level, format="{message}")
        return
    # Values of variables in tracebacks (`diagnose`) may be secrets. loguru's own guess about colour also says
    # yes to the log files of some CI systems.
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    logger.add(sys.stderr, level=level, format=_text, colorize=colour, backtrace=False, diagnose=False)


def _text(record: Record) -> str:
    """Return loguru's template for one line.

    What loguru gets back is parsed for fields and colours: nothing of the record may be pasted into it.
    """
    extra = record["extra"]
    # A line about an event names the agent itself.
    speaks = extra.get("path") and "incarnation" in extra and "event_type" not in extra
    speaker = "<cyan>{extra[path]}#{extra[incarnation]}</cyan>  " if speaks else ""
    return f"{{time:YYYY-MM-DD HH:mm:ss.SSS}} <level>{{level: <8}}</level> {speaker}{{message}}\n{{exception}}"


def _write_json(stream: TextIO, message: Message) -> None:
    record = message.record
    extra = dict(record["extra"])
    error = record["exception"]
    line = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        "path": extra.pop("path", None),
        "incarnation": extra.pop("incarnation", None),
        "exception": "".join(traceback.format_exception(*error)).rstrip() if error else None,
        "extra": masked(extra, NO_SECRETS),
    }
    stream.write(dumps(line, default=str, skipkeys=True) + "\n")
    stream.flush()
