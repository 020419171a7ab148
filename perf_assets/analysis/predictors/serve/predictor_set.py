"""All predictors of a data folder: one a target, device, stage and tool; asking them, and adapting them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from perf_assets.analysis.predictors.constants import MIN_ROWS
from perf_assets.analysis.predictors.evaluation.scores import (
    ChosenNetworks,
    folds,
    score_oom,
    score_target,
)
from perf_assets.analysis.predictors.features.configurations import (
    LAYER_LATENCY,
    MEASURES,
    complete_keys,
    family_of,
)
from perf_assets.analysis.predictors.features.costs import values_of
from perf_assets.analysis.predictors.features.design import Design, design, joined
from perf_assets.analysis.predictors.features.layers import layer_designs
from perf_assets.analysis.predictors.features.outliers import without_outliers
from perf_assets.analysis.predictors.features.shapes import (
    NetworkTables,
    UnknownNetworkError,
    canonical,
)
from perf_assets.analysis.predictors.fit.extrapolation import WITHIN_DEVICE
from perf_assets.analysis.predictors.fit.predictor import Fitted, fit_predictor
from perf_assets.analysis.predictors.serve.files import load_fitted, save_fitted, taken_over
from perf_assets.analysis.predictors.serve.provenance import made_from
from perf_assets.schema.device_catalog import DEVICES_FILE, catalog, devices

if TYPE_CHECKING:
    from torch import nn

WORKERS = 2
WORTH_WORKERS = 300
"""Predictors fitted at a time, each in a process of its own, where so many configurations were measured."""
MOST_CHECKED = 200
"""Of so many configurations some have shapes: nobody looks."""
ANY_DEVICE = "any"
"""Stands in the place of a device for what was fitted to several devices together."""

FRAMEWORKS_CHOICE = "guess"
"""The algorithm of runs whose framework chose it."""


class NoPredictorError(ValueError):
    """Nothing was fitted for that target, device and stage: the message lists what was."""


def domains(measured: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Tool, device and stage of which enough was measured to fit on; with :data:`ANY_DEVICE` where several
    were."""
    counts = measured.groupby(["tool", "device", "stage"]).size()
    found: list[tuple[str, str, str]] = [key for key, count in counts.items() if count >= MIN_ROWS]  # ty: ignore[invalid-assignment]
    with_facts = [(tool, stage) for tool, device, stage in found if device in accelerators()]
    several = [key for key in dict.fromkeys(with_facts) if with_facts.count(key) > 1]
    return found + [(tool, ANY_DEVICE, stage) for tool, stage in several]


def accelerators() -> list[str]:
    """Devices whose facts are known, without processors: what is common to cards is not common to them."""
    kinds = catalog().kinds
    return [name for name in devices() if kinds.get(name) != "cpu"]


def rows_of(measured: pd.DataFrame, tool: str, device: str, stage: str) -> pd.DataFrame:
    """Measured rows of one of :func:`domains`. A device without facts says nothing about another one."""
    own = measured["device"].isin(accelerators()) if device == ANY_DEVICE else measured["device"] == device
    return measured[(measured["tool"] == tool) & own & (measured["stage"] == stage)]


def shortages(measured: pd.DataFrame, tables: NetworkTables) -> list[dict[str, Any]]:
    """Name every tool, device, stage and target that has runs, but too few measured configurations to fit on.

    Args:
        measured: what ``configurations.measured`` returns.
        tables: where shapes come from: nothing is learnt from networks whose shapes are not known.

    Returns:
        Rows with ``tool``, ``device``, ``stage``, ``target``, ``measured`` and ``needed`` (configurations) and
        ``shapeless``: networks that do not count, because nobody knows their shapes.
    """
    rows = []
    for (tool, device, stage), own in measured.groupby(["tool", "device", "stage"]):  # ty: ignore[not-iterable]
        for target, (column, _) in MEASURES.items():
            told = own[own[column].notna()]
            if told.empty:
                continue
            unknown = _shapeless(told, tables) if len(told) < MOST_CHECKED else []
            counted = int((~told["model"].isin(unknown)).sum())
            if counted < MIN_ROWS:
                rows.append(
                    {
                        "tool": tool,
                        "device": device,
                        "stage": stage,
                        "target": target,
                        "measured": counted,
                        "needed": MIN_ROWS,
                        "shapeless": unknown,
                    }
                )
    return rows


