"""The rules of the house that a syntax tree shows: layers, purity, sizes, no polling."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("strategies", "agents", "supervisor", "metrics")

TOP_LEVEL: Final = frozenset(
    {*FOLDERS, "src", "tests", "examples", "pyproject.toml"}
    | {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"}
)
MADE_BY_TOOLS: Final = frozenset({"build", "dist", "uv.lock", "__pycache__"})

# Which folder may import what, beside the standard library and itself. None: any library.
LAYERS: Final[dict[str, frozenset[str]]] = {
    "strategies": frozenset(),
    "agents": frozenset({"strategies"}),
    "supervisor": frozenset({"strategies", "agents", "metrics"}),
    "metrics": frozenset({"strategies", "agents", "supervisor"}),
}
LIBRARIES_OF_STRATEGIES: Final = frozenset({"tenacity"})

# Every file of supervisor/ stands in one of these two sets. A pure file decides, an impure one acts.
PURE_SUPERVISOR: Final = frozenset(
    [
        "blocking",
        "core",
        "core_settings",
        "cpu_book",
        "crash_book",
        "crash_text",
        "deadlines",
        "decision",
        "ending",
        "entry_fields",
        "event_json",
        "event_text",
        "event_types",
        "events",
        "groups",
        "history",
        "inputs",
        "keywords",
        "masking",
        "operations",
        "order",
        "outcome",
        "partitions",
        "pending",
        "permissions",
        "phrases",
        "plain",
        "policy_text",
        "reconfiguring",
        "slots",
        "spec",
        "starting",
        "states",
        "status",
        "stopping",
        "streaks",
        "tree",
        "waiting",
        "watching",
        "world",
    ]
)
IMPURE_SUPERVISOR: Final = frozenset(
    [
        "__init__",
        "agent_logs",
        "aio",
        "announcer",
        "clock",
        "config",
        "draft",
        "driver",
        "event_manager",
        "event_readers",
        "event_subscriptions",
        "executor_set",
        "explaining",
        "figures",
        "file_lock",
        "history_file",
        "history_queries",
        "history_sqlite",
        "history_writer",
        "hooks",
        "joining",
        "lifecycle_log",
        "logging_setup",
        "made_up_names",
        "message_gate",
        "orchestrator",
        "past_runs",
        "predicting",
        "reachable",
        "reading",
        "registry",
        "replaying",
        "runs",
        "services",
        "steering",
        "tree_metrics",
        "waiter",
    ]
)
PURE_TREES: Final = ("supervisor/simulation/",)
PURE_AGENTS: Final = frozenset({"ends", "metric_data", "metric_rules", "run_id"})

# What predicts, explains and tests asks the core, and looks at data; it takes nothing from what decides, but for
# the names that stand here.
PREDICTS: Final = ("supervisor/simulation/", "supervisor/testing/", "supervisor/predicting.py")
PREDICTS_TOO: Final = ("supervisor/explaining.py", "supervisor/replaying.py")
DECIDES: Final = frozenset(
    {f"orchestree.supervisor.{name}" for name in ("blocking", "decision", "ending", "groups", "operations", "outcome")}
    | {f"orchestree.supervisor.{name}" for name in ("pending", "reconfiguring", "slots", "starting", "stopping")}
    | {f"orchestree.supervisor.{name}" for name in ("streaks", "waiting", "watching")}
    | {"orchestree.strategies.window"}
)
TAKEN_FROM_DECISIONS: Final = {
    "orchestree.supervisor.outcome crashed": "tells a crash in the log, whose data is made only when somebody looks",
    **dict.fromkeys(
        [f"orchestree.supervisor.decision {name}" for name in ("Again", "Decision", "Finish", "GiveUp", "Park")]
        + ["orchestree.supervisor.decision comes_back"],
        "a replay tells it",
    ),
    "orchestree.supervisor.streaks current_streak": "a replay shows the streak that a decision was made with",
    "orchestree.supervisor.streaks stable_after": "a replay shows it",
    "orchestree.supervisor.watching MEASURE_EVERY_S": "a replay says when an answer must have come",
}
DECIDING_CALLS: Final = frozenset({"RestartWindow", "decide", ".verdict"})
ALLOWED_CALLS: Final = {
    "supervisor/simulation/replayed/foresight.py node.backoff.verdict()": "what was drawn, in a log without a seed",
}

IMPURE_MODULES: Final = frozenset(
    {"time", "threading", "asyncio", "queue", "socket", "subprocess", "signal", "os", "select", "random"}
)
MUTABLE_TYPES: Final = frozenset(
    {"list", "dict", "set", "bytearray", "deque", "defaultdict", "Counter", "OrderedDict", "ChainMap"}
    | {"SimpleNamespace", "count", "cycle"}
)
HARMLESS_CALLS: Final = frozenset({"frozenset", "tuple", "MappingProxyType", "TypeVar", "TypeVarTuple", "NewType"})

LONGER: Final = {"supervisor/events.py": "design §4.4 wants the data of all events in one file"}

# Calls that sleep or wait with a timeout: {"folder/file.py:function": why it is no polling}.
ALLOWED_WAITS: Final = {
    "agents/process/client.py:ForkServer.close": "one deadline for the fork server to end with its children",
    "agents/agent.py:Agent.sleep": "the agent's own pause, which a stop ends at once",
    "agents/agent.py:PeriodicAgent.execute": "the agent's own pause until its next round",
    "agents/async_agent.py:LoopingAsyncAgent.execute": "sleep(0) only lets the other tasks of the loop run",
    "agents/process/pushing.py:MetricPusher._serve": "after a change only: further changes are sent with it",
    "agents/process/guardian.py:is_readable": "waits for no time at all",
    "agents/process/server.py:Server._loop": "the timeout is the deadline of what was killed, only where there is such",
    "agents/process/sweep.py:_await_end": "one deadline for all that was killed",
    "agents/process/sweep.py:sweep": "only where there was no descriptor to look with, until the same deadline",
    "metrics/server.py:MetricsServer._accept": "a second while descriptors lack",
    "metrics/server.py:MetricsServer._listen_at_last": "the next try to get a port that somebody else has",
    "supervisor/control/server.py:ControlServer._serve": "the next try to make a socket that somebody removed",
    "supervisor/control/server.py:ControlServer._serve_at": "the socket check: whether somebody has removed it",
    "supervisor/control/serving.py:Connection._answer_while_open.send_while_open": "the end of the other side is seen",
    "supervisor/control/serving.py:Service.accept": "lets others have their turn; a second while descriptors lack",
    "supervisor/control/api/event_hub.py:EventFeed._read": "after events only: what follows is read with the next",
    "supervisor/control/api/line_box.py:LineBox.news": "after a line only: what comes right behind it is sent with it",
    "supervisor/control/api/commands.py:_first": "one deadline for a command, or until whoever asked has gone",
    "supervisor/joining.py:Alarm.wait": "is woken by a signal or by the end",
    "supervisor/joining.py:alert_result": "looks once each time the alarm was raised",
    "agents/process/client.py:ForkServer.serve_until": "sleeps until the server speaks or ends, once a message",
}
WAITING_CALLS: Final = frozenset({"wait", "poll"})


@dataclass(frozen=True)
class Import:
    """One imported module, with the names taken from it.

    Attributes:
        module: absolute name, whatever the source says.
        relative: written with leading dots.
        typing_only: stands in a ``TYPE_CHECKING`` block.
        top: stands outside functions and classes.
    """

    module: str
    names: tuple[str, ...]
    line: int
    relative: bool
    typing_only: bool
    top: bool


@dataclass(frozen=True)
class Source:
    """A file of the product, of the tests or of the examples."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def folder(self) -> str:
        return self.path.relative_to(ROOT).parts[0]

    @property
    def module(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(("orchestree", *parts)).removesuffix(".__init__")

    @property
    def package(self) -> str:
        return self.module if self.path.stem == "__init__" else self.module.rpartition(".")[0]

    @property
    def is_pure(self) -> bool:
        pure = {"agents": PURE_AGENTS, "supervisor": PURE_SUPERVISOR}.get(self.folder, frozenset())
        if self.folder == "strategies" or self.name.startswith(PURE_TREES):
            return True
        return self.path.parent.parent == ROOT and self.path.stem in pure

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> list[Import]:
        return list(imports_of(self.tree, self.package))


def imports_of(tree: ast.AST, package: str, *, typing_only: bool = False, top: bool = True) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno, False, typing_only, top)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*base, *filter(None, [module])])
            names = tuple(alias.name for alias in node.names)
            yield Import(module, names, node.lineno, node.level > 0, typing_only, top)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports_of(ast.Module(node.body, []), package, typing_only=True, top=top)
            yield from imports_of(ast.Module(node.orelse, []), package, typing_only=typing_only, top=top)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            yield from imports_of(node, package, typing_only=typing_only, top=top and not inside)


