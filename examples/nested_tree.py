"""A tree of supervisors: what cannot be healed below is healed above.

The sensor reads over a bus that has got stuck. Starting the sensor alone again does not help, so it fails again
and again, until its supervisor `devices` has restarted it twice within 5 seconds. It gives up: it ends with all
its children, and the root restarts it as a whole. The new bus is not stuck. `clock`, in another branch, runs on
untouched. The first reading ends the program.

    orchestree run examples/nested_tree.py

Prints:
    the sensor reads 21.5 degrees
    incarnations: clock 1, devices 2, bus 2, sensor 4
Events of each path, in this order:
    clock: agent_starting agent_ready agent_stopping agent_terminated
    devices: supervisor_started supervisor_ready supervisor_terminated supervisor_restarting
    devices: supervisor_started supervisor_ready supervisor_terminated
    devices/bus: agent_starting agent_ready agent_stopping agent_terminated
    devices/bus: agent_starting agent_ready agent_stopping agent_terminated
    devices/sensor: agent_waiting agent_starting agent_ready agent_crashed agent_restarting
    devices/sensor: agent_starting agent_ready agent_crashed agent_restarting
    devices/sensor: agent_starting agent_ready agent_crashed agent_terminated
    devices/sensor: agent_waiting agent_starting agent_ready agent_stopping agent_terminated
Among others, in this order:
    agent_crashed devices/sensor
    agent_crashed devices/sensor
    agent_crashed devices/sensor
    agent_terminated devices/sensor
    agent_terminated devices/bus
    supervisor_terminated devices
    supervisor_restarting devices
    agent_starting devices/bus
    agent_starting devices/sensor
    agent_stopping devices/sensor
    agent_stopping devices/bus
    agent_stopping clock
Exit code: 0
"""

from orchestree import Agent, Event, EventType, Orchestrator, PeriodicAgent, RunMode


class Bus(Agent):
    """Owns the wire that the sensor reads from. Only the first bus gets stuck."""

    def setup(self) -> None:
        self.params["wire"]["is_stuck"] = self.incarnation == 1

    def execute(self) -> None:
        self.sleep(3600)


class Sensor(PeriodicAgent):
    def runner(self) -> None:
        if self.params["wire"]["is_stuck"]:
            raise TimeoutError("no answer on the bus")
        self.emit("reading", degrees=21.5)


class Clock(PeriodicAgent):
    def runner(self) -> None:
        self.logger.info("tick")


orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON))
orchestrator.register_agent(Clock, "clock")
devices = orchestrator.add_supervisor("devices", max_restarts=2, max_seconds=5)
wire = {"is_stuck": False}
devices.register_agent(Bus, "bus", params={"wire": wire})
devices.register_agent(Sensor, "sensor", params={"wire": wire}, depends_on=["bus"])


@orchestrator.on(EventType.AGENT_MESSAGE, path="devices/sensor")
def finish(event: Event) -> None:
    print("the sensor reads 21.5 degrees")
    paths = ("clock", "devices", "devices/bus", "devices/sensor")
    statuses = [orchestrator.status(path) for path in paths]
    print("incarnations:", ", ".join(f"{status.name} {status.incarnation}" for status in statuses))
    orchestrator.stop()


if __name__ == "__main__":
    raise SystemExit(orchestrator.simple_join())
