"""Executing a user's file for its definitions only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from orchestree_testing.scripts import write

from orchestree.agents import loading
from orchestree.agents.loading import USER_MAIN, StopLoading, load_file, load_module, refuse_if_copy
from orchestree.strategies.errors import NotRunning


@pytest.fixture(autouse=True)
def modules_are_forgotten() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_is_loaded_under_one_fixed_name(tmp_path: Path) -> None:
    module = load_file(write(tmp_path / "script", "name = __name__\nfile = __file__\nclass Agent: pass"))
    assert sys.modules[USER_MAIN] is module
    assert (module.name, module.file) == (USER_MAIN, str(tmp_path / "script"))
    assert module.Agent.__module__ == USER_MAIN


@pytest.mark.parametrize("end", ["refuse_if_copy('start()')", "raise SystemExit(1)"])
def test_loading_ends_where_the_file_would_act_and_keeps_what_it_has_defined(tmp_path: Path, end: str) -> None:
    source = f"from orchestree.agents.loading import refuse_if_copy\nbefore = 1\n{end}\nafter = 1"
    module = load_file(write(tmp_path / "script.py", source))
    assert module.before == 1
    assert not hasattr(module, "after")


def test_an_error_in_the_file_is_passed_on_and_the_module_forgotten(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        load_file(write(tmp_path / "script.py", "1 / 0"))
    assert USER_MAIN not in sys.modules


def test_a_module_is_imported_once_with_the_same_tolerance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "stall" / "__init__.py", "")
    write(tmp_path / "stall" / "till.py", "coins = []\nraise SystemExit")
    module = load_module("stall.till")
    assert load_module("stall.till") is module
    assert module.coins == []
    assert sys.modules["stall"].till is module
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'stall.none'"):
        load_module("stall.none")


def test_the_orchestrator_acts_after_loading_as_before(tmp_path: Path) -> None:
    refuse_if_copy("start()")
    with loading.loading(), pytest.raises(StopLoading):
        refuse_if_copy("start()")
    refuse_if_copy("start()")


def test_a_copy_in_an_agents_process_refuses_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_agent_process", True)
    with pytest.raises(NotRunning, match=r"^stop\(\): this is a copy of the orchestrator inside an agent's process"):
        refuse_if_copy("stop()")
