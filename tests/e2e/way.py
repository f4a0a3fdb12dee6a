"""The way of one alert: from the crash to the webhook, and from the first quiet moment to the webhook again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from .servers import PATIENCE_S, Notification, until
from .station import Station

FLAPPING: Final = "OrchestreeAgentFlapping"
DRIVE: Final = "line/drive"


@dataclass(frozen=True, kw_only=True)
class Way:
    """What happened when, in seconds since the epoch.

    Attributes:
        crashed: the first crash of the agent.
        active: Prometheus found the alert's expression true.
        fired: it had been true for so long that the alert fired.
        notified: the webhook was told.
        repaired: the agent had no more reason to crash.
        ready: it was ready, and stayed so.
        resolved: the alert's expression was true no more.
        told: the webhook was told that, too.
        crashes: how many there were.
        firing: what the webhook got first.
        resolving: what it got last.
    """

    crashed: float
    active: float
    fired: float
    notified: float
    repaired: float
    ready: float
    resolved: float
    told: float
    crashes: int
    firing: Notification
    resolving: Notification

    def lines(self) -> list[str]:
        """Return one line for each step, with the seconds since the first crash."""
        steps = {
            "the drive crashes for the first time": self.crashed,
            "Prometheus: the alert is pending": self.active,
            "Prometheus: the alert fires": self.fired,
            "the webhook has it from Alertmanager": self.notified,
            f"the drive is repaired, after {self.crashes} crashes": self.repaired,
            "it is ready, and stays so": self.ready,
            "Prometheus: the alert is resolved": self.resolved,
            "the webhook has it from Alertmanager, resolved": self.told,
        }
        return [f"{at - self.crashed:7.2f} s  {what}" for what, at in steps.items()]


def follow(station: Station, alert: str = FLAPPING) -> Way:
    """Have the drive of the plant flap until the webhook knows, repair it, and wait until the webhook knows that."""
    plant, labels = station.plant, {"alertname": alert, "agent": DRIVE}
    jam = plant.sabotage("jammed")
    active = until(active_since(station, labels), f"{alert} is pending or fires")
    firing = station.webhook.first("firing", labels)
    jam.unlink()
    repaired = time.time()
    resolving = station.webhook.first("resolved", labels, 2 * PATIENCE_S)
    crashes = plant.events("agent_crashed", DRIVE)
    return Way(
        crashed=crashes[0]["time"],
        active=active,
        fired=moment(firing.body["alerts"][0]["startsAt"]),
        notified=firing.at,
        repaired=repaired,
        ready=plant.events("agent_ready", DRIVE)[-1]["time"],
        resolved=moment(resolving.body["alerts"][0]["endsAt"]),
        told=resolving.at,
        crashes=len(crashes),
        firing=firing,
        resolving=resolving,
    )


def active_since(station: Station, labels: dict[str, str]) -> Callable[[], float | None]:
    """Return a question for `until`: since when has Prometheus found this alert's expression true?"""

    def ask() -> float | None:
        alerts = station.prometheus.get("alerts")["alerts"]
        found = [one for one in alerts if labels.items() <= one["labels"].items()]
        return moment(found[0]["activeAt"]) if found else None

    return ask


def moment(text: str) -> float:
    """Return a time as Prometheus writes it (nanoseconds, UTC) in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()
