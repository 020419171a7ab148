"""Logs of this project's own profiler: one JSON object a line, ``header`` first, ``result`` last.

A log without a result is a run that died: it reads as ``incomplete``, with all that was measured before.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.own_log import (
    LARGEST,
    OwnRun,
    add_counters,
    check_counter,
    facts,
    is_header,
    moment,
    moment_after,
    number,
    object_in,
    own_runs,
    text,
    texts,
    whole_number,
)
from perf_assets.intake.parsing.records import Records
from perf_assets.intake.parsing.source import Head, Source

VERSION = 4
SIGNS = (
    ('"format": "',),
    ('"line": "header"',),
)

_FORMAT = "perf_assets_profile"
_KINDS = frozenset(
    [
        "header",
        "model",
        "algorithm",
        "outputs",
        "kernels",
        "warmup",
        "sample",
        "latency",
        "phase",
        "layer",
        "layers",
        "memory",
        "power",
        "energy",
        "counter",
        "accuracy",
        "result",
    ]
)
# What the profiler calls an outcome, and the status that says the same of any tool's run.
_STATUSES = {
    "ok": "ok",
    "oom": "oom",
    "predicted_oom": "missing",
    "unsupported": "failed",
    "failed": "failed",
}
_LAYER_TEXTS = ("layer", "kind")
_LAYER_COUNTS = ("layer_index", "in_channels", "out_channels", "kernel_size", "stride", "padding")
_LAYER_NUMBERS = ("mean_ms", "std_ms", "min_ms", "max_ms", "median_ms", "share_pct", "energy_j")
_SAMPLE_TEXTS = frozenset({"line", "cache", "at_s"})


def sniff(head: Head) -> bool:
    """A first line that is this log's header."""
    return is_header(head, _FORMAT)


def parse(source: Source, out: Records) -> None:
    """One run a header, with its layers, timed blocks (``cleaned_samples``) and counters."""
    for run in own_runs(source, out, _KINDS, _check):
        _write(run, source.path, out)


def _check(kind: str, row: dict[str, Any]) -> None:
    """Are the values that become columns of the right kind?"""
    number(row, "at_s")
    if kind == "header":
        moment(row, "started_at")
        for name in ("spec", "host", "device", "environment"):
            object_in(row, name)
        if "settings" in row:
            object_in(row, "settings")
        for name in ("batch_size", "input_size", "loader_workers"):
            whole_number(row["spec"], name)
        for name in (
            "network",
            "stage",
            "algorithm",
            "pruning_method",
            "precision",
            "device",
            "device_label",
            "runtime",
            "image_folder",
        ):
            text(row["spec"], name)
        for name in ("git_revision", "torch", "cuda", "onnxruntime"):
            text(row["environment"], name)
        number(row["spec"], "pruning_ratio")
        text(row["host"], "hostname")
        text(row["device"], "name")
        text(row["device"], "driver_version")
    elif kind == "layer":
        for name in _LAYER_TEXTS:
            text(row, name)
        for name in _LAYER_COUNTS:
            whole_number(row, name)
        for name in _LAYER_NUMBERS:
            number(row, name)
    elif kind == "counter":
        check_counter(row)
    elif kind in ("phase", "latency"):
        text(row, "phase")
        number(row, "latency_ms")
    elif kind == "model":
        whole_number(row, "input_size")
    elif kind == "result":
        for name in ("status", "verdict", "reason"):
            text(row, name)
        for name in _RESULT_NUMBERS:
            number(row, name)


_RESULT_NUMBERS = {
    "duration_s": "duration_s",
    "latency_ms": "latency_ms",
    "latency_std_ms": "latency_std_ms",
    "throughput_per_s": "throughput_per_s",
    "memory_allocated_mib": "memory_allocated_mib",
    "memory_reserved_mib": "memory_reserved_mib",
    "memory_used_mib": "memory_used_mib",
    "process_rss_mib": "process_rss_mib",
    "mean_power_w": "mean_power_w",
    "energy_j": "energy_j",
    "accuracy_pct": "accuracy_pct",
}
"""Numbers of the result line that have a column of their own in ``cleaned_runs``."""


_PRECISIONS = {
    "float32": "fp32",
    "float32_strict": "fp32_strict",
    "float16": "fp16",
    "bfloat16": "bf16",
    "autocast": "amp",
}


