"""Events as JSON values and back: what the history file holds and the control API sends. Pure.

How a field is written and read follows from its declared type, so that a new event type needs nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from enum import Enum
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from .events import TYPE_OF, AgentMessage, Event, EventData, EventType
from .plain import plain, readable


def to_json(event: Event) -> dict[str, Any]:
    """Return `event` as an object of JSON.

    Numbers that JSON does not know are text (``"inf"``), and half of a surrogate pair is written out. What a user
    emitted (`AgentMessage`) or asked (`Command`) is made `plain`, without running code of the user's, and bounded by
    that; a crash report is whole.
    """
    return {
        "seq": event.seq,
        "run": event.run,
        "time": event.time,
        "monotonic": event.monotonic,
        "type": event.type.value,
        "path": event.path,
        "incarnation": event.incarnation,
        "data": data_to_json(event.data),
    }


def data_to_json(data: EventData) -> dict[str, Any]:
    """Return the data of an event as an object of JSON."""
    return {name: write(getattr(data, name)) for name, write in _WRITERS[type(data)]}


def data_from_json(type: EventType, written: Mapping[str, Any]) -> EventData:
    """Return the data of an event of `type`, equal to what `data_to_json` wrote.

    Unknown keys are ignored, missing ones take a default: so files of other versions can be read.

    Raises:
        Exception: of whatever kind, if a value is none of its field's type.
    """
    data: EventData = _FORMS[type].read(written)
    return data


@dataclass(frozen=True, slots=True)
class _Form:
    """How values of one declared type are written and read, and what stands for one that is missing."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    missing: Callable[[], Any]


def _foreign(value: object) -> Any:
    """Return what a user gave; nothing of the user's runs, as it would hold up the history and every client."""
    return plain(value, run_code=False)


def _same(value: Any) -> Any:
    return value


def _write_number(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)


def _write_text(value: str) -> str:
    return readable(value)


def _form(declared: Any) -> _Form:
    """Return the form of a declared type."""
    parts = get_args(declared)
    origin = get_origin(declared)
    if declared is str or origin is Literal:
        return _Form(_write_text, str, str)
    if declared is float:
        return _Form(_write_number, float, float)
    if declared is int or declared is bool:
        return _Form(_same, declared, declared)
    if origin in (Union, UnionType):
        (inner,) = (_form(part) for part in parts if part is not NoneType)
        return _Form(_optional(inner.write), _optional(inner.read), NoneType)
    if origin is tuple:
        return _tuple(_form(parts[0]))
    if origin is Mapping and parts[1] is not object:
        return _mapping(_form(parts[1]))
    if isinstance(declared, type) and issubclass(declared, Enum):
        return _Form(lambda member: member.value, declared, lambda: next(iter(declared)))
    if is_dataclass(declared):
        return _record(declared)
    return _Form(_foreign, dict, dict)  # a mapping of the user's


def _optional(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


def _tuple(item: _Form) -> _Form:
    write, read = item.write, item.read
    return _Form(lambda values: [write(one) for one in values], lambda values: tuple(map(read, values)), tuple)


def _mapping(item: _Form) -> _Form:
    def convert(values: Mapping[str, Any], each: Callable[[Any], Any]) -> dict[str, Any]:
        return {str(key): each(value) for key, value in values.items()}

    return _Form(lambda values: convert(values, item.write), lambda values: convert(values, item.read), dict)


def _record(declared: Any) -> _Form:
    forms = {name: (field, form) for name, field, form in _fields(declared)}
    writers = _writers(declared)

    def read(written: Mapping[str, Any]) -> Any:
        return declared(
            **{
                name: form.read(written[name]) if name in written else _default(field, form)
                for name, (field, form) in forms.items()
            }
        )

    return _Form(lambda value: {name: write(getattr(value, name)) for name, write in writers}, read, lambda: read({}))


def _default(field: Field[Any], form: _Form) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else form.missing()


def _fields(declared: Any) -> list[tuple[str, Field[Any], _Form]]:
    hints = get_type_hints(declared)
    return [(field.name, field, _form(hints[field.name])) for field in fields(declared)]


def _writers(declared: Any) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    if declared is AgentMessage:  # all of it is the user's, its name, too
        return tuple((field.name, _foreign) for field in fields(declared))
    return tuple((name, form.write) for name, _, form in _fields(declared))


_WRITERS: Final = MappingProxyType({data: _writers(data) for data in TYPE_OF})
_FORMS: Final = MappingProxyType({type: _record(data) for data, type in TYPE_OF.items()})
