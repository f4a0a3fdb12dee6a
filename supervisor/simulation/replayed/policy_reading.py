"""Policy as a log says it, read back: `orchestree.supervisor.policy_text` wrote it. Pure; nothing is evaluated."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from inspect import signature
from types import MappingProxyType
from typing import Any, Final

from tenacity import (
    stop_after_attempt,
    stop_after_delay,
    stop_before_delay,
    wait_exponential,
    wait_fixed,
    wait_incrementing,
    wait_none,
)

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError
from orchestree.strategies.rules import Rule

_KNOWN: Final = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            *(wait_none, wait_fixed, wait_incrementing, wait_exponential),
            *(stop_after_attempt, stop_after_delay, stop_before_delay),
        )
    }
)
"""Policies of tenacity's that are made of numbers alone, and answer the same each time."""

_CLASS: Final = re.compile(r"<class '([^']+)'>")
_TOKEN: Final = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|, |[()]""")
"""What separates arguments, and texts, within which nothing does."""
_DEFAULTS: Final = MappingProxyType({field.name: field.default for field in fields(Backoff)})


def value_of(text: str) -> object:
    """Return a value that is no backoff; of an enum, its word."""
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value


def backoff_of(text: str) -> Backoff | None:
    """Return the policy that `text` describes; None if it does not say all of it."""
    said = said_of(text)
    if said.keys() != _DEFAULTS.keys():
        return None
    read = Backoff(**said)
    return read if str(read) == _with_names(text) else None


def said_of(text: str) -> dict[str, Any]:
    """Return those fields of a policy, by name, that `text` says, be it by leaving out what is a default.

    Text that was cut leaves out more than that. So may that of a class of a user's, whose code may also do something
    else with its fields: of those only what is looked at by others counts.
    """
    text = _with_names(text)
    given = _arguments(text)
    said: dict[str, Any] = {}
    for name, one in given.items():
        with suppress(SyntaxError, ValueError, TypeError, LookupError, RecursionError, MemoryError, SpecError):
            said[name] = _field(name, one)
    if not text.startswith("Backoff("):
        return {name: value for name, value in said.items() if name == "stable_after"}
    left_out = _DEFAULTS.keys() - given.keys() if text.endswith(")") else ()
    return said | {name: _DEFAULTS[name] for name in left_out}


def _with_names(text: str) -> str:
    """Return `text` with names of exceptions for their classes, with the module: a rule may have either."""
    return _CLASS.sub(lambda shown: f"'{shown[1]}'" if "." in shown[1] else f"'builtins.{shown[1]}'", text)


def _arguments(text: str) -> dict[str, str]:
    """Return the arguments of a call as text, by name; that in which it was cut, or goes astray, is the last one."""
    found, begin, depth = {}, text.find("(") + 1, 0
    for token in _TOKEN.finditer(text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth == (1 if token[0] == ", " else 0):
            name, _, value = text[begin : token.start()].partition("=")
            found[name] = value
            begin = token.end()
    name, _, value = text[begin:].partition("=")
    return {**found, name: value} if name else found


def _field(name: str, text: str) -> object:
    """Return a field of a policy; raise one of many errors if `text` does not say all of it."""
    value: object = _READERS.get(name, ast.literal_eval)(ast.parse(text, mode="eval").body)
    given: dict[str, Any] = {name: value}
    if str(Backoff(**given)) != f"Backoff({name}={text})":
        raise ValueError(text)
    return value


def _keywords(node: ast.expr, name: str) -> dict[str, ast.expr]:
    """Return the arguments of the call of `name`."""
    match node:
        case ast.Call(func=ast.Name(id=called), args=[], keywords=given) if called == name:
            return {str(one.arg): one.value for one in given}
        case _:
            raise ValueError(f"no call of {name}")


def _policy(node: ast.expr) -> object:
    """Return a policy of tenacity's."""
    name = getattr(getattr(node, "func", None), "id", "")
    kind, numbers = _KNOWN[name], _keywords(node, name)
    given = {"wait" if one == "wait_fixed" else one: ast.literal_eval(value) for one, value in numbers.items()}
    return kind(**{one: value for one, value in given.items() if one in signature(kind).parameters})


def _rules(node: ast.expr) -> tuple[Rule, ...]:
    return tuple(
        Rule(**{name: ast.literal_eval(value) for name, value in _keywords(rule, "Rule").items()})
        for rule in getattr(node, "elts", ())
    )


_READERS: Final[MappingProxyType[str, Callable[[ast.expr], Any]]] = MappingProxyType(
    {"wait": _policy, "stop": _policy, "rules": _rules}
)
