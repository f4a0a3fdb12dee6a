"""Run all benchmarks, each in a process of its own, and print one table.

``python -m tests.benchmarks [--siblings 100000] [--runs 3] [NAME ...]``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

NAMES = ("core", "siblings", "coroutine", "idle", "process")


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--siblings", type=int, default=100_000, help="how many siblings count as many")
    parser.add_argument("--runs", type=int, default=3, help="of each benchmark")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    for name in options.names or NAMES:
        for run in range(1, options.runs + 1):
            command = [sys.executable, "-m", f"tests.benchmarks.{name}", str(options.siblings)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                print(f"{name} run {run} failed:\n{done.stderr}", file=sys.stderr)
                continue
            for row in json.loads(done.stdout.splitlines()[-1]):
                print(f"{name:10} run {run}  {row}")


if __name__ == "__main__":
    main()
