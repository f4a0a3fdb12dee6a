"""The commands of the group `metrics`: what a running tree would be scraped for, and the files for Prometheus."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from orchestree_testing.controlled import controlled

from orchestree.metrics.shipping import shipped_files
from orchestree.supervisor.control.command_line.all_commands import orchestree

TREE = """
farm = tree(metrics_port=0)
farm.register_agent(Idle, "site")
serve(farm)
"""
WITHOUT = """
farm = tree()
serve(farm)
"""


def export(*arguments: str, expect: int = 0) -> Result:
    done = CliRunner().invoke(orchestree, ["metrics", "export", *arguments], prog_name="orchestree")
    assert done.exit_code == expect, (done.stdout, done.stderr, done.exception)
    return done


def found_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.mark.slow
def test_show_prints_what_prometheus_would_scrape(tmp_path: Path) -> None:
    with controlled(tmp_path, TREE) as farm:
        text = farm.cli("metrics", "show").stdout
        assert 'orchestree_agent_up{agent="site"} 1.0\n' in text
        assert text.startswith("# HELP orchestree_agent_state ")


@pytest.mark.slow
def test_ls_says_where_the_metrics_are_served(tmp_path: Path) -> None:
    with controlled(tmp_path, TREE) as farm:
        (found,) = farm.json("ls")
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9][0-9]+/metrics", found["metrics"])
        heads, line = farm.cli("ls").stdout.splitlines()
        assert line.split()[heads.split().index("METRICS")] == found["metrics"]


@pytest.mark.slow
def test_show_says_how_to_switch_metrics_on(tmp_path: Path) -> None:
    with controlled(tmp_path, WITHOUT) as farm:
        said = farm.cli("metrics", "show", expect=1).stderr
        assert said == "Error: metrics are off: set metrics_port, or give the Orchestrator a registry\n"
        assert "no such command" in farm.cli("metrics", "shwo", expect=2).stderr.lower()


def test_export_writes_the_files_and_says_what_comes_next(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "monitoring"
    said = export(str(folder)).stdout
    assert found_in(folder) == shipped_files()
    assert [line.split(": ")[1] for line in said.splitlines()[:-2]] == ["written"] * 3
    assert f"prometheus --config.file={folder / 'prometheus.yml'}" in said
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


@pytest.mark.parametrize(
    ("options", "target"), [(["--port", "9999"], "127.0.0.1:9999"), (["--target", "box:9464"], "box:9464")]
)
def test_export_puts_the_address_to_scrape_in(tmp_path: Path, options: list[str], target: str) -> None:
    export(str(tmp_path), *options)
    assert target in (tmp_path / "prometheus.yml").read_text()
    assert found_in(tmp_path) == shipped_files(target=target)


def test_export_overwrites_nothing_that_differs_unless_told_to(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text("mine: 1\n")
    said = export(str(tmp_path), expect=1).stderr
    assert f"{tmp_path / 'prometheus.yml'}: there already, with other content; --force overwrites it" in said
    assert found_in(tmp_path) == {"prometheus.yml": "mine: 1\n"}
    export(str(tmp_path), "--force")
    assert found_in(tmp_path) == shipped_files()


def test_export_again_leaves_the_same_files_as_they_were(tmp_path: Path) -> None:
    export(str(tmp_path))
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert "as it was" in export(str(tmp_path)).stdout
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before


def test_export_writes_all_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, mode: int) -> None:
        if len(list(tmp_path.iterdir())) == 3:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fchmod", full)
    said = export(str(tmp_path), expect=1).stderr
    assert said == f"Error: cannot export to {tmp_path}: no space left on device\n"
    assert found_in(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "0"], "--port"),
        (["--port", "70000"], "--port"),
        (["--target", "box"], "must be HOST:PORT"),
        (["--target", "a b:1"], "must be HOST:PORT"),
        (["--target", "box:1", "--port", "1"], "not both"),
    ],
)
def test_export_refuses_addresses_that_are_none(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in export(str(tmp_path), *arguments, expect=2).stderr
    assert found_in(tmp_path) == {}


def test_export_to_what_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in export(str(tmp_path / "file"), expect=2).stderr
    assert "cannot export to" in export(str(tmp_path / "file" / "in"), expect=1).stderr
