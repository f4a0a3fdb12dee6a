"""`supervised`: what a test can do to a tree, what it can read of it, and what its mistakes lead to."""

from __future__ import annotations

import signal

import pytest
from tenacity import stop_after_attempt, wait_fixed
from virtual import AsyncWorker, Worker, agent, process, supervisor

from orchestree.agents.ends import Cause
from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import NotFound, NotRunning, OrchestreeError, SpecError
from orchestree.strategies.rules import Rule
from orchestree.supervisor.events import AgentCrashed, AgentRestarting, EventType
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.predicting import simulate
from orchestree.supervisor.spec import AgentEntry, ChildEntry
from orchestree.supervisor.states import AgentState, RunMode
from orchestree.supervisor.testing import CheckFailed, Crash, Down, Hang, Schedule, SupervisedTree, line_of, supervised

pytestmark = pytest.mark.policy

SLOWLY = Backoff(wait=wait_fixed(8.0), jitter=0.0)


def crash_reports(t: SupervisedTree) -> list[AgentCrashed]:
    return [event.data for event in t.events if isinstance(event.data, AgentCrashed)]


def test_a_tree_of_entries_is_started_on_enter_and_every_run_is_ready_at_once() -> None:
    with supervised([agent("worker"), supervisor("pool", agent("inner"))]) as t:
        assert t.now == 0.0
        assert t.exit_code is None
        assert t.status("worker").state is AgentState.READY
        assert t.status("pool/inner").incarnation == 1
        assert t.status("pool").kind == "supervisor"
        assert (t.starts("worker"), t.restarts("worker"), t.starts("pool")) == (1, 0, 1)


def test_an_orchestrator_can_be_put_in_again_and_again_and_stays_unstarted() -> None:
    orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY), children=[agent("worker")])
    for _ in range(2):
        with supervised(orchestrator) as t:
            t.complete("worker")
            assert t.exit_code == 0
    assert not orchestrator.is_running


def test_a_single_entry_is_a_tree_too() -> None:
    with supervised(agent("worker")) as t:
        assert t.status("worker").state is AgentState.READY


def test_a_slash_is_the_root_wherever_a_path_is_asked_for() -> None:
    with supervised([agent("a", backoff=SLOWLY), supervisor("pool", dynamic=True)]) as t:
        assert t.status("/") == t.status("")
        assert (t.starts("/"), t.restarts("/")) == (t.starts(""), t.restarts("")) == (1, 0)
        assert t.start_child("/", Worker, "b", backoff=SLOWLY) == "b"
        t.crash("/")
        t.advance(8)
        t.hang("/", 1)
        t.advance(1)
        t.complete("/")
        assert [t.status(path).state for path in ("a", "b")] == [AgentState.COMPLETED] * 2
        assert {fault.path for fault in t.faults} == {""}


