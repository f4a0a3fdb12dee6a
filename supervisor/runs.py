"""What the core decides about a run, as a call of the executor that runs it. Supervision thread only."""

from __future__ import annotations

from typing import assert_never

from orchestree.agents.executor import Executor, Launch, RunId

from .inputs import AskRunToStop, KillRun, LookAtRun, MeasureRun, RecycleRun, RunEffect, StartRun
from .spec import AgentEntry


def call(executor: Executor, effect: RunEffect, entry: AgentEntry, metrics_series: int = 0) -> None:
    """Have `executor` do what was decided about a run of `entry`; for `metrics_series` see `Launch`."""
    match effect:
        case StartRun(run):
            executor.start(launch_of(entry, run, metrics_series))
        case AskRunToStop(run):
            executor.ask_stop(run)
        case KillRun(run, hung):
            executor.kill(run, hung=hung)
        case LookAtRun(run):
            executor.look(run)
        case MeasureRun(run):
            executor.measure(run)
        case RecycleRun(run):
            executor.recycle(run)
        case _:
            assert_never(effect)


def launch_of(entry: AgentEntry, run: RunId, metrics_series: int = 0) -> Launch:
    """Return what an executor needs to start this incarnation."""
    match entry.shutdown:
        case "brutal_kill":
            shutdown_s = 0.0
        case "infinity":
            shutdown_s = float("inf")
        case seconds:
            shutdown_s = float(seconds)
    return Launch(
        run=run,
        agent=entry.agent,
        config=entry.config,
        params=entry.params,
        shutdown_s=shutdown_s,
        standby=entry.standby,
        mask=entry.masker(),
        metrics_series=metrics_series,
    )
