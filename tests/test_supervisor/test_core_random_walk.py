"""Random trees, random inputs: the core never breaks an invariant, and every tree can be stopped."""

from __future__ import annotations

import random

import pytest
from checked import CheckedTree
from tenacity import stop_after_attempt, wait_fixed
from virtual import agent, process, supervisor

from orchestree.agents.ends import IGNORED, NORMAL, SHUTDOWN, Cause, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunReady
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.rules import Rule
from orchestree.strategies.errors import OrchestreeError
from orchestree.supervisor.spec import ChildEntry
from orchestree.supervisor.states import RunMode
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "dependents")
RESTARTS = ("permanent", "transient", "temporary")
REASONS: tuple[ExitReason, ...] = (NORMAL, IGNORED, SHUTDOWN, abnormal(Cause.EXCEPTION), abnormal(Cause.SIGNAL))
BACKOFFS = (
    Backoff(),
    Backoff(wait=wait_fixed(1.0)),
    Backoff(stop=stop_after_attempt(2)),
    Backoff(stop=stop_after_attempt(2), on_give_up="escalate"),
    Backoff(rules=(Rule(action="park", cause="signal"),)),
    None,
)


class Walk:
    """One random tree and what happens to it; the seed decides on everything."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.said: list[str] = []
        rng = self.rng
        settings = Settings(
            run_mode=rng.choice((RunMode.DAEMON, RunMode.DAEMON, RunMode.STOP_ON_EMPTY)),
            max_workers=rng.choice((None, 1, 2, 3)),
            draw=rng.random,
            backoff=rng.choice(BACKOFFS),
            choose_next=rng.choice((None, None, lambda queued: queued[-1])),
        )
        auto = rng.choice(("never", "never", "any_significant", "all_significant"))
        children = self.children(2, auto)
        self.tree = CheckedTree(
            *children,
            settings=settings,
            started=False,
            strategy=rng.choice(STRATEGIES),
            max_restarts=rng.choice((1, 3, 10)),
            auto_shutdown=auto,
        )
        for path in self.tree.core.world.nodes:
            if rng.random() < 0.5:
                self.tree.manual.add(path)
            elif rng.random() < 0.2:
                self.tree.stubborn.add(path)
            elif rng.random() < 0.1:
                self.tree.failing.add(path)

    def children(self, depth: int, auto: str) -> list[ChildEntry]:
        entries: list[ChildEntry] = []
        for number in range(self.rng.randint(1, 4)):
            names = [entry.name for entry in entries]
            entries.append(self.child(f"{'abcdef'[number]}", names, depth, auto))
        if self.rng.random() < 0.3:
            self.rng.shuffle(entries)
        return entries

    def child(self, name: str, names: list[str], depth: int, auto: str) -> ChildEntry:
        rng = self.rng
        restart = rng.choice(RESTARTS)
        fields: dict[str, object] = {
            "restart": restart,
            "depends_on": rng.sample(names, min(len(names), rng.choice((0, 0, 1, 2)))),
            "significant": auto != "never" and restart != "permanent" and rng.random() < 0.5,
            "shutdown": rng.choice((0.5, 2.0, "brutal_kill", "infinity")),
        }
        if rng.random() < 0.4:
            fields["backoff"] = rng.choice(BACKOFFS)
        if depth and rng.random() < 0.3:
            inner = rng.choice(("never", "never", "any_significant", "all_significant"))
            return supervisor(
                name,
                *self.children(depth - 1, inner),
                strategy=rng.choice(STRATEGIES),
                max_restarts=rng.choice((0, 1, 5)),
                auto_shutdown=inner,
                **fields,
            )
        fields["strategy"] = rng.choice((None, None, *STRATEGIES))
        fields["replace_wedged"] = rng.random() < 0.2
        fields["start_timeout"] = rng.choice((None, 1.0, 60.0))
        return rng.choice((agent, process))(name, **fields)

    def run(self, steps: int) -> None:
        self.say("start")
        self.tree.start()
        for _ in range(steps):
            if self.tree.exit_code is not None:
                break
            self.step()
        self.finish()

    def say(self, text: str) -> None:
        self.said.append(f"{self.tree.now:g}: {text}")

    def step(self) -> None:
        live = list(self.tree.live)
        choice = self.rng.random()
        if choice < 0.2 and live:
            run = self.rng.choice(live)
            self.say(f"ready {run}")
            self.tree.tell(RunReady(run))
        elif choice < 0.55 and live:
            run, reason = self.rng.choice(live), self.rng.choice(REASONS)
            self.say(f"end {run} {reason}")
            self.tree.tell(self.tree._end(run, reason))
        elif choice < 0.6:
            run = RunId(self.path(), self.rng.randint(0, 3))
            if run not in self.tree.live:
                self.say(f"stale {run}")
                self.tree.tell(RunReady(run))
                self.tree.tell(RunEnded(run=run, reason=NORMAL))
        elif choice < 0.75:
            seconds = self.rng.choice((0.0, 0.1, 0.25, 0.5, 1.0, 5.0, 40.0))
            self.say(f"advance {seconds}")
            self.tree.advance(seconds)
        else:
            self.operate()

    def path(self) -> str:
        return self.rng.choice(list(self.tree.core.world.nodes))

    def operate(self) -> None:
        path, name = self.path(), self.rng.choice(("start", "stop", "restart", "register", "unregister", "start"))
        try:
            match name:
                case "start":
                    self.say(f"start {path}")
                    self.tree.start_agent(path)
                case "stop":
                    self.say(f"stop {path}")
                    self.tree.stop_agent(path)
                case "restart":
                    self.say(f"restart {path}")
                    self.tree.restart_agent(path)
                case "unregister":
                    self.say(f"unregister {path}")
                    self.tree.unregister(path)
                case _:
                    entry = self.child(self.rng.choice("abcdefgh"), ["a", "b"], 1, "never")
                    self.say(f"register {path} {entry.name} {entry.restart} {entry.depends_on}")
                    self.tree.register(path, entry)
        except OrchestreeError as error:
            self.say(f"  refused: {error}")

    def finish(self) -> None:
        """Stop the tree: whatever happened, it ends, and nothing that can be killed is left."""
        if self.rng.random() < 0.3:
            self.say("stop the tree with a deadline")
            self.tree.stop(timeout=1.0)
            self.tree.advance(1.2)
        else:
            self.say("stop the tree")
            self.tree.stop()
        for _ in range(1000):
            if self.tree.exit_code is not None or not self.tree.live:
                break
            run = self.rng.choice(list(self.tree.live))
            reason = self.rng.choice((*REASONS, NORMAL))
            self.say(f"end {run} {reason}")
            self.tree.tell(self.tree._end(run, reason))
        assert self.tree.exit_code is not None, "the tree did not end"
        for run in list(self.tree.live):
            abandoned = run in self.tree.core.world.abandoned
            assert abandoned or self.tree.state(run.path) == "wedged"
            self.tree.tell(self.tree._end(run, NORMAL))
        if self.tree.core.world.settings.max_workers is not None:
            assert self.tree.core.world.free_slots == self.tree.core.world.settings.max_workers


def walk(seed: int, steps: int) -> None:
    this = Walk(seed)
    try:
        this.run(steps)
    except Exception as error:
        raise AssertionError("\n".join([f"seed {seed}, {error!r}", *this.said[-40:]])) from error


def test_a_few_short_walks_break_no_invariant() -> None:
    for seed in range(40):
        walk(seed, steps=40)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1200, 300))
def test_whatever_happens_no_invariant_of_the_core_is_ever_broken(first: int) -> None:
    for seed in range(first, first + 300):
        walk(seed, steps=60)
