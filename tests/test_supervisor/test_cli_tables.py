"""How the commands write tables, figures, moments and other people's texts."""

from __future__ import annotations

from datetime import datetime

import pytest

from orchestree.supervisor.control.command_line.human import clock, duration, printable, shortened, size
from orchestree.supervisor.control.command_line.moments import moment, seconds_in
from orchestree.supervisor.control.command_line.tables import table


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


def test_a_long_text_is_cut_to_its_length_with_an_ellipsis() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("90s", 90), ("2d", 172800), ("1w", 604800)]
    + [(text, None) for text in ("", "10", "m", "10 m", "10x", "-10m", "10m later")],
)
def test_durations_are_numbers_with_units(text: str, seconds: float | None) -> None:
    assert seconds_in(text) == seconds


def test_a_moment_is_so_long_ago_or_an_iso_time() -> None:
    assert moment("10m", 1000.0) == 400.0
    assert moment("2026-11-22T14:58:01+00:00", 0.0) == 1795359481.0
    assert moment("2026-11-22", 0.0) == datetime(2026, 11, 22).timestamp()


def test_what_is_no_moment_is_told_what_is_one() -> None:
    with pytest.raises(ValueError, match="'yesterday' is neither a duration"):
        moment("yesterday", 0.0)
