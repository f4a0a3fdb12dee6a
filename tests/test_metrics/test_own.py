"""Totals of the agents' own metrics, and the two renderings of them, which agree in every look at them."""

from __future__ import annotations

import gc
import math
import random
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
from orchestree_testing.host import DEADLINE_S
from own_support import Kept, batch, counter, definition, gauge

from orchestree.agents.executor import KeepMetrics
from orchestree.agents.metric_data import Definition, Observed
from orchestree.agents.metrics import AgentMetrics
from orchestree.agents.run_id import RunId
from orchestree.metrics import own
from orchestree.metrics.own import SPARE, UNSHOWN
from orchestree.metrics.readings import SHOWN_AFTER_END_S
from orchestree.supervisor.states import AgentState

ITEMS = counter()
LEVEL = gauge()
SIZE = definition("histogram", "size", "kind", "zone", buckets=(0.5, 1e6, math.inf))
A, B = RunId("a", 1), RunId("b", 1)


@pytest.fixture
def kept() -> Kept:
    made = Kept()
    made.tree.show("a")
    made.tree.show("b")
    keeps: KeepMetrics = made
    assert keeps.series == 1000
    return made


def test_a_page_has_a_family_for_each_metric_and_the_agents_in_the_order_of_the_tree(kept: Kept) -> None:
    kept.apply(B, batch(ITEMS, LEVEL, numbers={"items": {(): 2.0}, "level": {(): -0.5}}))
    kept.apply(A, batch(ITEMS, numbers={"items": {(): 1.0}}))
    assert kept.page() == (
        "# HELP items_total Items\n"
        "# TYPE items_total counter\n"
        'items_total{agent="a"} 1.0\n'
        'items_total{agent="b"} 2.0\n'
        "# HELP level Level\n"
        "# TYPE level gauge\n"
        'level{agent="b"} -0.5\n'
    )
    assert kept.page(open_metrics=True).startswith("# HELP items Items\n# TYPE items counter\nitems_total{")


def test_awkward_texts_and_numbers_are_written_as_the_client_writes_them(kept: Kept) -> None:
    awkward = 'a "quoted" \\ back\nslash\r\t\0 ü\u2028'
    values = {(awkward, "1"): 1e16, ("", awkward): math.inf, ("x", "y"): 5e-324, ("y", "z"): 123456789.125}
    kept.apply(A, batch(counter("odd", awkward, ("zone", "Kind")), numbers={"odd": values}))
    kept.apply(A, batch(gauge("cold", ("kind",)), numbers={"cold": {("k",): -1e20, ("l",): -math.inf, ("m",): -0.0}}))
    kept.apply(A, batch(SIZE, observed={"size": {(awkward, "z"): Observed((3, 2, 1), 1e7)}}))
    kept.apply(A, batch(definition("histogram", "signed", buckets=(-1.0, math.inf)), observed={}))
    kept.apply(A, batch(observed={"signed": {(): Observed((1, 2), -3.0)}}))
    assert "signed_sum" not in kept.page()
    assert len(kept.page(open_metrics=True).split("\n")) == 4 * 2 + 4 + 3 + 5 + 2 + 1


def test_random_metrics_are_written_as_the_client_writes_them(kept: Kept) -> None:
    deal = random.Random(7)
    for step in range(200):
        run = deal.choice([A, B])
        number = deal.choice([deal.random() * 10 ** deal.randrange(-9, 19), float(deal.randrange(3))])
        labels = (deal.choice("xyz"), deal.choice(["", '"', "\\"]))
        seen = Observed(tuple(deal.randrange(5) for _ in range(3)), number)
        odd = counter("odd", labels=("zone", "kind"))
        kept.apply(run, batch(odd, LEVEL, SIZE, numbers={"odd": {labels: number}, "level": {(): -number}}))
        kept.apply(run, batch(observed={"size": {labels: seen}}))
        if step % 10 == 0:
            kept.page(open_metrics=step % 20 == 0)


