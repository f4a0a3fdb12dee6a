"""Faults as a person writes them, read and written."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from orchestree.strategies.errors import SpecError
from orchestree.supervisor.simulation.durations import in_words, parse_seconds
from orchestree.supervisor.simulation.fault_lines import line_of, parse_fault
from orchestree.supervisor.simulation.faults import (
    CRASH_CAUSES,
    PHASES,
    Complete,
    Crash,
    Down,
    Fault,
    Hang,
    IgnoreStop,
    SlowStart,
)

pytestmark = pytest.mark.policy

LINES: dict[str, Fault] = {
    "worker: crash every 7s": Crash("worker", every=7),
    "worker: crash at 10s": Crash("worker", at=10),
    "worker: crash 5s after ready": Crash("worker", after=5),
    "worker: crash 0s after ready from 0s": Crash("worker", at=0, after=0),
    "worker: crash about every 1m": Crash("worker", every=60, about=True),
    "worker: crash 2 times about 5s after ready to 1h": Crash("worker", after=5, times=2, about=True, until=3600),
    "worker: crash 1 time every 1s": Crash("worker", every=1, times=1),
    "worker: crash 5 times every 100ms from 10s": Crash("worker", at=10, every=0.1, times=5),
    "worker: crash 5 times every 100ms from 10s to 20m": Crash("worker", at=10, every=0.1, times=5, until=1200),
    "worker: crash in setup at 10s": Crash("worker", phase="setup", at=10),
    "worker: crash in teardown at 10s": Crash("worker", phase="teardown", at=10),
    "worker: crash with ValueError every 7s": Crash("worker", exception="ValueError", every=7),
    "worker: crash with my.errors.Odd in setup at 0s": Crash("worker", exception="my.errors.Odd", phase="setup", at=0),
    "worker: crash with exit code 78 at 10s": Crash("worker", cause="exit", exit_code=78, at=10),
    "worker: crash with SIGKILL every 1m": Crash("worker", cause="signal", every=60),
    "worker: crash with SIGSEGV at 1.5s": Crash("worker", cause="signal", signal="SIGSEGV", at=1.5),
    "worker: run out of memory at 5s": Crash("worker", cause="oom", at=5),
    "worker: lost at 5s": Crash("worker", cause="lost", at=5),
    "worker: lost in setup at 5s": Crash("worker", cause="lost", phase="setup", at=5),
    "worker: hang at 30s": Hang("worker", at=30),
    "worker: hang every 10m for 20s": Hang("worker", every=600, lasts=20),
    "worker: complete at 30s": Complete("worker", at=30),
    "worker: complete 5s after ready": Complete("worker", after=5),
    "worker: down": Down("worker"),
    "worker: down from 10s to 20m": Down("worker", at=10, until=1200),
    "worker: down from 0s to 20m": Down("worker", until=1200),
    "worker: slow start 20s": SlowStart("worker", takes=20),
    "worker: slow start 20s from 10s to 10m": SlowStart("worker", takes=20, at=10, until=600),
    "worker: slow start forever": SlowStart("worker", takes=math.inf),
    "worker: ignore stop": IgnoreStop("worker"),
    "ingest/worker: ignore stop from 10s to 1m": IgnoreStop("ingest/worker", at=10, until=60),
    "/: crash at 2d": Crash("", at=172800),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_and_its_fault_stand_for_each_other(line: str) -> None:
    assert parse_fault(line) == LINES[line]
    assert line_of(LINES[line]) == line


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("  worker :  crash   every 7 ", "worker: crash every 7s"),
        ("worker: crash from 10s every 0.1s 5 times to 1200", "worker: crash 5 times every 100ms from 10s to 20m"),
        ("worker: crash every 7s with ValueError in execute", "worker: crash with ValueError every 7s"),
        ("worker: hang for 20s every 10m", "worker: hang every 10m for 20s"),
        ("worker: down to 20m", "worker: down from 0s to 20m"),
        ("worker: slow start from 0s to 10m 20s", "worker: slow start 20s from 0s to 10m"),
    ],
)
def test_clauses_and_spaces_may_stand_as_one_likes(line: str, same: str) -> None:
    assert line_of(parse_fault(line)) == same


def seconds() -> st.SearchStrategy[float]:
    return st.floats(0.0, 1e9, exclude_min=True) | st.integers(1, 10**7).map(float)


def made(kind: Callable[..., Fault], path: str, **fields: object) -> Fault:
    return kind(path, **fields)


@st.composite
def any_fault(draw: st.DrawFn) -> Fault:
    """Draw a fault of any kind with any fields that go together."""
    path = draw(st.sampled_from(("", "worker", "ingest/a.b", "x/y/Z-1")))
    kind = draw(st.sampled_from((Crash, Hang, Complete, Down, SlowStart, IgnoreStop)))
    begin = draw(st.none() | st.just(0.0) | seconds())
    until = draw(st.just(math.inf) | st.floats(0.001, 1e9).map(lambda lasts: lasts + (begin or 0.0)))
    if kind in (Down, SlowStart, IgnoreStop):
        spell: dict[str, float] = {"at": begin or 0.0, "until": until}
        spell |= {"takes": draw(st.just(math.inf) | st.just(0.0) | seconds())} if kind is SlowStart else {}
        return made(kind, path, **spell)
    when = draw(st.sampled_from(("at", "every", "after")))
    fields: dict[str, object] = {"at": begin or 0.0}
    if when != "at":
        fields = {"at": begin, "until": until, "times": draw(st.none() | st.integers(1, 10**9)), when: draw(seconds())}
        fields["about"] = draw(st.booleans())
    if kind is Hang:
        fields["lasts"] = draw(st.just(math.inf) | seconds())
    if kind is Crash:
        fields["phase"] = draw(st.sampled_from(PHASES))
        fields["cause"] = cause = draw(st.sampled_from(CRASH_CAUSES))
        fields |= (
            {"exception": draw(st.sampled_from(("RuntimeError", "Odd", "a.b.Odd")))} if cause == "exception" else {}
        )
        fields |= {"exit_code": draw(st.integers(1, 255))} if cause == "exit" else {}
        fields |= {"signal": draw(st.sampled_from(("SIGKILL", "SIGTERM", "SIGUSR1")))} if cause == "signal" else {}
    return made(kind, path, **fields)


@pytest.mark.slow
@settings(max_examples=500)
@given(any_fault())
def test_every_fault_can_be_written_as_a_line_and_read_again(fault: Fault) -> None:
    assert parse_fault(line_of(fault)) == fault


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "must be a line such as 'worker: crash every 7s'"),
        ("  ", "must be a line such as"),
        ("worker crash every 7s", "a colon must follow the path"),
        (": crash every 7s", "the path is missing; / is the whole tree"),
        ("worker:", "what happens is missing"),
        ("worker: crush every 7s", "'crush': must be one of crash, run out of memory, .*did you mean 'crash'"),
        ("worker: slow strat 5s", "did you mean 'slow start'"),
        ("worker: crash", "when is missing: 'at 10s', 'every 7s' or '5s after ready'"),
        ("worker: crash evry 7s", r"'evry': crash goes with at, every, .*did you mean 'every'"),
        ("worker: crash every 7x", "'7x': must be a duration, such as 7s, 250ms, 20m, 24h, 2d or 1h30m"),
        ("worker: crash every -7s", "'-7s': must be a duration"),
        ("worker: crash every forever", "'forever': must be a duration"),
        (f"worker: crash every {'9' * 400}s", "must be a duration"),
        ("worker: crash every", "a duration must follow 'every'"),
        ("worker: crash every 0s", "every=0.0: must be a finite number of seconds, above 0"),
        ("worker: crash 7s", "'7s': must follow at, every, from or to"),
        ("worker: crash at 10s every 7s", "'at 10s' and 'every 7s': only one of them"),
        ("worker: crash every 7s 5s after ready", "'every 7s' and '5s after ready': only one of them"),
        ("worker: crash every 7s every 8s", "'every': a second time, after 'every 7s'"),
        ("worker: crash every 7s from 10s to 5s", "'to 5s': must be later than 'from 10s'"),
        ("worker: down from 10s to 10s", "'to 10s': must be later than 'from 10s'"),
        ("worker: crash every 7s to 0s", "'to 0s': must be later than 'from 0s'"),
        ("worker: crash at 10s to 20s", "'to 20s': does not go with 'at 10s'"),
        ("worker: crash 5 times at 10s", "'5 times': does not go with 'at 10s'"),
        ("worker: down at 10s", "'at': down goes with from, to"),
        ("worker: crash 5 tmes every 7s", "'5': .*did you mean 'times'"),
        ("worker: crash 1.5 times every 7s", "'1.5': must be a whole number of times"),
        ("worker: crash 0 times every 7s", "times=0: must be a whole number, 1 or more"),
        ("worker: crash 5s after redy", "'redy': must be 'ready' .did you mean 'ready'"),
        ("worker: crash with", "'exit code 78', a signal or an exception must follow 'with'"),
        ("worker: crash with exit 78 at 1s", "'78': must be 'code'"),
        ("worker: crash with exit code x at 1s", "'x': must be an exit code, 1 to 255"),
        ("worker: crash with exit code 256 at 1s", "exit_code=256: must be at most 255"),
        ("worker: crash with valueerror at 1s", "exception='valueerror': there is no such builtin exception"),
        ("worker: crash with odd at 1s", "exception='odd': must be the name of a class"),
        ("worker: crash with SIGFOO at 1s", "signal='SIGFOO': must be the name of a signal"),
        ("worker: crash with SIGSEVG at 1s", r"\(did you mean 'SIGSEGV'\?\)"),
        ("worker: crash with ValueErorr at 1s", r"\(did you mean 'ValueError'\?\)"),
        ("worker: crash with SIGkill at 1s", "signal='SIGkill': must be the name of a signal"),
        ("worker: crash in setpu at 1s", "'setpu': must be 'setup' or 'execute' or 'teardown' .did you mean 'setup'"),
        ("worker: lost with SIGKILL at 5s", "'with': lost goes with"),
        ("worker: hang at 5s for 0s", "lasts=0.0: must be a finite number of seconds, above 0"),
        ("worker: slow start", "how long it takes is missing"),
        ("wor ker: crash at 1s", "path='wor ker': must be names with slashes between them"),
        ("a//b: crash at 1s", "path='a//b': must be names with slashes between them"),
        ("/a: crash at 1s", "path='/a': must be names with slashes between them"),
    ],
)
def test_a_line_that_is_wrong_is_one_error_with_the_line_the_reason_and_an_example(line: str, why: str) -> None:
    with pytest.raises(SpecError, match=why) as caught:
        parse_fault(line)
    said = str(caught.value)
    assert said.startswith(f"fault {line!r}: ")
    assert "\n" not in said
    if line.strip():
        example = said.rpartition("right is, for example, ")[2].strip("'")
        assert parse_fault(example).path == "worker"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (": crash at 1s", "the path is missing; / is the whole tree; right is, for example, 'worker: crash every 7s'"),
        ("worker: ", "what happens is missing; right is, for example, 'worker: crash every 7s'"),
        (
            "worker: down: from 1s",
            "'down:': must be one of crash, run out of memory, lost, hang, complete, down, slow start, ignore stop "
            "(did you mean 'down'?); right is, for example, 'worker: crash every 7s'",
        ),
        (
            "worker: crash with KILL at 1s",
            "exception='KILL': must be the name of a class (did you mean 'SIGKILL'?); "
            "right is, for example, 'worker: crash every 7s'",
        ),
        (
            "worker: crash with",
            "'exit code 78', a signal or an exception must follow 'with'; "
            "right is, for example, 'worker: crash every 7s'",
        ),
        (
            "worker: crash with exit code",
            "a number must follow 'exit code'; right is, for example, 'worker: crash every 7s'",
        ),
        (
            "worker: slow start",
            "how long it takes is missing; right is, for example, 'worker: slow start 20s from 0s to 10m'",
        ),
        (
            "worker: hang",
            "when is missing: 'at 10s', 'every 7s' or '5s after ready'; "
            "right is, for example, 'worker: hang every 10m for 20s'",
        ),
        ("worker: complete 5s after", "'ready' is missing; right is, for example, 'worker: complete 5s after ready'"),
        (
            "worker: lost about at 10s",
            "'about': does not go with 'at 10s'; right is, for example, 'worker: lost at 5s'",
        ),
        (
            "worker: complete 5s aftr ready",
            "'5s': must follow at, every, from or to, or stand before 'times' or 'after ready' "
            "(did you mean 'after'?); right is, for example, 'worker: complete 5s after ready'",
        ),
        (
            "worker: complete 5s",
            "'5s': must follow at, every, from or to, or stand before 'times' or 'after ready'; "
            "right is, for example, 'worker: complete 5s after ready'",
        ),
    ],
)
def test_an_error_ends_with_an_example_of_what_the_line_is_about(line: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_fault(line)
    assert str(caught.value) == f"fault {line!r}: {said}"


def test_a_class_of_ones_own_may_be_called_as_a_builtin_one_is() -> None:
    assert parse_fault("worker: crash with e.ValueError at 1s") == Crash("worker", exception="e.ValueError", at=1.0)


def made_of(value: object) -> Any:
    """Return what a type checker would refuse."""
    return value


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Down("w", at=-1.0), "at=-1.0: must be a finite number of seconds, 0 or more"),
        (lambda: Down("w", at=10.0, until=10.0), "until=10.0: must be later than at=10.0"),
        (lambda: SlowStart("w", takes=-1.0), "takes=-1.0: must be a finite number of seconds, 0 or more"),
        (lambda: Hang("w", at=1.0, lasts=0.0), "lasts=0.0: must be a finite number of seconds, above 0"),
        (lambda: Crash("w", every=0.0), "every=0.0: must be a finite number of seconds, above 0"),
        (lambda: Crash("w", at=-1.0), "at=-1.0: must be a finite number of seconds, 0 or more"),
        (lambda: Crash("w", after=-1.0), "after=-1.0: must be a finite number of seconds, 0 or more"),
        (lambda: Crash("w", every=1.0, times=0), "times=0: must be a whole number, 1 or more"),
        (lambda: Crash("w", every=1.0, about=made_of(1)), "about=1: must be True or False"),
        (lambda: Crash("w", every=1.0, until=0.0), "until=0.0: must be a finite number of seconds, above 0"),
        (lambda: Crash("w", every=1.0, at=5.0, until=5.0), "until=5.0: must be later than at=5.0"),
        (lambda: Crash("w", every=1.0, after=2.0), "after=2.0, every=1.0: only one of them"),
        (lambda: Crash("w"), "Crash('w'): say when: at, every or after"),
        (lambda: Complete("w"), "Complete('w'): say when: at, every or after"),
        (lambda: Crash("w", at=1.0, about=True), "times, about and until need every or after"),
        (lambda: Crash("w", at=1.0, times=2), "times, about and until need every or after"),
        (lambda: Crash("w", at=1.0, until=9.0), "times, about and until need every or after"),
        (
            lambda: Crash("w", at=1.0, cause=made_of("exitt")),
            "cause='exitt': must be one of exception, exit, signal, oom, lost (did you mean 'exit'?)",
        ),
        (
            lambda: Crash("w", at=1.0, phase=made_of("set-up")),
            "phase='set-up': must be one of setup, execute, teardown (did you mean 'setup'?)",
        ),
        (lambda: Crash("w", at=1.0, exit_code=3), "exit_code=3: needs cause='exit', not 'exception'"),
        (lambda: Crash("w", at=1.0, cause="exit", exit_code=0), "exit_code=0: must be a whole number, 1 or more"),
        (
            lambda: Crash("w", at=1.0, cause="lost", exception="ValueError"),
            "exception='ValueError': needs cause='exception', not 'lost'",
        ),
        (lambda: Crash("w", at=1.0, signal="SIGTERM"), "signal='SIGTERM': needs cause='signal', not 'exception'"),
        (
            lambda: Crash("w", at=1.0, exception=made_of(ValueError)),
            "exception=<class 'ValueError'>: must be the name of a class, such as 'ValueError'",
        ),
        (
            lambda: Crash("w", at=1.0, cause="signal", signal=made_of(9)),
            "signal=9: must be the name of a signal, such as 'SIGSEGV'",
        ),
        (lambda: Down(made_of(None)), "path=None: must be a string such as 'ingest/collector'"),
        (
            lambda: Down("a/"),
            "path='a/': must be names with slashes between them, such as 'ingest/collector'",
        ),
    ],
)
def test_a_wrong_field_is_said_by_its_name(make: Callable[[], Fault], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value) == said


def test_what_is_no_text_is_an_error() -> None:
    with pytest.raises(SpecError, match="fault 5: must be a line"):
        parse_fault(5)  # type: ignore[arg-type]


WORDS = ("worker:", "crash", "down", "every", "7s", "at", "from", "to", "in", "with", "5", "times", "after", "ready")


@pytest.mark.slow
@settings(max_examples=500)
@given(st.lists(st.sampled_from(WORDS)))
def test_whatever_is_written_is_a_fault_or_an_error_that_says_why(words: list[str]) -> None:
    line = " ".join(words)
    try:
        fault = parse_fault(line)
    except SpecError as error:
        assert repr(line) in str(error)  # noqa: PT017 - either is right
    else:
        assert parse_fault(line_of(fault)) == fault


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("7s", 7.0),
        ("250ms", 0.25),
        ("20m", 1200.0),
        ("24h", 86400.0),
        ("2d", 172800.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("1m500ms", 60.5),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "7 s", "7x", "-1s", "+1s", "1e3", "inf", "nan", "1h30", "٣s", "9" * 400])
def test_what_is_no_duration_is_an_error(text: str) -> None:
    with pytest.raises(SpecError, match="must be a duration, such as 7s"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (0.0005, "0.0005s"),
        (7, "7s"),
        (2.5, "2.5s"),
        (60.0, "1m"),
        (5400.0, "1h30m"),
        (86400.0, "1d"),
        (90061.0, "1d1h1m1s"),
        (2.0**55 + 8, "36028797018963976s"),
        (math.inf, "forever"),
    ],
)
def test_seconds_are_said_as_a_person_would(seconds: float, text: str) -> None:
    assert in_words(seconds) == text


@pytest.mark.slow
@settings(max_examples=500)
@given(st.floats(0, allow_infinity=False, allow_nan=False) | st.integers(0, 10**9).map(lambda ms: ms / 1000))
def test_seconds_that_were_said_can_be_read_exactly(seconds: float) -> None:
    assert parse_seconds(in_words(seconds)) == seconds
