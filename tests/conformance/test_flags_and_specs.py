"""OTP's rules for the flags of a supervisor and for child specifications (rows F and C).

An OTP specification is a map that is looked at when it is used; ours is an object that is checked when it is made,
so "the start fails" reads here as "it cannot be made", and every way in has to refuse it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from orchestree_testing.trees import PATIENCE, a_tree
from virtual import AsyncWorker, Worker, agent, process, supervisor

from orchestree.agents import Agent
from orchestree.agents.base import BaseAgent
from orchestree.strategies import AutoShutdown, Restart, Strategy
from orchestree.supervisor import (
    AgentEntry,
    AgentState,
    AlreadyPresent,
    AlreadyStarted,
    ChildEntry,
    Orchestrator,
    SpecError,
    SupervisorEntry,
    check_childspecs,
)

Fields = dict[str, Any]
Doors = dict[str, Callable[[Fields], Any]]
INFINITE, NAN = float("inf"), float("nan")

# Every way in for the flags of a supervisor; each returns what has the flags as attributes.
FLAG_DOORS: Doors = {
    "entry": lambda flags: SupervisorEntry("s", **flags),
    "root": lambda flags: Orchestrator.Config(run_mode="daemon", **flags),
    "add": lambda flags: added(a_tree(), flags),
}
# Every way in for one child specification: of an agent (`kind` is the class) and of a supervisor.
AGENT_DOORS: Doors = {
    "entry": lambda fields: AgentEntry(Worker, "x", **fields),
    "register": lambda fields: a_tree().register_agent(Worker, "x", **fields),
}
SUPERVISOR_DOORS: Doors = {
    "entry": lambda fields: SupervisorEntry("x", **fields),
    "add": lambda fields: a_tree().add_supervisor("x", **fields),
}


def added(tree: Orchestrator, flags: Fields) -> object:
    tree.add_supervisor("s", **flags)
    return tree.get_childspec("s")


def product(*choices: Iterable[Any], repeat: int = 1) -> list[tuple[Any, ...]]:
    """Return every combination."""
    return list(itertools.product(*choices, repeat=repeat))


@pytest.fixture(scope="module")
def running() -> Iterator[Orchestrator]:
    """A tree that runs while a whole file of mistakes is made with it."""
    tree = a_tree()
    tree.register_agent(Worker, "first")
    with tree:
        tree.wait_until("first", AgentState.COMPLETED, PATIENCE)
        yield tree


@pytest.fixture
def unaffected(running: Orchestrator) -> Iterator[Orchestrator]:
    """The running tree, which must be exactly as it was afterwards: no event, no child, no change of state."""

    def look() -> object:
        children = [(child.path, child.state, child.incarnation) for child in running.which_children()]
        return running.events.latest, children, running.count_children()

    before = look()
    yield running
    assert look() == before


def refusal(make: Callable[[], object], field: str, value: object) -> str:
    """Return the one line that `make` is refused with, which begins with the field and its value."""
    with pytest.raises(SpecError, match=rf"(: |^){re.escape(f'{field}={value!r}')}(\.0)?: .") as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Flags

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
NO_STRATEGY: Sequence[object] = ("simple_one_for_one", "all_for_one", "", None, 5, ["one_for_one"], Restart.PERMANENT)
NO_COUNT: Sequence[object] = (-1, 1.0, INFINITE, NAN, "x", "1", None, [1])
NO_TIME: Sequence[object] = (0, -1, INFINITE, -INFINITE, NAN, "5", None, [5])
NO_AUTO_SHUTDOWN: Sequence[object] = ("sometimes", "any", "", None, 1, ["never"], Strategy.ONE_FOR_ONE)
BAD_FLAGS = [
    *product(("strategy",), NO_STRATEGY),
    *product(("max_restarts",), NO_COUNT),
    *product(("max_seconds",), NO_TIME),
    *product(("auto_shutdown",), NO_AUTO_SHUTDOWN),
]
PROVES = {
    "strategy": pytest.mark.otp("F02"),
    "max_restarts": pytest.mark.otp("F03"),
    "max_seconds": pytest.mark.otp("F04"),
    "auto_shutdown": pytest.mark.otp("F05"),
}


def flag_cases(cases: Sequence[tuple[str, object]]) -> list[Any]:
    """Return one case for each way in, each with the mark of its flag's row."""
    return [pytest.param(door, flag, value, marks=PROVES[flag]) for door, (flag, value) in product(FLAG_DOORS, cases)]


