"""Faults as a person writes them, ``PATH: WHAT WHEN``: a reader and a writer of such lines. Pure.

A line is read word by word: the path, what happens, and then clauses in any order (``every 7s``, ``from 10s``). What a
clause means is a field of the fault; the fault itself checks what goes together.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from orchestree.strategies.errors import SpecError, did_you_mean
from orchestree.supervisor.phrases import counted

from .crash_names import check_spelling
from .durations import in_words, parse_seconds
from .faults import PHASES, Complete, Crash, Down, Fault, Hang, IgnoreStop, Moments, SlowStart, check_fault

_WHEN: Final = ("at", "every", "after", "times", "about", "from", "to")
_NO_FIELDS: Final[Mapping[str, object]] = MappingProxyType({})


class _Form(NamedTuple):
    """One WHAT: its words, what it makes, the clauses that it may have, and an example."""

    words: str
    make: Callable[..., Fault]
    fields: Mapping[str, object]
    clauses: tuple[str, ...]
    example: str


_FORMS: Final = (
    _Form("crash", Crash, _NO_FIELDS, (*_WHEN, "in", "with"), "crash every 7s"),
    _Form("run out of memory", Crash, MappingProxyType({"cause": "oom"}), (*_WHEN, "in"), "run out of memory at 5s"),
    _Form("lost", Crash, MappingProxyType({"cause": "lost"}), (*_WHEN, "in"), "lost at 5s"),
    _Form("hang", Hang, _NO_FIELDS, (*_WHEN, "for"), "hang every 10m for 20s"),
    _Form("complete", Complete, _NO_FIELDS, _WHEN, "complete 5s after ready"),
    _Form("down", Down, _NO_FIELDS, ("from", "to"), "down from 10s to 20m"),
    _Form("slow start", SlowStart, _NO_FIELDS, ("takes", "from", "to"), "slow start 20s from 0s to 10m"),
    _Form("ignore stop", IgnoreStop, _NO_FIELDS, ("from", "to"), "ignore stop from 10s to 1m"),
)
_FIELD_OF: Final = MappingProxyType({"at": "at", "every": "every", "from": "at", "to": "until", "for": "lasts"})
"""Clauses of one word and a duration, and the fields that they stand for."""
_SHOWN: Final = MappingProxyType({"times": "5 times", "after": "5s after ready", "takes": "a duration or forever"})
"""Clauses that do not begin with a word of their own."""
_COUNT: Final = re.compile(r"[0-9]{1,15}")


def parse_fault(line: str) -> Fault:
    """Return the fault that `line` says, such as ``worker: crash every 7s``; the path ``/`` is the whole tree.

    Raises:
        SpecError: it says none; names the line, the part that is wrong, and an example of the right form.
    """
    if not isinstance(line, str) or not line.strip():
        raise SpecError(f"fault {line!r}: must be a line such as 'worker: crash every 7s'")
    return _Line(line).read()


class _Line:
    """One line that is being read.

    Attributes:
        left: the words that have not been read yet.
        form: what it says so far; None before that is known.
        said: the text of each clause that was read.
        fields: what they mean.
    """

    def __init__(self, line: str) -> None:
        path, self._colon, what = line.partition(":")
        self.line = line
        self.path = path.strip()
        self.left = deque(what.split())
        self.form: _Form | None = None
        self.said: dict[str, str] = {}
        self.fields: dict[str, object] = {}

    def read(self) -> Fault:
        if not self._colon:
            raise self.wrong("a colon must follow the path")
        if not self.path:
            raise self.wrong("the path is missing; / is the whole tree")
        self.form = form = self._read_form()
        while self.left:
            self._read_clause(form)
        self._check_together(form)
        try:
            check_spelling(str(self.fields.get("exception", "")))
            return form.make("" if self.path == "/" else self.path, **form.fields, **self.fields)
        except SpecError as error:
            raise self.wrong(str(error)) from None

    def wrong(self, why: str) -> SpecError:
        """Return the error that this line is, because of `why`."""
        example = f"worker: {self.form.example if self.form else 'crash every 7s'}"
        return SpecError(f"fault {self.line!r}: {why}; right is, for example, {example!r}")

    def _read_form(self) -> _Form:
        for form in _FORMS:
            words = form.words.split()
            if [*self.left][: len(words)] == words:
                for _ in words:
                    self.left.popleft()
                return form
        if not self.left:
            raise self.wrong("what happens is missing")
        known = [form.words for form in _FORMS]
        hint = did_you_mean(" ".join(self.left), known) or did_you_mean(self.left[0], known)
        raise self.wrong(f"{self.left[0]!r}: must be one of {', '.join(known)}{hint}")

    def _read_clause(self, form: _Form) -> None:
        before = [*self.left]
        word = self.left.popleft()
        clause = self._clause_of(word, form)
        if clause not in form.clauses:
            known = [_SHOWN.get(name, name) for name in form.clauses]
            raise self.wrong(f"{word!r}: {form.words} goes with {', '.join(known)}{did_you_mean(word, known)}")
        if clause in self.said:
            raise self.wrong(f"{word!r}: a second time, after {self.said[clause]!r}")
        self.fields |= self._fields_of(clause, word)
        self.said[clause] = " ".join(before[: len(before) - len(self.left)])

    def _clause_of(self, word: str, form: _Form) -> str:
        """Return the name of the clause that begins with `word`."""
        if "takes" in form.clauses and (word == "forever" or word[:1].isdigit()):
            return "takes"
        if not word[:1].isdigit():
            return word
        follows = self.left[0] if self.left else ""
        if follows in ("time", "times"):
            return "times"
        if follows == "after":
            return "after"
        hint = did_you_mean(follows, ("times", "after"))
        raise self.wrong(f"{word!r}: must follow at, every, from or to, or stand before 'times' or 'after ready'{hint}")

    def _fields_of(self, clause: str, word: str) -> Mapping[str, object]:
        """Read the rest of a clause, and return the fields that it stands for."""
        match clause:
            case "about":
                return {"about": True}
            case "times":
                self._expect("time", "times")
                if not _COUNT.fullmatch(word):
                    raise self.wrong(f"{word!r}: must be a whole number of times")
                return {"times": int(word)}
            case "after":
                self._expect("after")
                self._expect("ready")
                return {"after": self._seconds(word)}
            case "takes":
                return {"takes": math.inf if word == "forever" else self._seconds(word)}
            case "in":
                return {"phase": self._expect(*PHASES)}
            case "with":
                return self._read_cause()
            case _:
                return {_FIELD_OF[clause]: self._seconds(self._next(f"a duration must follow {word!r}"))}

    def _read_cause(self) -> Mapping[str, object]:
        word = self._next("'exit code 78', a signal or an exception must follow 'with'")
        if word.startswith("SIG"):
            return {"cause": "signal", "signal": word}
        if word != "exit":
            return {"exception": word}
        self._expect("code")
        code = self._next("a number must follow 'exit code'")
        if not _COUNT.fullmatch(code):
            raise self.wrong(f"{code!r}: must be an exit code, 1 to 255")
        return {"cause": "exit", "exit_code": int(code)}

    def _check_together(self, form: _Form) -> None:
        if "takes" in form.clauses and "takes" not in self.said:
            raise self.wrong("how long it takes is missing")
        if "at" in form.clauses:
            when = [self.said[clause] for clause in ("at", "every", "after") if clause in self.said]
            if not when:
                raise self.wrong("when is missing: 'at 10s', 'every 7s' or '5s after ready'")
            if len(when) > 1:
                raise self.wrong(f"{when[0]!r} and {when[1]!r}: only one of them; 'from 10s' says when it begins")
            for clause in ("times", "about", "from", "to"):
                if "at" in self.said and clause in self.said:
                    raise self.wrong(f"{self.said[clause]!r}: does not go with {when[0]!r}")
        begins, ends = self.fields.get("at", 0.0), self.fields.get("until", math.inf)
        if isinstance(begins, float) and isinstance(ends, float) and ends <= begins:
            raise self.wrong(f"{self.said['to']!r}: must be later than {self.said.get('from', 'from 0s')!r}")

    def _seconds(self, word: str) -> float:
        try:
            return parse_seconds(word)
        except SpecError as error:
            raise self.wrong(str(error)) from None

    def _next(self, missing: str) -> str:
        if not self.left:
            raise self.wrong(missing)
        return self.left.popleft()

    def _expect(self, *words: str) -> str:
        expected = " or ".join(map(repr, words))
        word = self._next(f"{expected} is missing")
        if word not in words:
            raise self.wrong(f"{word!r}: must be {expected}{did_you_mean(word, words)}")
        return word


def line_of(fault: Fault) -> str:
    """Return the line that `parse_fault` makes `fault` of. Raises `SpecError` if it is no fault."""
    check_fault(fault)
    words = [f"{fault.path or '/'}:", _what(fault)]
    begins = "at" if isinstance(fault, Moments) and fault.every is None and fault.after is None else "from"
    if isinstance(fault, Moments):
        words += [counted(fault.times, "time")] if fault.times is not None else []
        words += ["about"] if fault.about else []
        words += [f"every {in_words(fault.every)}"] if fault.every is not None else []
        words += [f"{in_words(fault.after)} after ready"] if fault.after is not None else []
    if fault.at is not None and (isinstance(fault, Moments) or fault.at or fault.until != math.inf):
        words.append(f"{begins} {in_words(fault.at)}")
    words += [f"to {in_words(fault.until)}"] if fault.until != math.inf else []
    if isinstance(fault, Hang) and fault.lasts != math.inf:
        words.append(f"for {in_words(fault.lasts)}")
    return " ".join(words)


def _what(fault: Fault) -> str:
    match fault:
        case Crash():
            exception = "" if fault.exception == "RuntimeError" else f" with {fault.exception}"
            said = {
                "exception": f"crash{exception}",
                "exit": f"crash with exit code {fault.exit_code}",
                "signal": f"crash with {fault.signal}",
                "oom": "run out of memory",
                "lost": "lost",
            }[fault.cause]
            return said if fault.phase == "execute" else f"{said} in {fault.phase}"
        case SlowStart():
            return f"slow start {in_words(fault.takes)}"
        case IgnoreStop():
            return "ignore stop"
        case _:
            return type(fault).__name__.lower()
