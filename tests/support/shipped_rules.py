"""The shipped alerting and recording rules, and what a PromQL expression looks at."""

from __future__ import annotations

from typing import Any

import promql_parser
import yaml

from orchestree.metrics.shipping import shipped_files


def rules() -> list[dict[str, Any]]:
    """Return all rules of all groups."""
    return [rule for group in yaml.safe_load(shipped_files()["alerts.yml"])["groups"] for rule in group["rules"]]


def selected_names(expression: str) -> set[str]:
    """Return the names of the series that a PromQL expression selects.

    Raises:
        ValueError: it is no PromQL.
    """
    names = set()

    def note(part: promql_parser.Expr) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            assert part.name, f"selects series of any name: {expression}"
            names.add(part.name)
        elif isinstance(part, promql_parser.MatrixSelector):
            note(part.vector_selector)

    promql_parser.walk(promql_parser.parse(expression), note)
    return names
