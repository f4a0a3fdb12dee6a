"""Restart type and exit reason, R01-R10: who comes back, what is told of it, what is counted."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import psutil
import pytest
from checked import CheckedTree
from orchestree_testing.bombs import Bomb
from orchestree_testing.once import AsyncEndsOnce, EndsOnce
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.process_harness import wait_until_gone
from orchestree_testing.trees import PATIENCE, a_tree, trace, types, wait_for
from otp_support import at, child, every_executor, every_strategy, permanent, pool_of, stamps, stops, story, ups
from virtual import refused, supervisor

from orchestree.agents.base import BaseAgent
from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, CrashReport, ExitKind, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunReady
from orchestree.strategies.errors import AlreadyPresent, AlreadyStarted, NotFound
from orchestree.supervisor import AgentState, EventType, Orchestrator
from orchestree.supervisor.core import Core
from orchestree.supervisor.events import AgentCrashed, AgentTerminated
from orchestree.supervisor.inputs import Emit, StartRun, StartTree
from orchestree.supervisor.reading import TreeReader
from orchestree.supervisor.spec import SupervisorEntry
from orchestree.supervisor.status import ChildCounts
from orchestree.supervisor.world import Settings

E = EventType
GOOD_CAUSES = {Cause.NORMAL, Cause.IGNORE, Cause.SHUTDOWN, Cause.MAX_RESTARTS, Cause.ESCALATED}
ABNORMAL = [abnormal(cause) for cause in Cause if cause not in GOOD_CAUSES]
WELL = [NORMAL, SHUTDOWN]
RESTARTS = ("permanent", "transient", "temporary")
every_reason = pytest.mark.parametrize("reason", [*WELL, *ABNORMAL], ids=str)


def three(strategy: str, restart: str) -> CheckedTree:
    """Return a tree whose middle child has this restart type, and has run for a second."""
    tree = CheckedTree(
        permanent("before"),
        child("it", restart=restart),
        permanent("behind"),
        strategy=strategy,
        max_restarts=1,
    )
    tree.advance(1.0)
    return tree


def crashed(reason: ExitReason) -> str:
    """Return the line that reports an end; none for a good one."""
    return f"CRASHED({reason.cause}) it" if reason.kind is ExitKind.ABNORMAL else ""


def restarted(strategy: str) -> str:
    """Return the lines of the restart of the middle child, and of those that the strategy takes along."""
    match strategy:
        case "one_for_all":
            group = f"{stops('behind', 'before')}, {ups('before', 'it', 'behind')}"
        case "rest_for_one":
            group = f"{stops('behind')}, {ups('it', 'behind', one_by_one=True)}"
        case _:
            group = ups("it")
    return f"RESTARTING(failure) it, {group}"


@pytest.mark.otp("R01")
@every_strategy
@every_reason
def test_a_permanent_child_comes_back_after_every_end_is_reported_and_counted(
    strategy: str, reason: ExitReason
) -> None:
    tree = three(strategy, "permanent")
    mark = tree.mark()
    tree.end("it", reason)
    assert story(tree, mark) == at(1.0, crashed(reason), restarted(strategy))
    assert tree.states() == {"before": "ready", "it": "ready", "behind": "ready"}
    assert stamps(tree) == 1


@pytest.mark.otp("R02", "R06")
@every_strategy
@pytest.mark.parametrize("reason", ABNORMAL, ids=str)
def test_a_transient_child_comes_back_after_every_abnormal_end_is_reported_and_counted(
    strategy: str, reason: ExitReason
) -> None:
    tree = three(strategy, "transient")
    mark = tree.mark()
    tree.end("it", reason)
    assert story(tree, mark) == at(1.0, crashed(reason), restarted(strategy))
    assert stamps(tree) == 1


@pytest.mark.otp("R02", "R04")
@every_strategy
@pytest.mark.parametrize("reason", WELL, ids=str)
def test_a_transient_child_that_ended_well_stays_listed_unreported_and_uncounted_and_touches_nobody(
    strategy: str, reason: ExitReason
) -> None:
    tree = three(strategy, "transient")
    mark = tree.mark()
    tree.end("it", reason)
    tree.advance(100.0)
    assert story(tree, mark) == at(1.0, f"TERMINATED({reason.cause}) it")
    assert tree.states() == {"before": "ready", "it": "completed", "behind": "ready"}
    assert stamps(tree) == 0
    tree.start_agent("it")
    assert tree.incarnations() == {"before": 1, "it": 2, "behind": 1}


@pytest.mark.otp("R03", "R04")
@every_strategy
@every_reason
def test_a_temporary_child_never_comes_back_leaves_the_tree_is_reported_only_if_it_failed_and_touches_nobody(
    strategy: str, reason: ExitReason
) -> None:
    tree = three(strategy, "temporary")
    mark = tree.mark()
    tree.end("it", reason)
    tree.advance(100.0)
    assert story(tree, mark) == at(1.0, crashed(reason), f"TERMINATED({reason.cause}) it")
    assert tree.states() == {"before": "ready", "behind": "ready"}
    assert tree.incarnations() == {"before": 1, "behind": 1}
    assert stamps(tree) == 0
    assert isinstance(refused(lambda: tree.start_agent("it")), NotFound)


@pytest.mark.otp("R03")
@every_strategy
@pytest.mark.parametrize("end", ["killed", "normal", "abnormal", "by command"])
def test_only_a_temporary_child_frees_its_name(strategy: str, end: str) -> None:
    """The suite's `do_not_save_child_specs_for_temporary_children`."""
    reasons = {"killed": abnormal(Cause.SIGNAL), "normal": NORMAL, "abnormal": abnormal(Cause.EXCEPTION)}
    for restart in ("permanent", "transient", "temporary"):
        tree = three(strategy, restart)
        if end == "by command":
            tree.stop_agent("it")
        else:
            tree.end("it", reasons[end])
        register = partial(tree.register, "", child("it", restart=restart))
        if restart == "temporary":
            register()
            assert tree.states() == {"before": "ready", "behind": "ready", "it": "ready"}
        else:
            is_up = tree.state("it") == "ready"
            assert type(refused(register)) is (AlreadyStarted if is_up else AlreadyPresent)


