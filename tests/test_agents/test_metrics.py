"""The metrics of one run: what they may be called, what they take, and what is taken from them."""

from __future__ import annotations

import math
import os
import re
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, strategies as st

from orchestree.agents.base import BaseAgent
from orchestree.agents.metric_data import MetricBatch, MetricsOfRun, MetricType, Observed
from orchestree.agents.metric_kinds import NOWHERE
from orchestree.agents.metric_rules import check_labels, family_name
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
        (lambda metrics: metrics.counter([], "A"), ["[]", "a text"]),
        (lambda metrics: metrics.counter("a", "A", labels=None), ["'a'", "None", "names"]),
        (lambda metrics: metrics.counter("a", "A", labels=5), ["'a'", "5", "names"]),
        (lambda metrics: metrics.counter("a", "A", labels=b"kind"), ["'a'", "b'kind'", "names"]),
        (lambda metrics: metrics.histogram("a", "A", buckets=None), ["'a'", "None", "numbers"]),
        (lambda metrics: metrics.histogram("a", "A", buckets=5), ["'a'", "5", "numbers"]),
        (lambda metrics: metrics.gauge("a", "A").dec("x"), ["'a'", "'x'", "numbers"]),
        (lambda metrics: metrics.gauge("a", "A").dec(None), ["'a'", "None", "numbers"]),
        (lambda metrics: metrics.gauge("a", "A").set(10**5000), ["'a'", "int"]),
        (lambda metrics: metrics.gauge("up", "A"), ["'up'", "Prometheus itself", "try 'agent_up'"]),
        (lambda metrics: metrics.gauge("ALERTS", "A"), ["'ALERTS'", "Prometheus itself"]),
        (lambda metrics: metrics.gauge("ALERTS_FOR_STATE", "A"), ["Prometheus itself"]),
        (lambda metrics: metrics.gauge("scrape_duration_seconds", "A"), ["itself", "'agent_scrape_duration_seconds'"]),
        (lambda metrics: metrics.gauge("orchestree_up", "A"), ["'orchestree_up'", "try 'agent_up'"]),
        (lambda metrics: metrics.counter("a", "A", labels=("job",)), ["'exported_job'", "try 'agent_job'"]),
        (lambda metrics: metrics.counter("a", "A", labels=("instance",)), ["itself", "try 'agent_instance'"]),
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


AWKWARD = st.lists(
    st.sampled_from(
        ["_", "__", "-", "1", "a", "ä", ":", "up", "job", "orchestree_", "_total", "_sum", "_count", "scrape_"]
    )
).map("".join)


@given(AWKWARD)
def test_every_hint_is_right(text: str) -> None:
    kinds: tuple[MetricType, ...] = ("counter", "gauge", "histogram")
    for kind in kinds:
        hint = hint_of(partial(family_name, kind), text)
        assert hint is None or family_name(kind, hint)
        hint = hint_of(partial(label_name, kind), text)
        assert hint is None or label_name(kind, hint)


def label_name(kind: MetricType, label: str) -> tuple[str, ...]:
    return check_labels(kind, "a", (label,))


def hint_of(check: Callable[[str], object], text: str) -> str | None:
    try:
        check(text)
    except MetricError as error:
        hint = re.search(r"\(try '(.*)'\)$", str(error))
        return hint[1] if hint else None
    return None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda metrics, long: metrics.gauge(long + "-", "A"),
        lambda metrics, long: metrics.gauge("orchestree_" + long, "A"),
        lambda metrics, long: metrics.gauge(long.encode(), "A"),
        lambda metrics, long: metrics.gauge("a", "A", labels=long),
        lambda metrics, long: metrics.gauge("a", "A", labels=[long + "-"]),
        lambda metrics, long: metrics.histogram("a", "A", buckets=[long] * 1000),
        lambda metrics, long: metrics.histogram("a", "A", buckets=[2.0] * 100_000),
        lambda metrics, long: metrics.gauge("a", "A").set(long),
    ],
)
def test_an_error_is_short_however_long_the_mistake_is(
    metrics: AgentMetrics, wrong: Callable[[AgentMetrics, str], object]
) -> None:
    with pytest.raises(MetricError) as told:
        wrong(metrics, "a" * 100_000)
    assert len(str(told.value)) < 1000


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


