"""What agents of both families share: who they are, what they were given, and how they speak to the tree."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType, new_class
from typing import TYPE_CHECKING, Any, ClassVar

from loguru import logger
from pydantic import BaseModel

from .config import AgentConfig
from .log_lines import RecordPatch
from .metrics import AgentMetrics

if TYPE_CHECKING:
    from loguru import Logger

    from .executor import Launch
    from .lifecycle import Life


class BaseAgent(ABC):
    """Base of `Agent` and `AsyncAgent`; derive from one of those.

    An agent is a class and its hooks; two lines are enough::

        class Greeter(PeriodicAgent):
            def runner(self): self.logger.info("hello from {}", self.path)

    Every incarnation is a fresh instance. A class may define ``__init__(self)`` without arguments, calling
    ``super().__init__()`` or not: everything below is already there when it runs.

    Attributes:
        name: as registered, unique among siblings.
        path: the names from the root down to this agent, joined by ``/``.
        incarnation: 1 for the first start, then 2, 3, …
        config: the checked configuration; frozen.
        params: the objects given as ``params``; read-only.
    """

    class Config(AgentConfig):
        """No fields. A subclass writes its own ``class Config``, naming this one as its base or not."""

    executor: ClassVar[str] = "thread"
    """The executor that runs the agent unless `register_agent` names another."""
    executors: ClassVar[tuple[str, ...]] = ()
    """The executors that can run it."""

    name: str
    path: str
    incarnation: int
    config: AgentConfig
    params: Mapping[str, Any]
    _orchestree: Life
    """All that the runtime keeps about the run, under one name so that it meets none of the user's."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Merge a nested ``Config`` with the one that the class inherits."""
        super().__init_subclass__(**options)
        parent: type[AgentConfig] = super(cls, cls).Config  # type: ignore[misc]
        if not issubclass(cls.Config, parent):
            cls.Config = _merged(cls.Config, parent)  # type: ignore[misc, assignment]

    def _bind(self, launch: Launch, life: Life) -> None:
        self.path, self.incarnation = launch.run.path, launch.run.incarnation
        self.name = self.path.rpartition("/")[2]
        self.config = launch.config
        self.params = MappingProxyType(dict(launch.params))
        self._orchestree = life

    @cached_property
    def logger(self) -> Logger:
        """Loguru's logger, bound to ``path`` and ``incarnation``. The secrets of the agent are masked in its records.

        Secrets are the values of ``SecretStr`` fields of `config`, and the texts in `config` and `params` under keys
        that look like secrets. Of an agent that has some, a logged exception becomes a part of the message.
        """
        bound = logger.bind(path=self.path, incarnation=self.incarnation)
        life = self._orchestree
        patch = RecordPatch(life.run, life.masker(), life.keep_line)
        return bound.patch(patch) if patch else bound

    @property
    def metrics(self) -> AgentMetrics:
        """What the agent counts: ``self.metrics.counter("items_total", "Items written").inc()``.

        It reaches ``/metrics`` of the orchestrator from every executor, with the label ``agent``. Counters and
        histograms go on over restarts; gauges go away when their incarnation has ended. Any thread; never blocks. It
        goes nowhere if nobody collects metrics, in a forked copy of the agent's process, and after the end.
        """
        return self._orchestree.metrics.get()

    @property
    def should_stop(self) -> bool:
        """True as soon as somebody asked the agent to stop; never False again in this incarnation."""
        return self._orchestree.stop.is_set()

    def emit(self, name: str, /, **data: object) -> None:
        """Make an ``AGENT_MESSAGE`` event. Never blocks; may be dropped under a flood, which is counted."""
        self._orchestree.emit(name, data)

    def heartbeat(self) -> None:
        """Note progress: the agent is not hung. Any thread; never blocks.

        What ``watchdog`` counts is the time since the latest of: the end of `setup`, a call of this or of
        `progress`, and (looping and periodic agents) the beginning of a round, or the moment at which it is due.
        """
        self._orchestree.pulse.beat()

    def progress(self, text: str) -> None:
        """Note progress, as `heartbeat` does, and in a few words what the agent is doing.

        If the agent is found hung the words are in the ``AGENT_HUNG`` event. Any thread; never blocks.
        """
        self._orchestree.pulse.say(text)
        self._orchestree.pulse.beat()


def _merged(body: type, parent: type[AgentConfig]) -> type:
    """Return a config class with the fields of both, known by the name of `body`; what `body` says wins."""
    names = {"__module__": body.__module__, "__qualname__": body.__qualname__, "__doc__": body.__doc__}
    if issubclass(body, BaseModel):
        return new_class(body.__name__, (body, parent), exec_body=lambda space: space.update(names))
    own = {key: value for key, value in vars(body).items() if key not in ("__dict__", "__weakref__")} | names
    return new_class(body.__name__, (parent,), exec_body=lambda space: space.update(own))
