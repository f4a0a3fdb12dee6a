"""One class, two names, two files.

Two agents of the same class write to a file each, with an own configuration: writer-a in a thread, writer-b in a
process. writer-b waits until writer-a is ready. The first run of writer-b fails at its second line: it is started
again at once and goes on where the file ends, while writer-a notices nothing. The files `log_a.txt` and
`log_b.txt` are written in the current folder.

    orchestree run examples/file_writers.py

Prints:
    log_a.txt: line 1, line 2, line 3
    log_b.txt: line 1, line 2, line 3
Events of each path, in this order:
    writer-a: agent_starting agent_ready agent_terminated
    writer-b: agent_waiting agent_starting agent_ready agent_crashed agent_restarting
    writer-b: agent_starting agent_ready agent_terminated
Among others, in this order:
    agent_ready writer-a
    agent_starting writer-b
Exit code: 0
"""

from pathlib import Path

from orchestree import Event, EventType, Orchestrator, PeriodicAgent, RunMode


class FileWriter(PeriodicAgent):
    class Config(PeriodicAgent.Config):
        path: str
        lines: int = 3
        fails_once: bool = False
        interval = 0.1

    config: Config
    written: int

    def setup(self) -> None:
        self.written = len(Path(self.config.path).read_text().splitlines()) if self.incarnation > 1 else 0
        self.file = open(self.config.path, "a" if self.written else "w")  # noqa: SIM115 - closed by teardown

    def runner(self) -> bool:
        if self.config.fails_once and self.incarnation == 1 and self.written == 1:
            raise OSError("the disk says no")
        self.written += 1
        self.file.write(f"line {self.written}\n")
        return self.written < self.config.lines

    def teardown(self) -> None:
        self.file.close()


orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.STOP_ON_EMPTY))
orchestrator.register_agent(FileWriter, "writer-a", config=FileWriter.Config(path="log_a.txt"))
orchestrator.register_agent(
    FileWriter, "writer-b", path="log_b.txt", fails_once=True, executor="process", depends_on=["writer-a"]
)


@orchestrator.on(EventType.ORCHESTRATOR_STOPPED)
def show(event: Event) -> None:
    for path in ("log_a.txt", "log_b.txt"):
        print(f"{path}: {', '.join(Path(path).read_text().splitlines())}")


if __name__ == "__main__":
    raise SystemExit(orchestrator.simple_join())