@pytest.mark.otp("R04")
@every_strategy
@pytest.mark.parametrize(
    ("restart", "reason"),
    [("transient", NORMAL), ("transient", SHUTDOWN), *[("temporary", reason) for reason in [*WELL, *ABNORMAL]]],
    ids=str,
)
def test_an_end_without_restart_leaves_siblings_alone_whatever_they_are_doing(
    strategy: str, restart: str, reason: ExitReason
) -> None:
    tree = CheckedTree(
        permanent("up"), supervisor("team", permanent("member")), child("it", restart=restart),
        permanent("starting"), permanent("stopping"), permanent("stopped"),
        strategy=strategy, max_restarts=0,
    )  # fmt: skip
    tree.manual |= {"starting", "stopping"}
    tree.stop_agent("stopped")
    tree.stop_agent("stopping")
    tree.restart_agent("starting")
    tree.end("starting", NORMAL)
    runs = [run for run in tree.live if run.path != "it"]
    mark = tree.mark()
    tree.end("it", reason)
    assert [path for _, _, path, _ in tree.log[mark:]] == ["it"] * (1 + (reason.kind is ExitKind.ABNORMAL))
    assert list(tree.live) == runs
    assert [tree.state(name) for name in ("up", "team", "team/member", "starting", "stopping", "stopped")] == [
        "ready", "ready", "ready", "starting", "stopping", "stopped",
    ]  # fmt: skip


@pytest.mark.otp("R01", "R02", "R03", "R05")
@pytest.mark.parametrize("restart", RESTARTS)
@every_reason
def test_in_a_dynamic_supervisor_what_does_not_come_back_leaves_the_tree(restart: str, reason: ExitReason) -> None:
    """Also a transient child that ended well; the others stay up, whatever it was."""
    tree = pool_of(permanent("one"), child("it", restart=restart), permanent("two"), max_restarts=1)
    tree.advance(1.0)
    mark = tree.mark()
    tree.end("pool/it", reason)
    is_abnormal = reason.kind is ExitKind.ABNORMAL
    comes_back = restart == "permanent" or (restart == "transient" and is_abnormal)
    assert story(tree, mark) == at(
        1.0,
        f"CRASHED({reason.cause}) pool/it" if is_abnormal else "",
        f"RESTARTING(failure) pool/it, {ups('pool/it')}" if comes_back else f"TERMINATED({reason.cause}) pool/it",
    )
    assert list(tree.states()) == ["pool", "pool/one", *["pool/it"] * comes_back, "pool/two"]
    assert tree.node("pool/one").incarnation == tree.node("pool/two").incarnation == 1
    assert stamps(tree, "pool") == int(comes_back)
    workers = 2 + comes_back
    counts = TreeReader(tree.core.world).count("pool")
    assert counts == ChildCounts(specs=workers, active=workers, supervisors=0, workers=workers)


