"""Jobs that come while the program runs: a dynamic supervisor that is full at two of them.

Each job counts the lines of a module of the standard library. `start_child` returns when a job is ready; a job whose
`setup()` finds no such module is an error of that call, and nothing of it is left. While the pool is full the program
waits until a job has ended. Then `reconfigure` makes room for three, without touching what runs.

    python examples/job_pool.py

Prints:
    no_such_module: 'jobs/no_such_module' did not start: FileNotFoundError: there is no no_such_module.py
    5 jobs done, longest: ast
Events of each path, in this order:
    jobs/abc: agent_starting agent_ready agent_terminated
    jobs/ast: agent_starting agent_ready agent_terminated
    jobs/no_such_module: agent_starting agent_crashed agent_terminated
    jobs/bisect: agent_starting agent_ready agent_terminated
    jobs/calendar: agent_starting agent_ready agent_terminated
    jobs/copy: agent_starting agent_ready agent_terminated
    jobs: supervisor_started supervisor_ready policy_changed supervisor_terminated
Among others, in this order:
    agent_starting jobs/abc
    agent_starting jobs/ast
    agent_starting jobs/no_such_module
    agent_starting jobs/bisect
    agent_starting jobs/calendar
    policy_changed jobs
    agent_starting jobs/copy
    orchestrator_stopped
Exit code: 0
"""

import sysconfig
from pathlib import Path

from orchestree import Agent, EventType, MaxChildren, Orchestrator, RunMode, StartError

MODULES = ["abc", "ast", "no_such_module", "bisect", "calendar", "copy"]


class CountLines(Agent):
    class Config(Agent.Config):
        module: str

    config: Config

    def setup(self) -> None:
        self.source = Path(sysconfig.get_path("stdlib"), f"{self.config.module}.py")
        if not self.source.exists():
            raise FileNotFoundError(f"there is no {self.source.name}")

    def execute(self) -> int:
        self.sleep(0.1)
        return len(self.source.read_text(encoding="utf-8").splitlines())


orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON))
jobs = orchestrator.add_supervisor("jobs", dynamic=True, max_children=2)


def start(module: str) -> str | None:
    """Start a job as soon as there is room for it."""
    while True:
        seen = orchestrator.stats().events
        try:
            return jobs.start_child(CountLines, module, module=module, restart="temporary")
        except MaxChildren:
            orchestrator.events.wait_for(EventType.AGENT_TERMINATED, "jobs", since=seen, timeout=30)


if __name__ == "__main__":
    with orchestrator:
        paths = []
        for module in MODULES:
            if module == "copy":
                orchestrator.reconfigure("jobs", max_children=3)
            try:
                paths.append(start(module))
            except StartError as error:
                print(f"{module}: {error}")
        for path in filter(None, paths):
            orchestrator.events.wait_for(EventType.AGENT_TERMINATED, path, since=0, timeout=30)
        lines = {orchestrator.status(path).name: orchestrator.status(path).result for path in filter(None, paths)}
        print(f"{len(lines)} jobs done, longest: {max(lines, key=lambda name: int(str(lines[name])))}")
