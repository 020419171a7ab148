"""Tests of the causal graphs; what they share: made-up runs whose causes are known."""

import numpy as np
import pandas as pd

TIERS = {
    "configuration": ("host", "model", "batch_size", "num_workers"),
    "resources": ("memory_used_mib",),
    "performance": ("latency_ms",),
    "outcome": ("accuracy_pct", "oom", "failed"),
}


def made_up_runs(n: int = 1500, seed: int = 0) -> pd.DataFrame:
    """Runs in which host, model and batch decide memory, latency and death; loader workers decide nothing."""
    rng = np.random.default_rng(seed)
    host = rng.choice(["laptop", "server"], n, p=[0.6, 0.4])
    model = rng.choice(["small", "large", "wide"], n)
    batch = rng.choice([4, 16, 64], n)
    size = pd.Series(model).map({"small": 0.0, "large": 1.0, "wide": 1.6}).to_numpy()
    memory = np.exp(5 + size + 0.5 * np.log(batch) + rng.normal(0, 0.25, n))
    latency = np.exp(1 + 0.8 * np.log(memory / 100) - 1.2 * (host == "server") + rng.normal(0, 0.2, n))
    died = np.log(memory) + 0.8 * (host == "laptop") + rng.normal(0, 0.2, n) > 8.6
    return pd.DataFrame(
        {
            "run_id": [f"run{i}" for i in range(n)],
            "tool": "pruning_profiler",
            "status": np.where(died, "oom", "ok"),
            "host": host,
            "model": model,
            "batch_size": batch,
            "num_workers": rng.choice([1, 2, 4, 8], n),
            "memory_used_mib": memory,
            "latency_ms": latency,
            "accuracy_pct": np.where(died, np.nan, 70 - 5 * size + rng.normal(0, 2, n)),
        }
    )
