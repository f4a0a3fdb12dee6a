"""Names in a crash, of signals and of exceptions: which there are, and what a crash report makes of them. Pure."""

from __future__ import annotations

import builtins
import re
from typing import Final

from orchestree.strategies.errors import SpecError, did_you_mean

_SIGNALS: Final = frozenset(
    f"SIG{name}"
    for name in (
        *(
            "ABRT",
            "ALRM",
            "BUS",
            "CHLD",
            "CONT",
            "EMT",
            "FPE",
            "HUP",
            "ILL",
            "INFO",
            "INT",
            "IO",
            "IOT",
            "KILL",
            "LOST",
        ),
        *("PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN"),
        *("TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ"),
    )
)
"""Of all systems that there are, as a simulation is the same on each; the real-time ones are counted."""
_REAL_TIME: Final = re.compile(r"SIGRT(MIN(\+[0-9]{1,2})?|MAX(-[0-9]{1,2})?)")
_CLASS: Final = re.compile(r"(?!SIG)[A-Z_]\w*|(?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*", re.ASCII)
_EXCEPTIONS: Final = frozenset(
    name for name, found in vars(builtins).items() if isinstance(found, type) and issubclass(found, BaseException)
)


def check_signal(name: object) -> None:
    """Raise `SpecError` if `name` is not that of a signal."""
    if not isinstance(name, str) or not (name in _SIGNALS or _REAL_TIME.fullmatch(name)):
        hint = did_you_mean(str(name), sorted(_SIGNALS))
        raise SpecError(f"signal={name!r}: must be the name of a signal, such as 'SIGSEGV'{hint}")


def check_exception(name: object) -> None:
    """Raise `SpecError` if `name` cannot be that of a class."""
    if not isinstance(name, str) or not _CLASS.fullmatch(name):
        raise SpecError(f"exception={name!r}: must be the name of a class, such as 'ValueError'")


def check_spelling(name: str) -> None:
    """Raise `SpecError` if `name` looks like that of a signal, or of a builtin exception which was mistyped."""
    if f"SIG{name}" in _SIGNALS:
        raise SpecError(f"exception={name!r}: must be the name of a class (did you mean 'SIG{name}'?)")
    is_bare = "." not in name and name not in _EXCEPTIONS
    if is_bare and (hint := did_you_mean(name, sorted(_EXCEPTIONS))):
        raise SpecError(f"exception={name!r}: there is no such builtin exception{hint}")


def types_of(name: str) -> tuple[str, ...]:
    """Return the qualified names of a class and its bases, as a crash report has them."""
    found = getattr(builtins, name, None)
    if isinstance(found, type) and issubclass(found, BaseException):
        return tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in found.__mro__[:-1])
    return (name, "builtins.Exception", "builtins.BaseException")
