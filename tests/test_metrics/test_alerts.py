"""The shipped alerts: promtool judges them, over series that are made up in `rules/*.yml`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from shipped_rules import rules, selected_names

from orchestree.metrics.families import FAMILIES, Family
from orchestree.metrics.shipping import shipped_files
from orchestree.strategies.errors import SpecError

SCENARIOS: Final = sorted(Path(__file__).with_name("rules").glob("*.yml"))
ALERTS: Final = [rule for rule in rules() if "alert" in rule]
RECORDED: Final = [rule for rule in rules() if "record" in rule]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what is shipped, on a machine with promtool."""
    if shutil.which("promtool") is None:
        reason = "promtool is not installed (Debian: apt-get install prometheus)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    for name, text in shipped_files(target="plant:9464").items():
        (tmp_path / name).write_text(text)
    return tmp_path


def promtool(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache  # they are long, and looked at once for each alert
def expectations(file: Path) -> list[dict[str, Any]]:
    """Return what a file of scenarios expects of alerts, one alert at one moment."""
    scenarios = yaml.safe_load(file.read_text())["tests"]
    return [expected for scenario in scenarios for expected in scenario.get("alert_rule_test", [])]


def with_runbooks(scenarios: str) -> str:
    """Return scenarios that expect the shipped runbooks, which promtool wants to see and nobody twice."""
    whole = yaml.safe_load(scenarios)
    for scenario in whole["tests"]:
        for expected in scenario.get("alert_rule_test", []):
            for alert in expected["exp_alerts"]:
                (rule,) = (rule for rule in ALERTS if is_of(alert["exp_labels"], rule, expected["alertname"]))
                alert["exp_annotations"]["runbook"] = rule["annotations"]["runbook"]
    return yaml.safe_dump(whole)


def is_of(labels: dict[str, str], rule: dict[str, Any], name: str) -> bool:
    wanted: dict[str, str] = rule["labels"]
    return bool(rule["alert"] == name) and wanted.items() <= labels.items()


def test_promtool_has_nothing_to_say_about_the_rules_and_the_configuration(folder: Path) -> None:
    lint = ("--lint=all", "--lint-fatal")
    assert f"{len(rules())} rules found" in promtool(folder, "check", "rules", *lint, "alerts.yml")
    assert "prometheus.yml is valid" in promtool(folder, "check", "config", *lint, "prometheus.yml")


def test_what_the_configuration_says_about_a_token_is_valid_too(folder: Path) -> None:
    file = folder / "prometheus.yml"
    text = file.read_text()
    (folder / "orchestree.token").write_text("secret")
    file.write_text(text.replace("# authorization:\n    #   credentials", "authorization:\n      credentials"))
    assert yaml.safe_load(file.read_text())["scrape_configs"][0]["authorization"]
    promtool(folder, "check", "config", "prometheus.yml")


@pytest.mark.slow
@pytest.mark.parametrize("scenarios", SCENARIOS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(folder: Path, scenarios: Path) -> None:
    (folder / scenarios.name).write_text(with_runbooks(scenarios.read_text()))
    assert "SUCCESS" in promtool(folder, "test", "rules", scenarios.name)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']} {rule['labels']}")
def test_each_alert_is_seen_to_fire_and_not_to_fire(rule: dict[str, Any]) -> None:
    of_it = [one for file in SCENARIOS for one in expectations(file) if one["alertname"] == rule["alert"]]
    fired = [alert["exp_labels"] for one in of_it for alert in one["exp_alerts"]]
    assert any(is_of(labels, rule, rule["alert"]) for labels in fired)
    assert any(not one["exp_alerts"] for one in of_it)


def test_rules_look_only_at_families_that_exist_and_at_what_is_recorded() -> None:
    known = {name for family in FAMILIES for name in series_of(family)} | {rule["record"] for rule in RECORDED}
    found = {name for rule in rules() for name in selected_names(rule["expr"])}
    assert found <= known | {"up"}
    assert {rule["record"] for rule in RECORDED} <= found, "recorded for nobody"


def series_of(family: Family) -> list[str]:
    if family.kind == "histogram":
        return [f"{family.name}_{part}" for part in ("bucket", "sum", "count")]
    return [family.name]


@pytest.mark.parametrize("rule", RECORDED, ids=lambda rule: rule["record"])
def test_what_is_recorded_is_named_by_level_metric_and_operation(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"(agent|supervisor|instance):orchestree_[a-z_]+:[a-z0-9_]+", rule["record"])


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']} {rule['labels']}")
def test_each_alert_says_who_how_urgent_and_what_to_do(rule: dict[str, Any]) -> None:
    texts = rule["annotations"]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert texts.keys() == {"summary", "description", "runbook"}
    assert "orchestree " in texts["description"].partition("un")[2], "nothing to run"
    for part in ("What it means: ", "What to look at: ", "What to do: "):
        assert part in texts["runbook"]
    assert "{{" not in texts["runbook"]
    assert not any("\n" in text for text in texts.values())


def test_the_address_to_scrape_is_put_into_the_configuration_and_nowhere_else() -> None:
    plain, filled = shipped_files(), shipped_files(target="[::1]:9999")
    (job,) = yaml.safe_load(filled["prometheus.yml"])["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["[::1]:9999"]}]
    assert [name for name in plain if plain[name] != filled[name]] == ["prometheus.yml"]
    assert set(plain) == {"alerts.yml", "dashboard.json", "prometheus.yml"}


@pytest.mark.parametrize("target", ["plant:9464", "10.0.0.7:1", "my_host.example:65535", "[fe80::1]:9464"])
def test_an_address_to_scrape_is_a_host_and_a_port(target: str) -> None:
    assert f'["{target}"]' in shipped_files(target=target)["prometheus.yml"]


@pytest.mark.parametrize(
    "target",
    [
        *("", "plant", "plant:", ":9464", "plant:0", "plant:65536", "plant:x", "::1:9464"),
        *("http://plant:9464", "plant:9464/metrics", 'plant"]:1', "plant:9464\n", "a b:1", "plant:٩"),
    ],
)
def test_anything_else_is_refused_and_said_to_be_wrong(target: str) -> None:
    with pytest.raises(SpecError, match=r"^target=.* must be HOST:PORT"):
        shipped_files(target=target)
