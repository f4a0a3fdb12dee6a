"""A pipeline of processes that loses nothing when one of them is killed.

The collector deals out items to two washers, and the writer gathers what they have washed. Every hand-over is a
file that appears under its name in one step, and a washer removes an item only after its result is there. Under
`rest_for_one` each stage starts when the one before is ready. As soon as the writer is ready, `washer-a` is killed
in the middle of its work: it and the stages after it are stopped in reverse order and started again in order,
while the collector goes on. What the washer had in its hands is still in its inbox.

    orchestree run examples/pipeline.py

Prints:
    in: 80, out: 80, each of them once, left behind: 0
Events of each path, in this order:
    collector: agent_starting agent_ready agent_terminated
    washer-a: agent_waiting agent_starting agent_ready agent_crashed agent_restarting
    washer-a: agent_starting agent_ready agent_terminated
    washer-b: agent_waiting agent_starting agent_ready agent_stopping agent_restarting
    washer-b: agent_waiting agent_starting agent_ready agent_terminated
    writer: agent_waiting agent_starting agent_ready agent_stopping agent_restarting
    writer: agent_waiting agent_starting agent_ready agent_terminated
Among others, in this order:
    agent_ready collector
    agent_starting washer-a
    agent_ready washer-a
    agent_starting washer-b
    agent_ready washer-b
    agent_starting writer
    agent_ready writer
    agent_crashed washer-a
    agent_restarting writer
    agent_restarting washer-b
    agent_starting washer-a
    agent_ready washer-a
    agent_starting washer-b
    agent_ready washer-b
    agent_starting writer
    agent_ready writer
    all_agents_terminated
Exit code: 0
"""

import os
import signal
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from orchestree import Event, EventType, Orchestrator, PeriodicProcessAgent, RunMode

ITEMS = 80
WASHERS = ("washer-a", "washer-b")


class Stage(PeriodicProcessAgent):
    class Config(PeriodicProcessAgent.Config):
        spool: str
        interval = 0.025

    config: Config

    def setup(self) -> None:
        self.spool = Path(self.config.spool)

    def put(self, place: str, text: str) -> None:
        """Let a file appear in one step: whoever sees it sees all of it. Doing it twice does no harm."""
        draft = self.spool / f"{self.name}.draft"
        draft.write_text(text)
        draft.replace(self.spool / place)


class Collector(Stage):
    def setup(self) -> None:
        super().setup()
        self.made = 0

    def runner(self) -> bool:
        self.made += 1
        self.put(f"{WASHERS[self.made % 2]}/{self.made:03}", f"item {self.made}")
        if self.made == ITEMS:
            for washer in WASHERS:
                self.put(f"{washer}/end", "")
        return self.made < ITEMS


class Washer(Stage):
    def runner(self) -> bool:
        inbox = self.spool / self.name
        is_last_round = (inbox / "end").exists()
        for item in sorted(inbox.glob("[0-9]*")):
            self.put(f"washed/{item.name}", sha256(item.read_bytes()).hexdigest())
            item.unlink()
        return not is_last_round


class Writer(Stage):
    def runner(self) -> bool:
        for item in sorted((self.spool / "washed").iterdir()):
            item.replace(self.spool / "written" / item.name)
        return len(list((self.spool / "written").iterdir())) < ITEMS


def pipeline() -> Orchestrator:
    spool = Path(mkdtemp())
    for folder in (*WASHERS, "washed", "written"):
        (spool / folder).mkdir()
    orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY, strategy="rest_for_one"))
    orchestrator.register_agent(Collector, "collector", spool=str(spool))
    for washer in WASHERS:
        orchestrator.register_agent(Washer, washer, spool=str(spool))
    orchestrator.register_agent(Writer, "writer", spool=str(spool))

    @orchestrator.on(EventType.AGENT_READY, path="writer")
    def kill_a_washer(event: Event) -> None:
        pid = orchestrator.status("washer-a").pid
        if event.incarnation == 1 and pid is not None:
            os.kill(pid, signal.SIGKILL)

    @orchestrator.on(EventType.ORCHESTRATOR_STOPPED)
    def count(event: Event) -> None:
        written = [path.read_text() for path in (spool / "written").iterdir()]
        once = "each of them once" if len(set(written)) == len(written) else "some of them twice"
        left = [item for washer in WASHERS for item in (spool / washer).glob("[0-9]*")]
        print(f"in: {ITEMS}, out: {len(written)}, {once}, left behind: {len(left)}")
        rmtree(spool)

    return orchestrator


if __name__ == "__main__":
    raise SystemExit(pipeline().simple_join())
