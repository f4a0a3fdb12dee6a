"""Hypothesis, or one clear error that says how to get it."""

from __future__ import annotations

try:
    from hypothesis import strategies as st
except ImportError:
    raise ImportError(
        'trees() and fault_schedules() need Hypothesis: pip install "orchestree[testing]"', name="hypothesis"
    ) from None

__all__ = ["st"]