def _precision(header: dict[str, Any]) -> str | None:
    asked = header["spec"].get("precision")
    # Before settings were written down, TF32 was kept out of every run on a GPU.
    if asked == "float32" and "settings" not in header and header["device"].get("type") == "cuda":
        asked = "float32_strict"
    return _PRECISIONS.get(asked, asked)


def _write(run: OwnRun, path: PurePosixPath, out: Records) -> None:
    spec, host, device, environment = (run.header[part] for part in ("spec", "host", "device", "environment"))
    result, started_at = run.last("result"), moment(run.header, "started_at")
    outcome = result.get("status")
    verdict = result.get("verdict")
    flags = [verdict] if verdict and verdict != "stable" else []
    for kind in ("energy", "latency", "outputs", "kernels", "layers"):
        flags += texts(run.last(kind), "quality")
    images = spec.get("image_folder")
    runtime = spec.get("runtime") or "torch"
    framework = runtime if environment.get("torch") else None
    if runtime != "torch":
        flags.append("exported")
    known = {"status", *_RESULT_NUMBERS, "line", "at_s"}
    run_id = out.run(
        tool="perf_assets",
        workload=spec.get("stage"),
        name=path.name.removesuffix(".gz").removesuffix(".jsonl"),
        status="incomplete" if outcome is None else _STATUSES.get(outcome, "unknown"),
        model=spec.get("network"),
        host=host.get("hostname"),
        # What torch ran on comes first: a label is only what somebody called the place.
        device_raw=device.get("name") or spec.get("device_label") or spec.get("device"),
        device_count=1,
        # Of a run that reads images; all others have their inputs lie ready on the device.
        dataset=PurePosixPath(images).name if images else None,
        num_workers=spec.get("loader_workers") if images else None,
        batch_size=spec.get("batch_size"),
        input_size=run.last("model").get("input_size") or spec.get("input_size"),
        stage=spec.get("stage"),
        algorithm=spec.get("algorithm"),
        pruning_method=spec.get("pruning_method"),
        pruning_ratio=spec.get("pruning_ratio"),
        precision=_precision(run.header),
        git_revision=environment.get("git_revision"),
        framework=framework,
        # TorchScript is a part of torch.
        framework_version=environment.get("onnxruntime" if framework == "onnxruntime" else "torch"),
        driver_version=device.get("driver_version"),
        # What torch was built for says nothing of a run on the processor.
        runtime_version=environment.get("cuda") if device.get("type") == "cuda" else None,
        started_at=started_at,
        quality=set(flags),
        config={
            "key": run.header.get("key"),
            "outcome": outcome,
            "spec": spec,
            "environment": environment,
            "host": host,
            "device": device,
            "engine": run.header.get("engine"),
            "settings": facts(run.header.get("settings") or {}) or None,
            "model": facts(run.last("model")),
            "algorithm": facts(run.last("algorithm")),
            "warmup": facts(run.last("warmup")),
            "energy": facts(run.last("energy")),
            "accuracy": facts(run.last("accuracy")) or None,
            "result": {name: value for name, value in result.items() if name not in known} or None,
        },
        latency_statistic="median" if result.get("latency_ms") is not None else None,
        energy_basis="step" if result.get("energy_j") is not None else None,
        **{column: result.get(name) for name, column in _RESULT_NUMBERS.items()},
    )
    add_counters(out, run_id, run.all("counter"))
    for kind, _, row in run.rows:
        if kind == "layer":
            names = (*_LAYER_TEXTS, *_LAYER_COUNTS, *_LAYER_NUMBERS)
            out.add(
                "cleaned_layers",
                run_id=run_id,
                input_size=spec.get("input_size"),
                **{name: row.get(name) for name in names},
            )
        elif kind == "sample":
            metrics = {
                name: float(value)
                for name, value in row.items()
                if name not in _SAMPLE_TEXTS and isinstance(value, int | float) and abs(value) < LARGEST
            }
            out.add(
                "cleaned_samples",
                run_id=run_id,
                sampled_at=moment_after(started_at, row.get("at_s")),
                metrics=list(metrics.items()),
            )
        elif kind == "phase":
            out.add(
                "cleaned_counters",
                run_id=run_id,
                source="perf_assets",
                scope=row.get("phase"),
                counter="latency_ms",
                value=row.get("latency_ms"),
                unit="ms",
            )
