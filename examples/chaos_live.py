"""Real SIGKILLs under a budget, beside what a simulation has foreseen.

In the workshop the press comes before the binder (`rest_for_one`): when the press is killed, the binder is stopped and
starts again behind it; when the binder fails, the press goes on. Both are processes. The desk is a thread of this
program and must not notice anything: that is the check which would end the chaos early.

The plan is what a simulation of this very tree says, with a seed: the same seed, the same plan. It is carried out on
the real tree, at most four faults; then both logs are shown side by side, with what differs and why.

    python examples/chaos_live.py

Prints:
    the plan:
    workshop/press: crash with SIGKILL at 1s
    workshop/press: crash with SIGKILL at 1.515s
    workshop/binder: hang at 2.2s
    workshop/press: crash with SIGKILL at 3.759s
    4 done, 0 skipped, the desk has noticed nothing
    the same decisions as in the simulation: True
Shows, among others:
       1.001 s  SIGKILL  workshop/press, incarnation 1, pid 4711
       1.516 s  SIGKILL  workshop/press, incarnation 2, pid 4715
       2.200 s  SIGSTOP  workshop/binder, incarnation 3, pid 4717
       3.760 s  SIGKILL  workshop/press, incarnation 3, pid 4716
       5.000 s  over: 5s have passed
                                             simulated      live     later
    workshop/press
      agent_crashed signal                       1.000     1.006    +0.006
      agent_restarting failure 1                 1.000     1.006    +0.006   in 0.000 / 0.000 s
      agent_starting                             1.000     1.011    +0.011
      agent_ready                                1.000     1.017    +0.017
      agent_crashed signal                       1.515     1.521    +0.006
      agent_restarting failure 2                 1.515     1.521    +0.006   in 0.218 / 0.208 s
    workshop/binder
      agent_crashed watchdog                     3.200     3.254    +0.054
      agent_restarting failure 1                 3.200     3.254    +0.054   in 0.000 / 0.000 s
    Where they differ, and why:
      5 steps with other delays, by up to 0.018 s:
          each log draws its own jitter, and whoever took time to stop has less of the delay left
Events of each path, in this order:
    desk: agent_starting agent_ready agent_stopping agent_terminated
    workshop: supervisor_started supervisor_ready supervisor_terminated
    workshop/press: agent_starting agent_ready agent_crashed agent_restarting
    workshop/press: agent_starting agent_ready agent_crashed agent_restarting
    workshop/press: agent_starting agent_ready agent_crashed agent_restarting
    workshop/press: agent_starting agent_ready agent_stopping agent_terminated
    workshop/binder: agent_waiting agent_starting agent_ready agent_stopping agent_restarting
    workshop/binder: agent_waiting agent_starting agent_ready agent_stopping agent_restarting
    workshop/binder: agent_waiting agent_starting agent_ready agent_hung agent_stopping agent_crashed
    workshop/binder: agent_restarting agent_starting agent_ready agent_stopping agent_restarting
    workshop/binder: agent_waiting agent_starting agent_ready agent_stopping agent_terminated
Exit code: 0
"""

from loguru import logger

from orchestree import Orchestrator, PeriodicAgent, PeriodicProcessAgent, RunMode
from orchestree.supervisor.testing import LiveChaos, line_of

FAULTS = ["workshop/press: crash with SIGKILL about every 1s", "workshop/binder: hang at 2200ms"]


class Press(PeriodicProcessAgent):
    class Config(PeriodicProcessAgent.Config):
        interval = 0.1

    def runner(self) -> None:
        self.logger.debug("a sheet")


class Binder(Press):
    pass


class Desk(PeriodicAgent):
    class Config(PeriodicAgent.Config):
        interval = 0.1

    def runner(self) -> None:
        self.logger.debug("an order")


orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON))
orchestrator.register_agent(Desk, "desk")
workshop = orchestrator.add_supervisor("workshop", strategy="rest_for_one")
workshop.register_agent(Press, "press")
workshop.register_agent(Binder, "binder", watchdog=1.0)


def desk_is_open(tree: Orchestrator) -> bool:
    return tree.status("desk").incarnation == 1


if __name__ == "__main__":
    chaos = LiveChaos(orchestrator, FAULTS, until="5s", seed=28, budget=4)
    print("the plan:")
    for fault in chaos.plan:
        print(line_of(fault))
    with orchestrator:
        live = chaos.run(check=desk_is_open)
    for line in f"{live}\n{live.comparison}".splitlines():
        logger.info("{}", line)
    noticed = "has noticed nothing" if desk_is_open(orchestrator) else "was closed"
    print(f"{len(live.done)} done, {len(live.skipped)} skipped, the desk {noticed}")
    print("the same decisions as in the simulation:", live.comparison.is_same)
