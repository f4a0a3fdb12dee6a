"""From events and snapshots to Prometheus: the exporter and what it offers, the server, the alerts and the board."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not __name__.startswith("orchestree."):
    raise ImportError(f"{__name__!r} is a folder of Orchestree's checkout: import 'orchestree.{__name__}' instead")

if TYPE_CHECKING:
    from .exporter import Exporter as Exporter
else:
    from orchestree import lazy

    __getattr__, __dir__, __all__ = lazy(__name__, {".exporter": "Exporter"})
