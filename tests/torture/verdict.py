"""What the event log of a run says about it. It sees the log as JSON objects and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from orchestree.supervisor import EventType

Line = Mapping[str, Any]
E = EventType

MARKS: Final = MappingProxyType[str, Callable[[Line], bool]](
    {
        "sigkill": lambda data: data["reason"]["cause"] in ("signal", "oom") and data["report"]["signal"] == "SIGKILL",
        "sigsegv": lambda data: data["reason"]["cause"] == "signal" and data["report"]["signal"] == "SIGSEGV",
        "sigstop": lambda data: data["reason"]["cause"] == "watchdog",
        "exception": lambda data: "Ordered: order " in data["report"]["message"],
        "sys.exit": lambda data: data["reason"]["cause"] == "exit" and data["report"]["exit_code"] == 3,
        "fork server killed": lambda data: data["reason"]["cause"] == "lost",
        "no descriptors": lambda data: "Too many open files" in data["report"]["message"],
    }
)
"""By what a crash of an agent shows that a fault was injected."""


@dataclass(slots=True)
class Life:
    """An agent or a supervisor, as far as the log has been read.

    Attributes:
        phase: ``down``, ``up``, or ``crashed`` while the decision about a crash is due.
        last: the latest event about its state.
        state: what that says.
    """

    phase: str = "down"
    incarnation: int = 0
    executor: str = ""
    last: Line = field(default_factory=dict)
    state: str = "registered"


@dataclass(slots=True)
class Verdict:
    """All that was found.

    Attributes:
        problems: what must not be, one line each, the first first.
        types: how often each type of event came.
        ends: how often each cause ended a run; ``starts`` is the number of runs.
        marks: how often the log shows each fault that an agent can show.
        crashed: how often an agent of each executor has crashed.
        dropped: numbers that gaps account for.
        states: by path, at the number that was asked for.
    """

    problems: list[str] = field(default_factory=list)
    types: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    crashed: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    states: dict[str, str] = field(default_factory=dict)

    @property
    def starts(self) -> int:
        return self.types["agent_starting"]


class Judge:
    """Reads the log, one event after another."""

    def __init__(self, settled: int) -> None:
        """Note the states as they are when the event with this number has been read."""
        self.verdict = Verdict()
        self._settled = settled
        self._seq = 0
        self._monotonic = 0.0
        self._bursts: dict[int, list[int]] = {}
        self._agents: dict[str, Life] = {}
        self._supervisors: dict[str, Life] = {}

    def read(self, events: Iterable[Line]) -> Verdict:
        """Read to the end, and look at what is left."""
        last: Line = {}
        for last in events:
            if self._seq <= self._settled < last["seq"]:
                self._note_states()
            self._number(last)
            self._take(last)
        if last.get("type") != E.ORCHESTRATOR_STOPPED:
            self._object(f"the log ends with {last}")
        if (missing := sum(numbers[-1] + 1 - len(numbers) for numbers in self._bursts.values())) > self.verdict.dropped:
            self._object(f"{missing} messages are missing, and the gaps account for {self.verdict.dropped}")
        for path, life in [*self._agents.items(), *self._supervisors.items()]:
            if life.phase != "down":
                self._object(f"{path or 'the root'} has no end: {life.last}")
        return self.verdict

    def _object(self, problem: str) -> None:
        self.verdict.problems.append(problem)

    def _note_states(self) -> None:
        self.verdict.states = {path: life.state for path, life in self._agents.items()}

    def _number(self, event: Line) -> None:
        """Every number comes once, in order; a gap accounts for those that it names."""
        first, expected = event["seq"], self._seq + 1
        if event["type"] == E.EVENT_GAP:
            first = event["data"]["first"]
            self.verdict.dropped += event["data"]["last"] - first + 1
            if event["seq"] != event["data"]["last"]:
                self._object(f"this gap has another number than its last: {event}")
        if first != expected:
            self._object(f"{first} comes where {expected} is due: {event}")
        if event["monotonic"] < self._monotonic:
            self._object(f"time runs backwards at {event}")
        self._seq, self._monotonic = event["seq"], event["monotonic"]

    def _take(self, event: Line) -> None:
        kind, path = event["type"], event["path"]
        self.verdict.types[kind] += 1
        match kind:
            case E.SUPERVISOR_STARTED | E.SUPERVISOR_RESTARTING | E.SUPERVISOR_TERMINATED:
                self._take_supervisor(event)
            case E.LEAK_FOUND | E.SERVICE_FAILED:
                self._object(f"{kind} at {event['seq']}: {event['data']}")
            case E.AGENT_MESSAGE:
                life = self._agents[path]
                if life.phase != "up" or life.incarnation != event["incarnation"]:
                    self._object(f"a message of a run that is over: {event}")
                if event["data"]["name"] == "flood" and life.executor != "process":  # whose outlet may drop some itself
                    burst = self._bursts.setdefault(event["data"]["data"]["burst"], [])
                    burst.append(event["data"]["data"]["number"])
            case _ if kind.startswith("agent_") and kind != E.AGENT_UNREGISTERED:
                self._take_agent(event, self._agents.setdefault(path, Life()))

    def _take_supervisor(self, event: Line) -> None:
        life, kind = self._supervisors.setdefault(event["path"], Life()), event["type"]
        if kind == E.SUPERVISOR_STARTED:
            if life.phase != "down" or event["incarnation"] != life.incarnation + 1:
                self._object(f"after incarnation {life.incarnation}, which is {life.phase}: {event}")
            life.phase, life.incarnation = "up", event["incarnation"]
        elif kind == E.SUPERVISOR_TERMINATED:
            # One that waits for its restart may be stopped, and then has ended once more.
            if life.phase == "down" and life.last.get("type") != E.SUPERVISOR_RESTARTING:
                self._object(f"ended, though it did not run and was not to run: {event}")
            life.phase = "down"
        elif life.phase != "down":
            self._object(f"restarts without an end: {event}")
        life.last = event

    def _take_agent(self, event: Line, life: Life) -> None:
        kind = event["type"]
        if life.phase == "crashed" and (
            kind not in DECISIONS or event["monotonic"] != life.last["monotonic"]
        ):  # a decision is one moment
            self._object(f"no decision has followed {life.last['seq']}: {event}")
        if kind == E.AGENT_STARTING:
            self._starts(event, life)
        elif kind in DECISIONS:
            self._decides(event, life)
        elif kind in OF_A_RUN:
            if life.phase != "up" or life.incarnation != event["incarnation"]:
                self._object(f"of a run that is not there: {event}")
            if kind == E.AGENT_CRASHED:
                self._crashes(event, life)
        life.state = event["data"].get("state") or STATES.get(kind, life.state)
        life.last = event

    def _starts(self, event: Line, life: Life) -> None:
        if life.phase != "down":
            self._object(f"a second start without an end of the first: {event}")
        if event["incarnation"] != life.incarnation + 1:
            self._object(f"after incarnation {life.incarnation}: {event}")
        life.phase, life.incarnation, life.executor = "up", event["incarnation"], event["data"]["executor"]

    def _crashes(self, event: Line, life: Life) -> None:
        life.phase = "crashed"
        self.verdict.ends[event["data"]["reason"]["cause"]] += 1
        self.verdict.crashed[life.executor] += 1
        self.verdict.marks.update(kind for kind, shows in MARKS.items() if shows(event["data"]))

    def _decides(self, event: Line, life: Life) -> None:
        """Take in what has become of an agent: at the end of a run, or while nothing of it runs."""
        if life.phase == "up":
            reason = event["data"].get("reason")
            self.verdict.ends[reason["cause"] if reason else f"restart: {event['data'].get('cause')}"] += 1
            if life.incarnation != event["incarnation"]:
                self._object(f"the end of another run: {event}")
        elif life.phase == "down" and event["type"] == E.AGENT_PARKED:
            self._object(f"parked, though nothing of it ran: {event}")
        elif life.phase == "down" and event["type"] == E.AGENT_TERMINATED and life.state not in PENDING:
            self._object(f"ended, though nothing of it ran or was to run: {event}")
        if event["type"] == E.AGENT_PARKED and not event["data"]["why"]:
            self._object(f"parked without a reason: {event}")
        life.phase = "down"


DECISIONS: Final = frozenset({E.AGENT_RESTARTING, E.AGENT_TERMINATED, E.AGENT_PARKED})
OF_A_RUN: Final = frozenset({E.AGENT_READY, E.AGENT_HUNG, E.AGENT_STOPPING, E.AGENT_WEDGED, E.AGENT_CRASHED})
PENDING: Final = frozenset({"waiting", "queued", "backoff"})
STATES: Final = MappingProxyType[str, str](
    {
        E.AGENT_WAITING: "waiting",
        E.AGENT_QUEUED: "queued",
        E.AGENT_STARTING: "starting",
        E.AGENT_READY: "ready",
        E.AGENT_STOPPING: "stopping",
        E.AGENT_RESTARTING: "backoff",
        E.AGENT_PARKED: "parked",
        E.AGENT_WEDGED: "wedged",
    }
)


def judge(events: Iterable[Line], summary: Mapping[str, Any], least: int) -> Verdict:
    """Return what the log and the summary of a run say; each fault has to have hit `least` times."""
    verdict = Judge(summary["settled"]).read(events)
    problems = verdict.problems
    problems += summary["problems"]
    for what in ("threads", "descriptors", "children"):
        if summary[what]:
            problems.append(f"{what} are left: {summary[what]}")
    for kind in summary["kinds"]:
        if (hits := summary["hits"].get(kind, 0)) < least:
            problems.append(f"{kind} has hit only {hits} times, and missed {summary['misses'].get(kind, 0)} times")
        if kind in MARKS and verdict.marks[kind] < least:
            problems.append(f"the log shows {kind} only {verdict.marks[kind]} times")
    problems += [f"no {executor} agent has crashed" for executor in EXECUTORS if not verdict.crashed[executor]]
    for name, state in (("steady", "ready"), ("hopeless", "parked"), ("jobs", "completed")):
        found = {path: verdict.states.get(path) for path in summary[name]}
        problems += [f"{path} came to rest as {was}, not as {state}" for path, was in found.items() if was != state]
    return verdict


EXECUTORS: Final = ("thread", "async", "process")


def table(summary: Mapping[str, Any], verdict: Verdict) -> str:
    """Return the summary for a person."""
    rows: list[tuple[str, object]] = [("seed", summary["seed"]), ("seconds", round(summary["seconds"]))]
    rows += [
        (f"hit: {kind}", f"{_of(summary['hits'], kind)} ({_of(summary['misses'], kind)} missed)")
        for kind in summary["kinds"]
    ]
    rows += [(f"crashes: {executor}", verdict.crashed[executor]) for executor in EXECUTORS]
    rows += [("events", sum(verdict.types.values()) + verdict.dropped), ("of these dropped", verdict.dropped)]
    rows += [("starts", verdict.starts), ("ends", verdict.ends.total())]
    rows += [(f"end: {cause}", count) for cause, count in verdict.ends.most_common()]
    rows += [("problems", len(verdict.problems))]
    return "\n".join(f"{name:28} {value}" for name, value in rows)


def _of(counts: Mapping[str, int], kind: str) -> int:
    return counts.get(kind, 0)


def first_of(problems: Sequence[str], most: int = 20) -> str:
    """Return the first problems, each on a line of its own."""
    rest = [f"... and {len(problems) - most} more"] if len(problems) > most else []
    return "\n".join([*(problem[:1000] for problem in problems[:most]), *rest])
