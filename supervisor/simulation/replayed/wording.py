"""A decision about an ended child in plain words: what it was made from, and what it was. Pure."""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import Final

from orchestree.strategies.rules import Rule
from orchestree.supervisor.events import Command, Event, RestartCause, StopCause
from orchestree.supervisor.phrases import counted, duration, listed

from .decisions import EndDecided

_TYPES: Final = MappingProxyType(
    {
        "permanent": "it comes back after every end",
        "transient": "it comes back after an abnormal end",
        "temporary": "it never comes back",
    }
)

PLANNED: Final = MappingProxyType(
    {
        RestartCause.MEMORY: "its restart was planned: it used too much memory",
        RestartCause.MAX_AGE: "its restart was planned: it had reached its max_age",
        RestartCause.BLOCKED: "another one blocks its event loop: it goes on on a fresh loop",
    }
)
"""Restarts for which nothing had to be decided."""
GIVEN_UP: Final = MappingProxyType(
    {
        StopCause.START_TIMEOUT: "its start takes longer than its start_timeout",
        StopCause.WATCHDOG: "it makes no progress for longer than its watchdog",
        StopCause.MEMORY: "it uses more memory than its max_memory",
        StopCause.BLOCKED: "another one blocks its event loop",
    }
)
"""Stops of which the cause says all."""


def when(event_time: float, *, virtual: bool) -> str:
    """Return a moment as local time, or as seconds if it is one of a simulation."""
    if virtual:
        shown = f"{event_time:.3f}".rstrip("0").rstrip(".")
        return f"{event_time:g} s" if shown == "-0" else f"{shown} s"
    return datetime.fromtimestamp(event_time).isoformat(sep=" ", timespec="milliseconds")


def decided(decision: EndDecided) -> str:
    """Return what was decided, in one line."""
    match decision.outcome:
        case "restarted":
            after = f"restarted after {duration(decision.delay)}" if decision.delay else "restarted at once"
            group = f", together with {listed(decision.group)}" if decision.group else ""
            return f"{after}{group}"
        case "parked":
            return f"parked: {decision.why}" if decision.why else "parked: its backoff gives up"
        case "escalated":
            return f"its supervisor {decision.inputs.supervisor or '/'} ended ({decision.why})"
        case "finished":
            if decision.why:
                return f"not restarted: {decision.why}"
            return f"not restarted, as its restart type is {decision.inputs.restart}"


def ended(decision: EndDecided) -> str:
    """Return how the child ended, in one line."""
    if decision.report is not None:
        return decision.report.message
    if decision.offender is None:
        return str(decision.reason)
    cause = decision.reason.cause
    return f"{f'gave up ({cause})' if cause is not None else decision.reason} because of {decision.offender}"


def made_from(decision: EndDecided, *, virtual: bool) -> list[str]:
    """Return what a decision was made from, and what it was, a line each."""
    given = decision.inputs
    ready = "before it was ready" if given.ready_s is None else f"after {duration(given.ready_s)} of being ready"
    cause = f" ({decision.reason})" if decision.report is not None else ""
    before = "none before this one" if not given.failures else f"{given.failures} before this one"
    since = ""
    if given.failing_since is not None:
        since = f", the first {duration(decision.monotonic - given.failing_since)} earlier"
    drawn = given.jitter is not None and decision.draw is not None
    draw = f" (jitter {given.jitter:g}, drawn {decision.draw:.3f})" if drawn else ""
    window = f"{counted(given.restarts, 'restart')} within {duration(given.max_seconds)} before this one"
    where = f"{when(decision.time, virtual=virtual)}, event {decision.number}, incarnation {decision.incarnation}"
    return [
        f"{decision.path} ended at {where}, {ready}: {ended(decision)}{cause}",
        f"restart type: {given.restart}, {_TYPES[given.restart]}; strategy: {given.strategy}",
        f"failures in a row: {before}{since}; forgotten after {duration(given.stable_after)} of being ready",
        _policy(decision),
        f"window of {given.supervisor or '/'}: {window}, at most {given.max_restarts}",
        f"decided: {decided(decision)}{draw}",
    ]


def _policy(decision: EndDecided) -> str:
    given = decision.inputs
    if given.backoff is None:
        return "backoff: none, it restarts at once, always"
    unknown = f" (not known: {', '.join(given.not_said)})" if given.not_said else ""
    if decision.report is None:
        rule = ""
    else:
        rule = "; its rules are not known" if given.rules is None else _rule(decision.rule)
    return f"backoff: {given.backoff}{unknown}{rule}"


def _rule(rule: Rule | None) -> str:
    if rule is None:
        return "; no rule fits"
    fields = ("cause", "exception", "exit_code", "signal", "phase")
    shown = ", ".join(f"{name}={getattr(rule, name)!r}" for name in fields if getattr(rule, name) is not None)
    return f"; the rule for {shown or 'every crash'} says {rule.action}"


def worded(event: Event) -> str:
    """Return what a command asked for, and who did."""
    data = event.data
    assert isinstance(data, Command)
    if data.token is not None:
        who = f"token {data.token}"
    elif data.uid is not None:
        who = f"uid {data.uid} (pid {data.pid})"
    else:
        who = "the program itself"
    return f"{data.name} {event.path or '/'}, by {who}"
