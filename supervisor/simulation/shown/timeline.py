"""What came of a simulation as a text for a person: a chart, the figures, what happened, and how it ended. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from orchestree.agents.ends import Cause
from orchestree.supervisor.phrases import MOST_NAMES, counted, duration
from orchestree.supervisor.simulation.blueprint import is_at_or_below
from orchestree.supervisor.simulation.durations import in_words
from orchestree.supervisor.simulation.fault_lines import line_of
from orchestree.supervisor.simulation.faults import Fault, Hang, Moments
from orchestree.supervisor.simulation.result import AgentOutcome, GaveUp, Simulation
from orchestree.supervisor.states import UNHEALTHY_STATES, AgentState

from .chart import Course, Spell, axis, legend, row
from .highlights import highlights
from .labels import labels
from .outcome_table import figures

LEAST_WIDTH: Final = 40
MOST_ROWS: Final = 20
"""With more rows the agents to which nothing happened share one line."""
MOST_TROUBLED: Final = 20
"""Agents to which something happened and that have a row: those that were worst off."""
_SHARE_OF_NAMES: Final = 3
"""Longer names than this part of a line are cut."""
_GAP: Final = "  "
_TROUBLE: Final = UNHEALTHY_STATES | {AgentState.BACKOFF}
_CALM: Final = frozenset({AgentState.REGISTERED, AgentState.READY, AgentState.COMPLETED, AgentState.STOPPED})
_Hangs = Mapping[str, Sequence[Spell]]
"""For each agent that ever did: the times in which it hung and was still taken for ready."""


def timeline(simulation: Simulation, *, width: int = 80) -> str:
    """Return lines without colours, in ASCII but for what users have named: the same for the same simulation.

    Args:
        simulation: what is told.
        width: characters of a line of the chart, at least 40; the table and single sentences may be longer.
    """
    wide = max(width, LEAST_WIDTH)
    hangs = _hangs(simulation)
    paths = _shown(simulation, hangs)
    names = labels([*simulation.states, *paths], wide // _SHARE_OF_NAMES)
    agents = [simulation.agents[path] for path in paths if path in simulation.agents]
    blocks = [
        [_heading(simulation)],
        _chart(simulation, {path: names[path] for path in paths}, hangs, wide),
        figures(simulation, agents, names),
        highlights(simulation, wide, names),
        [*_idle_faults(simulation), _ending(simulation, hangs)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def is_well(simulation: Simulation) -> bool:
    """Return whether each fault has happened, and yet in the end nobody is down, or waits for anything but a slot.

    Down is also who has fallen with the tree or a supervisor, and who hangs without anybody's notice.
    """
    states = {agent.state for agent in simulation.agents.values()}
    is_calm = states <= _CALM | {AgentState.QUEUED} and not simulation.unhealthy
    return is_calm and not (simulation.fell or _idle_faults(simulation) or _hanging(simulation, _hangs(simulation)))


def _shown(simulation: Simulation, hangs: _Hangs) -> list[str]:
    """Return the paths that have a row, in the order of the tree."""
    agents = simulation.agents
    supervisors = [
        path
        for path, changes in simulation.states.items()
        if path not in agents and any(change.state in _TROUBLE for change in changes)
    ]
    supervisors += [path for path in dict.fromkeys(one.path for one in simulation.gave_up) if path not in supervisors]
    chosen = list(agents)
    if len(chosen) + len(supervisors) > MOST_ROWS:
        troubled = [path for path, agent in agents.items() if path in hangs or not _is_calm(agent)]
        chosen = sorted(troubled, key=lambda path: _badness(agents[path]), reverse=True)[:MOST_TROUBLED]
    place = {path: number for number, path in enumerate(agents)}
    for above in supervisors:
        place[above] = min((place[path] for path in agents if is_at_or_below(path, above)), default=len(agents))
    return sorted([*supervisors, *chosen], key=lambda path: (place[path], path in agents, path.count("/"), path))


def _is_calm(agent: AgentOutcome) -> bool:
    """Say whether nothing has happened to it but a start and an end in peace."""
    return not agent.crashes and not agent.restarts and agent.state in _CALM


def _badness(agent: AgentOutcome) -> tuple[bool, float, int]:
    return agent.state in UNHEALTHY_STATES, agent.down_s, agent.crashes


def _heading(simulation: Simulation) -> str:
    whole, ended = in_words(simulation.until), duration(simulation.ended_at)
    span = whole if simulation.stopped_by == "until" else f"{ended} of {whole}"
    return f"Simulated {span} with seed {simulation.seed}:"


def _chart(simulation: Simulation, names: Mapping[str, str], hangs: _Hangs, width: int) -> list[str]:
    """Return a row for each path that has one of the `names`."""
    end = simulation.ended_at
    if not names or not end:
        return [*_left_out(simulation, names)]
    margin = max(map(len, names.values()))
    room = width - margin - len(_GAP)
    rows = [row(_course(simulation, path, hangs.get(path, ())), end=end, width=room) for path in names]
    return [
        f"{'':{margin}}{_GAP}{axis(end, room)}",
        *(f"{name:{margin}}{_GAP}{signs}".rstrip() for name, signs in zip(names.values(), rows, strict=True)),
        *_left_out(simulation, names),
        "",
        f"One character is {_fine(end / room)}:",
        *legend(rows, width),
    ]


def _fine(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 0.1 else duration(seconds)


def _course(simulation: Simulation, path: str, hangs: Sequence[Spell]) -> Course:
    return Course(
        changes=simulation.states.get(path, ()),
        crashes=simulation.crashes.get(path, ()),
        hangs=hangs,
        gave_up=[one.at for one in simulation.gave_up if one.path == path],
    )


def _hangs(simulation: Simulation) -> _Hangs:
    found: dict[str, list[Spell]] = {}
    for at, fault, path in simulation.struck:
        if isinstance(fault, Hang):
            noticed = _first_after(at, [change.at for change in simulation.states[path]])
            again = _first_after(at, simulation.starts[path])  # a restart at once leaves no other state behind
            found.setdefault(path, []).append(Spell(at, min(noticed, again, at + fault.lasts, simulation.ended_at)))
    return found


def _first_after(at: float, moments: Sequence[float]) -> float:
    place = bisect_right(moments, at)
    return moments[place] if place < len(moments) else math.inf


def _left_out(simulation: Simulation, paths: Collection[str]) -> Iterator[str]:
    others = [agent for path, agent in simulation.agents.items() if path not in paths]
    troubled = [agent for agent in others if not _is_calm(agent)]
    if len(others) > len(troubled):
        yield f"{counted(len(others) - len(troubled), 'agent')} to which nothing happened"
    if troubled:
        crashes, down_s = max(agent.crashes for agent in troubled), max(agent.down_s for agent in troubled)
        how_often = "1 crash" if crashes == 1 else f"{crashes} crashes"
        each = f"each with at most {how_often} and down for at most {duration(down_s)}"
        yield f"{counted(len(troubled), 'more agent')}, {each}"


def _idle_faults(simulation: Simulation) -> list[str]:
    """Name the faults that never struck: their time never came, or the agent did not run then."""
    did = {id(struck.fault) for struck in simulation.struck}

    def is_idle(fault: Fault) -> bool:
        return id(fault) not in did if isinstance(fault, Moments) else fault.at >= simulation.ended_at

    return [f"This never happened: {line_of(fault)}" for fault in simulation.faults if is_idle(fault)]


def _ending(simulation: Simulation, hangs: _Hangs) -> str:
    """Return one sentence for the whole."""
    at = duration(simulation.ended_at)
    if simulation.fell:
        last = simulation.gave_up[-1]
        how = f"The tree fell after {at}: the root supervisor gave up, {_reason(last)}"
        return f"{how}; {_unhealthy(simulation)}." if _unhealthy(simulation) else f"{how}."
    if simulation.stopped_by == "ended":
        how = f"The tree ended by itself after {at}, exit code {simulation.exit_code}"
    elif simulation.stopped_by == "max_events":
        how = f"Stopped by max_events after {at} of {in_words(simulation.until)}"
    else:
        how = f"Ran to the end ({in_words(simulation.until)})"
    return f"{how}; {_condition(simulation, hangs)}."


def _reason(gave_up: GaveUp) -> str:
    child = gave_up.offender or "a child"
    if gave_up.cause is Cause.ESCALATED:
        return f"as {child} failed for good and its policy is to escalate"
    return f"{child} was one restart too many (max_restarts {gave_up.max_restarts} in {in_words(gave_up.max_seconds)})"


def _condition(simulation: Simulation, hangs: _Hangs) -> str:
    """Return what is not well, such as ``ingest gave up 3 times; 2 parked, 1 in backoff``."""
    times = Counter(one.path for one in simulation.gave_up if one.path)
    gave_up = [f"{path} gave up {'once' if count == 1 else f'{count} times'}" for path, count in times.items()]
    if len(gave_up) > MOST_NAMES:
        gave_up = [f"{len(gave_up)} supervisors gave up"]
    hanging = _hanging(simulation, hangs)
    at_the_end = ", ".join(filter(None, (_unhealthy(simulation), f"{hanging} hanging unnoticed" if hanging else "")))
    return "; ".join([*gave_up, at_the_end or "nothing is parked, failed or wedged"])


def _hanging(simulation: Simulation, hangs: _Hangs) -> int:
    """Return how many agents hang at the end and are taken for ready."""
    return sum(spells[-1].ends == simulation.ended_at for spells in hangs.values())


def _unhealthy(simulation: Simulation) -> str:
    """Return how many are in which state at the end, of those in which one may not want them; but for the root.

    Of supervisors only those that are not well: one that starts waits for an agent that starts.
    """
    states = Counter(state for path, state in simulation.unhealthy.items() if path)
    states += Counter(
        agent.state for agent in simulation.agents.values() if agent.state not in _CALM | UNHEALTHY_STATES
    )
    return ", ".join(f"{states[state]} {state.value}" for state in AgentState if states[state])
