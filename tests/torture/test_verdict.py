"""The judge of the torture run finds what it is there to find: it is shown logs that somebody has spoilt."""

from __future__ import annotations

from typing import Any

import pytest

from .verdict import Judge, judge


def event(kind: str, path: str = "a", incarnation: int = 1, **data: Any) -> dict[str, Any]:
    return {"type": kind, "path": path, "incarnation": incarnation, "data": data}


def crash(incarnation: int = 1, **report: Any) -> dict[str, Any]:
    known = {"signal": "SIGKILL", "message": "killed by SIGKILL", "exit_code": None, **report}
    return event("agent_crashed", "a", incarnation, reason={"kind": "abnormal", "cause": "signal"}, report=known)


def a_good_log() -> list[dict[str, Any]]:
    """Return the story of one agent that is killed, comes back, floods and is stopped with the tree."""
    story = [
        event("supervisor_started", ""),
        event("agent_starting", executor="thread"),
        event("agent_ready"),
        crash(),
        event("agent_restarting", cause="failure"),
        event("agent_starting", incarnation=2, executor="thread"),
        event("agent_ready", incarnation=2),
        event("agent_message", incarnation=2, name="flood", data={"burst": 1, "number": 0}),
        event("event_gap", "", first=9, last=12),
        event("agent_message", incarnation=2, name="flood", data={"burst": 1, "number": 5}),
        event("agent_stopping", incarnation=2, cause="supervisor"),
        event("agent_terminated", incarnation=2, reason={"kind": "shutdown", "cause": "shutdown"}, state="stopped"),
        event("supervisor_terminated", "", reason={}),
        event("orchestrator_stopped", ""),
    ]
    numbers = [*range(1, 9), 12, *range(13, 18)]
    return [{**line, "seq": seq, "monotonic": seq // 2 * 1.0} for seq, line in zip(numbers, story, strict=True)]


def at(kind: str, log: list[dict[str, Any]], which: int = 0) -> int:
    """Return where the `which`-th event of this type is."""
    return [index for index, line in enumerate(log) if line["type"] == kind][which]


def problems(log: list[dict[str, Any]]) -> str:
    return "\n".join(Judge(settled=8).read(log).problems)


def without(log: list[dict[str, Any]], index: int) -> list[dict[str, Any]]:
    """Leave out one event and number the rest anew, as if it had never been decided."""
    rest = [line for place, line in enumerate(log) if place != index]
    gap = [line for line in rest if line["type"] != "event_gap"]
    return [{**line, "seq": number} for number, line in enumerate(gap, 1)]


def test_a_good_log_has_no_problems_and_is_counted() -> None:
    verdict = Judge(settled=8).read(a_good_log())
    assert verdict.problems == []
    assert (verdict.starts, verdict.ends, verdict.dropped) == (2, {"signal": 1, "shutdown": 1}, 4)
    assert (verdict.marks, verdict.crashed) == ({"sigkill": 1}, {"thread": 1})
    assert verdict.states == {"a": "ready"}


def test_a_hole_in_the_numbers_is_found() -> None:
    log = a_good_log()
    del log[at("agent_ready", log)]
    assert "4 comes where 3 is due" in problems(log)


def test_a_gap_that_accounts_for_too_little_is_found() -> None:
    log = a_good_log()
    log[at("event_gap", log)]["data"] = {"first": 10, "last": 12}
    assert "10 comes where 9 is due" in problems(log)


def test_messages_that_no_gap_accounts_for_are_found() -> None:
    log = a_good_log()
    log[at("agent_message", log, 1)]["data"]["data"]["number"] = 6
    assert "5 messages are missing, and the gaps account for 4" in problems(log)


def test_a_start_without_an_end_of_the_one_before_is_found() -> None:
    log = a_good_log()
    log = without(log, at("agent_crashed", log))
    assert problems(without(log, at("agent_restarting", log))).startswith("a second start without an end")


def test_a_crash_without_a_decision_is_found() -> None:
    log = a_good_log()
    assert problems(without(log, at("agent_restarting", log))).startswith("no decision has followed 4")


def test_a_decision_that_is_later_than_its_crash_is_found() -> None:
    log = a_good_log()
    log[at("agent_restarting", log)]["monotonic"] += 0.5
    assert problems(log).startswith("no decision has followed 4")


@pytest.mark.parametrize("kind", ["agent_terminated", "supervisor_terminated", "orchestrator_stopped"])
def test_an_end_that_is_missing_at_the_end_is_found(kind: str) -> None:
    log = a_good_log()
    assert problems(without(log, at(kind, log))) != ""


def test_a_second_end_is_found() -> None:
    log = a_good_log()
    place = at("agent_terminated", log)
    twice = [*log[:place], log[place], *log[place:]]
    assert "though nothing of it ran" in problems(without(twice, -1))


def test_an_incarnation_that_is_left_out_is_found() -> None:
    log = a_good_log()
    for line in log[at("agent_starting", log, 1) :]:
        line["incarnation"] += line["path"] == "a"
    assert problems(log).startswith("after incarnation 1")


def test_a_message_of_a_run_that_is_over_is_found() -> None:
    log = a_good_log()
    log[at("agent_message", log)]["incarnation"] = 1
    assert problems(log).startswith("a message of a run that is over")


def test_faults_that_hit_too_seldom_and_agents_that_came_to_rest_elsewhere_are_found() -> None:
    summary = {
        "settled": 8,
        "problems": [],
        "threads": [],
        "descriptors": ["7: socket:[1]"],
        "children": 0,
        "kinds": ["sigkill", "command"],
        "hits": {"sigkill": 2, "command": 1},
        "misses": {},
        "steady": ["a"],
        "hopeless": ["a"],
        "jobs": [],
    }
    assert judge(a_good_log(), summary, least=2).problems == [
        "descriptors are left: ['7: socket:[1]']",
        "the log shows sigkill only 1 times",
        "command has hit only 1 times, and missed 0 times",
        "no async agent has crashed",
        "no process agent has crashed",
        "a came to rest as ready, not as parked",
    ]
