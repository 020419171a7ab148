"""What Dagster loads: ``defs``, and nothing else."""

from perf_assets.defs.build import build_defs

defs = build_defs()
