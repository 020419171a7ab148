"""A small world whose costs are known: three made-up networks at five pruning levels, on the TX2 or other
devices."""

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.shapes import NetworkTables
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


def true_costs(
    layers: list[dict], batch: np.ndarray, mac_ms: float, mib_ms: float
) -> tuple[np.ndarray, np.ndarray]:
    """Memory in MiB and time in ms of a training step in this world, counted by hand, shape (n,) each.

    Every layer's output is kept, and once more as its gradient; parameters are there three times. Each layer
    reads its input and writes its output, a convolution multiplies and takes half a millisecond to start.
    """
    kept, params, macs, moved = 0.0, 0.0, 0.0, 0.0
    for layer in layers:
        read = layer["in_channels"] * layer["in_hw"] ** 2
        written = layer["out_channels"] * layer["out_hw"] ** 2
        kept += written
        params += layer["params"]
        moved += read + written
        if layer["kind"] == "conv":
            macs += written * layer["in_channels"] * layer["kernel_size"] ** 2
    convolutions = sum(layer["kind"] == "conv" for layer in layers)
    memory_mib = 200 + (2 * batch * kept + 3 * params) * 4 / 2**20
    return (
        memory_mib,
        5 + mac_ms * batch * macs / 1e9 + mib_ms * batch * moved * 4 / 2**20 + 0.5 * convolutions,
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
    random, rows = np.random.default_rng(seed), []
    for name in NETWORKS:
        for level in LEVELS_PCT:
            layers, batch = layer_rows(name, level), np.array(BATCHES, dtype=float)
            used, latency = true_costs(layers, batch, mac_ms, mib_ms)
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
