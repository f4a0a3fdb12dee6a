"""The alerts that the end-to-end tests run are the shipped ones, but for their durations."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from orchestree.metrics.shipping import shipped_files

from .quickened import DURATION, quickened

RULES = """\
groups:
  - name: a
    interval: 1m
    rules:
      - alert: Flapping5m
        expr: increase(x:rate5m[10m]) > 3 and max_over_time(y[1h:5m] offset 2m) > 60
        for: 90s
        annotations: {summary: "5m, [see there]"}
"""


def test_minutes_become_seconds_and_nothing_else_changes() -> None:
    wanted = RULES.replace("interval: 1m", "interval: 1s").replace("for: 90s", "for: 1500ms")
    wanted = wanted.replace("[10m]", "[10s]").replace("[1h:5m]", "[60s:5s]").replace("offset 2m", "offset 2s")
    assert quickened(RULES) == wanted


def test_a_range_still_spans_several_scrapes() -> None:
    assert quickened("rate(x[1m])") == "rate(x[5s])"


def test_the_shipped_alerts_differ_in_durations_only() -> None:
    shipped = shipped_files()["alerts.yml"]
    assert quickened(shipped) != shipped
    assert re.sub(DURATION, "#", quickened(shipped)) == re.sub(DURATION, "#", shipped)


@pytest.mark.slow
def test_promtool_takes_the_quickened_alerts(programs: None, tmp_path: Path) -> None:
    file = tmp_path / "alerts.yml"
    file.write_text(quickened(shipped_files()["alerts.yml"]))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
