"""How process agents are stopped, and that what they have started goes with them, and with nobody else.

What a helper is: `orchestree_testing.family`.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from orchestree_testing import family
from orchestree_testing.family import HELPERS, MARKED, Diarist, Parent, helpers_of, left_before
from orchestree_testing.process_agents import Caller
from orchestree_testing.process_harness import is_alive
from orchestree_testing.scripts import Program, start_program, write
from orchestree_testing.trees import FAST, PATIENCE, a_tree, wait_for
from survivors import Household, Watch, household, survivors

from orchestree.agents.agent import Agent
from orchestree.agents.ends import CrashReport
from orchestree.supervisor import AgentState, EventType, Orchestrator
from orchestree.supervisor.events import AgentCrashed

E = EventType
NEIGHBOUR: Final = "neighbour"
A_WHILE_S: Final = 1.0
"""In which an agent surely does what it was asked to, also if the machine has other work."""
numbered: Final = count(1)


class Looks(Orchestrator):
    """Looks in the moment in which an abnormal end is reported who of `helpers` still runs."""

    helpers: Mapping[str, int]
    seen: list[str] | None = None

    def classify_exit(self, report: CrashReport) -> None:
        self.seen = [kind for kind, pid in self.helpers.items() if is_alive(pid)]


@pytest.fixture(scope="module")
def home() -> Iterator[Household]:
    """What a failed test leaves is killed: whatever this process starts carries the mark."""
    with household() as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def shared(home: Household, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Looks, Watch]]:
    """A tree that runs, as a fork server takes its time to start, and who must never be hurt by what is done to it."""
    folder = tmp_path_factory.mktemp("shared")
    tree = a_tree(Looks)
    assert isinstance(tree, Looks)
    params = {"folder": folder, "helpers": (*HELPERS, "stranger")}
    tree.register_agent(Parent, NEIGHBOUR, executor="process", params=params, **FAST)
    with tree, Watch([*helpers_of(folder, NEIGHBOUR).values(), pid_of(tree, NEIGHBOUR)]) as neighbours:
        assert len(neighbours.alive()) == len(HELPERS) + 2
        yield tree, neighbours
    assert neighbours.gone_before == set()


@pytest.fixture
def tree(shared: tuple[Looks, Watch]) -> Iterator[Looks]:
    """That tree; another agent of it, and what that has started, go on whatever a test does."""
    tree, neighbours = shared
    everybody = neighbours.alive()
    tree.seen, tree.helpers = None, {}
    yield tree
    assert len(neighbours.alive()) == len(everybody) == len(HELPERS) + 2
    assert tree.status(NEIGHBOUR).incarnation == 1
    for status in tree.which_children():
        if status.path != NEIGHBOUR:
            tree.stop_agent(status.path, timeout=PATIENCE)


def pid_of(tree: Orchestrator, path: str) -> int:
    pid = tree.status(path).pid
    assert pid is not None
    return pid


def start(tree: Orchestrator, kind: type[Agent], params: Mapping[str, object], **fields: Any) -> str:
    """Return the path of an agent that is ready."""
    name = f"agent-{next(numbered)}"
    tree.register_agent(kind, name, executor="process", params=params, **fields)
    tree.wait_until(name, AgentState.READY, timeout=PATIENCE)
    return name


# The order of a stop:


def start_diarist(tree: Orchestrator, folder: Path, obeys: str, **fields: Any) -> tuple[str, Path]:
    """Return an agent and the file that it writes into."""
    params = {"diary": folder / "diary", "obeys": obeys, "has child": fields.pop("has_child", False)}
    return start(tree, Diarist, params, **fields), folder / "diary"


def child_of(folder: Path, name: str) -> Watch:
    """Return a watch of the child that a diarist has in its process group."""
    watch = Watch([int((folder / f"{name}.child").read_text())])
    assert watch.alive()
    return watch


def lines(diary: Path) -> list[str]:
    return diary.read_text().splitlines() if diary.exists() else []


def test_a_stop_runs_on_stop_and_teardown_and_sends_no_signal(tree: Looks, tmp_path: Path) -> None:
    name, diary = start_diarist(tree, tmp_path, "request")
    tree.stop_agent(name)
    assert sorted(lines(diary)[:2]) == ["execute ends", "on_stop"]  # they run side by side
    assert lines(diary)[2:] == ["teardown"]
    assert tree.status(name).state is AgentState.STOPPED


@pytest.mark.slow
def test_an_agent_that_ignores_the_request_gets_sigterm_and_then_sigkill(tree: Looks, tmp_path: Path) -> None:
    name, diary = start_diarist(tree, tmp_path, "nothing", shutdown=A_WHILE_S)
    with Watch([pid_of(tree, name)]) as watch:
        tree.stop_agent(name, timeout=PATIENCE)
        assert watch.alive() == []
    assert lines(diary) == ["on_stop", "agent SIGTERM"]
    assert tree.status(name).state is AgentState.STOPPED


@pytest.mark.slow
def test_an_agent_that_ignores_the_request_may_end_in_order_when_sigterm_comes(tree: Looks, tmp_path: Path) -> None:
    name, diary = start_diarist(tree, tmp_path, "signal", shutdown=A_WHILE_S)
    tree.stop_agent(name, timeout=PATIENCE)
    assert lines(diary) == ["on_stop", "agent SIGTERM", "teardown"]


@pytest.mark.slow
def test_sigterm_goes_to_the_whole_process_group_of_the_agent(tree: Looks, tmp_path: Path) -> None:
    name, diary = start_diarist(tree, tmp_path, "nothing", shutdown=A_WHILE_S, has_child=True)
    with child_of(tmp_path, name) as child:
        tree.stop_agent(name, timeout=PATIENCE)
        assert child.alive() == []
    assert lines(diary)[0] == "on_stop"
    assert sorted(lines(diary)[1:]) == ["agent SIGTERM", "child SIGTERM"]


def test_what_an_obedient_agent_leaves_in_its_group_is_gone_when_the_stop_returns(tree: Looks, tmp_path: Path) -> None:
    name, _ = start_diarist(tree, tmp_path, "request", has_child=True)
    with child_of(tmp_path, name) as child:
        tree.stop_agent(name)
        assert child.alive() == []


def test_a_brutal_kill_sends_neither_a_request_nor_sigterm(tree: Looks, tmp_path: Path) -> None:
    name, diary = start_diarist(tree, tmp_path, "signal", shutdown="brutal_kill", has_child=True)
    with child_of(tmp_path, name) as child:
        tree.stop_agent(name, timeout=PATIENCE)
        assert child.alive() == []
    assert lines(diary) == []
    assert tree.status(name).state is AgentState.STOPPED


def test_an_agent_that_somebody_has_halted_is_stopped_all_the_same(tree: Looks, tmp_path: Path) -> None:
    name, diary = start_diarist(tree, tmp_path, "request", shutdown=0.1, has_child=True)
    with child_of(tmp_path, name) as child, Watch([pid_of(tree, name)]) as watch:
        os.killpg(pid_of(tree, name), signal.SIGSTOP)
        tree.stop_agent(name, timeout=PATIENCE)
        assert watch.alive() == child.alive() == []
    assert "teardown" not in lines(diary)
    assert tree.status(name).state is AgentState.STOPPED


# What an agent has started ends with it:


def start_parent(tree: Orchestrator, folder: Path, **fields: Any) -> str:
    """Return an agent with helpers; ``execute``, ``go`` and ``helpers`` among `fields` are its parameters."""
    params: dict[str, object] = {"folder": folder, "helpers": MARKED}
    params |= {key: fields.pop(key) for key in ("execute", "go", "helpers") if key in fields}
    return start(tree, Parent, params, **{**FAST, **fields})


def watched(folder: Path, name: str, kinds: Sequence[str] = MARKED) -> Watch:
    """Return a watch of the helpers of these kinds that the agent has at the moment."""
    helpers = helpers_of(folder, name)
    watch = Watch(helpers[kind] for kind in kinds)
    assert len(watch.alive()) == len(kinds)
    return watch


def a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "go")
    return folder / "go"


STOPS: Final[dict[str, dict[str, object]]] = {
    "request": {},
    "sigterm": {"execute": family.be_deaf, "shutdown": 0.1},
    "brutal_kill": {"shutdown": "brutal_kill"},
}


@pytest.mark.parametrize("how", STOPS.values(), ids=STOPS)
def test_what_an_agent_has_started_is_gone_when_its_stop_returns(
    tree: Looks, tmp_path: Path, how: dict[str, Any]
) -> None:
    name = start_parent(tree, tmp_path, **how)
    with watched(tmp_path, name) as helpers:
        tree.stop_agent(name, timeout=PATIENCE)
        assert helpers.alive() == []


def test_what_an_agent_has_started_is_gone_before_its_next_incarnation_begins(tree: Looks, tmp_path: Path) -> None:
    name = start_parent(tree, tmp_path)
    with watched(tmp_path, name) as helpers:
        tree.restart_agent(name, timeout=PATIENCE)
        assert helpers.alive() == []
    assert left_before(tmp_path, name) == []
    with watched(tmp_path, name) as helpers:
        assert len(helpers.alive()) == len(MARKED)


ROUNDS: Final = 20
"""Enough for a helper that is killed, but not waited for, to be seen alive."""


@pytest.mark.parametrize("shutdown", [5.0, "brutal_kill"])
def test_a_child_without_environment_is_gone_as_well_when_the_stop_returns(
    tree: Looks, tmp_path: Path, shutdown: float | str
) -> None:
    name = start_parent(tree, tmp_path, helpers=("bare",), shutdown=shutdown)
    for _ in range(ROUNDS):
        with watched(tmp_path, name, ("bare",)) as helpers:
            tree.stop_agent(name, timeout=PATIENCE)
            assert helpers.alive() == []
        tree.start_agent(name, timeout=PATIENCE)


def test_a_child_without_environment_is_gone_as_well_before_a_crash_is_reported(tree: Looks, tmp_path: Path) -> None:
    name = start_parent(tree, tmp_path, helpers=("bare",))
    for number in range(ROUNDS):
        tree.helpers = helpers_of(tmp_path, name)
        os.kill(pid_of(tree, name), signal.SIGKILL)
        wait_for(tree, E.AGENT_READY, name, count=number + 2)
        assert tree.seen == []


CRASHES: Final[dict[str, tuple[Callable[[Agent], None], str]]] = {
    "exception": (family.fail_at_the_go, "exception"),
    "sys.exit": (family.exit_at_the_go, "exit"),
    "os._exit": (family.leave_at_the_go, "exit"),
    "killed": (family.idle, "signal"),
}


@pytest.mark.parametrize(("execute", "cause"), CRASHES.values(), ids=CRASHES)
def test_a_crash_takes_the_helpers_of_the_agent_before_it_is_reported(
    tree: Looks, tmp_path: Path, execute: Callable[[Agent], None], cause: str
) -> None:
    go = a_fifo(tmp_path)
    name = start_parent(tree, tmp_path, execute=execute, go=go)
    tree.helpers = helpers_of(tmp_path, name)
    with watched(tmp_path, name) as helpers:
        if execute is family.idle:
            os.kill(pid_of(tree, name), signal.SIGKILL)
        else:
            go.write_text("go")
        wait_for(tree, E.AGENT_READY, name, count=2)
        assert helpers.alive() == []
    crashed = wait_for(tree, E.AGENT_CRASHED, name).data
    assert isinstance(crashed, AgentCrashed)
    assert crashed.reason.cause == cause
    assert tree.seen == []
    assert left_before(tmp_path, name) == []


def test_a_normal_end_takes_the_helpers_of_the_agent(tree: Looks, tmp_path: Path) -> None:
    go = a_fifo(tmp_path)
    name = start_parent(tree, tmp_path, execute=family.wait_for_the_go, go=go, restart="transient")
    with watched(tmp_path, name) as helpers:
        go.write_text("go")
        tree.wait_until(name, AgentState.COMPLETED, timeout=PATIENCE)
        assert helpers.alive() == []


def test_an_agent_that_fails_to_become_ready_leaves_no_helper(tree: Looks, tmp_path: Path) -> None:
    name = f"agent-{next(numbered)}"
    params = {"folder": tmp_path, "helpers": MARKED, "fails": True}
    tree.register_agent(Parent, name, executor="process", params=params, restart="temporary")
    wait_for(tree, E.AGENT_CRASHED, name)
    assert [pid for pid in helpers_of(tmp_path, name).values() if is_alive(pid)] == []


def with_parent(folder: Path, **fields: Any) -> Orchestrator:
    """Return a tree of its own with the agent ``a``."""
    params = {"folder": folder, "helpers": MARKED}
    params |= {key: fields.pop(key) for key in ("execute", "go") if key in fields}
    tree = a_tree()
    tree.register_agent(Parent, "a", executor="process", params=params, **{**FAST, **fields})
    return tree


def test_a_stop_of_the_tree_with_a_deadline_leaves_neither_agent_nor_helper(tmp_path: Path, home: Household) -> None:
    tree = with_parent(tmp_path, execute=family.be_deaf, shutdown="infinity")
    tree.start()
    with watched(tmp_path, "a") as helpers:
        helpers.add(pid_of(tree, "a"))
        tree.stop(timeout=0.1)
        assert helpers.alive() == []


def test_the_end_of_the_fork_server_ends_a_stop_that_would_take_for_ever(tmp_path: Path, home: Household) -> None:
    tree = with_parent(tmp_path, execute=family.be_deaf, shutdown="infinity")
    with tree, watched(tmp_path, "a") as helpers:
        server = psutil.Process(pid_of(tree, "a")).ppid()
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(tree.stop_agent, "a")
            wait_for(tree, E.AGENT_STOPPING, "a")
            os.kill(server, signal.SIGKILL)
            stopped.result(PATIENCE)
        assert helpers.alive() == []
        assert tree.status("a").state is AgentState.STOPPED
        tree.start_agent("a", timeout=PATIENCE)
        assert tree.status("a").state is AgentState.READY


def test_what_an_agent_starts_carries_the_name_of_the_agent_in_its_environment(tree: Looks, tmp_path: Path) -> None:
    name = start_parent(tree, tmp_path)
    environment = Path(f"/proc/{helpers_of(tmp_path, name)['program']}/environ").read_bytes().decode().split("\0")
    marks = [variable for variable in environment if variable.startswith("ORCHESTREE_RUN=")]
    assert [re.fullmatch(rf"ORCHESTREE_RUN=[0-9a-f]+:[0-9]+:{name}#1", mark) is not None for mark in marks] == [True]


@pytest.mark.slow
def test_the_end_of_one_tree_leaves_the_helpers_of_another_alone(tmp_path: Path, home: Household) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with with_parent(folders[0]), watched(folders[0], "a") as kept:
        with with_parent(folders[1]), watched(folders[1], "a") as lost:
            pass
        assert lost.gone_before == set()
        assert len(kept.alive()) == len(MARKED)


# Signals:


@pytest.fixture
def house() -> Iterator[Household]:
    with household() as made:
        yield made


def signals_of_an_agent() -> dict[str, str]:
    tree = a_tree(run_mode="stop_on_empty")
    tree.register_agent(Caller, "a", executor="process", params={"call": family.describe_signals})
    assert tree.simple_join() == 0
    found = tree.status("a").result
    assert isinstance(found, dict)
    return found


def numbers(mask: str) -> set[int]:
    """Return which signals the kernel's hexadecimal mask means."""
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