@pytest.mark.otp("R05")
@pytest.mark.parametrize("restart", RESTARTS)
def test_the_last_child_of_a_dynamic_supervisor_leaves_it_empty_and_up(restart: str) -> None:
    tree = pool_of(child("it", restart=restart))
    tree.stop_agent("pool/it")
    assert tree.states() == {"pool": "ready"}
    tree.start_child("pool", child("it", restart=restart))
    assert tree.states() == {"pool": "ready", "pool/it": "ready"}


@pytest.mark.otp("R10")
@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_dynamic_child_that_ignores_its_restart_is_gone_and_its_supervisor_stops_cleanly(restart: str) -> None:
    """The suite's `simple_one_for_one_restart_ignore`: it fails twice, and is not needed at its third start."""
    tree = pool_of(child("it", restart=restart), permanent("other"), max_restarts=2)
    tree.crash("pool/it")
    tree.manual.add("pool/it")
    tree.crash("pool/it")
    mark = tree.mark()
    tree.ignore("pool/it")
    assert story(tree, mark) == at(0.0, "TERMINATED(ignore) pool/it")
    assert tree.states() == {"pool": "ready", "pool/other": "ready"}
    assert TreeReader(tree.core.world).count("pool").specs == 1
    assert stamps(tree, "pool") == 2
    tree.advance(100.0)
    mark = tree.mark()
    tree.stop()
    assert story(tree, mark) == at(
        100.0,
        "ORCHESTRATOR_STOPPING(command), STOPPING(supervisor) pool/other, TERMINATED(shutdown) pool/other",
        "SUPERVISOR_TERMINATED(shutdown) pool, SUPERVISOR_TERMINATED(shutdown), ORCHESTRATOR_STOPPED(command)",
    )
    assert tree.exit_code == 0


@pytest.mark.otp("R07")
@pytest.mark.parametrize(
    "stranger",
    [
        RunId("nobody", 1), RunId("", 1), RunId("team", 1), RunId("team/nobody", 1),
        RunId("it", 0), RunId("it", 1), RunId("it", 3), RunId("down", 1), RunId("gone", 1), RunId("removed", 1),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, abnormal(Cause.SIGNAL)], ids=str)
def test_the_end_of_what_is_no_child_is_ignored(stranger: RunId, reason: ExitReason) -> None:
    """A stranger; a supervisor; an old or future incarnation; one that has ended, or left the tree, before."""
    tree = CheckedTree(
        permanent("it"), child("down"), child("gone", restart="temporary"), child("removed"),
        supervisor("team", permanent("member")), strategy="one_for_all", max_restarts=1,
    )  # fmt: skip
    tree.crash("it")
    tree.complete("down")
    tree.complete("removed")
    tree.unregister("removed")
    assert tree.node("it").incarnation == 2
    mark, before = tree.mark(), (tree.states(), tree.incarnations(), stamps(tree), list(tree.live))
    tree.tell(RunEnded(run=stranger, reason=reason))
    tree.tell(RunReady(stranger, pid=4711))
    assert story(tree, mark) == []
    assert (tree.states(), tree.incarnations(), stamps(tree), list(tree.live)) == before