def _shapeless(runs: pd.DataFrame, tables: NetworkTables) -> list[str]:
    """Networks of runs whose shapes are not known, by name."""
    unknown = set()
    keys = ["tool", "model", "pruning_ratio", "input_size"]
    for tool, model, ratio, size in runs[keys].drop_duplicates().itertuples(index=False):
        look_up = tables.totals_of if family_of(str(tool)) == "totals" else tables.get
        try:
            look_up(str(model), float(ratio), int(size) or None)
        except UnknownNetworkError:
            unknown.add(str(model))
    return sorted(unknown)


def name_of(target: str, tool: str, device: str, stage: str) -> str:
    """File name of a predictor: ``latency-perf4sight-tx2-training``, whatever the log called its device."""

    def safe(text: str) -> str:
        return "".join(c if c.isalnum() or c in "._" else "_" for c in text)[:60]

    return "-".join(safe(part) for part in (target, tool, device, stage))


def fit_targets(
    measured: pd.DataFrame,
    tables: NetworkTables,
    targets: tuple[str, ...],
    folder: Path,
    layers: pd.DataFrame | None = None,
    chosen: ChosenNetworks | None = None,
    *,
    earlier: Path | None = None,
    designs: dict[tuple[str, str, str], Design] | None = None,
) -> list[dict[str, Any]]:
    """Fit, score and save predictors of some targets, for every device, stage and tool with enough runs.

    Args:
        measured: what :func:`configurations.measured` returns.
        tables: where shapes come from.
        targets: keys of ``MEASURES``, with ``memory`` out-of-memory is judged too; or ``layer_latency``.
        folder: where the files go.
        layers: single convolutions' times, rows of ``configurations.LAYERS_QUERY``.
        chosen: networks to learn from and to be judged on, instead of all and of every split.
        earlier: folder of predictors fitted before: what would come out the same is taken over.
        designs: designs made before of the same ``measured`` and ``tables``, by domain; new ones are added.

    Returns:
        Rows of ``predictor_scores``.
    """
    tasks = []
    designs = {} if designs is None else designs
    told: list[tuple[str, str, str]] = []
    for domain in domains(measured):
        own = rows_of(measured, *domain)
        here = [target for target in targets if target in MEASURES and own[MEASURES[target][0]].notna().any()]
        if not here:
            continue
        tool, device, stage = domain
        if device == ANY_DEVICE:
            parts = [key for key in told if key[::2] == (tool, stage) and key[1] in accelerators()]
            everything = joined([designs[key] for key in parts])
        else:
            if domain not in designs:
                designs[domain] = without_outliers(design(own, tables))
            everything = designs[domain]
            told.append(domain)
        if len(everything):
            tasks += [(everything, target, domain) for target in here]
    if layers is not None and LAYER_LATENCY in targets:
        by_tool: dict[str, list[Design]] = {}
        for tool, device, timed in layer_designs(layers, tables):
            tasks.append((without_outliers(timed), LAYER_LATENCY, (tool, device, "inference")))
            by_tool.setdefault(tool, []).append(tasks[-1][0])
        for tool, parts in by_tool.items():
            if len(parts) > 1:
                tasks.append((joined(parts), LAYER_LATENCY, (tool, ANY_DEVICE, "inference")))
    # What takes longest must not begin last.
    tasks.sort(key=lambda task: len(task[0]), reverse=True)
    workers = WORKERS if len(measured) >= WORTH_WORKERS else 1
    results = Parallel(workers)(delayed(_fit_target)(*task, folder, chosen, earlier) for task in tasks)
    return [row for rows in results for row in rows]


