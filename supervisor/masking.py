"""Hides the secrets of each run in all that is reported about it, before anybody of the tree sees it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestree.agents.config import AgentConfig
from orchestree.agents.ends import CrashReport
from orchestree.agents.executor import RunEnded, RunId, RunMessage, RunProgress, RunReport
from orchestree.agents.hiding import masked, shown
from orchestree.agents.secrets import NO_SECRETS, Masker, secrets_of


class WithSecrets:
    """Base of what holds the arguments of an agent: their secrets are looked for once, and not shown. Any thread."""

    __slots__ = ("_mask",)
    config: AgentConfig
    params: Mapping[str, object]

    def masker(self) -> Masker:
        """Return what hides the secrets.

        The first call may take a while. It is made by whoever registers the agent (`check_reachable`) or starts the
        tree, never in the supervision thread.
        """
        mask: Masker | None = getattr(self, "_mask", None)
        return self._keep(Masker(secrets_of(self.config, self.params))) if mask is None else mask

    def share_masker(self, other: WithSecrets) -> None:
        """Hide the secrets of `other`, which has the same `config` and `params`."""
        self._keep(other.masker())

    def __repr__(self) -> str:
        """Show all but what stands under keys that look secret."""
        return shown(self)

    def _keep(self, mask: Masker) -> Masker:
        object.__setattr__(self, "_mask", mask)
        return mask


class RunMasks:
    """The secrets of the runs of one tree. Any thread."""

    def __init__(self) -> None:
        """Know no run."""
        self._masks: dict[RunId, Masker] = {}

    def begin(self, run: RunId, entry: WithSecrets) -> None:
        """Note whose secrets are to be hidden, until `run` has ended."""
        self._masks[run] = entry.masker()

    def of(self, run: RunId) -> Masker:
        """Return what hides the secrets of a run that has not ended."""
        return self._masks.get(run, NO_SECRETS)

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
                mask = self._masks.pop(run, NO_SECRETS)
                return _hidden_end(report, mask) if mask and report.report is not None else report
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
