"""The commands `metrics export` and `metrics show`: what Prometheus and Grafana are given."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import click

from .choosing import Choice, ControlCommand
from .exit_codes import Command, Failed
from .suggesting_group import SuggestingGroup


@click.group(cls=SuggestingGroup)
def metrics() -> None:
    """Show the metrics, or write the files for Prometheus and Grafana.

    A tree has metrics if it is given a port for them: `orchestree run TARGET --set metrics_port=9464`. `orchestree ls`
    shows where each of those that run is scraped.
    """


@metrics.command(cls=ControlCommand)
def show(choice: Choice) -> None:
    """Print what Prometheus would scrape now, as text.

    Works without a port, too, where the metrics are in a registry of the program.
    """
    sys.stdout.write(choice.client().get_text("/metrics"))


@metrics.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.option("--port", metavar="N", type=click.IntRange(1, 65535), help="Of the metrics on this machine; else 9464.")
@click.option("--target", metavar="HOST:PORT", help="Of the metrics, as Prometheus on another machine reaches them.")
@click.option("--force", is_flag=True, help="Overwrite files that have other content.")
def export(folder: str, port: int | None, target: str | None, force: bool) -> None:
    """Write alert rules, a dashboard and prometheus.yml into DIR.

    DIR is made if it is not there. Nothing is written if a file in it would be overwritten that has other content.
    """
    if port is not None and target is not None:
        raise click.UsageError("give --port or --target, not both")
    here = Path(folder)
    try:
        texts = _shipped(target or f"127.0.0.1:{port or 9464}")
        differing = [name for name, text in texts.items() if _differs(here / name, text)]
        in_the_way = [name for name in differing if os.path.lexists(here / name)]
        if in_the_way and not force:
            files = ", ".join(str(here / name) for name in in_the_way)
            raise Failed(f"{files}: there already, with other content; --force overwrites it")
        here.mkdir(parents=True, exist_ok=True)
        _write(here, {name: texts[name] for name in differing})
    except (OSError, UnicodeError) as error:
        raise Failed(f"cannot export to {folder}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from None
    _say(here, texts, differing)


def _shipped(target: str) -> Mapping[str, str]:
    from orchestree.metrics.shipping import shipped_files
    from orchestree.strategies.errors import SpecError

    try:
        return shipped_files(target=target)
    except SpecError as error:
        raise click.BadParameter(str(error), param_hint="--target") from None


def _differs(file: Path, text: str) -> bool:
    try:
        return file.read_bytes() != text.encode()
    except FileNotFoundError:
        return True


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write all files, or none: each is complete before it takes its place, and all are before the first one does."""
    from tempfile import NamedTemporaryFile

    written: dict[str, str] = {}
    try:
        for name, text in texts.items():
            with NamedTemporaryFile("w", dir=folder, prefix=f".{name}.", delete=False, encoding="utf-8") as file:
                written[file.name] = name
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
        for temporary, name in list(written.items()):
            os.replace(temporary, folder / name)
            del written[temporary]
    finally:
        for temporary in written:
            with suppress(OSError):
                os.unlink(temporary)


def _say(folder: Path, names: Iterable[str], written: Iterable[str]) -> None:
    for name in names:
        click.echo(f"{folder / name}: {'written' if name in written else 'as it was'}")
    click.echo(f"now: prometheus --config.file={folder / 'prometheus.yml'}")
    click.echo(f"and in Grafana: Dashboards, New, Import: {folder / 'dashboard.json'}")
