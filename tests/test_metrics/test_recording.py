"""What is counted of which event."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from event_samples import EVERY_DATA, an_event
from metrics_support import Scraped
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, supervisor

from orchestree.agents.agent import LoopingAgent
from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, ExitKind, ExitReason, abnormal
from orchestree.metrics.families import CAUSES, SUPERVISOR_RESTART_DURATION
from orchestree.metrics.recording import SPARE_RECORDS, Histogram, Recording
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentReady,
    AgentRegistered,
    AgentRestarting,
    AgentStarting,
    AgentTerminated,
    AgentUnregistered,
    Event,
    EventType,
    RestartCause,
)
from orchestree.supervisor.spec import AgentEntry
from orchestree.supervisor.states import AgentState

WAITS_2 = Backoff(wait=wait_fixed(2.0), jitter=0.0)


class Looper(LoopingAgent):
    """One whose runs are recycled."""

    def runner(self) -> None: ...


def counted(scraped: Scraped, path: str = "a") -> dict[str, float]:
    """Return starts, restarts and the causes of ends that have occurred."""
    ends = {
        dict(labels)["cause"]: value
        for labels, value in scraped.values("orchestree_agent_ends_total").items()
        if dict(labels)["agent"] == path and value
    }
    starts = scraped.value("orchestree_agent_starts_total", agent=path)
    restarts = scraped.value("orchestree_agent_restarts_total", agent=path)
    assert starts is not None
    assert restarts is not None
    return {"starts": starts, "restarts": restarts, **ends}


def durations(scraped: Scraped, supervisor: str = "") -> tuple[float | None, float | None]:
    """Return count and sum of the restarts' durations."""
    name = SUPERVISOR_RESTART_DURATION.name
    return scraped.value(f"{name}_count", supervisor=supervisor), scraped.value(f"{name}_sum", supervisor=supervisor)


def test_the_causes_are_those_that_can_end_the_run_of_an_agent() -> None:
    failures = "exception exit signal oom watchdog memory start_failed start_timeout lost"
    assert " ".join(cause.value for cause in CAUSES) == f"normal ignore shutdown {failures}"


def test_all_counters_are_there_at_zero_from_registration() -> None:
    scraped = Scraped(agent("a"), started=False)
    ends = scraped.values("orchestree_agent_ends_total")
    assert [dict(labels)["cause"] for labels in ends] == [cause.value for cause in CAUSES]
    assert set(ends.values()) == {0.0}
    assert counted(scraped) == {"starts": 0, "restarts": 0}
    assert durations(scraped) == (0, 0)


@pytest.mark.parametrize("cause", [cause for cause in CAUSES if cause not in ("normal", "ignore", "shutdown")])
def test_a_crash_is_one_end_by_its_cause(cause: Cause) -> None:
    scraped = Scraped(agent("a"))
    scraped.tree.end("a", abnormal(cause))
    assert counted(scraped) == {"starts": 2, "restarts": 1, cause.value: 1}


def test_a_crash_that_ends_it_for_good_is_one_end() -> None:
    scraped = Scraped(agent("a", restart="temporary"))
    scraped.tree.crash("a")
    assert counted(scraped) == {"starts": 1, "restarts": 0, "exception": 1}


@pytest.mark.parametrize(
    ("end", "cause"), [("complete", "normal"), ("ignore", "ignore"), ("shut_itself_down", "shutdown")]
)
def test_an_end_for_good_without_a_crash_is_counted_by_its_cause(end: str, cause: str) -> None:
    scraped = Scraped(agent("a"))
    if end == "ignore":
        scraped.tree.stop_agent("a")
        scraped.tree.manual.add("a")
        scraped.tree.start_agent("a")
    before = counted(scraped)
    getattr(scraped.tree, end)("a")
    assert counted(scraped) == {**before, cause: before.get(cause, 0) + 1}