def test_a_slash_is_the_root_for_an_operator_too() -> None:
    def after(path: str) -> tuple[list[str], SupervisedTree]:
        with supervised([agent("a"), agent("b")]) as t:
            for act in (t.stop_agent, t.start_agent, t.restart_agent):
                try:
                    act(path)
                except OrchestreeError as error:
                    told.append(str(error))
            return told, t

    told: list[str] = []
    by_slash, by_name = after("/")[1], after("")[1]
    assert list(by_slash.events) == list(by_name.events)
    assert by_slash.orders == by_name.orders
    assert told[: len(told) // 2] == told[len(told) // 2 :]


def test_a_crash_is_decided_on_at_once_and_its_delay_goes_by_with_the_clock() -> None:
    with supervised([agent("worker", backoff=SLOWLY)]) as t:
        t.crash("worker")
        assert t.status("worker").state is AgentState.BACKOFF
        t.advance(5)
        assert t.status("worker").next_restart_s == 3.0
        t.advance_to(8.0)
        assert t.status("worker").state is AgentState.READY
        assert (t.now, t.starts("worker"), t.restarts("worker")) == (8.0, 2, 1)


def test_a_supervisors_path_stands_for_all_agents_below_it() -> None:
    with supervised([agent("a"), supervisor("pool", agent("b"), agent("c"))]) as t:
        t.crash("pool")
        assert [t.starts(path) for path in ("a", "pool/b", "pool/c")] == [1, 2, 2]
        t.crash("")
        assert [t.starts(path) for path in ("a", "pool/b", "pool/c")] == [2, 2, 2]


class ServerGone(ConnectionError):
    pass


@pytest.mark.parametrize(
    ("arguments", "cause", "message"),
    [
        ({}, Cause.EXCEPTION, "RuntimeError: simulated"),
        ({"cause": KeyError}, Cause.EXCEPTION, "KeyError"),
        ({"cause": ValueError("no such sensor")}, Cause.EXCEPTION, "ValueError: no such sensor"),
        ({"cause": ServerGone("db")}, Cause.EXCEPTION, "ServerGone: db"),
        ({"cause": "exit"}, Cause.EXIT, "exited with code 1"),
        ({"exit_code": 3}, Cause.EXIT, "exited with code 3"),
        ({"cause": "exit", "exit_code": 3}, Cause.EXIT, "exited with code 3"),
        ({"cause": "signal"}, Cause.SIGNAL, "killed by SIGKILL"),
        ({"signal": "SIGSEGV"}, Cause.SIGNAL, "killed by SIGSEGV"),
        ({"cause": "oom"}, Cause.OOM, "killed by SIGKILL: out of memory"),
        ({"cause": Cause.OOM}, Cause.OOM, "killed by SIGKILL: out of memory"),
        ({"cause": "ValueError"}, Cause.EXCEPTION, "ValueError: simulated"),
        ({"cause": "SIGTERM"}, Cause.SIGNAL, "killed by SIGTERM"),
        ({"cause": signal.SIGSEGV}, Cause.SIGNAL, "killed by SIGSEGV"),
        ({"cause": "lost"}, Cause.LOST, "lost: nobody knows what became of it"),
    ],
)
def test_a_crash_has_the_cause_that_the_test_says(arguments: dict[str, object], cause: Cause, message: str) -> None:
    with supervised([process("worker")]) as t:
        t.crash("worker", **arguments)  # type: ignore[arg-type]
        assert [(one.reason.cause, one.report.message) for one in crash_reports(t)] == [(cause, message)]


def test_rules_match_the_class_of_an_exception_and_its_bases() -> None:
    policy = Backoff(rules=(Rule(action="park", exception=ConnectionError),))
    with supervised([agent("worker", backoff=policy)]) as t:
        t.crash("worker", OSError)
        assert t.status("worker").state is AgentState.READY
        t.crash("worker", cause=ServerGone)
        assert t.status("worker").state is AgentState.PARKED


def test_a_class_without_a_name_of_its_own_can_be_raised_too() -> None:
    class Local(ValueError):
        pass

    with supervised([agent("worker")]) as t:
        t.crash("worker", Local("x"))
        assert crash_reports(t)[0].report.message == "Local: x"


def test_a_crash_in_setup_fails_the_next_start_and_one_in_teardown_the_next_end() -> None:
    with supervised([agent("worker", backoff=SLOWLY)]) as t:
        t.crash("worker", phase="setup")
        assert t.status("worker").state is AgentState.READY
        t.crash("worker")
        t.advance(8)
        assert [one.report.phase for one in crash_reports(t)] == ["execute", "setup"]
        t.advance(8)
        t.crash("worker", phase="teardown")
        t.complete("worker")
        assert crash_reports(t)[-1].report.phase == "teardown"


def test_a_hang_is_noticed_by_the_watchdog_only() -> None:
    with supervised([process("watched", watchdog=10), agent("other")]) as t:
        t.hang("watched")
        t.hang("other", lasts=20)
        t.advance(60)
        assert [event.path for event in t.events if event.type is EventType.AGENT_HUNG] == ["watched"]
        assert (t.starts("watched"), t.starts("other")) == (2, 1)


def test_a_completed_agent_stays_completed() -> None:
    with supervised([agent("worker")]) as t:
        t.complete("worker")
        assert t.status("worker").state is AgentState.COMPLETED


def test_what_is_struck_counts_its_times_from_now() -> None:
    with supervised([agent("worker")]) as t:
        t.advance(100)
        t.strike("worker: crash at 0s")
        assert t.starts("worker") == 2
        t.strike(Crash("worker", at=5.0))
        t.strike(Down("worker", at=10.0, until=20.0))
        t.advance(5)
        assert list(t.simulation.crashes["worker"]) == [100.0, 105.0]
        t.advance(5)
        assert list(t.simulation.crashes["worker"]) == [100.0, 105.0, 110.0]
        t.advance(60)
        assert t.status("worker").state is AgentState.READY


def test_a_schedule_is_run_from_now_to_its_end() -> None:
    with supervised([agent("worker")]) as t:
        t.advance(50)
        t.run(Schedule(["worker: crash at 10s", Crash("worker", at=25.0)], duration=20))
        assert t.now == 70.0
        t.advance(5)
        assert list(t.simulation.crashes["worker"]) == [60.0, 75.0]


def test_the_faults_of_a_tree_can_be_simulated_again_from_the_start() -> None:
    tree: list[ChildEntry] = [
        agent("worker", backoff=Backoff()),
        supervisor("pool", process("a", watchdog=3), agent("b")),
    ]
    with supervised(tree, seed=5) as t:
        t.run(Schedule(["pool: crash every 3s to 10s", "pool/a: hang 2s after ready"], 10))
        t.crash("worker")
        t.advance(1)
        t.run(Schedule(["pool: crash every 3s to 10s", "pool/b: crash 500ms after ready", "worker: slow start 2s"], 10))
        t.strike(Down("pool/b", until=7.0))
        t.advance(20)
        again = simulate(tree, t.faults, until=t.now, seed=5)
        assert list(again.json_lines()) == list(t.simulation.json_lines())
        assert again.crashes["pool/b"]


def test_a_schedule_that_is_run_twice_is_told_twice() -> None:
    schedule = Schedule(["worker: crash at 5s"], 10)
    with supervised([agent("worker")]) as t:
        t.run(schedule)
        t.run(schedule)
        assert [line_of(fault) for fault in t.faults] == ["worker: crash at 5s", "worker: crash at 15s"]
        assert [one.fault for one in t.simulation.struck] == t.faults


def test_a_list_of_faults_is_run_until_all_are_over() -> None:
    with supervised([process("worker")]) as t:
        t.run(["worker: crash at 2s", Hang("worker", at=3.0, lasts=4.0)])
        assert t.now == 7.0
        assert t.starts("worker") == 2


@pytest.mark.parametrize(
    ("line", "duration"),
    [
        ("a: crash at 3s", 3.0),
        ("a: hang at 3s for 4s", 7.0),
        ("a: hang at 3s", 3.0),
        ("a: down from 1s to 5s", 5.0),
        ("a: down from 1s", 1.0),
        ("a: crash every 7s", 7.0),
        ("a: crash 3 times every 7s from 1s", 15.0),
        ("a: crash every 7s to 1m", 60.0),
        ("a: crash 5s after ready", 5.0),
    ],
)
def test_a_schedule_lasts_until_its_last_fault_is_over(line: str, duration: float) -> None:
    assert Schedule(["a: crash at 0s", line]).duration == duration
    assert Schedule([]).duration == 0.0


def test_a_schedule_has_a_length_and_can_be_iterated_over() -> None:
    schedule = Schedule(["a: crash at 1s", "b: crash at 2s"], 60)
    assert len(schedule) == 2
    assert [fault.path for fault in schedule] == ["a", "b"]


def test_equal_logs_are_equal_however_they_are_kept() -> None:
    with supervised([agent("worker")], seed=2) as t:
        t.crash("worker")
        t.advance(10)
    simulated = simulate([agent("worker")], ["worker: crash at 0s"], until=10, seed=2)
    assert t.events == t.simulation.events == simulated.events
    assert simulated.events == t.events
    assert t.events == [*t.events]
    assert t.events != [*t.events][:-1]
    assert t.events != simulate([agent("worker")], until=10, seed=2).events
    other: object = "worker"
    assert t.events != other


class Hooked(Orchestrator):
    def classify_exit(self, report: object) -> object:  # type: ignore[override]
        raise KeyError("mine")


def test_what_a_hook_of_the_tree_raises_leaves_the_fault_noted() -> None:
    with supervised(Hooked(Orchestrator.Config(run_mode=RunMode.DAEMON), [agent("worker")])) as t:
        with pytest.raises(KeyError, match="mine"):
            t.crash("worker")
        assert [line_of(one.fault) for one in t.simulation.struck] == ["worker: crash at 0s"]
        assert "worker" in t.timeline()


def test_a_crash_of_one_that_does_not_run_is_not_noted() -> None:
    with supervised([agent("worker", backoff=SLOWLY)]) as t:
        t.crash("worker")
        with pytest.raises(NotRunning):
            t.crash("worker")
        assert len(t.faults) == len(t.simulation.struck) == 1


def test_restarts_without_a_delay_are_what_failed_and_no_mistake_of_the_caller() -> None:
    config = Orchestrator.Config(run_mode=RunMode.DAEMON, max_restarts=10**9)
    tree = Orchestrator(config, [agent("worker", backoff=None)])
    with supervised(tree, max_events=1000) as t, pytest.raises(CheckFailed) as caught:
        t.strike("worker: down from 0s to 10s")
    told = str(caught.value).splitlines()
    assert told[1] == "  supervised: nothing but restarts at 0 s: 1000 events, and no delay between them"
    assert '    --fault "worker: down from 0s to 10s"' in told


def test_a_start_that_takes_more_events_than_are_allowed_is_no_storm_of_restarts() -> None:
    refused = pytest.raises(SpecError, match=r"^5 events have happened by 0 s: give supervised")
    with supervised([agent("a"), agent("b")], max_events=5) as t, refused:
        t.advance(1)


def test_equal_seeds_give_equal_logs_and_other_seeds_other_delays() -> None:
    def delays(seed: int) -> list[float]:
        with supervised([agent("worker")], seed=seed) as t:
            t.run(Schedule(["worker: crash 100ms after ready to 1m"], duration=60))
            return [event.data.delay for event in t.events if isinstance(event.data, AgentRestarting)]

    assert delays(1) == delays(1) != delays(2)


def test_operators_can_stop_start_and_restart() -> None:
    with supervised([agent("worker"), supervisor("pool", agent("inner"))]) as t:
        t.stop_agent("pool")
        assert t.status("pool/inner").state is AgentState.STOPPED
        t.start_agent("pool")
        assert t.status("pool/inner").state is AgentState.READY
        t.restart_agent("worker")
        assert t.starts("worker") == 2
        t.stop()
        assert t.exit_code == 0
        assert [str(order) for order in t.orders] == [
            "at 0 s: stop pool",
            "at 0 s: start pool",
            "at 0 s: restart worker",
            "at 0 s: stop everything",
        ]


def test_the_events_grow_with_what_happens_and_their_times_are_virtual() -> None:
    with supervised([agent("worker")]) as t:
        events = t.events
        before = len(events)
        t.advance(3)
        t.crash("worker")
        assert [(event.monotonic, event.type.value) for event in events[before:]] == [
            (3.0, "agent_crashed"),
            (3.0, "agent_restarting"),
            (3.0, "agent_starting"),
            (3.0, "agent_ready"),
        ]


def test_what_has_happened_can_be_read_after_the_with_block() -> None:
    with supervised([agent("worker")]) as t:
        t.crash("worker")
    assert t.starts("worker") == 2
    assert len(t.events) > 4
    assert "worker" in t.timeline()
    assert t.simulation.restarts == {"worker": 1}


def test_the_timeline_is_that_of_the_simulate_command() -> None:
    with supervised([agent("worker")]) as t:
        t.run(Schedule(["worker: crash every 7s"], duration=60))
        assert t.timeline().startswith("Simulated 1m with seed 0:")


MISTAKES = [
    (lambda t: t.crash("wroker"), NotFound, "'wroker': no such agent or supervisor (did you mean 'worker'?)"),
    (lambda t: t.status("nobody"), NotFound, "'nobody': no such agent or supervisor"),
    (lambda t: t.starts(3), NotFound, "3: no such agent or supervisor"),
    (
        lambda t: t.crash("down"),
        NotRunning,
        "crash('down'): it does not run, it is in state backoff, starts again in 8 s",
    ),
    (lambda t: t.hang("parked"), NotRunning, "hang('parked'): it does not run, it is in state parked"),
    (
        lambda t: t.complete("waits"),
        NotRunning,
        "complete('waits'): it does not run, it is in state waiting, for parked",
    ),
    (lambda t: t.crash("empty"), NotRunning, "crash('empty'): no agent below it runs"),
    (
        lambda t: t.crash("worker", "oom"),
        SpecError,
        "crash('worker'): cannot happen to 'worker': executor='thread', and cause='oom' happens to process agents only",
    ),
    (
        lambda t: t.crash("worker", signal="SIGSEGV"),
        SpecError,
        "crash('worker'): cannot happen to 'worker': executor='thread', and cause="
        "'signal' happens to process agents only",
    ),
    (
        lambda t: t.crash("worker", "boom"),
        SpecError,
        "cause='boom': must be one of exception, exit, signal, oom, lost, or an exception or a signal, or the name "
        "of one (did you mean 'oom'?)",
    ),
    (
        lambda t: t.crash("worker", 3),
        SpecError,
        "cause=3: must be one of exception, exit, signal, oom, lost, or an exception or a signal, or the name of one",
    ),
    (
        lambda t: t.crash("worker", exit_code=1, signal="SIGKILL"),
        SpecError,
        "exit_code=1, signal='SIGKILL': only one of them",
    ),
    (
        lambda t: t.crash("worker", KeyError, exit_code=1),
        SpecError,
        "cause=<class 'KeyError'>: does not go with exit_code",
    ),
    (
        lambda t: t.crash("worker", Cause.WATCHDOG),
        SpecError,
        "cause='watchdog': is no crash of its own: hang(path) leads to it",
    ),
    (
        lambda t: t.crash("worker", "start_failed"),
        SpecError,
        "cause='start_failed': is no crash of its own: crash(path, phase='setup') leads to it",
    ),
    (
        lambda t: t.crash("worker", Cause.NORMAL),
        SpecError,
        "cause='normal': must be one of exception, exit, signal, oom, lost, or an exception or a signal, or the name "
        "of one",
    ),
    (
        lambda t: t.crash("worker", Cause.OOM),
        SpecError,
        "crash('worker'): cannot happen to 'worker': executor='thread', and cause='oom' happens to process agents only",
    ),
    (lambda t: t.crash("worker", exit_code=0), SpecError, "exit_code=0: must be a whole number, 1 or more"),
    (lambda t: t.strike(3), SpecError, "3: must be a fault, or a line such as 'worker: crash every 7s'"),
    (
        lambda t: t.run("worker: crash at 0s"),
        SpecError,
        "run('worker: crash at 0s'): must be a Schedule or a list of faults, "
        "such as run(['worker: crash every 7s to 1m'])",
    ),
    (lambda t: t.advance(-1), SpecError, "seconds=-1: must be a finite number of seconds, 0 or more"),
    (
        lambda t: t.check(),
        SpecError,
        "check(): name what must hold, such as check(never_two_live, recovers_within(60))",
    ),
    (
        lambda t: t.check(3),
        SpecError,
        "check(3): must be an invariant: a function that takes the tree, such as recovers_within(60)",
    ),
    (lambda t: t.__enter__(), NotRunning, "a supervised tree starts once: call supervised() again"),
]


@pytest.mark.parametrize(("mistake", "kind", "message"), MISTAKES, ids=[message[:40] for _, _, message in MISTAKES])
def test_a_mistake_is_one_clear_error(mistake: object, kind: type[Exception], message: str) -> None:
    parks = Backoff(stop=stop_after_attempt(1))
    tree: list[ChildEntry] = [
        agent("worker"),
        agent("down", backoff=SLOWLY),
        agent("parked", backoff=parks),
        agent("waits", depends_on=["parked"]),
        supervisor("empty"),
    ]
    with supervised(tree) as t:
        t.crash("down")
        t.crash("parked")
        t.stop_agent("waits")
        t.start_agent("waits")
        with pytest.raises(kind) as caught:
            mistake(t)  # type: ignore[operator]
    assert str(caught.value) == message


def test_acting_outside_the_with_block_is_an_error_that_says_so() -> None:
    t = supervised([agent("worker")])
    with pytest.raises(NotRunning) as caught:
        t.crash("worker")
    expected = "crash('worker'): the supervised tree does not run: start it with `with supervised(...) as t:`"
    assert str(caught.value) == expected
    with t:
        pass
    for act in (lambda: t.advance(1), lambda: t.run(Schedule([], 1)), lambda: t.check(), lambda: t.stop()):
        with pytest.raises(NotRunning, match="the supervised tree does not run: its with block is over"):
            act()  # type: ignore[no-untyped-call]


def test_a_tree_that_has_ended_says_so() -> None:
    with supervised(Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY), [agent("worker")])) as t:
        t.complete("worker")
        with pytest.raises(NotRunning, match=r"crash\('worker'\): it does not run, it is in state completed"):
            t.crash("worker")
        with pytest.raises(NotRunning, match="the tree does not run"):
            t.start_agent("worker")
        t.advance(10)
        assert t.now == 10.0


