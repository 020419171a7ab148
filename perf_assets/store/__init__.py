"""Parquet parts, the published database, and the lock: the only place that opens DuckDB."""
