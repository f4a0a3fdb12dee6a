"""What is watched while an agent is ready: its progress, its memory, its age; and how it is recycled. Pure.

Whoever is found hung or does not end as asked is given up on (`stopping.give_up`), which makes its end a crash. The
end of one that was to be recycled is a planned restart (`ending.py`): no failure, nobody else is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from orchestree.agents.executor import Blocked, RunId, RunMemory, RunProgress

from . import blocking
from .events import AgentHung, RestartCause, StopCause
from .inputs import LookAtRun, MeasureRun, RecycleRun
from .pending import Watch
from .states import READY
from .stopping import give_up
from .tree import AgentNode
from .world import World

MEASURE_EVERY_S: Final = 5.0
"""Seconds between two looks at the memory of an agent with ``max_memory``."""

LATE: Final = 0.1
"""A look that comes later than this share of the watchdog condemns nobody, once: supervision may have stood still
long before the look was due. The agent gets the whole time again."""

Action = Callable[[World, AgentNode, Watch, float], None]


def begin(world: World, node: AgentNode) -> None:
    """Watch an agent that has just become ready, as far as its entry says so."""
    entry = node.entry
    if entry.watchdog or entry.max_memory or entry.max_age:
        node.watch = watch = Watch(world.now, is_fresh=entry.max_memory is not None)
        _limit_silence(world, node, watch)
        _limit_age(world, node, watch)
        if entry.max_memory is not None:
            _measure(world, node, watch, world.now)


def progressed(world: World, node: AgentNode, progress: RunProgress) -> None:
    """Act on the answer to a look: it has gone on since, or it is hung.

    What counts is the silence up to the moment at which the look was due; how much later it came does not, as
    what held up supervision (a stopped program, a busy machine) may have held up the agent as well.
    """
    watch, limit, blocked = node.watch, node.entry.watchdog, progress.blocked
    blocking.note(world, node, blocked)
    if node.state is not READY or watch is None:
        return
    if blocked is None and watch.held_since is not None:
        _goes_on(world, node, watch, progress.at)
        return
    if blocked is not None and watch.held_since is None:
        watch.held_since = world.now
    due, watch.look_due = watch.look_due, None
    if due is None:
        return
    watch.progress_at = since = max(progress.at, watch.excused_at)
    if limit is None:
        return
    # The answer of a blocked loop is always late; what counts then is whether the look was.
    late = (world.now if blocked is None else watch.looked_at) - due
    is_held_up = blocked is not None and not blocking.is_by(node, blocked)
    if late >= limit * LATE and watch.excused_at <= progress.at and not is_held_up:
        watch.progress_at = watch.excused_at = max(world.now, since)
        _set(world, node, "watchdog", watch.progress_at + limit, _look)
    elif since + limit > due:
        _set(world, node, "watchdog", world.now + (since + limit - due), _look)
    elif blocked is not None and is_held_up:
        _held_up(world, node, watch, blocked, due)
    else:
        stack, where = (blocked.stack, ", blocks its event loop") if blocked is not None else ("", "")
        world.emit(node, AgentHung, due - since, progress.text, limit, stack)
        message = f"no progress for {round(due - since, 2):g} s (watchdog {limit:g} s){where}"
        give_up(world, node, StopCause.WATCHDOG, message, stack)


def measured(world: World, node: AgentNode, memory: RunMemory) -> None:
    """Act on what an agent uses: recycle it if that is too much, have it park if it is so from the beginning."""
    watch, limit = node.watch, node.entry.max_memory
    if node.state is not READY or watch is None or limit is None or _is_ending(node, watch):
        return
    is_first, watch.is_fresh = watch.is_fresh, False
    if memory.used <= limit:
        return
    watch.excess = f"uses {_mib(memory.used)}, more than max_memory ({_mib(limit)})"
    if is_first:
        watch.is_hopeless = True
        give_up(world, node, StopCause.MEMORY, f"{watch.excess}, right after setup()")
    elif node.entry.shutdown == "brutal_kill":
        give_up(world, node, StopCause.MEMORY, watch.excess)
    else:
        _recycle(world, node, watch, RestartCause.MEMORY)
        _limit_recycling(world, node, watch)


def limits_anew(world: World, node: AgentNode, changed: set[str]) -> None:
    """Have new values of these fields apply to a run that is ready, from when each thing began."""
    if node.state is not READY or node.ready_since is None:
        return
    watch = node.watch = node.watch or Watch(node.ready_since)
    if "watchdog" in changed:
        _forget(world, watch, "watchdog")
        if watch.look_due is None:  # else the answer is judged by the new limit
            _limit_silence(world, node, watch)
    if "max_age" in changed:
        _forget(world, watch, "max_age")
        _limit_age(world, node, watch)
    if "max_memory" in changed and node.entry.max_memory is None:
        _forget(world, watch, "max_memory")
        _forget(world, watch, "recycling")
    elif "max_memory" in changed and "max_memory" not in watch.deadlines:
        _measure(world, node, watch, world.now)
    if "shutdown" in changed and "recycling" in watch.deadlines:
        _forget(world, watch, "recycling")
        _limit_recycling(world, node, watch)


def _set(world: World, node: AgentNode, name: str, moment: float, action: Action, *, silent: bool = True) -> None:
    """Have `action` called at `moment`, or now if that is over; it is told when it was due."""
    watch = node.watch
    assert watch is not None
    due = max(moment, world.now)
    watch.deadlines[name] = world.deadlines.add(due, lambda: action(world, node, watch, due), silent=silent)


def _forget(world: World, watch: Watch, name: str) -> None:
    world.deadlines.cancel(watch.deadlines.pop(name, None))


def _limit_silence(world: World, node: AgentNode, watch: Watch) -> None:
    if node.entry.watchdog is not None:
        _set(world, node, "watchdog", watch.progress_at + node.entry.watchdog, _look)


def _held_up(world: World, node: AgentNode, watch: Watch, blocked: Blocked, due: float) -> None:
    """Spare one that is silent because another one blocks its loop; that is at fault after a whole watchdog."""
    limit = node.entry.watchdog
    assert limit is not None
    watch.is_owed = True
    if watch.looked_at - due >= limit * LATE and watch.spared <= blocked.since:
        watch.spared = world.now
    since = max(blocked.since, watch.spared)
    if since + limit > due:
        _set(world, node, "watchdog", since + limit, _look)
    else:
        _set(world, node, "watchdog", world.now + limit, _look)
        blocking.condemn(world, blocked, round(due - since, 2), limit, node.path)


def _goes_on(world: World, node: AgentNode, watch: Watch, progress_at: float) -> None:
    """Have the time in which its loop was blocked not count, now that it turns again."""
    held = world.now - (world.now if watch.held_since is None else watch.held_since)
    since = max(progress_at, watch.excused_at)
    watch.excused_at = world.now if watch.is_owed else min(world.now, since + held)
    watch.progress_at = max(progress_at, watch.excused_at)
    watch.held_since, watch.look_due, watch.is_owed = None, None, False
    _forget(world, watch, "watchdog")
    _limit_silence(world, node, watch)


def _look(world: World, node: AgentNode, watch: Watch, due: float) -> None:
    watch.look_due, watch.looked_at = due, world.now
    world.out.append(LookAtRun(RunId(node.path, node.incarnation)))


def _measure(world: World, node: AgentNode, watch: Watch, due: float) -> None:
    if not _is_ending(node, watch):
        world.out.append(MeasureRun(RunId(node.path, node.incarnation)))
        _set(world, node, "max_memory", world.now + MEASURE_EVERY_S, _measure)


def _is_ending(node: AgentNode, watch: Watch) -> bool:
    """Return whether it makes no difference any more what the agent uses."""
    return node.purpose is not None or watch.recycling is RestartCause.MEMORY


def _limit_age(world: World, node: AgentNode, watch: Watch) -> None:
    if node.entry.max_age is not None and node.ready_since is not None and watch.recycling is None:
        _set(world, node, "max_age", node.ready_since + node.entry.max_age, _too_old)


def _too_old(world: World, node: AgentNode, watch: Watch, due: float) -> None:
    if node.purpose is None and watch.recycling is None:
        _recycle(world, node, watch, RestartCause.MAX_AGE)


def _recycle(world: World, node: AgentNode, watch: Watch, cause: RestartCause) -> None:
    if watch.recycling is None:
        world.out.append(RecycleRun(RunId(node.path, node.incarnation)))
    watch.recycling, watch.recycling_since = cause, world.now


def _limit_recycling(world: World, node: AgentNode, watch: Watch) -> None:
    """Give a run that uses too much no longer than its shutdown time to end between two rounds."""
    shutdown = node.entry.shutdown
    if shutdown != "infinity":
        seconds = 0.0 if isinstance(shutdown, str) else shutdown
        _set(world, node, "recycling", watch.recycling_since + seconds, _overdue, silent=False)


def _overdue(world: World, node: AgentNode, watch: Watch, due: float) -> None:
    waited = round(due - watch.recycling_since, 2)
    give_up(world, node, StopCause.MEMORY, f"{watch.excess}, and did not end within {waited:g} s")


def _mib(used: int) -> str:
    return f"{used / 2**20:.1f} MiB"
