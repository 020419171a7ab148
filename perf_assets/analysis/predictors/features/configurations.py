"""Measured configurations, as the published tables hold them: queries, keys, and one row a configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

RUNS_QUERY = """
SELECT tool, model, coalesce(pruning_ratio, 0) AS pruning_ratio, device, coalesce(stage, workload) AS stage,
       CASE tool WHEN 'timm' THEN concat_ws(' ', precision, json_extract_string(config, '$.layout'),
                                            json_extract_string(config, '$.compiler')) ELSE algorithm END AS algorithm,
       batch_size, input_size, cleaned_runs.status,
       latency_ms, memory_used_mib, memory_allocated_mib, memory_reserved_mib, energy_j, quality,
       path, run_id
FROM cleaned_runs JOIN source_files USING (file_id)
WHERE tool IN ('perf4sight', 'ai3', 'perf_assets', 'timm') AND workload IN ('training', 'inference')
  AND cleaned_runs.status IN ('ok', 'oom') AND model IS NOT NULL AND device IS NOT NULL AND batch_size >= 1
  AND coalesce(json_extract_string(config, '$.measures'), '') <> 'layers'
  AND NOT coalesce(excluded, false) AND (tool = 'timm' OR coalesce(precision, 'fp32') = 'fp32')
ORDER BY run_id
"""
"""Measured runs of networks in 32 bits: the frame that :func:`measured` takes. What of timm's tables is the same
as an algorithm elsewhere is precision, layout and compiler."""

TOTALS_QUERY = """
SELECT model, input_size, max(value) FILTER (counter = 'gmacs') AS gmacs,
       max(value) FILTER (counter = 'macts') AS activations_m, max(value) FILTER (counter = 'param_count') AS params_m
FROM cleaned_counters JOIN cleaned_runs USING (run_id) WHERE source = 'timm' GROUP BY ALL
HAVING gmacs > 0 AND activations_m > 0 AND params_m > 0 ORDER BY ALL
"""
"""Networks of which totals alone are known."""

LAYER_TABLES_QUERY = """
SELECT DISTINCT ON (network, pruning_level_pct, layer_index) * EXCLUDE (file_id)
FROM cleaned_layer_tables
ORDER BY network, pruning_level_pct, layer_index, file_id
"""
"""Layer tables of networks whose shapes were dropped."""

LAYERS_QUERY = """
SELECT r.tool, r.model, r.device, r.algorithm, r.batch_size, r.input_size, l.layer, l.layer_index, l.in_channels,
       l.out_channels, l.kernel_size, l.stride, l.padding, l.in_hw, l.mean_ms AS latency_ms, [f.path] AS files
FROM cleaned_layers AS l JOIN cleaned_runs AS r USING (run_id) JOIN source_files AS f ON f.file_id = l.file_id
WHERE (r.tool = 'ai3' AND r.input_size IS NOT NULL OR r.tool = 'neusight' AND l.in_hw IS NOT NULL)
  AND r.status = 'ok' AND coalesce(r.batch_size, 1) >= 1 AND l.kind = 'conv'
  AND l.mean_ms > 0 AND NOT coalesce(r.excluded, false)
ORDER BY r.run_id, l.layer_index
"""
"""Timed convolutions: inside profiled networks, or by themselves."""

KEYS = ("tool", "model", "pruning_ratio", "device", "stage", "algorithm", "batch_size", "input_size")
"""What names a configuration."""

MEASURES = {
    "latency": ("latency_ms", "ms"),
    "memory": ("memory_used_mib", "MiB"),
    "memory_allocated": ("memory_allocated_mib", "MiB"),
    "memory_reserved": ("memory_reserved_mib", "MiB"),
    "energy": ("energy_j", "J"),
}
"""Target → column of ``cleaned_runs`` and unit."""

LAYER_LATENCY = "layer_latency"
"""The target of single convolutions: their latency."""


def measure_of(target: str) -> tuple[str, str]:
    """Column and unit of a target's measured values."""
    return MEASURES["latency" if target == LAYER_LATENCY else target]


BAD_QUALITY = frozenset(
    {
        "swap_thrashing",
        "running_sums",
        "contended",
        "throttled",
        "unstable",
        "host_bound",
        "algorithm_substituted",
        "outputs_not_finite",
        "exported",
    }
)
"""Flags of runs that nothing is learnt from; they stay in the tables."""


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """Measured runs as one row a configuration: repeated measurements become their median, flagged ones none.

    Args:
        runs: rows of :data:`RUNS_QUERY`.

    Returns:
        Columns :data:`KEYS`, ``latency_ms`` … ``energy_j`` (NaN where not measured), ``oom`` (1.0 where the
        configuration ran out of memory, 0.0 where it fitted) and ``files`` (where it was measured).
    """
    runs = runs.copy()
    runs["algorithm"] = runs["algorithm"].astype(object).where(runs["algorithm"].notna(), "")
    runs["input_size"] = runs["input_size"].astype("Float64").fillna(0).astype(int)
    runs["batch_size"] = runs["batch_size"].astype(int)
    runs["pruning_ratio"] = runs["pruning_ratio"].astype(float).round(6)
    columns = [column for column, _ in MEASURES.values()]
    bad = np.array([not BAD_QUALITY.isdisjoint(_flags(flags)) for flags in runs["quality"]], dtype=bool)
    failed = (runs["status"] == "oom").to_numpy()
    for column in columns:
        values = runs[column].astype(float)
        # Nothing costs 0 or less: such a cell is no measurement.
        runs[column] = values.mask(bad | failed | (values <= 0).to_numpy())
    runs["oom"] = failed.astype(float)
    groups = runs.groupby(list(KEYS), dropna=False, sort=True)
    frame = groups[columns].median()
    frame["oom"] = (groups["oom"].mean() >= 0.5).astype(float)
    frame["files"] = groups["path"].agg(lambda paths: sorted(set(paths)))
    return frame.reset_index()


def _flags(flags: Any) -> list[str]:
    return list(flags) if isinstance(flags, (list, tuple, np.ndarray)) else []


def complete_keys(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every column of :data:`KEYS`, filled with what is usual, and a fresh index.

    Raises:
        ValueError: a batch size that is no number of 1 or more.
    """
    frame = frame.reset_index(drop=True).copy()
    bad = ~(pd.to_numeric(frame["batch_size"], errors="coerce") >= 1)
    if bad.any():
        row = int(bad.idxmax())
        raise ValueError(f"batch_size of row {row} is {frame['batch_size'][row]}: it must be 1 or more")
    usual = {
        "tool": "",
        "pruning_ratio": 0.0,
        "device": "",
        "stage": "training",
        "algorithm": "",
        "input_size": 0,
    }
    for name, value in usual.items():
        if name not in frame:
            frame[name] = value
        frame[name] = frame[name].where(frame[name].notna(), value)
    frame["pruning_ratio"] = frame["pruning_ratio"].astype(float)
    frame["input_size"] = frame["input_size"].astype(int)
    return frame


FAMILY_OF_TOOL = {"ai3": "host_staged", "timm": "totals"}


def family_of(tool: str) -> str:
    """Where a tool's runs spend their time, or how little is known of them: ``device``, ``host_staged`` or
    ``totals``."""
    return FAMILY_OF_TOOL.get(tool, "device")
