"""What was measured under power limits: one row a configuration and limit, and pairs of two limits of one
configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.configurations import BAD_QUALITY
from perf_assets.schema.device_catalog import devices

if TYPE_CHECKING:
    import duckdb

CONFIGURATION = (
    *("device", "tool", "model", "dataset", "stage", "batch_size", "input_size", "precision"),
    *("algorithm", "pruning_ratio", "settings", "energy_basis"),
)
"""What stays the same while the limit changes; ``settings`` are the run's other ones, as its tool names them."""

_QUERY = """
SELECT device, tool, model, dataset, coalesce(stage, workload) AS stage, batch_size, input_size, precision, algorithm,
       pruning_ratio, coalesce(config->>'key', config->>'optimizer') AS settings, energy_basis,
       power_limit_w AS limit_w, median(energy_j) AS energy_j,
       median(CASE WHEN energy_basis IN ('run', 'epoch') THEN duration_s ELSE latency_ms / 1000 END) AS time_s
FROM cleaned_runs
WHERE status = 'ok' AND model IS NOT NULL AND device IS NOT NULL AND power_limit_w > 0 AND energy_j > 0
  AND energy_basis IN ('run', 'epoch', 'step', 'inference') AND NOT coalesce(excluded, false)
  AND NOT coalesce(list_has_any(quality, ?), false)
GROUP BY ALL HAVING time_s > 0
ORDER BY ALL
"""


def read_points(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Measured configurations and limits.

    Returns:
        Columns :data:`CONFIGURATION`, ``configuration`` (a number that they share), ``limit_w``, ``energy_j``
        (of what energy_basis says), ``time_s`` (of the same), ``power_w`` (their ratio), ``full_w`` (what the
        device may draw: its data sheet's, or the largest limit measured on a device without one).
    """
    points = connection.execute(_QUERY, [sorted(BAD_QUALITY)]).df()
    points["configuration"] = points.groupby(list(CONFIGURATION), dropna=False, sort=False).ngroup()
    points["power_w"] = points["energy_j"] / points["time_s"]
    largest_w = points.groupby("device")["limit_w"].transform("max")
    sheets = {name: facts.tdp_w for name, facts in devices().items()}
    points["full_w"] = points["device"].map(sheets).astype(float).fillna(largest_w)
    return points


def pairs_of(points: pd.DataFrame) -> pd.DataFrame:
    """Each measured point with each other limit at which its configuration was measured.

    Returns:
        Columns ``device``, ``stage``, ``model``, ``configuration``, ``full_w``; ``limit_w``, ``power_w``, ``energy_j``,
        ``time_s`` of the point; ``other_w``, ``other_energy_j``, ``other_time_s`` at the other limit.
    """
    measured = ["limit_w", "power_w", "energy_j", "time_s"]
    own = points[["device", "stage", "model", "configuration", "full_w", *measured]]
    other = points[["configuration", "limit_w", "energy_j", "time_s"]].rename(
        columns={"limit_w": "other_w", "energy_j": "other_energy_j", "time_s": "other_time_s"}
    )
    both = own.merge(other, on="configuration")
    return both[both["other_w"] != both["limit_w"]].reset_index(drop=True)


def features_of(pairs: pd.DataFrame) -> np.ndarray:
    """Scale-free features of going from one limit to another, shape (n, 6): logarithms of both limits over what
    the device may draw, of the drawn power over that and over each limit, and of the limits' ratio.

    How near to its limit a run draws says whether the limit holds it back.
    """
    full, power, limit, other = (
        pairs[name].to_numpy(float) for name in ("full_w", "power_w", "limit_w", "other_w")
    )
    ratios = (limit / full, other / full, power / limit, power / full, power / other, other / limit)
    return np.log(np.column_stack(ratios)).astype(np.float32)
