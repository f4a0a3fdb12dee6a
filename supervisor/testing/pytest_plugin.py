"""The pytest fixture `supervised`. pytest loads this file in every run, so it imports nothing before it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .supervised_tree import SupervisedTree


@pytest.fixture(name="supervised", scope="session")
def supervised_fixture() -> Callable[..., SupervisedTree]:
    """Put trees under virtual time: ``with supervised(tree, seed=0) as t:``, under ``@given``, too.

    It is the function of that name in `orchestree.supervisor.testing`, so nothing is left of one test in the next.
    """
    from .supervised_tree import supervised

    return supervised
