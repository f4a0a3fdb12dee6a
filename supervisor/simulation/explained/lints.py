"""What looks like a mistake in the numbers of a tree, although no rule is broken. Pure.

Each finding is what a simulation shows; of the numbers themselves only those are compared that have one meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Final

from orchestree.agents.base import BaseAgent
from orchestree.agents.ends import Cause
from orchestree.strategies.restart import Restart
from orchestree.supervisor.core_settings import Settings
from orchestree.supervisor.entry_fields import has_rounds
from orchestree.supervisor.phrases import at_the_soonest, in_a_row, listed, ordinal, short_duration
from orchestree.supervisor.spec import AgentEntry, SupervisorEntry
from orchestree.supervisor.states import RunMode

from .answers import Exhausted
from .courses import Course
from .parts import LONGEST, SHORTEST
from .places import backoff_of
from .probing import Prober
from .shared_failures import restarts_at_once

EndsAtOnce = Callable[[type[BaseAgent]], bool]
"""Whether the code of an agent visibly returns without ever waiting."""

_ROUNDING: Final = 1 + 1e-9  # sums of seconds
_MOST_OF_ERROR: Final = 160
"""Characters of an exception that are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something that looks like a mistake.

    Attributes:
        name: stable, in kebab-case.
        path: of the agent or supervisor.
        problem: one line: what is wrong with the numbers.
        advice: one line: what to do.
    """

    name: str
    path: str
    problem: str
    advice: str


def warnings_of(
    prober: Prober, settings: Settings, paths: Sequence[str], ends_at_once: EndsAtOnce
) -> tuple[Warned, ...]:
    """Return what looks like a mistake about those at `paths`, in their order."""
    found: list[Warned] = []
    windows = _exhaustible_windows(prober, paths)
    for path in paths:
        match prober.entries[path]:
            case SupervisorEntry() as entry:
                found += windows.pop(path, ())
                found += _shared_failure(prober, path, entry)
                found += _shutdown_of_children(prober, path, entry)
                found += _raising_backoff(prober, path) if path else ()
            case AgentEntry() as entry:
                if settings.run_mode is RunMode.STOP_ON_EMPTY:
                    found += _unreachable_give_up(prober, path, entry, settings)
                found += _short_stable_after(prober, path, entry, settings)
                if entry.restart is Restart.PERMANENT and not has_rounds(entry.agent) and ends_at_once(entry.agent):
                    found += _ends_at_once(prober, path)
                found += _raising_backoff(prober, path)
    return (*(one for several in windows.values() for one in several), *found)


def _exhaustible_windows(prober: Prober, paths: Iterable[str]) -> dict[str, tuple[Warned, ...]]:
    """Return a warning for each supervisor that a single one of those at `paths` can end."""
    by_parent: dict[str, list[str]] = {}
    for path in filter(None, paths):
        by_parent.setdefault(path.rpartition("/")[0], []).append(path)
    found: dict[str, tuple[Warned, ...]] = {}
    for parent, children in by_parent.items():
        entry = prober.entries[parent]
        assert isinstance(entry, SupervisorEntry)
        ends = {path: end for path in children if (end := prober.exhausts(path)) is not None}
        if not ends or not entry.max_restarts:  # one that stands no restart at all is meant so
            continue
        soonest = min(ends.values(), key=lambda end: end.after_s)
        names = listed(tuple(path.rpartition("/")[2] for path in ends))
        who = f"{names} (each)" if len(ends) > 1 else names
        when = f"{ordinal(soonest.failure)} failure after {at_the_soonest(soonest.after_s)}"
        problem = f"{who} alone ends it{_rhythm(soonest)}: {when}, {_window(entry)} allowed"
        advice = "a larger max_restarts, a backoff with longer delays or stable_after, or a `stop` that comes first"
        found[parent] = (Warned(name="exhaustible-window", path=parent, problem=problem, advice=advice),)
    return found


def _rhythm(end: Exhausted) -> str:
    if len(end.bursts) == 1:
        return " by failing in setup()" if end.kind == "setup" else ""
    pause, most = short_duration(end.stable_after_s), max(end.bursts)
    if most == 1:
        return f" by failing each {pause} (its stable_after)"
    return f" by failing in bursts of up to {most}, {pause} of being ready (its stable_after) between them"


def _window(entry: SupervisorEntry) -> str:
    return f"{entry.max_restarts} restarts in {short_duration(entry.max_seconds)}"


def _shared_failure(prober: Prober, path: str, entry: SupervisorEntry) -> Iterator[Warned]:
    if not any(isinstance(child, AgentEntry) or child.children for child in entry.children):
        return
    shared = prober.all_fail(path, lasting=False)
    if shared.why == Cause.MAX_RESTARTS and shared.failures > 1:
        restarts = restarts_at_once(prober.parts, path)
        yield Warned(
            name="shared-failure",
            path=path,
            problem=f"{restarts} restarts at one moment, if all below it fail, end it: {_window(entry)} allowed",
            advice=f"max_restarts={restarts} or more, or fewer children below one supervisor",
        )


def _shutdown_of_children(prober: Prober, path: str, entry: SupervisorEntry) -> Iterator[Warned]:
    if isinstance(entry.shutdown, str) or not entry.children:
        return
    needed = prober.parts.stop_time(path)
    if needed <= entry.shutdown * _ROUNDING:
        return
    longer = [child for child in entry.children if child.shutdown == "infinity" or _longer(child.shutdown, entry)]
    if longer:
        what = f"{longer[0].name} may take {_for(longer[0].shutdown)} to stop"
    else:
        what = f"its children, stopped one by one, may take {short_duration(needed)} together"
    yield Warned(
        name="shutdown-longer-than-parents",
        path=path,
        problem=f"{what}, its own shutdown is {short_duration(entry.shutdown)}: what is left then is killed",
        advice=f'shutdown="infinity"{"" if longer else f" or {needed:g}"} here, or less for the children',
    )


def _longer(shutdown: float | str, parent: SupervisorEntry) -> bool:
    return isinstance(shutdown, float) and isinstance(parent.shutdown, float) and shutdown > parent.shutdown


def _for(shutdown: float | str) -> str:
    return "for ever" if isinstance(shutdown, str) else short_duration(shutdown)


def _unreachable_give_up(prober: Prober, path: str, entry: AgentEntry, settings: Settings) -> Iterator[Warned]:
    backoff = backoff_of(entry, settings.backoff)
    uptime, course = 0.0, _that_goes_on(prober, path)
    if course is None and (interval := _interval(entry)):
        uptime, course = interval, prober.course(path, SHORTEST, uptime=interval)
    if course is None or not course.goes_on:
        return
    if backoff is None or backoff.stop is None:
        rhythm = f", if it fails each {short_duration(uptime)} (its interval)" if uptime else ""
        why = f"no `stop`: still restarted after {in_a_row(course.failures)}{rhythm}"
        advice = "a stop in its backoff, such as stop_after_attempt(5)"
    elif backoff.stable_after <= uptime:
        rhythm = f"failing each {short_duration(uptime)} (its interval)" if uptime else "failing at once each time"
        why = f"{rhythm} never adds up: {short_duration(backoff.stable_after)} of being ready starts the count anew"
        advice = f"stable_after above {short_duration(uptime)}"
    else:
        return  # it has a `stop`, which may be reached by more failures than were tried
    yield Warned(
        name="unreachable-give-up",
        path=path,
        problem=f"{why}, so this stop_on_empty tree never ends",
        advice=advice,
    )


def _that_goes_on(prober: Prober, path: str) -> Course | None:
    forecast = prober.forecast(path)
    return next((course for course in (forecast.longest, forecast.shortest) if course.goes_on), None)


def _interval(entry: AgentEntry) -> float | None:
    """Return the seconds that a periodic agent lives at least if it does not fail in its first round."""
    interval = getattr(entry.config, "interval", None)
    return float(interval) if has_rounds(entry.agent) and isinstance(interval, (int, float)) and interval > 0 else None


def _short_stable_after(prober: Prober, path: str, entry: AgentEntry, settings: Settings) -> Iterator[Warned]:
    backoff = backoff_of(entry, settings.backoff)
    if backoff is None:
        return
    in_execute, in_setup = prober.course(path, LONGEST), prober.course(path, LONGEST, "setup")
    largest = max(in_execute.largest_delay_s, in_setup.largest_delay_s)
    if backoff.stable_after < largest:
        yield Warned(
            name="stable-after-below-delay",
            path=path,
            problem=(
                f"waits up to {short_duration(largest)}, but {short_duration(backoff.stable_after)} of being ready "
                "already starts its delays anew"
            ),
            advice=f"a stable_after of {short_duration(largest)} or more, or delays that grow less",
        )


def _raising_backoff(prober: Prober, path: str) -> Iterator[Warned]:
    if (raised := prober.raises(path)) is None:
        return
    is_normal_end = raised.kind == "complete" and isinstance(prober.entries[path], AgentEntry)
    what = "normal end" if is_normal_end else "failure in setup()" if raised.kind == "setup" else "failure"
    when = f"{ordinal(raised.failure)} {what} in a row"
    error = shorten(raised.error, _MOST_OF_ERROR, placeholder=" ...")
    no_report = "; after an end that is no crash, `outcome.exception().failure` is None"
    yield Warned(
        name="backoff-that-raises",
        path=path,
        problem=f"its `wait` or `stop` raises at the {when}, and so it parks: {error}",
        advice="a `wait` that answers with seconds, and a `stop` with true or false, after every failure"
        + (no_report if raised.kind == "complete" else ""),
    )


def _ends_at_once(prober: Prober, path: str) -> Iterator[Warned]:
    course = prober.course(path, SHORTEST, "complete")
    if course.parked is not None:
        what = f"parked by its {ordinal(course.parked.failure)} end"
    elif course.supervisor_ends is not None:
        what = f"its {ordinal(course.supervisor_ends.failure)} end ends its supervisor"
    else:
        what = f"{_most(course)} more starts in a minute, and so on"
    yield Warned(
        name="permanent-agent-that-ends",
        path=path,
        problem=f"its execute() returns at once, and permanent means that it starts again: {what}",
        advice='restart="transient", or a loop in execute() (LoopingAgent, PeriodicAgent)',
    )


def _most(course: Course) -> str:
    most = course.restarts_per_minute
    return f"at least {most:,}" if most >= course.failures - 1 else f"{most:,}"
