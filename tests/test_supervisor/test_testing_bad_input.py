"""Wrong arguments of the test kit, of `simulate` and of `explain`: one clear error each, and nothing half applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from orchestree_testing.process_agents import Sleeper
from orchestree_testing.trees import a_tree
from virtual import agent, supervisor

from orchestree.strategies.errors import NotFound, NotRunning, OrchestreeError, SpecError
from orchestree.supervisor.explaining import explain
from orchestree.supervisor.orchestrator import Orchestrator
from orchestree.supervisor.predicting import simulate
from orchestree.supervisor.testing import (
    CheckFailed,
    Complete,
    Crash,
    Down,
    Hang,
    IgnoreStop,
    LiveChaos,
    Schedule,
    SlowStart,
    SupervisedTree,
    fault_schedules,
    line_of,
    never_two_live,
    parse_fault,
    recovers_within,
    stays_within,
    supervised,
    trees,
)

HUGE: Final = 10**400
"""No float can hold it."""
KILLS: Final = ["worker: crash with SIGKILL at 1s"]


Call = Callable[[Any], object]


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


ODD: Final[list[Any]] = [
    *(
        None,
        True,
        0,
        -1,
        1.5,
        HUGE,
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        "",
        " ",
        "x",
        "1m",
        "nobody",
        "\x00",
        "\ud800",
    ),
    *(b"worker: crash at 1s", [], [None], [""], ["x"], [KILLS], {}, {"a": 1}, set(), Odd(), Odd, object, len, range(3)),
    *(
        timedelta(seconds=5),
        Path("x"),
        Decimal(5),
        1j,
        Crash,
        Crash("nobody", at=1),
        Hang("worker", at=1),
        Schedule([]),
    ),
    *(lambda: 1, lambda a, b: 1, lambda a: None, lambda a: "x", agent("worker")),
]


def processes() -> Orchestrator:
    tree = a_tree()
    tree.register_agent(Sleeper, "worker", executor="process")
    return tree


def live(**changed: Any) -> LiveChaos:
    given = {"orchestrator": processes(), "faults": KILLS, "until": 5, **changed}
    return LiveChaos(given.pop("orchestrator"), given.pop("faults"), **given)


def of_supervised(call: Callable[[SupervisedTree, Any], object]) -> Call:
    """Return the call on a supervised tree, which must not change when it is refused."""

    def use(value: Any) -> None:
        with supervised([agent("worker"), supervisor("pool", agent("inner"))], max_events=300) as t:
            before = len(t.events), t.now, [*t.faults], [*t.orders]
            try:
                call(t, value)
            except (SpecError, NotFound) as error:
                if "give supervised() more max_events" not in str(error):
                    assert (len(t.events), t.now, t.faults, t.orders) == before
                raise

    return use


def method(name: str) -> Call:
    return of_supervised(lambda t, value: getattr(t, name)(value))


def crash_with(field: str) -> Call:
    return of_supervised(lambda t, value: t.crash("worker", **{field: value}))


def given(function: Callable[..., object], field: str, *before: object, **others: object) -> Call:
    """Return the call with a value for `field` that is still to come."""
    return lambda value: function(*before, **{**others, field: value})


def first(function: Callable[..., object], **others: object) -> Call:
    return lambda value: function(value, **others)


WORKER: Final = [agent("worker")]
MOMENTS: Final = (Crash, Hang, Complete)
CALLS: Final[dict[str, Call]] = {
    "LiveChaos a fault": lambda value: live(faults=[value]),
    **{f"LiveChaos {name}": given(live, name) for name in ("orchestrator", "faults", "until", "seed", "budget")},
    "LiveChaos.run": lambda value: live().run(value),
    "simulate tree": first(simulate, until=5),
    "simulate a fault": lambda value: simulate(WORKER, [value], until=5),
    **{
        f"simulate {name}": given(simulate, name, WORKER, until=5) for name in ("faults", "until", "seed", "max_events")
    },
    "explain tree": explain,
    "explain path": given(explain, "path", WORKER),
    "parse_fault": parse_fault,
    "line_of": line_of,
    "Schedule a fault": lambda value: Schedule([value]),
    "Schedule faults": Schedule,
    "Schedule duration": given(Schedule, "duration", []),
    "supervised tree": supervised,
    **{f"supervised {name}": given(supervised, name, WORKER) for name in ("seed", "max_events")},
    "fault_schedules tree": fault_schedules,
    **{f"fault_schedules {name}": given(fault_schedules, name, WORKER) for name in ("max_faults", "within", "kinds")},
    **{f"trees {name}": given(trees, name) for name in ("max_depth", "max_children")},
    "recovers_within": recovers_within,
    "stays_within": given(stays_within, "max_starts_per_minute"),
    "never_two_live": lambda value: [*never_two_live(value)],
    "the invariant recovers_within": lambda value: [*(recovers_within(3)(value) or ())],
    "the invariant stays_within": lambda value: [*(stays_within(max_starts_per_minute=3)(value) or ())],
    **{f"t.{name}": method(name) for name in ("crash", "hang", "complete", "strike", "run", "advance", "advance_to")},
    **{f"t.{name}": method(name) for name in ("start_agent", "stop_agent", "restart_agent", "stop")},
    **{f"t.{name}": method(name) for name in ("status", "starts", "restarts")},
    **{f"t.crash {name}": crash_with(name) for name in ("cause", "exit_code", "signal", "phase")},
    "t.hang lasts": of_supervised(lambda t, value: t.hang("worker", value)),
    "t.run a fault": of_supervised(lambda t, value: t.run(["worker: crash at 1s", value])),
    "t.check": of_supervised(lambda t, value: t.check(never_two_live, value)),
    "t.start_child parent": of_supervised(lambda t, value: t.start_child(value, agent("late"))),
    "t.start_child agent": of_supervised(lambda t, value: t.start_child("pool", value)),
    "t.start_child name": of_supervised(lambda t, value: t.start_child("pool", Sleeper, value)),
    "t.start_child field": of_supervised(lambda t, value: t.start_child("pool", Sleeper, watchdog=value)),
    **{
        f"{kind.__name__} {name}": given(kind, name, "worker", at=1.0)
        for kind in MOMENTS
        for name in kind.__dataclass_fields__
        if name != "path"
    },
    **{
        f"{kind.__name__} every and {name}": given(kind, name, "worker", every=1.0)
        for kind in MOMENTS
        for name in ("at", "every", "after", "until", "times", "about")
    },
    **{
        f"{kind.__name__} {name}": given(kind, name, "worker")
        for kind in (Down, IgnoreStop)
        for name in ("at", "until")
    },
    **{f"SlowStart {name}": given(SlowStart, name, "worker", takes=1.0) for name in ("at", "until", "takes")},
    **{f"{kind.__name__} path": first(kind, every=1.0) for kind in MOMENTS},
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_value_is_one_error_of_ours_in_one_line(call: str) -> None:
    for value in ODD:
        error = outcome(CALLS[call], value)
        is_ours = error is None or isinstance(error, OrchestreeError)
        # An odd invariant may say that something is wrong, or raise what it likes.
        assert is_ours or isinstance(error, CheckFailed) or value is len, (value, error)
        assert isinstance(error, CheckFailed) or len(str(error).splitlines()) == 1, (value, error)


def outcome(call: Call, value: object) -> Exception | None:
    try:
        call(value)
    except Exception as error:
        return error
    return None


ORCHESTRATOR = "must be an Orchestrator that has not been started"
FAULTS = "must be a list of faults, such as ['worker: crash every 7s']"
FAULT = "must be a fault, or a line such as 'worker: crash every 7s'"
TREE = "must be the tree of `with supervised(...) as t`; t.check() hands it in"
INVARIANT = "must be an invariant: a function that takes the tree, such as recovers_within(60)"


def has_started() -> Orchestrator:
    tree = a_tree(control=False)
    with tree:
        pass
    return tree


TOLD: Final[list[tuple[Callable[[], object], str]]] = [
    (lambda: live(orchestrator=[agent("worker")]), ORCHESTRATOR),
    (lambda: live(orchestrator=Orchestrator), ORCHESTRATOR),
    (lambda: live(orchestrator=has_started()), "this orchestrator has been started"),
    (lambda: live(faults=KILLS[0]), f"faults='{KILLS[0]}': {FAULTS}"),
    (lambda: live(faults=""), f"faults='': {FAULTS}"),
    (lambda: live(faults=Crash("worker", at=1.0)), FAULTS),
    (lambda: live(faults=[3]), f"3: {FAULT}"),
    (lambda: live().run(3), "check=3: must be a function that takes the orchestrator and returns whether all is well"),  # type: ignore[arg-type]
    (lambda: live().run(lambda: True), "must be a function that takes the orchestrator"),  # type: ignore[arg-type, misc]
    (lambda: simulate([agent("worker")], [3], until=5), f"3: {FAULT}"),  # type: ignore[list-item]
    (lambda: simulate([agent("worker")], until=HUGE), f"until={HUGE}: must be above 0 seconds"),
    (lambda: explain([agent("worker")], 3), "path=3: must be a string such as 'ingest/collector'"),  # type: ignore[arg-type]
    (lambda: Crash("worker", at=HUGE), f"at={HUGE}: must be a finite number of seconds"),
    (lambda: line_of("worker: crash at 1s"), f"'worker: crash at 1s': {FAULT}"),  # type: ignore[arg-type]
    (lambda: Schedule([3]), f"3: {FAULT}"),  # type: ignore[list-item]
    (lambda: [*never_two_live(3)], f"3: {TREE}"),  # type: ignore[arg-type]
    (lambda: [*(recovers_within(3)([agent("a")]) or ())], TREE),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "said"), TOLD, ids=range(len(TOLD)))
def test_the_error_names_the_value_and_the_rule(call: Callable[[], object], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        call()
    assert said in str(caught.value)


TOLD_BY_TREE: Final[list[tuple[Callable[[SupervisedTree], object], str]]] = [
    (lambda t: t.advance_to("1m"), "moment='1m': must be a finite number of seconds, 0 or more"),  # type: ignore[arg-type]
    (lambda t: t.advance_to(math.nan), "moment=nan: must be a finite number of seconds, 0 or more"),
    (lambda t: t.advance_to(math.inf), "moment=inf: must be a finite number of seconds, 0 or more"),
    (lambda t: t.stop("1m"), "timeout='1m': must be a finite number of seconds, 0 or more"),  # type: ignore[arg-type]
    (lambda t: t.stop(-1), "timeout=-1: must be a finite number of seconds, 0 or more"),
    (lambda t: t.check(lambda: ""), INVARIANT),  # type: ignore[arg-type, misc]
    (lambda t: t.check(Odd), INVARIANT),  # type: ignore[arg-type]
    (lambda t: t.check(never_two_live, 3), f"check(3): {INVARIANT}"),  # type: ignore[arg-type]
    (lambda t: t.check(lambda t: [3]), "yields 3: must be a text for each thing that is wrong"),  # type: ignore[list-item]
    (lambda t: t.check(lambda t: t.starts("worker") == 1), "returns True: must be a text for each thing"),  # type: ignore[arg-type, return-value]
    (lambda t: t.start_agent(3), "path=3: must be a string such as 'ingest/collector'"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "said"), TOLD_BY_TREE, ids=range(len(TOLD_BY_TREE)))
def test_a_supervised_tree_names_the_value_and_the_rule(call: Callable[[SupervisedTree], object], said: str) -> None:
    with supervised([agent("worker")]) as t, pytest.raises(SpecError) as caught:
        call(t)
    assert said in str(caught.value)


def test_an_invariant_that_raises_is_heard_as_it_is() -> None:
    def broken(tree: SupervisedTree) -> Iterator[str]:
        raise LookupError("no such figure")
        yield ""

    with supervised([agent("worker")]) as t, pytest.raises(LookupError, match="no such figure"):
        t.check(broken)


@pytest.mark.parametrize(
    "refused", ["nobody: crash at 1s", "worker: run out of memory at 1s", Crash("pool/nobody", at=1.0)]
)
def test_a_schedule_of_which_one_fault_is_refused_is_not_run_at_all(refused: str | Crash) -> None:
    with supervised([agent("worker"), supervisor("pool", agent("inner"))]) as t:
        with pytest.raises((NotFound, SpecError)):
            t.run(["worker: crash at 1s", "pool: down from 2s to 3s", refused])
        assert (t.faults, t.now) == ([], 0.0)
        t.advance(10)
        assert (t.starts("worker"), t.starts("pool/inner")) == (1, 1)


def test_a_plan_is_carried_out_once() -> None:
    tree = processes()
    chaos = live(orchestrator=tree, until=0.1)
    with tree:
        chaos.run()
        with pytest.raises(NotRunning, match=r"this plan has been carried out: make a new LiveChaos\(\)"):
            chaos.run()