GOOD_FLAGS: list[tuple[str, object]] = [
    *product(("strategy",), (*STRATEGIES, *Strategy)),
    *product(("max_restarts",), (0, 1, 10**9)),
    *product(("max_seconds",), (1, 5, 0.001, 1e9)),
    *product(("auto_shutdown",), ("never", "any_significant", "all_significant", *AutoShutdown)),
]


@pytest.mark.parametrize(("door", "flag", "value"), flag_cases(GOOD_FLAGS))
def test_a_flag_is_taken_and_can_be_read_back(door: str, flag: str, value: object) -> None:
    assert getattr(FLAG_DOORS[door]({flag: value}), flag) == value


@pytest.mark.parametrize(("door", "flag", "value"), flag_cases(BAD_FLAGS))
def test_a_wrong_flag_is_refused_by_name_and_value(door: str, flag: str, value: object) -> None:
    refusal(lambda: FLAG_DOORS[door]({flag: value}), flag, value)


@pytest.mark.parametrize(("door", "flag", "value"), flag_cases([("max_restarts", True), ("max_seconds", True)]))
def test_a_number_is_no_truth_value(door: str, flag: str, value: object) -> None:
    refusal(lambda: FLAG_DOORS[door]({flag: value}), flag, value)


@pytest.mark.otp("F02", "F03", "F04", "F05", "F07")
@pytest.mark.parametrize(("flag", "value"), BAD_FLAGS)
def test_a_running_tree_refuses_a_wrong_flag_and_starts_nothing(
    unaffected: Orchestrator, flag: str, value: object
) -> None:
    refusal(lambda: unaffected.add_supervisor("s", children=[agent("a")], **{flag: value}), flag, value)  # type: ignore[arg-type]


@pytest.mark.otp("F02")
def test_what_simple_one_for_one_was_for_is_a_flag_of_its_own() -> None:
    pool = SupervisorEntry("pool", strategy="one_for_one", dynamic=True)
    assert (pool.strategy, pool.dynamic, SupervisorEntry("s").dynamic) == (Strategy.ONE_FOR_ONE, True, False)
    refusal(lambda: SupervisorEntry("pool", dynamic="yes"), "dynamic", "yes")  # type: ignore[arg-type]


@pytest.mark.otp("F06")
@pytest.mark.parametrize("flags", ["silly_flag", 5, ("one_for_one", 1, 5), ["one_for_one"], {"run_mode": "daemon"}])
def test_flags_of_another_type_are_refused(flags: Any) -> None:
    refusal(lambda: Orchestrator(flags), "config", flags)


@pytest.mark.otp("F06")
def test_an_unknown_flag_is_an_error_at_every_way_in() -> None:
    """OTP passes over it in silence; a mistyped flag that does nothing is the worst of both."""
    for door in ("entry", "add"):
        with pytest.raises(TypeError, match="intensity"):
            FLAG_DOORS[door]({"intensity": 3})
    with pytest.raises(SpecError, match="unknown field 'intensity'"):
        FLAG_DOORS["root"]({"intensity": 3})


IN_ORDER: list[tuple[str, object]] = [
    ("strategy", "all_for_one"),
    ("max_restarts", -1),
    ("max_seconds", 0),
    ("auto_shutdown", "sometimes"),
    ("children", ["hej"]),
]


@pytest.mark.otp("F07")
@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(IN_ORDER, 2)))
def test_of_two_wrong_flags_the_first_is_named_and_flags_come_before_children(
    unaffected: Orchestrator, first: tuple[str, Any], second: tuple[str, Any]
) -> None:
    for flags in (dict([first, second]), dict([second, first])):
        for make in (SupervisorEntry, a_tree().add_supervisor, unaffected.add_supervisor):
            text = refusal(lambda make=make, flags=flags: make("s", **flags), *first)  # type: ignore[misc]
            assert second[0] not in text


