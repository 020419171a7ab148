"""Which columns the columns of a derived table are made of. What no entry names comes from the log itself."""

from __future__ import annotations

_CONFIGURATION = tuple(
    ("cleaned_runs", name)
    for name in ("tool", "model", "device", "stage", "algorithm", "batch_size", "input_size")
)
_MEASURED = tuple(
    ("cleaned_runs", name) for name in ("latency_ms", "throughput_per_s", "memory_used_mib", "energy_j")
)
_NETWORK = tuple(("cleaned_layer_tables", name) for name in ("layer", "kind", "macs", "params"))

LINEAGE: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {
    "run_telemetry": {
        "run_id": (("cleaned_runs", "run_id"),),
        "telemetry_file_id": (("cleaned_telemetry", "file_id"),),
        "device_id": (("cleaned_telemetry", "device_id"),),
        "overlap_s": (
            ("cleaned_runs", "started_at"),
            ("cleaned_runs", "duration_s"),
            ("cleaned_telemetry", "polled_at"),
        ),
        "energy_j": (("cleaned_telemetry", "power_w"), ("cleaned_telemetry", "polled_at")),
        "mean_power_w": (("cleaned_telemetry", "power_w"), ("cleaned_telemetry", "polled_at")),
        "mean_utilization_pct": (("cleaned_telemetry", "utilization_pct"),),
    },
    "regressions": {
        "configuration": _CONFIGURATION,
        "median": _MEASURED,
        "baseline_median": _MEASURED,
        "ratio": _MEASURED,
    },
    "predictor_scores": {
        "device": (("cleaned_runs", "device"),),
        "mape": (*_MEASURED, *_NETWORK),
        "coverage": (*_MEASURED, *_NETWORK),
    },
    "predictions": {
        "model": (("cleaned_runs", "model"), ("cleaned_layer_tables", "network")),
        "device": (("cleaned_runs", "device"),),
        "predicted": (*_MEASURED, *_NETWORK),
    },
    "causal_edges": {
        "frequency": (*_CONFIGURATION, *_MEASURED, ("cleaned_runs", "status")),
        "effect": (*_CONFIGURATION, *_MEASURED, ("cleaned_runs", "status")),
    },
}
"""Table → column → the (table, column) pairs it is made of."""
