"""Plots: each figure of the catalogue as an asset; a library draws it, this shows it."""

import dagster as dg

from perf_assets.analysis.plots.catalog import PLOTS, Plot
from perf_assets.defs import metadata
from perf_assets.defs.resources import DataFolder
from perf_assets.store.database import open_readonly


def _plot_asset(plot: Plot) -> dg.AssetsDefinition:
    @dg.asset(
        name=f"{plot.name}_plot",
        deps=plot.reads,
        group_name="plots",
        kinds={"matplotlib"},
        description=plot.question,
    )
    def draw(data_folder: DataFolder) -> dg.MaterializeResult:
        paths = data_folder.paths()
        with open_readonly(paths.database) as connection:
            frame = plot.frame(connection)
        return dg.MaterializeResult(
            metadata={
                "rows": len(frame),
                **metadata.plot(plot.draw(frame), paths.plots / f"{plot.name}.svg"),
                "sql": dg.MetadataValue.md(f"```sql\n{plot.query()}\n```"),
            }
        )

    return draw


plot_assets = [_plot_asset(plot) for plot in PLOTS.values()]