@pytest.mark.otp("F08")
@pytest.mark.parametrize(
    ("auto_shutdown", "significant"), product(("any_significant", "all_significant"), (False, True))
)
def test_a_dynamic_supervisor_has_no_auto_shutdown(
    unaffected: Orchestrator, auto_shutdown: Any, significant: bool
) -> None:
    fields: Fields = {"dynamic": True, "auto_shutdown": auto_shutdown}
    if significant:
        fields |= {"significant": True, "restart": "transient"}
    for make in (SupervisorEntry, a_tree().add_supervisor, unaffected.add_supervisor):
        with pytest.raises(SpecError, match=r"auto_shutdown=.*dynamic"):
            make("pool", **fields)
    assert SupervisorEntry("pool", dynamic=True, auto_shutdown="never").auto_shutdown is AutoShutdown.NEVER


# Child specifications


@pytest.mark.otp("C02")
@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, "'agent' and 'name'"), ({"agent": Worker}, "'name'"), ({"name": "a"}, "'agent'")],
)
def test_name_and_agent_are_mandatory(given: Fields, missing: str) -> None:
    for make in (AgentEntry, a_tree().register_agent):
        with pytest.raises(TypeError, match=f"missing .*: {missing}$"):
            make(**given)
    with pytest.raises(TypeError, match=r"missing .*: 'name'$"):
        SupervisorEntry()  # type: ignore[call-arg]


@pytest.mark.otp("C02", "C17")
@pytest.mark.parametrize("name", [None, "", 5, b"a", ("a",), ["a"], Worker, "a/b", "x" * 65])
def test_a_name_that_is_none_is_refused_at_every_way_in(unaffected: Orchestrator, name: Any) -> None:
    for make in (AgentEntry, a_tree().register_agent, unaffected.register_agent):
        refusal(lambda make=make: make(Worker, name), "name", name)  # type: ignore[misc]
    for add in (a_tree().add_supervisor, unaffected.add_supervisor):
        refusal(lambda add=add: add(name), "name", name)  # type: ignore[misc]


@pytest.mark.otp("C03")
@pytest.mark.parametrize(
    "cls",
    ["Worker", None, 2, object, Worker.execute, (Worker, "a"), ("Task", "foo", ("bar",)), {"start": Worker}, Agent],
)
def test_what_is_no_agent_class_is_refused_at_every_way_in(unaffected: Orchestrator, cls: Any) -> None:
    for make in (AgentEntry, a_tree().register_agent, unaffected.register_agent):
        with pytest.raises(SpecError, match="agent="):
            make(cls, "a")


# What it proves, the field, and values that are refused; all of them at every way in.
BAD_FIELDS: list[tuple[pytest.MarkDecorator, str, Sequence[object]]] = [
    (
        pytest.mark.otp("C04"),
        "restart",
        ("prmanent", "", "intrinsic", None, 5, True, ["permanent"], Strategy.ONE_FOR_ONE),
    ),
    (pytest.mark.otp("C05"), "shutdown", (-10, -0.5, "kill", "", "1000", None, True, INFINITE, NAN, [5])),
    (pytest.mark.otp("C08"), "significant", (1, 0, "true", "sometimes", None, [])),
]


def field_cases(cases: list[tuple[pytest.MarkDecorator, str, Sequence[object]]]) -> list[Any]:
    return [pytest.param(field, value, marks=proves) for proves, field, values in cases for value in values]


@pytest.mark.parametrize(("field", "value"), field_cases(BAD_FIELDS))
def test_a_wrong_field_is_refused_by_name_and_value(unaffected: Orchestrator, field: str, value: Any) -> None:
    for make in (*AGENT_DOORS.values(), *SUPERVISOR_DOORS.values()):
        refusal(lambda make=make: make({field: value}), field, value)  # type: ignore[misc]
    refusal(lambda: unaffected.register_agent(Worker, "x", **{field: value}), field, value)
    refusal(lambda: unaffected.add_supervisor("x", **{field: value}), field, value)


@pytest.mark.otp("C06")
@pytest.mark.parametrize("kind", ["wrker", "worker", "", 5, ["thread"], "async"])
def test_an_agent_that_is_to_run_on_something_unknown_is_refused(unaffected: Orchestrator, kind: Any) -> None:
    """What OTP calls the type of a child is here the class of its entry, and for agents what runs it."""
    for make in AGENT_DOORS.values():
        refusal(lambda make=make: make({"executor": kind}), "executor", kind)  # type: ignore[misc]
    refusal(lambda: unaffected.register_agent(Worker, "x", executor=kind), "executor", kind)