def test_a_supervisor_that_has_the_path_now_has_nothing_of_the_agent_before(kept: Kept) -> None:
    kept.apply(A, batch(ITEMS, numbers={"items": {(): 5.0}}))
    kept.apply(B, batch(ITEMS, numbers={"items": {(): 7.0}}))
    snapshot = kept.tree.shown["a"]
    kept.tree.shown["a"] = replace(snapshot, status=replace(snapshot.status, kind="supervisor"))
    assert kept.lines("items_total") == ['{agent="b"} 7.0']
    kept.tree.show("a")
    assert kept.lines("items_total") == ['{agent="b"} 7.0']


def test_a_damaged_batch_hurts_nobody_and_is_told_of(kept: Kept) -> None:
    kept.apply(A, batch(SIZE, ITEMS, observed={"size": {("k", "z"): Observed((1, 0, 0), 0.5)}}))
    kept.apply(A, batch(numbers={"size": {("k", "z"): 1.0}}))
    kept.apply(A, batch(numbers={"items": {(): 1.0}}))
    assert kept.lines("items_total") == ['{agent="a"} 1.0']
    ((text, _),) = kept.troubles
    assert text.startswith("something that was counted cannot be added: ")


def test_counters_and_histograms_go_on_over_restarts_and_gauges_do_not(kept: Kept) -> None:
    values = {"items": {(): 5.0}, "level": {(): 5.0}}
    seen = {"size": {("k", "z"): Observed((1, 0, 0), 0.5)}}
    for incarnation in (1, 2, 3):
        kept.tree.show("a", incarnation)
        kept.apply(RunId("a", incarnation), batch(ITEMS, LEVEL, SIZE, numbers=values, observed=seen))
    assert kept.lines("items_total") == ['{agent="a"} 15.0']
    assert kept.lines("level{") == ['agent="a"} 5.0']
    assert kept.lines("size_count") == ['{agent="a",kind="k",zone="z"} 3.0']
    kept.tree.show("a", 3, AgentState.BACKOFF)
    assert kept.lines("level{") == []
    assert kept.lines("items_total") == ['{agent="a"} 15.0']


@pytest.mark.parametrize("state", [AgentState.STARTING, AgentState.STOPPING, AgentState.WEDGED])
def test_gauges_stay_as_long_as_the_run_has_not_ended(kept: Kept, state: AgentState) -> None:
    kept.apply(A, batch(LEVEL, numbers={"level": {(): 5.0}}))
    kept.tree.show("a", 1, state)
    assert kept.lines("level{") == ['agent="a"} 5.0']


def test_what_a_run_tells_before_the_tree_shows_it_is_not_lost(kept: Kept) -> None:
    kept.tree.show("a", 1, AgentState.BACKOFF)
    kept.apply(RunId("a", 2), batch(LEVEL, ITEMS, numbers={"level": {(): 5.0}, "items": {(): 1.0}}))
    kept.apply(RunId("new", 1), batch(ITEMS, numbers={"items": {(): 1.0}}))
    assert kept.lines("level{") == []
    assert kept.lines("items_total") == ['{agent="a"} 1.0']
    kept.tree.show("a", 2)
    kept.tree.show("new")
    assert kept.lines("level{") == ['agent="a"} 5.0']
    assert kept.lines("items_total") == ['{agent="a"} 1.0', '{agent="new"} 1.0']


def test_what_an_older_incarnation_still_sends_is_dropped(kept: Kept) -> None:
    kept.apply(RunId("a", 2), batch(ITEMS, numbers={"items": {(): 1.0}}))
    kept.apply(A, batch(ITEMS, numbers={"items": {(): 10.0}}))
    assert kept.lines("items_total") == ['{agent="a"} 1.0']


def test_everything_of_an_agent_goes_when_it_has_left_the_tree(kept: Kept) -> None:
    kept.apply(A, batch(ITEMS, numbers={"items": {(): 1.0}}))
    kept.apply(B, batch(LEVEL, numbers={"level": {(): 1.0}}))
    assert "items" in kept.page()
    del kept.tree.shown["a"]
    assert kept.page() == '# HELP level Level\n# TYPE level gauge\nlevel{agent="b"} 1.0\n'
    kept.apply(B, batch(gauge("items"), numbers={"items": {(): 7.0}}))
    assert kept.lines("items{") == ['agent="b"} 7.0']
    assert kept.troubles == []


