"""OTP's rules for the calls to a running supervisor, continued (rows D09 to D12, D15, D16): reading, and nonsense."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from checked import CheckedTree
from orchestree_testing.agents import Scripted
from orchestree_testing.trees import PATIENCE, Does, a_tree, add, wait_for
from tenacity import wait_fixed
from virtual import Worker, agent, supervisor

from orchestree.agents.ends import NORMAL
from orchestree.agents.executor import RunEnded, RunId, RunReady
from orchestree.strategies import Backoff
from orchestree.supervisor import (
    AgentEntry,
    ChildCounts,
    EventType,
    NotFound,
    Orchestrator,
    SpecError,
    SupervisorEntry,
)

E = EventType
RESTARTS = ("permanent", "transient", "temporary")
LATER = Backoff(wait=wait_fixed(100.0), jitter=0.0)


def kids(tree: Any, path: str = "") -> list[tuple[str, str]]:
    """Return name and state of the children of a supervisor, in start order."""
    if isinstance(tree, Orchestrator):
        return [(child.name, child.state.value) for child in tree.which_children(path)]
    return [(node.name, node.state.value) for node in tree.node(path).sequence]


# Reading


@pytest.mark.otp("D09")
def test_which_children_tells_path_state_and_kind_in_start_order() -> None:
    """OTP's order is the reverse. Its `restarting` is BACKOFF, its `undefined` any other state of what does not run."""
    tree = a_tree()
    add(tree, "late", depends_on=["restarts"])
    tree.add_supervisor("team", children=[AgentEntry(Does, "inside")])
    tree.register_agent(Scripted, "restarts", setup="raise jammed", backoff=LATER)
    add(tree, "gone", restart="temporary", execute=lambda agent: None)
    with tree:
        tree.wait_until("gone", "completed", PATIENCE)
        tree.start_child(Does, "dynamic")
        tree.stop_agent("dynamic")
        shown = [(child.path, child.kind, child.state.value) for child in tree.which_children()]
        assert shown == [
            ("team", "supervisor", "ready"),
            ("restarts", "agent", "backoff"),
            ("late", "agent", "waiting"),
            ("dynamic", "agent", "stopped"),
        ]
        assert [child.path for child in tree.which_children("team")] == ["team/inside"]
        with pytest.raises(NotFound):
            tree.which_children("nobody")
        with pytest.raises(SpecError, match="is an agent"):
            tree.which_children("late")


@pytest.mark.otp("D09")
def test_a_child_keeps_its_place_until_it_is_removed() -> None:
    tree = a_tree()
    for name in "abc":
        add(tree, name)
    with tree:
        tree.stop_agent("b")
        assert kids(tree) == [("a", "ready"), ("b", "stopped"), ("c", "ready")]
        tree.start_agent("b")
        tree.restart_agent("a")
        assert kids(tree) == [("a", "ready"), ("b", "ready"), ("c", "ready")]
        tree.stop_agent("a")
        tree.unregister_agent("a")
        assert tree.start_child(Does, "a") == "a"
        assert kids(tree) == [("b", "ready"), ("c", "ready"), ("a", "ready")]


@pytest.mark.otp("D10")
def test_the_status_of_one_child_is_its_line_of_which_children() -> None:
    tree = a_tree()
    team, pool = tree.add_supervisor("team"), tree.add_supervisor("pool", dynamic=True)
    add(team, "a")
    add(tree, "b")

    def all_agree() -> None:
        for path in ("", "team", "pool"):
            for child in tree.which_children(path):
                single = tree.status(child.path)
                assert (single.path, single.kind, single.state, single.incarnation, single.executor) == (
                    child.path,
                    child.kind,
                    child.state,
                    child.incarnation,
                    child.executor,
                )

    with tree:
        one = pool.start_child(Does)
        assert one is not None
        all_agree()
        tree.stop_agent("b")
        tree.restart_agent("team/a")
        all_agree()
        tree.stop_agent(one)
        tree.unregister_agent("b")
        all_agree()
        for nobody in ("nobody", "team/b", "b", "pool/nobody", "team/a/x", "/", "team/"):
            with pytest.raises(NotFound):
                tree.status(nobody)


