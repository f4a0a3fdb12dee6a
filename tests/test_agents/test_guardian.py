"""The guardian of a fork server, in a process of its own: what it adopts, kills, and cannot kill."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

DEADLINE_S: Final = 30

HEAD: Final = """
import mmap, os, select, signal, time
from orchestree.agents.process import guardian, memory
from orchestree.agents.process.descendants import marks_of

own = set()
warden = guardian.Guardian(own.__contains__)

def orphan(mark, *, group=False):
    '''Return the pid of a grandchild that carries the mark, in a session of its own, and whose parent has ended.'''
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        page = mmap.mmap(memory.make(mark, b""), 4096)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.write(writer, str(os.getpid()).encode())
            while True:
                signal.pause()
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reader, 20))

def wait_for(remains):
    '''Return the survivors, waiting as the fork server does.'''
    found = []
    warden.await_end(remains, found.append)
    poll = select.epoll()
    poll.register(warden.bell, select.EPOLLIN)
    while not found:
        for _ in poll.poll(warden.patience()):
            for _ in warden.answer_bell():
                pass
        warden.look()
    return found[0]
"""


def run(text: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + text], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_carries_the_mark_is_killed_and_reaped_and_nobody_else() -> None:
    assert run("""
mine, other = orphan("a:1"), orphan("a:2")
print(*marks_of(mine), *marks_of(other))
print(wait_for(warden.kill_remains("a:1", 1)))
try:
    os.kill(mine, 0)
except ProcessLookupError:
    print("gone")
os.kill(other, 0)
warden.end()
try:
    os.kill(other, 0)
except ProcessLookupError:
    print("gone at the end")
""") == ["a:1 a:2", "()", "gone", "gone at the end"]


def test_what_cannot_be_killed_is_named_when_the_time_is_over() -> None:
    assert run("""
guardian.PATIENCE_S = 0.05
pid = orphan("a:1")
kill, guardian._kill = guardian._kill, lambda pid: None  # as if it belonged to somebody else
print(wait_for(warden.kill_remains("a:1", 1)) == (pid,))
guardian._kill = kill
warden.end()
""") == ["True"]


def test_adopted_processes_that_end_by_themselves_are_reaped() -> None:
    assert run("""
pid = orphan("a:1")
os.kill(pid, signal.SIGKILL)
poll = select.epoll()
poll.register(warden.bell, select.EPOLLIN)
deadline = time.monotonic() + 20
while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
    poll.poll(20)
    list(warden.answer_bell())
print(os.path.exists(f"/proc/{pid}"))
""") == ["False"]


def test_stopped_and_continued_children_are_told() -> None:
    assert run("""
child = os.fork()
if child == 0:
    while True:
        signal.pause()
own.add(child)
poll = select.epoll()
poll.register(warden.bell, select.EPOLLIN)
def told():
    while not (found := list(warden.answer_bell())):
        poll.poll(20)
    return found
os.kill(child, signal.SIGSTOP)
print(told() == [(child, True)])
os.kill(child, signal.SIGCONT)
print(told() == [(child, False)])
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
""") == ["True", "True"]


def test_an_adopted_process_is_reaped_also_behind_a_child_that_is_not_yet_reaped() -> None:
    assert run("""
child = os.fork()
if child == 0:
    os._exit(0)
own.add(child)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
print(wait_for(warden.kill_remains("a:1", 1)))
pid = orphan("a:1")
began = time.monotonic()
print(wait_for(warden.kill_remains("a:1", 1)), time.monotonic() - began < guardian.PATIENCE_S)
""") == ["()", "() True"]
