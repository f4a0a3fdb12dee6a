"""The commanding half of an orchestrator: start, stop and restart single children, and wait for their states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future

from orchestree.agents.loading import refuse_if_copy
from orchestree.strategies.errors import StartError

from .draft import join_path
from .driver import Driver
from .inputs import Input, RegisterChild, RestartChild, StartChild, StopChild
from .spec import ChildEntry
from .states import AgentState
from .status import Status
from .waiting import Started, check_timeout, is_in, is_settled


class Steerable(ABC):
    """Commands to a running tree, from any thread.

    They return when what they ask for is done, at once when they are called in a hook of an agent of this tree,
    which the tree may have to wait for.
    """

    @property
    @abstractmethod
    def driver(self) -> Driver:
        """The driver of a tree that was started. Raises `NotRunning`."""

    @abstractmethod
    def status(self, path: str) -> Status:
        """Return the status of the agent or supervisor at `path`. Raises `NotFound`."""

    @abstractmethod
    def _handler_failed(self, handler: str, error: BaseException) -> None:
        """Make visible what a hook did wrong."""

    def start_agent(self, path: str, timeout: float | None = None) -> None:
        """Start a child that does not run (OTP: restart_child); return when it is ready, ended or has to wait.

        Raises:
            Running, Restarting, NotFound: see OTP. TimeoutError: the start goes on.
        """
        self._operate("start_agent()", StartChild(path), path, timeout)

    def stop_agent(self, path: str, timeout: float | None = None) -> None:
        """Stop a child and keep it down (OTP: terminate_child); return when it has ended. Idempotent.

        Raises:
            NotFound: there is none. TimeoutError: the stop goes on.
        """
        self._operate("stop_agent()", StopChild(path), path, timeout)

    def restart_agent(self, path: str, timeout: float | None = None) -> None:
        """Stop a child and start it at once, from any state; siblings are not touched, no restart is counted.

        Raises:
            NotFound: there is none. TimeoutError: the restart goes on.
        """
        self._operate("restart_agent()", RestartChild(path), path, timeout)

    def wait_until(self, path: str, state: AgentState | str, timeout: float) -> None:
        """Wait until the child at `path` is in `state`.

        Raises:
            NotFound: there is none now. TimeoutError: it was not, within `timeout` seconds.
            NotRunning: the tree has ended, or not been started, and it is not.
        """
        if (reached := self.reaching(path, state)) is not None:
            self.driver.refuse_to_block("wait_until()")
            self._wait(reached, timeout)

    # For the files beside this one

    def reaching(self, path: str, state: AgentState | str) -> Future[None] | None:
        """Return a future that is done when the child at `path` is in `state`; None if it is so already.

        Raises:
            NotFound: there is no such child. NotRunning: the tree does not run.
        """
        refuse_if_copy("wait_until()")
        holds = is_in(path, state)
        return None if self.status(path).state == state else self.driver.when(holds)

    def operation(self, call: str, event: Input, path: str) -> Future[None]:
        """Hand in an operation; the future is done when nothing at `path` or below moves any more."""
        refuse_if_copy(call)
        return self._noted(call, self.driver.submit(event, is_settled(path)))

    def starting(self, parent: str, entry: ChildEntry) -> tuple[Future[None], Started]:
        """Hand in a child to start or forget; when the future is done the other says how it went."""
        refuse_if_copy("start_child()")
        started = Started(join_path(parent, entry.name))
        done = self.driver.submit(RegisterChild(parent, entry, must_start=True), started)
        return self._noted("start_child()", done), started

    def start_under(self, parent: str, entry: ChildEntry) -> str | None:
        """Start a child as `Registry.start_child` does."""
        self.driver.refuse_to_block("start_child()")
        done, started = self.starting(parent, entry)
        if self.driver.is_inside:
            return join_path(parent, entry.name)
        done.result()
        return child_path(parent, entry, started)

    def _act(self, call: str, event: Input) -> None:
        """Hand in what needs no waiting but for its refusal."""
        done = self._noted(call, self.driver.submit(event))
        if not self.driver.is_inside:
            done.result()

    def _operate(self, call: str, event: Input, path: str, timeout: float | None) -> None:
        timeout = check_timeout(timeout)
        self.driver.refuse_to_block(call)
        done = self.operation(call, event, path)
        if not self.driver.is_inside:
            self._wait(done, timeout)

    def _wait(self, done: Future[None], timeout: float | None) -> None:
        if self.driver.is_supervision:
            timeout = 0.0  # a hook of a subclass, for which nothing goes on before it returns
        try:
            done.result(timeout)
        except TimeoutError:
            done.cancel()
            raise TimeoutError(f"not done within {timeout or 0:g} s; it goes on") from None

    def _noted(self, call: str, done: Future[None]) -> Future[None]:
        """Make the mistake of a hook, which cannot wait for the answer, visible."""

        def note(done: Future[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                self._handler_failed(call, error)

        if self.driver.is_inside:
            done.add_done_callback(note)
        return done


def child_path(parent: str, entry: ChildEntry, started: Started) -> str | None:
    """Return what `start_child` returns, or raise what it raises."""
    path = join_path(parent, entry.name)
    if started.error is not None:
        raise StartError(f"{path!r} did not start: {started.error}")
    return None if started.ignored else path
