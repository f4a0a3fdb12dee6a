"""The restart window: exact, inclusive, O(1)."""

from __future__ import annotations

import random
import threading

import pytest

from orchestree.strategies.window import RestartWindow

pytestmark = pytest.mark.policy


def test_max_restarts_are_allowed_and_one_more_is_not() -> None:
    window = RestartWindow(2, 10.0)
    assert [window.add(0.0), window.add(1.0), window.add(2.0)] == [True, True, False]


def test_restarts_exactly_max_seconds_apart_still_count_together() -> None:
    assert not [window := RestartWindow(1, 10.0), window.add(5.0), window.add(15.0)][-1]


def test_restarts_more_than_max_seconds_apart_do_not_count_together() -> None:
    window = RestartWindow(1, 10.0)
    assert window.add(5.0)
    assert window.add(15.000001)


def test_with_max_restarts_0_the_first_restart_is_one_too_many() -> None:
    assert not RestartWindow(0, 10.0).add(0.0)


def test_the_stamp_is_set_also_when_the_answer_is_no() -> None:
    window = RestartWindow(1, 10.0)
    assert [window.add(0.0), window.add(1.0), window.add(10.5)] == [True, False, False]
    assert window.count(10.5) == 2


def test_it_counts_what_lies_within_the_window_both_ends_included() -> None:
    window = RestartWindow(3, 10.0)
    for now in (0.0, 4.0, 10.0):
        window.add(now)
    assert [window.count(now) for now in (10.0, 10.1, 14.0, 14.1, 20.0, 20.1)] == [3, 2, 2, 1, 1, 0]


def test_other_bounds_keep_the_latest_stamps() -> None:
    window = RestartWindow(3, 10.0)
    for now in (0.0, 1.0, 2.0):
        window.add(now)
    narrow, wide = window.resized(1, 5.0), window.resized(4, 20.0)
    assert (narrow.max_restarts, narrow.max_seconds, wide.max_restarts, wide.max_seconds) == (1, 5.0, 4, 20.0)
    assert [narrow.count(now) for now in (2.0, 5.5, 6.5)] == [3, 2, 1]
    assert narrow.resized(3, 10.0).count(2.0) == 3
    assert wide.count(2.0) == 3
    assert not narrow.add(6.9)
    assert [wide.add(now) for now in (20.0, 20.5)] == [True, True]
    assert window.count(2.0) == 3


def test_it_remembers_no_more_than_it_needs() -> None:
    window = RestartWindow(3, 10.0)
    for _ in range(1000):
        window.add(0.0)
    assert window.count(0.0) == 4


@pytest.mark.parametrize("seed", range(20))
def test_it_answers_as_otp_does_by_counting_all_stamps(seed: int) -> None:
    rng = random.Random(seed)
    limit, seconds, now = rng.randint(0, 4), rng.choice((1.0, 2.5)), 0.0
    window, stamps = RestartWindow(limit, seconds), list[float]()
    for _ in range(200):
        now += rng.choice((0.0, 0.25, 0.5, 1.0, 2.5))
        stamps = [*(stamp for stamp in stamps if stamp >= now - seconds), now]
        assert window.add(now) is (len(stamps) <= limit)


def test_any_thread_may_count_while_another_records() -> None:
    window, counted, is_done = RestartWindow(50, 1e9), set[int](), threading.Event()

    def count() -> None:
        while not is_done.is_set():
            counted.add(window.count(0.0))

    thread = threading.Thread(target=count)
    thread.start()
    for number in range(100_000):
        window.add(float(number))
    is_done.set()
    thread.join()
    assert counted <= set(range(53))  # one is added before the oldest is dropped
    assert window.count(1e5) == 51
