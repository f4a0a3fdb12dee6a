"""Start everything, let agents crash, and draw what the real Prometheus has seen of it, as text.

``PYTHONPATH=tests/support python -m tests.e2e.show FOLDER`` writes `metrics_session.txt` into the folder. It takes a
minute and a quarter.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from shipped_board import Question, questions

from .drawing import WIDTH, Curve, drawn, wrapped
from .quickened import FACTOR
from .servers import until
from .station import Station, station
from .way import Way, follow

BEFORE_S: Final = 2
SHOWN_S: Final = 60
KILLS: Final = 3
REPEATED: Final = frozenset({"groupLabels", "commonLabels", "commonAnnotations", "groupKey"})


def main() -> None:
    """Run it, write the file."""
    (folder,) = sys.argv[1:]
    with TemporaryDirectory(prefix="orchestree-show-") as work, station(Path(work)) as running:
        began = round(time.time()) - BEFORE_S
        way = follow(running)
        kill_host(running)
        ruin_press(running)
        until(lambda: time.time() > began + SHOWN_S, "a minute has passed", 2 * SHOWN_S)
        lines = [*head(), *of_panels(running, began), *of_alert(running, way)]
    file = Path(folder) / "metrics_session.txt"
    file.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} lines in {file}")


def kill_host(running: Station) -> None:
    """Kill the agent `host` of the example several times, each time when Prometheus has seen the one before."""
    restarts = f'orchestree_agent_restarts_total{{agent="host",instance="{running.monitoring.address}"}}'
    for number in range(1, KILLS + 1):
        running.monitoring.kill_agent("host")
        seen = f"{restarts} >= {number}"
        until(lambda seen=seen: running.prometheus.query(seen), seen)  # type: ignore[misc]


def ruin_press(running: Station) -> None:
    """Have a supervisor of the plant give up, and mend what was broken."""
    broken = running.plant.sabotage("broken")
    until(
        lambda: running.prometheus.query('orchestree_supervisor_restarts_total{supervisor="press"} > 0'),
        "a supervisor gave up and is restarted",
    )
    broken.unlink()


def head() -> list[str]:
    """Return what this is."""
    versions = " and ".join(map(version, ("prometheus", "prometheus-alertmanager")))
    text = (
        f"{versions} beside examples/monitoring.py and tests/e2e/plant.py, drawn by tests/e2e/show.py. `sensor` "
        "crashes every two seconds, or as soon as its backoff lets it; `line/drive` flapped until the webhook knew; "
        f"`host` was killed {KILLS} times; `press` was made to give up. Each line is a series of a panel of "
        f"dashboard.json over {SHOWN_S} seconds, one column a second, from 0 to its greatest value; behind it stand "
        "its least and its greatest value. Instead of its address an instance has the name of its target."
    )
    return [*textwrap.wrap(text, WIDTH), ""]


def version(program: str) -> str:
    """Return name and version of a server."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return " ".join((done.stdout + done.stderr).split("\n")[0].replace(", version", "").split()[:2])


def of_panels(running: Station, began: int) -> Iterator[str]:
    """Yield the lines of each panel, about the example and the plant."""
    instances = f"{running.monitoring.address}|{running.plant.address}"
    for title, queries in groupby(questions(instance=instances), lambda question: question.panel):
        yield from drawn(title, [curve for question in queries for curve in curves(running, question, began)])


def curves(running: Station, question: Question, began: int) -> Iterator[Curve]:
    """Yield what a query gave, with the trees named by their targets."""
    times = [float(began + second) for second in range(SHOWN_S + 1)]
    for series in running.prometheus.query_range(question.expression, times[0], times[-1], 1.0):
        name = with_names(running, question.name(series.labels))
        yield Curve(name, [series.points.get(moment, math.nan) for moment in times])


def with_names(running: Station, text: str) -> str:
    """Return a text with the trees named by their targets, for their ports mean nothing to a reader."""
    return text.replace(running.monitoring.address, "monitoring").replace(running.plant.address, "plant")


def of_alert(running: Station, way: Way) -> list[str]:
    """Return the times of the alert and what the webhook got."""
    body = {key: value for key, value in way.firing.body.items() if key not in REPEATED}
    left_out = ", ".join(sorted(REPEATED))
    lines = json.dumps(body, indent=1, ensure_ascii=False).splitlines()
    return [
        "",
        f"{way.firing.labels['alertname']}, with all times of the rules divided by {FACTOR}:",
        *way.lines(),
        "",
        "The body that the webhook got (long lines broken; what only repeats it left out:",
        f"{left_out}):",
        *wrapped(with_names(running, line) for line in lines),
    ]


if __name__ == "__main__":
    main()