def test_a_scraper_of_something_else_may_have_metrics_of_its_scrapes(metrics: AgentMetrics) -> None:
    metrics.counter("scrape_pages_total", "Pages that were scraped").inc()
    assert [definition.served_name for definition in taken(metrics).definitions] == ["scrape_pages_total"]


def test_beyond_the_limit_nothing_is_kept_and_one_metric_is_named(metrics: AgentMetrics) -> None:
    hits = metrics.counter("hits", "Hits", labels=("user",))
    for number in range(1000):
        hits.labels(number).inc()
    assert hits.labels(500) is hits.labels(501)
    metrics.gauge("late", "Late").set(1)
    batch = taken(metrics)
    assert batch.over_limit == "hits_total"
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
    assert (len(batch.definitions), batch.over_limit, dict(batch.numbers)) == (100, "items_100_total", {})


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


def interrupted(function: str, call: Callable[[], object], handler: Callable[[], object]) -> None:
    """Call `call`, and in the middle of it, as soon as `function` is called, `handler`, as a signal would."""

    def at(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_name == function:
            sys.setprofile(None)
            handlers.append(handler())

    handlers: list[object] = []
    sys.setprofile(at)
    try:
        call()
    finally:
        sys.setprofile(None)
    assert len(handlers) == 1


@pytest.mark.parametrize("function", ["note", "check_counts", "_change"])
def test_a_signal_handler_may_count_while_its_thread_counts(metrics: AgentMetrics, function: str) -> None:
    items, level = metrics.counter("items", "Items"), metrics.gauge("level", "Level")
    size = metrics.histogram("size", "Size", buckets=(1,))
    for metric in (items, level):
        metrics.store.take()
        interrupted(function, partial(metric.inc, 100), partial(metric.inc, 5))
        assert taken(metrics).numbers == {metric.definition.name: {(): 105.0}}
    interrupted(function, partial(size.observe, 2.0), partial(size.observe, 0.5))
    assert taken(metrics).observed == {"size": {(): Observed((1, 1), 2.5)}}
    assert metrics.store.take() is None


def test_a_signal_handler_may_observe_while_what_was_observed_is_taken(metrics: AgentMetrics) -> None:
    size = metrics.histogram("size", "Size", buckets=(1,))
    size.observe(2)
    batches: list[MetricBatch] = []

    def take() -> None:
        batches.append(taken(metrics))

    assert Observed.__new__.__code__.co_name == "<lambda>"
    interrupted("<lambda>", take, partial(size.observe, 0.5))
    take()
    assert [batch.observed["size"][()] for batch in batches] == [Observed((0, 1), 2.0), Observed((1, 0), 0.5)]


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_what_goes_nowhere_takes_no_lock_and_is_checked_all_the_same(metrics: AgentMetrics, kind: str) -> None:
    metrics.store.close()
    define = getattr(metrics, kind)
    plain, labelled = define("plain", "P"), define("labelled", "L", ("x",))
    count = {"counter": "inc", "gauge": "set", "histogram": "observe"}[kind]
    threading.Thread(target=metrics.store.lock.acquire).start()  # and never given back
    NOWHERE.lock, usual = metrics.store.lock, NOWHERE.lock
    try:
        getattr(plain, count)(1)
        getattr(labelled.labels("a"), count)(1)
        assert labelled.labels("a") is labelled.labels("b")
        with pytest.raises(MetricError, match="call"):
            getattr(labelled, count)(1)
        with pytest.raises(MetricError, match="got 2 values"):
            labelled.labels("a", "b")
        with pytest.raises(MetricError, match="numbers"):
            getattr(plain, count)("1")
    finally:
        NOWHERE.lock = usual


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

    def leave(self, run: RunId, metrics: MetricsOfRun) -> None:
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


def test_the_end_of_a_run_in_a_forked_copy_tells_nobody() -> None:
    follower = Follower()
    metrics = RunMetrics(RunId("a", 1), 10, follower)
    metrics.get()
    pid = os.fork()
    if not pid:
        metrics.end()
        os._exit(len(follower.left))
    assert os.waitpid(pid, 0)[1] == 0


def test_an_agent_finds_its_metrics_without_a_lock_of_the_class() -> None:
    assert isinstance(BaseAgent.__dict__["metrics"], property)  # of a cached_property the lock may be lost in a fork
