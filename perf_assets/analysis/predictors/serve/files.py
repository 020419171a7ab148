"""Fitted predictors on disk: one JSON file of plain values and one npz file of plain arrays. Nothing is
unpickled.

The JSON file names features and units, the snapshot of training rows, library versions and scores; it holds
the checksum of the arrays, and a checksum of its own. Loading checks all of it: a predictor that was changed,
cut short or made by an incompatible version is refused with the reason.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from perf_assets.analysis.predictors.fit.cost_model import Belief, model_of, state_of
from perf_assets.analysis.predictors.fit.intervals import Deviation
from perf_assets.analysis.predictors.fit.scope import Known
from perf_assets.analysis.predictors.fit.target_predictor import Fitted

FORMAT = 4
_TIME = "time_"
"""Prefix of the arrays of a predictor inside another."""
_DEVIATION = ("half_width", "spread_factor", "offset", "local", "noise", "length", "gap")
_LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn")


class ArtifactError(ValueError):
    """A predictor's files cannot be trusted or understood: the message says why."""


def save_fitted(fitted: Fitted, folder: Path, name: str, scores: list[dict[str, Any]] | None = None) -> Path:
    """Write ``<name>.json`` and ``<name>.npz``; each appears in one rename, the JSON file last.

    Returns:
        The JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values, arrays = _state(fitted)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{key: np.asarray(array) for key, array in arrays.items()})
    content = {
        "format": FORMAT,
        **values,
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
        raise ArtifactError(
            f"{file}: format {content.get('format') if isinstance(content, dict) else None!r}, "
            f"this version reads {FORMAT}; fit the predictors again"
        )
    if _digest(content) != content.get("sha256"):
        raise ArtifactError(f"{file} was changed since it was written; fit the predictors again")
    if hashlib.sha256(packed).hexdigest() != content["arrays_sha256"]:
        raise ArtifactError(f"{file.with_suffix('.npz')} is not what {file.name} was written with")
    with np.load(io.BytesIO(packed), allow_pickle=False) as loaded:
        arrays = {key: loaded[key] for key in loaded.files}
    fitted = _fitted(content, arrays)
    if len(fitted.model.names) != len(fitted.model.coefficients):
        raise ArtifactError(f"{file}: names and arrays do not agree")
    return fitted, content


def _state(fitted: Fitted) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A predictor as plain values and arrays; that of latency, which energy follows from, inside that of
    energy."""
    model, arrays = state_of(fitted.model)
    values: dict[str, Any] = {
        "target": fitted.target,
        "unit": fitted.unit,
        "snapshot": fitted.snapshot,
        "model": model,
        "known": asdict(fitted.known),
        "beliefs": {kind: asdict(belief) for kind, belief in fitted.beliefs.items()},
        "deviations": {
            kind: {name: getattr(deviation, name) for name in _DEVIATION}
            for kind, deviation in fitted.deviations.items()
        },
        "limit_mib": _finite(fitted.limit),
        "limit_spread": fitted.limit_spread,
        "time": None,
    }
    if fitted.time is not None:
        values["time"], inner = _state(fitted.time)
        arrays |= {f"{_TIME}{key}": array for key, array in inner.items()}
    return values, arrays


def _fitted(values: dict[str, Any], arrays: dict[str, np.ndarray]) -> Fitted:
    """The predictor back from what :func:`_state` gave."""
    time = None
    if values["time"] is not None:
        inner = {key.removeprefix(_TIME): array for key, array in arrays.items() if key.startswith(_TIME)}
        time = _fitted(values["time"], inner)
    beliefs = {kind: Belief(**belief) for kind, belief in values["beliefs"].items()}
    deviations = {kind: Deviation(**deviation) for kind, deviation in values["deviations"].items()}
    limit = np.inf if values["limit_mib"] is None else values["limit_mib"]
    return Fitted(
        values["target"],
        values["unit"],
        model_of(values["model"], arrays),
        beliefs,
        deviations,
        Known(**values["known"]),
        values["snapshot"],
        limit,
        values["limit_spread"],
        time,
    )


def _digest(content: dict[str, Any]) -> str:
    body = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _replace(file: Path, content: bytes) -> None:
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, file)
