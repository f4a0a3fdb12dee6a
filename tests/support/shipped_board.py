"""The queries of the shipped dashboard, as Grafana would send them with "All" chosen everywhere.

Reads the file, as Grafana does; needs nothing of what it was built with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from orchestree.metrics.shipping import shipped_files


def board() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads(shipped_files()["dashboard.json"])
    return found


def panel_queries(*, interval: str) -> dict[str, str]:
    """Return the PromQL of each query of each panel, by the panel's title and the query's letter: ``States A``.

    Args:
        interval: what ``$__rate_interval`` and ``$__range`` become, such as ``1m``.
    """
    return {
        f"{panel['title']} {target['refId']}": filled_in(target["expr"], interval)
        for panel in panels(board())
        for target in panel.get("targets", [])
    }


def annotation_queries(*, interval: str) -> dict[str, str]:
    """Return the PromQL of each annotation by its name."""
    return {mark["name"]: filled_in(mark["expr"], interval) for mark in board()["annotations"]["list"]}


def variable_queries() -> dict[str, str]:
    """Return the selector of each variable whose values come from Prometheus, by its name."""
    found = {}
    for variable in board()["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), \w+\)", variable["query"])
            assert match is not None, variable["query"]
            found[variable["name"]] = filled_in(match[1], "1m")
    return found


def panels(holder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all panels, rows and what is in rows too."""
    for panel in holder.get("panels", []):
        yield panel
        yield from panels(panel)


def filled_in(query: str, interval: str) -> str:
    """Return `query` with each variable replaced by what "All" stands for."""
    values = {"__rate_interval": interval, "__range": interval, "instance": ".*", "supervisor": ".*", "agent": ".*"}
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: values[match[1] or match[2]], query)
