"""The fork server: whose it is, what it loads, what its children find, and what is left when it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from orchestree_testing import process_agents as agents
from orchestree_testing.host import DEADLINE_S
from orchestree_testing.process_harness import Harness, is_alive, wait_until_gone
from orchestree_testing.scripts import run_program, start_program, write

from orchestree.agents.ends import NORMAL, Cause, abnormal
from orchestree.agents.executor import RunEnded, RunReady
from orchestree.agents.executors import process
from orchestree.agents.process.endings import LOST
from orchestree.agents.process.sources import Source
from orchestree.strategies.errors import SpecError

pytestmark = pytest.mark.portable


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness() as made:
        yield made


def describe(harness: Harness, path: str = "described") -> dict[str, Any]:
    ended = harness.run(agents.Caller, path, params={"call": agents.describe_process})
    assert isinstance(ended.result, dict), ended
    return ended.result


def import_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> Any:
    """Write a module with an agent, and return its class ``Worker``."""
    write(tmp_path / f"{name}.py", source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__(name).Worker


def test_an_agent_finds_a_process_of_its_own(harness: Harness) -> None:
    found = describe(harness, "branch/described")
    assert found["group"] == found["pid"]
    assert found["session"] == harness.server_pid()
    assert found["session"] != os.getsid(0)
    assert found["stdin"] == os.devnull
    assert found["signals"] == [signal.SIG_DFL, signal.SIG_DFL]
    assert found["names"] == ["branch/described"] * 2
    assert found["threads"] == ["MainThread"]
    assert found["children"] == 0
    assert found["sockets"] == 2  # control and data
    assert found["files"] <= 9  # with the memory file, which is mapped and where faults are written
    assert found["death signal"] == signal.SIGKILL


def test_an_agent_finds_the_orchestrators_surroundings(harness: Harness) -> None:
    found = describe(harness)
    assert found["argv"] == sys.argv
    assert found["path"] == sys.path
    assert found["cwd"] == str(Path.cwd())
    assert found["flags"] == sys.flags.dont_write_bytecode


def test_agents_do_not_share_their_random_numbers(harness: Harness) -> None:
    assert describe(harness, "one")["random"] != describe(harness, "two")["random"]


def test_both_multiprocessing_libraries_work_inside_an_agent(harness: Harness) -> None:
    ended = harness.run(agents.Caller, params={"call": agents.use_both_kinds_of_processes})
    assert ended.result == ["multiprocess", "multiprocessing"]


def test_closing_one_executor_leaves_the_agents_of_another_alone(harness: Harness) -> None:
    run, pid = harness.start_ready(agents.Sleeper)
    with Harness() as other:
        _, other_pid = other.start_ready(agents.Sleeper)
    wait_until_gone(other_pid)
    assert is_alive(pid)
    harness.stop(run)
    assert harness.ended(run).reason == NORMAL


def test_close_ends_every_process_and_reports_it() -> None:
    with Harness() as harness:
        runs = [harness.start_ready(agents.Sleeper, f"sleeper-{number}") for number in range(5)]
        server = harness.server_pid()
    for run, pid in runs:
        assert harness.ended(run).reason == abnormal(Cause.SIGNAL)
        assert not is_alive(pid)
    assert not is_alive(server)


def test_nothing_is_left_after_close() -> None:
    def descriptors() -> list[str]:
        return sorted(os.listdir("/proc/self/fd"))

    with Harness() as harness:  # whatever libraries open once
        harness.run(agents.Returner, params={"value": 1})
    threads, files = threading.enumerate(), descriptors()
    with Harness() as harness:
        for number in range(10):
            harness.run(agents.Returner, f"returner-{number}", params={"value": 1})
            harness.run(agents.Caller, f"crasher-{number}", params={"call": agents.crash})
        harness.start_ready(agents.Sleeper, "left")
        harness.start(agents.Sleeper, "left as well")
    assert threading.enumerate() == threads
    assert descriptors() == files


def test_nothing_is_left_of_the_runs_that_have_ended(harness: Harness) -> None:
    harness.run(agents.Returner, "first", params={"value": 1})
    harness.host.call(lambda: None)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        harness.run(agents.Returner, f"returner-{number}", params={"value": 1})
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # the relay may be about to forget the last


def test_the_end_of_the_fork_server_loses_its_agents_and_the_next_start_makes_a_new_one(
    harness: Harness,
) -> None:
    runs = [harness.start_ready(agents.Sleeper, f"sleeper-{number}") for number in range(3)]
    server = harness.server_pid()
    os.kill(server, signal.SIGKILL)
    for run, pid in runs:
        ended = harness.ended(run)
        assert ended.reason == abnormal(Cause.LOST)
        assert ended.report is not None
        assert (ended.report.message, ended.report.pid) == (LOST, pid)
        assert not is_alive(pid)
    again = harness.launch(agents.Sleeper, "sleeper-0", incarnation=2)
    harness.host.call(lambda: harness.inner.start(again))
    assert harness.host.wait(RunReady, again.run)
    assert harness.server_pid() != server
    assert not is_alive(server)


def test_a_run_that_the_fork_server_never_got_to_is_lost_with_it(harness: Harness) -> None:
    harness.prepare(harness.launch(agents.Sleeper))
    os.kill(harness.server_pid(), signal.SIGSTOP)
    launches = [harness.launch(agents.Sleeper, f"sleeper-{number}") for number in range(400)]
    for launch in launches:  # more than fit into the socket
        harness.host.loop.call_soon_threadsafe(harness.inner.start, launch)
    os.kill(harness.server_pid(), signal.SIGKILL)
    for launch in launches:
        assert harness.ended(launch.run).reason == abnormal(Cause.LOST)


def test_requests_that_do_not_fit_into_the_socket_are_sent_later(harness: Harness) -> None:
    harness.prepare(harness.launch(agents.Returner))
    server = harness.server_pid()
    os.kill(server, signal.SIGSTOP)
    launches = [harness.launch(agents.Returner, f"r-{number}", params={"value": number}) for number in range(300)]
    for launch in launches:
        harness.host.loop.call_soon_threadsafe(harness.inner.start, launch)
    harness.host.call(lambda: None)
    os.kill(server, signal.SIGCONT)
    assert [harness.ended(launch.run).result for launch in launches] == list(range(300))


THREAD = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
SOCKET = "import socket\nleft = socket.socket()\n"
WORKER = """
import os, socket, threading
from orchestree.agents.agent import Agent
class Worker(Agent):
    def execute(self):
        return os.getppid(), threading.active_count(), os.readlink("/proc/self/exe"), type(self) is Worker
