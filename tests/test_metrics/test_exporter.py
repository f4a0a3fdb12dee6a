"""The exporter among the other users of a registry, and with several scrapers at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping

import pytest
from metrics_support import OPEN_METRICS, OwnSamples, Scraped, page_of, reference
from noted_lock import NotedLock
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from virtual import agent

from orchestree.metrics import Exporter
from orchestree.metrics.exposition import OPEN_METRICS as OPEN_METRICS_TYPE, TEXT
from orchestree.metrics.recording import Recording
from orchestree.metrics.text import FastText
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.status import Snapshot


class Broken:
    """A collector that raises, or collects what cannot be written, as long as it is told to."""

    def __init__(self) -> None:
        self.does: Callable[[], Iterable[Metric]] = self.works

    def works(self) -> Iterable[Metric]:
        return [GaugeMetricFamily("mended", "Of a user.", 1.0)]

    def raises_halfway(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("mended", "Of a user.", 1.0)
        raise RuntimeError("the sensor is gone")

    def ends_the_program(self) -> Iterable[Metric]:
        raise SystemExit(1)

    def cannot_be_written(self) -> Iterable[Metric]:
        return [GaugeMetricFamily("mended", "Of a user.", "no number")]  # type: ignore[arg-type]

    def raises_what_cannot_be_shown(self) -> Iterable[Metric]:
        class OddError(Exception):
            def __str__(self) -> str:
                raise ValueError

        raise OddError

    def collect(self) -> Iterable[Metric]:
        return self.does()


def test_a_page_says_in_which_format_it_is() -> None:
    scraped = Scraped(agent("a"))
    assert scraped.exporter.page().content_type == TEXT
    assert scraped.exporter.page(OPEN_METRICS).content_type == OPEN_METRICS_TYPE


def test_a_registry_of_the_application_serves_the_whole_tree() -> None:
    own = CounterMetricFamily("items", "Items.", labels=["agent"])
    own.add_metric(["a"], 5.0)
    registry = CollectorRegistry()
    Gauge("theirs", "Of the application.", registry=registry).set(2.5)
    scraped = Scraped(agent("a"), registry=registry, own=OwnSamples(own))
    assert scraped.exporter.registry is registry
    served = generate_latest(registry).decode()
    assert "theirs 2.5\n" in served
    assert 'orchestree_agent_up{agent="a"} 1.0\n' in served
    assert 'items_total{agent="a"} 5.0\n' in served
    assert sorted(served.splitlines()) == sorted(scraped.page().splitlines()), "our page has all of it too"


def test_two_orchestrators_cannot_share_a_registry_and_the_first_goes_on() -> None:
    first = Scraped(agent("a"))
    with pytest.raises(SpecError, match="registry: it already has the metrics of an orchestrator"):
        Scraped(agent("b"), registry=first.exporter.registry)
    assert 'agent="a"' in generate_latest(first.exporter.registry).decode()


def test_other_metrics_of_our_names_in_a_registry_are_named_and_not_all_of_them() -> None:
    registry = CollectorRegistry()
    Gauge("orchestree_parked", "Theirs.", registry=registry)
    with pytest.raises(SpecError) as one:
        Scraped(agent("a"), registry=registry)
    assert str(one.value) == "registry: it already has metrics of our names: orchestree_parked"
    for name in ("agents", "workers_limit", "queue_length", "agent_up"):
        Gauge(f"orchestree_{name}", "Theirs.", registry=registry)
    with pytest.raises(SpecError, match=r"orchestree_agent_up, orchestree_agents, orchestree_parked and 2 more$"):
        Scraped(agent("a"), registry=registry)


def test_an_exporter_that_is_closed_has_left_the_registry_to_the_next() -> None:
    first = Scraped(agent("a"))
    first.exporter.close()
    first.exporter.close()
    second = Scraped(agent("b"), registry=first.exporter.registry)
    assert 'agent="b"' in generate_latest(second.exporter.registry).decode()


def test_a_metric_of_a_user_cannot_have_one_of_our_names() -> None:
    scraped = Scraped(agent("a"))
    for name in ("orchestree_agents", "orchestree_events", "orchestree_loop_lag_seconds"):
        with pytest.raises(ValueError, match="Duplicated"):
            Gauge(name, "No.", registry=scraped.exporter.registry)


@pytest.mark.parametrize(
    "fault", ["raises_halfway", "ends_the_program", "cannot_be_written", "raises_what_cannot_be_shown"]
)
def test_a_collector_that_fails_is_left_out_and_told_of_once_until_it_works_again(fault: str) -> None:
    scraped = Scraped(agent("a"))
    broken = Broken()
    scraped.exporter.registry.register(broken)
    Gauge("theirs", "Of a user.", registry=scraped.exporter.registry)
    for round in (1, 2):
        broken.does = broken.works
        assert "mended 1.0\n" in scraped.page()
        broken.does = getattr(broken, fault)
        for accept in ("", OPEN_METRICS, ""):
            page = scraped.page(accept)
            assert "mended" not in page
            assert "theirs 0.0\n" in page
            assert 'orchestree_agent_up{agent="a"} 1.0\n' in page
        assert len(scraped.troubles) == round
    assert "test_exporter.Broken) raised" in scraped.troubles[0]


def test_a_collector_that_does_not_return_is_left_out_and_asked_again_when_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: queue.Queue[threading.Thread] = queue.Queue()
    go_on = threading.Event()

    class Hanging:
        def collect(self) -> Iterable[Metric]:
            calls.put(threading.current_thread())
            assert go_on.wait(20.0)
            return [GaugeMetricFamily("late", "Of a user.", 1.0)]

    scraped = Scraped(agent("a"))
    monkeypatch.setattr(scraped.exporter._others, "_patience_s", 0.05)
    registry = scraped.exporter.registry
    monkeypatch.setattr(registry, "_auto_describe", False)
    registry.register(Hanging())
    Gauge("theirs", "Of a user.", registry=registry)
    for _ in range(3):
        page = scraped.page()
        assert "late" not in page
        assert "theirs 0.0\n" in page
    call = calls.get(timeout=20.0)
    assert calls.empty(), "there is one thread that waits for it"
    assert len(scraped.troubles) == 1
    assert "test_exporter" in scraped.troubles[0]
    assert scraped.troubles[0].endswith("Hanging) has not returned within 0.05 s")
    go_on.set()
    call.join(20.0)
    monkeypatch.setattr(scraped.exporter._others, "_patience_s", 20.0)
    assert "late 1.0\n" in scraped.page()


def test_scrapes_at_once_share_one_call_of_each_collector_and_all_are_asked_before_one_is_waited_for() -> None:
    calls: queue.Queue[None] = queue.Queue()
    go_on = threading.Event()

    class Hanging:
        def collect(self) -> Iterable[Metric]:
            calls.put(None)
            assert go_on.wait(20.0)
            return [GaugeMetricFamily("late", "Of a user.", 1.0)]

    others = Scraped(agent("a")).exporter._others
    collectors = [Hanging(), Hanging()]
    begun = others._call(collectors)
    for _ in collectors:
        calls.get(timeout=20.0)
    assert others._call(collectors) == begun
    assert calls.empty()
    go_on.set()
    for call in begun.values():
        call.join(20.0)
        assert [metric.name for metric in call.result()] == ["late"]
    again = others._call(collectors)
    assert not set(again.values()) & set(begun.values())
    for call in again.values():
        call.join(20.0)


def test_a_collector_for_which_there_is_no_thread_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    scraped = Scraped(agent("a"))
    Gauge("theirs", "Of a user.", registry=scraped.exporter.registry)

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert "theirs" not in scraped.page()
    assert scraped.troubles[0].endswith("raised RuntimeError: can't start new thread")
    assert "theirs 0.0\n" in scraped.page()


def test_names_that_are_on_the_page_already_are_left_out_and_told_of() -> None:
    scraped = Scraped(agent("a"), own=OwnSamples(CounterMetricFamily("items", "Own.", 1.0)))
    clashing = OwnSamples(
        GaugeMetricFamily("items_total", "Theirs.", 2.0),
        GaugeMetricFamily("orchestree_agents", "Theirs.", 3.0),
        GaugeMetricFamily("fine", "Theirs.", 4.0),
    )
    scraped.exporter.registry.register(clashing)
    scraped.exporter.registry.register(OwnSamples(GaugeMetricFamily("fine", "Of yet another.", 5.0)))
    for accept in ("", OPEN_METRICS):
        page = scraped.page(accept)
        assert "items_total 1.0\n" in page
        assert "fine 4.0\n" in page
        assert "Theirs." in page
        assert page.count("items_total ") == (1 if accept else 3)
        assert "fine 5.0" not in page
        assert "orchestree_agents 3.0" not in page
    assert len(scraped.troubles) == 2
    assert "items_total, orchestree_agents" in scraped.troubles[0]
    assert len(list(text_string_to_metric_families(scraped.page()))) > 20


def test_a_collector_that_leaves_is_forgotten() -> None:
    scraped = Scraped(agent("a"))
    broken = Broken()
    broken.does = broken.raises_halfway
    scraped.exporter.registry.register(broken)
    scraped.page()
    scraped.exporter.registry.unregister(broken)
    scraped.page()
    scraped.exporter.registry.register(broken)
    scraped.page()
    assert len(scraped.troubles) == 2


def test_what_a_registry_says_of_its_target_is_on_the_page() -> None:
    scraped = Scraped(agent("a"), registry=CollectorRegistry(target_info={"env": "prod"}))
    assert scraped.page().endswith('target_info{env="prod"} 1.0\n')
    assert sorted(scraped.page().splitlines()) == sorted(
        reference(scraped.exporter.registry, open_metrics=False).decode().splitlines()
    )


def test_the_exporter_is_offered_by_the_package() -> None:
    assert isinstance(Scraped(agent("a")).exporter, Exporter)


class Held(Scraped):
    """A tree whose snapshots are to be waited for."""

    def hold(self) -> None:
        self.asked = 0
        self.inside, self.go_on = threading.Event(), threading.Event()

    def snapshots(self) -> Mapping[str, Snapshot]:
        if hasattr(self, "asked"):
            self.asked += 1
            self.inside.set()
            assert self.go_on.wait(10.0)
        return super().snapshots()


def test_scrapers_that_had_to_wait_share_what_was_made_since_they_came() -> None:
    held = Held(agent("a"))
    text = FastText(held, Recording(list, pytest.fail))
    lock = text._lock = NotedLock()  # type: ignore[assignment]
    held.hold()
    threads = [threading.Thread(target=text.render) for _ in range(6)]
    threads[0].start()
    assert held.inside.wait(10.0)
    for thread in threads[1:]:
        thread.start()
    for _ in threads:
        assert lock.came.acquire(timeout=10.0)
    held.go_on.set()
    for thread in threads:
        thread.join(10.0)
    assert held.asked == 2, "the first, and one for all who came while it was made"


def test_a_page_that_nobody_reads_holds_nothing_up() -> None:
    scraped = Scraped(agent("a"))
    unread = scraped.exporter.page()
    scraped.tree.crash("a")
    assert page_of(scraped.exporter) == reference(scraped.exporter.registry, open_metrics=False)
    assert len(b"".join(unread.pieces)) == unread.length