@pytest.mark.otp("C06", "C10")
@pytest.mark.parametrize("child", ["hej", 5, None, Worker, Worker(), {"id": "a"}, ("a", Worker), object()])
def test_a_child_that_is_neither_kind_of_entry_is_refused(unaffected: Orchestrator, child: Any) -> None:
    config = Orchestrator.Config(run_mode="daemon", control=False)
    for make in (
        lambda: Orchestrator(config, [child]),
        lambda: SupervisorEntry("x", children=[child]),
        lambda: a_tree().add_supervisor("x", children=[agent("a"), child]),
        lambda: unaffected.add_supervisor("x", children=[agent("a"), child]),
        lambda: check_childspecs([agent("a"), child]),
    ):
        with pytest.raises(SpecError, match=f"children: {re.escape(repr(child))}: must be an AgentEntry"):
            make()


@pytest.mark.otp("C10")
def test_an_unknown_field_is_an_error_and_a_misspelt_one_is_recognised(unaffected: Orchestrator) -> None:
    """OTP passes over it in silence, see F06."""
    for make in (a_tree().register_agent, unaffected.register_agent):
        with pytest.raises(SpecError, match=r"unknown field 'restrt' \(did you mean 'restart'\?\)"):
            make(Worker, "x", restrt="permanent")
    with pytest.raises(TypeError, match="restrt"):
        AgentEntry(Worker, "x", restrt="permanent")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="restrt"):
        SupervisorEntry("x", restrt="permanent")  # type: ignore[call-arg]


# The significant children: what may stand together.

RESTARTS = (None, "permanent", "transient", "temporary")
AUTO_SHUTDOWNS = (None, "never", "any_significant", "all_significant")
SIGNIFICANT = (None, True, False)


def given(**fields: object) -> Fields:
    """Return the fields that are not left out."""
    return {key: value for key, value in fields.items() if value is not None}


@pytest.mark.otp("C08", "C14")
@pytest.mark.parametrize(
    ("kind", "restart", "significant", "auto_shutdown"),
    product((agent, supervisor), RESTARTS, SIGNIFICANT, AUTO_SHUTDOWNS),
)
def test_a_significant_child_is_not_permanent_and_its_supervisor_heeds_it(
    kind: Any, restart: str | None, significant: bool | None, auto_shutdown: Any
) -> None:
    is_permanent = (restart or ("permanent" if kind is supervisor else "transient")) == "permanent"

    def make() -> ChildEntry:
        made: ChildEntry = kind("x", **given(restart=restart, significant=significant))
        return made

    if significant and is_permanent:
        # An entry is checked alone first, so this is found before anybody asks for the supervisor.
        with pytest.raises(SpecError, match=r"'x': significant=True: a permanent child"):
            make()
        return
    flags = given(auto_shutdown=auto_shutdown)
    in_vain = significant and auto_shutdown in (None, "never")
    root = Orchestrator(Orchestrator.Config(run_mode="daemon", control=False, **flags), [make()])
    inner = a_tree()
    inner.add_supervisor("inner", children=[make()], **flags)
    for check in (root.check, inner.check, lambda: check_childspecs([make()], auto_shutdown or "never")):
        if in_vain:
            with pytest.raises(SpecError, match=r"'x': significant=True: .*auto_shutdown=never"):
                check()
        else:
            check()
    check_childspecs([make()])  # which knows of no supervisor


@pytest.mark.otp("C08")
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_running_supervisor_that_heeds_nobody_takes_no_significant_child(
    unaffected: Orchestrator, restart: Any
) -> None:
    with pytest.raises(SpecError, match="significant=True"):
        unaffected.register_agent(Worker, "x", significant=True, restart=restart)
    with pytest.raises(SpecError, match="significant=True"):
        unaffected.add_supervisor("x", significant=True, restart=restart)
    with pytest.raises(SpecError, match="significant=True"):
        unaffected.add_supervisor("x", children=[agent("y", significant=True, restart=restart)])
    with pytest.raises(SpecError, match="significant=True"):
        unaffected.start_child(Worker, "x", significant=True, restart=restart)


# All children of one supervisor


