"""Real trees, with threads, coroutines and processes: their logs, replayed, give the commands that the core gave."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from orchestree_testing import hanging_agents as hanging
from orchestree_testing.asgi_client import AsgiClient
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.trees import PATIENCE, AsyncDoes, Custom, Does, Switch, a_tree, add, crash, never, wait_for
from replay_support import Noted
from tenacity import RetryCallState, stop_after_attempt, wait_fixed

from orchestree import AgentEntry, Backoff, EventType, Orchestrator, Replay, Rule, Shutdown, StartError, replay
from orchestree.agents.base import BaseAgent
from orchestree.supervisor.core import Core
from orchestree.supervisor.history import EventQuery
from orchestree.supervisor.history_queries import HistoryReader

pytestmark = pytest.mark.slow

E = EventType
SOON = Backoff(wait=wait_fixed(0.05), jitter=0.5)
LIMITED = Backoff(wait=wait_fixed(0.01), stop=stop_after_attempt(3))


class Live:
    """Trees whose core's commands are noted."""

    def __init__(self) -> None:
        self.noted: list[Noted] = []

    def check(self, tree: Orchestrator, make: Callable[[], Orchestrator]) -> Replay:
        """Replay the log of a tree that has ended, alone and with a new one, and compare what was commanded."""
        events = tree.history(limit=None)
        alone, found = replay(events), replay(events, make())
        for one in (alone, found):
            assert one.divergence is None, str(one.divergence)
            self._compare(one)
        assert [one.outcome for one in alone.decisions] == [one.outcome for one in found.decisions]
        return found

    def _compare(self, found: Replay) -> None:
        commanded = [one.command for one in self.noted[0].commands]
        replayed = [one.command for one in found.commands]
        for number, (one, other) in enumerate(zip_longest(commanded, replayed)):
            assert one == other, f"command {number} was {one}, and is {other} in the replay"
        assert commanded


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Live:
    live = Live()

    class NotedCore(Core):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            live.noted.append(Noted(self))

    monkeypatch.setattr("orchestree.supervisor.orchestrator.Core", NotedCore)
    return live


async def fail_later(agent: Any) -> None:
    await agent.sleep(0.02)
    raise ValueError("later")


def shut_down(agent: BaseAgent) -> None:
    raise Shutdown


def deaf(agent: Any) -> None:
    """Not hear that it is to stop, for a while."""
    threading.Event().wait(0.5)


def test_crashes_of_all_executors(live: Live) -> None:
    def make() -> Orchestrator:
        tree = a_tree(backoff=SOON)
        add(tree, "parks", crash, backoff=LIMITED)
        add(tree, "rules", crash, backoff=Backoff(rules=(Rule(action="park", exception="ValueError"),)))
        add(tree, "task", fail_later, kind=AsyncDoes, backoff=LIMITED)
        add(tree, "done", lambda agent: None)
        add(tree, "again", lambda agent: agent.sleep(0.01), restart="permanent", backoff=LIMITED)
        add(tree, "once", crash, restart="temporary")
        add(tree, "leaves", shut_down)
        tree.register_agent(Sleeper, "process", executor="process")
        return tree

    tree = make()
    with tree:
        for count in (1, 2, 3):
            pid = tree.status("process").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            wait_for(tree, E.AGENT_READY, "process", count=count + 1)
        for path in ("parks", "rules", "task", "again"):
            wait_for(tree, E.AGENT_PARKED, path)
    found = live.check(tree, make)
    assert [one.path for one in found.decisions].count("process") == 3
    assert not found.assumptions
    assert "parked: failed 3 times in a row" in found.why("parks")


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one", "dependents"])
def test_groups_and_supervisors_that_give_up(live: Live, strategy: Any) -> None:
    switch = Switch()

    def make() -> Orchestrator:
        tree = a_tree(backoff=SOON)
        group = tree.add_supervisor("group", strategy=strategy, max_restarts=2, max_seconds=60.0)
        add(group, "a")
        add(group, "b", **switch.hooks(), depends_on=["a"])
        add(group, "c", kind=AsyncDoes, depends_on=["b"])
        add(group, "d", restart="temporary")
        return tree

    tree = make()
    with tree:
        for count in range(1, 5):
            switch.throw()
            wait_for(tree, E.AGENT_READY, "group/b", count=count + 1)
    found = live.check(tree, make)
    assert [one.outcome for one in found.decisions if one.path == "group/b"][2:3] == ["escalated"]
    assert [one.outcome for one in found.decisions if one.path == "group"] == ["restarted"]


