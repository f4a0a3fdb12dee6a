"""A plant that fails on demand, `orchestree run plant.py --set metrics_port=0`, by files in the folder it runs in.

`jammed`: the drive crashes, and crashes again, as long as there is that file. `broken`: so does the ram, but without
any backoff, so that its supervisor gives up. `cold`: so does that of the burner, and it is not restarted.
"""

from pathlib import Path

from orchestree import Backoff, Orchestrator, PeriodicProcessAgent, Restart, RunMode


class Machine(PeriodicProcessAgent):
    class Config(PeriodicProcessAgent.Config):
        interval = 0.1
        sabotage: str

    config: Config

    def runner(self) -> None:
        if Path(self.config.sabotage).exists():
            raise RuntimeError(f"it is {self.config.sabotage}")


orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, name="plant", max_workers=4))
line = orchestrator.add_supervisor("line")
line.register_agent(Machine, "drive", sabotage="jammed", backoff=Backoff(stable_after=2.0))
press = orchestrator.add_supervisor("press", max_restarts=1)
press.register_agent(Machine, "ram", sabotage="broken", backoff=None)
furnace = orchestrator.add_supervisor("furnace", max_restarts=0, restart=Restart.TRANSIENT)
furnace.register_agent(Machine, "burner", sabotage="cold", backoff=None)

if __name__ == "__main__":
    raise SystemExit(orchestrator.simple_join())