"""


@pytest.mark.parametrize(("rest", "threads"), [(THREAD, 2), (SOCKET, 1)], ids=["thread", "socket"])
def test_a_module_that_leaves_something_behind_is_loaded_by_each_agent_anew(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rest: str, threads: int
) -> None:
    worker = import_agent(tmp_path, monkeypatch, "cold_module", WORKER + rest)
    harness.prepare(harness.launch(agents.Sleeper))
    server = harness.server_pid()
    for number in range(2):
        found = harness.run(worker, f"cold-{number}").result
        assert found == (server, threads, os.readlink("/proc/self/exe"), True)
    assert harness.inner._cold == {Source("cold_module")}
    assert describe(harness)["threads"] == ["MainThread"]
    if threads > 1:
        return
    worker_left = sys.modules["cold_module"]
    worker_left.left.close()


def test_a_new_fork_server_still_knows_what_is_cold(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = import_agent(tmp_path, monkeypatch, "cold_later", WORKER + THREAD)
    harness.run(worker, "first")
    server = harness.server_pid()
    os.kill(server, signal.SIGKILL)
    wait_until_gone(server)
    launch = harness.launch(worker, "second")
    harness.host.call(lambda: harness.inner.start(launch))
    result = harness.ended(launch.run).result
    assert isinstance(result, tuple)
    assert result[0] == harness.server_pid() != server


def test_a_module_that_cannot_be_loaded_is_refused_in_one_line(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import sys\nif 'orchestree_testing.host' not in sys.modules:\n    raise OSError('no licence')\n"
    worker = import_agent(tmp_path, monkeypatch, "choosy_module", source + WORKER)
    with pytest.raises(SpecError) as caught:
        harness.prepare(harness.launch(worker, "choosy"))
    assert str(caught.value) == (
        "choosy: choosy_module cannot be loaded in the process of an agent: OSError: no licence"
    )
    assert harness.run(agents.Returner, params={"value": 1}).result == 1


def test_a_module_that_crashes_the_fork_server_is_refused_in_one_line(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import os, sys\nif 'orchestree_testing.host' not in sys.modules:\n    os.kill(os.getpid(), 11)\n"
    worker = import_agent(tmp_path, monkeypatch, "crashing_module", source + WORKER)
    with pytest.raises(
        SpecError, match=r"^the modules of crashing cannot be loaded .*: the process that tried has died"
    ):
        harness.prepare(harness.launch(worker, "crashing"))
    assert harness.run(agents.Returner, params={"value": 1}).result == 1


def test_a_module_that_takes_too_long_is_refused_in_one_line(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOAD_S", 0.5)
    source = "import sys\nif 'orchestree_testing.host' not in sys.modules:\n    import signal; signal.pause()\n"
    worker = import_agent(tmp_path, monkeypatch, "endless_module", source + WORKER)
    with pytest.raises(SpecError, match=r"^the modules of endless cannot be loaded .*: it took more than 0.5 s"):
        harness.prepare(harness.launch(worker, "endless"))


def test_a_module_that_comes_late_can_harm_nobody_but_its_own_agents(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import os, sys\nif 'orchestree_testing.host' not in sys.modules:\n    os.kill(os.getpid(), 11)\n"
    crashing = import_agent(tmp_path, monkeypatch, "crashing_late", source + WORKER)
    harmless = import_agent(tmp_path, monkeypatch, "harmless_late", WORKER)
    run, pid = harness.start_ready(agents.Sleeper)
    report = harness.run(crashing, "crashing").report
    assert report is not None
    assert (report.signal, report.phase) == ("SIGSEGV", "setup")
    assert harness.run(harmless, "harmless").result == (harness.server_pid(), 1, os.readlink("/proc/self/exe"), True)
    assert is_alive(pid)
    assert not harness.host.of(RunEnded, run)
    assert Source("harmless_late") not in harness.inner._sources


def test_many_agents_of_one_module_have_it_loaded_once(harness: Harness) -> None:
    harness.prepare(*(harness.launch(agents.Sleeper, f"sleeper-{number}") for number in range(200)))
    assert harness.inner._answers_due == 0
    assert Source("orchestree_testing.process_agents") in harness.inner._sources


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def spares(harness: Harness, *agents_pids: int) -> list[int]:
    """Return the child that was forked in advance, when the server has got so far."""
    for _ in range(1000):
        found = set(children_of(harness.server_pid())) - set(agents_pids)
        if found:
            return list(found)
        harness.prepare(harness.launch(agents.Sleeper))  # waits for the server's answer
    raise AssertionError("no child was forked in advance")


def test_one_child_is_forked_in_advance_and_becomes_the_next_agent(harness: Harness) -> None:
    run, pid = harness.start_ready(agents.Sleeper, "first")
    (spare,) = spares(harness, pid)
    assert harness.start_ready(agents.Sleeper, "second")[1] == spare
    harness.kill(run)
    harness.ended(run)


def test_a_child_that_was_forked_in_advance_may_die(harness: Harness) -> None:
    for number in range(3):
        _, pid = harness.start_ready(agents.Sleeper, f"sleeper-{number}")
        (spare,) = spares(
            harness, *(report.pid or 0 for report in harness.host.reports if isinstance(report, RunReady))
        )
        os.kill(spare, signal.SIGKILL)
        wait_until_gone(spare)
        assert is_alive(pid)


def test_what_a_module_prints_when_it_is_loaded_is_not_printed_by_each_agent(tmp_path: Path) -> None:
    write(
        tmp_path / "script.py",
        """
        from orchestree.agents.agent import Agent
        from orchestree_testing.process_harness import Harness

        print("loaded")

        class Worker(Agent):
            def execute(self):
                print("executed")

        if __name__ == "__main__":
            with Harness() as harness:
                for number in range(3):
                    harness.run(Worker, f"worker-{number}")
        """,
    )
    assert sorted(run_program("script.py", cwd=tmp_path).split()) == ["executed"] * 3 + ["loaded"] * 2


def test_a_log_sink_with_a_thread_of_its_own_does_not_make_a_module_cold(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import sys\nfrom loguru import logger\nif 'orchestree_testing.host' not in sys.modules:\n"
    source += "    logger.add('file.log', enqueue=True)\n"
    monkeypatch.chdir(tmp_path)
    worker = import_agent(tmp_path, monkeypatch, "logging_module", source + WORKER)
    assert harness.run(worker).report is None
    assert not harness.inner._cold


def test_a_start_without_preparation_loads_the_module_beside_supervision(harness: Harness) -> None:
    launch = harness.launch(agents.Returner, params={"value": 1})
    harness.host.call(lambda: harness.inner.start(launch))
    assert harness.ended(launch.run).result == 1


PARENT = """
import sys
from orchestree_testing import process_agents as agents
from orchestree_testing.process_harness import Harness

