"""TARGET of the command line: every way in which it can be wrong gets one line that says what to do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestree.supervisor.control.command_line.target import TargetError, load_target

APP = """
from orchestree import Orchestrator, PeriodicAgent, RunMode

class Beat(PeriodicAgent):
    def runner(self):
        self.logger.info("beat")

def build():
    made = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, name="built"))
    made.register_agent(Beat, "beat")
    return made
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what a target loads is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if str(tmp_path) in str((getattr(module, "__file__", ""), getattr(module, "__path__", ""))):
            del sys.modules[name]
    importlib.invalidate_caches()


def message(target: str) -> str:
    """Return the one line that `target` is refused with."""
    with pytest.raises(TargetError) as caught:
        load_target(target)
    text = str(caught.value)
    assert "\n" not in text
    return text


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    importlib.invalidate_caches()
    return name


def test_a_mistake_is_shown_where_the_users_file_makes_it() -> None:
    write("app.py", "from orchestree import Orchestrator\n\nOrchestrator.Config(run_mode='daemon', nam='x')\n")
    assert message("app.py").endswith("unknown field 'nam' (did you mean 'name'?) (app.py:3)")


def test_a_missing_file_is_named_with_the_nearest_one_there_is() -> None:
    write("monitoring.py", "")
    assert message("monitorin.py") == "monitorin.py: no such file (did you mean 'monitoring.py'?)"


def test_a_word_that_is_no_file_learns_how_a_module_is_written() -> None:
    assert message("monitoring") == "monitoring: no such file; a module is written module:attribute"


def test_a_folder_is_no_target(folder: Path) -> None:
    (folder / "app").mkdir()
    assert message("app") == "app: is a folder, not a Python file"


def test_a_file_of_another_kind_is_no_target() -> None:
    write("app.toml", "")
    assert message("app.toml") == "app.toml: not a Python file, its name does not end in .py"


def test_a_syntax_error_is_shown_with_its_place() -> None:
    write("app.py", "a = 1\nb = = 2\n")
    assert message("app.py") == "app.py: SyntaxError: invalid syntax (app.py:2)"


def test_what_a_file_raises_while_it_is_loaded_is_shown_with_the_users_own_line() -> None:
    write("app.py", "import json\n\njson.loads('{')\n")
    said = message("app.py")
    assert said.startswith("app.py: JSONDecodeError: Expecting property name")
    assert said.endswith(" (app.py:3)")


def test_an_exception_of_several_lines_is_shown_on_one() -> None:
    write("app.py", "raise ValueError('first\\n  second')\n")
    assert message("app.py") == "app.py: ValueError: first second (app.py:1)"


def test_a_function_that_exits_is_shown_with_its_place() -> None:
    write("app.py", "import sys\n\ndef build():\n    sys.exit(3)\n")
    assert message("app.py:build") == "app.py:build: SystemExit: 3 (app.py:4)"


def test_an_import_that_fails_inside_a_file_is_named() -> None:
    write("app.py", "import no_such_library\n")
    assert message("app.py") == "app.py: ModuleNotFoundError: No module named 'no_such_library' (app.py:1)"


def test_a_missing_module_is_named() -> None:
    assert message("no_such_app:main") == "no_such_app: no module named 'no_such_app' here or on sys.path"


def test_a_missing_part_of_a_dotted_module_is_named(folder: Path) -> None:
    (folder / "shop").mkdir()
    assert message("shop.app:main") == "shop.app: no module named 'shop.app' here or on sys.path"


def test_an_import_that_fails_inside_a_module_is_named_with_its_place() -> None:
    write("shop_app.py", "import os\nimport no_such_library\n")
    assert message("shop_app:main") == (
        "shop_app: ModuleNotFoundError: No module named 'no_such_library' (shop_app.py:2)"
    )


def test_a_path_without_the_ending_is_no_name_of_a_module() -> None:
    assert message("my-app:main") == "'my-app' is neither the name of a module nor of a file that ends in .py"


def test_a_missing_attribute_is_named_with_the_nearest_one_there_is() -> None:
    write("app.py", "orchestrator = 1\n")
    assert message("app.py:orchestrater") == (
        "app.py:orchestrater: there is no 'orchestrater' (did you mean 'orchestrator'?)"
    )


def test_a_missing_attribute_behind_a_dot_is_named() -> None:
    write("app.py", "class Trees:\n    first = 1\n")
    assert message("app.py:Trees.second") == "app.py:Trees.second: there is no 'second'"


