"""The metrics of one run: what they may be called, what they take, and what is taken from them."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from orchestree.agents.metric_data import MetricBatch, MetricsOfRun, Observed
from orchestree.agents.metrics import AgentMetrics, RunMetrics
from orchestree.agents.run_id import RunId
from orchestree.strategies.errors import MetricError

Wrong = Callable[[AgentMetrics], object]


@pytest.fixture
def metrics() -> AgentMetrics:
    return AgentMetrics(100)


def taken(metrics: AgentMetrics) -> MetricBatch:
    batch = metrics.store.take()
    assert batch is not None
    return batch


def test_each_change_is_taken_once(metrics: AgentMetrics) -> None:
    items = metrics.counter("items_total", "Items")
    items.inc()
    items.inc(2)
    level = metrics.gauge("level", "Level", labels=("tank",))
    level.labels("a").set(5)
    level.labels(tank="a").dec()
    metrics.histogram("size", "Size", buckets=[1, 2]).observe(2)
    first = taken(metrics)
    assert [definition.name for definition in first.definitions] == ["items", "level", "size"]
    assert first.numbers == {"items": {(): 3.0}, "level": {("a",): 4.0}}
    assert first.observed == {"size": {(): Observed((0, 1, 0), 2.0)}}
    assert metrics.store.take() is None
    items.inc()
    assert taken(metrics) == MetricBatch(definitions=(), numbers={"items": {(): 1.0}}, observed={})
    level.labels("a").inc(0.5)
    assert taken(metrics).numbers == {"level": {("a",): 4.5}}


def test_a_metric_without_labels_and_a_new_label_set_are_there_with_0(metrics: AgentMetrics) -> None:
    metrics.counter("items", "Items")
    metrics.counter("kinds", "Kinds", labels=("kind",)).labels("a")
    batch = taken(metrics)
    assert [definition.name for definition in batch.definitions] == ["items", "kinds"]
    assert batch.numbers == {"items": {(): 0.0}, "kinds": {("a",): 0.0}}


def test_the_same_call_returns_the_same_metric(metrics: AgentMetrics) -> None:
    made = metrics.counter("items_total", "Items", labels=("kind",))
    assert metrics.counter("items", "Items", labels=["kind"]) is made
    assert metrics.counter("items_total", "Items", labels=(name for name in ["kind"])) is made
    assert made.labels(kind=1) is made.labels("1")
    sizes = metrics.histogram("size", "Size", buckets=(1, 2))
    assert metrics.histogram("size", "Size", buckets=[1.0, 2.0, math.inf]) is sizes


def test_long_texts_are_cut_and_no_text_breaks_the_page(metrics: AgentMetrics) -> None:
    made = metrics.counter("items", "h" * 2000, labels=("kind",))
    assert metrics.counter("items", "h" * 3000, labels=("kind",)) is made
    assert made.labels("v" * 201) is made.labels("v" * 300)
    made.labels("\ud800\n")
    batch = taken(metrics)
    assert batch.definitions[0].help == "h" * 1000
    assert list(batch.numbers["items"]) == [("v" * 200,), ("?\n",)]


@pytest.mark.parametrize("number", [1, True, Decimal(1)])
def test_numbers_arrive_as_floats(metrics: AgentMetrics, number: Any) -> None:
    metrics.counter("a", "A").inc(number)
    metrics.gauge("b", "B").set(number)
    metrics.histogram("c", "C", buckets=(number, 2)).observe(number)
    batch = taken(metrics)
    values = [*batch.numbers["a"].values(), *batch.numbers["b"].values(), batch.observed["c"][()].total]
    assert [type(value) for value in values] == [float] * 3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda metrics: metrics.counter("", "A"), ["''", "letters"]),
        (lambda metrics: metrics.counter(None, "A"), ["None", "a text"]),
        (lambda metrics: metrics.gauge("9-lives", "A"), ["'9-lives'", "'_9_lives'"]),
        (lambda metrics: metrics.gauge("a:b", "A"), ["'a:b'", "recording rules", "'a_b'"]),
        (lambda metrics: metrics.gauge("ä", "A"), ["'ä'"]),
        (lambda metrics: metrics.gauge("a\n", "A"), ["'a\\n'"]),
        (lambda metrics: metrics.gauge("orchestree_x", "A"), ["'orchestree_x'", "try 'x'"]),
        (lambda metrics: metrics.gauge("items_total", "A"), ["'items_total'", "'_total'", "try 'items'"]),
        (lambda metrics: metrics.counter("x_total_total", "A"), ["'x_total_total'", "try 'x'"]),
        (lambda metrics: metrics.counter("_total", "A"), ["'_total'"]),
        (lambda metrics: metrics.histogram("x_bucket", "A"), ["'x_bucket'", "try 'x'"]),
        (lambda metrics: metrics.gauge("x_created", "A"), ["'x_created'", "try 'x'"]),
        (lambda metrics: metrics.counter("a", 5), ["'a'", "5"]),
        (lambda metrics: metrics.counter("a", "A", labels="kind"), ["'kind'", "('kind',)"]),
        (lambda metrics: metrics.counter("a", "A", labels=("a-b",)), ["'a-b'", "try 'a_b'"]),
        (lambda metrics: metrics.counter("a", "A", labels=(5,)), ["5", "a text"]),
        (lambda metrics: metrics.counter("a", "A", labels=("agent",)), ["'agent'", "path"]),
        (lambda metrics: metrics.histogram("a", "A", labels=("le",)), ["'le'", "buckets"]),
        (lambda metrics: metrics.counter("a", "A", labels=("__x",)), ["'__x'", "try 'x'"]),
        (lambda metrics: metrics.counter("a", "A", labels=("x", "x")), ["'x'", "twice"]),
        (lambda metrics: metrics.histogram("a", "A", buckets=()), ["bucket"]),
        (lambda metrics: metrics.histogram("a", "A", buckets=(math.inf,)), ["infinity"]),
        (lambda metrics: metrics.histogram("a", "A", buckets=(2, 1)), ["ascend", "1.0"]),
        (lambda metrics: metrics.histogram("a", "A", buckets=(1, math.nan)), ["ascend"]),
        (lambda metrics: metrics.histogram("a", "A", buckets=("1",)), ["numbers"]),
        (lambda metrics: metrics.counter("a", "A").inc(-1), ["'a_total'", "-1.0"]),
        (lambda metrics: metrics.counter("a", "A").inc(math.nan), ["'a_total'", "nan"]),
        (lambda metrics: metrics.counter("a", "A").inc("1"), ["'a_total'", "'1'"]),
        (lambda metrics: metrics.counter("a", "A").inc(10**400), ["'a_total'"]),
        (lambda metrics: metrics.gauge("a", "A").set(math.nan), ["'a'", "NaN"]),
        (lambda metrics: (metrics.gauge("a", "A").set(math.inf), metrics.gauge("a", "A").dec(math.inf)), ["NaN"]),
        (lambda metrics: metrics.histogram("a", "A").observe(None), ["'a'", "None"]),
        (lambda metrics: metrics.counter("a", "A", labels=("x",)).inc(), ["'a_total'", "'x'", ".labels("]),
        (lambda metrics: metrics.counter("a", "A").labels("x"), ["'a_total'", "no labels"]),
        (lambda metrics: metrics.counter("a", "A", labels=("x",)).labels(), ["'x'", "0"]),
        (lambda metrics: metrics.counter("a", "A", labels=("x",)).labels("1").labels("1"), ["already"]),
        (lambda metrics: metrics.counter("a", "A", labels=("kind",)).labels(kinds=1), ["'kinds'", "mean 'kind'"]),
        (lambda metrics: metrics.counter("a", "A", labels=("x", "y")).labels("1", y="2"), ["either"]),
    ],
)
def test_a_mistake_is_told_at_the_call_with_the_value(metrics: AgentMetrics, wrong: Wrong, words: list[str]) -> None:
    with pytest.raises(MetricError) as told:
        wrong(metrics)
    assert [word for word in words if word not in str(told.value)] == []


@pytest.mark.parametrize(
    "other",
    [
        lambda metrics: metrics.gauge("items", "Items", labels=("kind",)),
        lambda metrics: metrics.counter("items", "Things", labels=("kind",)),
        lambda metrics: metrics.counter("items", "Items", labels=("colour",)),
        lambda metrics: metrics.histogram("items", "Items", labels=("kind",)),
    ],
)
def test_a_redefinition_is_told_with_both(metrics: AgentMetrics, other: Wrong) -> None:
    metrics.counter("items_total", "Items", labels=("kind",))
    with pytest.raises(MetricError, match=r"as the counter 'items' with the help 'Items'.*, not as the "):
        other(metrics)
    with pytest.raises(MetricError, match="buckets"):
        metrics.histogram("size", "S", buckets=(1,)) and metrics.histogram("size", "S", buckets=(2,))


def test_beyond_the_limit_nothing_is_kept_and_one_metric_is_named(metrics: AgentMetrics) -> None:
    hits = metrics.counter("hits", "Hits", labels=("user",))
    for number in range(1000):
        hits.labels(number).inc()
    assert hits.labels(500) is hits.labels(501)
    metrics.gauge("late", "Late").set(1)
    batch = taken(metrics)
    assert batch.over_limit == "hits"
    assert batch.numbers.keys() == {"hits"}
    assert len(batch.numbers["hits"]) == len(hits._children) == 100
    hits.labels("another").inc()
    assert metrics.store.take() is None


def test_metrics_are_limited_as_well(metrics: AgentMetrics) -> None:
    for number in range(1000):
        metrics.counter(f"items_{number}", "Items", labels=("kind",))
    assert len(metrics._metrics) == 100
    metrics.counter("one_more", "Items", labels=("kind",)).labels("a").inc()
    batch = taken(metrics)
    assert (len(batch.definitions), batch.over_limit, dict(batch.numbers)) == (100, "items_100", {})


def test_after_the_end_only_what_came_before_is_taken(metrics: AgentMetrics) -> None:
    items = metrics.counter("items", "Items")
    items.inc()
    metrics.store.close()
    metrics.gauge("late", "Late").set(1)
    assert taken(metrics).numbers == {"items": {(): 1.0}}
    items.inc()
    assert metrics.store.take() is None


def test_a_change_is_told_once_until_it_is_taken(metrics: AgentMetrics) -> None:
    told: list[None] = []
    items = metrics.counter("items", "Items")
    metrics.store.when_changed(lambda: told.append(None))
    for expected in (1, 2, 3):
        items.inc()
        items.inc()
        assert len(told) == expected
        metrics.store.take()


def test_a_finalizer_may_count_while_its_thread_counts(metrics: AgentMetrics) -> None:
    items = metrics.counter("items", "Items")
    metrics.store.when_changed(items.inc)
    items.inc()
    assert taken(metrics).numbers == {"items": {(): 2.0}}


def test_threads_lose_no_increment(metrics: AgentMetrics) -> None:
    items = metrics.counter("items", "Items")
    total = 0.0

    def work() -> None:
        for _ in range(5000):
            items.inc()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        batch = metrics.store.take()
        total += batch.numbers["items"][()] if batch is not None else 0.0
    batch = metrics.store.take()
    total += batch.numbers["items"][()] if batch is not None else 0.0
    assert total == 20_000


def test_a_fork_may_count_though_another_thread_has_the_lock(metrics: AgentMetrics) -> None:
    items = metrics.counter("items", "Items")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with metrics.store.lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if not pid:
        items.inc()
        os._exit(0 if metrics.store.take() is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    done.set()
    thread.join()
    assert taken(metrics).numbers == {"items": {(): 0.0}}


class Follower:
    """Writes down whose metrics it is to follow."""

    def __init__(self) -> None:
        self.followed: list[MetricsOfRun] = []
        self.left: list[RunId] = []

    def follow(self, run: RunId, metrics: MetricsOfRun) -> None:
        self.followed.append(metrics)

    def leave(self, run: RunId) -> None:
        self.left.append(run)


def test_metrics_are_followed_from_their_first_use_to_the_end() -> None:
    follower, run = Follower(), RunId("a", 1)
    unused = RunMetrics(run, 10, follower)
    unused.end()
    assert (follower.followed, follower.left) == ([], [])
    unused.get().counter("items", "Items").inc()
    assert unused.get().store.take() is None
    used = RunMetrics(run, 10, follower)
    assert used.get() is used.get()
    used.end()
    assert (follower.followed, follower.left) == ([used.get().store], [run])
