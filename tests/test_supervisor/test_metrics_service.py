"""The metrics as a service of a tree: on when they are asked for, counted whether or not the port can be had."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Final

import pytest
from loguru import logger
from orchestree_testing.asgi_client import AsgiClient
from orchestree_testing.trees import PATIENCE, a_tree, add, crash, threads_left
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from orchestree import AgentState, EventType as E, Orchestrator, RunMode, ServiceFailed, SpecError, StartError
from orchestree.supervisor.events import OrchestratorStarted

APP: Final = """
from orchestree import Orchestrator, RunMode
orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON))
"""
BASE: Final = {"run_mode": "daemon"}


def fetch(tree: Orchestrator, path: str = "/metrics", **headers: str) -> tuple[HTTPResponse, str]:
    port = tree.services.metrics.port
    assert port is not None
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response, text


def scrape(tree: Orchestrator) -> dict[str, float]:
    """Return the value of each series by how it is written."""
    response, text = fetch(tree)
    assert response.status == 200
    return values(text)


def values(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in lines}


def failures(tree: Orchestrator) -> list[tuple[str, str, str]]:
    found = tree.history(type=E.SERVICE_FAILED, since=0)
    return [
        (event.path, event.data.service, event.data.error) for event in found if isinstance(event.data, ServiceFailed)
    ]


def started(tree: Orchestrator) -> OrchestratorStarted:
    data = tree.history(type=E.ORCHESTRATOR_STARTED, since=0)[0].data
    assert isinstance(data, OrchestratorStarted)
    return data


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


class Collects:
    """A collector of a user."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def collect(self) -> Iterable[Metric]:
        if self.error is not None:
            raise self.error
        yield GaugeMetricFamily("of_a_user", "Mine.", value=7)

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily("of_a_user", "Mine.")]


def test_metrics_are_off_unless_asked_for() -> None:
    with a_tree() as tree:
        assert tree.services.states["metrics"] == "off"
        assert started(tree).metrics_port is None
        with pytest.raises(SpecError, match="metrics are off: set metrics_port, or give the Orchestrator a registry"):
            tree.metrics  # noqa: B018
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("orchestree-metrics")]


@pytest.mark.slow
def test_without_metrics_nothing_of_them_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from orchestree import Orchestrator, RunMode\n"
        "assert Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY, control=False)).simple_join() == 0\n"
        "print([name for name in sys.modules if 'prometheus' in name or name.startswith('orchestree.metrics')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_tree_is_scraped_from_its_first_event_on_and_the_start_event_says_where() -> None:
    tree = a_tree(metrics_port=0)
    add(tree, "a")
    add(tree, "flaps", crash, backoff=None, restart="temporary")
    with tree:
        tree.wait_until("a", AgentState.READY, PATIENCE)
        tree.events.wait_for(E.AGENT_TERMINATED, "flaps", since=0, timeout=PATIENCE)
        assert (started(tree).metrics_port, started(tree).metrics_host) == (tree.services.metrics.port, "127.0.0.1")
        assert tree.services.states["metrics"] == "on"
        found = scrape(tree)
        assert found['orchestree_agent_up{agent="a"}'] == 1
        assert found['orchestree_agent_starts_total{agent="a"}'] == 1
        assert found['orchestree_events_total{type="orchestrator_started"}'] == 1
        assert found['orchestree_events_total{type="agent_registered"}'] == 2
        assert found['orchestree_events_total{type="agent_crashed"}'] == 1
        response, text = fetch(tree, Accept="application/openmetrics-text")
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")
    assert threads_left() == []


def test_a_taken_port_is_one_failed_service_that_names_it_and_the_rest_of_the_metrics_works(taken: int) -> None:
    tree = a_tree(metrics_port=taken)
    add(tree, "a")
    with tree:
        tree.events.wait_for(E.SERVICE_FAILED, since=0, timeout=PATIENCE)
        [(path, service, why)] = failures(tree)
        assert (path, service) == ("", "metrics")
        assert why.startswith(f"port {taken} on 127.0.0.1 is taken by pid ")
        assert tree.services.states["metrics"] == f"failed: {why}"
        assert started(tree).metrics_port is None
        assert tree.status("a").state is AgentState.READY
        with AsgiClient(tree) as client:
            assert b'orchestree_agent_starts_total{agent="a"} 1.0' in client.get("/v1/metrics").text
        assert b'orchestree_agent_up{agent="a"} 1.0' in generate_latest(tree.metrics.registry)


