"""The hooks of an `Orchestrator` subclass, and how they are called: what they raise never hurts the tree."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from orchestree.agents.ends import CrashReport, ExitKind, ExitReason
from orchestree.agents.executor import RunEnded

from .events import Event
from .history import OpenedHistory
from .spec import ChildEntry
from .world import ChooseNext

if TYPE_CHECKING:
    from .config import OrchestratorConfig
    from .services import Services

_Given = TypeVar("_Given")
_Answer = TypeVar("_Answer")

Failed = Callable[[str, BaseException], None]
"""Told the name of a hook and what it raised."""


class Hooks:
    """What a subclass of `Orchestrator` may override."""

    config: OrchestratorConfig
    services: Services

    def before_start(self, entries: tuple[ChildEntry, ...]) -> Iterable[ChildEntry]:
        """Return the entries to start instead of those registered below the root. Called once, by `start`."""
        return entries

    def on_event(self, event: Event) -> None:
        """See every event, in a thread of its own."""

    def choose_next(self, queued: tuple[str, ...]) -> str | None:
        """Return which of the queued agents (in start order) gets the free slot; None: the first.

        Supervision thread: must not block. A raise is ``HANDLER_FAILED`` and the default.
        """
        return None

    def classify_exit(self, report: CrashReport) -> ExitReason | None:
        """Return what a crash shall count as; None: as it is. Thread rule as for `choose_next`."""
        return None

    def open_history(self, path: str) -> OpenedHistory:
        """Open the event history at `path` (``Config.history``) for this run; the default is an SQLite file.

        Another kind of store has the three methods of `HistoryStore`. Called once, by `start`; what it raises is a
        ``SERVICE_FAILED`` event, and memory answers.
        """
        from .history_sqlite import open_history

        return open_history(path, name=self.config.name, run=self.services.run)

    def overrides(self, hook: str) -> bool:
        """Return whether the subclass has a `hook` of its own."""
        return getattr(type(self), hook) is not getattr(Hooks, hook)


def describe(error: BaseException) -> str:
    """Return what was raised and where, in one line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def raise_failure(handler: str, error: BaseException) -> None:
    """Raise what a hook has raised: in a simulation there is no tree that it must not hurt."""
    raise error


def chooser(choose_next: Callable[[tuple[str, ...]], str | None], failed: Failed) -> ChooseNext:
    """Return ``choose_next`` for the core: a raise means the default."""

    def choose(queued: tuple[str, ...]) -> str | None:
        return _called(choose_next, queued, str, failed)

    return choose


def classifier(classify_exit: Callable[..., ExitReason | None], failed: Failed) -> Callable[[RunEnded], RunEnded]:
    """Return what changes the reason of an abnormal end as ``classify_exit`` says."""

    def classify(ended: RunEnded) -> RunEnded:
        if ended.reason.kind is not ExitKind.ABNORMAL or ended.report is None:
            return ended
        report = ended.report
        if ended.details is not None:
            with suppress(Exception):
                report = replace(report, traceback=ended.details())
        reason = _called(classify_exit, report, ExitReason, failed)
        return replace(ended, report=report, details=None, classified=reason is not None, reason=reason or ended.reason)

    return classify


def _called(
    hook: Callable[[_Given], _Answer | None], given: _Given, kind: type[_Answer], failed: Failed
) -> _Answer | None:
    """Return what `hook` answers; None, and `failed` is told, if it raises or answers something else."""
    try:
        answer = hook(given)
        if answer is None or isinstance(answer, kind):
            return answer
        raise TypeError(f"returned {answer!r}: must be None or of type {kind.__name__}")
    except BaseException as error:  # also SystemExit: it would end the supervision thread
        failed(hook.__name__, error)
        return None