@pytest.mark.parametrize("replace_wedged", [False, True])
def test_hung_and_wedged_threads(live: Live, replace_wedged: bool) -> None:
    release = threading.Event()

    def make() -> Orchestrator:
        tree = a_tree(backoff=SOON)

        def hang(agent: Any) -> None:
            if agent.incarnation == 1:
                release.wait(PATIENCE)
            agent.sleep(3600)

        fields: dict[str, Any] = {"watchdog": 0.3, "shutdown": 0.05, "replace_wedged": replace_wedged}
        add(tree, "hangs", hang, **fields)
        add(tree, "slow", setup=never, start_timeout=0.2, shutdown=0.05, backoff=LIMITED)
        tree.register_agent(hanging.Hangs, "process", executor="process", params={"hang": never}, watchdog=0.4)
        tree.register_agent(hanging.Beats, "beats", watchdog=0.5)
        return tree

    tree = make()
    with tree:
        wait_for(tree, E.AGENT_WEDGED, "hangs")
        wait_for(tree, E.AGENT_WEDGED, "slow")
        if not replace_wedged:
            release.set()
        wait_for(tree, E.AGENT_READY, "hangs", count=2)
        wait_for(tree, E.AGENT_READY, "process", count=2)
        release.set()
        # Whether a run that ends when its shutdown time is over was still killed, no event tells.
        tree.reconfigure("hangs", shutdown=PATIENCE)
    live.check(tree, make)


def test_an_event_loop_that_is_blocked(live: Live) -> None:
    release = threading.Event()

    def make() -> Orchestrator:
        tree = a_tree(backoff=SOON)

        async def lives(agent: Any) -> None:
            while not await agent.sleep(0.02):
                agent.heartbeat()

        async def blocks(agent: Any) -> None:
            if agent.incarnation == 1:
                release.wait(PATIENCE)
            await lives(agent)

        add(tree, "good", lives, kind=AsyncDoes, watchdog=0.3)
        add(tree, "hog", blocks, kind=AsyncDoes, shutdown=60.0, depends_on=["good"])
        return tree

    tree = make()
    with tree:
        wait_for(tree, E.AGENT_HUNG, "hog")
        release.set()
        wait_for(tree, E.AGENT_READY, "hog", count=2)
    live.check(tree, make)


def test_commands_of_the_program(live: Live) -> None:
    pools: list[Any] = []

    def make() -> Orchestrator:
        tree = a_tree(backoff=SOON)
        add(tree, "a")
        add(tree, "b", depends_on=["a"])
        pools.append(tree.add_supervisor("pool", dynamic=True))
        return tree

    tree = make()
    pool = pools[0]
    with tree:
        tree.stop_agent("a")
        tree.restart_agent("b", timeout=PATIENCE)
        tree.start_agent("a")
        tree.reconfigure("a", shutdown=1.0, restart="permanent")
        tree.reconfigure("", max_restarts=7)
        pool.start_child(AgentEntry(Does, "one"))
        with pytest.raises(StartError):
            pool.start_child(AgentEntry(Does, "two", params={"setup": crash}))
        pool.start_child(AgentEntry(AsyncDoes, "three", executor="async"))
        tree.register_agent(Does, "late", depends_on=["a"])
        tree.register_agent(Does, "bad", params={"setup": crash}, backoff=None, restart="temporary")
        tree.stop_agent("late")
        tree.unregister_agent("late")
        tree.restart_agent("pool/one", timeout=PATIENCE)
        tree.stop_agent("pool/one")
        tree.add_supervisor("family")
        tree.register_agent(Does, "late")
        tree.stop_agent("late")
        tree.stop_agent("late")
    assert live.check(tree, make).assumptions == ()


def own_wait(state: RetryCallState) -> float:
    """Wait longer each time, in a way that no text says."""
    return 0.01 * state.attempt_number**2


def own_stop(state: RetryCallState) -> bool:
    return state.attempt_number > 4


OWN = Backoff(wait=own_wait, stop=own_stop)


def test_policy_that_came_and_changed_while_the_tree_ran(live: Live) -> None:
    switch, other = Switch(), Switch()

    def make() -> Orchestrator:
        tree = a_tree(backoff=Backoff(wait=own_wait, jitter=0.0))
        add(tree, "a", **other.hooks())
        waits = tree.add_supervisor("waits", strategy="rest_for_one", depends_on=["done"])
        add(waits, "x")
        add(tree, "done", lambda agent: agent.sleep(0.2))
        return tree

    tree = make()
    with tree:
        group = tree.add_supervisor("group", strategy="one_for_all", max_restarts=2, max_seconds=60.0)
        group.register_agent(Does, "b", params=switch.hooks())
        group.register_agent(AsyncDoes, "c", depends_on=["b"], significant=False)
        inner = group.add_supervisor("inner", strategy="dependents", backoff=SOON)
        inner.register_agent(Does, "d", params={"execute": crash}, backoff=LIMITED)
        pool = tree.add_supervisor("pool", dynamic=True, max_children=3, max_restarts=100)
        pool.start_child(AgentEntry(Does, "own", backoff=OWN, params={"execute": crash}))
        wait_for(tree, E.AGENT_PARKED, "group/inner/d")
        wait_for(tree, E.AGENT_PARKED, "pool/own")
        for count in range(1, 5):
            switch.throw()
            other.throw()
            wait_for(tree, E.AGENT_READY, "group/b", count=count + 1)
            wait_for(tree, E.AGENT_READY, "a", count=count + 1)
        tree.reconfigure("a", backoff=OWN, shutdown=1.0)
        tree.reconfigure("group", max_restarts=50, strategy="one_for_one", backoff=LIMITED)
        wait_for(tree, E.SUPERVISOR_READY, "waits")
        switch.throw()
        other.throw()
        wait_for(tree, E.AGENT_PARKED, "a")
        wait_for(tree, E.AGENT_READY, "group/b", count=6)
    found = live.check(tree, make)
    assert [one.outcome for one in found.decisions if one.path == "group/b"][2:3] == ["escalated"]
    assert found.assumptions == (
        "the log does not say all of the backoff of pool/own, a: what it decided is taken from the log",
    )
    assert replay(tree.history(limit=None)).assumptions == (
        "the log does not say all of the backoff of /, pool/own, a: what it decided is taken from the log",
    )


