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
from collections.abc import Collection
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from perf_assets.analysis.predictors.fit.applicability import Applicability
from perf_assets.analysis.predictors.fit.cost_model import model_of, state_of
from perf_assets.analysis.predictors.fit.intervals import Deviation
from perf_assets.analysis.predictors.fit.predictor import Fitted
from perf_assets.analysis.predictors.serve.provenance import LIBRARIES

FORMAT = 7
_DEVIATION = ("between", "within", "quantile", "groups_behind")


class ArtifactError(ValueError):
    """A predictor's files cannot be trusted or understood: the message says why."""


def save_fitted(
    fitted: Fitted,
    folder: Path,
    name: str,
    scores: list[dict[str, Any]] | None = None,
    made_from: str = "",
) -> Path:
    """Write ``<name>.json`` and the arrays that it names; each appears in one rename, the JSON file last.

    The arrays' file has their hash in its name, so whoever reads the JSON file finds the arrays it was
    written with.

    Args:
        fitted: the predictor.
        folder: where the files go.
        name: see ``predictor_set.name_of``.
        scores: rows of ``predictor_scores``.
        made_from: hash of everything that the predictor and its scores follow from, see :func:`taken_over`.

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
        "versions": {library: version(library) for library in LIBRARIES},
        "scores": scores or [],
        "made_from": made_from,
        "arrays_sha256": (arrays_sha256 := hashlib.sha256(buffer.getvalue()).hexdigest()),
    }
    content["sha256"] = _digest(content)
    _replace(_arrays_file(folder / f"{name}.json", arrays_sha256), buffer.getvalue())
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
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: {error}; fit the predictors again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(
            f"{file}: format {content.get('format') if isinstance(content, dict) else None!r}, "
            f"this version reads {FORMAT}; fit the predictors again"
        )
    if _digest(content) != content.get("sha256"):
        raise ArtifactError(f"{file} was changed since it was written; fit the predictors again")
    arrays_file = _arrays_file(file, content["arrays_sha256"])
    try:
        packed = arrays_file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{arrays_file}: {error.strerror}; fit the predictors again") from error
    if hashlib.sha256(packed).hexdigest() != content["arrays_sha256"]:
        raise ArtifactError(
            f"{arrays_file} is not what {file.name} was written with; fit the predictors again"
        )
    with np.load(io.BytesIO(packed), allow_pickle=False) as loaded:
        arrays = {key: loaded[key] for key in loaded.files}
    fitted = _fitted(content, arrays)
    if len(fitted.model.names) != len(fitted.model.coefficients):
        raise ArtifactError(f"{file}: names and arrays do not agree")
    return fitted, content


def taken_over(earlier: Path, name: str, made_from: str, folder: Path) -> list[dict[str, Any]] | None:
    """Copy a predictor that follows from the same as one to be fitted now, instead of fitting it again.

    Args:
        earlier: folder of the predictors fitted before.
        name: of the predictor.
        made_from: hash of everything that it would follow from.
        folder: where the files go.

    Returns:
        Its scores; None where there is no such predictor, or its files cannot be trusted.
    """
    file = earlier / f"{name}.json"
    try:
        _, content = load_fitted(file)
    except ArtifactError:
        return None
    if content["made_from"] != made_from:
        return None
    arrays_file = _arrays_file(file, content["arrays_sha256"])
    folder.mkdir(parents=True, exist_ok=True)
    for part in (arrays_file, file):
        _replace(folder / part.name, part.read_bytes())
    return content["scores"]


def replace_fitted(fitted: Path, folder: Path, targets: Collection[str]) -> None:
    """Let the predictors of some targets that lie in ``fitted`` take the place of those in ``folder``.

    A reader sees for each predictor the old one or the new one, whole. What was fitted on runs that are gone
    goes.
    """
    new = {file.name for file in fitted.glob("*.json")}
    for arrays in fitted.glob("*.npz"):
        os.replace(arrays, folder / arrays.name)
    for name in sorted(new):
        os.replace(fitted / name, folder / name)
    for file in folder.glob("*.json"):
        if file.name.split("-")[0] in targets and file.name not in new:
            file.unlink()
    named = {_arrays_of(file) for file in folder.glob("*.json")}
    for arrays in folder.glob("*.npz"):
        if arrays.name not in named:
            arrays.unlink()


def _arrays_file(file: Path, arrays_sha256: str) -> Path:
    return file.with_name(f"{file.stem}.{arrays_sha256[:16]}.npz")


def _arrays_of(file: Path) -> str:
    try:
        return _arrays_file(file, str(json.loads(file.read_text())["arrays_sha256"])).name
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _state(fitted: Fitted) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A predictor as plain values and arrays."""
    model, arrays = state_of(fitted.model)
    values: dict[str, Any] = {
        "target": fitted.target,
        "unit": fitted.unit,
        "snapshot": fitted.snapshot,
        "new": list(fitted.new),
        "model": model,
        "applicability": asdict(fitted.applicability),
        "deviations": {
            kind: {name: getattr(deviation, name) for name in _DEVIATION}
            for kind, deviation in fitted.deviations.items()
        },
        "limit_mib": float(fitted.limit) if np.isfinite(fitted.limit) else None,
        "limit_spread": fitted.limit_spread,
    }
    return values, arrays


def _fitted(values: dict[str, Any], arrays: dict[str, np.ndarray]) -> Fitted:
    """The predictor back from what :func:`_state` gave."""
    return Fitted(
        values["target"],
        values["unit"],
        model_of(values["model"], arrays),
        {kind: Deviation(**deviation) for kind, deviation in values["deviations"].items()},
        Applicability(**values["applicability"]),
        values["snapshot"],
        tuple(values["new"]),
        np.inf if values["limit_mib"] is None else values["limit_mib"],
        values["limit_spread"],
    )


def _digest(content: dict[str, Any]) -> str:
    body = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _replace(file: Path, content: bytes) -> None:
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, file)
