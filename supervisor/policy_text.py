"""Policy of child specifications as text: what events say of it. Pure. `simulation.replayed` reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Final

from orchestree.strategies.backoff import Backoff

from .core_settings import Settings
from .entry_fields import Inherit
from .events import PolicyChange
from .spec import AgentEntry, ChildEntry, SupervisorEntry

INHERITED: Final = "that of the orchestrator"
"""Text of a backoff that is `INHERIT`."""

_NO_POLICY: Final = frozenset({"config", "params", "children"})
"""Fields that hold what a user's code gets, and what has events of its own."""

_TOLD_ALREADY: Final = frozenset({"executor", "restart", "depends_on"})
"""Fields of an agent that have a place of their own in its `AGENT_REGISTERED`."""


def policy_changes(old: ChildEntry, new: ChildEntry) -> tuple[PolicyChange, ...]:
    """Return the fields in which two specifications of one child differ, in the order of the specification."""
    pairs = ((field.name, getattr(old, field.name), getattr(new, field.name)) for field in fields(old))
    return tuple(PolicyChange(name, _text(before), _text(after)) for name, before, after in pairs if before != after)


def policy_of(entry: ChildEntry) -> dict[str, str]:
    """Return what of the policy of a child is no default; of an agent, without fields of `AgentRegistered` itself."""
    return _differing(entry, _AGENT if isinstance(entry, AgentEntry) else _SUPERVISOR)


def settings_of(settings: Settings) -> dict[str, str]:
    """Return which settings that decide something, and do not belong to the root, are no defaults."""
    return _differing(settings, _SETTINGS)


def _differing(of: object, defaults: Mapping[str, object]) -> dict[str, str]:
    texts = ((name, _text(getattr(of, name)), _text(default)) for name, default in defaults.items())
    return {name: text for name, text, default in texts if text != default}


def _text(value: object) -> str:
    if isinstance(value, Inherit):
        return INHERITED
    if isinstance(value, Backoff):
        return Backoff.__str__(value)  # which no code of a user's overrides
    return str(value) if isinstance(value, StrEnum) else repr(value)


def _defaults(kind: type, leave_out: frozenset[str]) -> Mapping[str, object]:
    known = ((name, parameter.default) for name, parameter in signature(kind).parameters.items())
    return MappingProxyType(
        {name: value for name, value in known if value is not Parameter.empty and name not in leave_out}
    )


_AGENT: Final = _defaults(AgentEntry, _NO_POLICY | _TOLD_ALREADY)
_SUPERVISOR: Final = _defaults(SupervisorEntry, _NO_POLICY)
_SETTINGS: Final = MappingProxyType({"backoff": Backoff(), "max_workers": None, "strict_start": False})
