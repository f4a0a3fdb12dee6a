"""What a blueprint tells of the tree that it stands for, before anything of it runs."""

from __future__ import annotations

import pytest
from virtual import agent, supervisor

from orchestree.strategies.errors import NotFound
from orchestree.supervisor.simulation.blueprint import Blueprint
from orchestree.supervisor.spec import SupervisorEntry

pytestmark = pytest.mark.policy

FIRST = agent("first")
DEEP = agent("deep")
TREE = Blueprint(
    SupervisorEntry(
        "", children=[FIRST, supervisor("pool", agent("b"), supervisor("inner", DEEP)), agent("pool-of-another")]
    )
)


def test_the_agents_of_a_tree_have_their_paths_and_stand_in_registration_order() -> None:
    agents = TREE.agents()
    assert list(agents) == ["first", "pool/b", "pool/inner/deep", "pool-of-another"]
    assert (agents["first"], agents["pool/inner/deep"]) == (FIRST, DEEP)


def test_the_agents_at_or_below_a_path_are_no_others_whose_names_begin_alike() -> None:
    assert list(TREE.agents("pool")) == ["pool/b", "pool/inner/deep"]
    assert list(TREE.agents("pool/b")) == ["pool/b"]


def test_a_path_at_which_nothing_stands_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(NotFound) as caught:
        TREE.agents("pol")
    assert str(caught.value) == "'pol': no such agent or supervisor (did you mean 'pool'?)"
