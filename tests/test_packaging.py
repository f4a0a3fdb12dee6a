"""What is shipped: one import package out of four folders, typed, lazy, and never under a bare name."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

import orchestree

pytestmark = pytest.mark.portable

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("strategies", "agents", "supervisor", "metrics")
PACKAGES: Final = ("orchestree", "orchestree.strategies", "orchestree.agents", "orchestree.supervisor")

NEWCOMER: Final = """
from orchestree import LoopingAgent, Orchestrator, RunMode
from orchestree.agents import PeriodicAgent
from orchestree.strategies import Restart
from orchestree.supervisor import AgentEntry

class Beat(PeriodicAgent):
    def runner(self) -> None:
        self.logger.info("beat")

reveal_type(Orchestrator.Config(run_mode=RunMode.DAEMON).run_mode)
reveal_type(AgentEntry(Beat, "beat", restart="permanent").restart)
reveal_type(Restart.PERMANENT)
AgentEntry(Beat, "beat", restart="always")
from orchestree import Orchestra
"""


@dataclass(frozen=True)
class Distributions:
    wheel: Path
    sdist: Path


def python(*arguments: str | Path, cwd: Path, executable: str | Path = sys.executable) -> str:
    """Run Python, expect exit code 0 and return what it printed."""
    done = run(executable, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without the paths that the environment of the tests may add to those of Python."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "MYPYPATH"}}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Build the sdist, and from it the wheel, out of a copy of the checkout."""
    copy = tmp_path_factory.mktemp("build") / "orchestree"
    left_out = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
    # Not isolated: the build needs nothing from outside, so the test does not either.
    python("-m", "build", "--no-isolation", "--outdir", "dist", cwd=copy)
    (wheel,) = (copy / "dist").glob("*.whl")
    (sdist,) = (copy / "dist").glob("*.tar.gz")
    return Distributions(wheel, sdist)


@pytest.fixture(scope="module")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel in an environment of its own, beside the libraries of this one; return its Python."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    with zipfile.ZipFile(distributions.wheel) as wheel:
        wheel.extractall(site)
    # Found through a path file, this environment's own path files, the editable install's too, have no say.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin" / "python"


def product_files() -> set[str]:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    names = {f"orchestree/{path.relative_to(ROOT)}" for path in paths if path.parent.name != "__pycache__"}
    return names | {"orchestree/__init__.py", "orchestree/py.typed"}


def test_the_four_folders_are_linked_into_the_import_package() -> None:
    links = {name: os.readlink(ROOT / "src" / "orchestree" / name) for name in FOLDERS}
    assert links == {name: f"../../{name}" for name in FOLDERS}


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_four_folders(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == product_files()


@pytest.mark.slow
def test_the_sdist_holds_every_file_of_the_four_folders_as_a_plain_file(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as sdist:
        names = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    assert {f"src/{name}" for name in product_files()} <= names


@pytest.mark.slow
def test_the_installed_package_offers_its_names_and_its_command(installed: Path, tmp_path: Path) -> None:
    where = python("-c", "import orchestree.agents.ends as e; print(e.__file__)", cwd=tmp_path, executable=installed)
    assert Path(where.strip()).is_relative_to(installed.parents[1])
    command = (
        "from importlib.metadata import entry_points\n"
        "(tool,) = entry_points(group='console_scripts', name='orchestree')\n"
        "tool.load()()"
    )
    assert "0.1.0" in python("-c", command, "--version", cwd=tmp_path, executable=installed)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_program_outside_the_checkout_is_type_checked_strictly(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "newcomer.py").write_text(NEWCOMER)
    done = run(sys.executable, "-m", "mypy", "--strict", "--python-executable", installed, "newcomer.py", cwd=tmp_path)
    said = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert said[:3] == [
        'note: Revealed type is "orchestree.supervisor.states.RunMode"',
        'note: Revealed type is "orchestree.strategies.restart.Restart"',
        'note: Revealed type is "Literal[orchestree.strategies.restart.Restart.PERMANENT]?"',
    ]
    assert "incompatible type \"Literal['always']\"" in said[3]
    assert 'Module "orchestree" has no attribute "Orchestra"' in said[4]
    assert len(said) == 6, done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves(package: str) -> None:
    module = import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_type_checkers_see_the_names_that_a_package_offers_at_run_time(package: str) -> None:
    module = import_module(package)
    (block,) = (
        node
        for node in ast.parse(Path(module.__file__ or "").read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(module.__all__)


def test_orchestree_itself_offers_everything_that_its_folders_offer() -> None:
    offered = {package: set(import_module(package).__all__) for package in PACKAGES}
    assert offered.pop("orchestree") == set().union(*offered.values())


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'orchestree' has no attribute 'Orchestra'"):
        orchestree.Orchestra  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("module", ["orchestree", "orchestree.supervisor", "orchestree.supervisor.control.cli"])
def test_importing_the_package_or_the_command_line_tool_loads_no_library_of_the_runtime(
    module: str, tmp_path: Path
) -> None:
    heavy = ("asyncio", "pydantic", "loguru", "tenacity", "multiprocess", "multiprocessing", "psutil")
    loaded = python("-c", f"import sys, {module}; print(*sys.modules)", cwd=tmp_path).split()
    assert not set(heavy) & set(loaded)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_refuses_to_be_imported_under_its_bare_name(folder: str) -> None:
    advice = f"import 'orchestree.{folder}' instead"
    code = f"import sys\ntry:\n    import {folder}\nexcept ImportError as error:\n    print(error)"
    assert advice in python("-c", code, cwd=ROOT)


def test_links_that_came_out_of_git_as_plain_files_are_explained(tmp_path: Path) -> None:
    package = tmp_path / "orchestree"
    package.mkdir()
    shutil.copy(ROOT / "src" / "orchestree" / "__init__.py", package)
    (package / "supervisor").write_text("../../supervisor")
    code = "try:\n    import orchestree\nexcept ImportError as error:\n    print(error)"
    assert "git config core.symlinks true" in python("-c", code, cwd=tmp_path)