@pytest.mark.otp("C11", "C14")
@pytest.mark.parametrize("kinds", product((agent, process, supervisor), repeat=2))
def test_a_name_stands_once_among_siblings(unaffected: Orchestrator, kinds: Any) -> None:
    twins = [kind("twin") for kind in kinds]
    config = Orchestrator.Config(run_mode="daemon", control=False)
    for make in (
        lambda: Orchestrator(config, [agent("a"), *twins]),
        lambda: SupervisorEntry("x", children=twins),
        lambda: unaffected.add_supervisor("x", children=twins),
        lambda: check_childspecs(twins),
    ):
        with pytest.raises(SpecError, match="name='twin': stands twice"):
            make()
    check_childspecs([kinds[0]("twin"), supervisor("other", kinds[1]("twin"))])


class Planned(Orchestrator):
    """Starts the entries that a test puts here."""

    plan: tuple[ChildEntry, ...] = ()

    def before_start(self, entries: tuple[ChildEntry, ...]) -> tuple[ChildEntry, ...]:
        return self.plan


IMPOSSIBLE: dict[str, tuple[ChildEntry, ...]] = {
    "twins": (agent("a"), agent("a")),
    "a need that is not there": (agent("a"), agent("b", depends_on=["c"])),
    "a circle": (agent("a", depends_on=["b"]), agent("b", depends_on=["a"])),
    "a significant child in vain": (agent("a"), agent("b", significant=True)),
    "a mistake further down": (agent("a"), supervisor("s", supervisor("t", agent("b", depends_on=["a"])))),
    "something else": (agent("a"), "hej"),  # type: ignore[dict-item]
}


