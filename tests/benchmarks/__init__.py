"""Benchmarks: ratios measured within one run, printed, never asserted. ``python -m tests.benchmarks``."""
