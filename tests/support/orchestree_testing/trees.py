"""Trees whose agents do what a test hands them, so that each test shows all that matters to it."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from orchestree.agents.agent import Agent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.supervisor import Event, EventType, Orchestrator

PATIENCE: Final = 20.0
"""Seconds after which a test that waits has failed."""

FAST: Final[Mapping[str, Any]] = {"backoff": None, "restart": "permanent"}
"""For agents that crash on purpose: come back at once, always."""


class Does(Agent):
    """Calls ``params[hook](self)`` for each of its hooks that is there; without ``execute`` it idles."""

    def _do(self, hook: str) -> Any:
        does: Callable[[Agent], object] | None = self.params.get(hook)
        return does(self) if does is not None else None

    def setup(self) -> Any:
        return self._do("setup")

    def execute(self) -> object:
        return self._do("execute") if "execute" in self.params else self.sleep(3600)

    def teardown(self) -> None:
        self._do("teardown")

    def on_stop(self) -> None:
        self._do("on_stop")


class AsyncDoes(AsyncAgent):
    """What `Does` is; the hooks handed in are coroutine functions."""

    async def _do(self, hook: str) -> Any:
        does: Callable[[AsyncAgent], Awaitable[object]] | None = self.params.get(hook)
        return await does(self) if does is not None else None

    async def setup(self) -> Any:
        return await self._do("setup")

    async def execute(self) -> object:
        return await self._do("execute") if "execute" in self.params else await self.sleep(3600)

    async def teardown(self) -> None:
        await self._do("teardown")


class Custom(Orchestrator):
    """An `Orchestrator` of the tests' own, to be given hooks."""


def a_tree(kind: type[Orchestrator] = Orchestrator, **settings: Any) -> Orchestrator:
    """Return an empty tree in DAEMON mode, without a control socket, that nothing limits."""
    return kind(kind.Config(**{"run_mode": "daemon", "control": False, "max_restarts": 10**6, **settings}))


def add(tree: Any, name: str, execute: Callable[[Any], object] | None = None, **fields: Any) -> None:
    """Register a `Does` (or, for an ``async def``, an `AsyncDoes`) that calls `execute`."""
    hooks: dict[str, Any] = {key: fields.pop(key) for key in ("setup", "teardown", "on_stop") if key in fields}
    if execute is not None:
        hooks["execute"] = execute
    kind = fields.pop("kind", Does)
    tree.register_agent(kind, name, params=hooks, **fields)


def crash(agent: BaseAgent) -> object:
    """Fail."""
    raise ValueError(f"no such sensor, incarnation {agent.incarnation}")


def log(agent: BaseAgent) -> None:
    """Log one line."""
    agent.logger.warning("from afar")


def talk(agent: BaseAgent) -> None:
    """Emit three messages."""
    for number in range(3):
        agent.emit(f"{number}")


def never(agent: BaseAgent) -> None:
    """Not end, whoever asks."""
    threading.Event().wait()


class Switch:
    """Lets a test end runs of an agent from outside: each `throw` makes the current incarnation crash once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thrown = 0

    def throw(self) -> None:
        """Have the agent crash."""
        with self._changed:
            self._thrown += 1
            self._changed.notify_all()

    def execute(self, agent: Agent) -> object:
        """Wait for the switch or a stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._thrown or agent.should_stop)
            if agent.should_stop:
                return None
            self._thrown -= 1
        return crash(agent)

    def on_stop(self, agent: Agent) -> None:
        """Wake `execute`. Leaves nothing behind for the next incarnation, even if `execute` was not reached."""
        with self._changed:
            self._changed.notify_all()

    def hooks(self) -> dict[str, Any]:
        """Return the keywords for `add`."""
        return {"execute": self.execute, "on_stop": self.on_stop}


of_earlier_tests: set[threading.Thread] = set()
"""Threads that ran when the test began; `conftest.py` sees to it."""


def threads_left(before: Collection[threading.Thread] = ()) -> list[str]:
    """Return the names of the product's threads that do not end within `PATIENCE`, `before` and earlier tests' apart.

    The thread of an agent says that its run has ended before it ends itself.
    """
    known = {*before, *of_earlier_tests}
    threads = [each for each in threading.enumerate() if each.name.startswith("orchestree") and each not in known]
    for thread in threads:
        thread.join(PATIENCE)
    return [thread.name for thread in threads if thread.is_alive()]


def types(tree: Orchestrator, path: str) -> list[EventType]:
    """Return the types of all events of one path, in order."""
    return [event.type for event in tree.history(path, limit=None) if event.path == path]


def trace(tree: Orchestrator, *kinds: EventType) -> list[tuple[EventType, str]]:
    """Return type and path of all events of these types, in order."""
    return [(event.type, event.path) for event in tree.history(None, None, None, None) if event.type in kinds]


def wait_for(tree: Orchestrator, kind: EventType, path: str | None = None, count: int = 1) -> Event:
    """Return the `count`-th event of this type and path since the beginning, waiting for it."""
    since = 0
    for _ in range(count):
        event = tree.events.wait_for(kind, path, since=since, timeout=PATIENCE)
        since = event.seq
    return event


def a_real_pool(**fields: Any) -> tuple[Orchestrator, Any]:
    """Return a tree, and the handle of its dynamic supervisor ``pool``."""
    tree = a_tree()
    return tree, tree.add_supervisor("pool", dynamic=True, **fields)


def names_in_pool(tree: Orchestrator) -> list[str]:
    """Return the paths of the children of ``pool``."""
    return [status.path for status in tree.which_children("pool")]