def test_an_agent_that_left_the_tree_long_ago_is_not_shown(kept: Kept) -> None:
    kept.apply(A, batch(ITEMS, numbers={"items": {(): 1.0}}))
    kept.tree.shown["a"] = replace(kept.tree.shown["a"], departed=True)
    assert kept.lines("items_total") == ['{agent="a"} 1.0']
    kept.tree.moment = SHOWN_AFTER_END_S
    assert kept.page() == ""


def test_an_agent_that_is_registered_anew_under_a_path_begins_with_nothing(kept: Kept) -> None:
    old, new, runaway = AgentMetrics(10), AgentMetrics(10), {(str(n),): 1.0 for n in range(2000)}
    kept.follow(A, old.store)
    old.gauge("level", "Level", ("tank",)).labels("old").set(1)
    old.counter("items", "Items").inc()
    kept.apply(A, batch(counter("hits", labels=("user",)), numbers={"hits": runaway}))
    kept.leave(A, old.store)
    kept.tree.show("a", 3)
    kept.forget("a")
    assert kept.page() == ""
    kept.follow(A, new.store)
    new.gauge("items", "Items", ("tank",)).labels("new").set(1)
    assert len(kept.troubles) == 1
    kept.tree.show("a", 1)
    assert [line for line in kept.page().splitlines() if line[0] != "#"] == ['items{agent="a",tank="new"} 1.0']
    kept.apply(A, batch(over_limit="hits_total"))
    assert len(kept.troubles) == 2


def test_scrapes_before_the_tree_shows_a_new_agent_take_nothing_away_from_it(kept: Kept) -> None:
    kept.apply(A, batch(ITEMS, numbers={"items": {(): 100.0}}))
    assert kept.lines("items_total") == ['{agent="a"} 100.0']
    del kept.tree.shown["a"]
    kept.forget("a")
    metrics = AgentMetrics(10)
    kept.follow(A, metrics.store)
    metrics.counter("items", "Items").inc()
    assert kept.page() == ""
    kept.tree.show("a", 7)  # as it was before, late
    assert kept.lines("items_total") == ['{agent="a"} 1.0']
    kept.tree.show("a")
    metrics.counter("items", "Items").inc()
    assert kept.lines("items_total") == ['{agent="a"} 2.0']


def test_an_abandoned_run_takes_nothing_from_the_agent_that_has_its_path_now(kept: Kept) -> None:
    old, new = AgentMetrics(10), AgentMetrics(10)
    kept.follow(A, old.store)
    kept.forget("a")
    old.counter("items", "Items").inc(100)
    kept.follow(A, new.store)
    new.counter("items", "Items").inc()
    kept.leave(A, old.store)
    new.counter("items", "Items").inc()
    assert kept.lines("items_total") == ['{agent="a"} 2.0']


def test_a_metric_that_an_agent_defines_otherwise_after_a_restart_is_the_new_one(kept: Kept) -> None:
    kept.apply(A, batch(ITEMS, numbers={"items": {(): 5.0}}))
    labelled = counter(labels=("kind",))
    kept.apply(RunId("a", 2), batch(labelled, numbers={"items": {("new",): 1.0}}))
    kept.tree.show("a", 2)
    assert kept.lines("items_total") == ['{agent="a",kind="new"} 1.0']
    assert (kept.troubles, kept._agents["a"].series) == ([], 1)


def test_two_agents_that_define_a_metric_differently_are_one_trouble(kept: Kept) -> None:
    kept.apply(A, batch(ITEMS, numbers={"items": {(): 1.0}}))
    other = counter(help="Things")
    for incarnation in (1, 2):
        kept.tree.show("b", incarnation)
        kept.apply(RunId("b", incarnation), batch(other, LEVEL, numbers={"items": {(): 5.0}, "level": {(): 5.0}}))
    assert kept.lines("items_total") == ['{agent="a"} 1.0']
    assert kept.lines("level{") == ['agent="b"} 5.0']
    del kept.tree.shown["b"]
    kept.apply(RunId("c", 1), batch(other))
    kept.tree.show("c")
    assert kept.lines("items_total") == ['{agent="a"} 1.0']
    kept.troubles.pop()
    ((text, path),) = kept.troubles
    assert path == "b"
    assert text == (
        "its counter 'items' with the help 'Things' is left out: "
        "a has first defined it as the counter 'items' with the help 'Items'"
    )


