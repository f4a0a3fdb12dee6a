"""Checks of single fields of child specifications. Pure; each failure is one `SpecError`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal, TypedDict

from orchestree.agents.agent import LoopingAgent
from orchestree.agents.async_agent import LoopingAsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.strategies import checks
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError, did_you_mean
from orchestree.strategies.restart import AutoShutdown, AutoShutdownName, Restart, RestartName, Strategy, StrategyName


class Inherit(Enum):
    """Type of `INHERIT`."""

    INHERIT = "INHERIT"


INHERIT: Final = Inherit.INHERIT
"""Default of ``backoff``: take the orchestrator's. (None is a policy of its own: at once, always.)"""

BackoffChoice = Backoff | None | Inherit
ShutdownTime = float | Literal["brutal_kill", "infinity"]


class Policy(TypedDict, total=False):
    """What `Orchestrator.reconfigure` can change; those of `AgentEntry` and `SupervisorEntry` together."""

    restart: Restart | RestartName
    strategy: Strategy | StrategyName | None
    backoff: BackoffChoice
    shutdown: ShutdownTime
    start_timeout: float | None
    watchdog: float | None
    max_memory: int | None
    max_age: float | None
    significant: bool
    replace_wedged: bool
    max_restarts: int
    max_seconds: float
    auto_shutdown: AutoShutdown | AutoShutdownName
    max_children: int | None


_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_name(name: object) -> None:
    """Raise `SpecError` unless `name` may name a child."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SpecError(f"name={name!r}: must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")


def check_path(path: object) -> None:
    """Raise `SpecError` unless `path` may be the path of something."""
    if not isinstance(path, str):
        raise SpecError(f"path={path!r}: must be a string such as 'ingest/collector'")


def named_path(name: str) -> str:
    """Return the path that `name` says: ``/`` is the root's, which is ``""``, as on the command line."""
    return "" if name == "/" else name


def agent(value: object) -> None:
    """Raise `SpecError` unless `value` is the class of an agent that can be made."""
    if not (isinstance(value, type) and issubclass(value, BaseAgent)):
        raise SpecError(f"agent={value!r}: must be a subclass of Agent or AsyncAgent")
    if missing := sorted(getattr(value, "__abstractmethods__", ())):
        raise SpecError(f"agent={value.__qualname__}: is abstract; it has to define {', '.join(missing)}")
    for hook in ("setup", "execute", "runner", "on_stop", "teardown"):
        _check_hook(value, hook)


def _check_hook(cls: type[BaseAgent], hook: str) -> None:
    function = getattr(cls, hook, None)
    is_async, wants_async = inspect.iscoroutinefunction(function), "async" in cls.executors
    if is_async and not wants_async:
        raise SpecError(f"agent={cls.__qualname__}: {hook}() is an async def; derive from AsyncAgent")
    # What a decorator has wrapped may well return something to be awaited.
    if wants_async and inspect.isfunction(function) and not is_async and not hasattr(function, "__wrapped__"):
        raise SpecError(f"agent={cls.__qualname__}: {hook}() must be an async def, or derive from Agent")


def params(params: object) -> Mapping[str, object]:
    """Return `params` as a read-only mapping."""
    if params is not None and not isinstance(params, Mapping):
        raise SpecError(f"params={params!r}: must be a mapping")
    return MappingProxyType(dict(params or {}))


def executor(agent: type[BaseAgent], executor: object) -> str:
    """Return the executor that `agent` runs on; None stands for its default."""
    chosen = agent.executor if executor is None else executor
    if chosen not in agent.executors:
        hint = did_you_mean(chosen, agent.executors) if isinstance(chosen, str) else ""
        raise SpecError(f"executor={chosen!r}: {agent.__qualname__} runs on {' or '.join(agent.executors)}{hint}")
    return str(chosen)


def shutdown(value: object) -> ShutdownTime:
    """Return how long a stop may take."""
    if value == "brutal_kill" or value == "infinity":
        return value
    if isinstance(value, str):
        hint = did_you_mean(value, ("brutal_kill", "infinity"))
        raise SpecError(f"shutdown={value!r}: must be seconds, 'brutal_kill' or 'infinity'{hint}")
    try:
        return checks.seconds("shutdown", value)
    except SpecError as error:
        raise SpecError(f"{error}, or 'brutal_kill' or 'infinity'") from None


def time_limit(field: str, value: object) -> float | None:
    """Return `value` as seconds above 0; None stands for no limit."""
    return None if value is None else checks.seconds(field, value, allow_zero=False)


def standby(value: object, executor: str) -> bool:
    """Return whether a second process is to be kept warm."""
    if checks.flag("standby", value) and executor != "process":
        raise SpecError("standby=True: needs executor='process'")
    return bool(value)


def max_memory(value: object, executor: str) -> int | None:
    """Return how many bytes an agent with this executor may use; None stands for no limit."""
    if value is None:
        return None
    if executor != "process":
        raise SpecError(f"max_memory={value!r}: needs executor='process': only a process has memory of its own")
    return checks.count("max_memory", value, least=1)


def has_rounds(agent: type[BaseAgent]) -> bool:
    """Return whether runs of this class can end between two rounds."""
    return issubclass(agent, (LoopingAgent, LoopingAsyncAgent))


def max_age(value: object, agent: type[BaseAgent]) -> float | None:
    """Return after how many seconds of being ready a run is recycled; None stands for never."""
    if value is not None and not has_rounds(agent):
        raise SpecError(f"max_age={value!r}: needs a looping or periodic agent, which can end between two rounds")
    return time_limit("max_age", value)


def depends_on(names: object) -> tuple[str, ...]:
    """Return the names, each once."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise SpecError(f"depends_on={names!r}: must be a list of names")
    for name in (found := tuple(names)):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise SpecError(f"depends_on={name!r}: must be the name of a sibling")
    return tuple(dict.fromkeys(found))


def significant(value: object, restart: Restart) -> bool:
    """Return whether a child with this restart type is significant."""
    if checks.flag("significant", value) and restart is Restart.PERMANENT:
        raise SpecError("significant=True: a permanent child always comes back; use transient or temporary")
    return bool(value)


def backoff(value: object) -> BackoffChoice:
    """Return the policy."""
    if value is None or isinstance(value, (Backoff, Inherit)):
        return value
    raise SpecError(f"backoff={value!r}: must be a Backoff or None")


def max_children(value: object, dynamic: bool) -> int | None:
    """Return how many children a dynamic supervisor may have."""
    if value is None:
        return None
    if not dynamic:
        raise SpecError(f"max_children={value!r}: only a supervisor with dynamic=True has it")
    return checks.count("max_children", value)


def check_dynamic(values: Mapping[str, object]) -> None:
    """Raise `SpecError` if a dynamic supervisor is to have what only siblings that know each other can have."""
    for name, only in (("strategy", Strategy.ONE_FOR_ONE), ("auto_shutdown", AutoShutdown.NEVER), ("children", ())):
        if values[name] != only:
            must = f"must be {only}" if only else "must be empty: they come with start_child()"
            given = f"{values[name]}" if only else f"({len(values[name])} given)"  # type: ignore[arg-type]
            raise SpecError(f"{name}={given}: of a supervisor with dynamic=True it {must}")
