"""Hides the secrets of each run in all that is reported about it, before anybody of the tree sees it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestree.agents.ends import CrashReport
from orchestree.agents.executor import RunEnded, RunId, RunMessage, RunProgress, RunReport
from orchestree.agents.secrets import NO_SECRETS, Masker, masked, secrets_of

from .spec import AgentEntry


class RunMask:
    """The secrets of one run. Any thread."""

    def __init__(self, entry: AgentEntry) -> None:
        """Look for them when they are asked for: most runs end without a word."""
        self._entry = entry
        self._mask: Masker | None = None

    def get(self) -> Masker:
        """Return what hides them."""
        if self._mask is None:
            self._mask = Masker(secrets_of(self._entry.config, self._entry.params))
        return self._mask


class RunMasks:
    """The secrets of the runs of one tree. Any thread."""

    def __init__(self) -> None:
        """Know no run."""
        self._masks: dict[RunId, RunMask] = {}

    def begin(self, run: RunId, entry: AgentEntry) -> None:
        """Note whose secrets are to be hidden, until `run` has ended."""
        self._masks[run] = RunMask(entry)

    def of(self, run: RunId) -> Masker:
        """Return what hides the secrets of a run that has not ended."""
        known = self._masks.get(run)
        return known.get() if known is not None else NO_SECRETS

    def hide_in_message(self, message: RunMessage) -> RunMessage:
        """Return `message` without secrets, nor what stands in it under keys that look like secrets."""
        mask = self.of(message.run)
        data = masked(dict(message.data), mask)
        assert isinstance(data, dict)
        return RunMessage(message.run, mask(message.name), data)

    def hide(self, report: RunReport) -> RunReport:
        """Return any other report without secrets. What ``execute()`` returned is left as it is."""
        match report:
            case RunProgress(run, text=text, blocked=blocked) if text or blocked is not None:
                if blocked is not None and blocked.by is not None:
                    blocked = replace(blocked, doing=self.of(blocked.by)(blocked.doing))
                return replace(report, text=self.of(run)(text), blocked=blocked)
            case RunEnded(run=run):
                mask = self.of(run) if report.report is not None else NO_SECRETS
                self._masks.pop(run, None)
                return _hidden_end(report, mask) if mask else report
            case _:
                return report


def _hidden_end(ended: RunEnded, mask: Masker) -> RunEnded:
    report, details = ended.report, ended.details
    hidden = _hidden_report(report, mask) if report is not None else None
    return replace(ended, report=hidden, details=_hidden_text(details, mask) if details is not None else None)


def _hidden_text(make: Callable[[], str], mask: Masker) -> Callable[[], str]:
    return lambda: mask(make())


def _hidden_report(report: CrashReport, mask: Masker) -> CrashReport:
    return replace(
        report,
        message=mask(report.message),
        traceback=mask(report.traceback),
        notes=tuple(map(mask, report.notes)),
        progress=mask(report.progress),
        stacks=mask(report.stacks),
        output=tuple(map(mask, report.output)),
    )