def test_label_sets_are_limited_over_all_incarnations_and_gauges_give_theirs_back() -> None:
    kept = Kept(series=10)
    users, rooms = counter("users", labels=("user",)), gauge("rooms", labels=("room",))
    for incarnation in range(1, 8):
        kept.tree.show("a", incarnation)
        numbers = {
            "rooms": {(f"{incarnation}-{number}",): 1.0 for number in range(2)},
            "users": {(f"{incarnation}-{number}",): 1.0 for number in range(3)},
        }
        kept.apply(RunId("a", incarnation), batch(users, rooms, numbers=numbers))
    assert len(kept.lines("rooms{")) == 2
    assert len(kept.lines("users_total{")) == 8
    assert kept._agents["a"].series == 10
    ((text, path),) = kept.troubles
    assert (path, "'users_total'" in text or "'rooms'" in text) == ("a", True)


def test_metrics_are_limited_over_all_incarnations() -> None:
    kept = Kept(series=5)
    for incarnation in range(1, 10):
        kept.tree.show("a", incarnation)
        kept.apply(RunId("a", incarnation), batch(counter(f"items_{incarnation}", labels=("kind",))))
    assert len(kept._agents["a"].metrics) == 5
    assert len(kept.troubles) == 1


def test_a_run_that_ran_away_in_its_own_process_is_told_of_once(kept: Kept) -> None:
    kept.apply(A, batch(ITEMS, over_limit="hits"))
    kept.apply(A, batch(over_limit="hits"))
    assert [path for _, path in kept.troubles] == ["a"]


@pytest.mark.parametrize("scraped", [False, True])
def test_agents_that_are_not_in_the_tree_take_no_memory_for_long(kept: Kept, *, scraped: bool) -> None:
    most, metrics = 0, AgentMetrics(10)
    kept.apply(A, batch(ITEMS, numbers={"items": {(): 1.0}}))
    kept.follow(RunId("lost", 1), metrics.store)
    for number in range(5 * SPARE):
        path = f"agent-{number}"
        kept.forget(path)
        kept.tree.show(path)
        kept.apply(RunId(path, 1), batch(ITEMS, numbers={"items": {(): 1.0}}))
        most = max(most, len(kept._agents))
        del kept.tree.shown[path]
        if scraped and number % SPARE == 0:
            kept.page()
    assert most <= 2 * SPARE
    assert not metrics.store.is_open
    assert kept.lines("items_total") == ['{agent="a"} 1.0']
    assert len(kept._agents) <= UNSHOWN + 1


def test_registrations_alone_take_no_memory(kept: Kept) -> None:
    for number in range(10):
        kept.forget(f"agent-{number}")
    assert not kept._inbox
    assert kept._agents == {}


def test_a_run_in_this_process_is_taken_from_at_each_look_and_at_its_end(kept: Kept) -> None:
    metrics = AgentMetrics(10)
    kept.follow(A, metrics.store)
    items = metrics.counter("items", "Items")
    items.inc()
    assert kept.lines("items_total") == ['{agent="a"} 1.0']
    items.inc()
    kept.leave(A, metrics.store)
    items.inc()
    assert kept.lines("items_total") == ['{agent="a"} 2.0']
    kept.leave(A, metrics.store)
    gone = weakref.ref(metrics.store)
    del metrics, items
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("scraped", [False, True])
def test_what_a_wedged_run_had_counted_before_its_replacement_stays(kept: Kept, *, scraped: bool) -> None:
    old, new = AgentMetrics(10), AgentMetrics(10)
    kept.follow(A, old.store)
    old.counter("items", "Items").inc(100)
    old.gauge("level", "Level").set(1)
    if scraped:
        kept.page()
    kept.tree.show("a", 2)
    kept.follow(RunId("a", 2), new.store)
    new.counter("items", "Items").inc(10)
    old.counter("items", "Items").inc(1000)
    kept.leave(A, old.store)
    assert kept.lines("items_total") == ['{agent="a"} 110.0']
    assert kept.lines("level{") == []
    late = AgentMetrics(10)
    kept.follow(A, late.store)
    assert not late.store.is_open
    new.counter("items", "Items").inc()
    kept.leave(RunId("a", 2), new.store)
    assert kept.lines("items_total") == ['{agent="a"} 111.0']
    assert not kept._agents["a"].followed


