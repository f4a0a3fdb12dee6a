"""An explanation as text for people. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from orchestree.supervisor.phrases import at_the_soonest, counted, listed, ordinal, printable, short_duration

from .forecast_text import delays_in_words, end_in_words

if TYPE_CHECKING:
    from orchestree.supervisor.simulation.explained.answers import Forecast, Restarts
    from orchestree.supervisor.simulation.explained.explanation import (
        AgentExplained,
        Explanation,
        SupervisorExplained,
        Touched,
    )
    from orchestree.supervisor.simulation.explained.lints import Warned
    from orchestree.supervisor.simulation.explained.policy_words import PolicyWords
    from orchestree.supervisor.simulation.explained.shared_failures import Shared

_T = TypeVar("_T")

WIDTH: Final = 100
"""Longer lines are hard to read, however wide a terminal is."""
LEAST_WIDTH: Final = 40
_INDENT: Final = " " * 12
_NAMED: Final = 3
"""More agents than that in one block are named by the first and the last."""


def explanation_lines(explanation: Explanation, width: int = WIDTH) -> Iterator[str]:
    """Yield the lines: the warnings, then the supervisors, then the agents; those that are alike stand together.

    Args:
        explanation: what is told.
        width: characters of a line, 40 or more; titles may be longer.
    """
    for line in _lines(explanation):
        yield from _wrapped(line, max(width, LEAST_WIDTH))


def _lines(explanation: Explanation) -> Iterator[str]:
    agents, supervisors = len(explanation.agents), len(explanation.supervisors)
    kinds = [counted(agents, "agent"), counted(supervisors, "supervisor")]
    of_what = ", ".join(kinds) if supervisors else explanation.path
    yield f"{explanation.run_mode.value} tree: {of_what}; {counted(len(explanation.warnings), 'warning')}"
    if explanation.strict_start:
        yield "strict_start: a first start that fails ends the tree; what follows is about later failures"
    for same in _alike(explanation.warnings, lambda one: (one.name, one.problem, one.advice, _parent(one.path))):
        yield from ("", *_warning(same))
    for similar in _alike(explanation.supervisors, lambda one: (_parent(one.path), *_supervisor(one))):
        yield from (
            "",
            f"{_together([one.path for one in similar])}: {_children(similar[0])}",
            *_supervisor(similar[0]),
        )
    for alike in _alike(explanation.agents, _kind):
        yield from ("", *_agents(alike))


def _alike(things: Iterable[_T], kind: Callable[[_T], Hashable]) -> list[list[_T]]:
    """Return the things, those of one kind together, in the order of the first of each kind."""
    found: dict[Hashable, list[_T]] = {}
    for thing in things:
        found.setdefault(kind(thing), []).append(thing)
    return list(found.values())


def _kind(agent: AgentExplained) -> Hashable:
    """Return what agents have in common that are shown together: all that is shown of them."""
    touched = "all" if agent.touched.all_siblings else agent.touched.stopped
    forecasts = [tuple(_row(one, False)) for one in (agent.fails, agent.fails_in_setup) if one is not None]
    asked_for = (_parent(agent.path), agent.executor, agent.depends_on, agent.policy, agent.restarts)
    return (*asked_for, *forecasts, touched, agent.touched.waiting)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _shown(path: str) -> str:
    return path or "/"


def _together(paths: Sequence[str]) -> str:
    if len(paths) <= _NAMED:
        return ", ".join(map(_shown, paths))
    return f"{paths[0]} ... {paths[-1]} ({len(paths)})"


def _line(head: str, text: str) -> str:
    """Return one row, however long: what it is about, and beside it the text."""
    return f"  {head}".ljust(len(_INDENT)) + printable(text)


def _wrapped(line: str, width: int) -> list[str]:
    """Return a row as many lines, whose text stands below each other; titles stay as they are."""
    head, text = line[: len(_INDENT)], line[len(_INDENT) :]
    if not head.startswith("  "):
        return [line]
    return textwrap.wrap(text, width, initial_indent=head, subsequent_indent=_INDENT, break_on_hyphens=False)


def _warning(same: Sequence[Warned]) -> Iterator[str]:
    yield f"warning: {same[0].name}: {_together([one.path for one in same])}"
    yield _line("problem", same[0].problem)
    yield _line("advice", same[0].advice)


def _children(one: SupervisorExplained) -> str:
    if one.dynamic:
        return "dynamic supervisor, its children come when the tree runs: nothing can be said of them"
    children = f"{one.children} children" if one.children != 1 else "1 child"
    return f"supervisor of {children if one.children else 'nobody'}"


def _supervisor(one: SupervisorExplained) -> Iterator[str]:
    """Yield all rows but the head."""
    yield from _policy(one.policy)
    if one.all_fail is not None and one.all_stay_down is not None:
        drawn = ", with the delays that were drawn here" if one.is_sample else ""
        yield _line("one fails", f"again and again, in whatever rhythm: {_ended_by(one)}{drawn}")
        at_once = f"once, at one moment: {_ended(one.all_fail)}; at each start after it: {_ended(one.all_stay_down)}"
        yield _line("all fail", at_once)
    if one.gives_up is None:
        yield _line("gives up", "then the tree has ended, with exit code 70")
    else:
        yield _line("gives up", "again and again, each time as soon as it is ready:")
        yield from _row(one.gives_up, one.policy.has_stop)
        yield from _restarts(one.restarts)
        yield from _touched(one.touched)


def _ended_by(one: SupervisorExplained) -> str:
    alone = f"{_names(one.ended_by) or 'no child'} can end it alone"
    if not one.may_be_ended_by:
        return alone
    perhaps = f"{_names(one.may_be_ended_by)} may end it alone, as so many restarts were not tried out"
    return f"{alone}; {perhaps}" if one.ended_by else perhaps


def _names(paths: tuple[str, ...]) -> str:
    return listed(tuple(path.rpartition("/")[2] for path in paths))


def _ended(shared: Shared) -> str:
    if shared.ends_after_s is None:
        return f"it goes on, for {short_duration(shared.watched_s)} at least" if shared.watched_s else "it goes on"
    with_it = ", and the tree with it" if shared.tree_ends else ""
    return f"it ends by the {ordinal(shared.failures)} failure, after {at_the_soonest(shared.ends_after_s)}{with_it}"


def _agents(alike: Sequence[AgentExplained]) -> Iterator[str]:
    one = alike[0]
    after = f", after {listed(one.depends_on)}" if one.depends_on else ""
    yield f"{_together([agent.path for agent in alike])}: {one.executor}{after}"
    yield from _policy(one.policy)
    yield from _row(one.fails, one.policy.has_stop)
    if one.fails_in_setup is not None:
        yield _line("in setup", "failing there is another matter:")
        yield from _row(one.fails_in_setup, one.policy.has_stop)
    yield from _restarts(one.restarts)
    yield from _touched(one.touched)


def _policy(policy: PolicyWords) -> Iterator[str]:
    stop = policy.shutdown
    told = [
        *filter(None, (policy.restart, policy.strategy, policy.window)),
        *([f"auto_shutdown {policy.auto_shutdown}"] if policy.auto_shutdown else []),
        *(["significant"] if policy.significant else []),
        *([f"start within {policy.start_timeout}"] if policy.start_timeout else []),
        f"stop {stop}" if stop[0].isalpha() else f"stop within {stop}",
        *([f"watchdog {policy.watchdog}"] if policy.watchdog else []),
    ]
    yield _line("policy", "; ".join(told))
    if policy.rules:
        yield _line("rules", "; ".join(policy.rules))
    if policy.backoff:
        yield _line("backoff", policy.backoff)


def _row(forecast: Forecast, has_stop: bool) -> Iterator[str]:
    """Yield the delays, and the end of them."""
    if forecast.longest.is_sample or forecast.shortest.is_sample:
        yield _line("samples", "its policy draws by itself: delays, times and counts are others each time")
    if delays := delays_in_words(forecast):
        yield _line("delays", delays)
    yield _line("ends", end_in_words(forecast, has_stop=has_stop))


def _restarts(restarts: Restarts | None) -> Iterator[str]:
    if restarts is None or not restarts.most:
        return
    if restarts.is_bound:
        told = f"at most {restarts.most:,} a minute by its own failures, in whatever rhythm"
    else:
        told = f"{restarts.most:,} a minute, of what was tried; there may be more"
    yield _line("restarts", told)


def _touched(touched: Touched) -> Iterator[str]:
    told = []
    if touched.all_siblings:
        many = len(touched.stopped)
        told.append(f"stops all {many} siblings" if many > 1 else f"stops {touched.stopped[0]}, its only sibling")
    elif touched.stopped:
        order = ", in this order" if len(touched.stopped) > 1 else ""
        told.append(f"stops {listed(touched.stopped)}{order}")
    else:
        told.append("stops nobody else")
    if touched.waiting:
        told.append(f"cannot start while it is down: {listed(touched.waiting)}")
    yield _line("a failure", "; ".join(told))