@pytest.mark.otp("R08")
@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
def test_ends_are_handled_in_the_order_in_which_they_arrive_one_at_a_time(order: str) -> None:
    """All three ends wait to be looked at; whatever the start order is, the first to come is the first served."""
    core = Core(SupervisorEntry("", children=[permanent(name) for name in "abc"], max_restarts=3), Settings())
    core.handle(StartTree(), 0.0)
    ends = [RunEnded(run=RunId(name, 1), reason=abnormal(Cause.EXCEPTION)) for name in order]
    effects = [effect for end in ends for effect in core.handle(end, 1.0)]
    lines = [f"StartRun {effect.run.path}" for effect in effects if isinstance(effect, StartRun)]
    told = [f"{type(effect.data).__name__} {effect.path}" for effect in effects if isinstance(effect, Emit)]
    assert len(lines) + len(told) == len(effects)
    assert lines == [f"StartRun {name}" for name in order]
    assert told == [f"{kind} {name}" for name in order for kind in ("AgentCrashed", "AgentRestarting", "AgentStarting")]


@pytest.mark.otp("R09")
@every_strategy
@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_a_child_that_ignores_its_restart_stays_listed_is_not_tried_again_and_was_counted_once(
    strategy: str, restart: str
) -> None:
    tree = CheckedTree(child("it", restart=restart), permanent("behind"), strategy=strategy, max_restarts=1)
    tree.manual.add("it")
    tree.advance(1.0)
    tree.crash("it")
    mark = tree.mark()
    tree.ignore("it")
    tree.advance(100.0)
    # Under REST_FOR_ONE the one behind waited to hear of it.
    goes_on = ups("behind") if strategy == "rest_for_one" else ""
    assert story(tree, mark) == at(1.0, "TERMINATED(ignore) it", goes_on)
    assert (tree.state("it"), tree.state("behind")) == ("completed", "ready")
    assert stamps(tree) == 0
    tree.manual.clear()
    tree.start_agent("it")
    assert (tree.state("it"), tree.node("it").incarnation) == ("ready", 3)


# Real ends. What each of them is for policy: cause, and whether it is abnormal.
ENDS = {
    "return done": (Cause.NORMAL, False),
    "exit": (Cause.NORMAL, False),
    "exit 0": (Cause.NORMAL, False),
    "shutdown": (Cause.SHUTDOWN, False),
    "exit 3": (Cause.EXIT, True),
    "exit because": (Cause.EXIT, True),
    "raise lost": (Cause.EXCEPTION, True),
    "cancel": (Cause.EXCEPTION, True),
    "leave 0": (Cause.NORMAL, False),
    "leave 3": (Cause.EXIT, True),
    "SIGKILL": (Cause.SIGNAL, True),
    "SIGSEGV": (Cause.SIGNAL, True),
}
# A thread cannot be killed, and neither a thread nor a task can leave the process alone.
PROCESS_ONLY = ("leave 0", "leave 3", "SIGKILL", "SIGSEGV")
Kind = tuple[str, type[BaseAgent]]
KINDS: tuple[Kind, ...] = (
    ("thread", EndsOnce),
    ("async", AsyncEndsOnce),
    ("process", EndsOnce),
    ("process", AsyncEndsOnce),
)
CASES = [
    (kind, end)
    for kind in KINDS
    for end in ENDS
    if kind[0] == "process" or end not in PROCESS_ONLY
]  # fmt: skip


def name_of(end: str, restart: str) -> str:
    return f"{end.replace(' ', '-')}.{restart}"


@pytest.fixture(scope="module")
def trees() -> Iterator[dict[Kind, Orchestrator]]:
    """Return, for each kind of agents, a running tree in which one agent of each restart type ends in each way."""
    found = {kind: a_tree() for kind in KINDS}
    try:
        for kind, end in CASES:
            executor, family = kind
            register: Any = found[kind].register_agent
            for restart in RESTARTS:
                script = "sleep" if end.startswith("SIG") else end
                name = name_of(end, restart)
                register(family, name, execute=script, executor=executor, restart=restart, backoff=None)
        for tree in found.values():
            tree.start()
        yield found
    finally:
        for tree in found.values():
            if tree.is_running:
                tree.stop()