@pytest.mark.otp("D11")
def test_count_children_counts_specifications_runs_supervisors_and_agents() -> None:
    tree = a_tree()
    counts = []

    def count() -> None:
        counts.append(tree.count_children())

    count()
    tree.add_supervisor("one", children=[AgentEntry(Does, "x"), AgentEntry(Does, "y")])
    tree.add_supervisor("two")
    add(tree, "a")
    count()
    with tree:
        count()
        tree.stop_agent("a")
        tree.stop_agent("one")
        count()
        tree.register_agent(Scripted, "fails", setup="raise jammed", backoff=LATER)
        wait_for(tree, E.AGENT_RESTARTING, "fails")
        add(tree, "once", restart="temporary", execute=lambda agent: None)
        tree.wait_until("once", "completed", PATIENCE)
        count()
        tree.start_agent("one", PATIENCE)
        tree.unregister_agent("fails")
        tree.unregister_agent("a")
        count()
        assert tree.count_children("one") == ChildCounts(2, 2, 0, 2)
        with pytest.raises(NotFound):
            tree.count_children("nobody")
    assert counts == [
        ChildCounts(specs=0, active=0, supervisors=0, workers=0),
        ChildCounts(specs=3, active=0, supervisors=2, workers=1),
        ChildCounts(specs=3, active=3, supervisors=2, workers=1),
        ChildCounts(specs=3, active=1, supervisors=2, workers=1),
        ChildCounts(specs=4, active=1, supervisors=2, workers=2),
        ChildCounts(specs=2, active=2, supervisors=2, workers=0),
    ]


@pytest.mark.otp("D11")
@pytest.mark.slow
def test_the_counts_of_otps_tree_test_are_the_same() -> None:
    """A top with three supervisors of which one has been taken down: [3,2,3,0]; and agents that ended by a kill."""
    tree = a_tree()
    for name in ("s1", "s2", "s3"):
        add_to = tree.add_supervisor(name)
        for number in range(2):
            add_to.register_agent(Scripted, f"w{number}", executor="process", execute="sleep", restart="temporary")
    with tree:
        assert tree.count_children("s1") == ChildCounts(2, 2, 0, 2)
        tree.stop_agent("s2", PATIENCE)
        assert tree.count_children() == ChildCounts(specs=3, active=2, supervisors=3, workers=0)
        for number in range(2):
            tree.stop_agent(f"s1/w{number}", PATIENCE)
        assert tree.count_children("s1") == ChildCounts(0, 0, 0, 0)


@pytest.mark.otp("D12")
@pytest.mark.slow
def test_get_childspec_returns_the_whole_specification_as_it_stands() -> None:
    tree = a_tree(strategy="rest_for_one", max_restarts=3)
    made = tree.register_agent(Scripted, "a", executor="process", restart="permanent", execute="sleep", shutdown=2.5)
    team = tree.add_supervisor("team", auto_shutdown="any_significant", shutdown=4.0)
    inside = team.register_agent(Does, "b", significant=True, params={"k": 1})
    pool = tree.add_supervisor("pool", dynamic=True, max_children=2)

    def all_there() -> None:
        assert tree.get_childspec("a") == made
        assert tree.get_childspec("team/b") == inside
        spec = tree.get_childspec("team")
        assert isinstance(spec, SupervisorEntry)
        assert (spec.name, spec.auto_shutdown, spec.shutdown, spec.restart) == (
            "team",
            "any_significant",
            4.0,
            "permanent",
        )
        root = tree.get_childspec("")
        assert isinstance(root, SupervisorEntry)
        assert (root.name, root.strategy, root.max_restarts, root.max_seconds) == ("", "rest_for_one", 3, 10.0)
        for nobody in ("nobody", "team/a", "b", "a/b", "pool/nobody"):
            with pytest.raises(NotFound):
                tree.get_childspec(nobody)

    all_there()
    with tree:
        all_there()
        entry = AgentEntry(Does, "one")
        assert pool.start_child(entry) == "pool/one"
        assert tree.get_childspec("pool/one") == entry
        tree.stop_agent("pool/one")
        with pytest.raises(NotFound):
            tree.get_childspec("pool/one")
        tree.stop_agent("a")
        all_there()
        tree.reconfigure("a", shutdown=1.0)
        assert tree.get_childspec("a").shutdown == 1.0
        tree.unregister_agent("a")
        with pytest.raises(NotFound):
            tree.get_childspec("a")
    assert tree.get_childspec("team/b") == inside


# A child supervisor that ends by itself, normally


