"""What the shipped dashboard asks Prometheus, as Grafana would send it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

VARIABLE: Final = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")
TIMES: Final[Mapping[str, str]] = MappingProxyType({"__rate_interval": "15s", "__range": "1m"})
"""What Grafana puts in for a scrape a second and a graph of a minute."""
VALUES: Final = re.compile(r"label_values\((.+), (\w+)\)")
LABEL: Final = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Question:
    """One query of one panel, or of the annotations.

    Attributes:
        panel: its title.
        expression: of PromQL.
        legend: what its series are called, with `{{label}}` in place of a value; empty if there is but one.
    """

    panel: str
    expression: str
    legend: str

    def name(self, labels: Mapping[str, str]) -> str:
        """Return what Grafana calls a series with these labels."""
        return LABEL.sub(lambda found: labels.get(found[1], ""), self.legend).strip()


def questions(dashboard: str, **chosen: str) -> Iterator[Question]:
    """Yield every query of every panel, and of the annotations, with these variables chosen and the others set to All.

    Raises:
        KeyError: a query has a variable that the dashboard has not.
    """
    board = json.loads(dashboard)
    for question in [*of_panels(board["panels"]), *of_annotations(board)]:
        yield replace(question, expression=filled_in(question.expression, board, chosen))


def choices(dashboard: str) -> Iterator[tuple[str, str]]:
    """Yield label and series of each variable that has its values from Prometheus, with the others set to All."""
    board = json.loads(dashboard)
    for variable in variables(board):
        found = VALUES.fullmatch(variable["query"])
        assert found, variable
        yield found[2], filled_in(found[1], board, {})


def filled_in(expression: str, board: dict[str, Any], chosen: Mapping[str, str]) -> str:
    """Return an expression without variables."""
    values = {**TIMES, **{variable["name"]: variable["allValue"] for variable in variables(board)}, **chosen}
    return VARIABLE.sub(lambda found: values[found[1] or found[2]], expression)


def variables(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the variables that have their values from Prometheus."""
    return [variable for variable in board["templating"]["list"] if variable["type"] == "query"]


def of_panels(panels: list[dict[str, Any]]) -> Iterator[Question]:
    """Yield each query of each panel, also of the panels of rows."""
    for panel in panels:
        for target in panel.get("targets") or []:
            by_columns = "{{agent}} {{state}}" if target.get("format") == "table" else ""
            yield Question(panel["title"], target["expr"], target["legendFormat"] or by_columns)
        yield from of_panels(panel.get("panels") or [])


def of_annotations(board: dict[str, Any]) -> Iterator[Question]:
    """Yield the query of each annotation."""
    for annotation in board["annotations"]["list"]:
        legend = f"{annotation['titleFormat']} {{{{cause}}}}"
        yield Question(f"Annotation: {annotation['name']}", annotation["expr"], legend)
