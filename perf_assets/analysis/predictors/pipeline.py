"""From published tables to fitted predictors, scores and predictions: what assets, command line and benchmark
call.

cleaned_runs, cleaned_layer_tables, cleaned_layers  ->  data/predictors/*.json, *.npz
their scores                                        ->  table predictor_scores
every known network on every measured device        ->  table predictions
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perf_assets.store.database import open_readonly
from perf_assets.store.publish import publish_computed
from perf_assets.workspace.locks import exclusive
from perf_assets.workspace.paths import DataPaths

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd
    from torch import nn

    from perf_assets.analysis.predictors.evaluation.scores import ChosenNetworks
    from perf_assets.analysis.predictors.features.design import Design
    from perf_assets.analysis.predictors.features.shapes import NetworkTables
    from perf_assets.analysis.predictors.serve.predictor_set import Predictor

TARGETS = {
    "latency_predictor": ("latency", "layer_latency"),
    "memory_predictor": ("memory", "memory_allocated", "memory_reserved"),
    "energy_predictor": ("energy",),
}
"""Asset → the targets it fits."""

CHECKS = {
    "no_odd_measurements": "No measured value is 100 times more or less than what the other runs of its "
    "network suggest.",
    "held_out_rows_do_not_leak": "No configuration stands on both sides of a grouped split, no feature is "
    "the target.",
    "shuffled_target_is_not_learnt": "Fitted on shuffled values, predictions of a held-out network are far "
    "worse.",
    "ours_beats_the_peers": "Held-out networks, devices and pruning levels: on every such split ours errs "
    "less than every peer.",
}
"""Checks on the evaluation, by name: what must hold. See :func:`check`."""


@dataclass
class Measurements:
    """Frames of the published tables: measured configurations, timed layers, and where shapes come from."""

    runs: pd.DataFrame
    layers: pd.DataFrame
    tables: NetworkTables
    designs: dict[tuple[str, str, str], Design] = field(default_factory=dict)
    """Designs that were made of them, by tool, device and stage: assets share them."""


def read_measurements(paths: DataPaths) -> Measurements:
    """What predictors learn from.

    Raises:
        NoDatabaseError: nothing was published yet.
    """
    from perf_assets.analysis.predictors.features import configurations, shapes

    with open_readonly(paths.database) as connection:
        runs, layer_tables, layers, pruned, totals = (
            connection.execute(sql).df()
            for sql in (
                configurations.RUNS_QUERY,
                configurations.LAYER_TABLES_QUERY,
                configurations.LAYERS_QUERY,
                shapes.PRUNED_MODELS_QUERY,
                configurations.TOTALS_QUERY,
            )
        )
    tables = shapes.NetworkTables(layer_tables, paths.predictors / "shapes", pruned=pruned, totals=totals)
    return Measurements(configurations.measured(runs), layers, tables)


def fit(
    paths: DataPaths,
    asset: str,
    measurements: Measurements | None = None,
    chosen: ChosenNetworks | None = None,
) -> list[dict[str, Any]]:
    """Fit, score and save the predictors of one asset of :data:`TARGETS`; returns their scores.

    Args:
        paths: the data folder.
        asset: a key of :data:`TARGETS`.
        measurements: what was measured; by default it is read.
        chosen: networks to learn from and to be judged on, instead of all.
    """
    from perf_assets.analysis.predictors.serve.files import replace_fitted
    from perf_assets.analysis.predictors.serve.predictor_set import fit_targets

    seen = measurements or read_measurements(paths)
    targets = TARGETS[asset]
    with exclusive(paths.predictors / "fit.lock"):
        # Aside: until all are fitted the earlier ones go on answering.
        aside = paths.predictors / "fitting"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        scores = fit_targets(
            seen.runs,
            seen.tables,
            targets,
            aside,
            seen.layers,
            chosen,
            earlier=paths.predictors,
            designs=seen.designs,
        )
        replace_fitted(aside, paths.predictors, targets)
    return scores


def publish_scores(paths: DataPaths) -> list[dict[str, Any]]:
    """Put the scores of all saved predictors, and of predictions at other power limits, into
    ``predictor_scores``."""
    from perf_assets.analysis.predictors.power.limits import score_limits
    from perf_assets.analysis.predictors.power.traces import read_points
    from perf_assets.analysis.predictors.serve.files import load_fitted

    scores = [
        row for file in sorted(paths.predictors.glob("*.json")) for row in load_fitted(file)[1]["scores"]
    ]
    with open_readonly(paths.database) as connection:
        scores += score_limits(read_points(connection))
    publish_computed(paths, {"predictor_scores": scores})
    return scores


def load(
    paths: DataPaths,
    device: str,
    stage: str,
    measurements: Measurements | None = None,
    networks: Mapping[str, nn.Module] | None = None,
) -> Predictor:
    """The predictor of a device and stage, with the shapes of all known networks and of your own by name.

    Raises:
        NoDatabaseError, NoPredictorError, ArtifactError: see ``load_predictor``.
    """
    from perf_assets.analysis.predictors.serve.predictor_set import load_predictor

    seen = measurements or read_measurements(paths)
    return load_predictor(paths.predictors, device, stage, seen.tables.with_networks(networks or {}))


@dataclass(frozen=True)
class Answer:
    """What the predictors say of one configuration."""

    rows: pd.DataFrame
    """A row a target: target, predicted, lower, upper, unit; of out of memory the probability alone. ``measured``
    beside them where the tables hold this very configuration."""
    abstained: str | None
    """Why the numbers are a guess; None where they are not."""
    learnt_on: tuple[str, ...]
    """The devices whose runs they come from."""


def ask(
    paths: DataPaths,
    device: str,
    stage: str,
    configuration: Mapping[str, Any],
    networks: Mapping | None = None,
) -> Answer:
    """Predict latency, memory and energy of one configuration, with 90 % intervals.

    Args:
        paths: the data folder.
        device: as in ``cleaned_runs.device``.
        stage: ``training`` or ``inference``.
        configuration: model, batch_size, pruning_ratio (0 to 1), input_size (0: the network's own), algorithm.
        networks: networks of the user's by name.

    Raises:
        NoDatabaseError: nothing was published yet.
        ValueError: no predictor for it is fitted, or the network's shapes are not known.
    """
    import pandas as pd

    seen = read_measurements(paths)
    predictor = load(paths, device, stage, seen, dict(networks or {}))
    asked = pd.DataFrame([configuration])
    answer = predictor.predict(asked)
    if answer.empty:
        raise ValueError(next(iter(predictor.design(asked).skipped.values())))
    first = answer.iloc[0]
    rows: list[tuple] = [
        (target, *(float(first[f"{target}{end}"]) for end in ("", "_lower", "_upper")), fitted.unit)
        for target, fitted in predictor.fitted.items()
    ]
    if "oom" in answer:
        rows.append(("out of memory", float(first["oom"]), None, None, "probability"))
    table = pd.DataFrame(rows, columns=["target", "predicted", "lower", "upper", "unit"])
    if measured := predictor.measured_values(first, seen.runs):
        table["measured"] = table["target"].map(measured)
    return Answer(
        table,
        str(first["reason"]) if first["abstain"] else None,
        tuple(predictor.learnt_on),
    )


def publish_predictions(paths: DataPaths, measurements: Measurements | None = None) -> dict[str, float]:
    """Predict every measured network on its devices into ``predictions``; compare the earlier ones with runs
    since.

    Returns:
        The drift check: see :func:`perf_assets.analysis.predictors.evaluation.drift.drift`.
    """
    from perf_assets.analysis.predictors.evaluation.drift import drift, prediction_rows
    from perf_assets.store.computed import computed_file

    seen = measurements or read_measurements(paths)
    checked: dict[str, float] = {"compared": 0}
    earlier = computed_file(paths, "predictions")
    if earlier.exists():
        import pandas as pd

        checked = drift(pd.read_parquet(earlier), seen.runs)
    rows = prediction_rows(paths.predictors, seen.runs, seen.tables)
    publish_computed(paths, {"predictions": rows})
    return checked


def power_limits(
    paths: DataPaths, devices: Collection[str], stage: str, models: Collection[str], max_slower_pct: float
) -> pd.DataFrame:
    """Which power limit saves most energy for at most so much more time; see ``power.advice.best_limits``.

    Raises:
        NoDatabaseError: nothing was published yet.
        ValueError: no such run tells its power limit and energy.
    """
    from perf_assets.analysis.predictors.power.advice import best_limits
    from perf_assets.analysis.predictors.power.traces import read_points

    with open_readonly(paths.database) as connection:
        points = read_points(connection)
    return best_limits(points, devices, max_slower_pct, models, stage)


def predictions_hold(drift: Mapping[str, float]) -> bool:
    """Whether earlier predictions still hold for what was measured since; see ``evaluation.drift.holds``."""
    from perf_assets.analysis.predictors.evaluation.drift import holds

    return holds(drift)


def fit_all(paths: DataPaths, chosen: ChosenNetworks | None = None) -> list[dict[str, Any]]:
    """Fit everything, publish scores and predictions; returns the scores. ``chosen`` as in :func:`fit`."""
    seen = read_measurements(paths)
    for asset in TARGETS:
        fit(paths, asset, seen, chosen)
    scores = publish_scores(paths)
    publish_predictions(paths, seen)
    return scores


def check(paths: DataPaths, name: str) -> list[str]:
    """What breaks a check of :data:`CHECKS`, in words; empty where it holds, or where nothing was fitted."""
    from perf_assets.analysis.predictors.evaluation import leakage

    if name == "ours_beats_the_peers":
        with open_readonly(paths.database) as connection:
            return leakage.beaten_by_peers(connection.execute("SELECT * FROM predictor_scores").df())
    seen = read_measurements(paths)
    if name == "no_odd_measurements":
        return leakage.outliers(seen.runs, seen.layers, seen.tables)
    problem = leakage.leaked if name == "held_out_rows_do_not_leak" else leakage.learnt_from_shuffled
    return problem(seen.runs, seen.tables)
