"""The public errors, and the suggestion that many of them end with."""

from __future__ import annotations

import runpy

import pytest

from orchestree import strategies
from orchestree.strategies import errors
from orchestree.strategies.errors import OrchestreeError, SpecError, did_you_mean

pytestmark = pytest.mark.policy


def test_a_misspelt_word_gets_the_nearest_one() -> None:
    assert did_you_mean("pth", ["config", "path", "paths"]) == " (did you mean 'path'?)"


def test_a_word_unlike_any_other_gets_no_suggestion() -> None:
    assert did_you_mean("zzz", ["config", "path"]) == ""
    assert did_you_mean("path", []) == ""


def test_words_that_share_just_enough_are_near() -> None:
    assert did_you_mean("abcde", ["abcxy"]) == " (did you mean 'abcxy'?)"
    assert did_you_mean("abcde", ["abwxy"]) == ""


def test_a_mistake_looks_at_no_more_than_a_thousand_names() -> None:
    names = (f"n{number:04}" for number in range(2000))
    assert did_you_mean("n0999", names) == " (did you mean 'n0999'?)"
    assert next(names) == "n1000"
    assert did_you_mean("zzz", ["a"] * 1000 + ["zzz"]) == ""


def test_every_public_error_is_one_of_ours_and_bad_values_are_value_errors_too() -> None:
    public = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception)]
    assert all(issubclass(error, OrchestreeError) for error in public)
    assert issubclass(SpecError, ValueError)
    assert issubclass(errors.NotFound, LookupError)


def test_the_folder_imported_under_its_bare_name_says_how_it_is_called() -> None:
    assert strategies.__file__ is not None
    with pytest.raises(ImportError, match=r"^'strategies' is a folder .*: import 'orchestree\.strategies' instead$"):
        runpy.run_path(strategies.__file__, run_name="strategies")
