"""Any value becomes JSON, whatever it does when it is looked at."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, strategies as some
from pydantic import BaseModel, SecretStr

from orchestree.agents.ends import Shutdown
from orchestree.agents.secrets import MASK, Masker
from orchestree.supervisor.plain import MAX_ITEMS, MAX_TEXT, MAX_TEXT_TOGETHER, UNREADABLE, plain

pytestmark = pytest.mark.policy


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int
    password: str = "hunter2"


class Settings(BaseModel):
    url: str = "u"
    api_key: str = "hunter2"
    pin: SecretStr = SecretStr("hunter2")


class Hostile:
    def __repr__(self) -> NoReturn:
        raise Shutdown

    def __iter__(self) -> NoReturn:
        raise SystemExit


class HostileDict(dict[str, int]):
    def items(self) -> NoReturn:
        raise RuntimeError("no")


class Endless(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return 1

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield str(number)


class LoudText(str):
    def __len__(self) -> NoReturn:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2**70, str(2**70)),
        (2.5, 2.5),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ("text", "text"),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (b"\xff", r"b'\xff'"),
        ([1, (2, 3)], [1, [2, 3]]),
        (deque([1]), [1]),
        (frozenset({1}), [1]),
        ({1: 2, None: 3, (1, 2): 4}, {"1": 2, "None": 3, "(1, 2)": 4}),
        (OrderedDict(a=1), {"a": 1}),
        (Point(1), {"x": 1, "password": MASK}),
        ({"db_password": "hunter2", "user": "me"}, {"db_password": MASK, "user": "me"}),
        (Settings(), {"url": "u", "api_key": MASK, "pin": MASK}),
        ("a\udc80", r"a\udc80"),
        (Hostile(), UNREADABLE),
        (HostileDict(a=1), UNREADABLE),
        ([Hostile(), 1], [UNREADABLE, 1]),
        (LoudText("loud"), "loud"),
        (int, "<class 'int'>"),
        ({Hostile(): 1, Colour.RED: 2}, {UNREADABLE: 1, "red": 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_value_has_its_form(value: object, expected: object) -> None:
    assert plain(value) == expected


def test_a_huge_integer_says_how_large_it_is() -> None:
    assert plain(1 << 100_000) == "<int of 100001 bits>"


def test_what_contains_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert "<list>" in json.dumps(plain(loop))


def test_an_endless_mapping_is_cut() -> None:
    made = plain(Endless())
    assert isinstance(made, dict)
    assert len(made) == MAX_ITEMS + 1


def test_long_texts_and_many_items_are_cut() -> None:
    assert plain("x" * (MAX_TEXT + 1)) == "x" * MAX_TEXT + "..."
    made = plain({f"{i}": "x" * MAX_TEXT for i in range(100)})
    assert len(json.dumps(made)) < MAX_TEXT_TOGETHER + 2_000
    made = plain([[[0] * 500] * 500] * 500)
    assert len(json.dumps(made)) < 10 * MAX_ITEMS


JSON_LIKE = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63) + 1, 2**63 - 1) | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.sampled_from("abcdefgh"), inner),
    max_leaves=20,
)


@given(JSON_LIKE)
@pytest.mark.slow
def test_what_is_json_already_stays_as_it_is_and_all_else_can_be_sent(value: object) -> None:
    made = plain(value)
    sent = json.dumps(made, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert plain(json.loads(sent)) == made


def test_secrets_that_a_mask_knows_are_hidden_in_texts_and_keys_even_where_a_text_is_cut() -> None:
    mask = Masker(["hunter2"])
    assert plain({"a": ["is hunter2"], "hunter2": Point(1, "x")}, mask) == {
        "a": [f"is {MASK}"],
        MASK: {"x": 1, "password": MASK},
    }
    assert plain("x" * (MAX_TEXT - 5) + "hunter2", mask) == "x" * (MAX_TEXT - 5) + MASK + "..."


class Forbidden:
    """Everything of it that can be called ends the test."""

    def __repr__(self) -> str:
        raise AssertionError("it was called")


class ForbiddenDict(dict[str, object]):
    def items(self) -> Any:
        raise AssertionError("it was called")


class ForbiddenMapping(Mapping[str, object]):
    def __getitem__(self, key: str) -> object:
        raise AssertionError("it was called")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("it was called")

    def __len__(self) -> int:
        return 1

    __repr__ = Forbidden.__repr__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Forbidden(), "<Forbidden>"),
        ([Forbidden(), 1], ["<Forbidden>", 1]),
        ({"a": Forbidden(), "token": "x"}, {"a": "<Forbidden>", "token": MASK}),
        (ForbiddenDict(a=1), "<ForbiddenDict>"),
        (ForbiddenMapping(), "<ForbiddenMapping>"),
        (Path("/x"), "PosixPath('/x')"),
        (Colour.RED, "red"),
        (Point(1), {"x": 1, "password": MASK}),
        (ValueError(Forbidden()), "<ValueError>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_code_of_a_users_runs_where_it_must_not(value: object, expected: object) -> None:
    assert plain(value, run_code=False) == expected
