"""Applies what was set from outside of the code to a tree that has not been started.

Nothing is half applied: all of it is checked before the first of it is taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from orchestree.agents.config import build_config
from orchestree.strategies.errors import SpecError

from .config import OrchestratorConfig
from .draft import Draft
from .order import check_tree
from .override_values import AGENT_TYPES, SUPERVISOR_TYPES, is_secret, typed
from .overrides import Given, Known, Place, Setting, resolved
from .reachable import check_reachable
from .reconfiguring import ROOT_POLICY
from .spec import ENTRY_FIELDS, ChildEntry, SupervisorEntry

if TYPE_CHECKING:
    from .orchestrator import Orchestrator

Overridden = Mapping[Place, Setting]
"""By what each field was set that was."""

_NO_TYPES: Final = MappingProxyType[str, object]({})


def override(orchestrator: Orchestrator, given: Given) -> Overridden:
    """Apply `given` to a tree that has not been started; return by what each field was set.

    Raises:
        SpecError: a key means nothing here, or a value breaks a rule; nothing has changed. One line that begins with
            ``--set KEY``, the file and the key, or the name of the variable. Secrets are not in it.
    """
    draft = orchestrator.draft
    settings = resolved(given, Known(type(orchestrator.config), draft.entries()))
    config = _changed_config(orchestrator.config, {at: one for at, one in settings.items() if not at.section})
    policy = {at.field: getattr(config, at.field) for at in settings if not at.section and at.field in ROOT_POLICY}
    paths = dict.fromkeys(place.path for place in settings if place.section)
    entries = {
        path: _changed_entry(path, draft.get(path), {at: one for at, one in settings.items() if at.path == path})
        for path in paths
    }
    changed = draft.changed(replace(draft.root, **policy), entries)
    _check_together(draft, changed, settings)
    orchestrator.config = config
    draft.become(changed)
    return settings


def _changed_config(config: OrchestratorConfig, settings: Overridden) -> OrchestratorConfig:
    if not settings:
        return config
    given = {field: getattr(config, field) for field in config.model_fields_set}
    types = {field: info.annotation for field, info in type(config).model_fields.items()}
    with _blaming(settings, types):
        return type(config)(**given | _typed(settings, types))


def _changed_entry(path: str, entry: ChildEntry, settings: Overridden) -> ChildEntry:
    if isinstance(entry, SupervisorEntry):
        with _blaming(settings, SUPERVISOR_TYPES):
            return replace(entry, **_typed(settings, SUPERVISOR_TYPES))
    own_types = {field: info.annotation for field, info in type(entry.config).model_fields.items()}
    types = own_types | dict(AGENT_TYPES)
    with _blaming(settings, types):
        values = _typed(settings, types)
        fields = {field: value for field, value in values.items() if field in ENTRY_FIELDS}
        of_config = {field: value for field, value in values.items() if field not in ENTRY_FIELDS}
        config = build_config(entry.agent, entry.config, of_config, ENTRY_FIELDS)
        changed = replace(entry, config=config, **fields)
        check_reachable(changed, path.rpartition("/")[0])
        return changed


def _typed(settings: Overridden, types: Mapping[str, object]) -> dict[str, Any]:
    return {at.field: typed(types[at.field], one.value, is_text=one.is_text) for at, one in settings.items()}


def _check_together(before: Draft, after: Draft, settings: Overridden) -> None:
    """Raise `SpecError` if the settings have broken a rule about several children.

    A tree that was no better without them is left to its start: a ``before_start`` hook may mend it.
    """
    try:
        check_tree(_whole(after))
    except SpecError:
        try:
            check_tree(_whole(before))
        except SpecError:
            return
        with _blaming({at: one for at, one in settings.items() if at.section or at.field in ROOT_POLICY}):
            raise


def _whole(draft: Draft) -> SupervisorEntry:
    return replace(draft.root, children=draft.children())


@contextmanager
def _blaming(settings: Overridden, types: Mapping[str, object] = _NO_TYPES) -> Iterator[None]:
    """Have the message of an error begin with the settings that it is about; hide it if one of them is a secret."""
    try:
        yield
    except Exception as error:  # also what a user's own validator raises
        said = " ".join(str(error).split())
        text = said if isinstance(error, SpecError) else f"{type(error).__name__}: {said}"
        guilty = {at: one for at, one in settings.items() if f"{at.field}=" in text} or settings
        labels = ", ".join(dict.fromkeys(one.label for one in guilty.values()))
        if any(is_secret(at.field, types.get(at.field)) for at in guilty):
            text = "the value breaks a rule of its field (a secret, hence not shown)"
        raise SpecError(f"{labels}: {text}") from None
