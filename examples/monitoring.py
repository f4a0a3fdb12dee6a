"""A small monitoring service over the machine it runs on, supervised.

    orchestree run examples/monitoring.py

- `host` (process) measures CPU, memory and disk.
- `site` (thread) is a web server with an access log, on a free port; `prober` (coroutine) fetches its page;
  `tailer` (thread) follows the access log. Should the site fail, the two that depend on it start again with it.
- `sensor` (process) talks to a bad device: after two seconds it chokes on a garbled reading, and every third time
  it takes its own process down with SIGKILL. It comes back a little later each time.
- The alerter is no agent but a function that is called with every crash, and speaks up at the third one.

The others notice nothing of that, and Ctrl-C ends all of them in reverse order.

All of it can be scraped at http://127.0.0.1:9464/metrics (`--set metrics_port=0` for any free port), with what the
agents count themselves: `host_percent`, `site_requests_total`, `prober_answer_seconds`. A second copy finds the port
taken, says so, and does without until it is free. What Prometheus makes of it is drawn in metrics_session.txt.

Shows, among others:
    STARTING sensor        incarnation 1 (process)
    READY    sensor        after 0.01 s
    CRASHED  sensor        incarnation 1, up 2.01 s: ValueError: could not convert string to float: '21.4?C'
    RESTART  sensor        at once
    STARTING sensor        incarnation 2 (process)
    READY    sensor        after 0.01 s
    RESTART  sensor        in 0.24 s (2nd failure in a row)
    CRASHED  sensor        incarnation 3, up 2.01 s: killed by SIGKILL (possibly out of memory)
    RESTART  sensor        in 0.41 s (3rd failure in a row)
Among others, in this order:
    orchestrator_started
    agent_starting host
    agent_starting site
    agent_ready site
    agent_starting prober
    agent_crashed sensor
    agent_restarting sensor
    agent_starting sensor
    agent_ready sensor
    agent_crashed sensor
    agent_restarting sensor
    agent_starting sensor
    agent_ready sensor
    agent_crashed sensor
    agent_restarting sensor
    agent_starting sensor
    agent_ready sensor
After Ctrl-C, in this order:
    orchestrator_stopping
    agent_stopping sensor
    agent_terminated sensor
    agent_stopping tailer
    agent_terminated tailer
    agent_stopping prober
    agent_terminated prober
    agent_stopping site
    agent_terminated site
    agent_stopping host
    agent_terminated host
    supervisor_terminated
    orchestrator_stopped
Exit code: 0
"""

import asyncio
import os
import signal
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import psutil
from loguru import logger

from orchestree import (
    Agent,
    Event,
    EventType,
    LoopingAgent,
    Orchestrator,
    PeriodicAsyncAgent,
    PeriodicProcessAgent,
    RunMode,
)


class Host(PeriodicProcessAgent):
    class Config(PeriodicProcessAgent.Config):
        interval = 3.0

    def runner(self) -> None:
        cpu = psutil.cpu_percent(interval=0.5)
        memory, disk = psutil.virtual_memory().percent, psutil.disk_usage("/").percent
        self.logger.info("cpu {:.0f} %, memory {:.0f} %, disk {:.0f} %", cpu, memory, disk)
        percent = self.metrics.gauge("host_percent", "How much of the machine is in use", ["part"])
        for part, value in {"cpu": cpu, "memory": memory, "disk": disk}.items():
            percent.labels(part).set(value)


@dataclass
class Place:
    """Where the site is. It says so when it is ready; the agents that depend on it look here."""

    port: int = 0
    access_log: Path = Path()


class Site(Agent):
    def setup(self) -> None:
        self.folder = Path(mkdtemp())
        access_log = self.folder / "access.log"
        access_log.touch()
        requests = self.metrics.counter("site_requests_total", "Pages that were fetched")

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(f"{time.ctime()}\n".encode())
                requests.inc()

            def log_message(self, format: str, *args: object) -> None:
                with access_log.open("a") as log:
                    log.write(f"{time.strftime('%H:%M:%S')} {format % args}\n")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        place: Place = self.params["place"]
        place.port, place.access_log = self.server.server_port, access_log
        self.logger.info("serving on port {}", place.port)

    def execute(self) -> None:
        with self.server:
            self.server.serve_forever(poll_interval=0.1)

    def on_stop(self) -> None:
        self.server.shutdown()

    def teardown(self) -> None:
        rmtree(self.folder)


class Prober(PeriodicAsyncAgent):
    class Config(PeriodicAsyncAgent.Config):
        interval = 2.0

    async def runner(self) -> None:
        started = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.params["place"].port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        status_line = (await reader.read()).partition(b"\r\n")[0].decode()
        writer.close()
        if " 200 " not in status_line:
            raise ConnectionError(f"the site answered {status_line!r}")
        took = time.monotonic() - started
        self.metrics.histogram("prober_answer_seconds", "Time that the site took to answer").observe(took)
        self.logger.info("the site answered in {:.1f} ms", took * 1000)


class Tailer(LoopingAgent):
    def setup(self) -> None:
        self.log = self.params["place"].access_log.open()
        self.lines = 0

    def runner(self) -> None:
        if not (line := self.log.readline()):
            self.sleep(0.5)
            return
        self.lines += 1
        if self.lines % 3 == 0:
            self.logger.info("{} requests so far, the latest: {}", self.lines, line.rstrip())

    def teardown(self) -> None:
        self.log.close()


class Sensor(PeriodicProcessAgent):
    class Config(PeriodicProcessAgent.Config):
        interval = 0.5

    def setup(self) -> None:
        self.frames = iter(["21.3", "21.3", "21.4", "21.4", "21.4?C"])

    def runner(self) -> None:
        frame = next(self.frames)
        if frame == "21.4?C" and self.incarnation % 3 == 0:
            os.kill(os.getpid(), signal.SIGKILL)  # no Python code survives this; the supervisor does
        float(frame)


orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, metrics_port=9464))
params = {"place": Place()}
orchestrator.register_agent(Host, "host")
orchestrator.register_agent(Site, "site", params=params, strategy="dependents")
orchestrator.register_agent(Prober, "prober", params=params, depends_on=["site"])
orchestrator.register_agent(Tailer, "tailer", params=params, depends_on=["site"])
orchestrator.register_agent(Sensor, "sensor")

crashes: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=3))


@orchestrator.on(EventType.AGENT_CRASHED)
def alert(event: Event) -> None:
    times = crashes[event.path]
    times.append(event.monotonic)
    if len(times) == 3 and times[-1] - times[0] < 60:
        crash = orchestrator.status(event.path).last_crash
        logger.critical("ALERT    {}: 3 crashes within a minute, now: {}", event.path, crash and crash.message)
        times.clear()


if __name__ == "__main__":
    raise SystemExit(orchestrator.simple_join())
