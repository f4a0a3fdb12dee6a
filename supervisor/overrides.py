"""What is set from outside of the code: `--set`, a TOML file, variables; and which field each of them means. Pure.

A key is a field of `Orchestrator.Config` (``max_workers``), ``agents.PATH.FIELD`` or ``supervisors.PATH.FIELD``.
Children that only come when the tree runs are not known yet: nothing here reaches them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Final, Literal

from orchestree.agents.config import StrictConfig
from orchestree.strategies.errors import SpecError, did_you_mean

from .spec import ENTRY_FIELDS, AgentEntry, ChildEntry, SupervisorEntry

Section = Literal["", "agents", "supervisors"]

OPTION: Final = "--set"
PREFIX: Final = "ORCHESTREE_"
OTHER_VARIABLES: Final = re.compile(r"ORCHESTREE_(SOCKET|RUN|(TEST|TORTURE|FUZZ)_.*)")
"""They mean something else: the socket of a command, the mark of an agent's processes, settings of our own tests."""

AGENT_FIELDS: Final = tuple(
    field.name for field in fields(AgentEntry) if field.name in ENTRY_FIELDS - {"config", "params"}
)
SUPERVISOR_FIELDS: Final = tuple(
    field.name for field in fields(SupervisorEntry) if field.name not in ("name", "children", "dynamic")
)


@dataclass(frozen=True, slots=True)
class Place:
    """One field that can be set. `path` is empty for a field of `Orchestrator.Config`; its text is the key."""

    section: Section
    path: str
    field: str

    def __str__(self) -> str:
        """Return the key."""
        return f"{self.section}.{self.path}.{self.field}" if self.section else self.field


@dataclass(frozen=True, slots=True)
class Setting:
    """One value as somebody has written it.

    Attributes:
        key: as written.
        value: text, or what TOML made of it.
        source: ``--set``, the name of the file, or of the variable.
        is_text: the value still has to be turned into the type of its field.
    """

    key: str
    value: object
    source: str
    is_text: bool = True

    @property
    def label(self) -> str:
        """What a message about it begins with."""
        match self.source:
            case self.key:
                return self.key
            case _ if self.source == OPTION:
                return f"{OPTION} {self.key}"
            case file:
                return f"{file}: {self.key}"


@dataclass(frozen=True, slots=True)
class Given:
    """All that was set, not yet compared with any tree.

    Attributes:
        options: of ``--set``; the last one of a key holds.
        file: name of the TOML file, for messages.
        tables: its content.
        variables: by name, without those that mean something else.
    """

    options: tuple[Setting, ...] = ()
    file: str = ""
    tables: Mapping[str, object] | None = None
    variables: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What can be set: the fields of this `Orchestrator.Config`, and of everything that is registered, by path."""

    config: type[StrictConfig]
    entries: Mapping[str, ChildEntry]

    def paths(self, section: Section) -> list[str]:
        """Return the paths of all agents, or of all supervisors, in registration order."""
        kind = AgentEntry if section == "agents" else SupervisorEntry
        return [path for path, entry in self.entries.items() if isinstance(entry, kind)]

    def places(self) -> Iterator[Place]:
        """Yield every field there is."""
        for field in self.config.model_fields:
            yield Place("", "", field)
        for path, entry in self.entries.items():
            section: Section = "agents" if isinstance(entry, AgentEntry) else "supervisors"
            for field in fields_of(entry):
                yield Place(section, path, field)


def fields_of(entry: ChildEntry) -> tuple[str, ...]:
    """Return what can be set of a child: the fields of the entry, and of an agent's own configuration."""
    if isinstance(entry, SupervisorEntry):
        return SUPERVISOR_FIELDS
    return AGENT_FIELDS + tuple(type(entry.config).model_fields)


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