def test_commands_through_the_control_api(live: Live) -> None:
    def make() -> Orchestrator:
        tree = a_tree()
        add(tree, "a")
        group = tree.add_supervisor("group", strategy="one_for_all")
        add(group, "b")
        add(group, "c", deaf, shutdown=PATIENCE)
        return tree

    tree = make()
    with tree, AsgiClient(tree) as client:
        for path in (
            *("agents/a/stop", "agents/a/stop", "agents/a/start", "agents/a/start", "agents/a/restart"),
            *("agents/group/b/stop", "agents/group/start", "agents/group/restart", "agents/group/stop"),
            "agents/group/start",
        ):
            assert client.post(f"/v1/{path}?wait=20").status == 200
        client.patch("/v1/agents/a", {"shutdown": 2, "watchdog": 100})
        client.post("/v1/shutdown?wait=20", {"timeout": 20})
    found = live.check(tree, make)
    assert "by uid" in found.why("a", tree.history(type=E.AGENT_TERMINATED, path="a")[0].time)


class Picky(Custom):
    """Takes the last one that waits."""

    def choose_next(self, queued: tuple[str, ...]) -> str | None:
        return queued[-1]


def test_a_queue_for_worker_slots(live: Live) -> None:
    def make() -> Orchestrator:
        tree = a_tree(Picky, max_workers=2, backoff=LIMITED)
        for number in range(6):
            add(tree, f"job-{number}", lambda agent: agent.sleep(0.02))
        add(tree, "bad", crash)
        add(tree, "task", fail_later, kind=AsyncDoes)
        return tree

    tree = make()
    with tree:
        wait_for(tree, E.ALL_AGENTS_TERMINATED)
    live.check(tree, make)


@pytest.mark.parametrize("timeout", [None, 0.3])
def test_stops_that_are_not_heard(live: Live, timeout: float | None) -> None:
    def make() -> Orchestrator:
        tree = a_tree()
        tree.register_agent(hanging.Hangs, "deaf", executor="process", params={"hang": never}, shutdown=0.2)
        tree.register_agent(Sleeper, "killed", executor="process", shutdown="brutal_kill")
        inner = tree.add_supervisor("inner", shutdown=0.5)
        add(inner, "thread", deaf, shutdown=0.1)
        add(inner, "patient", shutdown="infinity")
        tree.register_agent(hanging.Hangs, "later", executor="process", params={"hang": never}, shutdown=30.0)
        return tree

    tree = make()
    tree.start()
    wait_for(tree, E.AGENT_READY, "later")
    if timeout is None:
        pid = tree.status("later").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(tree, E.AGENT_READY, "later", count=2)
    tree.stop(timeout=timeout)
    tree.join(PATIENCE)
    live.check(tree, make)


def test_recycled_processes(live: Live) -> None:
    def make() -> Orchestrator:
        tree = a_tree(max_restarts=0)
        tree.register_agent(hanging.Rounds, "old", executor="process", max_age=0.3)
        return tree

    tree = make()
    with tree:
        wait_for(tree, E.AGENT_READY, "old", count=3)
    live.check(tree, make)


def test_a_start_that_fails_and_one_that_is_stopped(live: Live) -> None:
    def make() -> Orchestrator:
        tree = a_tree(strict_start=True)
        add(tree, "a")
        add(tree, "b", setup=crash, depends_on=["a"])
        return tree

    tree = make()
    with pytest.raises(StartError):
        tree.start()
    tree.join(PATIENCE)
    found = live.check(tree, make)
    assert found.events[-1].type is E.ORCHESTRATOR_STOPPED


def test_a_history_file_with_floods_of_messages(live: Live, tmp_path: Path) -> None:
    def flood(agent: Any) -> None:
        for number in range(5000):
            agent.emit("flood", number=number)
        agent.sleep(0.05)
        crash(agent)

    def make(history: str | None = None) -> Orchestrator:
        tree = a_tree(backoff=LIMITED, history=history)
        add(tree, "floods", flood)
        return tree

    file = tmp_path / "history"
    tree = make(str(file))
    with tree:
        wait_for(tree, E.AGENT_PARKED, "floods")
    events = HistoryReader(file).query(EventQuery(limit=None))
    for tree_given in (None, make()):
        found = replay(events, tree_given)
    assert found.divergence is None
    assert [one.command for one in found.commands] == [one.command for one in live.noted[0].commands]
