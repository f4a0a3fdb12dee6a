"""The start order, and the checks of whole trees."""

from __future__ import annotations

import random

import pytest
from virtual import AsyncWorker, agent, process, refused, supervisor

from orchestree.strategies.errors import SpecError
from orchestree.strategies.restart import AutoShutdown
from orchestree.supervisor.order import (
    StartStep,
    check_childspecs,
    check_dependencies,
    check_dynamic_child,
    check_significant,
    check_tree,
    start_order,
    start_steps,
)
from orchestree.supervisor.spec import AgentEntry, ChildEntry

pytestmark = pytest.mark.policy


def order(*entries: ChildEntry) -> list[str]:
    return [entry.name for entry in start_order(entries)]


def test_without_dependencies_it_is_the_registration_order() -> None:
    assert order(*(agent(name) for name in "cabd")) == ["c", "a", "b", "d"]


def test_again_and_again_the_earliest_registered_child_whose_dependencies_are_all_placed() -> None:
    assert order(agent("a", depends_on=["c"]), agent("b"), agent("c"), agent("d")) == ["b", "c", "a", "d"]
    assert order(agent("z", depends_on=["y"]), agent("y", depends_on=["x"]), agent("x"), agent("w")) == [
        "x", "y", "z", "w",
    ]  # fmt: skip


def naive(entries: list[ChildEntry]) -> list[str]:
    placed: list[str] = []
    while len(placed) < len(entries):
        placed.append(
            next(e.name for e in entries if e.name not in placed and all(name in placed for name in e.depends_on))
        )
    return placed


@pytest.mark.parametrize("seed", range(30))
def test_it_is_the_order_that_the_sentence_in_the_contract_describes(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"n{number}" for number in range(12)]
    entries: list[ChildEntry] = [
        agent(name, depends_on=rng.sample(names[:index], min(index, rng.choice((0, 0, 1, 3)))))
        for index, name in enumerate(names)
    ]
    rng.shuffle(entries)
    assert order(*entries) == naive(entries)


def test_supervisors_take_part_like_agents() -> None:
    assert order(agent("a", depends_on=["team"]), supervisor("team", agent("x"))) == ["team", "a"]


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="name='a': stands twice in 'team'"):
        start_order([agent("a"), agent("b"), agent("a")], "team")


def test_an_unknown_dependency_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match=r"'web': depends_on='databse': no such sibling \(did you mean 'database'\?\)"):
        order(agent("database"), agent("web", depends_on=["databse"]))


def test_a_child_of_another_supervisor_is_no_sibling() -> None:
    with pytest.raises(SpecError, match="depends_on='x': no such sibling"):
        check_tree(supervisor("", supervisor("team", agent("x")), agent("a", depends_on=["x"])))


def test_a_cycle_is_refused_and_shown() -> None:
    with pytest.raises(SpecError, match="depends_on: cycle a -> c -> b -> a in 'team'"):
        start_order(
            [agent("z"), agent("a", depends_on=["z", "c"]), agent("b", depends_on=["a"]), agent("c", depends_on=["b"])],
            "team",
        )
    with pytest.raises(SpecError, match=r"cycle a -> a$"):
        order(agent("a", depends_on=["a"]))


def test_those_that_only_depend_on_a_cycle_are_not_shown_as_part_of_it() -> None:
    with pytest.raises(SpecError, match="cycle b -> c -> b"):
        order(agent("a", depends_on=["b"]), agent("b", depends_on=["c"]), agent("c", depends_on=["b"]))


def test_a_significant_child_needs_a_supervisor_with_automatic_shutdown() -> None:
    child = agent("a", significant=True)
    with pytest.raises(SpecError, match="'a': significant=True: its supervisor in 'team' has auto_shutdown=never"):
        check_significant(child, AutoShutdown.NEVER, "team")
    check_significant(child, AutoShutdown.ANY_SIGNIFICANT, "team")
    check_significant(agent("b"), AutoShutdown.NEVER, "team")


def test_the_whole_tree_is_checked_depth_first_with_the_path_of_what_is_wrong() -> None:
    bad = supervisor("inner", agent("x", depends_on=["y"]))
    with pytest.raises(SpecError, match="'x': depends_on='y': no such sibling in 'outer/inner'"):
        check_tree(supervisor("", agent("a"), supervisor("outer", bad)))


def test_dependencies_may_be_checked_one_by_one() -> None:
    check_dependencies(agent("a", depends_on=["b"]), {"b": 1}, "")
    with pytest.raises(SpecError, match="no such sibling in 'team'"):
        check_dependencies(agent("a", depends_on=["c"]), {"b": 1}, "team")


def test_a_long_chain_of_dependencies_is_put_in_order_without_recursion() -> None:
    entries = [agent("n0"), *(agent(f"n{number}", depends_on=[f"n{number - 1}"]) for number in range(1, 5_000))]
    entries.reverse()
    assert order(*entries)[:3] == ["n0", "n1", "n2"]


