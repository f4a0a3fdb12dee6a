"""A real orchestrator's page: what is counted, and that it is what the client would write of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from metrics_support import OPEN_METRICS, page_of, reference
from orchestree_testing.metric_agents import Counting, count
from orchestree_testing.once import AsyncEndsOnce, EndsOnce
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from orchestree import Orchestrator, RunMode
from orchestree.metrics.exporter import Exporter
from orchestree.metrics.source import Usage
from orchestree.supervisor.figures import TreeFigures
from orchestree.supervisor.status import Snapshot

pytestmark = pytest.mark.slow


class Frozen(TreeFigures):
    """The figures of a tree at one moment."""

    def __init__(self, tree: Orchestrator) -> None:
        super().__init__(tree)
        self._moment, self._shown = super().now(), super().snapshots()
        self._beats = {path: super(Frozen, self).last_beat(path, 1) for path in self._shown}
        self._usages = {path: super(Frozen, self).usage(path) for path in self._shown}

    def now(self) -> float:
        return self._moment

    def snapshots(self) -> Mapping[str, Snapshot]:
        return self._shown

    def last_beat(self, path: str, incarnation: int) -> float | None:
        return self._beats[path]

    def usage(self, path: str) -> Usage | None:
        return self._usages[path]

    def probe(self) -> None: ...


def samples(page: bytes) -> dict[tuple[str, ...] | str, float]:
    """Return the values of a page by name and values of the labels; by name alone without labels."""
    return {
        (sample.name, *sample.labels.values()) if sample.labels else sample.name: sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


@pytest.fixture
def tree() -> Iterator[Orchestrator]:
    orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON), registry=CollectorRegistry())
    group = orchestrator.add_supervisor("group", max_seconds=3600.0)
    group.register_agent(EndsOnce, "thread", execute="raise lost")
    group.register_agent(EndsOnce, "process", executor="process", execute="leave 3")
    group.register_agent(AsyncEndsOnce, "async", execute="return 1", restart="permanent")
    orchestrator.register_agent(Counting, "counts", params={"call": count, "times": 5, "stays": True})
    with orchestrator:
        for path in ("group/thread", "group/process", "group/async"):
            orchestrator.events.wait_for(
                "agent_ready", path, where=lambda event: event.incarnation == 2, since=0, timeout=20.0
            )
        orchestrator.events.wait_for("agent_message", "counts", since=0, timeout=20.0)
        yield orchestrator


def test_each_kind_of_agent_is_counted_by_how_it_ended(tree: Orchestrator) -> None:
    found = samples(page_of(tree.metrics))
    for path, cause in (("group/thread", "exception"), ("group/process", "exit"), ("group/async", "normal")):
        assert found["orchestree_agent_ends_total", path, cause] == 1
        assert found["orchestree_agent_starts_total", path] == 2
        assert found["orchestree_agent_restarts_total", path] == 1
        assert found["orchestree_agent_state", path, "ready"] == 1
        assert found["orchestree_agent_heartbeat_age_seconds", path] >= 0.0
    assert found["orchestree_supervisor_restart_duration_seconds_count", "group"] == 3
    assert found["orchestree_supervisor_restarts_in_window", "group"] == 3
    assert found["orchestree_agent_memory_bytes", "group/process"] > 0
    assert ("orchestree_agent_memory_bytes", "group/thread") not in found
    assert found["items_total", "counts"] == 5
    assert found["orchestree_events_total", "agent_ready"] == 7


def test_the_page_is_what_the_client_writes(tree: Orchestrator) -> None:
    troubles: list[str] = []
    frozen = Exporter(Frozen(tree), own=tree.metrics._own, on_trouble=troubles.append)
    for event in tree.history(limit=None):
        frozen.offer(event)
    for open_metrics in (False, True):
        page = page_of(frozen, OPEN_METRICS if open_metrics else "")
        assert page.decode() == reference(frozen.registry, open_metrics=open_metrics).decode()
    counters = {key: value for key, value in samples(page_of(frozen)).items() if "agent_restarts_total" in key[0]}
    assert counters.items() <= samples(page_of(tree.metrics)).items()
    assert troubles == []


def test_the_loop_says_how_late_it_was_after_a_scrape(tree: Orchestrator) -> None:
    before = samples(page_of(tree.metrics))["orchestree_loop_lag_seconds_count"]
    tree.restart_agent("counts")
    assert samples(page_of(tree.metrics))["orchestree_loop_lag_seconds_count"] > before


def test_after_the_end_the_registry_is_free(tree: Orchestrator) -> None:
    exporter = tree.metrics
    assert exporter.registry.get_sample_value("orchestree_parked") == 0.0
    tree.stop()
    assert exporter.registry.get_sample_value("orchestree_parked") is None
    assert samples(page_of(exporter))["orchestree_agents", "stopped"] == 4, "who still asks is told what was at last"
