"""What the core says to people, word for word: refused operations, commands, and why a tree or a start ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tenacity import stop_after_attempt, wait_fixed
from virtual import VirtualTree, Worker, agent, refused, supervisor

from orchestree.agents.ends import NORMAL, SHUTDOWN, Cause, CrashReport, ExitKind, ExitReason, abnormal
from orchestree.agents.executor import RunEnded, RunId, RunReady
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import (
    AlreadyPresent,
    AlreadyStarted,
    MaxChildren,
    NotFound,
    NotRunning,
    OrchestreeError,
    Restarting,
    Running,
    SpecError,
)
from orchestree.supervisor.events import (
    AgentCrashed,
    AgentRegistered,
    AgentRestarting,
    AgentTerminated,
    Command,
    OrchestratorStarted,
    OrchestratorStopped,
    OrchestratorStopping,
    RestartCause,
    SupervisorRestarting,
    SupervisorTerminated,
)
from orchestree.supervisor.inputs import Emit, Input, RegisterChild, StopTree
from orchestree.supervisor.states import AgentState, RunMode
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

LATE = Backoff(wait=wait_fixed(10.0))


def team() -> VirtualTree:
    """Return a tree with one agent in each state that an operation may meet."""
    tree = VirtualTree(
        agent("ready"),
        agent("late", backoff=LATE),
        agent("done"),
        agent("user", depends_on=["ready"]),
        agent("other", depends_on=["ready"]),
        supervisor("team", agent("x"), restart="temporary"),
        supervisor("down", agent("x")),
    )
    tree.crash("late")
    tree.complete("done")
    tree.stop_agent("down")
    return tree


TEAM_MISTAKES: list[tuple[Callable[[VirtualTree], None], type[OrchestreeError], str]] = [
    (lambda tree: tree.start_agent("raedy"), NotFound, "'raedy': no such agent or supervisor (did you mean 'ready'?)"),
    (lambda tree: tree.stop_agent("zzz"), NotFound, "'zzz': no such agent or supervisor"),
    (lambda tree: tree.start_agent(""), SpecError, "path='': the root is started and stopped with start() and stop()"),
    (lambda tree: tree.start_agent("ready"), Running, "'ready' is ready"),
    (lambda tree: tree.start_agent("late"), Restarting, "'late' waits for its restart"),
    (lambda tree: tree.start_agent("down/x"), NotRunning, "'down/x': its supervisor 'down' is stopped"),
    (lambda tree: tree.restart_agent("down/x"), NotRunning, "'down/x': its supervisor 'down' is stopped"),
    (lambda tree: tree.register("nobody", agent("x")), NotFound, "'nobody': no such agent or supervisor"),
    (lambda tree: tree.register("ready", agent("x")), SpecError, "'ready' is an agent; only supervisors have children"),
    (lambda tree: tree.register("", agent("ready")), AlreadyStarted, "name='ready': 'ready' is ready"),
    (lambda tree: tree.register("", agent("late")), AlreadyPresent, "name='late': 'late' is backoff"),
    (lambda tree: tree.register("", agent("done")), AlreadyPresent, "name='done': 'done' is completed"),
    (lambda tree: tree.register("team", agent("x")), AlreadyStarted, "name='x': 'team/x' is ready"),
    (lambda tree: tree.register("team", agent("y", depends_on=["z"])), SpecError,
     "'y': depends_on='z': no such sibling in 'team'"),
    (lambda tree: tree.register("", agent("y", depends_on=["z"])), SpecError, "'y': depends_on='z': no such sibling"),
    (lambda tree: tree.register("team", agent("y", significant=True)), SpecError,
     "'y': significant=True: its supervisor in 'team' has auto_shutdown=never"),
    (lambda tree: tree.register("team", supervisor("s", agent("y", depends_on=["z"]))), SpecError,
     "'y': depends_on='z': no such sibling in 'team/s'"),
    (lambda tree: tree.register("", supervisor("s", agent("y", depends_on=["z"]))), SpecError,
     "'y': depends_on='z': no such sibling in 's'"),
    (lambda tree: tree.start_child("down", agent("y")), NotRunning, "'y': its supervisor 'down' is stopped"),
    (lambda tree: tree.unregister("ready"), SpecError, "'ready': 'user', 'other' depend on it"),
    (lambda tree: tree.unregister("user"), Running, "'user' is ready; stop it first"),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "kind", "message"), TEAM_MISTAKES)
def test_a_refused_operation_says_what_stands_in_its_way_and_changes_nothing(
    mistake: Callable[[VirtualTree], None], kind: type[OrchestreeError], message: str
) -> None:
    tree = team()
    states, mark = tree.states(), tree.mark()
    error = refused(lambda: mistake(tree))
    assert (type(error), str(error)) == (kind, message)
    assert (tree.states(), tree.mark()) == (states, mark)


def test_a_mistake_in_a_tree_that_stops_names_the_tree() -> None:
    tree = VirtualTree(agent("a"))
    tree.manual.add("a")
    tree.stop()
    assert str(refused(lambda: tree.start_agent("a"))) == "the tree does not run"
    unstarted = VirtualTree(agent("a"), started=False)
    assert str(refused(lambda: unstarted.stop_agent("a"))) == "the tree does not run"


def test_a_tree_is_started_once() -> None:
    tree = VirtualTree(agent("a"))
    error = refused(tree.start)
    assert (type(error), str(error)) == (NotRunning, "an orchestrator starts once; make a new one")


def test_a_full_dynamic_supervisor_says_how_many_it_may_have_and_how_many_of_them_are_parked() -> None:
    once = Backoff(stop=stop_after_attempt(1))
    tree = VirtualTree(supervisor("pool", dynamic=True, max_children=2))
    for name in ("a", "b"):
        tree.tell(RegisterChild("pool", agent(name, backoff=once), must_start=True))
    extra = RegisterChild("pool", agent("c"), must_start=True)
    error = refused(lambda: tree.tell(extra))
    assert (type(error), str(error)) == (MaxChildren, "'c': 'pool' is full: max_children=2")
    tree.crash("pool/a")
    assert str(refused(lambda: tree.tell(extra))) == "'c': 'pool' is full: max_children=2 (1 parked)"


def test_children_of_a_dynamic_supervisor_are_not_registered() -> None:
    tree = VirtualTree(supervisor("pool", dynamic=True))
    assert str(refused(lambda: tree.register("pool", agent("a")))) == (
        "'a': children of 'pool', which is dynamic, come with start_child()"
    )


def test_every_command_is_an_event_under_its_name() -> None:
    tree = VirtualTree(agent("a"))
    for command in (tree.stop_agent, tree.start_agent, tree.restart_agent, tree.stop_agent, tree.unregister):
        command("a")
    commands = [data.name for _, data in tree.events("COMMAND", "a") if isinstance(data, Command)]
    assert commands == ["stop", "start", "restart", "stop", "unregister"]


def test_the_first_events_say_what_was_registered_with_which_policy() -> None:
    tree = VirtualTree(
        agent("a", depends_on=["b"], restart="permanent", shutdown=1.0, params={"password": "hunter2"}),
        agent("b", backoff=None),
        supervisor("team", agent("x"), strategy="one_for_all", max_restarts=3),
        settings=Settings(name="app", run_mode=RunMode.STOP_ON_EMPTY, max_workers=4, backoff=None),
    )
    policies: dict[str, dict[str, str]] = {"": {}, "team": {"strategy": "one_for_all", "max_restarts": "3"}}
    started = OrchestratorStarted(
        "app", RunMode.STOP_ON_EMPTY, 3, 1, settings={"max_workers": "4", "backoff": "None"}, policies=policies
    )
    assert tree.events("ORCHESTRATOR_STARTED") == [(0.0, started)]
    worker = f"{Worker.__module__}:Worker"
    assert [data for _, data in tree.events("AGENT_REGISTERED")] == [
        AgentRegistered(worker, "thread", "transient", (), {"backoff": "None"}),
        AgentRegistered(worker, "thread", "permanent", ("b",), {"shutdown": "1.0"}),
        AgentRegistered(worker, "thread", "transient", ()),
    ]


@pytest.mark.parametrize(
    ("policy", "cause"),
    [
        (Backoff(on_give_up="escalate", stop=stop_after_attempt(1)), "escalated"),
        (None, "max_restarts"),
    ],
)
def test_a_root_that_gives_up_says_why_it_stops_and_is_failed(policy: Backoff | None, cause: str) -> None:
    tree = VirtualTree(agent("a", backoff=policy), max_restarts=0)
    tree.crash("a")
    assert tree.events("ORCHESTRATOR_STOPPING") == [(0.0, OrchestratorStopping(cause))]
    assert tree.events("ORCHESTRATOR_STOPPED") == [(0.0, OrchestratorStopped(70, cause))]
    assert (tree.exit_code, tree.node("").state.value) == (70, "failed")


def test_a_root_whose_significant_agent_ended_stops_for_that_and_is_stopped() -> None:
    tree = VirtualTree(agent("a", significant=True), agent("b"), auto_shutdown="any_significant")
    tree.complete("a")
    assert tree.events("ORCHESTRATOR_STOPPING") == [(0.0, OrchestratorStopping("auto_shutdown"))]
    assert tree.events("ORCHESTRATOR_STOPPED") == [(0.0, OrchestratorStopped(0, "auto_shutdown"))]
    assert (tree.exit_code, tree.node("").state.value) == (0, "stopped")


@pytest.mark.parametrize("cause", ["command", "signal"])
def test_a_tree_that_is_stopped_says_who_wanted_it(cause: str) -> None:
    tree = VirtualTree(agent("a"))
    tree.tell(StopTree(cause))
    assert tree.events("ORCHESTRATOR_STOPPING") == [(0.0, OrchestratorStopping(cause))]
    assert tree.events("ORCHESTRATOR_STOPPED") == [(0.0, OrchestratorStopped(0, cause))]


def test_a_tree_stopped_before_its_start_starts_nothing_and_ends_at_once() -> None:
    tree = VirtualTree(agent("a"), supervisor("team", agent("x")), started=False)
    tree.tell(StopTree("signal"))
    assert tree.lines() == []
    tree.start()
    assert tree.lines() == [
        "ORCHESTRATOR_STARTED", "REGISTERED a", "REGISTERED team/x", "ORCHESTRATOR_STOPPING", "SUPERVISOR_TERMINATED",
        "ORCHESTRATOR_STOPPED",
    ]  # fmt: skip
    assert tree.events("ORCHESTRATOR_STOPPING") == [(0.0, OrchestratorStopping("signal"))]
    assert (tree.exit_code, tree.live) == (0, {})


def test_a_start_that_takes_too_long_says_how_long_it_was_given() -> None:
    tree = VirtualTree(agent("a", start_timeout=2.5, executor="process"), started=False)
    tree.manual.add("a")
    tree.start()
    tree.advance(2.5)
    ((now, data),) = tree.events("AGENT_CRASHED", "a")
    report = CrashReport(
        cause=Cause.START_TIMEOUT,
        message="setup() did not return within 2.5 s",
        phase="setup",
        uptime_s=2.5,
        decision="restart",
        delay_s=0.0,
    )
    assert (now, data) == (2.5, AgentCrashed(abnormal(Cause.START_TIMEOUT), report))


def test_a_failure_without_a_report_is_reported_by_its_cause() -> None:
    tree = VirtualTree(agent("a"))
    tree.tell(RunEnded(run=tree.run_of("a"), reason=abnormal(Cause.LOST)))
    ((_, data),) = tree.events("AGENT_CRASHED", "a")
    report = CrashReport(cause=Cause.LOST, message="lost", decision="restart", delay_s=0.0)
    assert data == AgentCrashed(abnormal(Cause.LOST), report)


@pytest.mark.parametrize(
    ("reason", "report", "error"),
    [
        (NORMAL, None, None),
        (NORMAL, CrashReport(cause=Cause.NORMAL, message=""), None),
        (NORMAL, CrashReport(cause=Cause.NORMAL, message="", notes=("teardown: OSError: x", "on_stop: KeyError: 1")),
         "teardown: OSError: x; on_stop: KeyError: 1"),
        (abnormal(Cause.SIGNAL), None, "signal"),
        (abnormal(Cause.SIGNAL), CrashReport(cause=Cause.SIGNAL, message="killed by SIGKILL", notes=("x",)),
         "killed by SIGKILL"),
    ],
)  # fmt: skip
def test_what_went_wrong_in_a_run_that_was_stopped_is_one_line_of_its_end(
    reason: ExitReason, report: CrashReport | None, error: str | None
) -> None:
    tree = VirtualTree(agent("a"))
    tree.manual.add("a")
    tree.stop_agent("a")
    tree.tell(RunEnded(run=tree.run_of("a"), reason=reason, report=report))
    assert tree.events("AGENT_TERMINATED", "a") == [(0.0, AgentTerminated(SHUTDOWN, AgentState.STOPPED, error))]


@pytest.mark.parametrize("error", [None, "OSError: x"])
def test_a_restart_by_hand_is_no_failure_has_no_delay_and_tells_what_went_wrong_in_its_stop(error: str | None) -> None:
    tree = VirtualTree(agent("a", backoff=LATE))
    tree.manual.add("a")
    tree.restart_agent("a")
    tree.end("a", abnormal(Cause.EXCEPTION) if error else NORMAL, error or "")
    assert tree.events("AGENT_RESTARTING", "a") == [(0.0, AgentRestarting(RestartCause.COMMAND, 0.0, 0, error))]


def test_a_supervisor_that_gave_up_and_comes_back_says_so() -> None:
    tree = VirtualTree(supervisor("team", agent("x", backoff=None), max_restarts=0, backoff=LATE))
    tree.crash("team/x")
    assert tree.events("SUPERVISOR_TERMINATED", "team") == [
        (0.0, SupervisorTerminated(ExitReason(ExitKind.SHUTDOWN, Cause.MAX_RESTARTS), "team/x"))
    ]
    assert tree.events("SUPERVISOR_RESTARTING", "team") == [(0.0, SupervisorRestarting(RestartCause.FAILURE, 10.0, 1))]


def test_a_strict_start_that_failed_is_told_as_the_reason_and_is_no_success() -> None:
    tree = VirtualTree(agent("a", backoff=LATE), settings=Settings(strict_start=True), started=False)
    tree.failing.add("a")
    tree.start()
    assert tree.events("ORCHESTRATOR_STOPPING") == [(0.0, OrchestratorStopping("start_failed"))]
    assert tree.events("ORCHESTRATOR_STOPPED") == [(0.0, OrchestratorStopped(1, "start_failed", ("a",)))]
    assert (tree.exit_code, tree.state("a")) == (1, "failed")


def test_what_is_said_besides_is_handed_out_once() -> None:
    world = VirtualTree(agent("a")).core.world
    world.emit(world.nodes["a"], Command, "look")
    [said] = world.take()
    assert isinstance(said, Emit)
    assert (said.path, said.incarnation, said.data) == ("a", 1, Command("look"))
    assert world.take() == []


def test_something_that_is_no_input_is_a_mistake_of_ours_not_of_the_caller() -> None:
    tree = VirtualTree(agent("a"))
    nonsense: Input = "jump"  # type: ignore[assignment]
    with pytest.raises(AssertionError, match="jump"):
        tree.tell(nonsense)


def test_what_a_stranger_reports_changes_nothing() -> None:
    tree = VirtualTree(agent("a"), supervisor("team"))
    mark = tree.mark()
    for run in (RunId("nobody", 1), RunId("team", 1), RunId("a", 2), RunId("a", 1)):
        tree.tell(RunReady(run))
    assert tree.mark() == mark
