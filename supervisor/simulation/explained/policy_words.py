"""The policy of an agent or a supervisor in words, as it was asked for. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final

from orchestree.strategies.backoff import DEFAULT_WAIT, Backoff
from orchestree.strategies.restart import AutoShutdown, Restart
from orchestree.strategies.rules import Rule
from orchestree.supervisor.phrases import short_duration
from orchestree.supervisor.spec import AgentEntry, ShutdownTime, SupervisorEntry

_RESTART: Final = MappingProxyType(
    {
        Restart.PERMANENT: "permanent: comes back after every end",
        Restart.TRANSIENT: "transient: comes back after a failure",
        Restart.TEMPORARY: "temporary: never comes back",
    }
)
_ACTION: Final = MappingProxyType({"restart": "restarts", "park": "parks", "escalate": "ends its supervisor"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyWords:
    """What holds for one child, in words; None where there is nothing of that kind.

    Attributes:
        restart: its restart type.
        strategy: who goes along when it crashes; of a supervisor: when a child of it does.
        backoff: how long it waits, and when it is given up on.
        has_stop: whether it is ever.
        rules: what comes before that.
        shutdown: what a stop may take.
        start_timeout: what a start may take.
        watchdog: after how long without progress it is hung.
        window: of a supervisor: how many restarts of its children it stands.
        auto_shutdown: of a supervisor: whether the end of significant children ends it.
        significant: whether its end may end its supervisor.
    """

    restart: str | None
    strategy: str
    backoff: str | None
    rules: tuple[str, ...]
    shutdown: str
    start_timeout: str | None = None
    watchdog: str | None = None
    window: str | None = None
    auto_shutdown: str | None = None
    significant: bool = False
    has_stop: bool = False


def words_for_agent(entry: AgentEntry, parent: SupervisorEntry, backoff: Backoff | None) -> PolicyWords:
    """Return the policy of an agent below `parent`; `backoff` is the one that holds for it."""
    own = entry.strategy is not None and entry.strategy is not parent.strategy
    return PolicyWords(
        restart=_RESTART[entry.restart],
        strategy=(entry.strategy or parent.strategy).value + (" (its own)" if own else ""),
        backoff=_backoff(backoff),
        has_stop=backoff is not None and backoff.stop is not None,
        rules=_rules(backoff),
        shutdown=_shutdown(entry.shutdown),
        start_timeout=None if entry.start_timeout is None else short_duration(entry.start_timeout),
        watchdog=None if entry.watchdog is None else short_duration(entry.watchdog),
        significant=entry.significant,
    )


def words_for_supervisor(entry: SupervisorEntry, backoff: Backoff | None, *, is_root: bool) -> PolicyWords:
    """Return the policy of a supervisor; the root has no restart type and no backoff, as nobody restarts it."""
    return PolicyWords(
        restart=None if is_root else _RESTART[entry.restart],
        strategy=entry.strategy.value,
        backoff=None if is_root else _backoff(backoff),
        has_stop=not is_root and backoff is not None and backoff.stop is not None,
        rules=() if is_root else _rules(backoff),
        shutdown=_shutdown(entry.shutdown),
        window=f"at most {entry.max_restarts} restarts in {short_duration(entry.max_seconds)}",
        auto_shutdown=None if entry.auto_shutdown is AutoShutdown.NEVER else entry.auto_shutdown.value,
        significant=entry.significant,
    )


def _shutdown(time: ShutdownTime) -> str:
    said = {"brutal_kill": "by a kill at once", "infinity": "without a limit"}.get(str(time))
    return said or short_duration(float(time))


def _backoff(backoff: Backoff | None) -> str:
    if backoff is None:
        return "none: at once, always"
    wait = "at once, then from 0.25s doubled up to 30s" if backoff.wait is DEFAULT_WAIT else _named(backoff.wait)
    jitter = f", up to {backoff.jitter:.0%} shorter" if backoff.jitter else ""
    gives_up = f", given up on ({backoff.on_give_up}) by {_named(backoff.stop)}" if backoff.stop else ""
    return f"{wait}{jitter}; anew after {short_duration(backoff.stable_after)} ready{gives_up}"


def _named(policy: Callable[..., object]) -> str:
    """Return the name of a policy with the numbers that it was made with, as `Backoff` itself shows it."""
    return str(Backoff(wait=policy)).removeprefix("Backoff(wait=").removesuffix(")")  # type: ignore[arg-type]


def _rules(backoff: Backoff | None) -> tuple[str, ...]:
    return tuple(map(_rule, backoff.rules)) if backoff is not None else ()


def _rule(rule: Rule) -> str:
    told = []
    for field in fields(rule):
        value = getattr(rule, field.name)
        if field.name != "action" and value is not None:
            shown = value.__qualname__ if isinstance(value, type) else value
            told.append(f"{field.name.replace('_', ' ')} {shown}")
    return f"{', '.join(told) or 'anything'}: {_ACTION[rule.action]}"