def _fit_target(
    everything: Design,
    target: str,
    domain: tuple[str, str, str],
    folder: Path,
    chosen: ChosenNetworks | None,
    earlier: Path | None,
) -> list[dict[str, Any]]:
    _, device, _ = domain
    name, told_by = name_of(target, *domain), made_from(everything, target, domain, chosen)
    if earlier is not None and (scores := taken_over(earlier, name, told_by, folder)) is not None:
        return scores
    splits = chosen.folds if chosen else folds
    rows = score_target(everything, target, device, splits=splits)
    if chosen:
        everything = everything.rows(chosen.learnt_from(everything.frame))
    known = np.isfinite(values_of(everything.frame, target))
    if known.sum() < MIN_ROWS:
        return []
    new = ("device",) if device == ANY_DEVICE else WITHIN_DEVICE
    fitted = fit_predictor(everything.rows(known), target, new)
    if target == "memory" and device != ANY_DEVICE:
        rows += [] if chosen else score_oom(everything, device)
        fitted = fitted.with_limit(everything)
    save_fitted(fitted, folder, name, rows, told_by)
    return rows


@dataclass
class Predictor:
    """What :func:`load_predictor` gives: answers about configurations of one device and stage."""

    device: str
    stage: str
    tool: str
    tables: NetworkTables
    fitted: dict[str, Fitted]
    learnt_on: list[str]
    """Devices whose runs it was fitted to: its own, or others that stand in for it."""
    scores: list[dict[str, Any]] = field(default_factory=list)

    def design(self, frame: pd.DataFrame) -> Design:
        """Design matrix of configurations of this predictor's device and stage."""
        frame = complete_keys(frame).assign(tool=self.tool, device=self.device, stage=self.stage)
        frame["algorithm"] = frame["algorithm"].replace("", self._usual_algorithm())
        return design(frame, self.tables, with_peer=False)

    def _usual_algorithm(self) -> str:
        """What runs under where nobody asks for an algorithm: what the framework chooses, or the only one measured."""
        measured = {name for fitted in self.fitted.values() for name in fitted.applicability.algorithms}
        if "" in measured or not measured:
            return ""
        if FRAMEWORKS_CHOICE in measured:
            return FRAMEWORKS_CHOICE
        return min(measured) if len(measured) == 1 else ""

    def predict(self, frame: pd.DataFrame, networks: Mapping[str, nn.Module] | None = None) -> pd.DataFrame:
        """Predict every target for configurations.

        Args:
            frame: columns ``model`` and ``batch_size``; also ``pruning_ratio`` (0-1), ``input_size`` (px) and
                ``algorithm`` where they are not the usual.
            networks: networks of your own, by the name that ``model`` gives them.

        Returns:
            The configurations, and of each target ``<target>``, ``<target>_lower``, ``<target>_upper`` in ms,
            MiB or J and ``<target>_reason`` (why it is a guess, empty where it is none); ``oom`` as a
            probability; ``reason`` of all targets, and ``abstain`` where there is one. Networks without
            shapes are left out.
        """
        if networks:
            return replace(self, tables=self.tables.with_networks(networks)).predict(frame)
        rows = self.design(frame)
        result = rows.frame.copy()
        if not len(rows):
            return result
        reasons = {}
        for target, fitted in self.fitted.items():
            answer = fitted.answer(rows)
            result[target], result[f"{target}_lower"], result[f"{target}_upper"] = (
                answer.predicted,
                answer.lower,
                answer.upper,
            )
            result[f"{target}_reason"] = reasons[target] = answer.reasons
            if target == "memory":
                result["oom"] = answer.out_of_memory
        result["reason"] = [
            _joined(dict(zip(reasons, own, strict=True))) for own in zip(*reasons.values(), strict=True)
        ]
        result["abstain"] = result["reason"] != ""
        return result

    def measured_values(self, asked: pd.Series, measured: pd.DataFrame) -> dict[str, float]:
        """What was measured of one configuration, by target; empty where it was not.

        Args:
            asked: a row of what :meth:`predict` gives; input size 0 is any.
            measured: what ``configurations.measured`` gives.
        """
        own = rows_of(measured, self.tool, self.device, self.stage)
        keys = ["pruning_ratio", "algorithm", "batch_size", *(["input_size"] if asked["input_size"] else [])]
        same = own["model"].map(canonical) == canonical(str(asked["model"]))
        for key in keys:
            same &= own[key] == asked[key]
        values = own[same][[MEASURES[target][0] for target in self.fitted]].mean()
        return {
            target: float(values[MEASURES[target][0]])
            for target in self.fitted
            if np.isfinite(values[MEASURES[target][0]])
        }

    def adapt(self, points: pd.DataFrame) -> Predictor:
        """A predictor that has seen a few measured points of a new network or device.

        Each target that the points hold is corrected in the logarithm, by as much as groups that were left
        out of the fit deviate (:class:`Deviation`): for the points' own networks, or for the device where it
        is new.

        Args:
            points: configurations as for :meth:`predict`, with measured columns such as ``latency_ms``.
        """
        rows = self.design(points)
        adapted = {}
        for target, fitted in self.fitted.items():
            column = MEASURES[target][0]
            adapted[target] = (
                fitted.adapted(rows, rows.frame[column].to_numpy(float)) if column in rows.frame else fitted
            )
        return replace(self, fitted=adapted)


