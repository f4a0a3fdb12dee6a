"""Asks invariants what is wrong with a tree, and says clearly what is no invariant."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from orchestree.strategies.errors import SpecError

from .report import Finding

if TYPE_CHECKING:
    from .invariants import Invariant
    from .supervised_tree import SupervisedTree


def findings_of(tree: SupervisedTree, invariants: Iterable[Invariant]) -> list[Finding]:
    """Return what the invariants say, in their order.

    Raises:
        SpecError: one says something that is no text.
    """
    return [Finding(_name(invariant), text) for invariant in invariants for text in _texts(tree, invariant)]


def check_invariants(invariants: Iterable[object]) -> None:
    """Raise `SpecError` unless all of them can be asked, and there is one."""
    if not invariants:
        raise SpecError("check(): name what must hold, such as check(never_two_live, recovers_within(60))")
    for invariant in invariants:
        if isinstance(invariant, type) or not takes_one(invariant):
            must = "must be an invariant: a function that takes the tree, such as recovers_within(60)"
            raise SpecError(f"check({_name(invariant)}): {must}")


def takes_one(function: object) -> bool:
    """Return whether one can call it with one argument, as far as can be seen."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # it tells nobody what it takes
        return True
    return True


def _texts(tree: SupervisedTree, invariant: Invariant) -> Iterator[str]:
    said: object = invariant(tree)
    if said is None or isinstance(said, str):
        said = [said] if said else []
    if callable(said) or not isinstance(said, Iterable):
        raise _no_text(invariant, "returns", said)
    for text in said:
        if not isinstance(text, str):
            raise _no_text(invariant, "yields", text)
        yield text


def _no_text(invariant: Invariant, does: str, said: object) -> SpecError:
    return SpecError(f"check({_name(invariant)}): it {does} {said!r}: must be a text for each thing that is wrong")


def _name(invariant: object) -> str:
    return str(getattr(invariant, "__name__", repr(invariant)))