if __name__ == "__main__":
    with Harness() as harness:
        pids = [harness.server_pid() for _ in ()]
        for name in ("Sleeper", "AsyncSleeper"):
            pids.append(harness.start_ready(getattr(agents, name), name)[1])
        run = harness.start(agents.Caller, "holder", params={"call": agents.hold_the_interpreter})
        pids.append(harness.host.wait_message(run, "holding").data["pid"])
        pids.append(harness.server_pid())
        print(*pids, flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_orchestrator(tmp_path: Path, number: signal.Signals) -> None:
    write(tmp_path / "parent.py", PARENT)
    with start_program("parent.py", cwd=tmp_path) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 4
        program.send_signal(number)
        program.communicate(timeout=DEADLINE_S)
    wait_until_gone(*pids)


def test_a_fork_of_the_orchestrator_does_not_keep_its_agents_alive(tmp_path: Path) -> None:
    fork = "        import os\n        if (child := os.fork()) == 0:\n            signal.pause()\n"
    source = PARENT.replace("        print(", fork + "        print(child, ")
    source = source.replace("import sys", "import signal, sys")
    write(tmp_path / "parent.py", source)
    with start_program("-W", "ignore", "parent.py", cwd=tmp_path) as program:
        assert program.stdout is not None
        child, *pids = [int(pid) for pid in program.stdout.readline().split()]
        program.kill()
        wait_until_gone(*pids)
        os.kill(child, signal.SIGKILL)


def test_a_program_may_end_without_closing_anything(tmp_path: Path) -> None:
    write(tmp_path / "parent.py", PARENT.replace("sys.stdin.read()", "import os; os._exit(0)"))
    pids = [int(pid) for pid in run_program("parent.py", cwd=tmp_path).split()]
    wait_until_gone(*pids)


def test_reports_name_each_run_once(harness: Harness) -> None:
    run = harness.start(agents.Returner, params={"value": 1})
    harness.ended(run)
    assert len(harness.host.of(RunEnded, run)) == len(harness.host.of(RunReady, run)) == 1