def test_a_port_that_becomes_free_is_taken_and_the_service_is_on_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestree.metrics.server.LISTEN_AGAIN_S", 0.01)
    told = threading.Event()
    sink = logger.add(
        lambda message: told.set(),
        level="WARNING",
        filter=lambda record: "the metrics are at port" in record["message"],
    )
    other = socket.create_server(("127.0.0.1", 0))
    tree = a_tree(metrics_port=other.getsockname()[1])
    add(tree, "a")
    with other, tree:
        tree.events.wait_for(E.SERVICE_FAILED, since=0, timeout=PATIENCE)
        assert tree.services.states["metrics"].startswith("failed: ")
        port = tree.config.metrics_port
        other.close()
        assert told.wait(PATIENCE)
        assert (tree.services.states["metrics"], tree.services.metrics.port) == ("on", port)
        assert scrape(tree)['orchestree_agent_starts_total{agent="a"}'] == 1, "counted from the start"
        assert started(tree).metrics_port is None
    logger.remove(sink)
    assert threads_left() == []


def test_the_page_names_the_orchestrator_as_the_control_api_finds_it() -> None:
    with a_tree(name="twin", control=True) as first, a_tree(name="twin", control=True, metrics_port=0) as second:
        assert first.services.name != second.services.name
        [labels] = [series for series in scrape(second) if series.startswith("orchestree_build_info")]
        assert f'name="{second.services.name}"' in labels
        assert f'run="{second.services.run}"' in labels


def test_the_process_of_the_orchestrator_is_on_its_own_page_and_a_given_registry_is_left_alone() -> None:
    tree = a_tree(metrics_port=0)
    with tree:
        assert scrape(tree)["process_resident_memory_bytes"] > 0
    registry = CollectorRegistry()
    with Orchestrator(Orchestrator.Config(**BASE, control=False), registry=registry):
        assert b"\nprocess_" not in generate_latest(registry)


def test_the_latest_configuration_counts_although_the_metrics_were_looked_at_before() -> None:
    tree = a_tree(metrics_port=0, metrics_series=3)
    tree.metrics  # noqa: B018
    tree.config = tree.Config(run_mode=RunMode.DAEMON, control=False, metrics_port=0, metrics_series=7)
    with tree:
        keep = tree.services.metrics.keep
        assert keep is not None
        assert keep.series == 7


def test_a_taken_port_ends_the_start_if_metrics_are_required_and_it_can_be_tried_again(taken: int) -> None:
    tree = a_tree(metrics_port=taken, metrics_required=True, control=True, name="required")
    add(tree, "a")
    mine = Collects()
    tree.metrics.registry.register(mine)
    for _ in range(2):
        with pytest.raises(StartError, match=rf"^port {taken} on 127\.0\.0\.1 is taken by pid"):
            tree.start()
        assert not tree.is_running
        assert tree.events.recent() == []
        assert threads_left() == []
    tree.config = tree.Config(run_mode=RunMode.DAEMON, control=False, metrics_port=0, metrics_required=True)
    with tree:
        found = scrape(tree)
        assert found["of_a_user"] == 7
        assert found['orchestree_agent_starts_total{agent="a"}'] == 1
        assert found['orchestree_events_total{type="orchestrator_started"}'] == 1
        assert found['orchestree_events_total{type="service_failed"}'] == 0


def test_an_asyncio_program_gets_the_same_error(taken: int) -> None:
    async def run() -> None:
        tree = a_tree(metrics_port=taken, metrics_required=True)
        with pytest.raises(StartError, match="is taken by"):
            async with tree:
                pass

    asyncio.run(run())


def test_simple_join_says_in_one_line_that_required_metrics_cannot_be_had(
    taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = a_tree(metrics_port=taken, metrics_required=True)
    assert tree.simple_join() == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"orchestree: port {taken} on 127.0.0.1 is taken by pid")


