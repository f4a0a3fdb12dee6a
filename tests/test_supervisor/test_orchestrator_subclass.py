"""The four hooks of a subclass, doing their work and failing at it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest
from orchestree_testing.trees import PATIENCE, Does, Switch, a_tree, add, crash, trace, wait_for

from orchestree.agents import Cause, CrashReport, ExitKind, ExitReason
from orchestree.agents.ends import NORMAL, abnormal
from orchestree.supervisor import AgentEntry, AgentState, Event, EventType, Orchestrator, SpecError
from orchestree.supervisor.events import AgentCrashed, AgentStarting, HandlerFailed
from orchestree.supervisor.spec import ChildEntry

E = EventType


def failed_handlers(tree: Orchestrator) -> list[str]:
    return [
        f"{event.data.handler}: {event.data.error}"
        for event in tree.history(type=E.HANDLER_FAILED)
        if isinstance(event.data, HandlerFailed)
    ]


def test_before_start_may_replace_the_entries_and_is_called_once() -> None:
    calls: list[int] = []

    class Doubled(Orchestrator):
        def before_start(self, entries: tuple[ChildEntry, ...]) -> Iterable[ChildEntry]:
            calls.append(len(entries))
            return [*entries, AgentEntry(Does, "second", depends_on=["first"])]

    tree = a_tree(Doubled)
    add(tree, "first")
    with tree:
        assert [status.path for status in tree.which_children()] == ["first", "second"]
    assert calls == [1]


@pytest.mark.parametrize("answer", [None, 5, ["a"], [Does]])
def test_before_start_that_returns_no_entries_is_a_spec_error_and_nothing_starts(answer: Any) -> None:
    class Careless(Orchestrator):
        def before_start(self, entries: tuple[ChildEntry, ...]) -> Any:
            return answer

    tree = a_tree(Careless)
    add(tree, "a")
    with pytest.raises(SpecError, match="children"):
        tree.start()
    assert not tree.is_running


def test_before_start_that_raises_passes_it_on_and_the_start_can_be_tried_again() -> None:
    class Moody(Orchestrator):
        tries = 0

        def before_start(self, entries: tuple[ChildEntry, ...]) -> Iterable[ChildEntry]:
            self.tries += 1
            if self.tries == 1:
                raise LookupError("not today")
            return entries

    tree = a_tree(Moody)
    add(tree, "a")
    with pytest.raises(LookupError):
        tree.start()
    assert not tree.is_running
    with tree:
        assert tree.status("a").state is AgentState.READY


def test_on_event_sees_every_event_in_a_thread_of_its_own() -> None:
    class Watching(Orchestrator):
        def on_event(self, event: Event) -> None:
            seen.append(event)
            threads.add(threading.get_ident())

    seen: list[Event] = []
    threads: set[int] = set()
    tree = a_tree(Watching)
    add(tree, "a")
    with tree:
        pass
    assert [event.seq for event in seen] == list(range(1, tree.events.latest + 1))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_on_event_that_raises_goes_on_with_the_next_event() -> None:
    class Careless(Orchestrator):
        calls = 0

        def on_event(self, event: Event) -> None:
            self.calls += 1
            raise LookupError

    tree = a_tree(Careless)
    add(tree, "a")
    with tree:
        wait_for(tree, E.HANDLER_FAILED, count=3)
    assert tree.calls == tree.events.latest  # type: ignore[attr-defined]


class Choosing(Orchestrator):
    """Answers what `answers` says, then None."""

    answers: Any = ()
    asked: list[tuple[str, ...]]

    def choose_next(self, queued: tuple[str, ...]) -> str | None:
        self.asked.append(queued)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer


def run_one_by_one(answers: list[Any]) -> Choosing:
    tree = a_tree(Choosing, run_mode="stop_on_empty", max_workers=1)
    assert isinstance(tree, Choosing)
    tree.answers, tree.asked = answers, []
    for name in ("a", "b", "c", "d"):
        add(tree, name, lambda agent: None)
    assert tree.simple_join() == 0
    return tree


def test_choose_next_picks_from_the_queue_and_the_event_says_so() -> None:
    tree = run_one_by_one(["d", "c"])
    assert tree.asked[0] == ("a", "b", "c", "d")
    order = [path for _, path in trace(tree, E.AGENT_STARTING)]
    assert order == ["d", "c", "a", "b"]
    starting = [event.data for event in tree.history(type=E.AGENT_STARTING)]
    assert [data.chosen for data in starting if isinstance(data, AgentStarting)] == [True, True, False, False]


@pytest.mark.parametrize("answer", [LookupError("no"), SystemExit(1), ["a"], 7])
def test_choose_next_that_fails_or_answers_nonsense_is_the_default_and_an_event(answer: Any) -> None:
    tree = run_one_by_one([answer])
    assert [path for _, path in trace(tree, E.AGENT_STARTING)] == ["a", "b", "c", "d"]
    (failed,) = failed_handlers(tree)
    assert failed.startswith("choose_next: ")


def test_choose_next_that_names_nobody_in_the_queue_is_the_default() -> None:
    tree = run_one_by_one(["nobody"])
    assert [path for _, path in trace(tree, E.AGENT_STARTING)] == ["a", "b", "c", "d"]


class Classifying(Orchestrator):
    """Answers what `answer` says."""

    answer: Any = None

    def classify_exit(self, report: CrashReport) -> ExitReason | None:
        assert "ValueError: no such sensor" in report.traceback
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


def classifying(answer: Any) -> tuple[Orchestrator, Switch]:
    tree = a_tree(Classifying)
    assert isinstance(tree, Classifying)
    tree.answer = answer
    switch = Switch()
    add(tree, "a", **switch.hooks(), backoff=None)
    return tree, switch


def test_classify_exit_may_make_a_crash_a_normal_end() -> None:
    tree, switch = classifying(NORMAL)
    with tree:
        switch.throw()
        tree.wait_until("a", AgentState.COMPLETED, PATIENCE)
        assert tree.history("a", E.AGENT_CRASHED) == []


def test_classify_exit_may_give_a_crash_another_cause_and_the_event_says_so() -> None:
    tree, switch = classifying(abnormal(Cause.LOST))
    with tree:
        switch.throw()
        data = wait_for(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(data, AgentCrashed)
        assert (data.reason, data.classified) == (ExitReason(ExitKind.ABNORMAL, Cause.LOST), True)
        assert "ValueError" in data.report.traceback
        wait_for(tree, E.AGENT_READY, "a", count=2)


@pytest.mark.parametrize("answer", [LookupError("no"), SystemExit(1), "normal", True])
def test_classify_exit_that_fails_or_answers_nonsense_is_the_default_and_an_event(answer: Any) -> None:
    tree, switch = classifying(answer)
    with tree:
        switch.throw()
        wait_for(tree, E.AGENT_READY, "a", count=2)
        data = wait_for(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(data, AgentCrashed)
        assert (data.reason, data.classified) == (abnormal(Cause.EXCEPTION), False)
        wait_for(tree, E.HANDLER_FAILED)
        assert failed_handlers(tree)[0].startswith("classify_exit: ")


def test_a_subclass_may_have_a_configuration_of_its_own() -> None:
    class Greeting(Orchestrator):
        class Config(Orchestrator.Config):
            run_mode: Any = "daemon"
            control: Any = False
            greeting: str = "hello"

    tree = Greeting()
    assert isinstance(tree.config, Greeting.Config)
    assert tree.config.greeting == "hello"
    assert Greeting(Greeting.Config(greeting="hi")).config.greeting == "hi"  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match="Greeting"):
        Greeting(Orchestrator.Config(run_mode="daemon"))
    with pytest.raises(SpecError, match="did you mean 'greeting'"):
        Greeting.Config(greetin="hi")


def test_hooks_that_are_not_overridden_are_not_called() -> None:
    tree = a_tree()
    add(tree, "a", crash, backoff=None)
    with tree:
        data = wait_for(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(data, AgentCrashed)
        assert not data.classified
