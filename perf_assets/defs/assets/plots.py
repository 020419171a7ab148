"""Plots: each figure of the catalogue as an asset; a library draws it, this shows it."""

import base64

import dagster as dg

from perf_assets.analysis.plots.catalog import PLOTS, Plot
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
        from perf_assets.analysis.plots.rendering import save, thumbnail

        paths = data_folder.paths()
        with open_readonly(paths.database) as connection:
            frame = plot.frame(connection)
        figure = plot.draw(frame)
        path = paths.plots / f"{plot.name}.svg"
        save(figure, path)
        picture = base64.b64encode(thumbnail(figure)).decode()
        return dg.MaterializeResult(
            metadata={
                "rows": len(frame),
                "thumbnail": dg.MetadataValue.md(f"![{plot.name}](data:image/png;base64,{picture})"),
                "figure": dg.MetadataValue.path(str(path)),
                "sql": dg.MetadataValue.md(f"```sql\n{plot.query()}\n```"),
            }
        )

    return draw


plot_assets = [_plot_asset(plot) for plot in PLOTS.values()]
