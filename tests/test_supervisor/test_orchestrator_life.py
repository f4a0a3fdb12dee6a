"""Starting, stopping and joining a tree, with real threads and coroutines."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from orchestree_testing.trees import PATIENCE, AsyncDoes, a_tree, add, crash, trace, wait_for
from tenacity import stop_after_attempt, wait_none

from orchestree.agents import IGNORE, Agent
from orchestree.strategies import Backoff
from orchestree.supervisor import (
    AgentState,
    EventType,
    NotFound,
    NotRunning,
    Orchestrator,
    RunMode,
    SpecError,
    StartError,
)

E = EventType


def test_start_returns_when_setup_has_returned_and_stop_when_teardown_has() -> None:
    done: list[str] = []
    tree = a_tree()
    add(tree, "a", setup=lambda agent: done.append("setup"), teardown=lambda agent: done.append("teardown"))
    tree.start()
    assert done == ["setup"]
    assert tree.status("a").state is AgentState.READY
    assert tree.is_running
    assert tree.exit_code is None
    tree.stop()
    assert done == ["setup", "teardown"]
    assert tree.join(0.0)
    assert tree.exit_code == 0


def test_start_returns_although_an_agent_fails_its_first_start() -> None:
    tree = a_tree()
    add(tree, "a", setup=crash, start_timeout=PATIENCE)
    with tree:
        assert tree.status("a").last_crash is not None
        assert wait_for(tree, E.AGENT_CRASHED, "a").incarnation == 1


def test_start_returns_when_agents_have_completed_or_have_to_wait_or_are_not_needed() -> None:
    tree = a_tree(max_workers=1)
    add(tree, "ignored", setup=lambda agent: IGNORE)
    add(tree, "completes", lambda agent: 42)
    add(tree, "runs")
    add(tree, "queued")
    add(tree, "waits", depends_on=["queued"])
    with tree:
        wait_for(tree, E.AGENT_READY, "runs")
        states = {status.name: status.state for status in tree.which_children()}
        assert states == {
            "ignored": AgentState.COMPLETED,
            "completes": AgentState.COMPLETED,
            "runs": AgentState.READY,
            "queued": AgentState.QUEUED,
            "waits": AgentState.WAITING,
        }
        assert tree.status("waits").waiting_for == ("queued",)
        assert tree.status("queued").queued


def test_start_waits_for_a_chain_of_dependencies() -> None:
    tree = a_tree()
    for name, needs in (("a", []), ("b", ["a"]), ("c", ["b"])):
        add(tree, name, depends_on=needs)
    with tree:
        assert [status.state for status in tree.which_children()] == [AgentState.READY] * 3


def test_an_orchestrator_starts_only_once() -> None:
    tree = a_tree()
    with tree, pytest.raises(NotRunning):
        tree.start()
    with pytest.raises(NotRunning):
        tree.start()


COMMANDS: Any = [
    lambda tree: tree.start_agent("a"),
    lambda tree: tree.stop_agent("a"),
    lambda tree: tree.restart_agent("a"),
    lambda tree: tree.wait_until("a", "completed", 1.0),
]


@pytest.mark.parametrize("command", [*COMMANDS, lambda tree: tree.stop(), lambda tree: tree.join()])
def test_a_command_before_the_start_is_not_running(command: Any) -> None:
    tree = a_tree()
    add(tree, "a")
    with pytest.raises(NotRunning):
        command(tree)


@pytest.mark.parametrize("command", [*COMMANDS, lambda tree: add(tree, "b"), lambda tree: tree.unregister_agent("a")])
def test_a_command_after_the_end_is_not_running(command: Any) -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        pass
    with pytest.raises(NotRunning):
        command(tree)


def test_everything_can_still_be_read_after_the_end() -> None:
    tree = a_tree()
    add(tree, "a", lambda agent: "done")
    with tree:
        wait_for(tree, E.AGENT_TERMINATED, "a")
    assert tree.status("a").result == "done"
    assert tree.count_children().active == 0
    tree.wait_until("a", AgentState.COMPLETED, 0.0)
    assert tree.history()[-1].type is E.ORCHESTRATOR_STOPPED


def test_stop_is_idempotent_also_from_several_threads_at_once() -> None:
    tree = a_tree()
    for number in range(5):
        add(tree, f"a{number}")
    tree.start()
    threads = [threading.Thread(target=tree.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    tree.stop()
    assert len(tree.history(type=E.ORCHESTRATOR_STOPPED)) == 1


def test_stop_asks_children_in_reverse_start_order_each_after_the_end_of_the_one_before() -> None:
    tree = a_tree()
    add(tree, "b", depends_on=["a"])
    add(tree, "a")
    inner = tree.add_supervisor("inner")
    add(inner, "x")
    add(inner, "y", kind=AsyncDoes)
    with tree:
        pass
    paths = ["inner/y", "inner/x", "b", "a"]
    expected = [(kind, path) for path in paths for kind in (E.AGENT_STOPPING, E.AGENT_TERMINATED)]
    assert trace(tree, E.AGENT_STOPPING, E.AGENT_TERMINATED) == expected


def stubborn(release: threading.Event) -> Any:
    return lambda agent: release.wait(PATIENCE)


@pytest.mark.slow
def test_the_deadline_of_stop_overrules_the_shutdown_times_of_children() -> None:
    release = threading.Event()
    tree = a_tree()
    add(tree, "a", stubborn(release), shutdown="infinity")
    add(tree, "b", stubborn(release), shutdown="infinity")
    tree.start()
    tree.stop(timeout=0.2)
    assert [status.state for status in tree.which_children()] == [AgentState.WEDGED] * 2
    assert tree.exit_code == 1
    release.set()


@pytest.mark.parametrize("timeout", ["5", -1, float("nan"), True])
def test_a_deadline_that_is_no_number_of_seconds_is_refused_and_the_tree_lives_on(timeout: Any) -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        with pytest.raises(SpecError, match="timeout="):
            tree.stop(timeout)
        with pytest.raises(SpecError, match="timeout="):
            tree.restart_agent("a", timeout)
        assert tree.status("a").state is AgentState.READY


def test_join_returns_false_at_its_timeout_and_true_at_the_end() -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        assert tree.join(0.0) is False
    assert tree.join() is True


def test_stop_from_another_thread_ends_a_join() -> None:
    tree = a_tree()
    add(tree, "a")
    tree.start()
    threading.Thread(target=tree.stop).start()
    assert tree.join(PATIENCE)


def test_leaving_the_with_block_by_an_exception_stops_the_tree_and_passes_it_on() -> None:
    tree = a_tree()
    add(tree, "a")
    with pytest.raises(LookupError), tree:
        raise LookupError
    assert tree.status("a").state is AgentState.STOPPED


def test_an_empty_tree_in_stop_on_empty_ends_at_once_with_code_0() -> None:
    tree = a_tree(run_mode=RunMode.STOP_ON_EMPTY)
    assert tree.simple_join() == 0


def test_a_daemon_without_agents_goes_on_until_it_is_stopped() -> None:
    with a_tree() as tree:
        wait_for(tree, E.ALL_AGENTS_TERMINATED)
        assert not tree.join(0.0)
    assert tree.exit_code == 0


def test_stop_on_empty_ends_when_the_last_agent_has_completed() -> None:
    tree = a_tree(run_mode="stop_on_empty", max_workers=2)
    for number in range(6):
        add(tree, f"job-{number}", lambda agent: agent.name)
    assert tree.simple_join() == 0
    assert [status.result for status in tree.which_children()] == [f"job-{number}" for number in range(6)]


def test_stop_on_empty_parks_what_always_fails_and_the_code_is_1() -> None:
    tree = a_tree(run_mode="stop_on_empty")
    add(tree, "bad", setup=crash, backoff=Backoff(wait=wait_none(), stop=stop_after_attempt(3)))
    add(tree, "good", lambda agent: None)
    add(tree, "behind", depends_on=["bad"])
    assert tree.simple_join() == 1
    assert tree.status("bad").state is AgentState.PARKED
    assert len(tree.history("bad", E.AGENT_CRASHED)) == 3
    stopped = tree.history(type=E.ORCHESTRATOR_STOPPED)[0].data
    assert getattr(stopped, "unhealthy", ()) == ("bad", "behind")


def test_stop_on_empty_by_default_parks_at_the_fifth_failure_a_daemon_never() -> None:
    limited = Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY).default_backoff()
    assert limited is not None
    assert isinstance(limited.stop, stop_after_attempt)
    assert limited.stop.max_attempt_number == 5
    assert Orchestrator.Config(run_mode=RunMode.DAEMON).default_backoff() == Backoff()


def test_a_root_that_gives_up_ends_the_tree_with_code_70() -> None:
    tree = a_tree(max_restarts=2)
    add(tree, "a", crash, backoff=None)
    add(tree, "b")
    assert tree.simple_join() == 70
    assert tree.status("").state is AgentState.FAILED


def test_simple_join_prints_a_bad_specification_as_one_line_and_returns_78(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = a_tree()
    add(tree, "a", depends_on=["b"])
    add(tree, "b", depends_on=["a"])
    assert tree.simple_join() == 78
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("orchestree:")]
    assert lines == ["orchestree: depends_on: cycle a -> b -> a"]


def test_simple_join_works_in_a_thread_that_may_not_set_signal_handlers() -> None:
    tree = a_tree(run_mode="stop_on_empty")
    add(tree, "a", lambda agent: None)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(tree.simple_join()))
    thread.start()
    thread.join(PATIENCE)
    assert codes == [0]


def test_simple_join_of_a_tree_that_was_started_only_waits_and_can_be_called_again() -> None:
    tree = a_tree(run_mode="stop_on_empty")
    go_on = threading.Event()
    add(tree, "a", lambda agent: go_on.wait(PATIENCE))
    tree.start()
    go_on.set()
    assert tree.simple_join() == 0
    assert tree.simple_join() == 0


def test_strict_start_stops_what_had_started_and_raises() -> None:
    tree = a_tree(strict_start=True)
    add(tree, "a")
    add(tree, "b", setup=crash, depends_on=["a"])
    add(tree, "c", depends_on=["b"])
    with pytest.raises(StartError, match="'b' did not start: ValueError: no such sensor"):
        tree.start()
    assert not tree.is_running
    assert tree.status("a").state is AgentState.STOPPED
    assert tree.status("c").incarnation == 0


def test_strict_start_in_simple_join_is_one_line_and_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    tree = a_tree(strict_start=True)
    add(tree, "a", setup=crash)
    assert tree.simple_join() == 1
    assert "orchestree: 'a' did not start: ValueError" in capsys.readouterr().err


def test_strict_start_does_not_concern_a_crash_after_ready() -> None:
    tree = a_tree(strict_start=True)
    add(tree, "a", lambda agent: crash(agent) if agent.incarnation == 1 else agent.sleep(3600))
    with tree:
        wait_for(tree, E.AGENT_READY, "a", count=2)
        assert tree.is_running


def test_a_stop_during_the_start_ends_both_calls() -> None:
    tree = a_tree()
    in_setup = threading.Event()

    def setup(agent: Agent) -> None:
        in_setup.set()
        agent.sleep(3600)

    add(tree, "a", setup=setup)
    add(tree, "b", depends_on=["a"])
    starting = threading.Thread(target=tree.start)
    starting.start()
    assert in_setup.wait(PATIENCE)
    tree.stop()
    starting.join(PATIENCE)
    assert not starting.is_alive()
    assert tree.status("b").incarnation == 0


def test_a_start_that_could_not_begin_can_be_tried_again_and_has_lost_no_subscriber() -> None:
    tree = a_tree()
    seen: list[EventType] = []
    tree.events.subscribe(lambda event: seen.append(event.type))
    add(tree, "a", depends_on=["b"])
    with pytest.raises(SpecError, match="'b': no such sibling"):
        tree.start()
    assert not tree.is_running
    add(tree, "b")
    with tree:
        pass
    assert seen[0] is E.ORCHESTRATOR_STARTED
    assert seen[-1] is E.ORCHESTRATOR_STOPPED


def test_an_async_handler_without_a_loop_is_refused_by_start_and_nothing_was_started() -> None:
    tree = a_tree()
    add(tree, "a")

    async def handler(event: object) -> None:
        raise NotImplementedError

    subscription = tree.events.subscribe(handler)
    with pytest.raises(SpecError, match="event loop"):
        tree.start()
    assert not tree.is_running
    with pytest.raises(NotRunning):
        tree.stop()
    subscription.close()
    assert tree.status("a").incarnation == 0


def test_two_threads_that_start_one_tree_start_it_once() -> None:
    tree = a_tree()
    add(tree, "a")
    errors: list[BaseException] = []
    barrier = threading.Barrier(2)

    def start() -> None:
        barrier.wait(PATIENCE)
        try:
            tree.start()
        except NotRunning as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(errors) == 1
    assert tree.status("a").incarnation == 1
    tree.stop()


def test_reading_before_the_start_shows_what_is_registered() -> None:
    tree = a_tree()
    add(tree, "b", depends_on=["a"])
    add(tree, "a")
    assert [status.path for status in tree.which_children()] == ["a", "b"]
    assert {status.state for status in tree.which_children()} == {AgentState.REGISTERED}
    assert [step.path for step in tree.check()] == ["a", "b"]
    with pytest.raises(NotFound, match="did you mean"):
        tree.status("aa")
