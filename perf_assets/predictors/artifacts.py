"""Fitted predictors on disk: one JSON file of plain values and one npz file of plain arrays. Nothing is unpickled.

The JSON file names features and units, the snapshot of training rows, library versions and scores; it holds the
checksum of the arrays, and a checksum of its own. Loading checks all of it: a predictor that was changed, cut short
or made by an incompatible version is refused with the reason.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from perf_assets.predictors.cost_model import CostModel, model_of, state_of
from perf_assets.predictors.intervals import Conformal, Hull
from perf_assets.predictors.predictor import Fitted

FORMAT = 2
_LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn")


class ArtifactError(ValueError):
    """A predictor's files cannot be trusted or understood: the message says why."""


def save_fitted(fitted: Fitted, folder: Path, name: str, scores: list[dict[str, Any]] | None = None) -> Path:
    """Write ``<name>.json`` and ``<name>.npz``; each appears in one rename, the JSON file last.

    Returns:
        The JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values, arrays = state_of(fitted.model)
    time_values, time_arrays = state_of(fitted.time) if fitted.time else (None, {})
    arrays |= {f"time_{key}": array for key, array in time_arrays.items()}
    arrays |= {"hull_low": fitted.hull.low, "hull_high": fitted.hull.high}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{key: np.asarray(array) for key, array in arrays.items()})
    content = {
        "format": FORMAT,
        "target": fitted.target,
        "unit": fitted.unit,
        "snapshot": fitted.snapshot,
        "model": values,
        "time": time_values,
        "networks": list(fitted.networks),
        "hull": {"features": fitted.hull.features, "algorithms": fitted.hull.algorithms},
        "log_half_width": _finite(fitted.conformal.log_half_width),
        "limit_mib": _finite(fitted.limit),
        "limit_spread": fitted.limit_spread,
        "versions": {library: version(library) for library in _LIBRARIES},
        "scores": scores or [],
        "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
    }
    content["sha256"] = _digest(content)
    _replace(folder / f"{name}.npz", buffer.getvalue())
    _replace(folder / f"{name}.json", json.dumps(content, indent=1).encode())
    return folder / f"{name}.json"


def load_fitted(file: Path) -> tuple[Fitted, dict[str, Any]]:
    """A predictor from its JSON file and the arrays beside it.

    Returns:
        The predictor, and the JSON file's content (scores, versions, ...).

    Raises:
        ArtifactError: a file is missing, was changed, or is of another format.
    """
    try:
        content = json.loads(file.read_text())
        packed = file.with_suffix(".npz").read_bytes()
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: {error}; fit the predictors again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f"{file}: format {content.get('format') if isinstance(content, dict) else None!r}, "
                            f"this version reads {FORMAT}; fit the predictors again")  # fmt: skip
    if _digest(content) != content.get("sha256"):
        raise ArtifactError(f"{file} was changed since it was written; fit the predictors again")
    if hashlib.sha256(packed).hexdigest() != content["arrays_sha256"]:
        raise ArtifactError(f"{file.with_suffix('.npz')} is not what {file.name} was written with")
    with np.load(io.BytesIO(packed), allow_pickle=False) as loaded:
        arrays = {key: loaded[key] for key in loaded.files}
    model: CostModel = model_of(content["model"], arrays)
    time = None
    if content["time"] is not None:
        own = {key.removeprefix("time_"): array for key, array in arrays.items() if key.startswith("time_")}
        time = model_of(content["time"], own)
    if len(model.names) != len(model.coefficients) or len(content["hull"]["features"]) != len(
        arrays["hull_low"]
    ):
        raise ArtifactError(f"{file}: names and arrays do not agree")
    hull = Hull(
        content["hull"]["features"], arrays["hull_low"], arrays["hull_high"], content["hull"]["algorithms"]
    )
    width, limit = content["log_half_width"], content["limit_mib"]
    fitted = Fitted(
        content["target"], content["unit"], model, Conformal(np.nan if width is None else width), hull,
        content["snapshot"], np.inf if limit is None else limit, content["limit_spread"],
        tuple(content["networks"]), time,
    )  # fmt: skip
    return fitted, content


def _digest(content: dict[str, Any]) -> str:
    body = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _replace(file: Path, content: bytes) -> None:
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, file)