def test_messages_name_the_supervisor_unless_it_is_the_root() -> None:
    twice = [agent("a"), agent("b"), agent("b")]
    unknown = [agent("database"), agent("web", depends_on=["databse"])]
    circle = [agent("a", depends_on=["b"]), agent("b", depends_on=["a"])]
    for entries, message, suggestion in (
        (twice, "name='b': stands twice", ""),
        (unknown, "'web': depends_on='databse': no such sibling", " (did you mean 'database'?)"),
        (circle, "depends_on: cycle a -> b -> a", ""),
    ):
        at_root = refused(lambda entries=entries: start_order(entries))  # type: ignore[misc]
        within = refused(lambda entries=entries: start_order(entries, "team"))  # type: ignore[misc]
        assert isinstance(at_root, SpecError)
        assert str(at_root) == f"{message}{suggestion}"
        assert str(within) == f"{message} in 'team'{suggestion}"


def test_a_significant_child_of_the_root_is_refused_in_whole_words() -> None:
    error = refused(lambda: check_tree(supervisor("", agent("a", significant=True))))
    assert str(error) == "'a': significant=True: its supervisor has auto_shutdown=never"
    check_tree(supervisor("", agent("a", significant=True), auto_shutdown="any_significant"))


def test_the_path_of_what_is_wrong_begins_below_the_root() -> None:
    bad = supervisor("team", agent("x", depends_on=["y"]))
    assert str(refused(lambda: check_tree(supervisor("", bad)))).endswith("in 'team'")
    assert str(refused(lambda: check_tree(supervisor("", bad), "far"))).endswith("in 'far/team'")


def test_the_steps_of_a_tree_are_everything_in_start_order_depth_first() -> None:
    tree = supervisor(
        "",
        agent("web", depends_on=["team"], restart="permanent"),
        supervisor("team", process("y", depends_on=["x"]), AgentEntry(AsyncWorker, "x"), restart="temporary"),
        supervisor("empty"),
    )
    assert start_steps(tree) == [
        StartStep("team", "supervisor", None, "temporary", ()),
        StartStep("team/x", "agent", "async", "transient", ()),
        StartStep("team/y", "agent", "process", "transient", ("x",)),
        StartStep("web", "agent", "thread", "permanent", ("team",)),
        StartStep("empty", "supervisor", None, "permanent", ()),
    ]
    assert [step.path for step in start_steps(supervisor("", supervisor("s", agent("a"))), "far")] == [
        "far/s",
        "far/s/a",
    ]


def test_a_child_of_a_dynamic_supervisor_knows_nothing_of_siblings() -> None:
    check_dynamic_child(agent("a", significant=False), "pool")
    check_dynamic_child(supervisor("s", strategy="one_for_all"), "pool")
    for entry, message in (
        (agent("a", depends_on=["b"]), "'a': depends_on=('b',): its supervisor 'pool' is dynamic"),
        (agent("a", strategy="one_for_one"), "'a': strategy=<Strategy.ONE_FOR_ONE: 'one_for_one'>: its supervisor"),
        (supervisor("s", depends_on=["b"]), "'s': depends_on=('b',): its supervisor 'pool' is dynamic"),
    ):
        error = refused(lambda entry=entry: check_dynamic_child(entry, "pool"))  # type: ignore[misc]
        assert str(error).startswith(message)
    assert str(refused(lambda: check_dynamic_child(agent("a", depends_on=["b"]), ""))) == (
        "'a': depends_on=('b',): its supervisor '' is dynamic"
    )


def test_children_can_be_checked_without_a_supervisor() -> None:
    check_childspecs([agent("b", depends_on=["a"]), agent("a", significant=True), supervisor("s", agent("x"))])
    check_childspecs([agent("a", significant=True)], "all_significant")
    check_childspecs([], "never")


def test_children_checked_without_a_supervisor_break_the_same_rules() -> None:
    inner = supervisor("s", agent("x", depends_on=["y"]))
    for children, auto_shutdown, message in (
        ([agent("a"), agent("a")], None, "name='a': stands twice among the children"),
        ([agent("a", depends_on=["b"])], None, "'a': depends_on='b': no such sibling"),
        ([agent("a", significant=True)], "never", "'a': significant=True: its supervisor has auto_shutdown=never"),
        ([inner], None, "'x': depends_on='y': no such sibling in 's'"),
        (
            [agent("a")],
            "sometimes",
            "auto_shutdown='sometimes': must be one of never, any_significant, all_significant",
        ),
    ):
        error = refused(lambda c=children, a=auto_shutdown: check_childspecs(c, a))  # type: ignore[misc]
        assert str(error) == message
