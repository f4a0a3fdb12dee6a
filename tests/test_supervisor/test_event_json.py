"""Every event survives the way into JSON and back."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from event_samples import EVERY_DATA, a_crash, an_event, from_json

from orchestree.supervisor.event_json import data_from_json, to_json
from orchestree.supervisor.events import (
    TYPE_OF,
    AgentCrashed,
    AgentMessage,
    AgentReady,
    AgentStopping,
    Event,
    EventData,
    EventType,
    StopCause,
)

pytestmark = pytest.mark.policy


def through_json(event: Event) -> Event:
    return from_json(json.loads(json.dumps(to_json(event), allow_nan=False, ensure_ascii=False).encode("utf-8")))


def test_there_is_a_sample_of_every_type() -> None:
    assert {type(data) for data in EVERY_DATA} == set(TYPE_OF)


@pytest.mark.parametrize("data", EVERY_DATA, ids=lambda data: type(data).__name__)
def test_an_event_comes_back_equal(data: EventData) -> None:
    event = replace(an_event(data, path="a/b", time=1.7e9), seq=17, run="c0ffee")
    assert through_json(event) == event


def test_the_outer_keys_are_those_of_the_contract() -> None:
    written = to_json(an_event(AgentReady(0.5)))
    assert list(written) == ["seq", "run", "time", "monotonic", "type", "path", "incarnation", "data"]
    assert written["type"] == "agent_ready"
    assert written["data"] == {"startup_s": 0.5}


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_an_infinite_number_comes_back(number: float) -> None:
    assert through_json(an_event(AgentReady(number))).data == AgentReady(number)


def test_half_a_surrogate_pair_is_written_out() -> None:
    report = through_json(a_crash("no file '\udc80'")).data
    assert isinstance(report, AgentCrashed)
    assert report.report.message == r"no file '\udc80'"


def test_a_crash_report_is_whole() -> None:
    long = "x" * 1_000_000
    data = through_json(a_crash(traceback=long)).data
    assert isinstance(data, AgentCrashed)
    assert data.report.traceback == long


def test_unknown_keys_are_ignored_and_missing_ones_take_a_default() -> None:
    assert data_from_json(EventType.AGENT_READY, {"colour": "red"}) == AgentReady(0.0)
    assert data_from_json(EventType.AGENT_STOPPING, {}) == AgentStopping(StopCause.COMMAND)


@pytest.mark.parametrize("wanted", sorted(EventType))
def test_the_data_of_any_type_can_be_made_of_nothing(wanted: EventType) -> None:
    assert TYPE_OF[type(data_from_json(wanted, {}))] is wanted


def test_what_a_user_emits_is_bounded() -> None:
    message = AgentMessage("n" * 1_000_000, {"text": "x" * 10_000_000, "many": list(range(100_000))})
    assert len(json.dumps(to_json(an_event(message)))) < 100_000
