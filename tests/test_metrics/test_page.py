"""The page is what the client writes of the plain collector, byte for byte, whatever has happened."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import Counter as Counts
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given, settings, strategies as st
from metrics_support import OPEN_METRICS, OwnSamples, Scraped, page_of, reference
from prometheus_client import Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, process, supervisor

from orchestree.agents.agent import Agent
from orchestree.agents.ends import Cause, CrashReport, abnormal
from orchestree.metrics.exposition import PIECE_BYTES
from orchestree.metrics.families import FAMILIES, SUPERVISOR_STATES
from orchestree.metrics.readings import SHOWN_AFTER_END_S
from orchestree.metrics.source import Usage, Whole
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor.events import AgentCrashed, AgentRegistered, HandlerFailed
from orchestree.supervisor.spec import AgentEntry, ChildEntry
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.world import Settings

BOTH = pytest.mark.parametrize("open_metrics", [False, True], ids=["text", "open_metrics"])
A_TENTH = settings(max_examples=max(60, settings().max_examples // 10))
promtool = shutil.which("promtool")


def expect_the_reference(scraped: Scraped) -> None:
    for open_metrics in (False, True):
        page = page_of(scraped.exporter, OPEN_METRICS if open_metrics else "")
        assert page.decode() == reference(scraped.exporter.registry, open_metrics=open_metrics).decode()


def a_tree(**arguments: object) -> Scraped:
    waits = Backoff(wait=wait_fixed(10.0), stable_after=30.0)
    return Scraped(
        agent("a", backoff=waits),
        process("p"),
        supervisor("s", agent("x"), agent("y", depends_on=["x"]), supervisor("t", agent("z", restart="temporary"))),
        supervisor("dynamic", dynamic=True),
        **arguments,  # type: ignore[arg-type]
    )


def test_a_tree_that_has_not_started_has_all_families_and_the_figures_of_the_whole() -> None:
    scraped = a_tree(started=False)
    expect_the_reference(scraped)
    assert scraped.value("orchestree_agents", state="registered") == 5
    assert scraped.value("orchestree_agent_starts_total", agent="s/x") == 0
    scraped.tree.shown.clear()  # not even prepared
    expect_the_reference(scraped)
    assert scraped.values("orchestree_agent_state") == {}
    assert list(scraped.values("orchestree_build_info").values()) == [1.0]


def test_every_family_is_introduced_once_in_the_order_of_the_table() -> None:
    scraped = a_tree()
    heads = [line.split()[2] for line in scraped.page().splitlines() if line.startswith("# TYPE")]
    assert heads == [family.name for family in FAMILIES]
    parsed = list(text_string_to_metric_families(scraped.page(OPEN_METRICS)))  # type: ignore[no-untyped-call]
    assert [family.name for family in parsed] == [family.base for family in FAMILIES]


def test_what_moves_by_itself_is_new_on_each_page() -> None:
    scraped = a_tree()
    scraped.tree.last_beats |= {"a": 0.5, "s/x": 2.75, "p": 100.0}
    scraped.tree.usages["p"] = Usage(cpu_s=1.5, memory_bytes=123_456_789)
    scraped.tree.advance(2.5)
    expect_the_reference(scraped)
    assert scraped.value("orchestree_agent_ready_seconds", agent="a") == 2.5
    assert scraped.value("orchestree_agent_heartbeat_age_seconds", agent="a") == 2.0
    assert scraped.value("orchestree_agent_heartbeat_age_seconds", agent="p") == 0.0, "it waits on purpose"
    assert scraped.value("orchestree_agent_heartbeat_age_seconds", agent="s/y") is None, "no such run"
    assert scraped.value("orchestree_agent_cpu_seconds_total", agent="p") == 1.5
    assert scraped.value("orchestree_agent_memory_bytes", agent="p") == 123_456_789
    assert scraped.value("orchestree_agent_cpu_seconds_total", agent="a") is None
    scraped.tree.usages["p"] = Usage(cpu_s=1.75, memory_bytes=None)
    scraped.tree.advance(1e7)
    expect_the_reference(scraped)
    assert scraped.value("orchestree_agent_ready_seconds", agent="a") == 1e7 + 2.5
    assert scraped.value("orchestree_agent_cpu_seconds_total", agent="p") == 1.75
    assert scraped.value("orchestree_agent_memory_bytes", agent="p") is None


def test_a_restart_that_waits_counts_down_and_a_streak_goes_when_the_run_is_stable() -> None:
    scraped = a_tree()
    scraped.tree.crash("a")
    scraped.tree.advance(4.0)
    expect_the_reference(scraped)
    assert scraped.value("orchestree_agent_next_restart_seconds", agent="a") == 6.0
    assert scraped.value("orchestree_agent_up", agent="a") == 0
    assert scraped.value("orchestree_agent_state", agent="a", state="backoff") == 1
    assert scraped.value("orchestree_agent_restart_streak", agent="a") == 1
    scraped.tree.advance(6.0)
    for seconds, streak in ((0.0, 1), (29.5, 1), (0.5, 0)):
        scraped.tree.advance(seconds)
        expect_the_reference(scraped)
        assert scraped.value("orchestree_agent_restart_streak", agent="a") == streak


def test_a_restart_is_linked_to_its_event_in_open_metrics_only() -> None:
    scraped = a_tree()
    scraped.tree.advance(1.5)
    scraped.tree.crash("s/x")
    [restart] = [seq for seq, (_, name, *_) in enumerate(scraped.tree.log, 1) if name == "AGENT_RESTARTING"]
    line = 'orchestree_agent_restarts_total{agent="s/x"} 1.0'
    link = f' # {{event="{restart}",run="{scraped.run}"}} 1.0 1700000001.5'
    assert f"\n{line}{link}\n" in scraped.page(OPEN_METRICS)
    assert f"\n{line}\n" in scraped.page()


def test_an_agent_that_leaves_takes_its_series_along_and_one_that_comes_brings_them_at_zero() -> None:
    scraped = a_tree()
    scraped.tree.crash("p")
    before = scraped.page()
    assert 'agent="p"' in before
    scraped.tree.stop_agent("p")
    scraped.tree.unregister("p")
    scraped.tree.register("s", process("p2"))
    expect_the_reference(scraped)
    assert 'agent="p"' not in scraped.page()
    assert scraped.value("orchestree_agent_restarts_total", agent="s/p2") == 0
    scraped.tree.register("", process("p"))
    expect_the_reference(scraped)
    assert scraped.value("orchestree_agent_restarts_total", agent="p") == 0
    assert scraped.value("orchestree_agent_starts_total", agent="p") == 1


def test_another_agent_under_the_same_path_is_not_taken_for_the_first_whatever_its_record_says() -> None:
    scraped = a_tree()
    assert scraped.value("orchestree_agent_starts_total", agent="a") == 1
    scraped.tree.offer(AgentRegistered("m:A", "thread", "transient", ()), "a")
    scraped.tree.offer(AgentCrashed(abnormal(Cause.OOM), CrashReport(cause=Cause.OOM, message="")), "a")
    expect_the_reference(scraped)
    assert scraped.value("orchestree_agent_starts_total", agent="a") == 0


def test_a_temporary_agent_that_has_ended_is_still_told_of_as_what_it_was() -> None:
    scraped = a_tree()
    scraped.tree.crash("s/t/z")
    expect_the_reference(scraped)
    assert scraped.entry("s/t/z") is None
    told = {"class": "virtual:Worker", "executor": "thread", "restart": "temporary"}
    assert scraped.value("orchestree_agent_info", agent="s/t/z", **told) == 1
    assert scraped.value("orchestree_agent_state", agent="s/t/z", state="failed") == 1


def test_what_has_left_is_shown_for_as_long_as_prometheus_looks_back_and_then_no_more() -> None:
    scraped = a_tree()
    scraped.tree.start_child("dynamic", agent("job", restart="temporary"))
    scraped.tree.start_child("dynamic", supervisor("team", agent("b", restart="temporary"), restart="temporary"))
    scraped.tree.crash("s/t/z")
    scraped.tree.complete("dynamic/job")
    scraped.tree.stop_agent("dynamic/team")
    for seconds, are_there in ((0.0, True), (SHOWN_AFTER_END_S - 1.0, True), (1.0, False)):
        scraped.tree.advance(seconds)
        expect_the_reference(scraped)
        for path in ("s/t/z", "dynamic/job"):
            assert (scraped.value("orchestree_agent_up", agent=path) == 0) is are_there
        assert (scraped.value("orchestree_supervisor_restarts_limit", supervisor="dynamic/team") == 0) is are_there
        assert scraped.value("orchestree_agents", state="failed") == are_there
        assert scraped.value("orchestree_agent_up", agent="a") == 1
    scraped.tree.start_child("dynamic", agent("job", restart="temporary"))
    assert scraped.value("orchestree_agent_up", agent="dynamic/job") == 1
    assert scraped.value("orchestree_agent_starts_total", agent="dynamic/job") == 1


def test_another_policy_shows_at_once() -> None:
    scraped = a_tree()
    scraped.page()
    scraped.tree.reconfigure("a", restart="permanent")
    scraped.tree.reconfigure("s", max_restarts=77)
    expect_the_reference(scraped)
    assert scraped.value("orchestree_supervisor_restarts_limit", supervisor="s") == 77
    assert 'agent="a",class="virtual:Worker",executor="thread",restart="permanent"' in scraped.page()


def test_a_supervisor_that_gave_up_shows_in_its_state() -> None:
    scraped = Scraped(supervisor("s", agent("a", backoff=None), max_restarts=0, restart="temporary"), supervisor("t"))
    name = "orchestree_supervisor_state"

    def states(path: str) -> dict[str, float]:
        found = {tuple(label for _, label in labels): value for labels, value in scraped.values(name).items()}
        return {state: value for (state, at), value in found.items() if at == path}

    assert list(states("")) == [state.value for state in SUPERVISOR_STATES]
    assert [state for state, value in states("s").items() if value] == ["ready"]
    scraped.tree.crash("s/a")
    expect_the_reference(scraped)
    assert [state for state, value in states("s").items() if value] == ["failed"]
    assert [state for state, value in states("t").items() if value] == ["ready"]


def test_the_page_says_which_orchestrator_it_is_of() -> None:
    [labels] = a_tree().values("orchestree_build_info")
    assert dict(labels).keys() == {"version", "python", "name", "run"}
    assert (dict(labels)["name"], dict(labels)["run"]) == ("plant", "5eed5eed5eed")


def test_label_values_are_escaped() -> None:
    odd = type('Odd"\\\nName', (Agent,), {"execute": lambda self: None, "__module__": "módulo"})
    scraped = Scraped(AgentEntry(odd, "a"))
    expect_the_reference(scraped)
    assert r'class="módulo:Odd\"\\\nName"' in scraped.page()


def test_the_figures_of_the_whole() -> None:
    scraped = Scraped(agent("a"), agent("b"), agent("c"), settings=Settings(max_workers=2))
    scraped.tree.figures = Whole(max_workers=2, abandoned=3, events_dropped=12, history_lag_s=0.125)
    scraped.tree.offer(HandlerFailed("on_event", "ValueError: x"))
    for seconds in (0.0001, 0.00011, 3.0, 60.0):
        scraped.exporter.observe_lag(seconds)
    expect_the_reference(scraped)
    assert scraped.value("orchestree_workers_limit") == 2
    assert scraped.value("orchestree_queue_length") == 1
    assert scraped.value("orchestree_wedged_threads") == 3
    assert scraped.value("orchestree_events_dropped_total") == 12
    assert scraped.value("orchestree_history_lag_seconds") == 0.125
    assert scraped.value("orchestree_event_handler_errors_total") == 1
    assert scraped.value("orchestree_events_total", type="agent_starting") == 2
    assert scraped.value("orchestree_events_total", type="event_gap") == 0
    assert scraped.value("orchestree_loop_lag_seconds_bucket", le="0.0001") == 1
    assert scraped.value("orchestree_loop_lag_seconds_bucket", le="5.0") == 3
    assert scraped.value("orchestree_loop_lag_seconds_count") == 4


def test_agents_own_metrics_and_those_of_users_follow() -> None:
    own = CounterMetricFamily("items", "Items.", labels=["agent", "kind"])
    own.add_metric(["a", 'q"uote'], 5.0)
    scraped = a_tree(own=OwnSamples(own, GaugeMetricFamily("depth", "Depth.", 2.5)))
    theirs = Counter("theirs", "Of a user.", ["x"], registry=scraped.exporter.registry)
    theirs.labels("1").inc()
    scraped.exporter.registry.register(OwnSamples(InfoMetricFamily("said", "Said.", {"by": "me"})))
    expect_the_reference(scraped)
    heads = [line.split()[2] for line in scraped.page().splitlines() if line.startswith("# TYPE")]
    assert heads[len(FAMILIES) :] == ["items_total", "depth", "theirs_total", "theirs_created", "said_info"]
    assert scraped.troubles == []


def test_each_page_asks_the_loop_how_late_it_is() -> None:
    scraped = a_tree()
    scraped.page()
    scraped.page(OPEN_METRICS)
    assert scraped.tree.probes == 2


def test_a_page_comes_in_pieces_of_bounded_size() -> None:
    scraped = Scraped(*[agent(f"agent-{number}") for number in range(1_000)])
    page = scraped.exporter.page()
    sizes = [len(piece) for piece in page.pieces]
    assert sum(sizes) == page.length > 1_500_000
    assert max(sizes) <= PIECE_BYTES
    assert sum(sizes[:-1]) / (len(sizes) - 1) > PIECE_BYTES / 2, "and they are few"


@pytest.mark.slow
def test_many_scrapes_at_once_while_the_tree_changes_all_get_whole_pages() -> None:
    scraped = Scraped(*[agent(f"agent-{number}", backoff=None) for number in range(50)], max_restarts=10**6)
    pages: list[bytes] = []
    stop = threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            pages.append(page_of(scraped.exporter, OPEN_METRICS))

    threads = [threading.Thread(target=scrape) for _ in range(10)]
    for thread in threads:
        thread.start()
    for number in range(2_000):
        scraped.tree.crash(f"agent-{number % 50}")
    stop.set()
    for thread in threads:
        thread.join(30.0)
    assert len(pages) >= 10
    for page in pages[-10:]:
        assert page.endswith(b"# EOF\n")
        assert page.count(b"orchestree_agent_restarts_total{") == 50
    expect_the_reference(scraped)


CAUSES = [Cause.EXCEPTION, Cause.SIGNAL, Cause.OOM, Cause.EXIT, Cause.START_FAILED, Cause.WATCHDOG, Cause.LOST]
SHAPES: dict[str, Callable[[], list[ChildEntry]]] = {
    "one": lambda: [agent("a")],
    "flat": lambda: [agent("a"), agent("b", backoff=None), process("c", restart="permanent"), agent("d")],
    "deep": lambda: [supervisor("s", agent("a"), supervisor("t", agent("b"), process("c")), strategy="one_for_all")],
    "never stable": lambda: [agent("a", backoff=Backoff(wait=wait_fixed(1.0), stable_after=1e-9)), agent("b")],
    "given up": lambda: [
        agent("a", restart="permanent", backoff=Backoff(wait=wait_fixed(1.0), stop=stop_after_attempt(2))),
        agent("b", shutdown=1.0, replace_wedged=True),
    ],
    "fragile": lambda: [supervisor("s", agent("a"), agent("b", restart="temporary"), max_restarts=1), agent("c")],
}
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["end", "crash", "advance", "stop", "start", "restart", "cling", "leave", "come"]),
        st.integers(0),
    ),
    max_size=12,
)


def operate(scraped: Scraped, operation: str, draw: int) -> None:
    tree = scraped.tree
    paths = [path for path, node in tree.core.world.nodes.items() if not hasattr(node, "children")]
    path = paths[draw % len(paths)] if paths else "none"
    runs = list(tree.live)
    with suppress(OrchestreeError):
        match operation:
            case "crash" if runs:
                tree.end(runs[draw % len(runs)].path, abnormal(CAUSES[draw % len(CAUSES)]))
            case "end" if runs:
                tree.complete(runs[draw % len(runs)].path)
            case "advance":
                tree.advance(draw % 1000 / 7)
            case "stop":
                tree.stop_agent(path)
            case "start":
                tree.start_agent(path)
            case "restart":
                tree.restart_agent(path)
            case "cling":
                tree.stubborn.add(path)
            case "leave":
                tree.stop_agent(path)
                tree.unregister(path)
            case "come":
                tree.register("", process(f"new-{draw % 3}"))


@pytest.mark.slow
@A_TENTH
@given(shape=st.sampled_from(sorted(SHAPES)), operations=OPERATIONS)
@example(shape="given up", operations=[("end", 0), ("advance", 70), ("end", 1)])
@example(shape="given up", operations=[("cling", 1), ("restart", 1), ("advance", 70)])
def test_whatever_happens_the_page_is_the_reference(shape: str, operations: list[tuple[str, int]]) -> None:
    scraped = Scraped(*SHAPES[shape]())
    for operation, draw in operations:
        operate(scraped, operation, draw)
        expect_the_reference(scraped)
        expect_one_state_each(scraped)
        expect_each_run_to_be_counted_once(scraped)
    assert scraped.troubles == []


STILL_RUN = (AgentState.STARTING, AgentState.READY, AgentState.STOPPING)
GIVEN_UP_OR_REPLACED = (AgentState.WEDGED, AgentState.QUEUED)
"""A run that cannot be ended has been counted already if its own failure was the reason, or will be by the next."""


def expect_each_run_to_be_counted_once(scraped: Scraped) -> None:
    starts, ends = scraped.values("orchestree_agent_starts_total"), scraped.values("orchestree_agent_ends_total")
    ended = Counts[str]()
    for labels, value in ends.items():
        ended[dict(labels)["agent"]] += int(value)
    for [(_, path)], started in starts.items():
        state = scraped.tree.shown[path].status.state
        if state not in GIVEN_UP_OR_REPLACED:
            assert started - ended[path] == (state in STILL_RUN), (path, state)


def expect_one_state_each(scraped: Scraped) -> None:
    for whose in ("agent", "supervisor"):
        values = scraped.values(f"orchestree_{whose}_state")
        of_each = Counts(dict(labels)[whose] for labels in values)
        shown = [dict(labels)[whose] for labels, value in values.items() if value]
        assert sorted(shown) == sorted(of_each), "each is in one of the states that its kind has"


@pytest.mark.skipif(promtool is None and not os.environ.get("CI"), reason="promtool is not installed")
def test_promtool_finds_nothing_to_complain_about() -> None:
    scraped = a_tree()
    scraped.tree.usages["p"] = Usage(cpu_s=1.5, memory_bytes=1)
    scraped.tree.last_beats["a"] = 0.0
    scraped.tree.crash("s/x")
    assert promtool is not None
    checked = subprocess.run([promtool, "check", "metrics"], input=scraped.page(), capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@BOTH
def test_a_family_looks_the_same_in_both_formats_but_for_counters(open_metrics: bool) -> None:
    page = a_tree().page(OPEN_METRICS if open_metrics else "")
    assert ("# TYPE orchestree_agent_starts counter" in page) is open_metrics
    assert ("# TYPE orchestree_agent_starts_total counter" in page) is not open_metrics
    assert page.endswith("# EOF\n") is open_metrics
