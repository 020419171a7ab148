"""Predictors: fitted from the published tables, scored beside their peers, and asked about every known
network."""

from typing import Any

import dagster as dg

from perf_assets.analysis.predictors import pipeline as prediction
from perf_assets.defs.metadata import OWNERS, lineage, problem_checks, record_table, table_metadata
from perf_assets.defs.resources import DataFolder
from perf_assets.schema import tables as schema

_READS = ("cleaned_runs", "cleaned_layers", "cleaned_layer_tables")
_SHOWN = (
    "target",
    "device",
    "split",
    "method",
    "n",
    "mape",
    "mape_answered",
    "coverage_answered",
    "abstained",
)


def _predictor_asset(name: str, targets: tuple[str, ...]) -> dg.AssetsDefinition:
    @dg.asset(
        name=name,
        deps=_READS,
        group_name="predictors",
        kinds={"scikitlearn"},
        owners=OWNERS,
        description=f"Fitted predictors of {', '.join(targets)}: one file a target, device, stage and tool.",
    )
    def fit(data_folder: DataFolder) -> dg.MaterializeResult:
        paths = data_folder.paths()
        scores = prediction.fit(paths, name)
        return dg.MaterializeResult(
            metadata={"predictors": dg.MetadataValue.path(str(paths.predictors)), **_overview(scores)}
        )

    return fit


predictor_assets = [_predictor_asset(name, targets) for name, targets in prediction.TARGETS.items()]


@dg.asset(
    deps=list(prediction.TARGETS),
    group_name="predictors",
    kinds={"duckdb", "table"},
    description=schema.PREDICTOR_SCORES.description,
    owners=OWNERS,
    metadata=table_metadata(schema.PREDICTOR_SCORES),
)
def predictor_scores(data_folder: DataFolder) -> dg.MaterializeResult:
    """Collect the scores of all fitted predictors."""
    scores = prediction.publish_scores(data_folder.paths())
    return dg.MaterializeResult(
        metadata={"dagster/row_count": len(scores), **lineage("predictor_scores"), **_overview(scores)}
    )


@dg.asset(
    deps=list(prediction.TARGETS),
    group_name="predictors",
    kinds={"duckdb", "table"},
    description=schema.PREDICTIONS.description,
    owners=OWNERS,
    metadata=table_metadata(schema.PREDICTIONS),
    check_specs=[
        dg.AssetCheckSpec(
            "predictions_hold",
            asset="predictions",
            description="Of runs measured since, about nine in ten lie inside the intervals predicted for "
            "them.",
        )
    ],
)
def predictions(data_folder: DataFolder) -> dg.MaterializeResult:
    """Predict every measured network on its devices; compare earlier predictions with runs measured since."""
    drift = prediction.publish_predictions(data_folder.paths())
    metadata = {f"drift_{name}": value for name, value in drift.items()}
    check = dg.AssetCheckResult(
        check_name="predictions_hold",
        passed=prediction.predictions_hold(drift),
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )
    return dg.MaterializeResult(metadata={**metadata, **lineage("predictions")}, check_results=[check])


def predictor_checks() -> list[dg.AssetChecksDefinition]:
    """Checks of the evaluation, one an invariant of ``perf_assets.analysis.predictors.pipeline.CHECKS``."""
    return problem_checks("predictor_scores", prediction.CHECKS, prediction.check)


def _overview(scores: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [[row.get(name) for name in _SHOWN] for row in scores if row["group"] == "all"]
    return {"scores": record_table(_SHOWN, rows)} if rows else {"scores": "too few runs to fit on"}
