"""Measure a network on a device, with numbers that can be trusted: ``python -m
perf_assets.measuring.profiling --help``.

Needs torch and nothing of Dagster or DuckDB, so it runs on any node that can load the network.
"""
