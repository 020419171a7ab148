"""What ai3's two kinds of CSV share: the key of a profile, and the device that only names may tell."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from perf_assets.intake.parsing.cells import integer

# Version 1 wrote the framework's word for a GPU where a product name is wanted.
NO_PRODUCT = frozenset({"", "cuda", "gpu"})


def profile_of(row: dict[str, str], path: PurePosixPath) -> dict[str, Any]:
    """Columns of ``cleaned_runs`` that name a profile: model, algorithm, device, batch size.

    The device is that of the row; else what the names add to model and algorithm:
    ``vgg16_gemm_overall_h100.csv``, or the folder ``vgg16_gemm_h100``. ``config["from_path"]`` says so.

    Raises:
        ValueError: a cell that is needed is missing or malformed.
    """
    model, algorithm = row.get("model", ""), row.get("algorithm", "")
    if not model or not algorithm or len(model) > 200 or len(algorithm) > 200:
        raise ValueError("no model or no algorithm")
    batch_size = integer(row.get("batch_size", ""))
    if batch_size is not None and batch_size < 1:
        raise ValueError("a batch of no images")
    device: str | None = row.get("device", "").lower()
    from_path = None
    if device in NO_PRODUCT:
        device = _device_of_path(model, algorithm, path)
        from_path = ["device"] if device else None
    return {
        "tool": "ai3",
        "workload": "inference",
        "name": f"{model} {algorithm}",
        "model": model,
        "algorithm": algorithm,
        "device_raw": device,
        "batch_size": batch_size,
        "stage": "inference",
        "config": {"sweep_stage": _sweep_stage(path), "from_path": from_path},
    }


def without_unmeasured(row: dict[str, str]) -> dict[str, str]:
    """The row with power and energy emptied where it says that no sample was taken: the tool then prints
    0."""
    if row.get("energy_attribution") != "none" and row.get("power_samples", "").strip() not in ("0", "0.0"):
        return row
    return {name: "" if name.startswith(("power_", "energy_")) else cell for name, cell in row.items()}


def _device_of_path(model: str, algorithm: str, path: PurePosixPath) -> str | None:
    start = f"{model}_{algorithm}".replace(" ", "_").lower() + "_"
    file_name = path.name.lower().removesuffix(".gz").removesuffix(".csv")
    for name in (file_name, *(part.lower() for part in reversed(path.parts[:-1]))):
        if not name.startswith(start):
            continue
        words = [word for word in name.removeprefix(start).split("_") if word not in ("overall", "layers")]
        if len(words) == 1 and words[0] not in NO_PRODUCT:
            return words[0]
    return None


def _sweep_stage(path: PurePosixPath) -> str | None:
    """sanity, quick or full, where a folder is called so (``1_sanity``)."""
    for part in reversed(path.parts[:-1]):
        word = part.lower().lstrip("0123456789_-")
        if word in ("sanity", "quick", "full"):
            return word
    return None