def test_the_rest_of_a_lost_run_is_taken_once_and_let_go(kept: Kept) -> None:
    lost = AgentMetrics(10)
    kept.follow(A, lost.store)
    lost.counter("items", "Items").inc(100)
    kept.apply(RunId("a", 2), batch(ITEMS, numbers={"items": {(): 1.0}}))
    assert kept.lines("items_total") == ['{agent="a"} 101.0']
    assert kept.lines("items_total") == ['{agent="a"} 101.0']
    assert not kept._agents["a"].followed


class Counting:
    """Metrics whose lock somebody has."""

    is_open = True

    def __init__(self) -> None:
        self.is_asked, self.has_counted = threading.Event(), threading.Event()

    def take(self) -> None:
        self.is_asked.set()
        assert self.has_counted.wait(DEADLINE_S)

    def when_changed(self, call: Callable[[], None]) -> None:
        pass

    def close(self) -> None:
        pass


def test_nobody_waits_for_a_thread_that_asks_for_metrics_while_it_counts(kept: Kept) -> None:
    counting, asked = Counting(), AgentMetrics(10)
    kept.follow(A, counting)
    scrape = threading.Thread(target=lambda: kept.text(open_metrics=False), daemon=True)
    scrape.start()
    assert counting.is_asked.wait(DEADLINE_S)
    kept.follow(B, asked.store)  # as a finalizer may in the middle of inc()
    asked.counter("items", "Items").inc()
    kept.apply(B, batch(LEVEL, numbers={"level": {(): 1.0}}))  # as the supervision thread does
    kept.forget("another")
    counting.has_counted.set()
    scrape.join(DEADLINE_S)
    assert not scrape.is_alive()
    assert not kept._inbox
    assert kept.lines("items_total") == ['{agent="b"} 1.0']
    assert kept.lines("level{") == ['agent="b"} 1.0']


def test_text_is_made_again_only_for_what_has_changed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in (A, B):
        kept.apply(run, batch(ITEMS, LEVEL, numbers={"items": {(): 1.0}, "level": {(): 1.0}}))
    first = kept.text(open_metrics=False)
    kept.apply(B, batch(numbers={"items": {(): 1.0}}))
    made: list[str] = []

    def lines(definition: Definition, path: str, values: object) -> bytes:
        made.append(path + definition.name)
        return b"!\n"

    monkeypatch.setattr(own, "lines", lines)
    assert kept.text(open_metrics=False) == [*first[:2], b"!\n", *first[3:]]
    kept.text(open_metrics=True)
    assert made == ["bitems"]


@pytest.mark.slow
def test_many_scrapers_and_writers_at_once_see_whole_totals_and_lose_nothing(kept: Kept) -> None:
    writers = [AgentMetrics(1000) for _ in range(4)]
    for number, metrics in enumerate(writers):
        kept.tree.show(f"w{number}")
        kept.follow(RunId(f"w{number}", 1), metrics.store)
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(metrics: AgentMetrics) -> None:
        for number in range(3000):
            metrics.counter("items", "Items", labels=("kind",)).labels(number % 50).inc()
            metrics.histogram("size", "Size", buckets=(1, 2)).observe(number % 3)

    def scrape() -> None:
        try:
            while not stop.is_set():
                kept.text(open_metrics=True)
                list(kept.collect())
        except BaseException as error:
            failures.append(error)

    scrapers = [threading.Thread(target=scrape) for _ in range(10)]
    threads = [threading.Thread(target=write, args=(metrics,)) for metrics in writers]
    for thread in scrapers + threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for thread in scrapers:
        thread.join()
    assert failures == []
    assert kept.lines("size_count") == [f'{{agent="w{number}"}} 3000.0' for number in range(4)]
    assert {line.split()[1] for line in kept.lines("items_total")} == {"60.0"}
    assert len(kept.lines("items_total")) == 200