def resolved(given: Given, known: Known) -> dict[Place, Setting]:
    """Return for each field that is set the strongest of its settings: option, then file, then variable.

    Raises:
        SpecError: a key or variable means nothing here, or more than one thing. One line, which names it.
    """
    found = _of_variables(given.variables, known)
    in_file = () if given.tables is None else _in_file(given.tables, given.file, known)
    for setting in (*in_file, *given.options):
        try:
            place = place_of(setting.key, known)
        except SpecError as error:
            raise SpecError(f"{setting.label}: {error}") from None
        found[place] = setting
    return found


def place_of(key: str, known: Known) -> Place:
    """Return the field that a key means. Raises `SpecError`."""
    head, dot, rest = key.partition(".")
    match head:
        case "agents" | "supervisors" as section:
            return _below(section, rest, known)
        case _ if key in known.config.model_fields:
            return Place("", "", key)
        case _:
            candidates = ["agents", "supervisors"] if dot else known.config.model_fields
            raise SpecError(f"unknown key{did_you_mean(head if dot else key, candidates)}")


def variable_of(place: Place) -> str:
    """Return the name of the variable that sets a field: ``ORCHESTREE_AGENTS__WRITER_A__PATH``."""
    words = (place.section, place.path, place.field) if place.section else (place.field,)
    return PREFIX + "__".join(re.sub(r"[^A-Z0-9]", "_", word.upper()) for word in words)


def _below(section: Section, rest: str, known: Known) -> Place:
    """Return the place in a section; of the paths that `rest` may begin with the longest one counts."""
    paths = set(known.paths(section))
    for dot in reversed([match.start() for match in re.finditer(r"\.", rest)]):
        path, field = rest[:dot], rest[dot + 1 :]
        if path in paths:
            names = fields_of(known.entries[path])
            if field not in names:
                raise SpecError(f"{path!r} has no field {field!r} that can be set{did_you_mean(field, names)}")
            return Place(section, path, field)
    if not rest or rest in paths:
        raise SpecError(f"names no field; write {section}.PATH.FIELD")
    raise SpecError(_no_such(section, rest.rpartition(".")[0] or rest, known))


def _no_such(section: Section, path: str, known: Known) -> str:
    if path in known.entries:
        kind, right = ("a supervisor", "supervisors") if section == "agents" else ("an agent", "agents")
        return f"{path!r} is {kind}; write {right}.{path}.FIELD"
    for above in known.paths("supervisors"):
        entry = known.entries[above]
        if isinstance(entry, SupervisorEntry) and entry.dynamic and path.startswith(f"{above}/"):
            return f"{above!r} is dynamic: its children come when the tree runs, and cannot be set from here"
    return f"no such {section[:-1]} {path!r}{did_you_mean(path, known.paths(section))}"


def _in_file(tables: Mapping[str, object], file: str, known: Known) -> Iterable[Setting]:
    for key, value in tables.items():
        if key in ("agents", "supervisors") and isinstance(value, dict):
            paths = known.paths("agents" if key == "agents" else "supervisors")
            for name, below in value.items():
                for found, end in _leaves(name, below, paths):
                    yield Setting(f"{key}.{found}", end, file, is_text=False)
        else:
            yield Setting(key, value, file, is_text=False)


def _leaves(name: str, value: object, paths: list[str]) -> Iterator[tuple[str, object]]:
    """Yield what stands in the tables of a section, each with its key; a table that no path leads to is a value."""
    if isinstance(value, dict) and (name in paths or any(path.startswith(f"{name}.") for path in paths)):
        for key, below in value.items():
            yield from _leaves(f"{name}.{key}", below, paths)
    else:
        yield name, value


def _of_variables(settings: tuple[Setting, ...], known: Known) -> dict[Place, Setting]:
    if not settings:
        return {}
    places: dict[str, list[Place]] = {}
    for place in known.places():
        places.setdefault(variable_of(place), []).append(place)
    found = {}
    for setting in settings:
        match places.get(setting.key, []):
            case []:
                raise SpecError(f"{setting.label}: no field has this variable{did_you_mean(setting.key, places)}")
            case [place]:
                found[place] = setting
            case several:
                keys = " and ".join(map(str, several))
                raise SpecError(f"{setting.label}: means {keys}; set them with {OPTION} or in a file")
    return found
