"""The Python door: tables, SQL, predictions, comparisons and figures of one data folder.

    import perf_assets
    data = perf_assets.open("data")
    data.sql("SELECT model, median(latency_ms) AS latency_ms FROM cleaned_runs GROUP BY ALL")

Reading only: drops are taken in by ``perf-assets ingest`` or Dagster. Nothing heavy is imported before it is
asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perf_assets.schema.tables import TABLES, VIEWS
from perf_assets.store.database import open_readonly, query_arrow, query_frame, rows_where
from perf_assets.workspace.paths import DataPaths, data_paths, existing_folder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

    from perf_assets.analysis.comparisons.groups import GroupComparison
    from perf_assets.analysis.predictors.pipeline import Answer


class PerformanceData:
    """The published tables of a data folder. Each call sees the newest published state."""

    def __init__(self, paths: DataPaths) -> None:
        self.paths = paths

    def __repr__(self) -> str:
        return f"PerformanceData({str(self.paths.root)!r})"

    @property
    def tables(self) -> list[str]:
        """Names of all tables and views; ``docs/tables.md`` says what their columns mean."""
        return [*TABLES, *VIEWS]

    def table(self, name: str, where: str = "true") -> pd.DataFrame:
        """A table as a data frame.

        Args:
            name: one of :attr:`tables`.
            where: SQL condition on its columns, as in ``device = 'h100'``.

        Raises:
            KeyError: there is no such table.
            NoDatabaseError: nothing was published yet.
            ValueError: DuckDB cannot evaluate the condition.
        """
        if name not in self.tables:
            raise KeyError(f"no table {name!r}; there are {', '.join(self.tables)}")
        with open_readonly(self.paths.database) as connection:
            return rows_where(connection, name, where).df()

    def sql(self, query: str, parameters: Sequence[object] = ()) -> pd.DataFrame:
        """The rows of a query as a data frame. ``?`` in the query stands for the parameters, in order.

        Raises:
            NoDatabaseError: nothing was published yet.
            QueryError: DuckDB refuses the query; the database is open for reading only.
        """
        with open_readonly(self.paths.database) as connection:
            return query_frame(connection, query, parameters)

    def arrow(self, query: str, parameters: Sequence[object] = ()) -> pa.Table:
        """The rows of a query as an Arrow table. Arguments and errors as :meth:`sql`."""
        with open_readonly(self.paths.database) as connection:
            return query_arrow(connection, query, parameters)

    def plot(self, name: str, where: str | None = None) -> Figure:
        """Draw a figure of the catalogue (``perf-assets plot`` lists them).

        Args:
            name: of the figure.
            where: SQL condition on the rows that it begins with.

        Raises:
            KeyError: there is no such figure.
            NoDatabaseError: nothing was published yet.
            QueryError: DuckDB cannot evaluate the condition.
        """
        from perf_assets.analysis.plots.catalog import PLOTS

        if name not in PLOTS:
            raise KeyError(f"no figure {name!r}; there are {', '.join(PLOTS)}")
        with open_readonly(self.paths.database) as connection:
            return PLOTS[name].draw(PLOTS[name].frame(connection, where))

    def predict(
        self,
        model: str,
        device: str,
        batch_size: int,
        *,
        stage: str = "training",
        pruning_ratio: float = 0.0,
        input_size: int | None = None,
        algorithm: str = "",
    ) -> Answer:
        """Predict latency, memory and energy of one configuration, with 90 % intervals.

        Args:
            model: a network of a dropped layer table, or torchvision's name.
            device: as in ``cleaned_runs.device``.
            batch_size: images a step.
            stage: ``training`` or ``inference``.
            pruning_ratio: share pruned away, 0 to 1.
            input_size: height = width in pixels; by default the network's own.
            algorithm: of convolution, where runs have one.

        Raises:
            NoDatabaseError: nothing was published yet.
            ValueError: no predictor for it is fitted (``perf-assets fit``), or the network's shapes are not known.
        """
        from perf_assets.analysis.predictors.pipeline import ask

        configuration = {
            "model": model,
            "batch_size": batch_size,
            "pruning_ratio": pruning_ratio,
            "input_size": input_size or 0,
            "algorithm": algorithm,
        }
        return ask(self.paths, device, stage, configuration)

    def compare(
        self, first: str, second: str, metrics: Sequence[str] | None = None, *, anyway: bool = False
    ) -> GroupComparison:
        """Is the second group of runs faster, slower or the same?

        Args:
            first: a group of runs, named as for ``perf-assets compare``: the baseline.
            second: the group that is judged.
            metrics: columns of numbers; by default all that both groups have.
            anyway: compare also groups that did different work.

        Raises:
            NoDatabaseError: nothing was published yet.
            ValueError: a group is empty or unknown, or a metric is.
        """
        from perf_assets.analysis.comparisons.groups import compare_groups
        from perf_assets.analysis.comparisons.selection import select

        with open_readonly(self.paths.database) as connection:
            chosen = [select(connection, group).rows for group in (first, second)]
        return compare_groups(*chosen, metrics or None, anyway=anyway)


def open_data(folder: str | Path | None = None) -> PerformanceData:
    """Open a data folder; without one, ``PERF_ASSETS_DATA`` or ``data`` in the current folder.

    Raises:
        NoDataFolderError: there is no such folder; the message names the nearest that there is.
    """
    return PerformanceData(data_paths() if folder is None else existing_folder(Path(folder)))
