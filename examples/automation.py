"""Three kinds of agents in one process: a file watcher, an API poller and a message processor.

The API (a real HTTP server, itself an agent) offers one order after another. The poller, a coroutine, fetches
them and hands each to the processor, which writes an invoice into a folder. The watcher, a thread, sees new
invoices there and tells the processor. At the second request the server answers with an error: the poller
crashes, is started again at once, and asks again; nothing is lost. When three invoices have been seen the
processor has done its work, and because it is significant the whole tree ends.

    orchestree run examples/automation.py

Prints:
    orders: tea, coffee, milk
    invoices: 1-tea.txt, 2-coffee.txt, 3-milk.txt
Events of each path, in this order:
    api: agent_starting agent_ready agent_stopping agent_terminated
    processor: agent_starting agent_ready agent_terminated
    poller: agent_waiting agent_starting agent_ready agent_crashed agent_restarting
    poller: agent_starting agent_ready agent_stopping agent_terminated
    watcher: agent_waiting agent_starting agent_ready agent_stopping agent_terminated
Among others, in this order:
    agent_ready api
    agent_starting poller
    agent_terminated processor
    agent_stopping watcher
    agent_stopping poller
    agent_stopping api
    orchestrator_stopped
Exit code: 0
"""

import asyncio
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from shutil import rmtree
from tempfile import mkdtemp

from orchestree import Agent, Orchestrator, PeriodicAgent, PeriodicAsyncAgent, RunMode


@dataclass
class Shared:
    """What the agents hand to each other. All of them live in this process, so they can share objects."""

    messages: "SimpleQueue[tuple[str, str]]" = field(default_factory=SimpleQueue)
    port: int = 0
    folder: Path = Path()


class Api(Agent):
    """Serves the next order at every request, nothing when there is none left, and one error on the way."""

    def setup(self) -> None:
        answers = iter(["tea", "error", "coffee", "milk"])

        class NextOrder(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                order = next(answers, "")
                self.send_response(503 if order == "error" else 200)
                self.end_headers()
                self.wfile.write(order.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), NextOrder)
        self.params["shared"].port = self.server.server_port

    def execute(self) -> None:
        with self.server:
            self.server.serve_forever(poll_interval=0.1)

    def on_stop(self) -> None:
        self.server.shutdown()


class Processor(Agent):
    """Writes an invoice for each order, and counts the invoices that were seen."""

    def setup(self) -> None:
        self.params["shared"].folder = self.folder = Path(mkdtemp())

    def execute(self) -> None:
        shared: Shared = self.params["shared"]
        orders: list[str] = []
        invoices: list[str] = []
        while len(invoices) < 3 and not self.should_stop:
            match shared.messages.get():
                case "order", order:
                    orders.append(order)
                    (self.folder / f"{len(orders)}-{order}.txt").write_text(f"1 x {order}")
                case "invoice", name:
                    invoices.append(name)
        print("orders:", ", ".join(orders))
        print("invoices:", ", ".join(invoices))

    def on_stop(self) -> None:
        self.params["shared"].messages.put(("stop", ""))  # wakes `get`

    def teardown(self) -> None:
        rmtree(self.folder)


class Poller(PeriodicAsyncAgent):
    class Config(PeriodicAsyncAgent.Config):
        interval = 0.1

    async def runner(self) -> None:
        shared: Shared = self.params["shared"]
        if order := await fetch(shared.port):
            self.logger.info("order: {}", order)
            shared.messages.put(("order", order))


class Watcher(PeriodicAgent):
    class Config(PeriodicAgent.Config):
        interval = 0.05

    def setup(self) -> None:
        self.seen: set[str] = set()

    def runner(self) -> None:
        shared: Shared = self.params["shared"]
        names = {path.name for path in shared.folder.glob("*.txt")}
        for name in sorted(names - self.seen):
            self.logger.info("new file: {}", name)
            shared.messages.put(("invoice", name))
        self.seen |= names


async def fetch(port: int) -> str:
    """Return the body of a GET request; raise for any status but 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = head.split()[1].decode()
    if status != "200":
        raise ConnectionError(f"the API answered {status}")
    return body.decode()


orchestrator = Orchestrator(Orchestrator.Config(run_mode=RunMode.DAEMON, auto_shutdown="any_significant"))
params = {"shared": Shared()}
orchestrator.register_agent(Api, "api", params=params)
orchestrator.register_agent(Processor, "processor", params=params, significant=True)
orchestrator.register_agent(Poller, "poller", params=params, depends_on=["api", "processor"])
orchestrator.register_agent(Watcher, "watcher", params=params, depends_on=["processor"])

if __name__ == "__main__":
    raise SystemExit(orchestrator.simple_join())
