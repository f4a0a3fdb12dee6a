"""An orchestrator with a mind of its own: all four hooks for subclasses.

- `before_start` leaves out the jobs that nobody has the time for.
- `choose_next` gives the only worker slot to the shortest queued job instead of the first one.
- `classify_exit` says that a caller who hangs up is no failure: that job is done and not tried again.
- `on_event` counts the restarts.

    orchestree run examples/custom_orchestrator.py

Prints:
    letter: done
    book: done
    restarts: 1
Events, in this order:
    orchestrator_started
    supervisor_started
    agent_starting letter
    agent_queued book
    agent_queued call
    agent_ready letter
    agent_crashed letter
    agent_restarting letter
    agent_starting letter
    agent_ready letter
    agent_terminated letter
    agent_starting call
    agent_ready call
    agent_terminated call
    agent_starting book
    agent_ready book
    supervisor_ready
    agent_terminated book
    all_agents_terminated
    orchestrator_stopping
    supervisor_terminated
    orchestrator_stopped
Exit code: 0
"""

from orchestree import (
    Agent,
    AgentEntry,
    Cause,
    CrashReport,
    Event,
    EventType,
    ExitKind,
    ExitReason,
    Orchestrator,
    RunMode,
    SupervisorEntry,
)

Entry = AgentEntry | SupervisorEntry


class Job(Agent):
    class Config(Agent.Config):
        minutes: int

    config: Config

    def execute(self) -> None:
        if self.name == "call":
            raise ConnectionResetError("the caller hung up")
        if self.name == "letter" and self.incarnation == 1:
            raise RuntimeError("out of paper")
        print(f"{self.name}: done")


def minutes_of(entry: Entry) -> int:
    config = entry.config if isinstance(entry, AgentEntry) else None
    return config.minutes if isinstance(config, Job.Config) else 0


class Office(Orchestrator):
    class Config(Orchestrator.Config):
        run_mode: RunMode = RunMode.STOP_ON_EMPTY
        max_workers: int | None = 1
        longest_minutes: int = 480

    config: Config
    minutes: dict[str, int]
    restarts = 0

    def before_start(self, entries: tuple[Entry, ...]) -> list[Entry]:
        self.minutes = {entry.name: minutes_of(entry) for entry in entries}
        return [entry for entry in entries if self.minutes[entry.name] <= self.config.longest_minutes]

    def choose_next(self, queued: tuple[str, ...]) -> str:
        return min(queued, key=lambda path: self.minutes[path])

    def classify_exit(self, report: CrashReport) -> ExitReason | None:
        hung_up = "builtins.ConnectionResetError" in report.exception_types
        return ExitReason(ExitKind.NORMAL, Cause.NORMAL) if hung_up else None

    def on_event(self, event: Event) -> None:
        if event.type is EventType.AGENT_RESTARTING:
            self.restarts += 1
        elif event.type is EventType.ORCHESTRATOR_STOPPED:
            print(f"restarts: {self.restarts}")


orchestrator = Office()
orchestrator.register_agent(Job, "census", minutes=600)
orchestrator.register_agent(Job, "book", minutes=90)
orchestrator.register_agent(Job, "letter", minutes=5)
orchestrator.register_agent(Job, "call", minutes=10)

if __name__ == "__main__":
    raise SystemExit(orchestrator.simple_join())
