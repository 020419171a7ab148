"""Plots: a query, a library function, a file under ``data/plots`` and a thumbnail."""

import importlib

import dagster as dg

from perf_assets.defs.metadata import plot
from perf_assets.defs.resources import DataFolder
from perf_assets.store.database import open_readonly

# Module and function of perf_assets.analysis.plots, the tables that its QUERY reads, and what it shows.
_PLOTS = {
    "training_time": (
        ("cleaned_runs", "cleaned_epochs"),
        "Training time per epoch, and its mean, of every finished training run.",
    ),
    "device_power": (
        ("source_files", "cleaned_telemetry"),
        "Power and utilization over time of every polled device, with joules per session.",
    ),
}


def _plot_asset(name: str, reads: tuple[str, ...], description: str) -> dg.AssetsDefinition:
    module_name = f"perf_assets.analysis.plots.{name}"

    @dg.asset(
        name=f"{name}_plot", deps=reads, group_name="plots", kinds={"matplotlib"}, description=description
    )
    def draw(data_folder: DataFolder) -> dg.MaterializeResult:
        module = importlib.import_module(module_name)
        paths = data_folder.paths()
        with open_readonly(paths.database) as connection:
            frame = connection.execute(module.QUERY).df()
        figure = getattr(module, name)(frame)
        return dg.MaterializeResult(
            metadata={"rows": len(frame), **plot(figure, paths.plots / f"{name}.png")}
        )

    return draw


plot_assets = [_plot_asset(name, reads, description) for name, (reads, description) in _PLOTS.items()]
