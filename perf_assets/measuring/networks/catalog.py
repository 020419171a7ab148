"""Sets of networks as table rows: what pruning made of them, and their analytic features.

An own module's code runs in a process of its own: ``python -m perf_assets.measuring.networks.catalog``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from perf_assets.measuring.networks import loading, pruning, tracing
from perf_assets.measuring.networks.names import is_own, pruned_model_name
from perf_assets.measuring.networks.request import NetworkRequest

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
        networks, methods, ratios: see :mod:`perf_assets.measuring.networks.request` and
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
    """Rows of the table ``network_features``: each network and each pruned model in each stage.

    Args:
        networks: their names.
        pruned: rows of ``pruned_models``; only those with status ``ok`` are looked at.
        stages: ``inference`` and ``training``.
        cache: folder that keeps what was computed, by realised architecture.
    """
    stages = list(stages)
    rows = []
    for name in networks:
        request = NetworkRequest(network=name)
        rows += _rows_of(request, None, stages, cache)
    for row in pruned:
        if row["status"] == "ok":
            rows += _rows_of(pruning.request_of(pruning.read_spec(row["folder"])), row, stages, cache)
    return rows


def _rows_of(
    request: NetworkRequest, pruned: dict[str, Any] | None, stages: list[str], cache: Path
) -> list[dict[str, Any]]:
    if not is_own(request.network):
        return _traced_rows(request, pruned, stages, cache)
    task = {"request": request.model_dump(), "pruned": pruned, "stages": stages, "cache": str(cache)}
    child = subprocess.run(
        [sys.executable, "-P", "-m", "perf_assets.measuring.networks.catalog"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    if child.returncode:
        said = [line for line in child.stderr.splitlines() if line.strip()]
        raise ValueError(f"network {request.network}: {said[-1] if said else 'its process was killed'}")
    return [
        row | {"features": [tuple(pair) for pair in row["features"]]}
        for row in json.loads(child.stdout.splitlines()[-1])
    ]


def _traced_rows(
    request: NetworkRequest, pruned: dict[str, Any] | None, stages: list[str], cache: Path
) -> list[dict[str, Any]]:
    if pruned is None:
        model = loading.build(request, device="meta")
    else:
        model = pruning.rebuild(pruning.read_spec(pruned["folder"]))
    name = pruned["name"] if pruned else None
    return [_feature_row(model, request, name, stage, cache) for stage in stages]


def _feature_row(
    model: Any, request: NetworkRequest, pruned_model: str | None, stage: str, cache: Path
) -> dict[str, Any]:
    size, channels = loading.own_input_size(request, model), loading.in_channels(request, model)
    if channels is None or is_own(request.network):
        inputs = loading.make_inputs(request, model, tracing.TRACED_BATCH)
        batch = loading.make_inputs(request, model, ESTIMATE_BATCH)
    else:  # images of a known size: nothing is made, and what was computed is kept
        inputs = batch = None
    found = tracing.network_features(
        model, size or 0, channels or 0, training=stage == "training", cache=cache, inputs=inputs
    )
    numbers = found["features"]
    estimate = tracing.estimate_peak_memory(
        model, ESTIMATE_BATCH, size or 0, channels or 0, stage=stage, cache=cache, inputs=batch
    )
    return {
        "network": request.network,
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


if __name__ == "__main__":
    _task = json.load(sys.stdin)
    _request = NetworkRequest(**_task["request"])
    print(json.dumps(_traced_rows(_request, _task["pruned"], _task["stages"], Path(_task["cache"]))))
