"""All figures by name: the question each answers, its SQL, and how it is drawn. No figure is made here.

Nothing heavy is imported until a figure is drawn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from perf_assets.analysis.plots import (
    algorithm_curves,
    device_scaling,
    energy,
    latency_components,
    layer_breakdown,
    load_curve,
    load_scaling,
    memory_limits,
    metric_history,
    predictions,
    pruned_networks,
    reconstruction,
    roofline,
    run_throughput,
    telemetry,
    training_time,
)
from perf_assets.analysis.plots.style import look
from perf_assets.schema.tables import TABLES, VIEWS
from perf_assets.store.database import query_frame

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A figure that can be drawn from the published tables."""

    name: str
    question: str
    module: ModuleType

    def query(self, where: str | None = None) -> str:
        """The SQL of the figure's frame; ``where`` is a condition on the columns of the rows it begins with."""
        return self.module.QUERY.replace("{shown}", f"({where})" if where else "true").strip()

    @property
    def reads(self) -> tuple[str, ...]:
        """The tables that the SQL names; of a view, those beneath it."""
        named = set(re.findall(r"\w+", self.module.QUERY))
        if named & set(VIEWS):
            named.add("cleaned_telemetry")
        return tuple(table for table in TABLES if table in named)

    def frame(self, connection: duckdb.DuckDBPyConnection, where: str | None = None) -> pd.DataFrame:
        """The rows that the figure is drawn from; whole numbers among NULLs become floats with NaN.

        Raises:
            QueryError: DuckDB cannot evaluate the condition.
        """
        frame = query_frame(connection, self.query(where))
        gaps = [name for name in frame if frame[name].dtype.kind in "iuf" and frame[name].hasnans]
        return frame.astype(dict.fromkeys(gaps, float))

    def draw(self, frame: pd.DataFrame) -> Figure:
        """The figure; of a frame without rows, one that says what is missing."""
        with look():
            return self.module.draw(frame)


PLOTS: dict[str, Plot] = {
    name: Plot(name, module.QUESTION, module)
    for module in (
        load_curve,
        load_scaling,
        latency_components,
        metric_history,
        device_scaling,
        training_time,
        run_throughput,
        telemetry,
        energy,
        algorithm_curves,
        layer_breakdown,
        pruned_networks,
        memory_limits,
        reconstruction,
        predictions,
        roofline,
    )
    for name in [module.__name__.rpartition(".")[2]]
}
"""Most wanted first."""
