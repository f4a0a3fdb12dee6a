"""How the failures of one child go on and end, in words. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from orchestree.agents.ends import Cause
from orchestree.supervisor.phrases import in_a_row, ordinal, short_duration
from orchestree.supervisor.simulation.explained.courses import SHOWN_DELAYS

if TYPE_CHECKING:
    from orchestree.supervisor.simulation.explained.answers import Forecast
    from orchestree.supervisor.simulation.explained.courses import Consequence, Course


def delays_in_words(forecast: Forecast) -> str:
    """Return the seconds before the next restarts, ranges where jitter makes them; empty if there is none."""
    longest, shortest = forecast.longest, forecast.shortest
    shown = []
    for place in range(max(len(longest.delays_s), len(shortest.delays_s))):
        found = [course.delays_s[place] for course in (shortest, longest) if place < len(course.delays_s)]
        shown.append(_range(min(found), max(found)))
    more = len(longest.delays_s) == SHOWN_DELAYS and longest.largest_delay_s > longest.delays_s[-1]
    return ", ".join(shown) + (f" ... up to {short_duration(longest.largest_delay_s)}" if more else "")


def _range(least: float, most: float) -> str:
    low, high = short_duration(least), short_duration(most)
    if low == high:
        return high
    return f"{low.removesuffix('s')}-{high}" if most < 60 else f"{low} to {high}"


def end_in_words(forecast: Forecast, *, has_stop: bool) -> str:
    """Return by which failure it is given up on, or ends a supervisor; `has_stop`: its policy may give up on it."""
    longest, shortest = forecast.longest, forecast.shortest
    if _shape(longest) == _shape(shortest):
        return _told((longest, shortest), has_stop)
    return f"with the longest delays {_told((longest,), has_stop)}; with the shortest {_told((shortest,), has_stop)}"


def _shape(course: Course) -> Hashable:
    """Return what two courses have in common of which one sentence can tell: all but the seconds."""
    moment, falls = _moment(course), course.tree_ends
    return moment and (moment.path, moment.failure, moment.why, falls and falls.failure)


def _moment(course: Course) -> Consequence | None:
    """Return what comes first: that it is parked, or that a supervisor ends because of it."""
    found = [moment for moment in (course.parked, course.supervisor_ends) if moment is not None]
    return min(found, key=lambda moment: moment.failure, default=None)


def _told(courses: Sequence[Course], has_stop: bool) -> str:
    """Return how courses of one shape end."""
    course = courses[0]
    if (moment := _moment(course)) is None:
        return _without_end(course, has_stop)
    if moment == course.parked:
        return _parked(courses, moment)
    told = f"supervisor {moment.path or '/'} ends by the {_when(map(_moment, courses), ' failure')} ({_why(moment)})"
    if not moment.path:
        return f"{told}, and with it the tree"
    if course.tree_ends is not None:
        return f"{told}; the tree by the {_when(one.tree_ends for one in courses)}"
    return f"{told}; comes back with it, again and again" if course.goes_on else f"{told}; in the end it stays down"


def _without_end(course: Course, has_stop: bool) -> str:
    if course.not_restarted:
        return "by its first failure: it does not come back"
    still = f"still restarted after {in_a_row(course.failures)}, {short_duration(course.lasted_s)}"
    return still if has_stop else f"never parks, as there is no `stop`: {still}"


def _parked(courses: Sequence[Course], moment: Consequence) -> str:
    own_words = "" if moment.why.startswith("failed") or not moment.why else f": {moment.why}"
    ends = courses[0].supervisor_ends
    with_it = f"; with it supervisor {ends.path or '/'} ends ({_why(ends)})" if ends else ""
    return f"parked by the {_when(map(_moment, courses), ' failure')}{own_words}{with_it}"


def _when(moments: Iterable[Consequence | None], of_what: str = "") -> str:
    """Return, say, ``4th failure, 0.56-0.75s after the first`` for moments that are the same but for the seconds."""
    [first, *others] = filter(None, moments)
    after_s = [moment.after_s for moment in (first, *others)]
    after = f", {_range(min(after_s), max(after_s))} after the first" if first.failure > 1 else ""
    return f"{ordinal(first.failure)}{of_what}{after}"


def _why(end: Consequence) -> str:
    return "auto_shutdown" if end.why == Cause.SHUTDOWN else end.why