def _joined(reasons: Mapping[str, str]) -> str:
    """Why targets are guesses in one text: where all of them are, the first one's reason; else by target."""
    if all(reasons.values()):
        return next(iter(reasons.values()))
    return "; ".join(f"{target}: {reason}" for target, reason in reasons.items() if reason)


def load_predictor(
    folder: Path, device: str, stage: str = "training", tables: NetworkTables | None = None
) -> Predictor:
    """Load what was fitted for a device and stage, or, of a device without runs, to several others together.

    Args:
        folder: where predictors were saved (``data/predictors``).
        device: as in ``cleaned_runs.device``; one without runs must stand in ``device_catalog.toml``.
        stage: ``training`` or ``inference``.
        tables: where shapes of networks come from; by default the networks of torchvision.

    Raises:
        NoPredictorError: nothing was fitted for them.
        ArtifactError: files were changed or are of another version.
    """
    files = _files(folder, device, stage)
    if not files and device in devices():
        files = _files(folder, ANY_DEVICE, stage)
    if not files:
        raise NoPredictorError(_nothing_fitted(folder, device, stage))
    tool = next(iter(files.values())).stem.split("-")[1]
    fitted, scores = {}, []
    for target, file in files.items():
        loaded, content = load_fitted(file)
        fitted[target] = loaded if device in loaded.applicability.devices else loaded.at_device(device)
        scores += content["scores"]
    learnt_on = sorted({name for loaded in fitted.values() for name in loaded.applicability.devices})
    return Predictor(device, stage, tool, tables or NetworkTables(), fitted, learnt_on, scores)


def _files(folder: Path, device: str, stage: str) -> dict[str, Path]:
    """Target → file of what was fitted for a device and stage, in the order of ``MEASURES``."""
    found: dict[str, Path] = {}
    for target in MEASURES:
        for file in sorted(folder.glob(f"{target}-*.json")):
            parts = file.stem.split("-")
            if len(parts) == 4 and file.stem == name_of(target, parts[1], device, stage):
                found.setdefault(target, file)
    return found


def _nothing_fitted(folder: Path, device: str, stage: str) -> str:
    parts = [file.stem.split("-") for file in folder.glob("*.json")]
    fitted = sorted({f"{part[2]} ({part[3]})" for part in parts if len(part) == 4})
    across = sorted({part[3] for part in parts if len(part) == 4 and part[2] == ANY_DEVICE})
    cure = "drop runs of it and fit again (perf-assets fit)"
    if across and device not in devices():
        cure += f"; or, for an answer ({', '.join(across)}) from the devices that were measured,"
        cure += f" add its data-sheet facts to {DEVICES_FILE}"
    return (
        f"no predictor for {device} ({stage}); fitted are: {', '.join(fitted) or 'none'}. To get one, {cure}"
    )