def test_an_attribute_of_another_type_is_refused() -> None:
    write("app.py", "tree = 'oak'\n")
    assert message("app.py:tree") == ("app.py:tree is 'oak', not an Orchestrator or a function that returns one")


def test_a_class_is_refused() -> None:
    write("app.py", "class Tree: pass\n")
    assert message("app.py:Tree") == ("app.py:Tree is a class; name an Orchestrator or a function that returns one")


def test_a_function_that_needs_arguments_is_refused() -> None:
    write("app.py", "def build(path, *rest, size=1, depth): ...\n")
    assert message("app.py:build") == "app.py:build needs path, depth; it is called without arguments"


def test_a_coroutine_function_is_refused() -> None:
    write("app.py", "async def build(): ...\n")
    assert message("app.py:build").startswith("app.py:build is a coroutine function")


def test_a_function_that_fails_is_shown_with_its_place() -> None:
    write("app.py", "def build():\n    raise KeyError('db')\n")
    assert message("app.py:build") == "app.py:build: KeyError: 'db' (app.py:2)"


def test_a_function_that_returns_something_else_is_refused() -> None:
    write("app.py", "def build(): ...\n")
    assert message("app.py:build") == ("app.py:build returned None, not an Orchestrator or a function that returns one")


def test_a_file_with_nothing_to_run_is_refused() -> None:
    write("app.py", "import json\n\ndef helper(number): ...\n\ndef count() -> int: ...\n\nasync def main(): ...\n")
    assert message("app.py") == (
        "app.py: nothing to run in it: it holds no Orchestrator and no function that returns one"
    )


def test_several_orchestrators_are_listed_with_the_way_to_pick_one() -> None:
    write("app.py", APP + "first = build()\nsecond = build()\nsame = second\n")
    assert message("app.py") == "app.py: could run first, second; say which: app.py:first"


def test_several_functions_are_listed_with_the_way_to_pick_one() -> None:
    write("app.py", APP + "def other():\n    return build()\n")
    assert message("app.py") == "app.py: could run build, other; say which: app.py:build"


def test_a_bad_specification_is_shown_as_one_line_with_its_place() -> None:
    write("app.py", APP + "build().register_agent(Beat, 'no good')\n")
    said = message("app.py")
    assert said.startswith("app.py: ")
    assert "'no good'" in said
    assert said.endswith(" (app.py:12)")
    assert "Error:" not in said


def test_an_orchestrator_at_the_top_level_of_a_file_is_found() -> None:
    write("app.py", APP + "tree = build()\n")
    assert load_target("app.py").config.name == "built"


def test_the_only_function_that_can_make_an_orchestrator_is_called() -> None:
    write("app.py", APP + "def _hidden(): ...\n")
    assert load_target("app.py").config.name == "built"


def test_a_function_that_says_what_it_returns_goes_before_those_that_do_not() -> None:
    write("app.py", APP + "def declared() -> 'Orchestrator':\n    return build()\n")
    assert load_target("app.py").config.name == "built"


def test_a_file_that_runs_its_tree_at_the_end_is_loaded_without_running_it() -> None:
    write("app.py", APP + "tree = build()\nraise SystemExit(tree.simple_join())\n")
    assert load_target("app.py").config.name == "built"


def test_a_function_that_runs_its_tree_itself_is_refused() -> None:
    write("app.py", APP + "def main():\n    build().simple_join()\n")
    assert message("app.py:main") == (
        "app.py:main: calls simple_join() itself; let it only make the Orchestrator, as in "
        "`def build() -> Orchestrator: return Orchestrator(...)`"
    )


def test_a_module_that_runs_its_tree_at_the_end_is_loaded_without_running_it() -> None:
    write("shop_app.py", APP + "tree = build()\nraise SystemExit(tree.simple_join())\n")
    assert load_target("shop_app:tree").config.name == "built"


@pytest.mark.parametrize("target", ["app.py:trees.oak", "app.py:build", "shop.app:trees.oak", "shop.app:build"])
def test_an_attribute_of_a_file_or_module_is_found(folder: Path, target: str) -> None:
    text = APP + "class trees:\n    oak = build()\n"
    write("app.py", text)
    (folder / "shop").mkdir()
    write("shop/app.py", text)
    assert load_target(target).config.name == "built"


def test_a_file_in_another_folder_imports_its_neighbours(folder: Path) -> None:
    (folder / "deep").mkdir()
    write("deep/neighbour_of_app.py", APP)
    write("deep/app.py", "from neighbour_of_app import build\ntree = build()\n")
    assert load_target("deep/app.py").config.name == "built"
    assert sys.path[0] == str(folder / "deep")
