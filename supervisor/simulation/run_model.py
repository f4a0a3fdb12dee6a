"""What runs do in a simulated tree: become ready at once, go on for ever and stop when asked, unless a fault says so.

Pure: an `Executors` never acts by itself. It is told what the core has decided and what time it is, says what there
is to report, and keeps an agenda of what will happen later (`next_moment`, `take_next`).
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, CrashReport, ExitKind, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunMemory, RunProgress, RunReady, RunReport
from orchestree.supervisor.entry_fields import has_rounds
from orchestree.supervisor.inputs import (
    AskRunToStop,
    KillRun,
    LookAtRun,
    MeasureRun,
    RecycleRun,
    RunEffect,
    StartRun,
)
from orchestree.supervisor.spec import AgentEntry

from .faults import Crash, Fault
from .pretended_run import Ending, Habits, Run as Run, Struck

Reports = list[RunReport]

_DOWN: Final = CrashReport(
    cause=Cause.EXCEPTION,
    message="ConnectionError: what it needs is down (simulated)",
    exception_types=("builtins.ConnectionError", "builtins.OSError", "builtins.Exception", "builtins.BaseException"),
)
_DOWN_AT_START: Final = CrashReport(
    cause=Cause.START_FAILED, message=_DOWN.message, phase="setup", exception_types=_DOWN.exception_types
)
_KILLED: Final = CrashReport(cause=Cause.SIGNAL, message="killed by SIGKILL", signal="SIGKILL")

_new_tuple = tuple.__new__  # half the time of a call of the class; a day of crashes makes a million of them


class Executors:
    """Pretends to run the agents of one tree.

    Attributes:
        now: virtual seconds; set by the owner, never decreasing.
        live: the newest live run of each agent.
        lives: how many runs of each agent are alive; two, when one wedged and was replaced.
        doubled: when a run of which agent was started beside a live one, oldest first.
        habits: of each agent that is known.
        starts: when runs of each agent were started, oldest first.
        struck: what faults have done, in order.
    """

    def __init__(self) -> None:
        """Run nothing yet."""
        self.now = 0.0
        self.live: dict[str, Run] = {}
        self.lives: dict[str, int] = {}
        self.doubled: list[tuple[float, str]] = []
        self.habits: dict[str, Habits] = {}
        self.starts: defaultdict[str, list[float]] = defaultdict(list)
        self.struck: list[Struck] = []
        self._runs: dict[RunId, Run] = {}
        self._endings: dict[tuple[int, bool], Ending] = {}
        """How runs ended last by each crash, in setup and after: equal ends are one object, which a long log needs."""
        self._pending: list[tuple[float, int, Callable[[], Reports]]] = []
        self._serial = 0

    def know(self, path: str, entry: AgentEntry, *, can_kill: bool) -> None:
        """Make the agent at `path` known, a good one at first; one that had the path before hands its habits on."""
        habits = self.habits.setdefault(path, Habits(entry, can_kill))
        habits.entry, habits.can_kill = entry, can_kill

    def later(self, moment: float, action: Callable[[], Reports]) -> None:
        """Have `action` called when the time has come; it returns what there is to report. Not for infinity."""
        if moment < math.inf:
            self._serial += 1
            heapq.heappush(self._pending, (moment, self._serial, action))

    def next_moment(self) -> float:
        """Return when something happens by itself; infinity if nothing will."""
        return self._pending[0][0] if self._pending else math.inf

    def take_next(self) -> Reports:
        """Have the next thing happen that is due, and return what there is to report."""
        return heapq.heappop(self._pending)[2]()

    def carry_out(self, effect: RunEffect) -> Reports:
        """Do what the core has decided about a run, and return what there is to report at once."""
        if isinstance(effect, StartRun):
            return self._start(effect.run)
        run = self._runs.get(effect.run)
        if run is None:
            return []
        match effect:
            case AskRunToStop():
                run.asked = True
                return self._stop_if_it_hears(run)
            case KillRun():
                return self._kill(run)
            case LookAtRun():
                return self._answer_if_silent(run)
            case MeasureRun():
                return [RunMemory(run.id, 0)]
            case RecycleRun():
                recycles = run.silent_since is None and has_rounds(self.habits[run.id.path].entry.agent)
                return self.end(run, NORMAL) if recycles else []

    def end(self, run: Run, reason: ExitReason, report: CrashReport | None = None) -> Reports:
        """End a run; of one that has ended already there is nothing to report."""
        if not run.alive:
            return []
        run.alive = False
        path = run.id.path
        del self._runs[run.id]
        self.lives[path] -= 1
        if self.live.get(path) is run:
            del self.live[path]
        habits = self.habits[path]
        crash, habits.fails_in_teardown = habits.fails_in_teardown, None
        if crash is not None and reason.kind is not ExitKind.ABNORMAL:
            reason, report = crash.ending(in_setup=False)
            self.strikes(crash, path)
        if report is not None and report.uptime_s != self.now - run.started:
            report = replace(report, uptime_s=self.now - run.started)
        return [RunEnded(run=run.id, reason=reason, report=report)]

    def crash(self, run: Run, crash: Crash) -> Reports:
        """End a run abnormally, whatever it is doing."""
        made = self._endings.get((id(crash), run.ready))
        if made is None or made.crash is not crash or made.report.uptime_s != self.now - run.started:
            reason, report = crash.ending(in_setup=not run.ready)
            made = Ending(crash, reason, replace(report, uptime_s=self.now - run.started))
            self._endings[id(crash), run.ready] = made
        return self.end(run, made.reason, made.report)

    def strikes(self, fault: Fault, path: str) -> None:
        """Note that `fault` does something to the agent at `path` now."""
        self.struck.append(_new_tuple(Struck, (self.now, fault, path)))

    def hang(self, run: Run, lasts: float) -> Reports:
        """Have a run make no progress and hear nothing for so many seconds."""
        if run.silent_since is None:
            run.silent_since = self.now
        run.hangs_until = max(run.hangs_until, self.now + lasts)
        self.later(run.hangs_until, lambda: self._goes_on(run))
        looked_at, run.looked_at = run.looked_at, None
        return [] if looked_at is None else [RunProgress(run.id, looked_at)]

    def break_down(self, run: Run) -> Reports:
        """End a run because what it needs is down."""
        report = _DOWN if run.ready else _DOWN_AT_START
        return self.end(run, abnormal(report.cause), report)

    def _start(self, run_id: RunId) -> Reports:
        path, habits = run_id.path, self.habits[run_id.path]
        run = Run(run_id, self.now)
        self._runs[run_id] = self.live[path] = run
        self.starts[path].append(self.now)
        self.lives[path] = lives = self.lives.get(path, 0) + 1
        if lives > 1:
            self.doubled.append((self.now, path))
        if habits.fails_in_setup:
            crash = habits.fails_in_setup.pop(0)
            self.strikes(crash, path)
            return self.crash(run, crash)
        if habits.down and any(spell.at <= self.now < spell.until for spell in habits.down):
            return self.break_down(run)
        if habits.slow:
            takes = max((spell.takes for spell in habits.slow if spell.at <= self.now < spell.until), default=0.0)
            if takes:
                self.later(self.now + takes, lambda: self._ready(run))
                return []
        return self._ready(run)

    def _ready(self, run: Run) -> Reports:
        if not run.alive or run.ready:
            return []
        if run.silent_since is not None:
            self.later(run.hangs_until, lambda: self._ready(run))
            return []
        run.is_set_up = True
        if run.asked:
            return self._stop_if_it_hears(run)
        run.ready, run.ready_at = True, self.now
        for tell in self.habits[run.id.path].on_ready:
            tell(run)
        return [RunReady(run.id)]

    def _answer_if_silent(self, run: Run) -> Reports:
        """Answer a look; one that is well puts its answer off until it hangs, which spares all looks in between.

        As long as a look is not answered the core asks for no other; and if the answer is the moment of the look, the
        next one is a whole watchdog later. Both come to the moment at which looks without a gap would have noticed.
        """
        if run.silent_since is not None:
            return [RunProgress(run.id, run.silent_since)]
        run.looked_at = self.now
        return []

    def _stop_if_it_hears(self, run: Run) -> Reports:
        """End a run that was asked to, unless it is deaf: it hangs, is still being set up, or a fault says so."""
        if run.silent_since is not None or not run.is_set_up:
            return []
        spells = self.habits[run.id.path].stubborn
        over_at = max((spell.until for spell in spells if spell.at <= self.now < spell.until), default=self.now)
        if over_at > self.now:
            self.later(over_at, lambda: self._stop_if_it_hears(run))
            return []
        return self.end(run, NORMAL)

    def _kill(self, run: Run) -> Reports:
        run.asked = True
        habits = self.habits[run.id.path]
        if habits.can_kill:
            return self.end(run, abnormal(Cause.SIGNAL), _KILLED)
        if habits.entry.executor == "async":
            return self.end(run, SHUTDOWN)  # the task is cancelled
        return self._stop_if_it_hears(run)

    def _goes_on(self, run: Run) -> Reports:
        if not run.alive or self.now < run.hangs_until:
            return []
        run.silent_since = None
        return self._stop_if_it_hears(run) if run.asked else []
