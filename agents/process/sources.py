"""Where the classes of an agent come from: what another process has to load before it can unpickle them.

A class travels by reference whenever another process can find it: by its module, or, when it belongs to the
program's main file, by that file. Loading that file happens once per process and never as ``__main__``.
Also, at the end: what shows whether loading has left threads or sockets behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from orchestree.agents.lifecycle import describe
from orchestree.agents.loading import USER_MAIN, GoOn, load_file, load_module


@dataclass(frozen=True, slots=True)
class Source:
    """A module to be loaded.

    Attributes:
        module: the name it gets.
        file: to be executed under that name; empty for a module that can be imported.
        is_main: what is pickled calls it ``__main__``.
    """

    module: str
    file: str = ""
    is_main: bool = False

    def __str__(self) -> str:
        """Return what a user knows it by."""
        return self.file or self.module


def main_source() -> Source | None:
    """Return where the program's main module can be loaded from; None if nowhere (an interactive session, ``-c``).

    Makes its classes known in this process under the name that they have in the others.
    """
    main = sys.modules.get(USER_MAIN) or sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None)
    if spec is not None and spec.name != "__main__":
        source = Source(spec.name, is_main=True)
    elif file is not None and os.path.isfile(file):
        source = Source(USER_MAIN, os.path.abspath(file), is_main=True)
    else:
        return None
    sys.modules.setdefault(source.module, main)
    return source


def sources_of(classes: Iterable[type], pickled: bytes) -> dict[Source, tuple[str, ...]]:
    """Return what has to be loaded before `pickled`, which holds `classes`, can be unpickled.

    With each source come the names of those of the classes that it must have.
    """
    main = main_source()
    names_of_main = {"__main__"} | ({main.module} if main else set())
    found: dict[Source, tuple[str, ...]] = {}
    if main is not None and any(name.encode() in pickled for name in names_of_main):
        found[main] = ()
    for cls in filter(can_be_found, classes):
        source = main if main and cls.__module__ in names_of_main else Source(cls.__module__)
        found[source] = (*found.get(source, ()), cls.__qualname__)
    return found


def can_be_found(thing: object) -> bool:
    """Say whether another process finds a class or function under its module and name."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module is None or name is None or (module == "__main__" and main_source() is None):
        return False
    return find(module, name) is thing


def find(module: str, name: str) -> object:
    """Return the attribute of a loaded module; `name` may have dots. None if there is none."""
    thing: object = sys.modules.get(module)
    for part in name.split("."):
        thing = getattr(thing, part, None)
    return thing


def missing(source: Source, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the names that a loaded source does not have."""
    return tuple(name for name in names if find(source.module, name) is None)


def load(source: Source, instead: GoOn | None = None) -> str:
    """Load a source, if that has not been done yet, and return in one line what is wrong with it, or nothing.

    `instead` is called, and nothing returned, where the source would act.
    """

    def go_on() -> NoReturn:
        _make_known(source)
        assert instead is not None
        instead()

    try:
        if source.module not in sys.modules:
            wanted = go_on if instead else None
            _ = load_file(source.file, source.module, wanted) if source.file else load_module(source.module, wanted)
        _make_known(source)
    except BaseException as error:
        return f"{source} cannot be loaded in the process of an agent: {describe(error)}"
    return ""


def _make_known(source: Source) -> None:
    """Make what is pickled as ``__main__`` mean the loaded main file."""
    if source.is_main:
        sys.modules["__main__"] = sys.modules[source.module]


def threads() -> int:
    """Return how many threads this process has, those that Python does not know included."""
    return len(os.listdir("/proc/self/task"))


def open_sockets() -> set[str]:
    """Return what names the sockets that this process has open."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in found if name.startswith("socket:")}
