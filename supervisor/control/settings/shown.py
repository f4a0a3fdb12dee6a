"""What `check` prints: what holds for every field of a tree that has not been started, and where it comes from."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pydantic import SecretBytes, SecretStr

from orchestree.agents.config import StrictConfig
from orchestree.agents.secrets import MASK, looks_secret
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.entry_fields import Inherit
from orchestree.supervisor.plain import Plain, plain
from orchestree.supervisor.reconfiguring import ROOT_POLICY
from orchestree.supervisor.spec import AgentEntry, SupervisorEntry

from .keys import Settable, settables
from .values import INHERITED

if TYPE_CHECKING:
    from orchestree.supervisor.orchestrator import Orchestrator

CODE: Final = "code"
DEFAULT: Final = "default"

_KEYWORDS: Final = MappingProxyType(
    {entry: inspect.signature(entry).parameters for entry in (AgentEntry, SupervisorEntry)}
)


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


def effective_values(orchestrator: Orchestrator, sources: Mapping[str, str]) -> list[EffectiveValue]:
    """Return what holds for every field that can be set: the configuration first, then in registration order.

    `sources`: of the keys that were set from outside, what `apply` has returned.
    """
    draft = orchestrator.draft
    config = orchestrator.config.model_copy(update={field: getattr(draft.root, field) for field in ROOT_POLICY})
    return [
        EffectiveValue(
            one.key,
            _presentable(one.name, getattr(one.owner, one.name)),
            sources.get(one.key) or (DEFAULT if _is_default(one) else CODE),
        )
        for one in settables(config, draft.entries())
    ]


def as_text(value: Plain) -> str:
    """Return a value as it would be written behind ``--set key=``."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_default(one: Settable) -> bool:
    """Return whether a field has the default value; that of one which nobody has set may come from a factory."""
    if isinstance(one.owner, StrictConfig) and one.name not in one.owner.model_fields_set:
        return True
    try:
        return bool(getattr(one.owner, one.name) == _default_of(one))
    except Exception:  # a user's factory, or one that needs the other fields; arrays, whose comparison is no truth
        return False


def _default_of(one: Settable) -> object:
    match one.owner:
        case AgentEntry() as entry if one.name == "executor":
            return entry.agent.executor
        case AgentEntry() | SupervisorEntry() as entry:
            return _KEYWORDS[type(entry)][one.name].default
        case config:
            return type(config).model_fields[one.name].get_default(call_default_factory=True)


def _presentable(field: str, value: object) -> Plain:
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
        case Backoff() | PurePath() | date() | UUID() | Decimal():
            return str(value)
        case set() | frozenset():
            return sorted(map(plain, value), key=json.dumps)
        case _:
            return plain(value)
