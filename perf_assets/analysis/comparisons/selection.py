"""Which runs a person means: by run id, name, tag, revision, folder or SQL filter. Nothing is compared here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perf_assets.analysis.comparisons.metrics import CONFIGURATION, MEASURED
from perf_assets.store.database import QueryError, query_frame

if TYPE_CHECKING:
    import pandas as pd

    from perf_assets.store.database import Connection


@dataclass(frozen=True)
class Selection:
    """Rows that a text names, and by what they were found."""

    rows: pd.DataFrame
    how: str

    def __str__(self) -> str:
        """How many runs were found, and by what."""
        count = self.rows["run_id"].nunique()
        return f"{count} run{'s' if count != 1 else ''} ({self.how})"


_WAYS = {
    "run": "run_id IN (SELECT trim(unnest(string_split(?, ','))))",
    "name": "name GLOB ?",
    "tag": "list_contains(tags, ?)",
    "revision": "length($1) >= 7 AND git_revision IS NOT NULL AND starts_with(git_revision, $1)",
    "path": "(path = $1 OR starts_with(path, rtrim($1, '/') || '/'))",
}
"""Ways to name runs, tried in this order where a text does not begin with one of them and a colon."""


def select(connection: Connection, text: str, *, with_excluded: bool = False) -> Selection:
    """Rows of :data:`MEASURED` that a text names.

    ``run:``, ``name:`` (may hold ``*``), ``tag:``, ``revision:``, ``path:`` (a file or folder under drops) and
    ``where:`` (SQL over ``cleaned_runs`` and ``path``) say how; without one, the first way that finds runs counts.

    Raises:
        ValueError: nothing is found, or the SQL is wrong.
    """
    way, _, value = text.partition(":")
    if way not in (*_WAYS, "where"):
        way, value = "", text
    for name, condition in _WAYS.items():
        if way in ("", name):
            rows = read(connection, condition, [value], with_excluded=with_excluded)
            if not rows.empty:
                return Selection(rows, f"{name} {value}")
    if way in ("", "where"):
        try:
            rows = read(connection, f"({value})", [], with_excluded=with_excluded)
        except QueryError as error:
            if way == "where" or any(sign in value for sign in "=<>("):
                raise ValueError(f"{value!r} is no SQL filter: {error}") from error
        else:
            if not rows.empty:
                return Selection(rows, value)
    raise ValueError(
        f"no finished run is meant by {text!r}: give a run_id, name, tag, revision, folder or SQL filter; "
        "excluded runs count only with --with-excluded"
    )


def read(
    connection: Connection,
    condition: str,
    parameters: list[str],
    *,
    with_excluded: bool = False,
) -> pd.DataFrame:
    """Rows of :data:`MEASURED` that meet a condition; those that a person excluded only where asked for."""
    excluded = "" if with_excluded else " AND NOT coalesce(excluded, false)"
    query = f"SELECT * FROM ({MEASURED}) WHERE {condition}{excluded} ORDER BY started_at, run_id, level"  # noqa: S608
    return query_frame(connection, query, parameters)


def earlier(connection: Connection, candidate: pd.DataFrame) -> Selection:
    """Runs of the candidate's configurations that began before its first.

    Raises:
        ValueError: no time stands in the candidate, or there is no such run.
    """
    began = candidate["started_at"].min()
    if candidate["started_at"].isna().all():
        raise ValueError("no run of the group says when it began: name the baseline")
    rows = read(connection, "started_at < ?", [began.to_pydatetime()])
    kept = rows[_keys(rows).isin(set(_keys(candidate)))]
    if kept.empty:
        raise ValueError("no earlier run has one of its configurations: name the baseline")
    return Selection(kept, f"earlier than {began:%Y-%m-%d %H:%M}")


def _keys(rows: pd.DataFrame) -> pd.Series:
    return rows[list(CONFIGURATION)].astype("string").fillna("").agg("\x1f".join, axis=1)
