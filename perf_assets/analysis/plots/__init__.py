"""Figures: a data frame in, a matplotlib Figure out. No files, no database, no Dagster."""
