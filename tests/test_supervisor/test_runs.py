"""What the driver has executors do for each decision about a run."""

from __future__ import annotations

from typing import Any, cast

import pytest
from virtual import agent, process

from orchestree.agents.executor import Executor, RunId
from orchestree.supervisor.inputs import AskRunToStop, KillRun, LookAtRun, MeasureRun, RecycleRun, RunEffect, StartRun
from orchestree.supervisor.runs import call, launch_of

RUN = RunId("branch/leaf", 3)


class Recorder:
    """An executor that only notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self.calls.append((name, *given, *named.items()))


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (AskRunToStop(RUN), ("ask_stop", RUN)),
        (KillRun(RUN), ("kill", RUN, ("hung", False))),
        (KillRun(RUN, hung=True), ("kill", RUN, ("hung", True))),
        (LookAtRun(RUN), ("look", RUN)),
        (MeasureRun(RUN), ("measure", RUN)),
        (RecycleRun(RUN), ("recycle", RUN)),
        (StartRun(RUN), ("start", launch_of(agent("leaf", shutdown=2.0), RUN))),
    ],
)
def test_each_decision_is_one_call(effect: RunEffect, expected: tuple[Any, ...]) -> None:
    recorder = Recorder()
    call(cast(Executor, recorder), effect, agent("leaf", shutdown=2.0))
    assert recorder.calls == [expected]


@pytest.mark.parametrize(("shutdown", "seconds"), [(2, 2.0), ("infinity", float("inf")), ("brutal_kill", 0.0)])
def test_the_shutdown_time_travels_as_seconds(shutdown: float | str, seconds: float) -> None:
    assert launch_of(process("leaf", shutdown=shutdown), RUN).shutdown_s == seconds
