"""From events and snapshots to Prometheus. Offers nothing yet."""

from __future__ import annotations

if not __name__.startswith("orchestree."):
    raise ImportError(f"{__name__!r} is a folder of Orchestree's checkout: import 'orchestree.{__name__}' instead")
