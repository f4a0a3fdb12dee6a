"""circus and supervisord beside ours: SIGKILL to what the replacement does first, all three in one run.

Their child is a small program that imports what ``examples/monitoring.py`` imports, without Orchestree, and tells the
time before and after that. They come from PyPI into a virtual environment that is thrown away; they listen on UNIX
sockets in a temporary folder, or nowhere. Settings: the fastest that can be used.
"""

from __future__ import annotations

import ast
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .common import milli, ratio, show
from .floor import Floor
from .probes import PATIENCE_S, a_tree, restart

ROOT = Path(__file__).parents[2]
INSTALL_S = 180.0
REPLACED_S = 15.0
STOP_S = 10.0
LIVED_S = (1.5, 2.5)
"""Both look at their children now and then: a kill at a random moment does not favour or wrong them."""

CHILD = """
import time
first = time.monotonic()
import os, sys
{imports}
with open({fifo!r}, "w") as file:
    file.write(f"{{os.getpid()}} {{first}} {{time.monotonic()}}\\n")
with open({lifeline!r}) as file:
    file.read()  # until whoever measures is gone
"""

CIRCUS = """
[circus]
check_delay = 0.1
warmup_delay = 0
statsd = False
endpoint = ipc://{folder}/endpoint
pubsub_endpoint = ipc://{folder}/pubsub
[watcher:child]
cmd = {python} {child}
copy_env = True
max_retry = -1
"""

SUPERVISORD = """
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
[program:child]
command = {python} {child}
autorestart = true
startsecs = 0
startretries = 1000000
stdout_logfile = NONE
stderr_logfile = NONE
"""


def imports() -> str:
    """Return the import statements of the example, without those of Orchestree."""
    tree = ast.parse((ROOT / "examples" / "monitoring.py").read_text())
    wanted = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
    return "\n".join(ast.unparse(each) for each in wanted if getattr(each, "module", "") != "orchestree")


class Child:
    """The program that a peer keeps alive, and what it says each time."""

    def __init__(self, folder: Path) -> None:
        """Write it, and open both pipes."""
        fifo, lifeline = folder / "fifo", folder / "lifeline"
        for each in (fifo, lifeline):
            os.mkfifo(each)
        self.file = folder / "child.py"
        self.file.write_text(CHILD.format(imports=imports(), fifo=str(fifo), lifeline=str(lifeline)))
        self._said = os.open(fifo, os.O_RDWR)
        self._lifeline = os.open(lifeline, os.O_RDWR)

    def next_start(self) -> tuple[int, float, float]:
        """Return its pid, and when it ran its first statement and when its imports were done."""
        if not select.select([self._said], [], [], REPLACED_S)[0]:
            raise TimeoutError(f"no child within {REPLACED_S:g} s")
        pid, first, imported = os.read(self._said, 200).split()
        return int(pid), float(first), float(imported)

    def close(self) -> None:
        """Close the pipes."""
        os.close(self._said)
        os.close(self._lifeline)


@contextmanager
def peer(command: list[str], folder: Path, child: Child) -> Iterator[Callable[[], tuple[float, float]]]:
    """Start a peer; yield what kills its child and returns the seconds to first statement and to all imported."""
    # Somebody's PYTHONPATH might show it our folder `supervisor` instead of its own package.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=clean, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    living: list[int] = []

    def kill() -> tuple[float, float]:
        time.sleep(random.uniform(*LIVED_S))
        killed = time.monotonic()
        os.kill(living[0], signal.SIGKILL)
        living[0], first, imported = child.next_start()
        return first - killed, imported - killed

    try:
        living.append(child.next_start()[0])
        yield kill
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        child.close()


def install(folder: Path) -> Path:
    """Return the folder of the programs of the peers.

    Raises:
        OSError, SubprocessError: they cannot be had.
    """
    commands = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "circus", "supervisor", "setuptools<81"],
    )
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_S)
    return folder / "bin"


def commands(programs: Path, folder: Path) -> Iterator[tuple[str, list[str], Path, Child]]:
    """Write the configurations; yield name, command, folder and child of each peer."""
    for name, text, program in (
        ("circus, check_delay=0.1", CIRCUS, ["circusd"]),
        ("supervisord, startsecs=0", SUPERVISORD, ["supervisord", "-c"]),
    ):
        place = folder / program[0]
        place.mkdir()
        child, config = Child(place), place / "configuration.ini"
        config.write_text(text.format(folder=place, python=sys.executable, child=child.file))
        yield name, [str(programs / program[0]), *program[1:], str(config)], place, child


def beside(name: str, command: list[str], folder: Path, child: Child, kills: int) -> list[str]:
    """Return the rows of one peer, with ours and the floor in between."""
    first, imported, ours, bare = [], [], [], []
    with Floor() as floor, a_tree(["probe"]) as tree, peer(command, folder, child) as kill:
        tree.wait_until("probe", "ready", timeout=PATIENCE_S)
        restart(tree, "probe")
        for _ in range(kills):
            seconds = kill()
            first.append(seconds[0])
            imported.append(seconds[1])
            mine = restart(tree, "probe")
            ours.append(mine.setup - mine.killed)
            bare.append(floor.fork())
    return [
        f"{name}: SIGKILL to all imported {milli(imported)}, {ratio(imported, ours)} of ours; "
        f"to the first statement {milli(first)}, {ratio(first, ours)} of ours",
        f"  ours in between: SIGKILL to setup() {milli(ours)}, {ratio(ours, bare)} of a bare fork",
    ]


def measure(folder: Path, programs: Path, kills: int) -> list[str]:
    """Return the rows; of a peer that does not work here, why."""
    rows = []
    for name, command, place, child in commands(programs, folder):
        try:
            rows += beside(name, command, place, child, kills)
        except TimeoutError as error:
            last = (place / "log").read_text(errors="replace").splitlines()[-1:]
            rows.append(f"{name}: failed: {error}; the last it said: {''.join(last) or 'nothing'}")
    return rows


def main(kills: int) -> None:
    """Install, measure, show; or say why not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            programs = install(folder / "venv")
        except (OSError, subprocess.SubprocessError) as error:
            reason = str(error).splitlines()[0]
            show(f"skipped: circus and supervisor cannot be installed ({reason})")
            return
        show(*measure(folder, programs, kills))


if __name__ == "__main__":
    main(int(sys.argv[1]))
