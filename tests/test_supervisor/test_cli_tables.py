"""How the commands write tables, figures, moments and other people's texts."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from orchestree.supervisor.control.command_line.human import (
    clock,
    duration,
    printable,
    printable_lines,
    shortened,
    size,
)
from orchestree.supervisor.control.command_line.moments import moment
from orchestree.supervisor.control.command_line.show_commands import note
from orchestree.supervisor.control.command_line.tables import table
from orchestree.supervisor.simulation.durations import seconds_in


def test_columns_are_as_wide_as_their_widest_cell_and_the_last_one_ends_the_line() -> None:
    assert table(("PATH", "PID", "NOTE"), [("sensor", "7", ""), ("ingest/collector", "12345", "waits for site")]) == [
        "PATH               PID     NOTE",
        "sensor             7",
        "ingest/collector   12345   waits for site",
    ]


def test_a_table_without_rows_is_its_heads() -> None:
    assert table(("PATH", "STATE"), []) == ["PATH   STATE"]


def test_states_have_colours_only_when_asked_for_and_stay_aligned() -> None:
    rows = [("a", "ready", "x"), ("b", "parked", "y"), ("c", "registered", "z")]
    assert table(("PATH", "STATE", "NOTE"), rows)[1] == "a      ready        x"
    coloured = table(("PATH", "STATE", "NOTE"), rows, coloured=True)
    assert coloured[1] == "a      \x1b[32mready     \x1b[0m   x"
    assert coloured[2] == "b      \x1b[31mparked    \x1b[0m   y"
    assert coloured[3] == "c      registered   z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (0.4499, "0.4s"),
        (9.94, "9.9s"),
        (9.95, "10s"),
        (59.4, "59s"),
        (59.5, "1m 0s"),
        (192, "3m 12s"),
        (3599.6, "1h 0m"),
        (18061, "5h 1m"),
        (183600, "2d 3h"),
    ],
)
def test_a_duration_has_one_or_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (33_135_002, "31.6 MiB"),
        (2 << 30, "2.0 GiB"),
        (3 << 40, "3.0 TiB"),
    ],
)
def test_bytes_are_shown_in_binary_units(count: int, text: str) -> None:
    assert size(count) == text


def test_a_moment_is_local_time_to_the_millisecond() -> None:
    assert clock(datetime(2026, 11, 22, 14, 58, 1, 330_000).timestamp()) == "2026-11-22 14:58:01.330"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode and 漢字", "plain, ünïcode and 漢字"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("right to left \u202e", "right to left \\u202e"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_nothing_is_left_that_a_terminal_obeys(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_further_lines_of_a_text_are_indented_and_cannot_pass_for_records() -> None:
    text = "crashed\nTraceback:\r\n  File \x1b[2J\n\n2026-11-22 forged"
    assert printable_lines(text) == "crashed\n    Traceback:\n      File \\x1b[2J\n\n    2026-11-22 forged"
    assert printable_lines("one\u2028line\x0b\r") == "one\\u2028line\\x0b\\r"
    assert printable_lines("") == ""


def test_the_last_column_fits_the_terminal_but_has_twenty_characters() -> None:
    rows = [("sensor", "last crash: " + "x" * 30)]
    assert table(("PATH", "NOTE"), rows, width=40)[1] == "sensor   last crash: " + "x" * 18 + "…"
    assert table(("PATH", "NOTE"), rows, width=10)[1] == "sensor   last crash: xxxxxxx…"
    assert table(("PATH", "NOTE"), rows)[1].endswith("x" * 30)


def test_a_long_text_is_cut_to_its_length_with_an_ellipsis() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"


def test_a_note_says_what_else_there_is_to_an_agent() -> None:
    ready = {"state": "ready", "streak": 0, "next_restart_s": None, "waiting_for": [], "last_crash": {"message": "bad"}}
    calm = {**ready, "last_crash": None}
    assert note(ready) == ""
    assert note({**ready, "streak": 1}) == "last crash: bad"
    assert note({**ready, "state": "parked"}) == "last crash: bad"
    assert note({**calm, "state": "queued"}) == "max_workers reached"
    assert note({**calm, "state": "wedged"}) == "cannot be killed; replace_wedged starts another beside it"
    assert note({**ready, "state": "backoff", "next_restart_s": 4.2}) == "restarts in 4.2s; last crash: bad"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("90s", 90), ("2d", 172800), ("1w", 604800)]
    + [(text, None) for text in ("", "10", "m", "10 m", "10x", "-10m", "10m later")],
)
def test_durations_are_numbers_with_units(text: str, seconds: float | None) -> None:
    assert seconds_in(text) == seconds


def test_a_moment_is_so_long_ago_or_an_iso_time() -> None:
    assert moment("10m", 1000.0) == moment("10m ago", 1000.0) == 400.0
    assert moment("2026-11-22T14:58:01+00:00", 0.0) == 1795359481.0
    assert moment("2026-11-22", 0.0) == datetime(2026, 11, 22).timestamp()


def test_a_time_of_day_is_the_latest_one_that_has_passed() -> None:
    noon = datetime(2026, 11, 22, 12).timestamp()
    assert moment("03:12", noon) == datetime(2026, 11, 22, 3, 12).timestamp()
    assert moment("12:00", noon) == noon
    assert moment("12:00:01", noon) == datetime(2026, 11, 21, 12, 0, 1).timestamp()


def test_what_is_no_moment_is_told_what_is_one() -> None:
    with pytest.raises(ValueError, match="'yesterday' is neither so long ago"):
        moment("yesterday", 0.0)


@pytest.mark.parametrize(
    "text", ["5000-01-01", "9999-12-31", "0001-01-01", "0001-01-01T00:00:00+14:00", "9" * 400 + "d"]
)
def test_a_moment_that_is_too_far_away_is_told_as_it_was_written(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^'{re.escape(text)}' is too far away: the years 69 to 3871 can be told$"):
        moment(text, 0.0)
