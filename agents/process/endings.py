"""How the end of an agent's process is classified, from its last words and its exit status. Pure."""

from __future__ import annotations

import os
import pickle
import signal
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from orchestree.agents.ends import NORMAL, Cause, CrashReport, ExitKind, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId
from orchestree.agents.lifecycle import describe

from .memory import Progress
from .wire import End

LOST: Final = "the fork server has ended, and with it this process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known when the process is gone.

    Attributes:
        pid: None when there never was a process.
        ready: ``setup()`` had returned.
        end: its last words.
        status: as ``waitpid`` tells it; None when the fork server died before it could tell.
        cut_off: it was killed because it did not exit after its last words.
        paused: a signal had stopped it before.
        may_be_oom: it was ended by a SIGKILL that was none of ours.
        is_oom: and meanwhile the kernel has killed somebody in its control group for want of memory.
        uptime_s: seconds since its start was asked for.
        ended: monotonic seconds.
        progress: its latest.
        stacks: what ``faulthandler`` wrote.
        output: the last lines that it printed.
        max_memory: bytes; 0 when not known.
        survivors: pids of what it left behind and cannot be ended.
        cpu_s: seconds of processor time; 0.0 when not known.
    """

    run: RunId
    pid: int | None
    ready: bool
    end: End | None
    status: int | None
    cut_off: bool
    uptime_s: float
    paused: bool = False
    may_be_oom: bool = False
    is_oom: bool = False
    ended: float = 0.0
    progress: Progress = field(default_factory=Progress)
    stacks: str = ""
    output: tuple[str, ...] = ()
    max_memory: int = 0
    survivors: tuple[int, ...] = ()
    cpu_s: float = 0.0


def classify(known: Evidence) -> RunEnded:
    """Return how the run ended. Last words count, unless they were fine and the process then failed to exit.

    Takes as long as the result takes to unpickle.
    """
    said, died = known.end, _death(known)
    ended = partial(RunEnded, run=known.run, survivors=known.survivors, cpu_s=known.cpu_s)
    if said is None or (died is not None and not known.cut_off and said.reason.kind != ExitKind.ABNORMAL):
        reason = NORMAL if died is None else abnormal(died.cause)
        return ended(reason=reason, report=_complete(died, known))
    report, result = said.report, None
    if died is not None:
        note = "it did not exit after its last hook and was killed" if known.cut_off else f"then {died.message}"
        report = with_note(said.reason, report, note)
    try:
        result = pickle.loads(said.result) if said.result else None
    except Exception as error:  # a class that this process does not have
        report = with_note(said.reason, report, f"result: {describe(error)}")
    return ended(reason=said.reason, report=_complete(report, known), result=result)


def _silence(report: CrashReport, known: Evidence) -> float | None:
    if report.silent_s is not None or not known.progress.at:
        return report.silent_s
    return max(0.0, known.ended - known.progress.at)


def _complete(report: CrashReport | None, known: Evidence) -> CrashReport | None:
    """Return the report with all that is only known outside of the process."""
    if report is None:
        return None
    notes = report.notes
    if known.paused:
        notes += ("a signal had stopped the process, so there are no stacks",)
    return replace(
        report,
        pid=known.pid,
        uptime_s=report.uptime_s or known.uptime_s,
        notes=notes,
        progress=known.progress.words,
        silent_s=_silence(report, known),
        stacks=known.stacks,
        output=known.output,
        max_memory=known.max_memory or None,
    )


def with_note(reason: ExitReason, report: CrashReport | None, note: str) -> CrashReport:
    """Return the report with one more note; it becomes the message of a report that did not exist."""
    if report is None:
        return CrashReport(cause=reason.cause, message=note, notes=(note,))
    return replace(report, notes=(*report.notes, note))


def _death(known: Evidence) -> CrashReport | None:
    """Return what is wrong with the way the process ended; None if it exited with 0."""
    report = CrashReport(
        cause=Cause.LOST,
        message=LOST,
        phase="execute" if known.ready else "setup",
    )
    if known.status is None:
        return None if known.end else report
    code = os.waitstatus_to_exitcode(known.status)
    if code < 0 and known.is_oom:
        return replace(report, cause=Cause.OOM, message="killed by SIGKILL: out of memory", signal="SIGKILL")
    if code < 0:
        name = _signal_name(-code)
        message = f"killed by {name}" + (" (possibly out of memory)" if known.may_be_oom else "")
        return replace(report, cause=Cause.SIGNAL, message=message, signal=name)
    if code > 0:
        return replace(report, cause=Cause.EXIT, message=f"exited with code {code}", exit_code=code)
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
