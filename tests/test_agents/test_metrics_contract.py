"""What agents count arrives, the same from every executor."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from orchestree_testing import metric_agents as agents
from orchestree_testing.host import RecordingHost
from own_support import Kept

from orchestree.agents.base import BaseAgent
from orchestree.agents.ends import Cause
from orchestree.agents.executor import Executor, Launch, RunEnded, RunId
from orchestree.agents.executors import executor_class
from orchestree.supervisor.states import AgentState

KINDS = {
    "thread": ("thread", agents.Counting),
    "async": ("async", agents.AsyncCounting),
    "process": ("process", agents.Counting),
    "async in a process": ("process", agents.AsyncCounting),
}
IN_PROCESSES = [kind for kind in KINDS if "process" in kind]

Call = Callable[[Any], object]


class Bench:
    """One executor, whose host keeps metrics unless told not to; plays the tree that `Kept` sees."""

    def __init__(self, kind: str, host: RecordingHost) -> None:
        name, self.agent = KINDS[kind]
        self.host = host
        self.kept = Kept()
        host.keep_metrics = self.kept
        self.executor: Executor = executor_class(name)(host)
        self._numbers = count(1)

    def start(self, call: Call, incarnation: int = 1, path: str = "", *, series: int = 1000, **params: Any) -> RunId:
        path = path or f"branch/agent-{next(self._numbers)}"
        run = RunId(path, incarnation)
        agent: type[BaseAgent] = self.agent
        launch = Launch(
            run=run, agent=agent, config=agent.Config(), params={"call": call, **params}, metrics_series=series
        )
        self.host.call(lambda: self.executor.prepare([launch]))
        self.kept.tree.show(path, incarnation)
        self.host.call(lambda: self.executor.start(launch))
        return run

    def run(self, call: Call, incarnation: int = 1, path: str = "", **options: Any) -> RunEnded:
        run = self.start(call, incarnation, path, **options)
        ended = self.host.wait(RunEnded, run)
        self.kept.tree.show(run.path, incarnation, AgentState.BACKOFF)
        return ended

    def stop(self, run: RunId) -> RunEnded:
        self.host.call(lambda: self.executor.ask_stop(run))
        return self.host.wait(RunEnded, run)


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with RecordingHost().supervising() as host:
        made = Bench(request.param, host)
        yield made
        host.call(made.executor.close)


@pytest.fixture(params=IN_PROCESSES)
def process(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with RecordingHost().supervising() as host:
        made = Bench(request.param, host)
        yield made
        host.call(made.executor.close)


@pytest.mark.slow
def test_totals_over_twenty_incarnations_are_exact(bench: Bench) -> None:
    for incarnation in range(1, 21):
        bench.run(agents.count, incarnation, "a", times=5000)
    kept = bench.kept
    assert kept.lines("items_total") == ['{agent="a"} 100000.0']
    assert kept.lines("kinds_total") == [
        '{agent="a",kind="k0"} 66680.0',
        '{agent="a",kind="k1"} 66680.0',
        '{agent="a",kind="k2"} 66640.0',
    ]
    assert kept.lines("size_bytes") == [
        '_bucket{agent="a",le="1.0"} 50000.0',
        '_bucket{agent="a",le="2.0"} 75000.0',
        '_bucket{agent="a",le="+Inf"} 100000.0',
        '_count{agent="a"} 100000.0',
        '_sum{agent="a"} 150000.0',
    ]
    assert kept.troubles == []


@pytest.mark.slow
def test_what_runs_and_has_not_ended_is_seen_soon(bench: Bench) -> None:
    run = bench.start(agents.count, times=10, stays=True)
    bench.host.wait_message(run, "counted")
    bench.kept.wait_for(lambda: bench.kept.lines("items_total") == [f'{{agent="{run.path}"}} 10.0'])
    bench.kept.wait_for(lambda: bench.kept.lines("level{") == [f'agent="{run.path}"}} 1.0'])
    bench.stop(run)


@pytest.mark.slow
def test_a_stop_and_an_exception_lose_nothing_and_teardown_counts(bench: Bench) -> None:
    run = bench.start(agents.count, path="a", times=100, stays=True, late=True)
    bench.host.wait_message(run, "counted")
    bench.stop(run)
    ended = bench.run(agents.count_and_raise, 2, "a", times=100, late=True)
    assert ended.report is not None
    assert ended.report.cause is Cause.EXCEPTION
    assert bench.kept.lines("items_total") == ['{agent="a"} 201.0']


@pytest.mark.slow
def test_the_gauges_of_an_incarnation_go_away_with_it_and_come_back_with_the_next(bench: Bench) -> None:
    run = bench.start(agents.count, path="a", times=1, stays=True)
    bench.host.wait_message(run, "counted")
    bench.kept.wait_for(lambda: bench.kept.lines("level{") == ['agent="a"} 1.0'])
    bench.stop(run)
    bench.kept.tree.show("a", 1, AgentState.BACKOFF)
    assert bench.kept.lines("level{") == []
    bench.kept.tree.show("a", 2, AgentState.STARTING)
    assert bench.kept.lines("level{") == []
    run = bench.start(agents.count, 2, "a", times=1, stays=True)
    bench.host.wait_message(run, "counted")
    bench.kept.wait_for(lambda: bench.kept.lines("level{") == ['agent="a"} 2.0'])
    bench.stop(run)


@pytest.mark.slow
def test_all_threads_of_an_agent_may_count(bench: Bench) -> None:
    run = bench.run(agents.count_in_threads, path="a", times=2000)
    assert run.report is None
    assert bench.kept.lines("items_total") == ['{agent="a"} 16000.0']


@pytest.mark.slow
def test_a_label_that_runs_away_is_one_trouble_and_no_memory(bench: Bench) -> None:
    bench.kept.series = 50
    for incarnation in (1, 2):
        ended = bench.run(agents.run_away, incarnation, "a", series=50)
        assert ended.result == 49
    assert bench.kept.lines("items_total") == ['{agent="a"} 4.0']
    assert len(bench.kept.lines("hits_total{")) == 49
    ((text, path),) = bench.kept.troubles
    assert path == "a"
    assert "'hits_total'" in text
    assert "50" in text


@pytest.mark.slow
def test_mistakes_are_told_in_the_agent(bench: Bench) -> None:
    told = bench.run(agents.misuse).result
    assert told == [
        "this is defined already as the counter 'items' with the help 'Items written', "
        "not as the gauge 'items' with the help 'Items written'",
        "'my-items' is no name of a metric: it has letters, digits and underscores, not a digit first (try 'my_items')",
        "counter 'items_total' only goes up, so not by -1.0; a gauge goes down as well",
        "the metric 'orchestree_items' has a name that begins with 'orchestree_': those are Orchestree's own "
        "(try 'items')",
    ]


@pytest.mark.slow
def test_of_a_run_whose_place_another_has_taken_the_counts_stay_and_the_gauges_go(bench: Bench) -> None:
    run = bench.start(agents.count, path="a", times=10, stays=True)
    bench.host.wait_message(run, "counted")
    bench.kept.tree.show("a", 2)
    bench.stop(run)
    assert bench.kept.lines("items_total") == ['{agent="a"} 10.0']
    assert bench.kept.lines("level{") == []


@pytest.mark.slow
def test_with_metrics_off_everything_works_and_goes_nowhere(bench: Bench) -> None:
    bench.host.keep_metrics = None
    assert bench.run(agents.count, times=10, series=0).report is None
    assert bench.run(agents.run_away, series=0).result == 0
    assert len(bench.run(agents.misuse, series=0).result) == 4  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_fork_of_an_agent_counts_nothing(bench: Bench) -> None:
    ended = bench.run(agents.count_in_a_fork, path="a")
    assert ended.result == 0
    assert bench.kept.lines("items_total") == ['{agent="a"} 100.0']
    assert bench.kept.lines("forked_total") == []


@pytest.mark.slow
def test_a_fork_that_goes_through_the_end_of_the_run_sends_nothing(bench: Bench) -> None:
    bench.run(agents.live_on_in_a_fork, path="a")
    bench.run(agents.first_count_in_a_fork, path="b")
    assert bench.kept.lines("items_total") == ['{agent="a"} 1.0']


@pytest.mark.slow
def test_a_killed_process_loses_a_tick_at_most(process: Bench) -> None:
    context = multiprocessing.get_context("spawn")
    go = context.Queue()
    run = process.start(agents.count_until_killed, path="a", go=go)
    process.kept.wait_for(lambda: process.kept.lines("items_total") == ['{agent="a"} 1000.0'])
    go.put(None)
    assert process.host.wait(RunEnded, run).reason.cause is Cause.SIGNAL
    assert process.kept.lines("items_total") in (['{agent="a"} 1000.0'], ['{agent="a"} 2000.0'])
    go.close()
    go.join_thread()


@pytest.mark.slow
def test_a_process_without_metrics_has_no_further_thread_and_sends_no_batch(process: Bench) -> None:
    without = process.run(agents.threads_of).result
    assert process.kept.batches == []
    run = process.run(agents.count, times=1)
    assert run.report is None
    assert without == (2 if process.agent is agents.Counting else 1)


@pytest.mark.slow
def test_a_channel_full_of_log_lines_loses_no_count(process: Bench) -> None:
    process.run(agents.count_with_log_flood, path="a", times=500)
    assert process.kept.lines("items_total") == ['{agent="a"} 500.0']