def test_the_clock_refuses_to_go_on_after_too_many_events() -> None:
    with supervised([agent("worker", backoff=None)], max_events=50) as t:
        t.strike("worker: crash every 100s")
        with pytest.raises(SpecError, match=r"^5\d events have happened by .*: give supervised\(\) more max_events$"):
            t.advance(100_000)


@pytest.mark.parametrize(
    ("faults", "duration", "message"),
    [
        ("worker: crash at 1s", 1.0, "faults='worker: crash at 1s': must be a list of faults, such as"),
        ([3], 1.0, "3: must be a fault, or a line such as 'worker: crash every 7s'"),
        (["worker crash"], 1.0, "fault 'worker crash': a colon must follow the path"),
        ([], -1.0, "duration=-1.0: must be a finite number of seconds, 0 or more"),
    ],
)
def test_a_wrong_schedule_is_refused(faults: list[str], duration: float, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Schedule(faults, duration)
    assert str(caught.value).startswith(message)


def test_a_schedule_is_printed_as_the_expression_that_makes_it() -> None:
    schedule = Schedule([Crash("a", at=1.0), Hang("b", every=600.0, lasts=20.0), "/: down from 10s to 20m"], 60)
    assert repr(schedule) == (
        'Schedule([\n    "a: crash at 1s",\n    "b: hang every 10m for 20s",\n    "/: down from 10s to 20m",\n], '
        "duration=60.0)"
    )
    assert eval(repr(schedule)) == schedule
    assert repr(Schedule(["a: crash at 1s"], 2)) == 'Schedule(["a: crash at 1s"], duration=2.0)'
    assert hash(schedule) == hash(Schedule(schedule.faults, 60.0))


def test_coroutine_agents_can_be_lost() -> None:
    with supervised([AgentEntry(AsyncWorker, "worker")]) as t:
        t.crash("worker", "lost")
        assert crash_reports(t)[0].reason.cause is Cause.LOST
