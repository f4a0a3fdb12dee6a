"""Run benchmarks, each in a process of its own, and print their rows.

``python -m tests.benchmarks [--runs 3] [--siblings 100000] [--restarts 1000] [NAME ...]``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

NAMES = {
    "core": "the pure core: cycles a second, cost of a group, size of a window",
    "siblings": "a crash beside many siblings",
    "coroutine": "a coroutine agent's restart beside a bare asyncio loop",
    "idle": "1,000 idle coroutine agents",
    "process": "a process agent's restart beside a bare fork",
    "starts": "100 process agents started, and all killed at once, beside bare forks",
    "notice": "how soon a death is known, beside a bare epoll loop",
    "process_idle": "100 idle process agents: CPU and memory",
    "streams": "a coroutine agent's restart beside 200 clients that stream all events",
    "leaks": "what 1,000 restarts by SIGKILL leave behind (--restarts 10000 for more)",
    "cli": "`orchestree ps` with 50 agents, beside the imports that it needs",
    "history": "the history file: events a second, and questions to 10 million rows (--rows)",
    "scrape": "a scrape of 10,000 agents (--agents) beside the client's own writer; what an event costs",
    "simulation": "a simulated day of 100 agents (--simulated) that crash every minute, beside the bare core",
    "peers": "circus and supervisord from PyPI beside ours; only when named",
}
ONLY_WHEN_NAMED = ("peers",)
LIMIT_S = 600.0


def main() -> None:
    """Parse the command line, run, print."""
    listing = "\n".join(f"  {name:13} {what}" for name, what in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=f"{__doc__}\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all but {', '.join(ONLY_WHEN_NAMED)}")
    parser.add_argument("--runs", type=int, default=3, help="of each benchmark")
    parser.add_argument("--siblings", type=int, default=100_000, help="how many siblings count as many")
    parser.add_argument("--restarts", type=int, default=1_000, help="of leaks")
    parser.add_argument("--kills", type=int, default=100, help="of process and notice")
    parser.add_argument("--peer-kills", type=int, default=7, help="of each peer: they take seconds")
    parser.add_argument("--rounds", type=int, default=9, help="of starts")
    parser.add_argument("--clients", type=int, default=200, help="of streams")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of process_idle")
    parser.add_argument("--agents", type=int, default=10_000, help="of scrape")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the file that history asks")
    parser.add_argument("--simulated", type=int, default=100, help="agents of simulation")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - NAMES.keys()):
        parser.error(f"no benchmark {', '.join(unknown)}")
    arguments = {
        "process": options.kills,
        "notice": options.kills,
        "peers": options.peer_kills,
        "starts": options.rounds,
        "process_idle": options.idle,
        "leaks": options.restarts,
        "history": options.rows,
        "streams": options.clients,
        "scrape": options.agents,
        "simulation": options.simulated,
    }
    for name in options.names or [name for name in NAMES if name not in ONLY_WHEN_NAMED]:
        for run in range(1, options.runs + 1):
            load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
            print(f"{name} run {run} ({load}, Python {sys.version.split()[0]})", flush=True)
            for row in rows(name, arguments.get(name, options.siblings)):
                print(f"    {row}", flush=True)


def rows(name: str, argument: float) -> list[str]:
    """Return the rows of one run; of one that failed, why."""
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", str(argument)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    except subprocess.TimeoutExpired:
        return [f"failed: not done within {LIMIT_S:g} s"]
    except subprocess.CalledProcessError as error:
        return ["failed:", *str(error.stderr).splitlines()]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
