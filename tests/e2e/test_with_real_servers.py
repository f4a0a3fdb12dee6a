"""The way of the figures from a tree through Debian's Prometheus and Alertmanager to a webhook."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from math import isfinite
from typing import Final

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from shipped_board import Question, choices, questions

from .servers import Series, until
from .station import Station
from .way import DRIVE, follow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PROMETHEUS_ACCEPTS: Final = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""The header of its scrapes, as of 2.42."""
GONE: Final = "OrchestreeGone"


def test_prometheus_takes_the_page_of_every_tree_without_a_complaint(running: Station) -> None:
    targets = running.prometheus.get("targets")["activeTargets"]
    found = {target["labels"]["instance"]: (target["health"], target["lastError"]) for target in targets}
    trees = (running.monitoring, running.spare, running.plant)
    assert found == {tree.address: ("up", "") for tree in trees}


def test_the_first_crash_of_an_agent_is_an_increase(running: Station, report: list[str]) -> None:
    host = f'orchestree_agent_restarts_total{{agent="host",instance="{running.monitoring.address}"}}'
    increase = f"increase({host}[1m])"
    assert [series.value for series in until(asked(running, f"{increase} or {host}"), "a sample of host")] == [0.0]
    killed = time.monotonic()
    running.monitoring.kill_agent("host")
    until(asked(running, f"{increase} > 0"), "the increase of the first restart")
    assert running.value(host) == 1.0
    report.append(f"a killed agent: Prometheus has the increase after {time.monotonic() - killed:.1f} s")


def test_a_flapping_agent_fires_an_alert_that_reaches_the_webhook_and_is_resolved_once_it_is_stable(
    running: Station, report: list[str]
) -> None:
    way = follow(running)
    report += ["a flapping agent's alert, minutes as seconds:", *way.lines()]
    assert [way.firing.status, way.resolving.status] == ["firing", "resolved"]
    for body in (way.firing.body, way.resolving.body):
        (alert,) = body["alerts"]
        assert (alert["labels"]["agent"], alert["labels"]["instance"]) == (DRIVE, running.plant.address)
        assert DRIVE in alert["annotations"]["summary"] + alert["annotations"]["description"]
    assert way.crashed < way.active <= way.fired < way.notified < way.told
    assert way.ready < way.resolved < way.told


def test_a_supervisor_that_is_down_is_told_until_somebody_starts_it(running: Station) -> None:
    labels = {"alertname": "OrchestreeSupervisorDown", "supervisor": "furnace", "state": "failed"}
    cold = running.plant.sabotage("cold")
    told = running.webhook.first("firing", labels)
    assert "/furnace" in told.body["alerts"][0]["annotations"]["summary"]
    assert running.value('orchestree_agent_state{agent="furnace/burner",state="stopped"}') == 1.0
    cold.unlink()
    assert running.plant.ask("start", "/furnace") is not None
    running.webhook.first("resolved", labels)


def test_a_killed_orchestrator_is_found_to_be_gone(running: Station, report: list[str]) -> None:
    killed = time.time()
    running.spare.kill()
    told = running.webhook.first("firing", {"alertname": GONE, "instance": running.spare.address})
    report.append(f"a killed orchestrator: the webhook knows after {told.at - killed:.1f} s, minutes as seconds")
    assert running.spare.address in told.body["alerts"][0]["annotations"]["summary"]


def test_every_query_of_the_dashboard_has_an_answer(running: Station) -> None:
    running.monitoring.kill_agent("host")
    broken = running.plant.sabotage("broken")
    until(
        lambda: running.prometheus.query('orchestree_supervisor_restarts_total{supervisor="press"} > 0'),
        "a supervisor gave up and is restarted",
    )
    broken.unlink()
    asked_for = list(questions())
    assert len(asked_for) > 20
    for question in asked_for:

        def numbers(question: Question = question) -> list[float]:
            return [series.value for series in running.prometheus.query(question.expression) if isfinite(series.value)]

        until(numbers, f"numbers for {question}")
    for label, series in choices():
        assert running.prometheus.get(f"label/{label}/values", **{"match[]": series}), (label, series)


def test_an_exemplar_of_the_restarts_leads_to_the_event(running: Station) -> None:
    restarts = f'orchestree_agent_restarts_total{{instance="{running.monitoring.address}",agent="sensor"}}'
    began = time.time() - 600

    def ask() -> list[tuple[dict[str, str], dict[str, str]]]:
        return running.prometheus.exemplars(restarts, began, time.time())

    labels, exemplar = until(ask, "an exemplar of a restart of sensor")[-1]
    number = int(exemplar["event"])
    (event,) = [
        event for event in running.monitoring.events("agent_restarting", "sensor", number - 1) if event["seq"] == number
    ]
    assert (event["path"], event["run"]) == (labels["agent"], exemplar["run"])


def test_promtool_has_nothing_to_say_about_the_text(running: Station) -> None:
    page, _ = running.monitoring.page("text/plain;version=0.0.4")
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_prometheus_is_served_open_metrics_which_promtool_cannot_read_but_the_reference_parser_can(
    running: Station,
) -> None:
    page, content_type = running.monitoring.page(PROMETHEUS_ACCEPTS)
    assert content_type.startswith("application/openmetrics-text")
    parsed = text_string_to_metric_families(page.decode())  # type: ignore[no-untyped-call]
    families = {family.name for family in parsed}
    assert {"orchestree_agent_restarts", "orchestree_loop_lag_seconds", "site_requests"} <= families


@pytest.mark.parametrize(
    ("agent", "expression"),
    [
        ("host", 'host_percent{part="cpu"}'),
        ("site", "site_requests_total > 0"),
        ("prober", 'prober_answer_seconds_bucket{le="+Inf"} > 0'),
    ],
    ids=["a process", "a thread", "a coroutine"],
)
def test_the_metrics_of_agents_reach_prometheus(running: Station, agent: str, expression: str) -> None:
    found = until(asked(running, expression), expression)
    assert {(series.labels["agent"], series.labels["job"]) for series in found} == {(agent, "orchestree")}


def asked(running: Station, expression: str) -> Callable[[], list[Series]]:
    """Return a question for `until`."""
    return lambda: running.prometheus.query(expression)