def sources(*folders: str) -> list[Source]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [Source(path, path.read_text(encoding="utf-8")) for path in paths]


PRODUCT: Final = sources(*FOLDERS)
EVERYTHING: Final = PRODUCT + sources("tests", "examples")
BY_MODULE: Final = {source.module: source for source in PRODUCT}


def targets(imported: Import) -> set[str]:
    """Return the modules of the product that an import really loads, seeing through the lazy packages."""
    found = set()
    for name in imported.names or ("",):
        if f"{imported.module}.{name}" in BY_MODULE:
            found.add(f"{imported.module}.{name}")
        elif imported.module in BY_MODULE:
            found.add(home_of(imported.module, name))
    return found


def home_of(module: str, name: str) -> str:
    """Return the module that offers `name` of the lazy package `module`, or `module` itself."""
    offered = (taken for taken in BY_MODULE[module].imports if taken.typing_only and name in taken.names)
    return next((taken.module for taken in offered if BY_MODULE[module].path.stem == "__init__"), module)


def expect_none(problems: list[str]) -> None:
    assert not problems, "\n".join(problems)


def folder_of(module: str) -> str | None:
    """Return the top folder that a module of the product belongs to, None for any other module."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "orchestree" else None


def test_the_top_level_holds_what_the_design_says() -> None:
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - MADE_BY_TOOLS
    assert found <= TOP_LEVEL
    assert {path.name for path in (ROOT / "src").iterdir()} <= {"orchestree", "orchestree.egg-info"}


def test_a_folder_imports_only_what_its_layer_may_see() -> None:
    problems = [
        f"{source.name}:{imported.line} imports {imported.module}"
        for source in PRODUCT
        for imported in source.imports
        for folder in [folder_of(imported.module)]
        if folder and folder != source.folder and folder not in LAYERS[source.folder]
    ]
    expect_none(problems)


def test_strategies_need_no_library_but_tenacity() -> None:
    allowed = sys.stdlib_module_names | LIBRARIES_OF_STRATEGIES | {"orchestree"}
    problems = [
        f"{source.name}:{imported.line} imports {imported.module}"
        for source in sources("strategies")
        for imported in source.imports
        if imported.module.partition(".")[0] not in allowed
    ]
    expect_none(problems)


def test_imports_are_relative_within_a_folder_and_absolute_across_folders() -> None:
    problems = [
        f"{source.name}:{imported.line} imports {imported.module}"
        for source in PRODUCT
        for imported in source.imports
        if imported.module.startswith("orchestree.")
        for neighbour in [source.package in (imported.module, imported.module.rpartition(".")[0])]
        if imported.relative is not neighbour
    ]
    expect_none(problems)


def test_nothing_imports_the_public_facade() -> None:
    problems = [
        f"{source.name}:{imported.line}"
        for source in PRODUCT
        for imported in source.imports
        if imported.module == "orchestree" and imported.names != ("lazy",)
    ]
    expect_none(problems)


def test_metrics_see_only_the_data_types_of_the_tree_and_are_loaded_only_when_asked_for() -> None:
    impure = [
        f"{source.name}:{imported.line} imports {module}"
        for source in sources("metrics")
        for imported in source.imports
        for module in targets(imported)
        if folder_of(module) in {"agents", "supervisor"} and not BY_MODULE[module].is_pure
    ]
    eager = [
        f"{source.name}:{imported.line} imports {imported.module}"
        for source in sources("supervisor")
        for imported in source.imports
        if folder_of(imported.module) == "metrics" and imported.top and not imported.typing_only
    ]
    expect_none(impure + eager)


def test_there_is_no_import_cycle_between_files() -> None:
    graph = {
        source.module: {
            module for imported in source.imports if not imported.typing_only for module in targets(imported)
        }
        for source in PRODUCT
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_folder_is_imported_under_its_bare_name() -> None:
    problems = [
        f"{source.name}:{imported.line}"
        for source in EVERYTHING
        for imported in source.imports
        if not imported.relative and imported.module.partition(".")[0] in FOLDERS
    ]
    expect_none(problems)


def test_every_file_of_supervisor_is_listed_as_pure_or_impure() -> None:
    found = {path.stem for path in (ROOT / "supervisor").glob("*.py")}
    expect_none([f"supervisor/{name}.py" for name in sorted(found - PURE_SUPERVISOR - IMPURE_SUPERVISOR)])
    assert not PURE_SUPERVISOR & IMPURE_SUPERVISOR


def test_pure_files_import_nothing_that_waits_talks_or_rolls_dice() -> None:
    problems = [
        f"{source.name}:{imported.line} imports {imported.module}"
        for source in PRODUCT
        if source.is_pure
        for imported in source.imports
        if imported.module.partition(".")[0] in IMPURE_MODULES
    ]
    expect_none(problems)


def test_pure_files_of_supervisor_build_on_pure_files_of_supervisor_only() -> None:
    problems = [
        f"{source.name}:{imported.line} imports {module}"
        for source in sources("supervisor")
        if source.is_pure
        for imported in source.imports
        if not imported.typing_only
        for module in targets(imported)
        if folder_of(module) == "supervisor" and not BY_MODULE[module].is_pure
    ]
    expect_none(problems)


def predicting_sources() -> list[Source]:
    return [source for source in PRODUCT if source.name.startswith((*PREDICTS, *PREDICTS_TOO))]


def test_what_predicts_takes_no_decisions_of_its_own() -> None:
    taken = {
        f"{module} {name}": f"{source.name}:{imported.line}"
        for source in predicting_sources()
        for imported in source.imports
        for name in imported.names
        for module in targets(Import(imported.module, (name,), imported.line, imported.relative, False, imported.top))
        if module in DECIDES
    }
    expect_none([f"{where} takes {what}" for what, where in taken.items() if what not in TAKEN_FROM_DECISIONS])
    expect_none([f"{what}: nobody takes it" for what in TAKEN_FROM_DECISIONS if what not in taken])
    called = [
        f"{source.name} {ast.unparse(node.func)}()"
        for source in predicting_sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        if {getattr(node.func, "id", ""), f".{getattr(node.func, 'attr', '')}"} & DECIDING_CALLS
    ]
    expect_none([call for call in called if call not in ALLOWED_CALLS])


def test_the_test_kit_takes_hypothesis_and_pytest_in_one_place_each() -> None:
    places = {"hypothesis": "hypothesis_strategies.py", "pytest": "pytest_plugin.py"}
    found = {
        (imported.module.partition(".")[0], source.path.name)
        for source in PRODUCT
        for imported in source.imports
        if imported.module.partition(".")[0] in places
    }
    assert found == set(places.items())


def mutable_state(tree: ast.Module) -> Iterator[int]:
    """Yield the lines at which a module keeps something that can change."""
    statements = [child for node in tree.body for child in (ast.walk(node) if isinstance(node, ast.If) else [node])]
    for node in statements:
        if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            final = isinstance(node, ast.AnnAssign) and "Final" in ast.unparse(node.annotation)
            if ast.unparse(target) != "__all__" and not is_immutable(node.value, final=final):
                yield node.lineno
        elif isinstance(node, ast.AugAssign):
            yield node.lineno
    yield from (node.lineno for node in ast.walk(tree) if isinstance(node, ast.Global))


def is_immutable(value: ast.expr, *, final: bool) -> bool:
    """Say whether a module may hold `value`. What a call makes only a constant may hold."""
    match value:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return False
        case ast.GeneratorExp() | ast.Await() | ast.NamedExpr():
            return False
        case ast.Tuple():
            return all(is_immutable(part, final=final) for part in value.elts)
        case ast.Call():
            called = ast.unparse(value.func).rpartition(".")[2]
            return called in HARMLESS_CALLS or (final and called not in MUTABLE_TYPES)
        case _:
            return True


def test_pure_files_hold_no_state_of_their_own() -> None:
    problems = [
        f"{source.name}:{line}"
        for source in PRODUCT
        if source.is_pure and source.path.stem != "__init__"
        for line in mutable_state(source.tree)
    ]
    expect_none(problems)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("x = frozenset({1})", 0),
        ("x: Final = Reason('normal')", 0),
        ("x: Final = MappingProxyType({1: 2})", 0),
        ("T = TypeVar('T')", 0),
        ("__all__ = ['x']", 0),
        ("x = (1, 2)", 0),
        ("x: Final = [1]", 1),
        ("x = ([],)", 1),
        ("x: Final = dict(a=1)", 1),
        ("x: Final = collections.deque()", 1),
        ("x = Cache()", 1),
        ("if True:\n    x = {}", 1),
        ("def f():\n    global x", 1),
    ],
)
def test_the_check_for_state_tells_constants_from_containers(line: str, found: int) -> None:
    assert len(list(mutable_state(ast.parse(line)))) == found


def function_lengths(source: Source) -> dict[str, int]:
    """Return the lines of each function's body, without its docstring."""
    lengths = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lengths[f"{source.name}:{node.lineno} {node.name}"] = (
                (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            )
    return lengths


def test_files_are_short() -> None:
    def limit(source: Source) -> int:
        if source.folder not in FOLDERS:
            return 600
        return 250 if source.is_pure and source.name not in LONGER else 400

    lengths = {source: len(source.text.splitlines()) for source in EVERYTHING}
    expect_none([f"{source.name}: {length}" for source, length in lengths.items() if length > limit(source)])


def test_functions_are_short() -> None:
    lengths = {name: length for source in EVERYTHING for name, length in function_lengths(source).items()}
    expect_none([f"{name}: {length}" for name, length in lengths.items() if length > 60])


def test_nine_of_ten_functions_of_the_product_have_at_most_25_lines() -> None:
    lengths = sorted(length for source in PRODUCT for length in function_lengths(source).values())
    assert lengths[len(lengths) * 9 // 10] <= 25


def timed_waits(tree: ast.AST, function: str = "") -> Iterator[str]:
    """Yield the name of the function around each call that sleeps, or waits with a timeout."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from timed_waits(node, f"{function}.{node.name}".removeprefix("."))
            continue
        if isinstance(node, ast.Call) and is_timed_wait(node):
            yield function
        yield from timed_waits(node, function)


def is_timed_wait(call: ast.Call) -> bool:
    owner, _, name = ast.unparse(call.func).rpartition(".")
    if name == "sleep":
        return True
    # What a module's function waits for is its first argument: asyncio.wait(tasks), connection.wait(pipes).
    timeouts = call.args[1:] if owner in {"", "asyncio", "connection", "futures"} else call.args
    timeouts = timeouts + [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
    return name in WAITING_CALLS and any(ast.unparse(timeout) != "None" for timeout in timeouts)


def test_nothing_polls() -> None:
    # Pure files have nothing to wait with; what they call `wait` is a policy.
    impure = [source for source in PRODUCT if not source.is_pure]
    found = {f"{source.name}:{function}" for source in impure for function in timed_waits(source.tree)}
    expect_none([f"{name}: waits with a timeout" for name in sorted(found - ALLOWED_WAITS.keys())])
    expect_none([f"{name}: waits no more" for name in sorted(ALLOWED_WAITS.keys() - found)])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("time.sleep(1)", 1),
        ("await sleep(1)", 1),
        ("stop.wait(1.0)", 1),
        ("stop.wait(timeout=left)", 1),
        ("connection.wait(pipes, 0.1)", 1),
        ("process.poll(0.1)", 1),
        ("stop.wait()", 0),
        ("stop.wait(timeout=None)", 0),
        ("connection.wait(pipes)", 0),
        ("process.poll()", 0),
    ],
)
def test_the_check_for_polling_tells_a_wait_from_a_wait_with_a_timeout(line: str, found: int) -> None:
    assert len(list(timed_waits(ast.parse(line)))) == found
