"""The contact sheet: every figure as a small picture on one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from perf_assets.analysis.plots.catalog import PLOTS
from perf_assets.analysis.plots.rendering import thumbnail

if TYPE_CHECKING:
    import duckdb

PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>Figures of perf_assets</title>
<style>
body {{ font: 15px/1.45 sans-serif; margin: 2em auto; max-width: 1100px; padding: 0 1em; color: #222 }}
img {{ max-width: 100%; border: 1px solid #ddd }}
h2 {{ font-size: 1.1em; margin: 2.2em 0 .3em }}
code, pre {{ font-size: 13px; overflow-x: auto }}
</style>
<h1>Figures</h1>
<p>Each is drawn from one query: <code>perf-assets plot NAME --out FILE.svg</code>.</p>
{figures}
</html>
"""
FIGURE = """<h2 id="{name}">{name}: {question}</h2>
<img src="data:image/png;base64,{picture}" alt="{question}">
<details><summary>SQL</summary><pre>{query}</pre></details>
"""


def page(connection: duckdb.DuckDBPyConnection) -> str:
    """The page, from the published tables."""
    figures = [
        FIGURE.format(
            name=plot.name,
            question=html.escape(plot.question),
            picture=base64.b64encode(thumbnail(plot.draw(plot.frame(connection)))).decode(),
            query=html.escape(plot.query()),
        )
        for plot in PLOTS.values()
    ]
    return PAGE.format(figures="".join(figures))
