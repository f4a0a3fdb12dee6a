"""Any Python value as values that JSON knows, bounded, with secrets masked. Pure; never raises.

What a user's object does when it is looked at (`__repr__`, `__iter__`, a property) may fail, lie or never end;
here it costs at most the text that says so.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Set
from enum import Enum
from itertools import islice
from sys import stdlib_module_names
from types import FunctionType
from typing import Final

from orchestree.agents.secrets import MASK, NO_SECRETS, Masker, looks_secret, named_parts

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What `plain` returns: JSON, without NaN, infinities, or text that is no Unicode."""

MAX_DEPTH: Final = 8
"""Containers within containers; what lies deeper becomes its text."""
MAX_ITEMS: Final = 1_000
"""Items of all containers of one value together; the rest is left out, and a last item says so."""
MAX_TEXT: Final = 10_000
"""Characters of one text."""
MAX_TEXT_TOGETHER: Final = 100_000
"""Characters of all texts and keys of one value together."""
_WITHOUT_PARTS: Final = frozenset({"datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid", "zoneinfo"})
"""Modules of the standard library whose objects contain no others."""
LEFT_OUT: Final = "..."
"""Stands where something was cut."""
UNREADABLE: Final = "<it raised when it was looked at>"


def plain(value: object, mask: Masker = NO_SECRETS, *, run_code: bool = True) -> Plain:
    """Return `value` as JSON knows it. Any thread; never raises.

    Without `run_code` nothing that a user wrote is called, since it may never return: an object whose class has a
    ``__repr__`` of its own is shown by the name of its class, and so is a container that iterates by code of its own.

    Dataclasses, pydantic models and mappings become objects with text as keys, lists, tuples, sets and deques
    arrays, enums their value, NaN, infinities and integers beyond 64 bits text, and anything else its ``repr``.
    The value of a key that looks like a secret is ``MASK``, and so is in each text what `mask` knows.
    """
    return _Plainer(mask, run_code).of(value, 0)


def readable(text: str) -> str:
    r"""Return `text` with each half of a broken surrogate pair written as ``\udc80``, so that UTF-8 can hold it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


class _Plainer:
    """Makes one value plain, and knows how much it may still spend."""

    def __init__(self, mask: Masker, run_code: bool) -> None:
        self._mask = mask
        self._run_code = run_code
        self._items = MAX_ITEMS
        self._text = MAX_TEXT_TOGETHER

    def of(self, value: object, depth: int) -> Plain:
        if type(value) is str:  # the most frequent first: this is done for each message of each agent
            return self._cut(value)
        if value is None or type(value) is int:
            return None if value is None else self._whole(value)
        try:
            return self._of(value, depth)
        except BaseException:  # code of the user's ran: `Shutdown` and SystemExit may come out of it, too
            return UNREADABLE

    def _of(self, value: object, depth: int) -> Plain:
        match value:
            case None | bool():
                return value
            case Enum():
                return self.of(value._value_, depth + 1) if depth < MAX_DEPTH else self._text_of(value)
            case str():
                return self._cut(str.__str__(value))
            case int():
                return self._whole(int.__int__(value))
            case float():
                number = float.__float__(value)
                return number if math.isfinite(number) else repr(number)
            case bytes() | bytearray():
                return self._cut(repr(value[:MAX_TEXT]))
            case _ if depth >= MAX_DEPTH:
                return self._cut(f"<{type(value).__name__}>")
            case dict() | Mapping() if self._may_run(type(value).__iter__, type(value).items):
                return self._object(value.items(), depth)
            case list() | tuple() | Set() | deque() if self._may_run(type(value).__iter__):
                return self._array(value, depth)
            case _:
                if hasattr(type(value), "get_secret_value"):  # a `SecretStr`, whose own text is a mask in more words
                    return MASK
                parts = None if isinstance(value, type) else named_parts(value)
                return self._text_of(value) if parts is None else self._object(parts, depth)

    def _object(self, items: Iterable[tuple[object, object]], depth: int) -> dict[str, Plain]:
        found: dict[str, Plain] = {}
        for key, value in islice(items, self._items + 1):
            if self._items <= 0:
                found[LEFT_OUT] = LEFT_OUT
                break
            self._items -= 1
            name = self._cut(key) if type(key) is str else self._key(key)
            found[name] = MASK if looks_secret(name) else self.of(value, depth + 1)
        return found

    def _array(self, items: Iterable[object], depth: int) -> list[Plain]:
        found: list[Plain] = []
        for value in islice(items, self._items + 1):
            if self._items <= 0:
                found.append(LEFT_OUT)
                break
            self._items -= 1
            found.append(self.of(value, depth + 1))
        return found

    def _key(self, key: object) -> str:
        made = self.of(key, MAX_DEPTH - 1) if isinstance(key, (str, int, float, Enum)) else None
        return made if isinstance(made, str) else self._text_of(key)

    def _may_run(self, *methods: object) -> bool:
        """Return whether these may be called: one that is no function of Python's is none of a user's."""
        return self._run_code or not any(
            isinstance(method, FunctionType) and method.__module__.partition(".")[0] not in stdlib_module_names
            for method in methods
        )

    def _may_show(self, value: object) -> bool:
        """Return whether ``repr(value)`` runs nothing of a user's, nor of what is in there."""
        kind = type(value)
        return self._run_code or kind.__repr__ is object.__repr__ or kind.__module__.partition(".")[0] in _WITHOUT_PARTS

    def _text_of(self, value: object) -> str:
        try:
            return self._cut(repr(value) if self._may_show(value) else f"<{type(value).__name__}>")
        except BaseException:
            return UNREADABLE

    def _cut(self, text: str) -> str:
        length, most = len(text), min(MAX_TEXT, max(0, self._text))
        self._text -= length
        return readable(self._mask(text) if length <= most else self._mask(text[:most]) + LEFT_OUT)

    def _whole(self, number: int) -> Plain:
        if number.bit_length() < 64:
            return number
        # Python refuses to write integers of thousands of digits.
        return self._cut(str(number) if number.bit_length() < 4096 else f"<int of {number.bit_length()} bits>")
