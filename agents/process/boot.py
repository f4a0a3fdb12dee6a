"""Starting a fresh interpreter that continues as the fork server, or as the process of an agent."""

from __future__ import annotations

import importlib
import marshal
import multiprocessing
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import multiprocessing as multiprocess
else:
    import multiprocess

Entry = Literal["server", "child"]
"""A module of this package, whose ``main`` takes what its caller handed over."""

# Until sys.path is set only built-in modules may be imported: no file of the user's can stand in for those.
_PROGRAM: Final = """
import marshal, sys
with open(int(sys.argv[1]), "rb") as file:
    sys.path[:], sys.argv[:], rest = marshal.load(file)
from orchestree.agents.process.boot import go_on
go_on(*rest)
"""


def command(entry: Entry, argument: object) -> tuple[list[str], int]:
    """Return the command that calls ``main(argument)`` of the module `entry`, and a descriptor for it to read.

    The new interpreter gets this one's flags, ``sys.path``, ``sys.argv`` and authentication keys. The descriptor
    has to be inherited under its number; the caller closes it.
    """
    keys = [bytes(library.current_process().authkey) for library in (multiprocess, multiprocessing)]
    descriptor = os.memfd_create("orchestree-boot")
    with open(descriptor, "wb", closefd=False) as file:
        marshal.dump((sys.path, sys.argv, (entry, keys, pickle.dumps(argument))), file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # -P: the current folder is of no interest, and some versions of Python fail where it is gone.
    return [sys.executable, *flags, "-P", "-c", _PROGRAM, str(descriptor), f"orchestree-{entry}"], descriptor


def go_on(entry: Entry, keys: list[bytes], argument: bytes) -> None:
    """Do in the new interpreter what `command` was asked for."""
    for library, key in zip((multiprocess, multiprocessing), keys, strict=True):
        library.current_process().authkey = key
    importlib.import_module(f".{entry}", __package__).main(pickle.loads(argument))


def replace_process(entry: Entry, argument: object, kept: list[int]) -> None:
    """Continue as a fresh interpreter in this very process. The descriptors `kept` stay open."""
    arguments, descriptor = command(entry, argument)
    for each in (descriptor, *kept):
        os.set_inheritable(each, True)
    os.execv(sys.executable, arguments)
