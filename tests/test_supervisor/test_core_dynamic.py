"""Dynamic supervisors and `start_child` in the core."""

from __future__ import annotations

import pytest
from tenacity import wait_fixed
from virtual import VirtualTree, agent, process, refused, supervisor

from orchestree.strategies.backoff import Backoff
from orchestree.strategies.errors import MaxChildren, NotFound, SpecError
from orchestree.supervisor.spec import ChildEntry, SupervisorEntry
from orchestree.supervisor.tree import AgentNode
from orchestree.supervisor.world import Settings

pytestmark = pytest.mark.policy

SLOW = Backoff(wait=wait_fixed(10), jitter=0.0)


def a_pool(*children: ChildEntry, settings: Settings | None = None, **fields: object) -> VirtualTree:
    """Return a tree with the dynamic supervisor ``pool`` and these children in it."""
    tree = VirtualTree(supervisor("pool", dynamic=True, **fields), settings=settings)
    for child in children:
        tree.start_child("pool", child)
    return tree


def test_a_dynamic_supervisor_is_ready_at_once_and_starts_what_comes() -> None:
    tree = a_pool()
    assert tree.state("pool") == "ready"
    tree.start_child("pool", agent("a"))
    assert tree.state("pool/a") == "ready"


@pytest.mark.parametrize("end", ["complete", "shut_itself_down", "ignore", "stop_agent"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_what_ends_for_good_leaves_the_tree(end: str, restart: str) -> None:
    tree = a_pool(agent("a", restart=restart))
    getattr(tree, end)("pool/a")
    assert tree.states() == {"pool": "ready"}
    assert isinstance(refused(lambda: tree.start_agent("pool/a")), NotFound)
    assert isinstance(refused(lambda: tree.stop_agent("pool/a")), NotFound)
    tree.start_child("pool", agent("a"))
    assert tree.state("pool/a") == "ready"


def test_what_crashed_comes_back_and_nobody_else_is_touched() -> None:
    tree = a_pool(agent("a", backoff=None), agent("b"))
    tree.crash("pool/a")
    assert tree.incarnations() == {"pool": 1, "pool/a": 2, "pool/b": 1}


def test_one_that_parked_stays_and_can_be_started_again() -> None:
    tree = a_pool(agent("a"))
    tree.crash("pool/a", exit_code=78)
    assert tree.state("pool/a") == "parked"
    tree.start_agent("pool/a")
    assert tree.state("pool/a") == "ready"


def test_all_are_stopped_at_the_same_time_each_for_its_own_shutdown() -> None:
    times = {"a": 1.0, "b": 5.0, "c": 3.0}
    tree = a_pool(*(process(name, shutdown=seconds) for name, seconds in times.items()), process("d"))
    tree.stubborn |= {"pool/a", "pool/b", "pool/c"}
    tree.advance(10)
    tree.stop()
    assert [path for _, _, path, _ in tree.log if path.startswith("pool/")][-5:] == [
        "pool/d",
        "pool/c",
        "pool/b",
        "pool/a",
        "pool/d",
    ]
    tree.advance(5)
    ends = {path: at for at, kind, path, _ in tree.log if kind == "AGENT_TERMINATED"}
    assert ends == {"pool/d": 10.0, "pool/a": 11.0, "pool/c": 13.0, "pool/b": 15.0}
    assert tree.exit_code == 0


def test_it_starts_empty_when_it_is_restarted() -> None:
    tree = a_pool(agent("a", backoff=None), agent("b"), agent("c"), max_restarts=0, backoff=None)
    tree.crash("pool/c", exit_code=78)
    tree.crash("pool/a")
    assert tree.states() == {"pool": "ready"}
    assert tree.node("pool").incarnation == 2


def test_what_was_parked_when_it_ended_still_counts_as_unwell() -> None:
    tree = a_pool(agent("a"))
    tree.crash("pool/a", exit_code=78)
    tree.stop_agent("pool")
    assert tree.states() == {"pool": "stopped"}
    tree.stop()
    assert tree.exit_code == 1


def test_a_wedged_run_of_its_earlier_life_is_left_behind() -> None:
    tree = a_pool(agent("a", shutdown=1), backoff=None)
    tree.stubborn |= {"pool/a"}
    tree.restart_agent("pool")
    tree.advance(1.1)
    assert tree.states() == {"pool": "ready", "pool/a": "wedged"}
    assert len(tree.live) == 1
    tree.complete("pool/a")
    assert tree.states() == {"pool": "ready"}


def test_max_children_counts_all_that_are_in_the_tree() -> None:
    tree = a_pool(agent("runs"), agent("waits", backoff=SLOW), agent("parked"), max_children=3)
    tree.crash("pool/waits")
    tree.crash("pool/parked", exit_code=78)
    since = tree.mark()
    error = refused(lambda: tree.start_child("pool", agent("d")))
    assert isinstance(error, MaxChildren)
    assert str(error) == "'d': 'pool' is full: max_children=3 (1 parked)"
    assert tree.lines(since=since) == []
    tree.complete("pool/runs")
    tree.start_child("pool", agent("d"))
    assert str(refused(lambda: tree.start_child("pool", agent("e")))).endswith("full: max_children=3 (1 parked)")


def test_max_children_can_be_none_at_all_and_can_change() -> None:
    tree = a_pool(max_children=0)
    assert "full: max_children=0" in str(refused(lambda: tree.start_child("pool", agent("a"))))
    tree.reconfigure("pool", max_children=1)
    tree.start_child("pool", agent("a"))
    tree.reconfigure("pool", max_children=0)
    assert tree.state("pool/a") == "ready"


REFUSED_FIELDS = [
    (
        {"strategy": "one_for_all"},
        "strategy=one_for_all: of a supervisor with dynamic=True it must be one_for_one",
    ),
    ({"auto_shutdown": "any_significant"}, "it must be never"),
    ({"children": [agent("a")]}, "it must be empty: they come with start_child"),
    ({"max_children": -1}, "max_children=-1: must be a whole number, 0 or more"),
    ({"dynamic": "yes"}, "dynamic='yes': must be True or False"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED_FIELDS)
def test_what_a_dynamic_supervisor_cannot_have(fields: dict[str, object], says: str) -> None:
    with pytest.raises(SpecError) as error:
        SupervisorEntry("pool", **{"dynamic": True, **fields})  # type: ignore[arg-type]
    assert says in str(error.value)


def test_only_a_dynamic_supervisor_has_max_children() -> None:
    with pytest.raises(SpecError, match="max_children=3: only a supervisor with dynamic=True has it"):
        SupervisorEntry("s", max_children=3)


@pytest.mark.parametrize(
    ("child", "says"),
    [
        (agent("b", depends_on=["a"]), "'b': depends_on=('a',): its supervisor 'pool' is dynamic"),
        (agent("b", strategy="one_for_all"), "its supervisor 'pool' is dynamic"),
        (supervisor("b", depends_on=["a"]), "'b': depends_on=('a',): its supervisor 'pool' is dynamic"),
        (agent("b", significant=True), "auto_shutdown=never"),
        (agent("a"), "'pool/a' is ready"),
    ],
)
def test_what_a_child_of_a_dynamic_supervisor_cannot_be(child: ChildEntry, says: str) -> None:
    tree = a_pool(agent("a"))
    error = refused(lambda: tree.start_child("pool", child))
    assert isinstance(error, SpecError)
    assert says in str(error)
    assert tree.states() == {"pool": "ready", "pool/a": "ready"}


def test_its_children_come_with_start_child_only() -> None:
    tree = a_pool()
    error = refused(lambda: tree.register("pool", agent("a")))
    assert str(error) == "'a': children of 'pool', which is dynamic, come with start_child()"


def test_a_supervisor_can_be_a_child_of_a_dynamic_one() -> None:
    tree = a_pool(supervisor("s", agent("a"), agent("b", depends_on=["a"]), restart="temporary"))
    assert tree.states() == {"pool": "ready", "pool/s": "ready", "pool/s/a": "ready", "pool/s/b": "ready"}
    tree.stop_agent("pool/s")
    assert tree.states() == {"pool": "ready"}


# start_child, under any supervisor


def test_of_a_child_whose_start_fails_nothing_is_kept_and_nothing_is_counted() -> None:
    tree = VirtualTree(agent("b"), strategy="one_for_all", max_restarts=0)
    tree.failing |= {"a"}
    since = tree.mark()
    tree.start_child("", agent("a", restart="permanent", backoff=None))
    assert tree.lines(since=since) == ["REGISTERED a", "STARTING a", "CRASHED a", "TERMINATED a"]
    assert tree.states() == {"b": "ready"}
    assert tree.incarnations() == {"b": 1}
    tree.failing.clear()
    tree.start_child("", agent("a"))
    assert tree.state("a") == "ready"


def test_one_that_has_started_once_fails_like_any_other() -> None:
    tree = VirtualTree()
    tree.start_child("", agent("a", backoff=SLOW))
    tree.failing |= {"a"}
    tree.crash("a")
    tree.advance(10)
    assert tree.state("a") == "backoff"


def test_a_start_that_takes_too_long_has_failed() -> None:
    tree = VirtualTree()
    tree.manual |= {"a"}
    tree.start_child("", process("a", start_timeout=2))
    tree.advance(2)
    assert tree.states() == {}
    assert tree.lines("AGENT_CRASHED", "AGENT_RESTARTING", "AGENT_TERMINATED") == ["CRASHED a", "TERMINATED a"]


def test_a_run_that_cannot_be_ended_is_left_to_itself_and_keeps_its_slot() -> None:
    tree = VirtualTree(settings=Settings(max_workers=1))
    tree.manual |= {"a"}
    tree.start_child("", agent("a", start_timeout=2, shutdown=1))
    tree.advance(3.1)
    assert tree.states() == {}
    assert tree.core.world.free_slots == 0
    tree.complete("a")
    assert tree.core.world.free_slots == 1


def test_one_that_is_not_needed_stays_listed_unless_it_is_temporary() -> None:
    tree = VirtualTree()
    tree.manual |= {"a", "b"}
    tree.start_child("", agent("a"))
    tree.start_child("", agent("b", restart="temporary"))
    tree.ignore("a")
    tree.ignore("b")
    assert tree.states() == {"a": "completed"}


@pytest.mark.parametrize("waits_for", ["slot", "sibling"])
def test_one_that_had_to_wait_is_there_for_good(waits_for: str) -> None:
    tree = VirtualTree(agent("b"), settings=Settings(max_workers=1 if waits_for == "slot" else None))
    tree.manual |= {"b"}
    if waits_for == "sibling":
        tree.restart_agent("b")
        tree.complete("b")
    tree.failing |= {"a"}
    tree.start_child("", agent("a", depends_on=["b"] if waits_for == "sibling" else [], backoff=SLOW))
    assert tree.state("a") == {"slot": "queued", "sibling": "waiting"}[waits_for]
    tree.ready("b")
    tree.complete("b")
    assert tree.state("a") == "backoff"


def test_of_a_start_that_an_operator_broke_off_nothing_is_kept_either() -> None:
    tree = VirtualTree()
    tree.manual |= {"a"}
    tree.start_child("", agent("a"))
    tree.stop_agent("a")
    tree.complete("a")
    assert tree.states() == {}
    tree.start_child("", agent("a"))
    tree.ready("a")
    tree.stop_agent("a")
    tree.complete("a")
    assert tree.state("a") == "stopped"


def test_a_significant_child_that_did_not_start_ends_nothing() -> None:
    tree = VirtualTree(auto_shutdown="any_significant")
    tree.failing |= {"a"}
    tree.start_child("", agent("a", significant=True, restart="temporary"))
    assert tree.exit_code is None


def test_strict_start_does_not_end_the_tree_for_it() -> None:
    tree = VirtualTree(agent("b"), started=False, settings=Settings(strict_start=True))
    tree.manual |= {"b"}
    tree.failing |= {"a"}
    tree.start()
    tree.start_child("", agent("a"))
    tree.ready("b")
    assert tree.exit_code is None


def test_one_that_was_taken_along_by_a_group_while_it_started_is_like_any_other() -> None:
    tree = VirtualTree(agent("b", backoff=SLOW), strategy="one_for_all")
    tree.manual |= {"a"}
    tree.start_child("", agent("a", backoff=SLOW))
    tree.crash("b")
    tree.complete("a")
    assert tree.states() == {"b": "backoff", "a": "backoff"}
    tree.failing |= {"a"}
    tree.advance(10)
    assert tree.states() == {"b": "backoff", "a": "backoff"}


def test_a_supervisor_that_was_started_by_it_and_gives_up_later_has_failed_like_any_other() -> None:
    tree = VirtualTree()
    inner = supervisor("s", agent("a", backoff=None), max_restarts=0, restart="transient", backoff=None)
    tree.start_child("", inner)
    tree.advance(1000)
    tree.crash("s/a")
    assert tree.states() == {"s": "failed", "s/a": "stopped"}


def test_one_that_could_not_be_ended_after_its_start_took_too_long_is_not_in_the_next_life_of_its_supervisor() -> None:
    tree = VirtualTree(supervisor("pool", dynamic=True, backoff=None))
    tree.start_child("pool", agent("a", start_timeout=2, shutdown=1, backoff=SLOW))
    tree.manual |= {"pool/a"}
    tree.restart_agent("pool/a")
    tree.complete("pool/a")
    tree.advance(3.1)
    assert tree.state("pool/a") == "wedged"
    tree.restart_agent("pool")
    tree.complete("pool/a")
    tree.advance(100)
    assert tree.states() == {"pool": "ready"}
    assert tree.live == {}


def test_stopping_one_that_parked_has_it_leave_and_makes_room() -> None:
    tree = a_pool(agent("a"), max_children=1)
    tree.crash("pool/a", exit_code=78)
    tree.stop_agent("pool/a")
    assert tree.states() == {"pool": "ready"}
    tree.start_child("pool", agent("b"))


def test_what_has_left_keeps_no_argument_alive_wherever_it_came_from() -> None:
    tree = VirtualTree(supervisor("s", agent("a", restart="temporary", params={"x": 1})))
    entry = tree.node("s").entry
    assert isinstance(entry, SupervisorEntry)
    assert entry.children == ()
    node = tree.node("s/a")
    tree.complete("s/a")
    assert isinstance(node, AgentNode)
    assert dict(node.entry.params) == {}


def test_a_member_that_became_temporary_while_its_group_waits_is_dropped() -> None:
    tree = VirtualTree(agent("a", backoff=SLOW), agent("b"), strategy="one_for_all")
    tree.crash("a")
    tree.reconfigure("b", restart="temporary")
    tree.advance(10)
    assert tree.states() == {"a": "ready"}
