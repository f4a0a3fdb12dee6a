"""The shipped files with their times scaled down, and nothing else changed.

An alert that waits for minutes is right for people and too slow for a test. So every duration of the rules (`for:`,
`keep_firing_for:`, `interval:`, a range such as `[10m]` or `[1h:1m]`, `offset 5m`) is divided by one number: what took
minutes takes seconds. Expressions, thresholds, labels and texts stay as they are, to the letter.
A threshold of so and so many a second or an hour then means something else; such alerts are left to `promtool test`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import yaml

FACTOR: Final = 60
SHORTEST_RANGE_S: Final = 5.0
"""A range needs several scrapes, which come once a second."""
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION: Final = r"(?:\d+(?:ms|[smhdw]))+"
WAITS: Final = re.compile(rf"^(\s*(?:for|keep_firing_for|interval):\s*)({DURATION})\s*$", re.MULTILINE)
OFFSETS: Final = re.compile(rf"(\boffset\s+)({DURATION})\b")
RANGES: Final = re.compile(rf"(\[)({DURATION})(?=\]|:)")
STEPS: Final = re.compile(rf"(\[{DURATION}:)({DURATION})(?=\])")


def quickened(rules: str) -> str:
    """Return a file of rules with all durations divided by `FACTOR`."""

    def shorter(found: re.Match[str], least: float) -> str:
        return found[1] + as_text(max(seconds(found[2]) / FACTOR, least))

    for pattern, least in ((WAITS, 0.0), (OFFSETS, 0.0), (STEPS, 1.0), (RANGES, SHORTEST_RANGE_S)):
        rules = pattern.sub(lambda found, least=least: shorter(found, least), rules)  # type: ignore[misc]
    return rules


def seconds(duration: str) -> float:
    """Return a duration of Prometheus in seconds."""
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdw])", duration))


def as_text(seconds: float) -> str:
    """Return seconds as a duration of Prometheus, exact to the millisecond."""
    return f"{round(seconds)}s" if seconds == round(seconds) else f"{round(seconds * 1000)}ms"


def configured(shipped: str, targets: Sequence[str], alertmanager: str) -> str:
    """Return the shipped `prometheus.yml` for these targets and this Alertmanager, once a second instead of as it says.

    Raises:
        AssertionError: it has not exactly one job to scrape.
    """
    config: dict[str, Any] = yaml.safe_load(shipped)
    (job,) = config["scrape_configs"]
    job.pop("scrape_interval", None)
    job["static_configs"] = [{"targets": list(targets)}]
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    return str(yaml.safe_dump(config))
