"""What `explain` warns of: each warning with a tree where it is just true, and one where it just is not."""

from __future__ import annotations

import asyncio
import time

import pytest
from explained import SOON, beating, in_stop_on_empty, looping, named, root, warned
from tenacity import stop_after_attempt, stop_after_delay, wait_chain, wait_exponential, wait_fixed, wait_none
from virtual import process, supervisor

from orchestree.agents.agent import Agent, LoopingAgent
from orchestree.agents.async_agent import AsyncAgent
from orchestree.agents.base import BaseAgent
from orchestree.strategies.backoff import Backoff
from orchestree.supervisor.explaining import ends_at_once, explain
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.simulation.explained.explanation import Explanation
from orchestree.supervisor.simulation.explained.flapping import MOST_FAILURES
from orchestree.supervisor.spec import AgentEntry, ChildEntry, SupervisorEntry
from orchestree.supervisor.states import RunMode

pytestmark = pytest.mark.policy


def names(*children: ChildEntry, **fields: object) -> list[tuple[str, str]]:
    return named(explain(root(*children, **fields)))


@pytest.mark.parametrize("run_mode", RunMode)
def test_plain_agents_under_the_defaults_are_not_warned_of(run_mode: RunMode) -> None:
    orchestrator = Orchestrator(Orchestrator.Config(run_mode=run_mode, control=False))
    for number in range(10):
        orchestrator.register_agent(LoopingAgentOfOurs, f"w{number}", executor="process" if number % 2 else "thread")
    inner = orchestrator.add_supervisor("inner", strategy="one_for_all")
    inner.register_agent(LoopingAgentOfOurs, "w")
    assert explain(orchestrator).warnings == ()


class LoopingAgentOfOurs(LoopingAgent):
    def runner(self) -> None: ...


# unreachable-give-up


def test_an_agent_that_is_never_given_up_on_keeps_a_stop_on_empty_tree_from_ending() -> None:
    found = warned(in_stop_on_empty(looping("it", backoff=Backoff()), backoff=None), "unreachable-give-up")
    assert found.path == "it"
    assert "no `stop`: still restarted after 64 failures in a row" in found.problem
    assert "stop_after_attempt(5)" in found.advice
    assert named(in_stop_on_empty(looping("it"), backoff=Backoff(stop=stop_after_attempt(5)))) == []
    assert named(explain(looping("it", backoff=Backoff()))) == []  # a daemon is not to end


@pytest.mark.slow
def test_a_stop_that_is_reached_late_is_not_said_to_be_out_of_reach() -> None:
    def stops_at(failures: int) -> list[tuple[str, str]]:
        return named(in_stop_on_empty(looping("it"), backoff=Backoff(stop=stop_after_attempt(failures))))

    assert stops_at(MOST_FAILURES) == []
    assert stops_at(MOST_FAILURES + 1) == []
    assert named(in_stop_on_empty(looping("it"), backoff=Backoff(stop=stop_after_delay(86_400)))) == []


@pytest.mark.slow
def test_without_a_backoff_a_stop_on_empty_tree_ends_by_its_window_if_that_is_narrow_enough() -> None:
    assert ("unreachable-give-up", "it") not in named(in_stop_on_empty(looping("it"), backoff=None))
    wide = supervisor("wide", looping("it"), max_restarts=MOST_FAILURES + 1)
    assert ("unreachable-give-up", "wide/it") in named(in_stop_on_empty(wide, backoff=None))


def test_failures_that_are_an_interval_apart_must_still_add_up() -> None:
    backoff = Backoff(stop=stop_after_attempt(5), stable_after=10.0)
    assert named(in_stop_on_empty(beating("it", 9.99), backoff=backoff)) == []
    found = warned(in_stop_on_empty(beating("it", 10.0), backoff=backoff), "unreachable-give-up")
    assert "failing each 10s (its interval) never adds up: 10s of being ready" in found.problem
    assert found.advice == "stable_after above 10s"


def test_a_temporary_agent_needs_no_stop() -> None:
    assert named(in_stop_on_empty(looping("it", restart="temporary"), backoff=Backoff())) == []


# exhaustible-window


def test_one_flapping_agent_can_exhaust_a_window() -> None:
    # With the shortest delays its failures come at 0, 0, 0.19, 0.56, 1.3, 2.8, 5.8, 11.8 s.
    assert names(looping("it"), max_restarts=7) == []
    found = warned(explain(root(looping("it"), looping("other"), max_restarts=6)), "exhaustible-window")
    assert found.path == ""
    assert (
        found.problem
        == "it, other (each) alone ends it: 7th failure after 5.81s at the soonest, 6 restarts in 10s allowed"
    )


