"""Sets of networks as table rows: what pruning made of them, and their analytic features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from perf_assets.measuring.networks import pruning, tracing, zoo
from perf_assets.measuring.networks.names import pruned_model_name

# The batch at which the training memory of a network is estimated; memory is close to linear in it.
ESTIMATE_BATCH = 8


def prune_set(
    folder: Path,
    networks: Iterable[str],
    methods: Iterable[str],
    ratios: Iterable[float],
    seed: int = 0,
    on_done: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    """Prune every network by every method at every ratio, unless the folder holds it already.

    Args:
        folder: each pruned model becomes a directory in it, named as ``pruning.create`` names it.
        networks, methods, ratios: see :mod:`perf_assets.measuring.networks.zoo` and
            :mod:`perf_assets.measuring.networks.pruning`.
        seed: of random weights and random importance.
        on_done: told each row when it is known.

    Returns:
        Rows of the table ``pruned_models`` for all directories in the folder, unsupported ones included.
    """
    methods, ratios = list(methods), list(ratios)
    for base in networks:
        for method in methods:
            for ratio in ratios:
                target = folder / pruned_model_name(base, method, ratio, seed)
                if not (target / "spec.json").exists():
                    on_done(_pruned_row(pruning.create(target, base, method, ratio, seed=seed), target))
    return pruned_rows(folder)


def pruned_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of the table ``pruned_models`` for all directories in a folder."""
    return [
        _pruned_row(pruning.read_spec(path.parent), path.parent)
        for path in sorted(folder.glob("*/spec.json"))
    ]


def _pruned_row(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    params, base_params = spec.get("params"), spec.get("base_params")
    return {
        "name": spec["name"],
        "model": spec["base"],
        "pruning_method": spec["method"],
        "pruning_ratio": spec["ratio"],
        "seed": spec["seed"],
        "status": spec["status"],
        "reason": spec.get("reason"),
        "architecture_key": spec.get("architecture_key"),
        "input_size": spec.get("input_size"),
        "params": params,
        "params_kept_pct": 100 * params / base_params if params and base_params else None,
        "macs": spec.get("macs"),
        "weight_bytes": spec.get("bytes"),
        "sparsity_pct": None if spec.get("sparsity") is None else 100 * spec["sparsity"],
        "folder": str(folder),
    }


def feature_rows(
    networks: Iterable[str], pruned: Iterable[dict[str, Any]], stages: Iterable[str], cache: Path
) -> list[dict[str, Any]]:
    """Rows of the table ``network_features``: each zoo network and each pruned model in each stage.

    Args:
        networks: names in the zoo.
        pruned: rows of ``pruned_models``; only those with status ``ok`` are looked at.
        stages: ``inference`` and ``training``.
        cache: folder that keeps what was computed, by realised architecture.
    """
    stages = list(stages)
    rows = []
    for name in networks:
        model = zoo.build(name, device="meta")
        rows += [_feature_row(model, name, None, stage, cache) for stage in stages]
    for row in pruned:
        if row["status"] == "ok":
            model = pruning.rebuild(pruning.read_spec(row["folder"]))
            rows += [_feature_row(model, row["model"], row["name"], stage, cache) for stage in stages]
    return rows


def _feature_row(model, network: str, pruned_model: str | None, stage: str, cache: Path) -> dict[str, Any]:
    channels, size = zoo.input_shape(network)
    found = tracing.network_features(model, size, channels, training=stage == "training", cache=cache)
    numbers = found["features"]
    estimate = tracing.estimate_peak_memory(model, ESTIMATE_BATCH, size, channels, stage=stage, cache=cache)
    return {
        "network": network,
        "pruned_model": pruned_model,
        "architecture_key": found["architecture_key"],
        "stage": stage,
        "input_size": size,
        "layers": len(found["layers"]),
        "params": int(numbers["params"]),
        "macs": int(numbers["macs"]),
        "activation_bytes": int(numbers["activation_bytes"]),
        "gradient_bytes": int(numbers["gradient_bytes"]),
        "estimated_batch_size": ESTIMATE_BATCH,
        "estimated_peak_mib": estimate["peak_mib"],
        "features": sorted((name, float(value)) for name, value in numbers.items()),
    }