@pytest.mark.parametrize(("reason", "cause"), [(NORMAL, "normal"), (SHUTDOWN, "shutdown")])
def test_a_permanent_agent_that_ends_by_itself_ends_by_that_and_restarts(reason: ExitReason, cause: str) -> None:
    scraped = Scraped(agent("a", restart="permanent"))
    scraped.tree.end("a", reason)
    assert counted(scraped) == {"starts": 2, "restarts": 1, cause: 1}


def test_a_restart_on_command_and_one_with_a_group_are_shutdowns() -> None:
    scraped = Scraped(agent("a"), agent("b"), strategy="one_for_all")
    scraped.tree.restart_agent("a")
    assert counted(scraped) == {"starts": 2, "restarts": 1, "shutdown": 1}
    scraped.tree.crash("b")
    assert counted(scraped) == {"starts": 3, "restarts": 2, "shutdown": 2}
    assert counted(scraped, "b") == {"starts": 2, "restarts": 1, "exception": 1}


def test_a_run_that_is_recycled_has_ended_normally() -> None:
    scraped = Scraped(AgentEntry(Looper, "a", max_age=10.0))
    scraped.tree.rounds.add("a")
    scraped.tree.advance(10.0)
    assert counted(scraped) == {"starts": 2, "restarts": 1, "normal": 1}


def test_a_stop_ends_a_run_once_and_what_does_not_run_not_at_all() -> None:
    scraped = Scraped(agent("a", backoff=WAITS_2), agent("w", depends_on=["a"]))
    scraped.tree.stop_agent("a")
    assert counted(scraped) == {"starts": 1, "restarts": 0, "shutdown": 1}
    scraped.tree.start_agent("a")
    scraped.tree.crash("a")
    scraped.tree.stop_agent("a")  # while it waits for its restart
    assert counted(scraped) == {"starts": 2, "restarts": 1, "shutdown": 1, "exception": 1}
    scraped.tree.stop()
    assert counted(scraped) == {"starts": 2, "restarts": 1, "shutdown": 1, "exception": 1}


def test_a_run_that_cannot_be_ended_is_counted_when_it_is_given_up_on() -> None:
    scraped = Scraped(agent("a", watchdog=1.0, shutdown=1.0, replace_wedged=True, backoff=None))
    scraped.tree.stubborn.add("a")
    scraped.tree.beats["a"] = (0.0, "")
    scraped.tree.advance(4.0)
    assert counted(scraped) == {"starts": 2, "restarts": 1, "watchdog": 1}


def test_a_run_that_goes_on_beside_its_successor_is_counted_when_that_starts() -> None:
    scraped = Scraped(agent("a", shutdown=1.0, replace_wedged=True))
    scraped.tree.stubborn.add("a")
    for number in (1, 2):
        scraped.tree.restart_agent("a")
        scraped.tree.advance(5.0)
        assert counted(scraped) == {"starts": number + 1, "restarts": 0, "shutdown": number}


def test_a_permanent_agent_that_is_parked_by_a_normal_end_has_ended_normally() -> None:
    gives_up = Backoff(wait=wait_fixed(1.0), jitter=0.0, stop=stop_after_attempt(1))
    scraped = Scraped(agent("a", backoff=gives_up, restart="permanent"))
    scraped.tree.shut_itself_down("a")
    assert scraped.tree.state("a") == "parked"
    assert counted(scraped) == {"starts": 1, "restarts": 0, "shutdown": 1}
    scraped.tree.stop()
    assert counted(scraped) == {"starts": 1, "restarts": 0, "shutdown": 1}


@pytest.mark.parametrize(
    ("kind", "cause", "counts_as"),
    [
        (ExitKind.ABNORMAL, Cause.NORMAL, Cause.EXCEPTION),
        (ExitKind.ABNORMAL, Cause.MAX_RESTARTS, Cause.EXCEPTION),
        (ExitKind.ABNORMAL, Cause.OOM, Cause.OOM),
        (ExitKind.NORMAL, Cause.EXCEPTION, Cause.NORMAL),
        (ExitKind.NORMAL, Cause.IGNORE, Cause.IGNORE),
        (ExitKind.SHUTDOWN, Cause.SIGNAL, Cause.SHUTDOWN),
        (ExitKind.SHUTDOWN, Cause.NORMAL, Cause.NORMAL),
    ],
)
def test_what_classify_exit_made_of_an_end_counts_as_something_of_its_kind(
    kind: ExitKind, cause: Cause, counts_as: Cause
) -> None:
    scraped = Scraped(agent("a"))
    scraped.tree.end("a", ExitReason(kind, cause))
    found = counted(scraped)
    assert {name: value for name, value in found.items() if name not in ("starts", "restarts")} == {counts_as: 1}


