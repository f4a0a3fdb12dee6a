"""A plain script without a main guard, with a process agent, started in every way that people start scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
from pathlib import Path
from orchestree import Orchestrator, PeriodicAgent, RunMode

FOLDER = Path(sys.argv[1])
with (FOLDER / "loads.txt").open("a") as loads:
    loads.write(f"{os.getpid()} {__name__}\\n")


class FileWriter(PeriodicAgent):
    class Config(PeriodicAgent.Config):
        path: str
        interval: float = 0.05

    def runner(self):
        with (FOLDER / self.config.path).open("a") as log:
            log.write("line\\n")


class Collector(PeriodicAgent):
    interval_seen = None

    class Config(PeriodicAgent.Config):
        interval: float = 0.05

    def setup(self):
        facts = {
            "pid": os.getpid(),
            "is_instance": isinstance(self, Collector) and type(self) is Collector,
            "config_is_instance": isinstance(self.config, Collector.Config),
            "globals": FOLDER == Path(sys.argv[1]) and sys.modules[type(self).__module__].FOLDER is FOLDER,
            "incarnation": self.incarnation,
        }
        (FOLDER / f"facts-{self.incarnation}.tmp").write_text(json.dumps(facts))
        (FOLDER / f"facts-{self.incarnation}.tmp").rename(FOLDER / f"facts-{self.incarnation}.json")

    def runner(self):
        if self.incarnation == 1:
            raise ValueError("first incarnation")


orchestrator = Orchestrator(
    Orchestrator.Config(run_mode=RunMode.DAEMON, strategy="rest_for_one", max_workers=8, metrics_port=9464)
)
orchestrator.register_agent(FileWriter, "writer-a", config=FileWriter.Config(path="log_a.txt"))
orchestrator.register_agent(FileWriter, "writer-b", path="log_b.txt", restart="permanent", depends_on=["writer-a"])
ingest = orchestrator.add_supervisor("ingest", strategy="one_for_all", max_restarts=3, max_seconds=5)
ingest.register_agent(Collector, "collector", executor="process")
print("before simple_join", flush=True)
raise SystemExit(orchestrator.simple_join())
"""

pytestmark = [pytest.mark.portable, pytest.mark.slow]


def as_a_file(script: Path, folder: Path) -> list[str]:
    return [sys.executable, str(script), str(folder)]


def as_a_module(script: Path, folder: Path) -> list[str]:
    return [sys.executable, "-m", "programs.app", str(folder)]


def by_orchestree_run(script: Path, folder: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("orchestree")), "run", str(script), "--", str(folder)]


def run_until_the_second_collector(command: list[str], cwd: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the program until its process agent has crashed and come back, then interrupt it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PYTHONWARNINGS"] = "default"
    program = subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stderr is not None
    seen: list[str] = []
    for line in program.stderr:
        seen.append(line)
        if "READY" in line and "ingest/collector" in line and (folder / "facts-2.json").exists():
            program.send_signal(signal.SIGINT)
            break
    out, err = program.communicate(timeout=30)
    return subprocess.CompletedProcess(command, program.returncode, out, "".join(seen) + err)


@pytest.mark.parametrize("way", [as_a_file, as_a_module, by_orchestree_run])
def test_a_script_without_a_main_guard_works_from_another_folder(
    way: Callable[[Path, Path], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "__init__.py").write_text("")
    script = tmp_path / "programs" / "app.py"
    script.write_text(SCRIPT)
    folder = tmp_path / "out"
    folder.mkdir()

    done = run_until_the_second_collector(way(script, folder), tmp_path, folder)

    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    facts = [json.loads((folder / f"facts-{number}.json").read_text()) for number in (1, 2)]
    for fact in facts:
        assert fact["is_instance"], fact
        assert fact["config_is_instance"], fact
        assert fact["globals"], fact
    assert facts[0]["pid"] != facts[1]["pid"]
    loads = [line.split() for line in (folder / "loads.txt").read_text().splitlines()]
    assert len({pid for pid, _ in loads}) == len(loads) == 2, "once in the parent and once in the fork server"
    assert not {str(fact["pid"]) for fact in facts} & {pid for pid, _ in loads}, "never in an agent's process"
    assert (folder / "log_a.txt").exists()
    assert (folder / "log_b.txt").exists()
