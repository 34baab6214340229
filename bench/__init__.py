"""Measure the daemon beside nginx on one machine, in one run (§1.3; docs/performance.md)."""
