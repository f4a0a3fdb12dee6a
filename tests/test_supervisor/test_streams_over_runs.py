"""``GET /v1/events/stream`` of a whole orchestrator with a history file: the past of earlier runs, and resuming."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from orchestree_testing.streaming import Client, number_of
from orchestree_testing.trees import PATIENCE, a_tree, add

from orchestree.supervisor import EventType, Orchestrator

pytestmark = pytest.mark.slow

STREAM = "/v1/events/stream"


def tree_in(folder: Path) -> Orchestrator:
    tree = a_tree(control=str(folder / "control.sock"), history=str(folder / "history.db"))
    add(tree, "worker")
    add(tree, "other")
    return tree


def restart(tree: Orchestrator, times: int) -> None:
    for _ in range(times):
        tree.restart_agent("worker", timeout=PATIENCE)


def test_a_stream_goes_from_the_file_over_the_memory_to_the_present_and_can_be_resumed(tmp_path: Path) -> None:
    with tree_in(tmp_path) as tree:
        restart(tree, 100)
    before = tree.events.latest
    with tree_in(tmp_path) as tree:
        restart(tree, 10)
        with Client(tmp_path / "control.sock", f"{STREAM}?since=0") as client:
            first = [client.next() for _ in range(before + 5)]
        seen = first[-1].id
        with (
            Client(tmp_path / "control.sock", f"{STREAM}?since=1", f"Last-Event-ID: {seen}") as client,
            Client(tmp_path / "control.sock", f"{STREAM}?since=0&path=worker&type=agent_ready") as ready,
        ):
            restart(tree, 5)
            tree.stop()
            rest = list(client)
            times = [json.loads(message.data)["incarnation"] for message in ready]
    assert [number_of(message) for message in first + rest] == list(range(1, tree.events.latest + 1))
    runs = [json.loads(message.data)["run"] for message in first + rest]
    assert len(set(runs)) == 2
    assert runs.index(runs[-1]) == before
    assert rest[-1].event == EventType.ORCHESTRATOR_STOPPED
    assert times == [*range(1, 102), *range(1, 17)]


def test_numbers_that_begin_anew_without_a_file_are_not_taken_for_those_of_the_run_before(tmp_path: Path) -> None:
    control = str(tmp_path / "control.sock")
    with a_tree(control=control) as tree:
        add(tree, "worker")
        with Client(tmp_path / "control.sock", f"{STREAM}?since=0") as client:
            seen = client.next().id
    with a_tree(control=control) as tree:
        add(tree, "worker")
        with Client(tmp_path / "control.sock", STREAM, f"Last-Event-ID: {seen}") as client:
            again = client.next()
            assert number_of(again) == 1
        with Client(tmp_path / "control.sock", STREAM, f"Last-Event-ID: {again.id}") as client:
            assert number_of(client.next()) == 2
