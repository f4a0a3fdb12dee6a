"""What a tree would do about failures, agent by agent, as values; every number comes from a simulation. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orchestree.agents.base import BaseAgent
from orchestree.strategies.errors import NotFound, did_you_mean
from orchestree.supervisor.core import Core
from orchestree.supervisor.phrases import counted
from orchestree.supervisor.simulation.blueprint import Blueprint, walk_entries, who_comes_later
from orchestree.supervisor.spec import AgentEntry, SupervisorEntry
from orchestree.supervisor.states import RunMode
from orchestree.supervisor.tree import AgentNode, AnyNode, Node, SupervisorNode

from .answers import Forecast, Restarts
from .flapping import Randomness
from .lints import Warned, warnings_of
from .parts import LONGEST, SHORTEST
from .places import backoff_of, is_below
from .policy_words import PolicyWords, words_for_agent, words_for_supervisor
from .probing import Prober
from .shared_failures import Shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """Who else has to do with the failure of a child.

    Attributes:
        stopped: paths of the siblings that are stopped when it fails, in stop order (a supervisor with all below).
        all_siblings: whether these are all that it has, and it has some.
        waiting: paths of the siblings that cannot start while it is down, in start order.
    """

    stopped: tuple[str, ...]
    all_siblings: bool
    waiting: tuple[str, ...]


_NOBODY: Final = Touched(stopped=(), all_siblings=False, waiting=())


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentExplained:
    """What holds for one agent, and what comes of its failures.

    Attributes:
        fails: when it fails again and again, each time as soon as it is ready.
        fails_in_setup: when each start fails; None if that is the same.
        restarts: in the worst minute, in whatever rhythm it fails.
        touched: by its first failure.
    """

    path: str
    executor: str
    depends_on: tuple[str, ...]
    policy: PolicyWords
    fails: Forecast
    fails_in_setup: Forecast | None
    restarts: Restarts
    touched: Touched


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorExplained:
    """What holds for one supervisor, and what comes of its children's failures and its own.

    Attributes:
        children: how many it has; `agents`: how many agents are below it.
        dynamic: its children come with `start_child`; nothing is known of them.
        ended_by: paths of its children of which a single one can end it by failing again and again, in some rhythm.
        may_be_ended_by: of those of which that is not known: so many restarts as it stands were not tried out.
        is_sample: a policy of its children draws its own random numbers: another time it may be another answer.
        all_fail: all agents below fail once, at one moment; None if there is none.
        all_stay_down: what all of them need is down, for ten minutes at most.
        gives_up: what comes of it when it gives up again and again; None for the root, which ends the tree.
        restarts: in the worst minute, in whatever rhythm it gives up; None for the root.
        touched: by its giving up.
    """

    path: str
    children: int
    agents: int
    dynamic: bool
    policy: PolicyWords
    ended_by: tuple[str, ...]
    may_be_ended_by: tuple[str, ...]
    is_sample: bool
    all_fail: Shared | None
    all_stay_down: Shared | None
    gives_up: Forecast | None
    restarts: Restarts | None
    touched: Touched


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Explanation:
    """What a tree, or a part of it, would do about failures; ``str()`` is the text of the command. Seconds are virtual.

    Attributes:
        path: of the part; ``""`` is the whole tree.
        strict_start: a first start that fails ends the tree; all else here is about later failures.
        warnings: what looks like a mistake, in start order.
        supervisors: in start order, depth first.
        agents: in start order, depth first.
    """

    path: str
    run_mode: RunMode
    strict_start: bool
    warnings: tuple[Warned, ...]
    supervisors: tuple[SupervisorExplained, ...]
    agents: tuple[AgentExplained, ...]

    def __repr__(self) -> str:
        """Return, say, ``<Explanation of the daemon tree: 3 agents, 2 supervisors; 1 warning>``."""
        what = self.path or f"the {self.run_mode.value} tree"
        of_whom = f"{counted(len(self.agents), 'agent')}, {counted(len(self.supervisors), 'supervisor')}"
        return f"<Explanation of {what}: {of_whom}; {counted(len(self.warnings), 'warning')}>"

    def __str__(self) -> str:
        """Return what ``orchestree explain`` prints, in lines of 100 characters at most (titles may be longer)."""
        from orchestree.supervisor.simulation.shown.explanation_text import explanation_lines

        return "\n".join(explanation_lines(self))


def explanation_of(
    blueprint: Blueprint,
    path: str,
    ends_at_once: Callable[[type[BaseAgent]], bool],
    randomness: Randomness,
) -> Explanation:
    """Explain the agent or the part of the tree at `path`.

    Args:
        blueprint: of the whole tree.
        path: ``""`` for all of it.
        ends_at_once: whether the code of an agent visibly returns without ever waiting.
        randomness: that policies may draw from by themselves; it is left in another state.

    Raises:
        NotFound: there is nothing at `path`. SpecError: the tree breaks a rule.
    """
    nodes = Core(blueprint.root, blueprint.settings).world.nodes
    if path not in nodes:
        later = who_comes_later(walk_entries(blueprint.root), path)
        raise NotFound(f"{path!r}: no such agent or supervisor{did_you_mean(path, nodes)}{later}")
    below = f"{path}/" if path else ""
    chosen = [node for where, node in nodes.items() if where == path or where.startswith(below)]
    explainer = _Explainer(blueprint, randomness)
    return Explanation(
        path=path,
        run_mode=blueprint.settings.run_mode,
        strict_start=blueprint.settings.strict_start,
        warnings=warnings_of(explainer.prober, blueprint.settings, [node.path for node in chosen], ends_at_once),
        supervisors=tuple(explainer.supervisor(node) for node in chosen if isinstance(node, SupervisorNode)),
        agents=tuple(explainer.agent(node) for node in chosen if isinstance(node, AgentNode)),
    )


class _Explainer:
    def __init__(self, blueprint: Blueprint, randomness: Randomness) -> None:
        self.prober = Prober(blueprint, randomness)
        self._default = blueprint.settings.backoff

    def agent(self, node: AgentNode) -> AgentExplained:
        entry, parent = self.prober.entries[node.path], self.prober.entries[node.parent.path if node.parent else ""]
        assert isinstance(entry, AgentEntry)
        assert isinstance(parent, SupervisorEntry)
        fails = self.prober.forecast(node.path)
        is_same = self.prober.course(node.path, LONGEST, "setup") == self.prober.course(node.path, LONGEST)
        return AgentExplained(
            path=node.path,
            executor=entry.executor,
            depends_on=entry.depends_on,
            policy=words_for_agent(entry, parent, node.backoff),
            fails=fails,
            fails_in_setup=None if is_same else self.prober.forecast(node.path, "setup"),
            restarts=self.prober.restarts(node.path),
            touched=_touched(node, fails),
        )

    def supervisor(self, node: SupervisorNode) -> SupervisorExplained:
        entry = self.prober.entries[node.path]
        assert isinstance(entry, SupervisorEntry)
        is_root = node.parent is None
        below = [one for path, one in self.prober.entries.items() if is_below(path, node.path)]
        agents = sum(isinstance(one, AgentEntry) for one in below)
        gives_up = None if is_root else self.prober.forecast(node.path)
        ended_by = tuple(child.path for child in node.sequence if self.prober.ends_supervisor(child.path))
        others = [child.path for child in node.sequence if child.path not in ended_by]
        return SupervisorExplained(
            path=node.path,
            children=len(node.sequence),
            agents=agents,
            dynamic=entry.dynamic,
            policy=words_for_supervisor(entry, backoff_of(entry, self._default), is_root=is_root),
            ended_by=ended_by,
            may_be_ended_by=tuple(path for path in others if self.prober.may_exhaust(path)),
            is_sample=any(self.prober.course(child.path, SHORTEST).is_sample for child in node.sequence),
            all_fail=self.prober.all_fail(node.path, lasting=False) if agents else None,
            all_stay_down=self.prober.all_fail(node.path, lasting=True) if agents else None,
            gives_up=gives_up,
            restarts=None if is_root else self.prober.restarts(node.path),
            touched=_touched(node, gives_up) if gives_up else _NOBODY,
        )


def _touched(node: AnyNode, fails: Forecast) -> Touched:
    """Return who is touched by the first failure of `node`: nobody unless it is restarted or ends its supervisor."""
    parent, course = node.parent, fails.shortest
    assert parent is not None
    stopped: list[Node] = []
    if course.delays_s:
        stopped = parent.scope(node)
    elif course.supervisor_ends is not None and course.supervisor_ends.failure == 1:
        stopped = parent.sequence
    others = tuple(one.path for one in reversed(stopped) if one is not node)
    return Touched(
        stopped=others,
        all_siblings=0 < len(others) == len(parent.sequence) - 1,
        waiting=tuple(one.path for one in parent.with_dependents(node) if one is not node),
    )