def test_a_stop_may_come_before_the_window_is_exhausted() -> None:
    tree = (looping("it", backoff=Backoff(stop=stop_after_attempt(5))),)
    assert names(*tree, max_restarts=4) == []
    assert names(*tree, max_restarts=3) == [("exhaustible-window", "")]


def test_an_agent_that_counts_as_stable_too_soon_can_exhaust_a_window() -> None:
    # Failing just then it is restarted at once each time: 11 times within 10 s, or not quite.
    def steady(stable_after: float) -> Explanation:
        wait = wait_chain(wait_none(), wait_fixed(stable_after))
        return explain(looping("it", backoff=Backoff(wait=wait, stable_after=stable_after, stop=stop_after_attempt(2))))

    assert named(steady(1.01)) == []
    assert warned(steady(1.0), "exhaustible-window").problem.startswith(
        "it alone ends it by failing each 1s (its stable_after): 11th failure after 10s at the soonest"
    )
    assert ("exhaustible-window", "") in named(steady(0.0))


def test_a_supervisor_that_gives_up_at_once_each_time_can_exhaust_the_window_above() -> None:
    inner = supervisor("inner", looping("it", backoff=SOON), backoff=None)
    assert names(inner) == [("exhaustible-window", "")]


def test_a_window_that_stands_no_restart_at_all_is_meant_so() -> None:
    assert names(looping("it"), looping("other"), max_restarts=0) == []


def test_escalating_is_no_exhausted_window() -> None:
    assert names(looping("it", backoff=Backoff(stop=stop_after_attempt(3), on_give_up="escalate"))) == []


def test_a_window_is_warned_of_once_with_the_agents_that_were_asked_for() -> None:
    tree = root(*(looping(f"w{number}", backoff=None) for number in range(8)))
    assert warned(explain(tree), "exhaustible-window").problem.startswith("w0, w1, w2, w3, w4 and 3 more (each)")
    assert warned(explain(tree, "w3"), "exhaustible-window").problem.startswith("w3 alone ends it")


# shared-failure


def test_more_children_than_restarts_are_ended_by_one_shared_failure() -> None:
    assert names(*(looping(f"w{number}", backoff=SOON) for number in range(10))) == []
    eleven = explain([looping(f"w{number}", backoff=SOON) for number in range(11)])
    assert named(eleven) == [("shared-failure", "")]
    assert eleven.warnings[0].problem == (
        "11 restarts at one moment, if all below it fail, end it: 10 restarts in 10s allowed"
    )


@pytest.mark.parametrize(("max_workers", "found"), [(10, []), (11, [("shared-failure", "")])])
def test_no_more_children_fail_at_one_moment_than_may_run(max_workers: int, found: list[tuple[str, str]]) -> None:
    orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, max_workers=max_workers))
    for number in range(20):
        orchestrator.register_agent(LoopingAgentOfOurs, f"w{number}", backoff=SOON)
    assert named(explain(orchestrator)) == found


def test_only_children_that_come_back_count_to_a_shared_failure() -> None:
    temporary = [looping(f"t{number}", restart="temporary") for number in range(20)]
    lasting = [looping(f"w{number}", backoff=SOON) for number in range(11)]
    inner = supervisor("inner", *(looping(f"i{number}", backoff=SOON) for number in range(5)), backoff=SOON)
    assert names(*temporary, inner, *lasting[:10]) == []
    found = warned(explain([*temporary, inner, *lasting]), "shared-failure")
    assert found.problem.startswith("11 restarts at one moment")
    assert found.advice.startswith("max_restarts=11 or more")


def test_a_failure_that_all_share_is_one_failure_where_all_go_along() -> None:
    assert names(*(looping(f"w{number}", backoff=SOON) for number in range(11)), strategy="one_for_all") == []


# stable-after-below-delay


def test_a_delay_may_be_as_long_as_the_time_that_makes_an_agent_stable() -> None:
    assert names(looping("it", backoff=Backoff(wait=wait_fixed(30)))) == []
    found = warned(explain(looping("it", backoff=Backoff(wait=wait_fixed(30.5)))), "stable-after-below-delay")
    assert found.problem == "waits up to 30.5s, but 30s of being ready already starts its delays anew"


def test_only_delays_that_are_ever_waited_count() -> None:
    grows = wait_exponential(multiplier=1, max=3600)
    assert names(looping("it", backoff=Backoff(wait=grows, stop=stop_after_attempt(5)))) == []
    assert names(looping("it", backoff=Backoff(wait=grows, stop=stop_after_attempt(7)))) == [
        ("stable-after-below-delay", "it")
    ]


# permanent-agent-that-ends


class EndsAtOnce(Agent):
    def execute(self) -> str:
        self.logger.info("done {}", len(self.name))
        return "done" if self.incarnation > 1 else str(self.config)