@pytest.mark.otp("C12")
@pytest.mark.parametrize("children", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_with_one_bad_specification_nothing_starts(children: tuple[ChildEntry, ...]) -> None:
    tree = a_tree(Planned)
    assert isinstance(tree, Planned)
    tree.plan = children
    with pytest.raises(SpecError):
        tree.start()
    assert not tree.is_running
    assert tree.history() == []
    assert tree.which_children() == []
    tree.plan = (agent("a"),)
    with tree:
        assert [child.path for child in tree.which_children()] == ["a"]


@pytest.mark.otp("C12")
@pytest.mark.parametrize("children", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_running_supervisor_is_unaffected_by_a_bad_specification(
    unaffected: Orchestrator, children: tuple[ChildEntry, ...]
) -> None:
    with pytest.raises(SpecError):
        unaffected.add_supervisor("x", children=children)


GOOD_SHUTDOWNS = (0, 1, 1.5, "infinity", "brutal_kill")


@pytest.mark.otp("C04", "C05", "C06", "C13")
@pytest.mark.parametrize(
    ("restart", "shutdown", "kind"),
    product((*RESTARTS[1:], *Restart), GOOD_SHUTDOWNS, ("thread", "process", "async", "supervisor")),
)
def test_every_valid_combination_is_taken_and_can_be_read_back(restart: Any, shutdown: Any, kind: Any) -> None:
    cls: type[BaseAgent] = AsyncWorker if kind == "async" else Worker
    for significant in (False, True) if restart != "permanent" else (False,):
        fields: Fields = {"restart": restart, "shutdown": shutdown, "significant": significant}
        made: ChildEntry
        if kind == "supervisor":
            made = SupervisorEntry("x", **fields)
        else:
            made = AgentEntry(cls, "x", executor=kind, **fields)
            assert made.executor == kind
        tree = Orchestrator(
            Orchestrator.Config(run_mode="daemon", control=False, auto_shutdown="any_significant"), [made]
        )
        assert [step.path for step in tree.check()] == ["x"]
        check_childspecs([made], "all_significant")
        read = tree.get_childspec("x")
        assert read == made
        assert (read.restart, read.shutdown, read.significant) == (restart, shutdown, significant)


@pytest.mark.otp("C14")
@pytest.mark.parametrize("children", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_check_childspecs_finds_what_the_start_would_find(children: tuple[ChildEntry, ...]) -> None:
    tree = a_tree(Planned)
    assert isinstance(tree, Planned)
    tree.plan = children
    with pytest.raises(SpecError, match=r"\w") as at_start:
        tree.start()
    with pytest.raises(SpecError, match=r"\w") as by_check:
        check_childspecs(children, "never")
    assert (type(by_check.value), str(by_check.value)) == (type(at_start.value), str(at_start.value))


@pytest.mark.otp("C14")
def test_check_childspecs_takes_any_list_of_entries_and_refuses_anything_else() -> None:
    check_childspecs([])
    check_childspecs(entry for entry in (agent("a"), agent("b", depends_on=["a"])))
    for auto_shutdown in (None, "any_significant", AutoShutdown.ALL_SIGNIFICANT):
        check_childspecs([agent("a", significant=True)], auto_shutdown)
    not_entries: list[Any] = [5, None, agent("a"), Worker]
    for wrong in not_entries:
        with pytest.raises(SpecError, match="children="):
            check_childspecs(wrong)
    for unknown in NO_AUTO_SHUTDOWN:
        if unknown is not None:
            refusal(lambda unknown=unknown: check_childspecs([], unknown), "auto_shutdown", unknown)  # type: ignore[misc]


class Writer(Agent):
    class Config(Agent.Config):
        path: str = "log.txt"

    def execute(self) -> None: ...


@pytest.mark.otp("C16")
def test_a_child_is_given_as_a_class_a_class_with_fields_or_an_entry() -> None:
    """Elixir takes a module, a module with its argument, or a map; overrides are for known keys only."""
    by_class, with_fields = a_tree(), a_tree()
    assert by_class.register_agent(Writer, "w") == AgentEntry(Writer, "w")
    entry = with_fields.register_agent(Writer, "w", path="b.txt", restart="permanent")
    assert entry == AgentEntry(Writer, "w", config=Writer.Config(path="b.txt"), restart=Restart.PERMANENT)
    config = Orchestrator.Config(run_mode="daemon", control=False)
    assert Orchestrator(config, [entry]).get_childspec("w") == entry
    assert SupervisorEntry("s", children=(e for e in [entry])).children == (entry,)
    with pytest.raises(SpecError, match=r"unknown field 'pth'.*did you mean 'path'"):
        a_tree().register_agent(Writer, "w", pth="b.txt")


@pytest.mark.otp("C16")
def test_start_child_takes_the_same_three_forms() -> None:
    tree = a_tree()
    entry = AgentEntry(Writer, "entry", config=Writer.Config(path="b.txt"))
    with tree:
        assert tree.start_child(Writer, "class") == "class"
        assert tree.start_child(Writer, "fields", path="c.txt") == "fields"
        assert tree.start_child(entry) == "entry"
        specs = [tree.get_childspec(name) for name in ("class", "fields", "entry")]
        assert [spec.config for spec in specs if isinstance(spec, AgentEntry)] == [
            Writer.Config(),
            Writer.Config(path="c.txt"),
            Writer.Config(path="b.txt"),
        ]
        for wrong in ("Writer", 5, None, (Writer, "w"), object):
            with pytest.raises(SpecError):
                tree.start_child(wrong)  # type: ignore[arg-type]
        with pytest.raises(SpecError, match="'pth'"):
            tree.start_child(Writer, "w", pth="b.txt")
        with pytest.raises((AlreadyPresent, AlreadyStarted)):
            tree.start_child(entry)
        assert len(tree.which_children()) == 3


# C09: OTP's id, start, restart, significant, type, shutdown are name, agent, restart, significant, executor, shutdown.

WRONG: list[tuple[str, object]] = [
    ("name", "a/b"),
    ("agent", object),
    ("restart", "x"),
    ("significant", 5),
    ("executor", "x"),
    ("shutdown", -1),
]


@pytest.mark.otp("C09")
@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(WRONG, 2)))
def test_of_two_wrong_fields_the_first_in_otps_order_is_named(
    first: tuple[str, object], second: tuple[str, object]
) -> None:
    fields: dict[str, Any] = {"name": "a", "agent": Worker} | dict([first, second])
    with pytest.raises(SpecError, match=f"{first[0]}="):
        AgentEntry(**fields)
    of_supervisors = {field: value for field, value in fields.items() if field not in ("agent", "executor")}
    if {first[0], second[0]} <= of_supervisors.keys():
        with pytest.raises(SpecError, match=f"{first[0]}="):
            SupervisorEntry(**of_supervisors)
