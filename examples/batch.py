"""Ten jobs, two at a time, and one that can never succeed.

Each job counts the lines of a module of the standard library; one of those modules does not exist. At most two
jobs run at once, the others queue. The bad job is tried three times, then it is parked: it stays down and the
rest goes on. The orchestrator ends when nothing is left to run, with exit code 1 because of the parked job.

    orchestree run examples/batch.py

Prints:
    9 of 10 jobs done; parked: job-3
Events of each path, in this order:
    job-1: agent_starting agent_ready agent_terminated
    job-2: agent_starting agent_ready agent_terminated
    job-3: agent_queued agent_starting agent_ready agent_crashed agent_restarting
    job-3: agent_starting agent_ready agent_crashed agent_restarting
    job-3: agent_starting agent_ready agent_crashed agent_parked
    job-4: agent_queued agent_starting agent_ready agent_terminated
    job-5: agent_queued agent_starting agent_ready agent_terminated
    job-6: agent_queued agent_starting agent_ready agent_terminated
    job-7: agent_queued agent_starting agent_ready agent_terminated
    job-8: agent_queued agent_starting agent_ready agent_terminated
    job-9: agent_queued agent_starting agent_ready agent_terminated
    job-10: agent_queued agent_starting agent_ready agent_terminated
Among others, in this order:
    agent_starting job-1
    agent_starting job-2
    agent_starting job-3
    agent_starting job-4
    agent_starting job-5
    agent_starting job-6
    agent_starting job-7
    agent_starting job-8
    agent_starting job-9
    agent_starting job-10
    all_agents_terminated
    orchestrator_stopped
Exit code: 1
"""

import sysconfig
from pathlib import Path

from tenacity import stop_after_attempt, wait_fixed

from orchestree import Agent, AgentState, Backoff, Event, EventType, Orchestrator, RunMode

MODULES = ["abc", "ast", "no_such_module", "bisect", "calendar", "copy", "csv", "enum", "heapq", "shelve"]


class CountLines(Agent):
    class Config(Agent.Config):
        module: str

    config: Config

    def execute(self) -> int:
        source = Path(sysconfig.get_path("stdlib"), f"{self.config.module}.py")
        lines = len(source.read_text(encoding="utf-8").splitlines())
        self.logger.info("{} has {} lines", self.config.module, lines)
        return lines


orchestrator = Orchestrator(
    Orchestrator.Config(
        run_mode=RunMode.STOP_ON_EMPTY,
        max_workers=2,
        backoff=Backoff(wait=wait_fixed(0.2), stop=stop_after_attempt(3)),
    )
)
for number, module in enumerate(MODULES, start=1):
    orchestrator.register_agent(CountLines, f"job-{number}", module=module)


@orchestrator.on(EventType.ORCHESTRATOR_STOPPED)
def summary(event: Event) -> None:
    jobs = orchestrator.which_children()
    done = [job for job in jobs if job.state is AgentState.COMPLETED]
    parked = [job.name for job in jobs if job.state is AgentState.PARKED]
    print(f"{len(done)} of {len(jobs)} jobs done; parked: {', '.join(parked)}")


if __name__ == "__main__":
    raise SystemExit(orchestrator.simple_join())
