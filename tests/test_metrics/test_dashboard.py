"""The shipped dashboard: what a machine without Grafana can say about it."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from promql_parser import parse
from shipped_board import LABEL, board, choices, panels, questions
from shipped_rules import selected_names

from orchestree.metrics import dashboard
from orchestree.metrics.families import FAMILIES, STATES

QUERIES: Final = {f"{question.panel} {question.letter}": question.expression for question in questions()} | {
    f"variable {label}": series for label, series in choices()
}
LABELS: Final = {
    name: {*family.labels, "instance"} | ({"le"} if family.kind == "histogram" else set())
    for family in FAMILIES
    for name in ([f"{family.name}_bucket"] if family.kind == "histogram" else [family.name])
}
DRAWN: Final = [panel for panel in panels(board()) if panel["type"] != "row"]
UNKNOWN_TO_THE_SDK: Final = {"titleFormat", "textFormat", "tagKeys"}


def titles(panel: dict[str, Any]) -> str:
    return str(panel["title"])


def test_the_shipped_file_is_what_the_code_builds() -> None:
    assert dashboard.FILE.read_text() == dashboard.build(), "run: python -m orchestree.metrics.dashboard"


def test_no_field_is_misspelt() -> None:
    # What the SDK does not know it drops when it reads: what comes out again is all that went in.
    whole = board()
    for mark in whole["annotations"]["list"]:
        assert mark.keys() >= UNKNOWN_TO_THE_SDK
        for known_to_grafana_alone in UNKNOWN_TO_THE_SDK:
            del mark[known_to_grafana_alone]
    assert json.loads(json.dumps(Dashboard.from_json(whole), cls=JSONEncoder)) == whole


@pytest.mark.parametrize("name", QUERIES)
def test_each_query_is_promql_over_families_and_labels_that_exist(name: str) -> None:
    query = QUERIES[name]
    assert "$" not in query.replace("$1", "")
    assert selected_names(query) <= LABELS.keys()
    for series, matchers in re.findall(r"(\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)[=!]~?\"", matchers)) <= LABELS[series]


def test_queries_look_at_every_family_that_says_how_things_stand() -> None:
    left_out = {
        "orchestree_agent_up",  # in the states
        "orchestree_agent_ready_seconds",
        "orchestree_agent_starts_total",
        "orchestree_agent_next_restart_seconds",
    }
    seen = {name for query in QUERIES.values() for name in selected_names(query)}
    assert LABELS.keys() - seen == left_out


def test_states_are_spelt_as_the_exporter_spells_them_and_each_has_a_color() -> None:
    chosen = {state for query in QUERIES.values() for state in re.findall(r'state=~?"([^"]+)"', query)}
    assert {state for several in chosen for state in several.split("|")} <= set(STATES)
    assert dashboard.STATE_COLORS.keys() == set(STATES)


def test_names_of_series_use_labels_that_their_query_leaves() -> None:
    for question in questions():
        kept = re.search(r"\b(?:sum|max|count) by \(([^)]*)\)", question.expression)
        aggregated = re.match(r"(?:round\()?(?:sum|count)\(", question.expression)
        (series, *_) = re.findall(r"(orchestree_\w+)", question.expression)
        left = set(kept[1].split(", ")) if kept else set() if aggregated else LABELS[series]
        assert set(LABEL.findall(question.legend)) - {"cause"} <= left, question.panel


def test_what_happened_once_is_drawn_once() -> None:
    # An increase over $__rate_interval reaches back over several steps, unless the least step is long.
    drawn = [(target, panel["title"]) for panel in DRAWN for target in panel["targets"] if target.get("range")]
    counting = {title for target, title in drawn if re.search(r"increase\(.*\[\$__rate_interval\]", target["expr"])}
    assert counting == {"Ends by cause", "Crashes", "Supervisors", "Restart durations", "Losses"}
    assert {title for target, title in drawn if target.get("interval") == dashboard.STEP} == counting


def test_no_panel_lies_on_another_or_outside_the_grid() -> None:
    cells = [
        {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        for at in (panel["gridPos"] for panel in panels(board()))
    ]
    assert not any(one & other for one, other in combinations(cells, 2))
    assert max(x for taken in cells for x, _ in taken) == 23


def test_titles_and_numbers_of_panels_are_their_own() -> None:
    assert len({panel["title"] for panel in DRAWN}) == len(DRAWN)
    numbers = [panel["id"] for panel in panels(board())]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("panel", DRAWN, ids=titles)
def test_each_panel_has_a_description_a_unit_and_the_chosen_data_source(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [target["refId"] for target in panel["targets"]] == list("ABCD")[: len(panel["targets"])]


def test_no_data_source_is_built_in() -> None:
    found = re.findall(r'"type": "prometheus",\s+"uid": "([^"]*)"', dashboard.FILE.read_text())
    assert set(found) == {"${datasource}"}


def test_all_but_the_data_source_can_be_chosen_several_at_once_or_all() -> None:
    source, *others = board()["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert [variable["name"] for variable in others] == ["instance", "supervisor", "agent"]
    assert all(variable["multi"] and variable["includeAll"] and variable["allValue"] == ".*" for variable in others)


@pytest.mark.parametrize(
    ("chosen", "path", "is_below"),
    [
        (".*", "press", True),
        (".*", "", True),
        ("line-1", "line-1/press", True),
        ("line-1", "line-1/cell/press", True),
        ("line-1", "line-1", True),
        ("line-1", "line-10/press", False),
        ("line-1", "press", False),
        ("(line-1|line-2/cell)", "line-2/cell/press", True),
        ("(line-1|line-2/cell)", "line-2/press", False),
    ],
)
def test_a_supervisor_means_all_below_it(chosen: str, path: str, is_below: bool) -> None:
    patterns = set(
        re.findall(r'(?:agent|supervisor)=~"(\$\{supervisor\}[^"]*)"', dashboard.FILE.read_text().replace("\\", ""))
    )
    (pattern,) = patterns
    assert bool(re.fullmatch(pattern.replace("${supervisor}", chosen), path)) is is_below


def test_only_the_code_that_builds_the_dashboard_needs_the_library_for_it() -> None:
    folder = Path(dashboard.__file__).parent
    needing = [file.name for file in folder.rglob("*.py") if "grafana_foundation_sdk" in file.read_text()]
    assert sorted(needing) == ["dashboard.py", "panels.py"]
    loading = [
        file.name for file in folder.rglob("*.py") if re.search(r"import.*\b(dashboard|panels)\b", file.read_text())
    ]
    assert set(loading) <= {"dashboard.py", "panels.py"}


def test_a_query_that_is_no_promql_is_noticed() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        parse("sum(orchestree_agents")
