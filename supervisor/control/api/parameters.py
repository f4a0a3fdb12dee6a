"""The parameters in a query string: their names, bounds, and how they are read. What is not declared is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from orchestree.strategies.errors import did_you_mean
from orchestree.supervisor.event_types import EventType

from .problems import Problem

MOST: Final = 100
"""Parameters of one request."""

_WHOLE: Final = re.compile(r"-?[0-9]{1,20}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
_FLAGS: Final[Mapping[str, bool]] = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a query string.

    Attributes:
        read: returns the value that a text stands for; raises `ValueError` with the rule.
        schema: of its value in the OpenAPI document.
        default: its value when it is not given.
        repeated: whether it may stand several times; its value is then the list of all.
    """

    name: str
    about: str
    read: Callable[[str], Any]
    schema: Mapping[str, Any]
    default: Any = None
    repeated: bool = False


def text(name: str, about: str, *, default: str | None = None, longest: int = 10_000) -> Parameter:
    """Return a parameter that is any text of at most `longest` characters."""

    def read(given: str) -> str:
        if len(given) > longest:
            raise ValueError(f"must have at most {longest} characters")
        return given

    return Parameter(
        name=name, about=about, read=read, schema={"type": "string", "maxLength": longest}, default=default
    )


def whole(name: str, about: str, *, least: int, most: int, default: int | None = None) -> Parameter:
    """Return a parameter that is a whole number within these bounds."""

    def read(given: str) -> int:
        if not _WHOLE.fullmatch(given) or not least <= int(given) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(given)

    schema = {"type": "integer", "minimum": least, "maximum": most} | ({} if default is None else {"default": default})
    return Parameter(name=name, about=about, read=read, schema=schema, default=default)


def number(name: str, about: str, *, most: float) -> Parameter:
    """Return a parameter that is a number from 0 to `most`."""

    def read(given: str) -> float:
        if not _NUMBER.fullmatch(given) or not 0 <= float(given) <= most:
            raise ValueError(f"must be a number from 0 to {most:g}")
        return float(given)

    return Parameter(name=name, about=about, read=read, schema={"type": "number", "minimum": 0, "maximum": most})


def flag(name: str, about: str) -> Parameter:
    """Return a parameter that is 1 or 0."""

    def read(given: str) -> bool:
        if given not in _FLAGS:
            raise ValueError(f"must be one of {', '.join(_FLAGS)}")
        return _FLAGS[given]

    schema = {"type": "string", "enum": list(_FLAGS)}
    return Parameter(name=name, about=about, read=read, schema=schema, default=False)


def event_types(name: str, about: str) -> Parameter:
    """Return a parameter that is one or several types of events, repeated or between commas; their set, or None."""
    names = [kind.value for kind in EventType]

    def read(given: str) -> frozenset[EventType]:
        found = [word.strip().lower() for word in given.split(",")]
        for word in found:
            if word not in names:
                raise ValueError(f"{_clipped(word)} is no type of event{did_you_mean(word[:80], names)}")
        return frozenset(map(EventType, found))

    schema = {"type": "array", "items": {"type": "string", "enum": names}, "minItems": 1}
    return Parameter(name=name, about=about, read=read, schema=schema, repeated=True)


def read_query(query: bytes, declared: Iterable[Parameter]) -> dict[str, Any]:
    """Return the values of all `declared` parameters, by name.

    Raises:
        Problem: ``bad_request``: one is unknown, stands twice, or breaks its rule.
    """
    known = {parameter.name: parameter for parameter in declared}
    given: dict[str, list[Any]] = {}
    for name, value in _pairs(query):
        parameter = known.get(name)
        if parameter is None:
            raise Problem("bad_request", f"unknown parameter {_clipped(name)}{did_you_mean(name[:80], known)}")
        if name in given and not parameter.repeated:
            raise Problem("bad_request", f"{name}: stands twice")
        try:
            given.setdefault(name, []).append(parameter.read(value))
        except ValueError as error:
            raise Problem("bad_request", f"{name}={_clipped(value)}: {error}") from None
    return {name: _value(parameter, given.get(name)) for name, parameter in known.items()}


def unquoted(escaped: bytes) -> str:
    """Return a percent-encoded text. Raises `Problem` if it is not UTF-8."""
    try:
        return unquote(escaped.decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise Problem("bad_request", "the address is not percent-encoded UTF-8") from None


def _value(parameter: Parameter, given: list[Any] | None) -> Any:
    if given is None:
        return parameter.default
    return frozenset().union(*given) if parameter.repeated else given[0]


def _pairs(query: bytes) -> list[tuple[str, str]]:
    parts = [part for part in query.split(b"&") if part]
    if len(parts) > MOST:
        raise Problem("bad_request", f"more than {MOST} parameters")
    pairs = (part.replace(b"+", b" ").partition(b"=") for part in parts)
    return [(unquoted(name), unquoted(value)) for name, _, value in pairs]


def _clipped(value: str) -> str:
    return repr(value if len(value) <= 80 else f"{value[:77]}...")
