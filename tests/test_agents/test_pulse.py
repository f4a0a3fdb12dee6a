"""What counts as progress, and since when."""

from __future__ import annotations

import time

import pytest

from orchestree.agents.pulse import Pulse

pytestmark = pytest.mark.portable


def test_it_begins_with_progress_made_now_and_nothing_said() -> None:
    before = time.monotonic()
    pulse = Pulse()
    assert before <= pulse.last <= time.monotonic()
    assert pulse.text == ""


def test_a_beat_is_now_unless_a_moment_is_given() -> None:
    pulse = Pulse()
    pulse.last = 0.0
    before = time.monotonic()
    pulse.beat()
    assert before <= pulse.last <= time.monotonic()
    pulse.beat(before + 3600.0)
    assert pulse.last == before + 3600.0


def test_progress_is_never_taken_back() -> None:
    pulse = Pulse()
    pulse.beat(later := pulse.last + 3600.0)
    pulse.beat()
    pulse.beat(0.0)
    assert pulse.last == later


def test_words_are_no_progress_and_the_latest_ones_stay() -> None:
    pulse = Pulse()
    last = pulse.last
    pulse.say("file 7")
    pulse.say("file 8")
    pulse.beat(last + 1.0)
    assert (pulse.text, pulse.last) == ("file 8", last + 1.0)