def test_a_cause_that_ends_no_agent_counts_as_a_shutdown() -> None:
    recording = Recording(list, pytest.fail)
    recording.offer(an_event(AgentStarting("thread")))
    recording.offer(an_event(AgentTerminated(ExitReason(ExitKind.SHUTDOWN, Cause.ESCALATED), AgentState.STOPPED)))
    assert recording.agents["sensor-b"].ends == {Cause.SHUTDOWN: 1}


def test_a_restart_takes_from_the_end_until_it_is_ready_again_the_delay_and_failed_starts_included() -> None:
    scraped = Scraped(supervisor("s", agent("a", backoff=WAITS_2)), agent("b", backoff=WAITS_2))
    scraped.tree.advance(100.0)
    scraped.tree.crash("s/a")
    scraped.tree.advance(2.0)
    assert durations(scraped, "s") == (1, 2.0)
    scraped.tree.failing.add("s/a")
    scraped.tree.crash("s/a")
    scraped.tree.advance(3.0)
    scraped.tree.failing.clear()
    scraped.tree.manual.add("s/a")
    scraped.tree.advance(1.5)
    scraped.tree.ready("s/a")
    assert durations(scraped, "s") == (2, 2.0 + 4.5)
    assert durations(scraped) == (0, 0), "only those directly below"
    assert scraped.value(f"{SUPERVISOR_RESTART_DURATION.name}_bucket", supervisor="s", le="2.5") == 1


@pytest.mark.parametrize("down", ["stop", "park"])
def test_one_that_was_taken_down_for_good_has_no_duration_when_it_starts_later(down: str) -> None:
    stop = stop_after_attempt(2)
    scraped = Scraped(agent("a", backoff=Backoff(wait=wait_fixed(2.0), jitter=0.0, stop=stop)))
    scraped.tree.manual.add("a")
    scraped.tree.crash("a")
    if down == "stop":
        scraped.tree.stop_agent("a")
    else:
        scraped.tree.advance(2.0)
        scraped.tree.crash("a")
        assert scraped.tree.state("a") == "parked"
    scraped.tree.advance(50.0)
    scraped.tree.manual.clear()
    scraped.tree.start_agent("a")
    assert scraped.tree.state("a") == "ready"
    assert durations(scraped) == (0, 0)


def test_a_supervisor_that_gives_up_is_counted_and_one_that_is_stopped_is_not() -> None:
    scraped = Scraped(
        supervisor("s", supervisor("t", agent("a", backoff=None), max_restarts=0), max_restarts=0), supervisor("u")
    )
    scraped.tree.crash("s/t/a")
    values = {
        path: scraped.value("orchestree_supervisor_terminations_total", supervisor=path) for path in ("", "s", "s/t")
    }
    assert values == {"": 0, "s": 1, "s/t": 1}
    scraped.tree.stop_agent("u")
    assert scraped.value("orchestree_supervisor_terminations_total", supervisor="u") == 0
    scraped.tree.stop()
    assert scraped.value("orchestree_supervisor_terminations_total", supervisor="") == 0


def test_a_restart_of_a_supervisor_is_counted_and_those_of_its_children_are_not() -> None:
    scraped = Scraped(supervisor("s", agent("a", backoff=None), max_restarts=1, backoff=None), max_restarts=10)
    name = "orchestree_supervisor_restarts_total"
    assert {path: scraped.value(name, supervisor=path) for path in ("", "s")} == {"": 0, "s": 0}
    scraped.tree.crash("s/a")
    assert scraped.value(name, supervisor="s") == 0
    scraped.tree.crash("s/a")
    assert {path: scraped.value(name, supervisor=path) for path in ("", "s")} == {"": 0, "s": 1}


