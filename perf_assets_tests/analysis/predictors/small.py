"""A small world whose costs are known: three made-up networks at five pruning levels, on the TX2 or other
devices."""

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.shapes import NetworkTables
from perf_assets.analysis.predictors.features.terms_device import device_terms
from perf_assets.analysis.predictors.features.terms_memory import memory_terms
from perf_assets.measuring.networks.memory.dataflow import operations
from perf_assets.schema.device_catalog import device_facts

LEVELS_PCT = (0, 30, 50, 70, 90)
BATCHES = (2, 4, 8, 16, 32, 64, 128)
NETWORKS = {"narrow": (16, 3), "wide": (48, 3), "pointwise": (64, 1)}


def layer_rows(network: str, level_pct: int) -> list[dict]:
    width, kernel = NETWORKS[network]
    width = max(2, round(width * (1 - level_pct / 100) ** 0.5))
    rows, channels, size = [], 3, 64
    for block in range(4):
        outs = width * (block + 1)
        stride = 2 if block else 1
        rows.append(
            {
                "kind": "conv",
                "in_channels": channels,
                "out_channels": outs,
                "kernel_size": kernel,
                "stride": stride,
                "padding": kernel // 2,
                "groups": 1,
                "in_hw": size,
                "out_hw": size // stride,
                "params": channels * outs * kernel**2,
            }
        )
        size //= stride
        rows.append(
            {
                "kind": "batchnorm",
                "in_channels": outs,
                "out_channels": outs,
                "in_hw": size,
                "out_hw": size,
                "params": 2 * outs,
            }
        )
        channels = outs
    rows.append(
        {
            "kind": "avgpool",
            "in_channels": channels,
            "out_channels": channels,
            "in_hw": size,
            "out_hw": 1,
            "params": 0,
        }
    )
    rows.append(
        {
            "kind": "linear",
            "in_channels": channels,
            "out_channels": 10,
            "in_hw": 1,
            "out_hw": 1,
            "params": channels * 10 + 10,
        }
    )
    return [
        dict(network=network, pruning_level_pct=float(level_pct), layer_index=i, layer=f"l{i}", **row)
        for i, row in enumerate(rows)
    ]


def tables() -> NetworkTables:
    return NetworkTables(
        pd.DataFrame([row for name in NETWORKS for level in LEVELS_PCT for row in layer_rows(name, level)])
    )


def runs(
    seed: int = 0, noise: float = 0.03, limit_mib: float = 650.0, device: str = "tx2", slowness: float = 1.0
) -> pd.DataFrame:
    """Rows as ``RUNS_QUERY`` gives them; beyond ``limit_mib`` a run is out of memory.

    A device does arithmetic and moves bytes as fast as its data sheet says it does beside the TX2, times
    ``slowness``.
    """
    facts, tx2 = device_facts(device), device_facts("tx2")
    mac_ms = 15 * slowness * tx2.peak_fp32_tflops / facts.peak_fp32_tflops
    mib_ms = 0.2 * slowness * tx2.memory_bandwidth_gbps / facts.memory_bandwidth_gbps
    random, shapes, rows = np.random.default_rng(seed), tables(), []
    for name in NETWORKS:
        for level in LEVELS_PCT:
            arrays = shapes.get(name, level / 100)
            batch = np.array(BATCHES, dtype=float)
            dataflow, params = operations(arrays), float(arrays["params"].sum())
            memory = memory_terms(dataflow, params, batch, "training", "perf4sight")
            time = device_terms(arrays, batch)
            used = 200 + memory["reserved_mib"]
            macs = sum(
                time[key]
                for key in time
                if key.startswith("macs") and "tiles" not in key and "wino" not in key
            )
            moved = sum(time[key] for key in time if key.startswith("traffic"))
            latency = 5 + mac_ms * macs + mib_ms * moved + 0.5 * time["launches"]
            for i, size in enumerate(BATCHES):
                fits = used[i] < limit_mib
                factor = np.exp(random.normal(0, noise, 2))
                rows.append(
                    {
                        "tool": "perf4sight",
                        "model": name,
                        "pruning_ratio": level / 100,
                        "device": device,
                        "stage": "training",
                        "algorithm": None,
                        "batch_size": size,
                        "input_size": None,
                        "status": "ok" if fits else "oom",
                        "latency_ms": latency[i] * factor[0] if fits else np.nan,
                        "memory_used_mib": used[i] * factor[1] if fits else np.nan,
                        "memory_allocated_mib": np.nan,
                        "memory_reserved_mib": np.nan,
                        "energy_j": np.nan,
                        "quality": [],
                        "path": f"{name}_{level}.csv",
                        "run_id": f"{name}{level}-{size}",
                    }
                )
    return pd.DataFrame(rows)
