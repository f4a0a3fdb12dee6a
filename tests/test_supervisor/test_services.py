"""The services of an orchestrator: opened before its first event, closed after its last, never in its way."""

from __future__ import annotations

import errno
import json
import os
import socket
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loguru import logger

from orchestree import (
    Agent,
    Command,
    Event,
    EventType as E,
    Orchestrator,
    OrchestratorStarted,
    RunMode,
    ServiceFailed,
    SpecError,
)
from orchestree.supervisor.control import places
from orchestree.supervisor.control.limits import Limits
from orchestree.supervisor.history import EventQuery, OpenedHistory

if TYPE_CHECKING:
    from loguru import Record

pytestmark = pytest.mark.portable

DEADLINE_S = 20.0


class Waits(Agent):
    def execute(self) -> None:
        self.sleep(3600)


def a_tree(**config: object) -> Orchestrator:
    tree = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, **config))
    tree.register_agent(Waits, "a")
    return tree


def ask(tree: Orchestrator, method: str, path: str) -> object:
    connection = HTTPConnection("localhost", timeout=DEADLINE_S)
    connection.sock = places.connect(tree.services.socket)
    headers = {} if method == "GET" else {"Content-Type": "application/json"}
    connection.request(method, f"/v1/{path}", headers=headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def no_descriptors() -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def says_where(record: Record) -> bool:
    return "it is" in record["message"]


def failures(tree: Orchestrator) -> list[ServiceFailed]:
    return [event.data for event in tree.history(type=E.SERVICE_FAILED) if isinstance(event.data, ServiceFailed)]


def test_numbers_of_events_go_on_where_the_history_file_ends_and_each_run_has_an_id(tmp_path: Path) -> None:
    runs, last = [], 0
    for _ in range(2):
        with a_tree(control=False, history=str(tmp_path / "events.db")) as tree:
            pass
        own = tree.events.recent()
        assert [event.seq for event in own] == list(range(last + 1, last + 1 + len(own)))
        runs.append({event.run for event in own})
        last = own[-1].seq
        assert [event.seq for event in tree.history(since=0, limit=None)] == list(range(1, last + 1))
    assert runs[0].isdisjoint(runs[1])
    assert [len(run) for run in runs] == [1, 1]
    [first] = runs[0]
    assert {event.run for event in tree.history(since=0, run=first, limit=None)} == {first}


def test_everything_is_in_the_file_when_join_returns(tmp_path: Path) -> None:
    file = tmp_path / "events.db"
    with a_tree(control=False, history=str(file)) as tree:
        pass
    with closing(sqlite3.connect(file)) as connection:
        [(stored,)] = connection.execute("SELECT count(*) FROM events")
    assert stored == tree.events.latest


class Listed:
    """A store of another kind: a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.closed = threading.Event()

    def append(self, events: Sequence[Event]) -> None:
        self.events += events

    def query(self, query: EventQuery) -> list[Event]:
        return query.among(self.events)

    def prune(self, rows: int | None, before: float | None) -> bool:
        return False


def test_a_subclass_may_keep_its_events_in_a_store_of_another_kind() -> None:
    listed = Listed()

    class Keeping(Orchestrator):
        def open_history(self, path: str) -> OpenedHistory:
            assert path == "anywhere"
            return OpenedHistory(listed, last_seq=41, close=listed.closed.set)

    tree = Keeping(Orchestrator.Config(run_mode=RunMode.DAEMON, control=False, history="anywhere"))
    tree.register_agent(Waits, "a")
    with tree:
        pass
    assert listed.closed.is_set()
    assert [event.seq for event in listed.events] == list(range(42, 42 + len(listed.events)))
    assert tree.history(since=0, limit=None) == listed.events


def test_a_history_file_that_cannot_be_is_one_failed_service_and_memory_answers(tmp_path: Path) -> None:
    with a_tree(control=False, history=str(tmp_path / "no" / "events.db")) as tree:
        tree.events.wait_for(E.SERVICE_FAILED, since=0, timeout=DEADLINE_S)
        [failed] = failures(tree)
        assert failed.service == "history"
        assert "there is no folder" in failed.error
        assert tree.status("a").state == "ready"
        assert tree.services.states["history"].startswith("failed: ")


def test_a_socket_path_that_cannot_be_is_one_failed_service(tmp_path: Path) -> None:
    with a_tree(control=str(tmp_path / "no" / "control.sock")) as tree:
        tree.events.wait_for(E.SERVICE_FAILED, since=0, timeout=DEADLINE_S)
        [failed] = failures(tree)
        assert failed.service == "control"
        assert tree.services.socket == ""


def test_the_start_event_names_the_socket_and_it_goes_at_the_end() -> None:
    with a_tree(name="named") as tree:
        started = tree.history(type=E.ORCHESTRATOR_STARTED)[0].data
        assert isinstance(started, OrchestratorStarted)
        assert started.socket == tree.services.socket
        assert Path(started.socket).name == "named.sock"
        health = ask(tree, "GET", "health")
        assert isinstance(health, dict)
        assert health["services"] == {"control": "on", "history": "off", "metrics": "off"}
    assert not Path(started.socket).exists()


def test_the_second_of_a_name_gets_another_and_says_so() -> None:
    said: list[str] = []
    sink = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    try:
        with a_tree(name="twin") as first, a_tree(name="twin") as second:
            assert Path(first.services.socket).name == "twin.sock"
            assert Path(second.services.socket).name == f"twin-{os.getpid()}.sock"
            assert isinstance(health := ask(second, "GET", "health"), dict)
            assert health["name"] == f"twin-{os.getpid()}"
    finally:
        logger.remove(sink)
    assert any(f"twin-{os.getpid()}" in line for line in said)


def test_who_gave_a_command_is_in_its_one_event() -> None:
    with a_tree() as tree:
        before = tree.events.latest
        assert isinstance(answer := ask(tree, "POST", "agents/a/stop?wait=10"), dict)
        assert (answer["changed"], answer["done"], answer["state"]) == (True, True, "stopped")
        [event] = tree.history(type=E.COMMAND, since=before)
        assert isinstance(event.data, Command)
        assert (event.path, event.data.name, event.data.uid, event.data.pid) == ("a", "stop", os.getuid(), os.getpid())
        assert [one.type for one in tree.history("a", since=before)][:2] == [E.COMMAND, E.AGENT_STOPPING]


def test_a_start_that_is_refused_gives_everything_back_and_can_be_tried_again(tmp_path: Path) -> None:
    async def handler(event: object) -> None: ...

    tree = a_tree(name="again", history=str(tmp_path / "events.db"))
    tree.events.subscribe(handler)  # there is no loop for it
    with pytest.raises(SpecError):
        tree.start()
    assert places.find_orchestrators() == []
    assert tree.services.socket == ""
    (tmp_path / "events.db").unlink()  # nobody holds it
    other = a_tree(name="again", history=str(tmp_path / "events.db"))
    with other:
        assert Path(other.services.socket).name == "again.sock"
        assert failures(other) == []


def test_a_start_that_fails_for_want_of_descriptors_gives_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = a_tree(name="scarce", history=str(tmp_path / "events.db"))
    threads = {one.name for one in threading.enumerate()}
    with monkeypatch.context() as patch:
        patch.setattr("orchestree.supervisor.driver.asyncio.new_event_loop", no_descriptors)
        for _ in range(2):
            with pytest.raises(OSError, match="Too many open files"):
                tree.start()
    assert {one.name for one in threading.enumerate()} == threads
    with tree:
        assert Path(tree.services.socket).name == "scarce.sock"
        assert failures(tree) == []


def test_a_service_that_fails_in_an_unforeseen_way_is_a_failed_service() -> None:
    with a_tree(control="a\0b") as tree:
        [failed] = [
            event.data
            for event in [tree.events.wait_for(E.SERVICE_FAILED, since=0, timeout=DEADLINE_S)]
            if isinstance(event.data, ServiceFailed)
        ]
        assert failed.service == "control"


def test_the_first_event_is_the_start_of_the_orchestrator(tmp_path: Path) -> None:
    with a_tree(control=str(tmp_path / "no" / "x.sock"), history=str(tmp_path / "no" / "x.db")) as tree:
        for _ in range(2):
            tree.events.wait_for(E.SERVICE_FAILED, since=0, timeout=DEADLINE_S)
        assert tree.history(since=0)[0].type is E.ORCHESTRATOR_STARTED


def test_the_state_of_the_control_service_is_on_again_when_its_socket_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestree.supervisor.control.server.Limits", partial(Limits, check_s=0.02))
    with a_tree(name="moving") as tree:
        folder = Path(tree.services.socket).parent
        folder.chmod(0o755)
        Path(tree.services.socket).unlink()
        tree.events.wait_for(E.SERVICE_FAILED, since=0, timeout=DEADLINE_S)
        assert tree.services.states["control"].startswith("failed: ")
        told = threading.Event()
        sink = logger.add(
            lambda message: told.set(), level="WARNING", filter=lambda record: "it is" in record["message"]
        )
        folder.chmod(0o700)
        assert told.wait(DEADLINE_S)
        logger.remove(sink)
        assert tree.services.states["control"] == "on"
        assert isinstance(ask(tree, "GET", "health"), dict)


def test_the_answer_to_shutdown_comes_before_the_socket_goes() -> None:
    with a_tree() as tree:
        answer = ask(tree, "POST", "shutdown?wait=20")
        assert isinstance(answer, dict)
        assert (answer["changed"], answer["done"]) == (True, True)
        assert tree.join(DEADLINE_S)


@pytest.mark.parametrize(
    ("permissions", "refused"), [("opreate", "did you mean 'operate'"), (["ps", "stp"], "did you mean 'stop'")]
)
def test_permissions_that_do_not_exist_are_refused(permissions: object, refused: str) -> None:
    with pytest.raises(SpecError, match="control_permissions") as error:
        a_tree(control_permissions=permissions)
    assert refused in str(error.value)


@pytest.mark.parametrize("field", ["history_rows", "history_age"])
def test_limits_of_the_history_are_checked(field: str) -> None:
    with pytest.raises(SpecError, match=field):
        a_tree(**{field: 0})


@pytest.mark.parametrize("field", ["control", "history"])
def test_an_empty_path_is_refused(field: str) -> None:
    with pytest.raises(SpecError, match=f"{field}='': must be the path of a file"):
        a_tree(**{field: ""})


def test_no_thread_and_no_descriptor_is_left(tmp_path: Path) -> None:
    def here() -> tuple[set[str], int]:
        return {one.name for one in threading.enumerate()}, len(os.listdir("/proc/self/fd"))

    def live(number: int) -> None:
        with a_tree(history=str(tmp_path / f"{number}.db")) as tree:
            assert ask(tree, "GET", "agents")

    live(0)  # what is loaded once
    threads, descriptors = here()
    live(1)
    after_threads, after_descriptors = here()
    assert after_threads <= threads
    assert after_descriptors <= descriptors


def test_a_client_that_never_reads_does_not_hold_up_the_end() -> None:
    with a_tree() as tree:
        stuck = places.connect(tree.services.socket)
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(b"GET /v1/events/stream?since=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stuck.recv(1)
    assert "orchestree-control" not in {thread.name for thread in threading.enumerate()}
    stuck.close()
