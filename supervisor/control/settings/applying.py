"""Applies what was set from outside of the code to a tree that has not been started.

Nothing is half applied: all of it is checked before the first of it is taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestree.agents.config import build_config
from orchestree.agents.secrets import Masker
from orchestree.strategies.errors import SpecError
from orchestree.supervisor.config import OrchestratorConfig
from orchestree.supervisor.draft import Draft
from orchestree.supervisor.order import check_tree
from orchestree.supervisor.reachable import check_reachable
from orchestree.supervisor.reconfiguring import ROOT_POLICY
from orchestree.supervisor.spec import ENTRY_FIELDS, AgentEntry, ChildEntry

from .keys import Given, Settable, Setting, resolved
from .values import is_secret, typed

if TYPE_CHECKING:
    from orchestree.supervisor.orchestrator import Orchestrator

Settings = Mapping[Settable, Setting]


def apply(given: Given, orchestrator: Orchestrator) -> Mapping[str, str]:
    """Apply `given` to a tree that has not been started; return the source of each key that was set.

    Raises:
        SpecError: a key means nothing here, or a value breaks a rule; nothing has changed. One line that begins with
            ``--set KEY``, the file and the key, or the name of the variable. Secrets are not in it.
    """
    draft = orchestrator.draft
    settings = resolved(given, orchestrator.config, draft.entries())
    by_path: dict[str, dict[Settable, Setting]] = {}
    for one, setting in settings.items():
        by_path.setdefault(one.path, {})[one] = setting
    of_config = by_path.pop("", {})
    config = _changed_config(orchestrator.config, of_config)
    root = replace(draft.root, **{one.name: getattr(config, one.name) for one in of_config if _is_policy(one)})
    changed = draft.changed(
        root, {path: _changed_entry(path, draft.get(path), below) for path, below in by_path.items()}
    )
    _check_together(draft, changed, settings)
    orchestrator.config = config
    draft.become(changed)
    return {one.key: setting.source for one, setting in settings.items()}


def _is_policy(one: Settable) -> bool:
    return not one.path and one.name in ROOT_POLICY


def _changed_config(config: OrchestratorConfig, settings: Settings) -> OrchestratorConfig:
    if not settings:
        return config
    in_code = {field: getattr(config, field) for field in config.model_fields_set}
    with _blaming(settings):
        return type(config)(**in_code | _typed(settings))


def _changed_entry(path: str, entry: ChildEntry, settings: Settings) -> ChildEntry:
    with _blaming(settings):
        values = _typed(settings)
        if isinstance(entry, AgentEntry):
            own = {field: values.pop(field) for field in values.keys() - ENTRY_FIELDS}
            values["config"] = build_config(entry.agent, entry.config, own, ENTRY_FIELDS)
        changed = replace(entry, **values)
        check_reachable(changed, path.rpartition("/")[0])
        return changed


def _typed(settings: Settings) -> dict[str, Any]:
    return {one.name: typed(one, setting) for one, setting in settings.items()}


def _check_together(before: Draft, after: Draft, settings: Settings) -> None:
    """Raise `SpecError` if the settings have broken a rule about several children.

    A tree that was no better without them is left to its start: a ``before_start`` hook may mend it.
    """
    with _blaming({one: setting for one, setting in settings.items() if one.path or _is_policy(one)}):
        try:
            _check(after)
        except SpecError:
            try:
                _check(before)
            except SpecError:
                return
            raise


def _check(draft: Draft) -> None:
    check_tree(replace(draft.root, children=draft.children()))


@contextmanager
def _blaming(settings: Settings) -> Iterator[None]:
    """Have the message of an error begin with the settings that it is about, without the secrets that were set."""
    try:
        yield
    except Exception as error:  # also what a user's own validator raises
        secrets = {str(setting.value) for one, setting in settings.items() if is_secret(one)}
        said = " ".join(Masker(secrets)(str(error)).split())
        text = said if isinstance(error, SpecError) else f"{type(error).__name__}: {said}"
        guilty = {one: setting for one, setting in settings.items() if f"{one.name}=" in text} or settings
        labels = ", ".join(dict.fromkeys(setting.label for setting in guilty.values()))
        if any(map(is_secret, guilty)) and (
            not isinstance(error, SpecError)  # of code that does not know what is to be hidden
            or any(secret in said for secret in secrets)  # too short for the mask
        ):
            text = "the value breaks a rule of its field (a secret, hence not shown)"
        raise SpecError(f"{labels}: {text}") from None
