"""The start order, and the checks of whole trees."""

from __future__ import annotations

import random

import pytest
from virtual import agent, supervisor

from orchestree.strategies.errors import SpecError
from orchestree.strategies.restart import AutoShutdown
from orchestree.supervisor.order import check_dependencies, check_significant, check_tree, start_order
from orchestree.supervisor.spec import ChildEntry


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
