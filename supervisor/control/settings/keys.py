"""Which keys can be set, and which of them options, a TOML file and variables have set. Pure.

A key is a field of `Orchestrator.Config` (``max_workers``), ``agents.PATH.FIELD`` or ``supervisors.PATH.FIELD``.
Children that only come when the tree runs are not known yet: nothing here reaches them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, get_type_hints

from orchestree.agents.config import StrictConfig
from orchestree.strategies.errors import SpecError, did_you_mean
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry

SECTIONS: Final = ("agents", "supervisors")
OPTION: Final = "--set"
PREFIX: Final = "ORCHESTREE_"
OTHER_VARIABLES: Final = re.compile(r"ORCHESTREE_(SOCKET|RUN|(TEST|TORTURE|FUZZ)_.*)")
"""They mean something else: the socket of a command, the mark of an agent's processes, settings of our own tests."""

_NOT_SETTABLE: Final = frozenset({"agent", "name", "config", "params", "children", "dynamic"})
_ENTRY_FIELDS: Final = MappingProxyType(
    {
        entry: {name: kind for name, kind in get_type_hints(entry).items() if name not in _NOT_SETTABLE}
        for entry in (AgentEntry, SupervisorEntry)
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Settable:
    """One field that can be set.

    Attributes:
        key: what it is set by.
        path: of the child; empty for a field of `Orchestrator.Config`.
        name: of the field.
        owner: what has it: a child's specification, an agent's own configuration, or that of the orchestrator.
        annotation: its type.
    """

    key: str
    path: str
    name: str
    owner: StrictConfig | ChildEntry = field(repr=False)
    annotation: Any


@dataclass(frozen=True, slots=True)
class Setting:
    """One value as somebody has written it. Its ``repr`` does not show it: only the field knows what is a secret.

    Attributes:
        key: as written.
        value: text, or what TOML made of it.
        source: ``--set``, the name of the file, or of the variable.
        is_text: the value still has to be turned into the type of its field.
    """

    key: str
    value: object = field(repr=False)
    source: str
    is_text: bool = True

    @property
    def label(self) -> str:
        """What a message about it begins with."""
        if self.source == self.key:
            return self.key
        return f"{OPTION} {self.key}" if self.source == OPTION else f"{self.source}: {self.key}"


@dataclass(frozen=True, slots=True)
class Given:
    """All that was set, not yet compared with any tree.

    Attributes:
        options: of ``--set``; the last one of a key holds.
        file: name of the TOML file, for messages.
        tables: its content.
        variables: without those that mean something else.
    """

    options: tuple[Setting, ...] = ()
    file: str = ""
    tables: Mapping[str, object] = field(default_factory=dict, repr=False)
    variables: tuple[Setting, ...] = ()


def option(text: str) -> Setting | None:
    """Return what ``key=value`` sets; None if it is not of that form."""
    key, equals, value = text.partition("=")
    return Setting(key, value, OPTION) if key and equals else None


def toml_tables(text: str, file: str) -> Mapping[str, object]:
    """Return the content of a TOML file. Raises `SpecError`."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"{file}: {error}") from None


def variables(environment: Mapping[str, str]) -> tuple[Setting, ...]:
    """Return what the variables of an environment set."""
    return tuple(
        Setting(name, value, name)
        for name, value in sorted(environment.items())
        if name.startswith(PREFIX) and not OTHER_VARIABLES.fullmatch(name)
    )


def settables(config: StrictConfig, entries: Mapping[str, ChildEntry]) -> Iterator[Settable]:
    """Yield every field that can be set: those of `config`, then those of each of the `entries`, which are by path."""
    yield from _fields_of(config)
    for path, entry in entries.items():
        section = "agents" if isinstance(entry, AgentEntry) else "supervisors"
        yield from _fields_of(entry, path, f"{section}.{path}.")
        if isinstance(entry, AgentEntry):
            yield from _fields_of(entry.config, path, f"{section}.{path}.")


def _fields_of(owner: StrictConfig | ChildEntry, path: str = "", prefix: str = "") -> Iterator[Settable]:
    if isinstance(owner, StrictConfig):
        fields = {name: info.annotation for name, info in type(owner).model_fields.items()}
    else:
        fields = _ENTRY_FIELDS[type(owner)]
    for name, annotation in fields.items():
        yield Settable(prefix + name, path, name, owner, annotation)


def resolved(given: Given, config: StrictConfig, entries: Mapping[str, ChildEntry]) -> dict[Settable, Setting]:
    """Return for each field that is set the strongest of its settings: option, then file, then variable.

    Raises:
        SpecError: a key or variable means nothing here, or more than one thing. One line, which names it.
    """
    if not (given.options or given.tables or given.variables):
        return {}  # a large tree has a hundred thousand fields
    known = {one.key: one for one in settables(config, entries)}
    found = _of_variables(given.variables, known.values()) if given.variables else {}
    for setting in (*_in_file(given, known), *given.options):
        if setting.key not in known:
            raise SpecError(f"{setting.label}: {_what_is_wrong(setting.key, known, entries)}")
        found[known[setting.key]] = setting
    return found


def _of_variables(settings: Iterable[Setting], known: Iterable[Settable]) -> dict[Settable, Setting]:
    meant: dict[str, list[Settable]] = {}
    for one in known:
        meant.setdefault(_variable_of(one), []).append(one)
    found = {}
    for setting in settings:
        match meant.get(setting.key, []):
            case []:
                raise SpecError(f"{setting.label}: no field has this variable{did_you_mean(setting.key, meant)}")
            case [one]:
                found[one] = setting
            case several:
                keys = " and ".join(one.key for one in several)
                raise SpecError(f"{setting.label}: means {keys}; set them with {OPTION} or in a file")
    return found


def _variable_of(one: Settable) -> str:
    """Return the name of the variable that sets a field: ``ORCHESTREE_AGENTS__WRITER_A__PATH``."""
    words = (one.key.partition(".")[0], one.path, one.name) if one.path else (one.name,)
    return PREFIX + "__".join(re.sub(r"[^A-Z0-9]", "_", word.upper()) for word in words)


def _in_file(given: Given, known: Iterable[str]) -> Iterator[Setting]:
    """Yield what the file sets; a table that no key leads through is a value, or a mistake."""
    tables = {key[: dot.start()] for key in known for dot in re.finditer(r"\.", key)} if given.tables else set()
    todo = list(given.tables.items())
    for key, value in todo:  # which grows meanwhile
        if isinstance(value, dict) and (key in tables or key in SECTIONS):
            todo += [(f"{key}.{name}", below) for name, below in value.items()]
        else:
            yield Setting(key, value, given.file, is_text=False)


def _what_is_wrong(key: str, known: Iterable[str], entries: Mapping[str, ChildEntry]) -> str:
    """Return why nothing has this key, and what was probably meant."""
    section, dot, rest = key.partition(".")
    if section not in SECTIONS:
        candidates = SECTIONS if dot else [one for one in known if "." not in one]
        return f"unknown key{did_you_mean(section, candidates)}"
    kind = AgentEntry if section == "agents" else SupervisorEntry
    paths = [path for path, entry in entries.items() if isinstance(entry, kind)]
    owner = max((path for path in paths if rest.startswith(f"{path}.")), key=len, default=None)
    if owner is not None:
        start, name = f"{section}.{owner}.", rest[len(owner) + 1 :]
        hint = did_you_mean(name, [one.removeprefix(start) for one in known if one.startswith(start)])
        return f"{owner!r} has no field {name!r} that can be set{hint}"
    if not rest or rest in paths:
        return f"names no field; write {section}.PATH.FIELD"
    path = rest.rpartition(".")[0] or rest
    if path in entries:
        other, right = ("a supervisor", "supervisors") if section == "agents" else ("an agent", "agents")
        return f"{path!r} is {other}; write {right}.{path}.FIELD"
    for above, entry in entries.items():
        if isinstance(entry, SupervisorEntry) and entry.dynamic and path.startswith(f"{above}/"):
            return f"{above!r} is dynamic: its children come when the tree runs, and cannot be set from here"
    return f"no such {section[:-1]} {path!r}{did_you_mean(path, paths)}"
