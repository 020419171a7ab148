"""What is compared, and what has to be alike for it: metrics, the columns of a configuration, and one query that reads
both. No test and no verdict stands here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A measured column, and which way of it is good."""

    name: str
    unit: str
    lower_is_better: bool
    is_speed: bool = False

    def verdict(self, ratio: float) -> str:
        """The word for a second group whose values are ``ratio`` times the first's."""
        good = (ratio < 1) == self.lower_is_better
        if self.is_speed:
            return "faster" if good else "slower"
        return "better" if good else "worse"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("latency_ms", "ms", lower_is_better=True, is_speed=True),
        Metric("p50_ms", "ms", lower_is_better=True, is_speed=True),
        Metric("p99_ms", "ms", lower_is_better=True, is_speed=True),
        Metric("ttft_p50_ms", "ms", lower_is_better=True, is_speed=True),
        Metric("itl_p50_ms", "ms", lower_is_better=True, is_speed=True),
        Metric("throughput_per_s", "1/s", lower_is_better=False, is_speed=True),
        Metric("duration_s", "s", lower_is_better=True, is_speed=True),
        Metric("energy_j", "J", lower_is_better=True),
        Metric("memory_allocated_mib", "MiB", lower_is_better=True),
        Metric("memory_used_mib", "MiB", lower_is_better=True),
        Metric("accuracy_pct", "%", lower_is_better=False),
        Metric("mean_power_w", "W", lower_is_better=True),
    )
}
"""By name. Of ``mean_power_w`` less is called better, though the faster of two often draws more: it is compared only
where it is asked for."""

ON_DEMAND = frozenset({"mean_power_w"})

ENVIRONMENT = (
    "host",
    "device",
    "driver_version",
    "framework",
    "framework_version",
    "runtime_version",
    "dataset",
    "input_size",
)
"""Where groups differ in one of these, an answer says so first."""

OTHER_WORK = frozenset({"workload", "stage", "dataset", "input_size", "latency_statistic", "energy_basis"})
"""Groups that have no value of these in common did different work, or measured something else."""

CONFIGURATION = (
    "tool",
    "workload",
    "stage",
    "model",
    "dataset",
    "host",
    "device",
    "device_count",
    "world_size",
    "batch_size",
    "input_size",
    "num_workers",
    "algorithm",
    "pruning_method",
    "pruning_ratio",
    "precision",
    "epochs",
    "latency_statistic",
    "energy_basis",
    "mode",
    "level",
    "model_instances",
)
"""Runs that are alike in all of these are of one configuration."""

VERSIONS = ("git_revision", "framework", "framework_version", "driver_version", "runtime_version")

# A load test counts with each of its stable levels, everything else as one row. How long it took tells something only
# of what has no time of its own.
MEASURED = """
WITH files AS (SELECT file_id, min(path) AS path FROM source_files WHERE status = 'ingested' GROUP BY file_id),
runs AS (
    SELECT r.*, files.path
    FROM cleaned_runs AS r JOIN files USING (file_id)
    WHERE r.status IN ('ok', 'unknown') AND r.parent_run_id IS NULL
),
levels AS (
    SELECT l.run_id, l.mode, l.level, l.model_instances, l.throughput_per_s, l.avg_us / 1000 AS latency_ms,
        l.p50_us / 1000 AS p50_ms, l.p99_us / 1000 AS p99_ms, l.ttft_p50_us / 1000 AS ttft_p50_ms,
        l.itl_p50_us / 1000 AS itl_p50_ms
    FROM cleaned_load_levels AS l
    WHERE l.stable IS DISTINCT FROM false
)
SELECT runs.* EXCLUDE (latency_ms, throughput_per_s, latency_statistic, duration_s), 'mean' AS latency_statistic,
    levels.* EXCLUDE (run_id), NULL::DOUBLE AS duration_s
FROM runs JOIN levels USING (run_id)
UNION ALL BY NAME
SELECT runs.* EXCLUDE (duration_s),
    CASE WHEN latency_ms IS NULL AND throughput_per_s IS NULL THEN duration_s END AS duration_s
FROM runs WHERE run_id NOT IN (SELECT run_id FROM levels)
"""