class Waits(Agent):
    def execute(self) -> None:
        self.sleep(1)


class Loops(Agent):
    def execute(self) -> None:
        while not self.should_stop:
            pass


class Fails(Agent):
    def execute(self) -> None:
        raise ValueError


class Reads(Agent):
    def execute(self) -> None:
        print(list(self.params["lines"]))


class Spreads(Agent):
    def execute(self) -> None:
        print(*self.params["lines"])


class CallsSomebody(Agent):
    def execute(self) -> None:
        time.sleep(3600)


class Awaits(AsyncAgent):
    async def execute(self) -> None:
        await asyncio.sleep(3600)


class EndsAtOnceAsCoroutine(AsyncAgent):
    async def execute(self) -> None: ...


class Inherits(EndsAtOnce): ...


made: dict[str, object] = {"Agent": Agent}
exec("class WithoutSource(Agent):\n    def execute(self): ...", made)


@pytest.mark.parametrize(
    ("agent", "ends"),
    [
        *((EndsAtOnce, True), (EndsAtOnceAsCoroutine, True), (Inherits, True)),
        *((Waits, False), (Loops, False), (Fails, False), (CallsSomebody, False), (Awaits, False)),
        *((Reads, False), (Spreads, False)),
        *((made["WithoutSource"], False), (LoopingAgent, False)),
    ],
)
def test_only_an_agent_that_visibly_returns_is_said_to_end_at_once(agent: type[BaseAgent], ends: bool) -> None:
    assert ends_at_once(agent) is ends


def test_a_permanent_agent_that_ends_at_once_is_warned_of_with_what_comes_of_it() -> None:
    def problem(**fields: object) -> str:
        tree = AgentEntry(EndsAtOnce, "it", restart="permanent", **fields)  # type: ignore[arg-type]
        return warned(explain(tree), "permanent-agent-that-ends").problem

    assert problem(backoff=Backoff(stop=stop_after_attempt(5))).endswith("parked by its 5th end")
    assert problem(backoff=None).endswith("its 11th end ends its supervisor")
    assert problem().endswith("10 more starts in a minute, and so on")
    assert names(AgentEntry(EndsAtOnce, "it")) == []
    assert names(AgentEntry(Waits, "it", restart="permanent")) == []
    assert names(looping("it", restart="permanent")) == []


# shutdown-longer-than-parents


def shutdown_of(*children: ChildEntry, **fields: object) -> str:
    found = explain(root(supervisor("inner", *children, **fields), backoff=SOON)).warnings
    assert all((one.name, one.path) == ("shutdown-longer-than-parents", "inner") for one in found)
    return found[0].problem if found else ""


def test_a_child_may_take_as_long_to_stop_as_its_supervisor() -> None:
    assert shutdown_of(looping("it", shutdown=7.0, backoff=SOON), shutdown=7.0, backoff=SOON) == ""
    problem = shutdown_of(looping("it", shutdown=7.5, backoff=SOON), shutdown=7.0, backoff=SOON)
    assert problem == "it may take 7.5s to stop, its own shutdown is 7s: what is left then is killed"


def test_children_are_stopped_one_by_one_within_their_supervisors_shutdown() -> None:
    three = [process(f"w{number}", shutdown=0.1, backoff=SOON) for number in range(3)]
    assert shutdown_of(*three, shutdown=0.3, backoff=SOON) == ""
    problem = shutdown_of(*three, shutdown=0.29, backoff=SOON)
    assert problem.startswith("its children, stopped one by one, may take 0.3s together")


def test_what_may_take_for_ever_is_longer_than_any_shutdown() -> None:
    problem = shutdown_of(looping("it", shutdown="infinity", backoff=SOON), shutdown=60.0, backoff=SOON)
    assert problem.startswith("it may take for ever to stop")
    assert shutdown_of(looping("it", shutdown="infinity", backoff=SOON), backoff=SOON) == ""
    assert shutdown_of(looping("it", shutdown=60.0, backoff=SOON), shutdown="brutal_kill", backoff=SOON) == ""


def test_children_that_come_when_the_tree_runs_take_no_time_to_stop() -> None:
    pool = SupervisorEntry("pool", dynamic=True, backoff=SOON)
    assert shutdown_of(pool, shutdown=5.0, backoff=SOON) == ""


def test_a_supervisor_without_a_limit_counts_by_what_is_below_it() -> None:
    nested = supervisor("deep", process("it", shutdown=5.0, backoff=SOON), backoff=SOON)
    assert shutdown_of(nested, shutdown=5.0, backoff=SOON) == ""
    assert shutdown_of(nested, shutdown=4.0, backoff=SOON) != ""
