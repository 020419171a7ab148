"""What a fitted predictor and its scores follow from, as one hash: rows, data sheets, code and libraries.

Where it is the same as of an earlier fit, fitting again would give the same.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.evaluation.scores import ChosenNetworks
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.schema.device_catalog import catalog, devices

LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn")
"""Those whose versions may change a fit."""
_CODE = Path(__file__).parent.parent
"""What fits and scores. How terms are made of shapes shows in the rows."""


def made_from(design: Design, target: str, domain: tuple[str, ...], chosen: ChosenNetworks | None) -> str:
    """Hash of everything that the predictor of a target and its scores follow from, 64 hex digits.

    Args:
        design: rows that it is fitted to and judged by.
        target: what is predicted.
        domain: tool, device and stage.
        chosen: networks to learn from and to be judged on; None for every split.
    """
    told = hashlib.sha256()
    for text in (_code(), target, *domain, repr(chosen)):
        told.update(f"{text}\n".encode())
    frame = design.frame
    names = sorted({*frame} - {"files"})
    known = devices()
    sheets = sorted({str(name) for name in frame["device"]})
    told.update(repr([(name, known.get(name), catalog().kinds.get(name)) for name in sheets]).encode())
    for part in (frame[names], design.terms, design.shape, design.perf4sight):
        for name, column in part.items():
            told.update(f"\n{name}\n".encode())
            if pd.api.types.is_numeric_dtype(column):
                told.update(column.to_numpy(float, na_value=np.nan).tobytes())
            else:
                told.update("\n".join(map(str, column)).encode())
    return told.hexdigest()


@cache
def _code() -> str:
    """Hash of the predictors' source, with the versions of the libraries that they call."""
    told = hashlib.sha256(repr([(name, version(name)) for name in LIBRARIES]).encode())
    for file in sorted(_CODE.rglob("*.py")):
        told.update(f"{file.relative_to(_CODE)}\n".encode() + file.read_bytes())
    return told.hexdigest()