@pytest.mark.slow
def test_orchestree_run_says_in_one_line_that_required_metrics_cannot_be_had(taken: int, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    options = ["--set", f"metrics_port={taken}", "--set", "metrics_required=true", "--set", "control=false"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("orchestree")), "run", "app.py", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"port {taken} on 127.0.0.1 is taken" in done.stderr


def test_a_registry_of_the_program_has_the_metrics_while_the_tree_runs() -> None:
    registry = CollectorRegistry()
    Gauge("of_the_program", "Its own.", registry=registry).set(3)
    tree = Orchestrator(Orchestrator.Config(**BASE, control=False), registry=registry)
    add(tree, "a")
    assert b"orchestree" not in generate_latest(registry)
    with tree:
        assert tree.services.states["metrics"] == "on"
        assert started(tree).metrics_port is None
        text = generate_latest(registry)
        assert b'orchestree_agent_up{agent="a"} 1.0' in text
        assert b"of_the_program 3.0" in text
        assert tree.metrics.registry is registry
        with AsgiClient(tree) as client:
            assert b"of_the_program 3.0" in client.get("/v1/metrics").text
    assert b"orchestree" not in generate_latest(registry)


def test_a_registry_that_another_tree_has_joined_is_a_failed_service() -> None:
    registry = CollectorRegistry()
    with (
        Orchestrator(Orchestrator.Config(**BASE, control=False), registry=registry),
        Orchestrator(Orchestrator.Config(**BASE, control=False), registry=registry) as second,
    ):
        second.events.wait_for(E.SERVICE_FAILED, since=0, timeout=PATIENCE)
        [(_, service, why)] = failures(second)
        assert (service, "has the metrics of an orchestrator" in why) == ("metrics", True)
        with AsgiClient(second) as client:
            refused = client.get("/v1/metrics")
            assert (refused.status, refused.code) == (404, "no_route")
            assert "failed: registry" in refused.json["detail"]
    with Orchestrator(Orchestrator.Config(**BASE, control=False), registry=registry) as third:
        assert failures(third) == []


def test_what_is_no_registry_is_refused_at_once() -> None:
    with pytest.raises(SpecError, match="registry=3: must be a prometheus_client"):
        Orchestrator(Orchestrator.Config(**BASE), registry=3)  # type: ignore[arg-type]


def test_a_collector_that_raises_is_an_event_and_the_service_stays_on() -> None:
    tree = a_tree(metrics_port=0)
    mine = Collects()
    tree.metrics.registry.register(mine)
    with tree:
        assert scrape(tree)["of_a_user"] == 7
        mine.error = ValueError("no such sensor")
        found = scrape(tree)
        assert "of_a_user" not in found
        assert "orchestree_build_info" in "".join(found)
        tree.events.wait_for(E.SERVICE_FAILED, since=0, timeout=PATIENCE)
        [(path, service, why)] = failures(tree)
        assert (path, service, "no such sensor" in why) == ("", "metrics", True)
        assert tree.services.states["metrics"] == "on"


def test_a_runaway_label_is_an_event_of_its_agent() -> None:
    def count(agent: object) -> None:
        counter = agent.metrics.counter("items_total", "Items.", ["kind"])  # type: ignore[attr-defined]
        for number in range(10):
            counter.labels(str(number)).inc()

    tree = a_tree(metrics_port=0, metrics_series=3)
    add(tree, "runs-away", count)
    with tree:
        tree.wait_until("runs-away", AgentState.COMPLETED, PATIENCE)
        found = scrape(tree)
        assert len([series for series in found if series.startswith("items_total{")]) == 3
        tree.events.wait_for(E.SERVICE_FAILED, "runs-away", since=0, timeout=PATIENCE)
        assert [path for path, _, _ in failures(tree)] == ["runs-away"]
        assert tree.services.states["metrics"] == "on"


def test_the_token_is_asked_for_and_never_shown() -> None:
    tree = a_tree(metrics_port=0, metrics_host="localhost", metrics_token="s3cret")
    with tree:
        assert fetch(tree)[0].status == 401
        assert fetch(tree, Authorization="Bearer s3cret")[0].status == 200
    assert "s3cret" not in repr(tree.config)


def test_metrics_over_the_control_api_follow_the_accept_header() -> None:
    tree = a_tree(metrics_port=0)
    add(tree, "a")
    with tree, AsgiClient(tree) as client:
        plain = client.get("/v1/metrics")
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert plain.text.startswith(b"# HELP orchestree_agent_state ")
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        openly = client.send_raw("GET", b"/v1/metrics", [b""], accept).answer.result(PATIENCE)
        assert openly.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert openly.text.endswith(b"# EOF\n")
    with a_tree() as tree, AsgiClient(tree) as client:
        refused = client.get("/v1/metrics")
        assert (refused.status, refused.code) == (404, "no_route")
        assert "metrics are off: set metrics_port" in refused.json["detail"]


def test_ten_scrapers_at_once_see_a_tree_that_changes_meanwhile() -> None:
    tree = a_tree(metrics_port=0)
    add(tree, "flaps", crash, backoff=None, restart="permanent")
    for number in range(20):
        add(tree, f"steady-{number}")
    seen: list[list[float]] = []

    def look() -> None:
        seen.append([scrape(tree)['orchestree_agent_restarts_total{agent="flaps"}'] for _ in range(5)])

    with tree:
        threads = [threading.Thread(target=look) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        tree.stop_agent("flaps")
        restarts = scrape(tree)['orchestree_agent_restarts_total{agent="flaps"}']
        assert restarts == tree.status("flaps").restarts_total
        assert failures(tree) == []
    assert [len(one) for one in seen] == [5] * 10
    assert all(one == sorted(one) for one in seen)
