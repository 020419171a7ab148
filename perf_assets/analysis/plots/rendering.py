"""Figures as files and as thumbnails: SVG, PNG, PDF, and small palette PNG. Nothing is drawn here."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from perf_assets.analysis.plots.style import COLORS, look

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
        for tints in (6, 3, 2):
            out = io.BytesIO()
            picture.quantize(palette=_palette(tints), dither=Image.Dither.NONE).save(
                out, "PNG", optimize=True
            )
            data = out.getvalue()
            if len(data) <= limit_bytes:
                return data
    return data
    return data


def _palette(tints: int):
    """White, greys, and each of our colours in so many tints: a palette that no picture's averages can mix."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    def mixed(color: tuple[float, ...], share: float) -> list[int]:
        return [round(255 * (share * part + 1 - share)) for part in color]

    shades = [mixed(to_rgb(color), (i + 1) / tints) for color in COLORS[:6] for i in range(tints)]
    greys = [mixed((0.0, 0.0, 0.0), i / 9) for i in range(10)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for color in greys + shades for part in color])
    return palette
