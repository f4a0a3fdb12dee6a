"""Two hundred clients stream the events of a working tree at once, and one of them never reads."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import pytest
from orchestree_testing.streaming import Client, number_of, served
from orchestree_testing.trees import FAST, PATIENCE, Does, a_tree, add

from orchestree.supervisor import EventType
from orchestree.supervisor.agent_logs import AgentLogs
from orchestree.supervisor.control.api.streams import Streams
from orchestree.supervisor.history import History

pytestmark = pytest.mark.slow

CLIENTS: Final = 199
ROUNDS: Final = 10
MESSAGES: Final = 100
"""In a round."""
KEPT: Final = 300
"""How many events a client may be late."""
IN_BETWEEN: Final = 700_000
"""Bytes at most that the kernel and the server hold for one client that does not read."""

E = EventType


class Talker:
    """What an agent does that is told when to speak."""

    def __init__(self) -> None:
        self.rounds = SimpleQueue[int | None]()

    def __call__(self, agent: Does) -> None:
        while (number := self.rounds.get()) is not None:
            for message in range(MESSAGES):
                agent.emit("said", round=number, last=message == MESSAGES - 1, text="x" * 1000)


class Crasher:
    """What an agent does that crashes when it is told to."""

    def __init__(self) -> None:
        self.orders = SimpleQueue[bool]()

    def __call__(self, agent: Does) -> None:
        if self.orders.get():
            raise ValueError("as told")


def read(client: Client, heard: SimpleQueue[int]) -> list[int]:
    """Read until the end, and say so when a round is over; return the numbers."""
    numbers = []
    for message in client:
        assert message.event != "event_gap"
        numbers.append(number_of(message))
        if '"last":true' in message.data:
            heard.put(1)
    return numbers


def test_one_that_is_stuck_costs_neither_the_tree_nor_the_other_clients_anything(tmp_path: Path) -> None:
    talker, crasher, heard = Talker(), Crasher(), SimpleQueue[int]()
    tree = a_tree()
    add(tree, "talker", talker, on_stop=lambda agent: talker.rounds.put(None))
    add(tree, "crasher", crasher, on_stop=lambda agent: crasher.orders.put(False), **FAST)
    streams = Streams(tree.events, History(tree.events).query, AgentLogs(), kept=KEPT)
    with served(tmp_path, streams) as server, ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as pool:
        with tree:
            without = len(tree.events._readers)
            stuck = stack.enter_context(server.events("since=0&who=stuck"))
            assert stuck.numbers(1) == [1]  # and then it is stuck
            assert len(tree.events._readers) == without + 1
            clients = [stack.enter_context(server.events("since=0&who=other")) for _ in range(CLIENTS)]
            assert len(tree.events._readers) == without + 1
            reading = [pool.submit(read, client, heard) for client in clients]
            for number in range(ROUNDS):
                since = tree.events.latest
                talker.rounds.put(number)
                crasher.orders.put(True)
                tree.events.wait_for(E.AGENT_READY, "crasher", since=since, timeout=PATIENCE)
                for _ in range(CLIENTS):
                    heard.get(timeout=PATIENCE)
        numbers = [done.result(PATIENCE) for done in reading]
        last = tree.events.latest
        assert last > ROUNDS * (MESSAGES + 3)
        assert numbers == [list(range(1, last + 1))] * CLIENTS
        assert server.traffic.bytes_for["other"] > CLIENTS * ROUNDS * MESSAGES * 1000
        assert server.traffic.bytes_for["stuck"] < IN_BETWEEN
        check_one_gap(stuck, last)


def check_one_gap(client: Client, last: int) -> None:
    """Read all after the first event, and see that it is whole but for one gap that says what it stands for."""
    seen, gaps = 1, 0
    for message in client:
        first = number_of(message)
        if message.event == "event_gap":
            gaps += 1
            first = json.loads(message.data)["data"]["first"]
        assert first == seen + 1
        seen = number_of(message)
    assert gaps == 1
    assert seen == last