def test_a_supervisor_that_is_registered_anew_begins_at_zero_and_one_that_restarts_goes_on() -> None:
    def given_up() -> dict[str, float | None]:
        names = ("supervisor_terminations_total", "supervisor_restarts_total")
        return {name: scraped.value(f"orchestree_{name}", supervisor="s") for name in names}

    entry = supervisor("s", agent("a", backoff=None), max_restarts=0, backoff=None)
    scraped = Scraped(entry, max_restarts=10)
    for number in (1, 2):
        scraped.tree.crash("s/a")
        assert given_up() == {"supervisor_terminations_total": number, "supervisor_restarts_total": number}
    scraped.tree.stop_agent("s")
    scraped.tree.unregister("s")
    scraped.tree.register("", entry)
    assert given_up() == {"supervisor_terminations_total": 0, "supervisor_restarts_total": 0}
    assert durations(scraped, "s") == (0, 0)


def test_every_type_of_event_is_counted() -> None:
    recording = Recording(list, pytest.fail)
    for data in EVERY_DATA:
        recording.offer(an_event(data))
    assert recording.events == dict.fromkeys(EventType, 1)


def test_a_fault_in_the_recording_never_comes_out_and_is_told_once() -> None:
    troubles: list[str] = []
    recording = Recording(list, troubles.append)
    broken = Event(1, 0.0, 0.0, EventType.AGENT_CRASHED, "a", 1, AgentStarting("thread"))
    recording.offer(broken)
    recording.offer(broken)
    assert len(troubles) == 1
    assert "could not be counted" in troubles[0]
    recording.offer(an_event(AgentStarting("thread"), path="b"))
    assert recording.agents["b"].starts == 1


def test_the_records_of_what_has_left_go_although_nobody_scrapes() -> None:
    there: list[str] = ["stays"]
    asked = 0

    def paths() -> Collection[str]:
        nonlocal asked
        asked += 1
        return there

    recording = Recording(paths, pytest.fail)
    registered = AgentRegistered("m:A", "thread", "temporary", ())
    for path in ("stays", *(f"short-{number}" for number in range(20_000))):
        recording.offer(an_event(registered, path=path))
        recording.offer(an_event(AgentStarting("thread"), path=path))
        assert recording.agents[path].starts == 1
        assert len(recording.agents) <= 2 * 2 + SPARE_RECORDS
    assert recording.agents["stays"].starts == 1
    assert asked <= 20, "and the tree is seldom asked"


def test_a_record_begins_anew_with_a_registration_and_goes_with_the_agent() -> None:
    recording = Recording(list, pytest.fail)
    registered = AgentRegistered("m:A", "thread", "transient", ())
    for data in (registered, AgentStarting("thread"), registered):
        recording.offer(an_event(data))
    assert recording.agents["sensor-b"].starts == 0
    assert recording.agents["sensor-b"].registered is registered
    recording.offer(an_event(AgentUnregistered()))
    assert recording.agents == {}


def test_the_version_of_a_record_changes_with_whatever_a_scrape_shows() -> None:
    recording = Recording(list, pytest.fail)
    crash = next(data for data in EVERY_DATA if isinstance(data, AgentCrashed))
    seen = set()
    for data in (
        AgentStarting("thread"),
        crash,
        AgentRestarting(RestartCause.FAILURE, 0.0, 1),
        AgentStarting("thread"),
    ):
        recording.offer(an_event(data, path="s/a"))
        seen.add(recording.agents["s/a"].version)
    assert len(seen) == 4
    recording.offer(an_event(AgentReady(0.1), path="s/a"))
    assert recording.supervisors["s"].version == 1


def test_a_value_on_a_bound_falls_into_the_bucket_that_it_bounds() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.0, 0.1, 0.100001, 1.0, 1.5):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == pytest.approx(2.700001)
