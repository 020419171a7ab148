"""Device-performance logs of neural networks as Dagster assets and DuckDB tables.

Import concrete submodules; this package re-exports nothing, so importing it costs nothing.
"""
