"""Calls from inside: hooks of agents, event handlers, and hooks of a subclass on the supervision thread."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import pytest
from orchestree_testing.trees import PATIENCE, AsyncDoes, Switch, a_tree, add, crash, types, wait_for

from orchestree.agents import Agent, AsyncAgent, CrashReport, ExitReason
from orchestree.supervisor import AgentState, Event, EventType, NotRunning, Orchestrator
from orchestree.supervisor.events import HandlerFailed

E = EventType


def failures(tree: Orchestrator) -> list[HandlerFailed]:
    return [event.data for event in tree.history(type=E.HANDLER_FAILED) if isinstance(event.data, HandlerFailed)]


def steer(tree: Orchestrator, agent: Any) -> None:
    """Call everything that acts, on others and on the caller itself."""
    tree.stop_agent("other")
    tree.restart_agent("other")
    add(tree, "new")
    tree.restart_agent("inner")
    tree.restart_agent(agent.path)
    assert tree.join() is False


@pytest.mark.parametrize("hook", ["setup", "execute", "teardown", "on_stop"])
def test_a_thread_agent_may_steer_its_tree_from_each_of_its_hooks(hook: str) -> None:
    tree = a_tree()

    def act(agent: Agent) -> None:
        if agent.incarnation == 1:
            steer(tree, agent)

    add(tree, "other")
    add(tree.add_supervisor("inner"), "x")
    add(tree, "a", **{hook: act})
    with tree:
        if hook in ("teardown", "on_stop"):
            tree.restart_agent("a")
        wait_for(tree, E.AGENT_READY, "new")
        wait_for(tree, E.AGENT_STARTING, "a", count=2)
        wait_for(tree, E.SUPERVISOR_READY, "inner", count=2)
        assert failures(tree) == []


@pytest.mark.parametrize("hook", ["setup", "execute", "teardown"])
def test_a_coroutine_agent_may_steer_its_tree_without_blocking_its_loop(hook: str) -> None:
    tree = a_tree()

    async def act(agent: AsyncAgent) -> None:
        if agent.incarnation == 1:
            steer(tree, agent)
            await tree.aio.restart_agent("other")

    add(tree, "other", kind=AsyncDoes)
    add(tree.add_supervisor("inner"), "x", kind=AsyncDoes)
    add(tree, "a", kind=AsyncDoes, **{hook: act})
    with tree:
        if hook == "teardown":
            tree.restart_agent("a")
        wait_for(tree, E.AGENT_READY, "new")
        wait_for(tree, E.AGENT_STARTING, "a", count=2)
        assert failures(tree) == []


def test_an_agent_may_stop_the_whole_tree() -> None:
    tree = a_tree()
    add(tree, "a")
    add(tree, "b", lambda agent: tree.stop())
    assert tree.simple_join() == 0


def test_a_coroutine_agent_may_stop_the_whole_tree() -> None:
    tree = a_tree()

    async def stop(agent: AsyncAgent) -> None:
        await tree.aio.stop()

    add(tree, "a")
    add(tree, "b", stop, kind=AsyncDoes)
    assert tree.simple_join() == 0


def test_an_agent_may_stop_itself_and_is_then_stopped_not_completed() -> None:
    tree = a_tree()

    def stop_myself(agent: Agent) -> None:
        tree.stop_agent(agent.path)
        agent.sleep(3600)

    add(tree, "a", stop_myself)
    with tree:
        tree.wait_until("a", AgentState.STOPPED, PATIENCE)


@pytest.mark.parametrize(
    ("mistake", "call", "error"),
    [
        (lambda tree: tree.start_agent("nobody"), "start_agent()", "NotFound: 'nobody'"),
        (lambda tree: tree.start_agent("a"), "start_agent()", "Running: 'a' is"),
        (lambda tree: tree.unregister_agent("a"), "unregister_agent()", "Running: 'a' is"),
        (lambda tree: add(tree, "a"), "register_agent()", "AlreadyStarted: name='a'"),
        (lambda tree: add(tree, "new", depends_on=["no"]), "register_agent()", "SpecError: 'new': depends_on='no'"),
    ],
)
def test_a_mistake_in_a_hook_which_cannot_wait_for_the_answer_becomes_an_event(
    mistake: Any, call: str, error: str
) -> None:
    tree = a_tree()
    returned = threading.Event()

    def act(agent: Agent) -> None:
        mistake(tree)
        returned.set()
        agent.sleep(3600)

    add(tree, "a", act)
    with tree:
        wait_for(tree, E.HANDLER_FAILED)
        assert returned.wait(PATIENCE)
        (failed,) = failures(tree)
        assert failed.handler == call
        assert failed.error.startswith(error)
        assert tree.status("a").state is AgentState.READY


def test_an_event_handler_may_steer_and_gets_its_errors_itself() -> None:
    tree = a_tree()
    switch = Switch()
    add(tree, "a", **switch.hooks())
    seen: list[str] = []

    @tree.on(E.AGENT_CRASHED)
    def react(event: Event) -> None:
        add(tree, "helper")
        tree.wait_until("helper", "ready", PATIENCE)
        seen.append(tree.status("helper").state)
        tree.start_agent("nobody")

    with tree:
        switch.throw()
        wait_for(tree, E.HANDLER_FAILED)
        assert seen == ["ready"]
        assert "NotFound" in failures(tree)[0].error


def test_an_event_handler_may_stop_the_tree() -> None:
    tree = a_tree()
    add(tree, "a", crash, backoff=None)

    @tree.on(E.AGENT_CRASHED)
    def react(event: Event) -> None:
        tree.stop()

    assert tree.simple_join() == 0


class FromSupervision(Orchestrator):
    """Calls everything from hooks on the supervision thread."""

    def _steer(self) -> None:
        self.restart_agent("other")
        assert self.join() is False
        self.start_agent("nobody")
        self.wait_until("other", "parked", PATIENCE)

    def classify_exit(self, report: CrashReport) -> ExitReason | None:
        self._steer()
        return None

    def choose_next(self, queued: tuple[str, ...]) -> str | None:
        self._steer()
        return None


def test_hooks_on_the_supervision_thread_never_wait_for_it() -> None:
    tree = a_tree(FromSupervision)
    add(tree, "other")
    switch = Switch()
    add(tree, "a", **switch.hooks())
    with tree:
        switch.throw()
        wait_for(tree, E.AGENT_READY, "a", count=2)
        wait_for(tree, E.AGENT_READY, "other", count=2)
        wait_for(tree, E.HANDLER_FAILED, count=2)
        assert {(failed.handler, failed.error.partition(":")[0]) for failed in failures(tree)} == {
            ("start_agent()", "NotFound"),
            ("classify_exit", "TimeoutError"),
        }


def test_choose_next_may_steer() -> None:
    tree = a_tree(FromSupervision, max_workers=2)
    for name in ("other", "first", "second", "third"):
        add(tree, name)
    with tree:
        tree.stop_agent("first")
        tree.wait_until("second", "ready", PATIENCE)
        wait_for(tree, E.HANDLER_FAILED, count=2)


def test_a_thread_of_an_agents_own_waits_like_anybody_else() -> None:
    tree = a_tree()
    states: list[AgentState] = []

    def act(agent: Agent) -> None:
        def work() -> None:
            tree.restart_agent("other", PATIENCE)
            states.append(tree.status("other").state)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE)
        agent.sleep(3600)

    add(tree, "other")
    add(tree, "a", act, depends_on=["other"])
    with tree:
        wait_for(tree, E.AGENT_READY, "other", count=2)
        tree.stop_agent("a")
    assert states == [AgentState.READY]


def test_an_agent_may_run_a_whole_tree_of_its_own() -> None:
    codes: list[int] = []

    def act(agent: Agent) -> None:
        inner = a_tree(run_mode="stop_on_empty")
        add(inner, "job", lambda agent: None)
        inner.start()
        codes.append(inner.simple_join())

    tree = a_tree(run_mode="stop_on_empty")
    add(tree, "a", act)
    assert tree.simple_join() == 0
    assert codes == [0]


def test_what_an_agent_hands_in_does_not_take_its_context_variables_along() -> None:
    word = contextvars.ContextVar("word", default="nothing")
    seen: list[str] = []
    tree, has_looked = a_tree(), threading.Event()

    async def look(agent: AsyncAgent) -> None:
        seen.append(word.get())

    def act(agent: Agent) -> None:
        word.set("secret")
        has_looked.wait(PATIENCE)
        tree.restart_agent("looks")
        agent.sleep(3600)

    add(tree, "looks", look, kind=AsyncDoes)
    add(tree, "a", act, depends_on=["looks"])
    with tree:
        # Ready is not done: a restart before its end would be no second end.
        wait_for(tree, E.AGENT_TERMINATED, "looks")
        has_looked.set()
        wait_for(tree, E.AGENT_TERMINATED, "looks", count=2)
    assert seen == ["nothing", "nothing"]


def test_commands_of_a_hook_that_come_after_the_end_do_no_harm() -> None:
    tree = a_tree()
    errors: list[BaseException] = []
    released, done = threading.Event(), threading.Event()

    def wedge(agent: Agent) -> None:
        released.wait(PATIENCE)
        try:
            tree.restart_agent("a")
        except BaseException as error:
            errors.append(error)
        agent.emit("late")
        done.set()

    add(tree, "a", wedge, shutdown="brutal_kill")
    with tree:
        pass
    assert types(tree, "a")[-1] is E.AGENT_WEDGED
    released.set()
    assert done.wait(PATIENCE)
    assert errors == [] or isinstance(errors[0], NotRunning)
