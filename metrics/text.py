"""The text of the fixed families, fast enough for large trees: kept for each agent, made again when that has changed.

That is 2.4 KB an agent. What always moves (seconds, beats, usage) is made for every scrape. `collector.py` says the
same, slowly; a test compares the two byte for byte.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from orchestree.supervisor.events import EventType
from orchestree.supervisor.states import AgentState
from orchestree.supervisor.status import Snapshot

from . import families
from .exposition import escaped, head, number, sample
from .families import CAUSES, FAMILIES, STATES, SUPERVISOR_STATES, Family
from .readings import agent_info, build_info, exemplar_of, restarts_limit, shown
from .recording import AgentRecord, Histogram, Recording, SupervisorRecord
from .source import Source

LINES_AT_ONCE: Final = 2_000
"""Lines of about 100 bytes that are encoded in one step."""

_GAP: Final = "\0"  # stands for a path where a text is made to be cut there


def _cut(lines: Iterable[str]) -> tuple[bytes, ...]:
    """Return what stands around the gaps: ``path.join(...)`` fills them all in one step."""
    return tuple("".join(lines).encode().split(_GAP.encode()))


def _state_lines(family: Family, states: Iterable[AgentState], current: AgentState) -> tuple[bytes, ...]:
    of_whom = family.labels[0]
    return _cut(sample(family.name, {of_whom: _GAP, "state": state.value}, state is current) for state in states)


_STATE_OF: Final = {current: _state_lines(families.AGENT_STATE, STATES, current) for current in STATES}
_STATE_OF_SUPERVISOR: Final = {
    current: _state_lines(families.SUPERVISOR_STATE, SUPERVISOR_STATES, current) for current in STATES
}
_UP: Final = {is_up: _cut([sample(families.AGENT_UP.name, {"agent": _GAP}, is_up)]) for is_up in (False, True)}
_NO_ENDS: Final = _cut(sample(families.AGENT_ENDS.name, {"agent": _GAP, "cause": cause.value}, 0) for cause in CAUSES)
_HEADS: Final = {is_open: {one: head(one, open_metrics=is_open) for one in FAMILIES} for is_open in (False, True)}

_NOTHING_YET: Final = AgentRecord()
_NOTHING_YET_BELOW: Final = SupervisorRecord()


class AgentText(NamedTuple):
    """What was made of an agent, and what it was made of. The fields named as families are their lines.

    Attributes:
        version: of the record.
        label: its path as it stands between quotes.
        exemplified: `restarts` with an exemplar.
    """

    snapshot: Snapshot
    record: AgentRecord
    version: int
    label: str
    state: bytes
    info: bytes
    up: bytes
    starts: bytes
    ends: bytes
    restarts: bytes
    exemplified: bytes


class SupervisorText(NamedTuple):
    """What was made of a supervisor, and what it was made of."""

    snapshot: Snapshot
    record: SupervisorRecord
    version: int
    durations: bytes
    limit: bytes
    terminations: bytes
    state: bytes
    restarts: bytes


@dataclass(frozen=True, slots=True)
class Rendering:
    """All fixed families at one moment.

    Attributes:
        lines: by family, cut anywhere between two lines.
        exemplified: what stands in the place of the restarts in OpenMetrics.
    """

    lines: Mapping[Family, Sequence[bytes]]
    exemplified: Sequence[bytes]

    def parts(self, *, open_metrics: bool) -> list[bytes]:
        """Return the text in parts, none of them empty."""
        parts = []
        for family in FAMILIES:
            parts.append(_HEADS[open_metrics][family])
            parts += self.exemplified if open_metrics and family is families.AGENT_RESTARTS else self.lines[family]
        return parts


def _is_made_of(made: AgentText | SupervisorText, snapshot: Snapshot, record: AgentRecord | SupervisorRecord) -> bool:
    """Return whether nothing has changed since; snapshots are replaced, records change in place."""
    return made.snapshot is snapshot and made.record is record and made.version == record.version


class FastText:
    """Renders one tree. Any thread, several at once: one after the other, and who had to wait shares what is new."""

    def __init__(self, source: Source, recording: Recording) -> None:
        """Begin with nothing made."""
        self._source = source
        self._recording = recording
        self._agents: dict[str, AgentText] = {}
        self._supervisors: dict[str, SupervisorText] = {}
        self._lock = threading.Lock()
        self._latest: tuple[float, Rendering] | None = None

    def render(self) -> Rendering:
        """Return the families as they were at some moment since this call."""
        asked = time.monotonic()
        # One at a time: of many threads at work each would keep the supervision loop waiting for a switch interval.
        with self._lock:
            if self._latest is None or self._latest[0] <= asked:
                self._latest = (time.monotonic(), self._render())
            return self._latest[1]

    def _render(self) -> Rendering:
        everything, now = self._source.snapshots(), self._source.now()
        snapshots = shown(everything, now)
        by_kind: dict[str, dict[str, Snapshot]] = {"agent": {}, "supervisor": {}}
        for path, snapshot in snapshots.items():
            by_kind[snapshot.status.kind][path] = snapshot
        self._agents = {path: self._agent(path, snapshot) for path, snapshot in by_kind["agent"].items()}
        self._supervisors = {path: self._supervisor(path, snapshot) for path, snapshot in by_kind["supervisor"].items()}
        agents = list(self._agents.values())
        lines = {
            **_kept(agents),
            **self._moving(agents, now),
            **self._of_supervisors(now),
            **self._whole(agents),
        }
        return Rendering(lines, [agent.exemplified for agent in agents])

    def _agent(self, path: str, snapshot: Snapshot) -> AgentText:
        """Return what is known of an agent, made again if it has changed."""
        record = self._recording.agents.get(path, _NOTHING_YET)
        known = self._agents.get(path)
        if known is not None and _is_made_of(known, snapshot, record):
            return known
        version, status, label = record.version, snapshot.status, escaped(path)
        name = label.encode()
        of_agent = f'{{agent="{label}"}}'
        restarts = f"{families.AGENT_RESTARTS.name}{of_agent} {number(float(record.restarts))}"
        return AgentText(
            snapshot,
            record,
            version,
            label,
            state=name.join(_STATE_OF[status.state]),
            info=sample(families.AGENT_INFO.name, agent_info(self._source, status, record), 1).encode(),
            up=name.join(_UP[status.state is AgentState.READY]),
            starts=f"{families.AGENT_STARTS.name}{of_agent} {number(float(record.starts))}\n".encode(),
            ends=_ends(path, record) if record.ends else name.join(_NO_ENDS),
            restarts=f"{restarts}\n".encode(),
            exemplified=f"{restarts}{_exemplar(record)}\n".encode(),
        )

    def _supervisor(self, path: str, snapshot: Snapshot) -> SupervisorText:
        """Return what is known of a supervisor, made again if it has changed."""
        record = self._recording.supervisors.get(path, _NOTHING_YET_BELOW)
        known = self._supervisors.get(path)
        if known is not None and _is_made_of(known, snapshot, record):
            return known
        version, labels = record.version, {"supervisor": path}
        limit = restarts_limit(self._source, path)
        return SupervisorText(
            snapshot,
            record,
            version,
            durations=_histogram(families.SUPERVISOR_RESTART_DURATION, record.durations, labels),
            limit=sample(families.SUPERVISOR_LIMIT.name, labels, limit).encode(),
            terminations=sample(families.SUPERVISOR_TERMINATIONS.name, labels, record.terminations).encode(),
            state=escaped(path).encode().join(_STATE_OF_SUPERVISOR[snapshot.status.state]),
            restarts=sample(families.SUPERVISOR_RESTARTS.name, labels, record.restarts).encode(),
        )

    def _moving(self, agents: Sequence[AgentText], now: float) -> dict[Family, list[bytes]]:
        """Return what may be another value at every moment."""
        ready, streak, wait = families.AGENT_READY.name, families.AGENT_STREAK.name, families.AGENT_NEXT_RESTART.name
        return {
            families.AGENT_READY: _encoded(
                [f'{ready}{{agent="{one.label}"}} {number(_ready_s(one.snapshot, now))}\n' for one in agents]
            ),
            families.AGENT_STREAK: _encoded(
                [f'{streak}{{agent="{one.label}"}} {number(_streak(one.snapshot, now))}\n' for one in agents]
            ),
            families.AGENT_NEXT_RESTART: _encoded(
                [f'{wait}{{agent="{one.label}"}} {number(_wait_s(one.snapshot, now))}\n' for one in agents]
            ),
            families.AGENT_BEAT_AGE: _encoded(list(self._beat_ages(agents, now))),
            **self._usage(agents),
        }

    def _beat_ages(self, agents: Iterable[AgentText], now: float) -> Iterator[str]:
        last_beat, name = self._source.last_beat, families.AGENT_BEAT_AGE.name
        for one in agents:
            status = one.snapshot.status
            if status.state is AgentState.READY:
                beat = last_beat(status.path, status.incarnation)
                if beat is not None:
                    yield f'{name}{{agent="{one.label}"}} {number(max(0.0, now - beat))}\n'

    def _usage(self, agents: Iterable[AgentText]) -> dict[Family, list[bytes]]:
        cpu, memory = list[str](), list[str]()
        for one in agents:
            status = one.snapshot.status
            if status.executor == "process" and (usage := self._source.usage(status.path)) is not None:
                labels = {"agent": status.path}
                cpu.append(sample(families.AGENT_CPU.name, labels, usage.cpu_s))
                if usage.memory_bytes is not None:
                    memory.append(sample(families.AGENT_MEMORY.name, labels, usage.memory_bytes))
        return {families.AGENT_CPU: _encoded(cpu), families.AGENT_MEMORY: _encoded(memory)}

    def _of_supervisors(self, now: float) -> dict[Family, list[bytes]]:
        in_window = self._source.restarts_in_window
        every = self._supervisors
        return {
            families.SUPERVISOR_RESTART_DURATION: [one.durations for one in every.values()],
            families.SUPERVISOR_WINDOW: _encoded(
                [sample(families.SUPERVISOR_WINDOW.name, {"supervisor": path}, in_window(path, now)) for path in every]
            ),
            families.SUPERVISOR_LIMIT: [one.limit for one in every.values()],
            families.SUPERVISOR_TERMINATIONS: [one.terminations for one in every.values()],
            families.SUPERVISOR_STATE: [one.state for one in every.values()],
            families.SUPERVISOR_RESTARTS: [one.restarts for one in every.values()],
        }

    def _whole(self, agents: Iterable[AgentText]) -> dict[Family, list[bytes]]:
        """Return what is about the tree as a whole."""
        counts = Counter(one.snapshot.status.state for one in agents)
        whole, events = self._source.whole(), self._recording.events
        values = {
            families.WORKERS_LIMIT: math.inf if whole.max_workers is None else whole.max_workers,
            families.QUEUE_LENGTH: counts[AgentState.QUEUED],
            families.PARKED: counts[AgentState.PARKED],
            families.WEDGED_THREADS: counts[AgentState.WEDGED] + whole.abandoned,
            families.HANDLER_ERRORS: events[EventType.HANDLER_FAILED],
            families.EVENTS_DROPPED: whole.events_dropped,
            families.HISTORY_LAG: whole.history_lag_s,
        }
        return {
            **{family: _encoded([sample(family.name, {}, value)]) for family, value in values.items()},
            families.AGENTS: _encoded(
                [sample(families.AGENTS.name, {"state": state.value}, counts[state]) for state in STATES]
            ),
            families.EVENTS: _encoded(
                [sample(families.EVENTS.name, {"type": type.value}, count) for type, count in events.items()]
            ),
            families.LOOP_LAG: [_histogram(families.LOOP_LAG, self._recording.lag, {})],
            families.BUILD_INFO: _encoded([sample(families.BUILD_INFO.name, build_info(self._source), 1)]),
        }


def _kept(agents: Sequence[AgentText]) -> dict[Family, list[bytes]]:
    return {
        families.AGENT_STATE: [one.state for one in agents],
        families.AGENT_INFO: [one.info for one in agents],
        families.AGENT_UP: [one.up for one in agents],
        families.AGENT_STARTS: [one.starts for one in agents],
        families.AGENT_ENDS: [one.ends for one in agents],
        families.AGENT_RESTARTS: [one.restarts for one in agents],
    }


def _encoded(lines: Sequence[str]) -> list[bytes]:
    return ["".join(lines[at : at + LINES_AT_ONCE]).encode() for at in range(0, len(lines), LINES_AT_ONCE)]


# As `Snapshot.at` has it, which makes a new status: too much for ten thousand of them.


def _ready_s(snapshot: Snapshot, now: float) -> float:
    uptime_s = snapshot.status.uptime_s
    return 0.0 if uptime_s is None else uptime_s + (now - snapshot.taken_at)


def _streak(snapshot: Snapshot, now: float) -> float:
    status = snapshot.status
    if status.uptime_s is not None and _ready_s(snapshot, now) >= snapshot.stable_after_s:
        return 0.0
    return float(status.streak)


def _wait_s(snapshot: Snapshot, now: float) -> float:
    wait_s = snapshot.status.next_restart_s
    return 0.0 if wait_s is None else max(0.0, wait_s - (now - snapshot.taken_at))


def _ends(path: str, record: AgentRecord) -> bytes:
    lines = (
        sample(families.AGENT_ENDS.name, {"agent": path, "cause": cause.value}, record.ends.get(cause, 0))
        for cause in CAUSES
    )
    return "".join(lines).encode()


def _exemplar(record: AgentRecord) -> str:
    """Return what links a sample to an event in OpenMetrics; empty if there is none."""
    event, labels = record.last_restart, exemplar_of(record)
    if event is None or labels is None:
        return ""
    inner = ",".join(f'{label}="{escaped(value)}"' for label, value in labels.items())
    return f" # {{{inner}}} 1.0 {event.time}"


def _histogram(family: Family, observed: Histogram, labels: Mapping[str, str]) -> bytes:
    """Return the lines of a histogram."""
    bounds = [*map(number, observed.bounds), "+Inf"]
    counts = list(accumulate(observed.counts))
    name = family.name
    lines = [
        sample(f"{name}_bucket", {**labels, "le": bound}, count) for bound, count in zip(bounds, counts, strict=True)
    ]
    lines += [sample(f"{name}_count", labels, counts[-1]), sample(f"{name}_sum", labels, observed.sum)]
    return "".join(lines).encode()
