"""Policy that changes while the tree runs: checked as a whole first, in force from the next decision on. Pure.

Nothing is started or stopped for it. Delays and time limits that run are computed anew from when they began.
Source: OTP supervisor.erl, code_change/3. Differs: what a child is, and its place in the order, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import SpecError, did_you_mean
from orchestree.strategies.restart import AutoShutdown

from . import groups, watching
from .events import PolicyChanged
from .order import check_significant
from .phrases import error_in_one_line
from .policy_text import policy_changes
from .spec import AgentEntry, ChildEntry, SupervisorEntry
from .starting import consider, limit_start
from .states import AgentState
from .stopping import limit
from .tree import AgentNode, AnyNode, SupervisorNode
from .world import World

AGENT_POLICY: Final = frozenset(
    {"restart", "strategy", "backoff", "shutdown", "start_timeout", "significant", "replace_wedged"}
    | {"watchdog", "max_memory", "max_age"}
)
ROOT_POLICY: Final = frozenset({"strategy", "max_restarts", "max_seconds", "auto_shutdown"})
SUPERVISOR_POLICY: Final = ROOT_POLICY | {"restart", "backoff", "shutdown", "significant", "max_children"}


def changed_entry(entry: ChildEntry, changes: Mapping[str, object], path: str) -> ChildEntry:
    """Return `entry` with other policy.

    Raises:
        SpecError: a field is no policy of what stands at `path`, or its value breaks a rule.
    """
    known = AGENT_POLICY if isinstance(entry, AgentEntry) else SUPERVISOR_POLICY if path else ROOT_POLICY
    for name, value in changes.items():
        if name not in known:
            hint = f"{did_you_mean(name, known)}; these can be: {', '.join(sorted(known))}"
            raise SpecError(f"{path!r}: {name}={value!r}: cannot be changed by reconfigure(){hint}")
    changed = replace(entry, **changes)  # type: ignore[arg-type]
    if isinstance(changed, AgentEntry) and isinstance(entry, AgentEntry):
        changed.share_masker(entry)
    return changed


def reconfigure(world: World, node: AnyNode, changes: Mapping[str, object]) -> None:
    """Change the policy of `node`.

    Raises:
        SpecError: as `changed_entry`, or the new policy does not go with its supervisor's or its children's.
    """
    entry = changed_entry(node.entry, changes, node.path)
    _check_neighbours(node, entry)
    told = policy_changes(node.entry, entry)
    if not told:
        return
    backoff = world.backoff_of(entry)
    seconds = _delay_under(node, backoff)
    node.backoff = backoff
    remaining = None if seconds is None else _delay_anew(world, node, seconds)
    world.emit(node, PolicyChanged, told, remaining)
    if isinstance(node, SupervisorNode):
        assert isinstance(entry, SupervisorEntry)
        node.entry = entry
        node.window = node.window.resized(entry.max_restarts, entry.max_seconds)
        for child in list(node.sequence):
            if child.state is AgentState.WAITING:
                consider(world, child)  # only REST_FOR_ONE has a child wait for the one before it
    else:
        assert isinstance(entry, AgentEntry)
        node.entry = entry
        if node.state is AgentState.WEDGED:
            world.wedged.append(node)  # its next run may be allowed to start beside it now
    _limits_anew(world, node, {change.field for change in told})


def _check_neighbours(node: AnyNode, entry: ChildEntry) -> None:
    parent = node.parent
    if parent is not None:
        check_significant(entry, parent.entry.auto_shutdown, parent.path)
        if parent.entry.dynamic and isinstance(entry, AgentEntry) and entry.strategy is not None:
            raise SpecError(f"{node.path!r}: strategy={entry.strategy.value!r}: its supervisor is dynamic")
    if isinstance(node, SupervisorNode) and isinstance(entry, SupervisorEntry):
        for child in node.sequence if entry.auto_shutdown is AutoShutdown.NEVER else ():
            check_significant(child.entry, entry.auto_shutdown, node.path)  # type: ignore[attr-defined]


def _delay_under(node: AnyNode, backoff: Backoff | None) -> float | None:
    """Return what the restart delay of `node` is under this policy; None if none runs, or it is the same policy."""
    delay, group = node.delay, node.group
    if backoff is node.backoff or delay is None or group is None or node not in group.delays:
        return None
    if backoff is None:
        return 0.0
    streak = node.streak.waits(-delay.seconds)
    try:
        return backoff.verdict(streak, delay.report, delay.began, delay.draw).delay
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also one that would end the supervision thread
        raise SpecError(f"{node.path!r}: backoff: it raised {error_in_one_line(error)}") from error


def _delay_anew(world: World, node: AnyNode, seconds: float) -> float:
    """Have the delay that runs take `seconds`; return how many are left of it for its whole group."""
    delay, group = node.delay, node.group
    assert delay is not None
    assert group is not None
    node.streak = node.streak.waits(seconds - delay.seconds)
    node.delay = delay._replace(seconds=seconds)
    group.delays[node] = delay.began + seconds
    if not group.started:
        groups.reschedule(world, group)
    return max(0.0, group.due_at - world.now)


def _limits_anew(world: World, node: AnyNode, changed: set[str]) -> None:
    if isinstance(node, AgentNode) and node.killed:
        return  # there is nothing more to wait for
    if node.state is AgentState.STOPPING and "shutdown" in changed and node.purpose is not None:
        world.cancel_deadline(node)
        limit(world, node)
    elif node.state is AgentState.STARTING and "start_timeout" in changed and isinstance(node, AgentNode):
        world.cancel_deadline(node)
        limit_start(world, node)
    elif isinstance(node, AgentNode):
        watching.limits_anew(world, node, changed)
