"""From what somebody wrote to a value of a field's type, and from a value to what a person reads. Pure."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final, get_type_hints
from uuid import UUID

from pydantic import SecretBytes, SecretStr, TypeAdapter

from orchestree.agents.secrets import MASK, looks_secret
from orchestree.strategies.backoff import Backoff

from .entry_fields import INHERIT, Inherit
from .plain import Plain, plain
from .spec import AgentEntry, SupervisorEntry

AGENT_TYPES: Final = MappingProxyType(get_type_hints(AgentEntry))
SUPERVISOR_TYPES: Final = MappingProxyType(get_type_hints(SupervisorEntry))
INHERITED: Final = "inherit"

_WORDS: Final = MappingProxyType({"true": True, "false": False, "none": None, "null": None})
_WRITTEN_AS_TEXT: Final = (PurePath, date, UUID, Decimal)


def typed(annotation: Any, value: object, *, is_text: bool) -> object:
    """Return `value` as the type of its field; as it is if that takes none of its readings, to be refused by the field.

    Nothing is coerced: text is read as JSON (``4``, ``true``, ``null``, ``["a"]``), or else as itself; so ``123`` stays
    text for a field that takes only text. TOML's arrays also stand for tuples and sets, its strings for paths, enums
    and all else that JSON writes as a string.
    """
    readings = _readings(str(value)) if is_text else [value]
    if annotation == AGENT_TYPES["backoff"] and value == INHERITED:
        return INHERIT
    for reading in readings:
        # Not of this type, or of one that only the field's own validator knows: the field itself will say.
        with suppress(Exception):
            return TypeAdapter(annotation).validate_json(json.dumps(reading), strict=True)
    return readings[0]


def _readings(text: str) -> list[Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = _WORDS.get(text.lower(), text)
    return [text] if isinstance(parsed, str) else [parsed, text]


def is_secret(field: str, annotation: object) -> bool:
    """Return whether what is set for a field of this type must not be shown."""
    return looks_secret(field) or "pydantic.types.Secret" in repr(annotation)


def presentable(field: str, value: object) -> Plain:
    """Return a value as JSON that a person reads; a secret as its mask."""
    match value:
        case None:
            return None
        case SecretStr() | SecretBytes():
            return MASK
        case _ if looks_secret(field):
            return MASK
        case Inherit():
            return INHERITED
        case Backoff():
            return str(value)
        case _ if isinstance(value, _WRITTEN_AS_TEXT):
            return str(value)
        case set() | frozenset():
            return sorted(map(plain, value), key=json.dumps)
        case _:
            return plain(value)


def as_text(value: Plain) -> str:
    """Return a value as it would be written behind ``--set key=``."""
    match value:
        case None:
            return "none"
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)
