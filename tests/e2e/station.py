"""All that an end-to-end test needs: three trees, a Prometheus that scrapes them, Alertmanager and a webhook."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from click.testing import CliRunner

from orchestree.metrics.shipping import shipped_files
from orchestree.supervisor.control.command_line.all_commands import orchestree

from .quickened import configured, quickened
from .servers import PATIENCE_S, Prometheus, Webhook, alertmanager, fetch, prometheus, running, until, webhook

MONITORING: Final = Path(__file__).parents[2] / "examples" / "monitoring.py"
PLANT: Final = Path(__file__).with_name("plant.py")
TOOL: Final = ("-c", "from orchestree.supervisor.control.cli import main; main()")


@dataclass(frozen=True)
class Tree:
    """A running `orchestree run`.

    Attributes:
        folder: the one it runs in, with its log and its control socket.
        process: its program.
        address: host and port of its metrics; what Prometheus calls `instance`.
    """

    folder: Path
    process: subprocess.Popen[bytes]
    address: str

    def ask(self, *command: str) -> Any:
        """Return what a command of the command line prints with ``--json``."""
        return ask(self.folder, *command)

    def events(self, kind: str, path: str, since: int = 0) -> list[dict[str, Any]]:
        """Return the events of one type and one agent that came after number `since`."""
        found: list[dict[str, Any]] = self.ask("events", "--type", kind, "--path", path, "--since", str(since))
        return found

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return its page of metrics in the format that the header asks for, and which that is."""
        return fetch(f"http://{self.address}/metrics", accept)

    def sabotage(self, name: str) -> Path:
        """Make a file in its folder, and return it: what is broken as long as that is there is for the tree to say."""
        file = self.folder / name
        file.touch()
        return file

    def kill_agent(self, path: str) -> None:
        """Send SIGKILL to the process of an agent."""
        (pid,) = [agent["pid"] for agent in self.ask("ps") if agent["path"] == path]
        os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Send SIGKILL to the orchestrator."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


def ask(folder: Path, *command: str) -> Any:
    """Return what a command prints with ``--json`` of the only tree that runs in the folder; None if none does yet."""
    environment = {"XDG_RUNTIME_DIR": str(folder), "ORCHESTREE_SOCKET": None}
    done = CliRunner().invoke(orchestree, [*command, "--json"], env=environment)
    return json.loads(done.stdout) if done.exit_code == 0 else None


@contextmanager
def tree(target: Path, folder: Path) -> Iterator[Tree]:
    """Run a target with metrics on a port that the kernel chooses; yield once it has said which."""
    folder.mkdir()
    command = [sys.executable, *TOOL, "run", str(target), "--set", "metrics_port=0"]
    with running(command, folder, XDG_RUNTIME_DIR=str(folder)) as process:

        def port() -> int | None:
            assert process.poll() is None, (folder / "log").read_text()
            started = ask(folder, "events", "--since", "0", "--type", "orchestrator_started")
            return started[0]["data"]["metrics_port"] if started else None

        yield Tree(folder, process, f"127.0.0.1:{until(port, f'{target.name} has started')}")


@dataclass(frozen=True)
class Station:
    """Everything, running.

    Attributes:
        prometheus: it scrapes all trees and judges the quickened alerts, once a second.
        webhook: what Alertmanager has sent.
        monitoring: the example; its `sensor` crashes every two seconds.
        spare: the same once more, to be killed.
        plant: fails on demand, see `plant.py`.
    """

    prometheus: Prometheus
    webhook: Webhook
    monitoring: Tree
    spare: Tree
    plant: Tree

    def value(self, expression: str) -> float | None:
        """Return the value of an expression that has one series, None while it has none."""
        found = self.prometheus.query(expression)
        assert len(found) <= 1, found
        return found[0].value if found else None


@contextmanager
def station(folder: Path) -> Iterator[Station]:
    """Start everything below `folder`; yield when Prometheus has scraped every tree."""
    with ExitStack() as stack:
        hook, url = stack.enter_context(webhook())
        alerts_to = stack.enter_context(alertmanager(folder / "alertmanager", url))
        monitoring = stack.enter_context(tree(MONITORING, folder / "monitoring"))
        spare = stack.enter_context(tree(MONITORING, folder / "spare"))
        plant = stack.enter_context(tree(PLANT, folder / "plant"))
        trees = [one.address for one in (monitoring, spare, plant)]
        shipped = shipped_files()
        files = {
            "prometheus.yml": configured(shipped["prometheus.yml"], trees, alerts_to),
            "alerts.yml": quickened(shipped["alerts.yml"]),
        }
        scraper = stack.enter_context(prometheus(folder / "prometheus", files))
        until(lambda: len(scraper.query("up == 1")) == len(trees), "every tree is scraped")
        yield Station(scraper, hook, monitoring, spare, plant)
