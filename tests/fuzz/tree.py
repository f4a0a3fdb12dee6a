"""The tree whose API is attacked, and whoever watches it."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestree_testing.fuzz_agents import BEAT_S, Heartbeat, Idle, Job

from orchestree.supervisor import AgentMessage, AgentState, Command, Event, EventType, Orchestrator, RunMode

from .inputs import COMMANDS, PERMISSIONS

LONGEST_SILENCE_S: Final = 10.0
HEARTBEATS: Final = ("heartbeat", "group/heartbeat")
NEVER: Final = frozenset(
    {
        *(EventType.ORCHESTRATOR_STOPPING, EventType.ORCHESTRATOR_STOPPED, EventType.POLICY_CHANGED),
        *(EventType.SERVICE_FAILED, EventType.HANDLER_FAILED, EventType.LEAK_FOUND, EventType.EVENT_GAP),
        *(EventType.AGENT_CRASHED, EventType.AGENT_STOPPING, EventType.AGENT_RESTARTING, EventType.AGENT_HUNG),
        *(EventType.AGENT_PARKED, EventType.AGENT_WEDGED, EventType.SUPERVISOR_TERMINATED),
        *(EventType.SUPERVISOR_RESTARTING, EventType.AGENT_UNREGISTERED),
    }
)
"""What no permitted command can bring about."""


def attacked(folder: Path) -> Orchestrator:
    """Return the tree, not started, with control socket and history."""
    settings = Orchestrator.Config(
        run_mode=RunMode.DAEMON,
        name="attacked",
        control=str(folder / "attacked.sock"),
        control_permissions=PERMISSIONS,
        history=str(folder / "history.db"),
        history_rows=20_000,
        metrics_port=0,
    )
    tree = Orchestrator(settings)
    tree.register_agent(Heartbeat, "heartbeat")
    group = tree.add_supervisor("group", strategy="one_for_all")
    group.register_agent(Heartbeat, "heartbeat", executor="process")
    group.register_agent(Idle, "idle")
    tree.register_agent(Job, "job")
    return tree


@dataclass
class Watch:
    """Follows the events of a tree until it has ended, in a thread of its own.

    Attributes:
        events: how many of each type.
        commands: how many of each name.
        starts: of each agent, since the beginning.
        beats: of each heartbeat, and below the longest time between two, in seconds.
        problems: what must never be, one line each.
    """

    tree: Orchestrator
    events: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    beats: Counter[str] = field(default_factory=Counter)
    silence: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _last: dict[str, float] = field(default_factory=dict)
    _is_over: bool = False

    def start(self) -> None:
        self._events = self.tree.events.iterate(since=0)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def expect_the_end(self) -> None:
        """From now on the tree may stop."""
        self._is_over = True

    def join(self) -> None:
        self._thread.join()

    def _follow(self) -> None:
        for event in self._events:
            self.events[event.type.value] += 1
            self._look_at(event)

    def _look_at(self, event: Event) -> None:
        if event.type in NEVER and not self._is_over:
            self._complain(f"{event.type} at {event.path!r}: {event.data}")
        match event.data:
            case Command(name=name, uid=uid):
                self.commands[name] += 1
                if name not in COMMANDS or uid != os.geteuid():
                    self._complain(f"a command that nobody may give: {event.data}")
            case AgentMessage() if not self._is_over:
                self._note_beat(event)
        if event.type is EventType.AGENT_STARTING:
            self.starts[event.path] += 1

    def _note_beat(self, event: Event) -> None:
        self.beats[event.path] += 1
        silence = event.monotonic - self._last.get(event.path, event.monotonic)
        self.silence[event.path] = max(self.silence.get(event.path, 0.0), silence)
        self._last[event.path] = event.monotonic

    def _complain(self, what: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(what)


def judge(tree: Orchestrator, watch: Watch, seconds: float) -> list[str]:
    """Return what is wrong with a tree that was attacked for so long."""
    problems = list(watch.problems)
    if not tree.is_running:
        return [*problems, "the tree has ended"]
    for path in (*HEARTBEATS, "group/idle"):
        status = tree.status(path)
        if status.state is not AgentState.READY or status.incarnation != 1:
            problems.append(f"{path} is not as it was: {status}")
    for path in HEARTBEATS:
        silence = max(watch.silence.get(path, seconds), time.monotonic() - watch._last.get(path, 0.0))
        if silence > LONGEST_SILENCE_S or watch.beats[path] < seconds / BEAT_S / 4:
            problems.append(f"{path}: {watch.beats[path]} beats in {seconds:.0f} s, once none for {silence:.1f} s")
    return problems
