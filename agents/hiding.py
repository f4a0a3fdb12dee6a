"""Values without their secrets: what stands under a key that looks secret goes, and what a `Masker` knows."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from .secrets import HARMLESS, MASK, NO_SECRETS, Masker, looks_secret, named_parts, texts_in

DEEPEST: Final = 20
"""Levels of nested containers in which `masked` replaces single values; what lies deeper becomes a text as a whole."""

Value = TypeVar("Value")


class Shown(str):
    """The ``repr`` of an object of which something was hidden."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return it as it is, without quotes."""
        return str(self)


def masked(value: Value, mask: Masker, depth: int = 0) -> Value | object:
    """Return `value` without secrets: those that `mask` knows, and whatever stands under a key that looks secret.

    A container in which nothing is hidden is returned itself, else a copy of it. An object whose fields or ``repr``
    hold a secret becomes a text.
    """
    kind: type = type(value)
    if kind in HARMLESS:
        return value
    if kind is str:
        return mask(cast(str, value))
    if depth >= DEEPEST:
        return _masked_text(value, mask)
    if issubclass(kind, (dict, MappingProxyType)):
        return _masked_mapping(value, mask, depth)
    if kind in (list, tuple, set, frozenset):
        parts = list(cast(list[object], value))
        hidden = [masked(part, mask, depth + 1) for part in parts]
        return value if all(a is b for a, b in zip(parts, hidden, strict=True)) else kind(hidden)
    return _masked_object(value, mask, depth)


def shown(value: object) -> str:
    """Return the ``repr`` of a dataclass without what stands, at any depth, under keys that look secret."""
    return str(_written(value, [(name, masked_part(name, part)) for name, part in named_parts(value) or ()]))


def masked_part(name: object, part: object, mask: Masker = NO_SECRETS, depth: int = 0) -> object:
    """Return what stands under `name`, as `masked` does."""
    return MASK if type(name) is str and looks_secret(name) else masked(part, mask, depth)


def _masked_mapping(value: Any, mask: Masker, depth: int) -> object:
    old = list(dict.items(value) if isinstance(value, dict) else value.items())
    new = [(mask(key) if type(key) is str else key, masked_part(key, part, mask, depth + 1)) for key, part in old]
    same = all(a is c and b is d for (a, b), (c, d) in zip(old, new, strict=True))
    return value if same else dict(new)


def _masked_object(value: object, mask: Masker, depth: int) -> object:
    try:
        parts = named_parts(value) or []
    except Exception:  # of a property of a user's
        parts = []
    hidden = [(name, masked_part(name, part, mask, depth + 1)) for name, part in parts]
    if all(new is old for (_, new), (_, old) in zip(hidden, parts, strict=True)):
        return _masked_text(value, mask)
    return _written(value, hidden)


def _written(value: object, parts: list[tuple[str, object]]) -> Shown:
    name = type(value).__qualname__
    try:
        return Shown(f"{name}({', '.join(f'{key}={part!r}' for key, part in parts)})")
    except Exception:  # of a user's ``repr``
        return Shown(f"{name}(...)")


def _masked_text(value: object, mask: Masker) -> object:
    own = Masker(texts_in(value))
    if not mask and not own:
        return value
    try:
        text = repr(value)
    except Exception:  # of a user's ``repr``: then nobody else will see it either
        return value
    hidden = own(mask(text))
    return value if hidden == text else Shown(hidden)
