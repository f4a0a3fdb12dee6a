"""The files for Prometheus and Grafana that the package brings along, with the address to scrape put in."""

from __future__ import annotations

import re
from importlib import resources
from typing import Final

from orchestree.strategies.errors import SpecError

SHIPPED: Final = ("alerts.yml", "dashboard.json", "prometheus.yml")

TARGET: Final = "127.0.0.1:9464"
"""What prometheus.yml scrapes as it is shipped."""

_HOST_AND_PORT: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")


def shipped_files(*, target: str = TARGET) -> dict[str, str]:
    """Return the text of each file by its name: the alerts, the dashboard and a configuration to start with.

    Args:
        target: ``HOST:PORT`` of the orchestrator's metrics, as Prometheus reaches it; an IPv6 address in brackets.

    Raises:
        SpecError: `target` is not of that form.
    """
    match = _HOST_AND_PORT.fullmatch(target)
    if match is None or not 0 < int(match[1]) < 65536:
        raise SpecError(f"target={target!r}: must be HOST:PORT, such as {TARGET}, with a port from 1 to 65535")
    folder = resources.files("orchestree.metrics") / "shipped"
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in SHIPPED}
    return texts | {"prometheus.yml": texts["prometheus.yml"].replace(TARGET, target)}
