"""The pytest fixture `supervised`. pytest loads this file in every run, so it imports nothing before it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .supervised_tree import SupervisedTree


@pytest.fixture(name="supervised")
def supervised_fixture() -> Iterator[Callable[..., SupervisedTree]]:
    """Start trees under virtual time: ``t = supervised(tree, seed=0)``; they end with the test.

    Under ``@given`` use the function of that name in `orchestree.supervisor.testing` instead, in a ``with``: Hypothesis
    runs the test many times with one fixture.
    """
    from .supervised_tree import supervised

    with ExitStack() as stack:
        yield lambda tree, seed=0, **options: stack.enter_context(supervised(tree, seed, **options))
