"""Metrics: pure functions, one idea a file."""
