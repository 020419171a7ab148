"""Plots: each figure of the catalogue as an asset; a library draws it, this shows it."""

import dagster as dg

from perf_assets.analysis.plots.catalog import PLOTS, Plot
from perf_assets.defs import metadata
from perf_assets.defs.resources import DataFolder
from perf_assets.store.database import open_readonly

WHEN_TABLES_ARE_MADE = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("when its tables are made")
"""A figure is drawn in a run of its own: a dropped file must not wait for pictures. Unlike ``eager`` it needs
not all tables: of one that was never made (predictions, say) it says that it is missing."""


def _plot_asset(plot: Plot) -> dg.AssetsDefinition:
    @dg.asset(
        name=f"{plot.name}_plot",
        deps=plot.reads,
        group_name="plots",
        kinds={"matplotlib"},
        owners=metadata.OWNERS,
        description=plot.question,
        automation_condition=WHEN_TABLES_ARE_MADE,
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
