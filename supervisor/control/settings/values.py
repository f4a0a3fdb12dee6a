"""From what somebody wrote to a value of the field's type. Pure."""

from __future__ import annotations

import json
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter

from orchestree.agents.secrets import looks_secret
from orchestree.supervisor.entry_fields import INHERIT, BackoffChoice

from .keys import Settable, Setting

INHERITED: Final = "inherit"
"""How `INHERIT` is written."""

_WORDS: Final = MappingProxyType({"true": True, "false": False, "none": None, "null": None})


def is_secret(one: Settable) -> bool:
    """Return whether what is set for this field must not be shown."""
    return looks_secret(one.name) or "pydantic.types.Secret" in repr(one.annotation)


def typed(one: Settable, setting: Setting) -> object:
    """Return the value as the type of its field; as it is if that takes none of its readings, to be refused by it.

    Nothing is coerced: text is read as JSON (``4``, ``true``, ``null``, ``["a"]``), or else as itself; so ``123`` stays
    text for a field that takes only text. TOML's arrays also stand for tuples and sets, its strings for paths, enums
    and all else that JSON writes as a string.
    """
    if one.annotation == BackoffChoice and setting.value == INHERITED:
        return INHERIT
    readings = _readings(str(setting.value)) if setting.is_text else [setting.value]
    for reading in readings:
        # Not of this type, or of one that only the field's own validator knows: the field itself will say.
        with suppress(Exception):
            return TypeAdapter(one.annotation).validate_json(json.dumps(reading), strict=True)
    return readings[0]


def _readings(text: str) -> list[Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = _WORDS.get(text.lower(), text)
    return [text] if isinstance(parsed, str) else [parsed, text]
