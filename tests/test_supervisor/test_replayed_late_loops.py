"""Whatever happens while the loop is late by whatever it is late: the log leads to what was decided."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from replay_support import Noted, noted
from tenacity import stop_after_attempt, stop_never, wait_fixed
from virtual import VirtualTree, agent, process, supervisor

from orchestree import Backoff, replay
from orchestree.agents.ends import NORMAL
from orchestree.agents.executor import RunMessage
from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor.inputs import KillRun, Tick
from orchestree.supervisor.spec import AgentEntry
from orchestree.supervisor.world import Settings

PATHS = ("a", "b", "c", "s/x", "s/y", "s/z")


class LateTree(VirtualTree):
    """A random tree to which random things happen, and whose deadlines fire late."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        strategy = dice.choice(["one_for_one", "one_for_all", "rest_for_one"])
        group = supervisor("s", *map(self._entry, "xyz"), strategy=strategy, max_restarts=100, max_seconds=1.0)
        settings = Settings(draw=random.Random(seed).random, seed=None)
        super().__init__(*map(self._entry, "abc"), group, settings=settings, started=False, max_restarts=1000)

    def _entry(self, name: str) -> AgentEntry:
        wait, stop = (
            wait_fixed(self.dice.choice([0.04, 0.1, 0.25])),
            self.dice.choice([stop_never, stop_after_attempt(3)]),
        )
        return self.dice.choice([agent, agent, process])(
            name,
            start_timeout=self.dice.choice([None, 0.3, 0.5]),
            shutdown=self.dice.choice([0.05, 0.2, 5.0]),
            watchdog=self.dice.choice([None, None, 0.4, 0.7]),
            restart=self.dice.choice(["permanent", "transient", "temporary"]),
            backoff=Backoff(wait=wait, stop=stop, jitter=self.dice.choice([0.0, 0.5])),
            replace_wedged=self.dice.random() < 0.3,
        )

    def live_until(self, end: float) -> None:
        while self.now < end:
            due, step = self.core.next_deadline(), self.dice.uniform(0.0, 0.06)
            late = self.dice.choice([0.0005, self.dice.uniform(0.0, 0.02), self.dice.uniform(0.0, 0.15)])
            if due is not None and due + late <= self.now + step:
                self.now = max(self.now + 1e-6, due + late)
                self.tell(Tick())
            else:
                self.now += step + 1e-6
                with suppress(OrchestreeError):  # a command that is refused
                    self._happen(self.dice.choice(PATHS))

    def _happen(self, path: str) -> None:
        runs = [run for run in self.live if run.path == path]
        match self.dice.randrange(9):
            case 0:
                self.stubborn ^= {path}
            case 1:
                self.manual ^= {path}
            case 2 if runs:
                self.crash(path)
            case 3 if runs:
                self.end(path, NORMAL)
            case 4 if runs:
                self.tell(RunMessage(runs[-1], "alive", {}))
            case 5:
                self.beats = {} if path in self.beats else {**self.beats, path: (self.now, "")}
            case 6 if self.dice.random() < 0.2:
                self.stop_agent(path)
            case 7 if self.dice.random() < 0.5:
                self.start_agent(path)
            case 8 if runs:
                self.ready(path)
            case _:
                pass


def without_kills(noted: Noted, until: float) -> list[object]:
    """Return what was commanded but for kills: no event tells when those were."""
    return [one.command for one in noted.commands if one.now <= until and not isinstance(one.command, KillRun)]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_the_log_of_a_loop_that_is_late_leads_to_the_same_decisions(first: int) -> None:
    for seed in range(first, first + 50):
        tree = LateTree(seed)
        before = noted(tree)
        tree.live_until(4.0)
        found = replay(before.events())
        assert found.divergence is None, f"seed {seed}: {found.divergence}"
        commands = [one.command for one in found.commands if not isinstance(one.command, KillRun)]
        assert commands == without_kills(before, found.events[-1].monotonic), f"seed {seed}"
