"""Restart policy as values and pure functions: restart types, strategies, window, backoff; also errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not __name__.startswith("orchestree."):
    raise ImportError(f"{__name__!r} is a folder of Orchestree's checkout: import 'orchestree.{__name__}' instead")

if TYPE_CHECKING:
    from .backoff import Backoff as Backoff
    from .restart import AutoShutdown as AutoShutdown, Restart as Restart, Strategy as Strategy
    from .rules import Rule as Rule
    from .window import RestartWindow as RestartWindow
else:
    from orchestree import lazy

    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            ".backoff": "Backoff",
            ".restart": "AutoShutdown Restart Strategy",
            ".rules": "Rule",
            ".window": "RestartWindow",
        },
    )