@pytest.fixture
def restored() -> Iterator[None]:
    """Put this process's handlers and its mask back."""
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in kinds}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("handler", [lambda number, frame: None, signal.SIG_IGN], ids=["handler", "ignored"])
@pytest.mark.usefixtures("restored")
def test_agents_do_not_inherit_what_the_program_does_at_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, handler)
    found = signals_of_an_agent()
    assert {found["SIGINT"], found["SIGTERM"], found["SIGUSR1"]} == {str(signal.SIG_DFL)}
    for mask in ("SigCgt", "SigIgn"):
        assert not numbers(found[mask]) & {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}


@pytest.mark.usefixtures("restored")
def test_agents_do_not_inherit_that_the_program_blocks_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    assert numbers(signals_of_an_agent()["SigBlk"]) == set()


@pytest.mark.usefixtures("restored")
def test_a_program_that_ignores_sigchld_is_told_all_the_same_how_its_agents_end(tmp_path: Path) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with with_parent(tmp_path) as tree, watched(tmp_path, "a") as helpers:
        os.kill(pid_of(tree, "a"), signal.SIGKILL)
        crashed = wait_for(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(crashed, AgentCrashed)
        assert crashed.reason.cause == "signal"
        assert helpers.alive() == []
        wait_for(tree, E.AGENT_READY, "a", count=2)


@pytest.mark.timeout(30)
@pytest.mark.usefixtures("restored")
def test_a_program_that_ignores_sigchld_gets_a_new_fork_server(tmp_path: Path, home: Household) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with with_parent(tmp_path) as tree:
        os.kill(psutil.Process(pid_of(tree, "a")).ppid(), signal.SIGKILL)
        wait_for(tree, E.AGENT_READY, "a", count=2)
        lost = wait_for(tree, E.AGENT_CRASHED, "a").data
        assert isinstance(lost, AgentCrashed)
        assert lost.reason.cause == "lost"


HEAD: Final = """
import os, sys, threading
from loguru import logger
from orchestree import Agent, Orchestrator
from orchestree_testing.family import HELPERS, Parent
from orchestree_testing.trees import a_tree
logger.remove()
if __name__ == "__main__":
    os.setpgid(0, 0)

def say(*words):
    os.write(1, " ".join((*words, "\\n")).encode())

class Steady(Parent):
    def execute(self):
        try:
            self.sleep(3600)
        except BaseException as error:  # KeyboardInterrupt, for one
            say(type(error).__name__)
    def teardown(self):
        say("teardown", self.path)

class Stubborn(Steady):
    def on_stop(self):
        say("asked")
    def execute(self):
        threading.Event().wait()

class SlowToStart(Steady):
    def setup(self):
        super().setup()
        say("starting")
        self.sleep(3600)

class SlowToStop(Steady):
    def teardown(self):
        say("asked")
        self.params["go"].read_bytes()
        super().teardown()

def add(tree, kind, name, **fields):
    from pathlib import Path
    params = {"folder": Path.cwd(), "helpers": HELPERS, "go": Path("go").absolute()}
    tree.register_agent(kind, name, executor="process", params=params, **fields)

def up(tree):
    tree.events.subscribe(lambda event: say("up"), "supervisor_ready")
    sys.exit(tree.simple_join())

tree = a_tree()
"""


def start_program_of(folder: Path, house: Household, text: str) -> Program:
    script = write(folder / "app.py", HEAD + text)
    os.mkfifo(folder / "go")
    return start_program(str(script), cwd=folder, **house.environment)


def next_line(program: Program) -> str:
    assert program.stdout is not None
    if line := program.stdout.readline():
        return line.strip()
    pytest.fail(f"the program has ended: {end(program)}")


def end(program: Program) -> tuple[int, list[str], str]:
    """Return exit code, the lines that are left, and what came on stderr."""
    out, errors = program.communicate(timeout=PATIENCE)
    return program.returncode, [line.strip() for line in out.splitlines()], errors


def to_the_group(program: Program, number: signal.Signals) -> None:
    os.killpg(program.pid, number)


def to_the_program(program: Program, number: signal.Signals) -> None:
    program.send_signal(number)


Send = Callable[[Program, signal.Signals], None]

BOTH_WAYS: Final = pytest.mark.parametrize(
    ("send", "number"),
    [(to_the_group, signal.SIGINT), (to_the_program, signal.SIGINT), (to_the_program, signal.SIGTERM)],
    ids=["ctrl-c", "sigint", "sigterm"],
)

STEADY: Final = "add(tree, Steady, 'a')\nadd(tree, Steady, 'b')\nup(tree)"
STUBBORN: Final = "add(tree, Stubborn, 'a', shutdown='infinity')\nup(tree)"


@pytest.mark.slow
@BOTH_WAYS
def test_a_signal_to_the_program_lets_its_process_agents_end_in_order(
    tmp_path: Path, house: Household, send: Send, number: signal.Signals
) -> None:
    with start_program_of(tmp_path, house, STEADY) as program:
        assert next_line(program) == "up"
        send(program, number)
        assert end(program) == (0, ["teardown b", "teardown a"], "")
        assert survivors(house.mark, Watch()) == []


@pytest.mark.slow
@BOTH_WAYS
def test_the_second_signal_leaves_no_process(
    tmp_path: Path, house: Household, send: Send, number: signal.Signals
) -> None:
    with start_program_of(tmp_path, house, STUBBORN) as program:
        assert next_line(program) == "up"
        send(program, number)
        assert next_line(program) == "asked"
        send(program, number)
        assert end(program) == (128 + number, [], f"orchestree: ended at once by {number.name}\n")
        assert survivors(house.mark, Watch()) == []


@pytest.mark.slow
@BOTH_WAYS
def test_a_signal_while_process_agents_start_ends_them_in_order(
    tmp_path: Path, house: Household, send: Send, number: signal.Signals
) -> None:
    text = "add(tree, Steady, 'a')\nadd(tree, SlowToStart, 'b', depends_on=['a'])\nup(tree)"
    with start_program_of(tmp_path, house, text) as program:
        assert next_line(program) == "starting"
        send(program, number)
        assert end(program) == (0, ["teardown b", "teardown a"], "")
        assert survivors(house.mark, Watch()) == []


@pytest.mark.slow
@BOTH_WAYS
def test_a_signal_during_a_stop_that_somebody_else_asked_for_changes_nothing(
    tmp_path: Path, house: Household, send: Send, number: signal.Signals
) -> None:
    text = "add(tree, SlowToStop, 'a', shutdown='infinity')\n"
    text += "threading.Thread(target=lambda: sys.stdin.readline() and tree.stop(), daemon=True).start()\nup(tree)"
    with start_program_of(tmp_path, house, text) as program:
        assert next_line(program) == "up"
        assert program.stdin is not None
        program.stdin.write("stop\n")
        program.stdin.flush()
        assert next_line(program) == "asked"
        send(program, number)
        (tmp_path / "go").write_text("go")
        assert end(program) == (0, ["teardown a"], "")
        assert survivors(house.mark, Watch()) == []


@pytest.mark.slow
def test_a_process_group_that_gets_signals_all_the_time_ends_without_a_process_left(
    tmp_path: Path, house: Household
) -> None:
    with start_program_of(tmp_path, house, STEADY) as program:
        assert next_line(program) == "up"
        with Watch([program.pid]) as watch:
            while watch.alive():
                to_the_group(program, signal.SIGINT)
        end(program)
        assert survivors(house.mark, Watch()) == []
