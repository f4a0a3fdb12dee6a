"""Policy as a log says it, read back: `orchestree.supervisor.policy_text` wrote it. Pure; nothing is evaluated."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
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


def value_of(text: str) -> object:
    """Return a value that is no backoff; of an enum, its word."""
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value


def backoff_of(text: str) -> Backoff | None:
    """Return the policy that `text` describes; None if it does not say all of it."""
    text = _CLASS.sub(r"'\1'", text)  # a rule names an exception by its class, or by the name of that
    try:
        given = _keywords(ast.parse(text, mode="eval").body, "Backoff")
        read = Backoff(**{name: _READERS.get(name, ast.literal_eval)(value) for name, value in given.items()})
    except (SyntaxError, ValueError, TypeError, LookupError, RecursionError, MemoryError, SpecError):
        return None
    return read if str(read) == text else None


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
