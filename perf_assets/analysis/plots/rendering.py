"""Figures as files and as thumbnails: SVG, PNG, PDF, and small palette PNG. Nothing is drawn here."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from perf_assets.analysis.plots.style import look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
THUMBNAIL_BYTES = 50_000
THUMBNAIL_WIDTH_PX = 800


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the path's ending names, whole or not at all.

    Raises:
        ValueError: it names none of ``FORMATS``.
    """
    form = path.suffix[1:].lower()
    if form not in FORMATS:
        raise ValueError(f"{path.name}: a figure is written as .svg, .png or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with look():
            # Without a date the same figure gives the same bytes.
            dateless = {"metadata": {"Date": None}} if form == "svg" else {}
            figure.savefig(beside, format=form, dpi=150, **dateless)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def thumbnail(
    figure: Figure, width_px: int = THUMBNAIL_WIDTH_PX, limit_bytes: int = THUMBNAIL_BYTES
) -> bytes:
    """A palette PNG at least ``width_px`` wide: as sharp and as many colours as ``limit_bytes`` allow."""
    from PIL import Image

    width_in = figure.get_figwidth()
    data = b""
    for scale in (1.5, 1.0):
        buffer = io.BytesIO()
        with look():
            figure.savefig(buffer, format="png", dpi=(width_px * scale + 1) / width_in)
        picture = Image.open(buffer).convert("RGB")
        for colors in (64, 32, 16) if scale > 1 else (64, 32, 16, 8, 4):
            out = io.BytesIO()
            picture.quantize(colors, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
            data = out.getvalue()
            if len(data) <= limit_bytes:
                return data
    return data
