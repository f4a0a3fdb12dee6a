"""Prometheus, Alertmanager and a webhook, each for a `with` block: a test that fails leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

PATIENCE_S: Final = 30.0
PROGRAMS: Final = ("prometheus", "prometheus-alertmanager", "promtool", "setpriv")
ANY_PORT: Final = "127.0.0.1:0"
LISTENS: Final = re.compile(r'"Listening on" address=(\S+)')

Answer = TypeVar("Answer")


def missing_programs() -> list[str]:
    """Return which of the programs this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def until(ask: Callable[[], Answer | None], what: str, seconds: float = PATIENCE_S) -> Answer:
    """Ask a server that cannot tell by itself again and again; return its first answer that is something.

    Raises:
        AssertionError: there was none (None, empty, 0) within so many seconds; `what` is in the message.
    """
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return answer


def fetch(url: str, accept: str = "*/*") -> tuple[bytes, str]:
    """Return what a server answers, and the content type that it gives."""
    direct = build_opener(ProxyHandler({}))  # whatever proxy the machine has, it is not for the loopback interface
    with direct.open(Request(url, headers={"Accept": accept}), timeout=PATIENCE_S) as answer:
        return answer.read(), answer.headers["Content-Type"]


@contextmanager
def running(command: Sequence[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in its folder, where it logs into `log`. It ends with the block, and also with this thread."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def listening(command: Sequence[str], folder: Path) -> Iterator[str]:
    """Run a server on a port that the kernel chooses; yield its address once it answers."""
    with running(command, folder) as process:

        def address() -> str | None:
            log = (folder / "log").read_text()
            assert process.poll() is None, log
            return found[1] if (found := LISTENS.search(log)) else None

        found = until(address, f"{command[0]} listens")
        until(lambda: is_ready(found), f"{command[0]} is ready")
        yield found


def is_ready(address: str) -> bool:
    """Return whether a server serves yet."""
    try:
        fetch(f"http://{address}/-/ready")
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Series:
    """One line of an answer of Prometheus.

    Attributes:
        labels: with `__name__` where there is one.
        points: value by time (seconds since the epoch), one for an instant query.
    """

    labels: dict[str, str]
    points: dict[float, float]

    @property
    def value(self) -> float:
        """The latest value."""
        return list(self.points.values())[-1]


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus.

    Attributes:
        address: host and port.
    """

    address: str

    def get(self, path: str, **parameters: str | float) -> Any:
        """Return the data of an answer of its API."""
        body, _ = fetch(f"http://{self.address}/api/v1/{path}?{urlencode(parameters)}")
        answer = json.loads(body)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[Series]:
        """Return what an expression gives now."""
        data = self.get("query", query=expression)
        match data["resultType"]:
            case "scalar":
                return [Series({}, dict([as_point(data["result"])]))]
            case _:
                return [Series(one["metric"], dict([as_point(one["value"])])) for one in data["result"]]

    def query_range(self, expression: str, begin: float, end: float, step: float) -> list[Series]:
        """Return what an expression gave between two times."""
        data = self.get("query_range", query=expression, start=begin, end=end, step=step)
        return [Series(one["metric"], dict(map(as_point, one["values"]))) for one in data["result"]]

    def exemplars(self, expression: str, begin: float, end: float) -> list[tuple[dict[str, str], dict[str, str]]]:
        """Return the labels of each series of `expression` that has exemplars, with those of its exemplars."""
        data = self.get("query_exemplars", query=expression, start=begin, end=end)
        return [(one["seriesLabels"], each["labels"]) for one in data for each in one["exemplars"]]


def as_point(pair: Sequence[Any]) -> tuple[float, float]:
    """Return time and value of a sample as Prometheus writes it."""
    return float(pair[0]), float(pair[1])


@contextmanager
def prometheus(folder: Path, config: Mapping[str, str]) -> Iterator[Prometheus]:
    """Run Prometheus with these files, of which `prometheus.yml` is its configuration."""
    folder.mkdir()
    for name, text in config.items():
        (folder / name).write_text(text)
    command = (
        *("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
        *(f"--web.listen-address={ANY_PORT}", "--web.external-url=http://127.0.0.1:9090/"),
        "--enable-feature=exemplar-storage",
    )
    with listening(command, folder) as address:
        yield Prometheus(address)


ALERTMANAGER: Final = """
route:
  receiver: webhook
  group_by: ['...']
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: webhook
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """Run Alertmanager, which sends each alert by itself and at once; yield its address."""
    folder.mkdir()
    (folder / "alertmanager.yml").write_text(ALERTMANAGER.format(url=webhook))
    command = (
        *("prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=data"),
        *(f"--web.listen-address={ANY_PORT}", "--web.external-url=http://127.0.0.1:9093/"),
        "--cluster.listen-address=",
    )
    with listening(command, folder) as address:
        yield address


@dataclass(frozen=True)
class Notification:
    """What came at the webhook.

    Attributes:
        at: when, in seconds since the epoch.
        body: as Alertmanager sent it; `alerts` holds one.
    """

    at: float
    body: dict[str, Any]

    @property
    def status(self) -> str:
        """`firing` or `resolved`."""
        return str(self.body["status"])

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its alert."""
        labels: dict[str, str] = self.body["alerts"][0]["labels"]
        return labels


@dataclass
class Webhook:
    """Keeps every notification in the order in which they came. Any thread may wait for one."""

    notifications: list[Notification] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: bytes) -> None:
        """Keep one more."""
        with self._changed:
            self.notifications.append(Notification(time.time(), json.loads(body)))
            self._changed.notify_all()

    def first(self, status: str, labels: Mapping[str, str], seconds: float = PATIENCE_S) -> Notification:
        """Return the first notification with this status and, among others, these labels; wait for it.

        Raises:
            AssertionError: none came within so many seconds; the message tells what did.
        """

        def fits(one: Notification) -> bool:
            return one.status == status and labels.items() <= one.labels.items()

        with self._changed:
            self._changed.wait_for(lambda: any(map(fits, self.notifications)), seconds)
            came = [f"{one.status} {one.labels}" for one in self.notifications]
            assert any(map(fits, self.notifications)), "\n".join([f"no {status} {labels}; but:", *came])
            return next(filter(fits, self.notifications))


@contextmanager
def webhook() -> Iterator[tuple[Webhook, str]]:
    """Listen for notifications; yield what has come, and the URL to send them to."""
    kept = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    with ExitStack() as after:
        server = after.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="webhook")
        thread.start()
        after.callback(thread.join)
        after.callback(server.shutdown)
        yield kept, f"http://127.0.0.1:{server.server_port}/"
