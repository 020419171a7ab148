"""Profiles measured on devices: a sweep runs where the tags say, and its logs go through drops like any
other."""

import json

import dagster as dg
from pydantic import Field

from perf_assets.defs.assets import ingestion
from perf_assets.defs.device_runner import DEVICE_TAG, EXECUTOR_TAG, DeviceRunner, place_of
from perf_assets.defs.metadata import OWNERS, record_table
from perf_assets.defs.resources import DataFolder
from perf_assets.measuring.networks.names import PRUNING_METHODS
from perf_assets.measuring.sweeps.campaign import measured_runs
from perf_assets.measuring.sweeps.grid import read_sweep
from perf_assets.store.publish import publish_computed
from perf_assets.workspace.paths import launchable_sweep

POOL = "device_profiles"


class SweepConfig(dg.Config):
    """Which sweep to measure, how far, and where."""

    sweep: str = Field(default="sweeps/demo.toml", description="TOML file of the sweep.")
    stage: str = Field(
        default="sanity", description="sanity (one point), quick (10 sizes) or full (100 sizes)."
    )
    executor: str | None = Field(
        default=None, description=f"local, slurm or ssh; overrides the tag {EXECUTOR_TAG}."
    )
    device: str | None = Field(default=None, description=f"cpu, l40s, ...; overrides the tag {DEVICE_TAG}.")
    again: bool = Field(default=False, description="Measure points that were measured before as well.")


class PruningConfig(dg.Config):
    """Which pruned models there are to be: every network by every method at every ratio."""

    networks: list[str] = Field(default=["lenet5", "resnet18"], description="Networks of the zoo.")
    methods: list[str] = Field(
        default=["structured_magnitude"],
        description=f"Any of {', '.join(PRUNING_METHODS)}.",
    )
    ratios: list[float] = Field(default=[0.5], description="Shares to prune away, 0 to 0.95.")
    seed: int = Field(default=0, description="Of random weights and random importance.")


class FeatureConfig(dg.Config):
    """Which networks are described; pruned models always are."""

    networks: list[str] = Field(default=["lenet5", "resnet18"], description="Networks of the zoo.")
    stages: list[str] = Field(default=["inference", "training"], description="inference, training or both.")


@dg.asset(group_name="profiles", kinds={"torch"}, owners=OWNERS)
def pruned_models(
    context: dg.AssetExecutionContext, config: PruningConfig, data_folder: DataFolder
) -> dg.MaterializeResult:
    """Pruned networks, each made and verified in a process of its own; what cannot be pruned says why."""
    from perf_assets.measuring.networks.catalog import prune_set

    paths = data_folder.paths()
    rows = prune_set(
        paths.pruned_models,
        config.networks,
        config.methods,
        config.ratios,
        config.seed,
        on_done=lambda row: context.log.info("%s: %s %s", row["name"], row["status"], row["reason"] or ""),
    )
    publish_computed(paths, {"pruned_models": rows})
    return _table_result(rows, ("name", "status", "reason", "params_kept_pct", "macs", "sparsity_pct"))


@dg.asset(deps=[pruned_models], group_name="profiles", kinds={"torch"}, owners=OWNERS)
def network_features(config: FeatureConfig, data_folder: DataFolder) -> dg.MaterializeResult:
    """Analytic features of networks and pruned models, from shapes alone; nothing is computed on data."""
    from perf_assets.measuring.networks.catalog import feature_rows, pruned_rows

    paths = data_folder.paths()
    rows = feature_rows(config.networks, pruned_rows(paths.pruned_models), config.stages, paths.feature_cache)
    publish_computed(paths, {"network_features": rows})
    return _table_result(rows, ("network", "pruned_model", "stage", "params", "macs", "estimated_peak_mib"))


def _table_result(rows: list[dict], shown: tuple[str, ...]) -> dg.MaterializeResult:
    overview = record_table(shown, ([row[name] for name in shown] for row in rows[:50]))
    return dg.MaterializeResult(metadata={"dagster/row_count": len(rows), "overview": overview})


@dg.asset(
    deps=[ingestion.raw_device_logs, pruned_models, network_features],
    group_name="profiles",
    kinds={"torch"},
    owners=OWNERS,
    pool=POOL,
    op_tags={EXECUTOR_TAG: "local", DEVICE_TAG: "cpu"},
)
def device_profiles(
    context: dg.AssetExecutionContext,
    config: SweepConfig,
    data_folder: DataFolder,
    device_runner: DeviceRunner,
) -> dg.MaterializeResult:
    """Runs of the profiler: what a sweep asks for and SQL does not hold yet, measured and taken in."""
    paths = data_folder.paths()
    place = place_of(context, {"executor": config.executor, "device": config.device})
    try:
        sweep = read_sweep(launchable_sweep(config.sweep))
    except ValueError as error:
        raise dg.Failure(str(error)) from error
    report = device_runner.run_sweep(context, paths, sweep, config.stage, place, again=config.again)
    return dg.MaterializeResult(
        metadata={
            "sweep": sweep.name,
            "stage": config.stage,
            "executor": place.executor,
            "device": place.device,
            "jobs": json.dumps(report.jobs),
            "runs": record_table(*measured_runs(paths, sweep.name)),
        }
    )


profile_assets = [pruned_models, network_features, device_profiles]