@pytest.mark.otp("R01", "R02", "R03", "R06")
@pytest.mark.slow
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize(
    ("kind", "end"), CASES, ids=[f"{family.__name__}-{executor}-{end}" for (executor, family), end in CASES]
)
def test_a_real_end_is_taken_for_what_it_is(
    trees: dict[Kind, Orchestrator], kind: Kind, end: str, restart: str
) -> None:
    tree, path = trees[kind], name_of(end, restart)
    cause, is_abnormal = ENDS[end]
    comes_back = restart == "permanent" or (restart == "transient" and is_abnormal)
    if end.startswith("SIG"):
        wait_for(tree, E.AGENT_READY, path)
        pid = tree.status(path).pid
        assert pid is not None
        os.kill(pid, signal.Signals[end])
    if comes_back:
        wait_for(tree, E.AGENT_READY, path, count=2)
    else:
        wait_for(tree, E.AGENT_TERMINATED, path)
    assert [type for type in types(tree, path) if type is not E.AGENT_MESSAGE] == [
        *(E.AGENT_REGISTERED, E.AGENT_STARTING, E.AGENT_READY),
        *((E.AGENT_CRASHED,) if is_abnormal else ()),
        *((E.AGENT_RESTARTING, E.AGENT_STARTING, E.AGENT_READY) if comes_back else (E.AGENT_TERMINATED,)),
    ]
    told = tree.history(path, E.AGENT_CRASHED if is_abnormal else None, limit=None)
    causes = [event.data.reason.cause for event in told if isinstance(event.data, AgentCrashed | AgentTerminated)]
    assert causes == ([] if comes_back and not is_abnormal else [cause])
    listed = [status.path for status in tree.which_children()]
    assert (path in listed) is (restart != "temporary")
    final = AgentState.FAILED if is_abnormal else AgentState.COMPLETED
    status = tree.status(path)
    assert status.state is (AgentState.READY if comes_back else final)
    assert status.incarnation == 1 + comes_back
    assert comes_back or status.pid is None


@pytest.mark.otp("R02")
@every_executor
def test_a_completed_transient_child_is_counted_as_a_worker_that_is_not_active(executor: str) -> None:
    """The suite's `transient_normal`."""
    tree = a_tree()
    kind = AsyncEndsOnce if executor == "async" else EndsOnce
    register: Any = tree.register_agent
    register(kind, "it", execute="return", executor=executor)
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "it")
        assert tree.count_children() == ChildCounts(specs=1, active=0, supervisors=0, workers=1)


class Held(Orchestrator):
    """Has its supervision wait, at the end of the agent ``first``, for what a test does meanwhile."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def classify_exit(self, report: CrashReport) -> ExitReason | None:
        if "first" in report.message:
            self.reached.set()
            assert self.go_on.wait(PATIENCE)
        return None


@pytest.mark.otp("R08")
@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("executor", ["thread", "async"])
def test_real_ends_that_pile_up_are_handled_in_the_order_in_which_they_came(executor: str, order: str) -> None:
    tree = a_tree(Held)
    assert isinstance(tree, Held)
    first = Bomb(tree, "first", "thread")
    others = {name: Bomb(tree, name, executor) for name in "ab"}
    with tree:
        first.fuse.set_exception(ValueError("first"))
        assert tree.reached.wait(PATIENCE)
        for name in order:
            others[name].go_off()
        tree.go_on.set()
        for name in order:
            wait_for(tree, E.AGENT_READY, name, count=2)
        found = trace(tree, E.AGENT_CRASHED, E.AGENT_RESTARTING)
    assert found == [(kind, name) for name in ("first", *order) for kind in (E.AGENT_CRASHED, E.AGENT_RESTARTING)]


@pytest.mark.otp("R08")
@pytest.mark.slow
@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_processes_that_die_while_nobody_looks_are_handled_in_the_order_in_which_they_died(order: str) -> None:
    tree = a_tree()
    for name in "abc":
        tree.register_agent(Sleeper, name, executor="process", backoff=None)
    with tree:
        pids = {status.name: status.pid or 0 for status in tree.which_children()}
        server = psutil.Process(pids["a"]).ppid()
        os.kill(server, signal.SIGSTOP)
        for name in order:
            os.kill(pids[name], signal.SIGKILL)
            wait_until_gone(pids[name])
        os.kill(server, signal.SIGCONT)
        for name in order:
            wait_for(tree, E.AGENT_READY, name, count=2)
        assert trace(tree, E.AGENT_CRASHED) == [(E.AGENT_CRASHED, name) for name in order]
