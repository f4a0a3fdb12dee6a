"""What a tree would do about failures: `explain`. Looks into the source of agents; all else is the pure package's."""

from __future__ import annotations

import ast
import inspect
import random
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from orchestree.agents.base import BaseAgent
from orchestree.supervisor.simulation.explained.explanation import Explanation as Explanation, explanation_of

from .entry_fields import check_path, named_path
from .predicting import blueprint_of, seeded_waits, without_collections
from .spec import ChildEntry

if TYPE_CHECKING:
    from .orchestrator import Orchestrator

_MAY_WAIT: Final = (
    *(ast.For, ast.AsyncFor, ast.While, ast.comprehension, ast.With, ast.AsyncWith),
    *(ast.Await, ast.Yield, ast.YieldFrom, ast.Import, ast.ImportFrom, ast.Raise, ast.Assert),
    ast.Starred,
)
"""What may take its time, or end otherwise than by a return."""
_QUICK: Final = frozenset(
    [
        *("abs", "bool", "float", "int", "isinstance", "len", "print", "repr", "round", "str", "super", "type"),
        *("self.emit", "self.heartbeat", "self.progress"),
    ]
)
"""What never waits. That of `list` or `sum` does when what it reads from does."""
_QUICK_OBJECTS: Final = ("self.logger.", "self.metrics.")


def explain(tree: Orchestrator | ChildEntry | Iterable[ChildEntry], path: str = "") -> Explanation:
    """Tell what a tree would do when its agents fail: delays, when it gives up, who goes along, what looks wrong.

    Every number is read off simulations of the real specifications with the real core; see `simulate` for what is
    the same there. One agent fails at a time, again and again, as soon as it is ready, up to 1,000 times (fewer, once
    its delays do not change any more). Whether it can end its supervisor, and how often it is restarted in a minute,
    holds in whatever rhythm it fails, for policies that go by the number of failures in a row. Policies that are equal
    and stand in equal places are simulated once. What an agent depends on is taken to be there. Whether one child
    exhausts a window of more than 10,000 restarts is not tried out.

    Args:
        tree: an orchestrator that has not been started, or entries, see `simulate`.
        path: of the agent, or of the supervisor with all below it; ``""`` or ``"/"`` is the whole tree.

    Raises:
        NotFound: there is nothing at `path`. SpecError: the tree breaks a rule, or was started; `path` is no path.
    """
    check_path(path)
    blueprint = blueprint_of(tree)
    with without_collections(), seeded_waits(0):
        return explanation_of(blueprint, named_path(path), ends_at_once, random)


def ends_at_once(agent: type[BaseAgent]) -> bool:
    """Return whether the source of ``execute`` shows that it returns without ever waiting; False if in doubt."""
    function = getattr(agent, "execute", None)
    if not inspect.isfunction(function) or hasattr(function, "__wrapped__"):
        return False
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return False
    match parsed.body:
        case [ast.FunctionDef(decorator_list=[]) | ast.AsyncFunctionDef(decorator_list=[]) as found]:
            return all(_is_quick(node) for statement in found.body for node in ast.walk(statement))
        case _:
            return False


def _is_quick(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        return called in _QUICK or called.startswith(_QUICK_OBJECTS)
    return not isinstance(node, _MAY_WAIT)
