"""The keywords of `register_agent`: fields of the entry and fields of the agent's own config, told apart. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestree.agents.base import BaseAgent
from orchestree.agents.config import build_config
from orchestree.strategies.errors import SpecError

from .spec import ENTRY_FIELDS, AgentEntry


def agent_entry(agent: type[BaseAgent], name: str, keywords: Mapping[str, object]) -> AgentEntry:
    """Build an entry as `register_agent` takes it: fields of the entry, and of its config, which override ``config``.

    Raises:
        SpecError: as `AgentEntry`, and for a keyword that is neither an entry field nor a config field.
    """
    given: dict[str, Any] = {key: value for key, value in keywords.items() if key in ENTRY_FIELDS}
    config_fields = {key: value for key, value in keywords.items() if key not in ENTRY_FIELDS}
    if config_fields and isinstance(agent, type) and issubclass(agent, BaseAgent):
        try:
            config = build_config(agent, given.get("config"), config_fields, ENTRY_FIELDS)
        except SpecError as error:
            raise SpecError(f"agent {name!r}: {error}") from None
        given["config"] = config
    return AgentEntry(agent, name, **given)
