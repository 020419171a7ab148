"""Saying something of runs: lines are appended to a drop, which ingestion takes in like any other. What they do to the
tables stands in ``store/sql/curate_runs.sql``."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from perf_assets.intake.formats.curation.run_annotations import written
from perf_assets.store.database import open_readonly, query
from perf_assets.workspace.clock import utc_now
from perf_assets.workspace.paths import DataPaths

_RUNS = """
    SELECT f.path, r.file_id AS about_file_id, r.run_index, r.started_at
    FROM cleaned_runs AS r
    JOIN (SELECT file_id, min(path) AS path FROM source_files WHERE status = 'ingested' GROUP BY file_id) AS f
      USING (file_id)
    WHERE r.run_id = ?
"""


def annotations_file(paths: DataPaths) -> Path:
    """The drop that grows with every word."""
    return paths.drops / "perf_assets" / "annotations.jsonl"


def annotate(paths: DataPaths, run_ids: list[str], action: str, value: str | None) -> Path:
    """Append one line for each run; the tables show it after the next ingest.

    Raises:
        ValueError: no such run.
        NoDatabaseError: nothing was published yet.
    """
    lines = []
    now, user = utc_now(), getpass.getuser()
    with open_readonly(paths.database) as connection:
        for run_id in run_ids:
            columns, rows = query(connection, _RUNS, parameters=[run_id])
            if not rows:
                raise ValueError(f"there is no run {run_id}: run_id of cleaned_runs names one")
            lines.append(written(action, value, user, now, dict(zip(columns, rows[0], strict=True))))
    file = annotations_file(paths)
    file.parent.mkdir(parents=True, exist_ok=True)
    # One write to the end: lines of two people at once do not mix.
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o664)
    try:
        os.write(handle, "".join(lines).encode())
    finally:
        os.close(handle)
    return file
