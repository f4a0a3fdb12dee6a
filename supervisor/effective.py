"""What holds for every field of a tree that has not been started, and where each value comes from."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from orchestree.agents.config import StrictConfig

from .override_values import presentable
from .overrides import Place, Section, fields_of
from .plain import Plain
from .reconfiguring import ROOT_POLICY
from .spec import AgentEntry, ChildEntry

if TYPE_CHECKING:
    from .orchestrator import Orchestrator
    from .overriding import Overridden

CODE: Final = "code"
DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class EffectiveValue:
    """What holds for one field.

    Attributes:
        key: as for ``--set``.
        value: as JSON; a secret is its mask.
        source: ``--set``, the name of a file or of a variable, ``code``, or ``default``: also where the code says
            the same as the default.
    """

    key: str
    value: Plain
    source: str


def effective_values(orchestrator: Orchestrator, overridden: Overridden) -> list[EffectiveValue]:
    """Return what holds for every field that can be set: the configuration first, then in registration order."""
    draft = orchestrator.draft
    config = orchestrator.config.model_copy(update={field: getattr(draft.root, field) for field in ROOT_POLICY})
    found = list(_values("", "", config, _config_defaults(config), overridden))
    for path, entry in draft.entries().items():
        section: Section = "agents" if isinstance(entry, AgentEntry) else "supervisors"
        found += _values(section, path, entry, _entry_defaults(entry), overridden)
        if isinstance(entry, AgentEntry):
            found += _values(section, path, entry.config, _config_defaults(entry.config), overridden)
    return found


def _values(
    section: Section, path: str, owner: object, defaults: Mapping[str, object], overridden: Overridden
) -> Iterator[EffectiveValue]:
    for field, default in defaults.items():
        place, value = Place(section, path, field), getattr(owner, field)
        in_code = DEFAULT if _is_same(value, default) else CODE
        source = overridden[place].source if place in overridden else in_code
        yield EffectiveValue(str(place), presentable(field, value), source)


def _config_defaults(config: StrictConfig) -> dict[str, object]:
    """Return the default of each field; of one that nobody has set its value, which may come from a factory."""
    return {
        field: _default_of(info) if field in config.model_fields_set else getattr(config, field)
        for field, info in type(config).model_fields.items()
    }


def _default_of(info: FieldInfo) -> object:
    try:
        return info.get_default(call_default_factory=True)
    except Exception:  # a user's factory, or one that needs the other fields
        return PydanticUndefined


def _entry_defaults(entry: ChildEntry) -> dict[str, object]:
    parameters = inspect.signature(type(entry)).parameters
    config_fields = type(entry.config).model_fields if isinstance(entry, AgentEntry) else ()
    defaults = {field: parameters[field].default for field in fields_of(entry) if field not in config_fields}
    return defaults | {"executor": entry.agent.executor} if isinstance(entry, AgentEntry) else defaults


def _is_same(value: object, default: object) -> bool:
    try:
        return bool(value == default)
    except Exception:  # such as an array of numbers, whose comparison has no truth value
        return False
