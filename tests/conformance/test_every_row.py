"""Every row of OTP's rules is proved by a test that names it, or listed as different or without a counterpart."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otp_listing import DIFFERS, NOT_APPLICABLE, READINGS, ROWS, SECTIONS

HERE: Final = Path(__file__).parent
README: Final = (HERE.parents[1] / "README.md").read_text(encoding="utf-8")
MOST_LISTED: Final = 45


def marks() -> Iterator[tuple[str, str]]:
    """Yield place and row of every mark, read from the syntax tree: a row that is computed would hide from readers."""
    for file in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.otp"):
                for row in node.args:
                    where = f"{file.name}:{node.lineno}"
                    assert isinstance(row, ast.Constant), f"{where}: write the row out"
                    yield where, str(row.value)


PROVED: Final = frozenset(row for _, row in marks())
LISTED: Final = (*DIFFERS, *NOT_APPLICABLE)


def test_every_row_is_proved_or_listed() -> None:
    assert not [row for row in ROWS if row not in PROVED and row not in LISTED]


def test_no_row_is_both_proved_and_listed_or_listed_twice() -> None:
    assert not PROVED.intersection(LISTED)
    assert len(LISTED) == len(set(LISTED))


def test_no_mark_and_no_entry_names_a_row_that_is_not_there() -> None:
    assert not [f"{where}: {row}" for where, row in marks() if row not in ROWS]
    assert not [row for row in LISTED if row not in ROWS]


def test_few_rows_are_listed_and_each_says_why() -> None:
    assert len(LISTED) <= MOST_LISTED
    assert all(entry.otp and entry.ours and entry.decided_by for entry in DIFFERS.values())
    assert all(NOT_APPLICABLE.values())


def test_the_readme_shows_the_counts_and_the_table_of_differences() -> None:
    counts = (
        f"{len(ROWS)} rules: {len(PROVED)} proved, {len(DIFFERS)} differ, {len(NOT_APPLICABLE)} have no counterpart"
    )
    assert counts in " ".join(README.split())
    shown = re.findall(r"^\| ([A-Z]\d\d) \| (.+) \| (.+) \|$", README, re.MULTILINE)
    assert shown == [(row, entry.otp, entry.ours) for row, entry in sorted(DIFFERS.items(), key=in_order)]


def test_details_that_read_differently_belong_to_rows_that_are_proved_and_stand_in_the_readme() -> None:
    assert READINGS.keys() <= PROVED
    assert re.findall(r"^- ([A-Z]\d\d): (.+)\.$", README, re.MULTILINE) == list(READINGS.items())


def in_order(item: tuple[str, object]) -> int:
    return ROWS.index(item[0])


def test_the_readme_counts_the_rows_of_each_section() -> None:
    shown = re.findall(r"^\| ([A-Z]) \| (.+) \| (\d+) \| (\d+) \|$", README, re.MULTILINE)
    assert shown == [
        (letter, title, str(count), str(sum(row[0] == letter for row in PROVED)))
        for letter, (title, count) in SECTIONS.items()
    ]