@pytest.mark.otp("D15")
@pytest.mark.parametrize(("restart", "strategy"), list(product(RESTARTS, ("one_for_one", "dependents"))))
def test_the_normal_end_of_a_child_supervisor_is_an_end_like_that_of_an_agent(restart: str, strategy: str) -> None:
    """Nobody can stop it behind its parent's back; that it ends by its own rule is what is left of stop(normal)."""
    last = agent("last", significant=True, backoff=None)
    team = supervisor("team", last, agent("other"), auto_shutdown="any_significant", restart=restart, backoff=None)
    tree = CheckedTree(agent("a"), team, agent("z"), strategy=strategy, max_restarts=1)
    marked = tree.mark()
    tree.complete("team/last")
    ended = ["TERMINATED team/last", "STOPPING team/other", "TERMINATED team/other", "SUPERVISOR_TERMINATED team"]
    again = [
        "SUPERVISOR_RESTARTING team",
        "SUPERVISOR_STARTED team",
        "STARTING team/last",
        "STARTING team/other",
        "READY team/last",
        "READY team/other",
        "SUPERVISOR_READY team",
    ]
    assert tree.lines(since=marked) == ended + (again if restart == "permanent" else [])
    states = {"permanent": [("team", "ready")], "transient": [("team", "completed")], "temporary": []}
    assert kids(tree) == [("a", "ready"), *states[restart], ("z", "ready")]
    assert tree.core.world.root.window.count(tree.now) == (1 if restart == "permanent" else 0)
    assert (tree.incarnations()["a"], tree.incarnations()["z"]) == (1, 1)
    if restart == "permanent":
        tree.complete("team/last")
        assert tree.exit_code == 70


# Nonsense

NO_PATHS: list[Any] = [None, 5, 2.5, [], {}, object(), b"a", "", "nobody", "a/", "/a", Worker]
NO_TIMES: list[Any] = ["x", -1, [], float("nan"), True]
COMMANDS = ("start_agent", "stop_agent", "restart_agent", "unregister_agent", "reconfigure")
READS = ("status", "get_childspec", "which_children", "count_children", "tree")


@pytest.mark.otp("D16")
@pytest.mark.parametrize("call", [*COMMANDS, *READS])
def test_a_call_that_makes_no_sense_is_raised_at_the_caller_and_supervision_goes_on(call: str) -> None:
    """OTP's supervisor dies of a call that it does not know, and takes all its children with it."""
    tree = a_tree(strategy="one_for_all")
    add(tree, "a")
    with tree:
        for path in NO_PATHS:
            if call in READS and path == "":
                continue  # the root
            fields = {"shutdown": 1.0} if call == "reconfigure" else {}
            with pytest.raises((SpecError, NotFound)):
                getattr(tree, call)(path, **fields)
        for wrong in NO_TIMES if call in COMMANDS[:3] else []:
            with pytest.raises(SpecError, match="timeout"):
                getattr(tree, call)("a", timeout=wrong)
        assert kids(tree) == [("a", "ready")]
        assert tree.status("a").incarnation == 1
        assert tree.history(type=EventType.SERVICE_FAILED) == []
        tree.restart_agent("a", PATIENCE)
        assert kids(tree) == [("a", "ready")]


@pytest.mark.otp("D16")
@pytest.mark.parametrize("message", [5, "stop", object(), ("call", "x"), Worker])
def test_a_message_that_the_supervision_does_not_know_ends_nothing(message: Any) -> None:
    tree = a_tree()
    add(tree, "a")
    with tree:
        with pytest.raises(Exception, match=r"\w"):
            tree.driver.submit(message).result(PATIENCE)
        assert tree.is_running
        tree.restart_agent("a", PATIENCE)
        assert kids(tree) == [("a", "ready")]


@pytest.mark.otp("D16")
@pytest.mark.parametrize("run", [RunId("nobody", 1), RunId("a", 7), RunId("a", 0), RunId("", 1), RunId("team", 1)])
def test_a_report_about_nobody_changes_nothing(run: RunId) -> None:
    tree = CheckedTree(agent("a"), supervisor("team", agent("b")))
    before = tree.mark(), tree.states(), tree.incarnations()
    tree.tell(RunReady(run))
    tree.tell(RunEnded(run=run, reason=NORMAL))
    assert (tree.mark(), tree.states(), tree.incarnations()) == before
