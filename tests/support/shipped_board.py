"""What the shipped dashboard asks Prometheus, as Grafana would send it.

Reads the file, as Grafana does; needs nothing of what it was built with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from orchestree.metrics.shipping import shipped_files

VARIABLE: Final = re.compile(r"\$\{(\w+)\}|\$([a-z_]\w*)")  # not $1, which label_replace has
TIMES: Final[Mapping[str, str]] = MappingProxyType({"__rate_interval": "15s", "__range": "1m"})
"""What Grafana puts in for a scrape a second and a graph of a minute."""
VALUES: Final = re.compile(r"label_values\((.+), (\w+)\)")
LABEL: Final = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Question:
    """One query of one panel, or of the annotations.

    Attributes:
        panel: its title.
        letter: of the query in its panel.
        expression: of PromQL, without variables.
        legend: what its series are called, with `{{label}}` in place of a value; empty if there is but one.
    """

    panel: str
    letter: str
    expression: str
    legend: str

    def name(self, labels: Mapping[str, str]) -> str:
        """Return what Grafana calls a series with these labels."""
        return LABEL.sub(lambda found: labels.get(found[1], ""), self.legend).strip()


def board() -> dict[str, Any]:
    """Return the dashboard."""
    found: dict[str, Any] = json.loads(shipped_files()["dashboard.json"])
    return found


def panels(holder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all panels, rows and what is in rows too."""
    for panel in holder.get("panels") or []:
        yield panel
        yield from panels(panel)


def questions(**chosen: str) -> Iterator[Question]:
    """Yield every query of every panel, and of the annotations, with these variables chosen and the others set to All.

    Raises:
        KeyError: a query has a variable that the dashboard has not.
    """
    for panel in panels(board()):
        by_columns = "{{agent}} {{state}}" if panel["type"] == "table" else ""
        for target in panel.get("targets") or []:
            expression = _filled_in(target["expr"], chosen)
            yield Question(panel["title"], target["refId"], expression, target["legendFormat"] or by_columns)
    for mark in board()["annotations"]["list"]:
        legend = f"{mark['titleFormat']} {{{{cause}}}}"
        yield Question(f"Annotation: {mark['name']}", "A", _filled_in(mark["expr"], chosen), legend)


def choices() -> Iterator[tuple[str, str]]:
    """Yield label and series of each variable that has its values from Prometheus, with the others set to All."""
    for variable in _variables():
        found = VALUES.fullmatch(variable["query"])
        assert found, variable
        yield found[2], _filled_in(found[1], {})


def _variables() -> list[dict[str, Any]]:
    return [variable for variable in board()["templating"]["list"] if variable["type"] == "query"]


def _filled_in(expression: str, chosen: Mapping[str, str]) -> str:
    values = {**TIMES, **{variable["name"]: variable["allValue"] for variable in _variables()}, **chosen}
    return VARIABLE.sub(lambda found: values[found[1] or found[2]], expression)
