"""The report: one HTML page with nothing to install or fetch, made from the published tables.

What it tells stands in ``sections``, how it looks in ``page.html``; figures come from ``analysis/plots``.
"""

from __future__ import annotations

import datetime
import io
import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf_assets.analysis.reports.sections import SECTIONS
from perf_assets.store.database import open_readonly, query
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    import duckdb
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page.html")
TILES = {
    "files": "SELECT count(*) FROM source_files WHERE status = 'ingested'",
    "runs": "SELECT count(*) FROM cleaned_runs",
    "tools": "SELECT count(DISTINCT tool) FROM cleaned_runs",
    "devices": "SELECT count(DISTINCT coalesce(device, device_kind)) FROM cleaned_runs",
    "polls": "SELECT count(*) FROM cleaned_telemetry",
    "load levels": "SELECT count(*) FROM cleaned_load_levels",
    "lines rejected": "SELECT coalesce(sum(rejected), 0)::BIGINT FROM source_files WHERE status = 'ingested'",
}


@dataclass(frozen=True)
class Picture:
    """A figure of the report: what it answers, how it looks as SVG, what it was drawn from."""

    title: str
    svg: str
    sql: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Cell:
    text: str
    is_number: bool


def write_report(
    paths: DataPaths, out: Path | None = None, pictures: Iterable[Picture] | None = None
) -> Path:
    """Write the report of a data folder; returns its file, by default ``data/report.html``.

    Its pictures are all figures that have rows, unless others are given.

    Raises:
        NoDatabaseError: nothing was published yet.
    """
    target = out or paths.root / "report.html"
    with open_readonly(paths.database) as connection:
        page = _page(connection, paths, drawn(connection) if pictures is None else pictures)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(page)
    os.replace(partial, target)
    return target


def drawn(connection: duckdb.DuckDBPyConnection) -> list[Picture]:
    """Draw every figure of the catalogue that has rows, with the files that its rows come from."""
    from perf_assets.analysis.plots.catalog import PLOTS

    pictures = []
    for plot in PLOTS.values():
        frame = plot.frame(connection)
        if not len(frame):
            continue
        files: tuple[str, ...] = ()
        for column in ("path", "file_id", "run_id"):
            if column in frame:
                files = _files(connection, column, [str(value) for value in frame[column].dropna().unique()])
                break
        pictures.append(Picture(plot.question, svg_of(plot.draw(frame)), plot.query(), files))
    return pictures


def _files(connection: duckdb.DuckDBPyConnection, column: str, values: list[str]) -> tuple[str, ...]:
    """Paths of the files that rows of a figure come from, by what the rows say of them."""
    if column == "path":
        return tuple(sorted(values))
    sql = "SELECT DISTINCT path FROM source_files WHERE file_id IN (SELECT unnest(?)) ORDER BY path"
    if column == "run_id":
        sql = (
            "SELECT DISTINCT path FROM source_files JOIN cleaned_runs USING (file_id)"
            " WHERE run_id IN (SELECT unnest(?)) ORDER BY path"
        )
    return tuple(path for (path,) in connection.execute(sql, [values]).fetchall())


def svg_of(figure: Figure) -> str:
    """A figure as an SVG element to stand in a page; its texts stay texts."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _page(connection: duckdb.DuckDBPyConnection, paths: DataPaths, pictures: Iterable[Picture]) -> str:
    from jinja2 import Environment, select_autoescape
    from markupsafe import Markup

    sections = []
    for section in SECTIONS:
        _, [(there,)] = query(connection, f"SELECT count(*) FROM {section.reads}")  # noqa: S608 - our own names
        if not there:
            continue
        columns, rows = query(connection, section.sql)
        shown = [_cells(row) for row in rows]
        sections.append(
            {
                "title": section.title,
                "says": section.says,
                "sql": textwrap.dedent(section.sql).strip(),
                "columns": columns,
                "rows": shown,
                "numbers": [any(row[i].is_number for row in shown) for i in range(len(columns))],
            }
        )
    tiles = [{"name": name, "value": f"{query(connection, sql)[1][0][0]:,}"} for name, sql in TILES.items()]
    # Figures are drawn by our own code from numbers; their texts are escaped by matplotlib.
    figures = [
        {"title": each.title, "picture": Markup(each.svg), "sql": each.sql.strip(), "files": each.files}
        for each in pictures
    ]
    environment = Environment(autoescape=select_autoescape(default=True, default_for_string=True))
    return environment.from_string(TEMPLATE.read_text()).render(
        title="Performance report",
        database=paths.database.name,
        made_at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        tiles=tiles,
        sections=sections,
        figures=figures,
    )


def _cells(row: Sequence[Any]) -> list[_Cell]:
    return [
        _Cell(_text(value), isinstance(value, (int, float)) and not isinstance(value, bool)) for value in row
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:,.6g}"
    return str(value)
