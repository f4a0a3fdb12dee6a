"""Process agent: SIGKILL to the replacement's setup(), beside a bare os.fork() of the same image."""

from __future__ import annotations

import gc
import os
import signal
import struct
import subprocess
import sys
import time

from orchestree import EventType, ProcessAgent
from orchestree.supervisor.events import AgentMessage

from .common import orchestrator, ratio, show

KILLS = 100


class Victim(ProcessAgent):
    """Says when its ``setup()`` ran; monotonic time is the same in all processes."""

    def setup(self) -> None:
        """Tell the time."""
        self.emit("up", at=time.monotonic())

    def execute(self) -> None:
        """Wait to be killed."""
        self.sleep(1e6)


def supervised() -> list[float]:
    """Return seconds from each SIGKILL to the replacement's ``setup()``."""
    found: list[float] = []
    tree = orchestrator()
    tree.register_agent(Victim, "victim")
    with tree:
        for _ in range(KILLS):
            tree.wait_until("victim", "ready", timeout=10)
            before, pid = tree.events.latest, tree.status("victim").pid
            assert pid is not None
            killed_at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            message = tree.events.wait_for(EventType.AGENT_MESSAGE, "victim", since=before, timeout=10).data
            assert isinstance(message, AgentMessage)
            found.append(float(str(message.data["at"])) - killed_at)
            tree.events.wait_for(EventType.AGENT_READY, "victim", since=before, timeout=10)
    return found


def floor() -> list[float]:
    """Return seconds from just before os.fork() to the child's first statement. Run in a process of its own."""
    gc.collect()
    gc.freeze()
    found: list[float] = []
    for _ in range(KILLS):
        reader, writer = os.pipe()
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.write(writer, struct.pack("d", time.monotonic()))
            os._exit(0)
        found.append(struct.unpack("d", os.read(reader, 8))[0] - began)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "floor":
        import orchestree.agents.process.server  # noqa: F401 - the image of the fork server

        print(*floor())
    else:
        ours = supervised()
        out = subprocess.run([sys.executable, "-m", __spec__.name, "floor"], stdout=subprocess.PIPE, check=True)
        bare = [float(word) for word in out.stdout.split()]
        ours.sort()
        bare.sort()
        show(
            f"SIGKILL to setup(): {ratio(ours, bare)} of a bare fork (ours median {ours[KILLS // 2] * 1e3:.2f} ms, "
            f"bare fork of the same image {bare[KILLS // 2] * 1e3:.2f} ms, {KILLS} kills)"
        )
