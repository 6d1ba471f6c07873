"""Benchmarks: what mpcc is timed on, and how."""
