"""Scores on rows that were held out by group, ours and the peers' side by side, and the checks on the
evaluation.

Rows of one network at neighbouring batch sizes are near twins: a random split tests memory, not prediction.
So whole networks, devices or pruning levels are held out; the random split is scored as well, under its name
``random_leaky``, to show how much it flatters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.constants import FEWEST_LEFT, FOLDS, JUDGED_ROWS, MIN_ROWS
from perf_assets.analysis.predictors.evaluation.baselines import baselines_of
from perf_assets.analysis.predictors.features.configurations import MEASURES
from perf_assets.analysis.predictors.features.costs import snapshot_of, values_of
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.shapes import canonical
from perf_assets.analysis.predictors.fit.cost_model import relative_errors_pct
from perf_assets.analysis.predictors.fit.extrapolation import family_names, has_many_networks, network_names
from perf_assets.analysis.predictors.fit.forest import SEED
from perf_assets.analysis.predictors.fit.predictor import OURS, Fitted, best_threshold, fit_predictor

CONFIG_NETWORK = "resnet50"
CONFIG_LEVELS_PCT = (0, 30, 50, 70, 90)
"""The split that perf4sight ships: one network, these pruning levels train, its others are tested."""
POINTS = (0, 1, 3, 5, 10)
REPEATS = 20
"""Measured points of something new after which transfer is scored, and how often they are drawn at random."""
SAME_ORDER = 0.99999
"""Correlation of ranks from which a feature is taken to be the target itself. Memory that is worked out from
shapes may come to 0.9997 by its own merit."""
GROUPED_SPLITS = (
    "leave_one_network_out",
    "leave_one_family_out",
    "leave_one_device_out",
    "unseen_pruning_level",
    "config",
)
TRANSFER = {
    "leave_one_network_out": "transfer_to_network",
    "leave_one_family_out": "transfer_to_family",
    "leave_one_device_out": "transfer_to_device",
}
"""Split by which something is held out → split that scores it after some of its points were measured."""


@dataclass(frozen=True)
class Fold:
    """One split: masks of training and held-out rows, and what was held out."""

    split: str
    group: str
    train: np.ndarray
    held: np.ndarray
    new: str
    """What is new about the held-out rows: see ``extrapolation``."""


def folds(frame: pd.DataFrame) -> Iterator[Fold]:
    """Every split that rows of one stage allow: of several devices whole devices, of one device what differs
    in it.

    Args:
        frame: columns ``model``, ``pruning_ratio``, ``device`` of measured rows.
    """
    device = frame["device"].to_numpy(str)
    if len(np.unique(device)) > 1:
        for name in np.unique(device):
            yield Fold("leave_one_device_out", str(name), device != name, device == name, "device")
        return
    model, level = frame["model"].to_numpy(str), (frame["pruning_ratio"] * 100).round().to_numpy(int)
    if has_many_networks(frame):
        # Whole families, some at a time: which ones is drawn once.
        names, family = np.unique(family_names(frame), return_inverse=True)
        part = (np.random.default_rng(SEED).permutation(len(names)) % (2 * FOLDS))[family]
        for number in np.unique(part):
            held = part == number
            yield Fold("leave_one_family_out", f"part {number + 1}", ~held, held, "network")
    elif len(np.unique(model)) > 1:
        for name in np.unique(model):
            yield Fold("leave_one_network_out", str(name), model != name, model == name, "network")
    of_config = np.isin(level, CONFIG_LEVELS_PCT)
    own = model == CONFIG_NETWORK
    if (own & of_config).sum() >= JUDGED_ROWS and (own & ~of_config).any():
        yield Fold("config", CONFIG_NETWORK, own & of_config, own & ~of_config, "variant")
    for name in np.unique(model):
        own = model == name
        if (own & of_config).sum() >= JUDGED_ROWS and (own & ~of_config).any():
            yield Fold("unseen_pruning_level", str(name), own & of_config, own & ~of_config, "variant")
    if len(frame) >= 5 * JUDGED_ROWS:
        held = np.random.default_rng(SEED).random(len(frame)) < 0.2
        yield Fold("random_leaky", "all", ~held, held, "variant")


@dataclass(frozen=True)
class ChosenNetworks:
    """Networks to learn from (all others, where none are named), and networks to be judged on, by name."""

    train: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    def learnt_from(self, frame: pd.DataFrame) -> np.ndarray:
        """Rows to learn from, a mask of shape (n,)."""
        names = network_names(frame)
        held = np.isin(names, [canonical(name) for name in self.held])
        return np.isin(names, [canonical(name) for name in self.train]) & ~held if self.train else ~held

    def folds(self, frame: pd.DataFrame) -> Iterator[Fold]:
        """One split for each network to be judged on that has rows."""
        train, names = self.learnt_from(frame), network_names(frame)
        for name in self.held:
            held = names == canonical(name)
            if held.any() and train.any():
                yield Fold("chosen", name, train, held, "network")


def leaks(train: Design, held: Design) -> list[str]:
    """Configurations that stand on both sides of a split, or features that are the target in disguise.

    Returns:
        What leaks, in words; empty where nothing does.
    """
    found = []
    keys = ["model", "pruning_ratio", "device", "stage", "algorithm", "batch_size", "input_size"]
    keys += [name for name in ("layer",) if name in train.frame]
    both = train.frame[keys].merge(held.frame[keys], on=keys, how="inner")
    if len(both):
        found.append(
            f"{len(both)} configurations are in training and held out, such as {both.iloc[0].to_dict()}"
        )
    everything = pd.concat([train.frame, held.frame], ignore_index=True)
    columns = pd.concat(
        [pd.concat([part.terms, part.shape], axis=1) for part in (train, held)], ignore_index=True
    )
    for measure in [column for column, _ in MEASURES.values() if column in everything]:
        y = everything[measure].to_numpy(float)
        known = np.isfinite(y)
        if known.sum() < JUDGED_ROWS:
            continue
        target = pd.Series(y[known]).rank()
        for name in columns:
            feature = pd.Series(columns[name].to_numpy(float)[known])
            if feature.nunique() > known.sum() / 2 and abs(feature.rank().corr(target)) > SAME_ORDER:
                found.append(f"feature {name} orders the rows exactly as {measure} does")
    return found


def score_row(
    predicted: np.ndarray,
    y: np.ndarray,
    *,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    abstain: np.ndarray | None = None,
) -> dict[str, Any]:
    """Errors in percent; of methods with intervals their coverage, of those that may abstain how often they did,
    and error and coverage of what they answered, in percent."""
    errors = relative_errors_pct(predicted, y)
    row: dict[str, Any] = {
        "n": len(y),
        "mape": float(errors.mean()),
        "median_ape": float(np.median(errors)),
        "p95_ape": float(np.percentile(errors, 95)),
    }
    inside = None
    if lower is not None and upper is not None and np.isfinite(lower).any():
        inside = (y >= lower) & (y <= upper)
        row["coverage"] = float(inside[np.isfinite(lower)].mean() * 100)
    if abstain is not None:
        row["abstained"] = float(abstain.mean() * 100)
        if not abstain.all():
            row["mape_answered"] = float(errors[~abstain].mean())
            if inside is not None:
                row["coverage_answered"] = float(inside[~abstain].mean() * 100)
    return row


@dataclass
class _Held:
    """Held-out predictions of one method on one fold."""

    y: np.ndarray
    predicted: np.ndarray
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None
    abstain: np.ndarray | None = None

    @classmethod
    def joined(cls, parts: list[_Held]) -> _Held:
        def together(name: str) -> Any:
            values = [getattr(part, name) for part in parts]
            return None if any(value is None for value in values) else np.concatenate(values)

        return cls(
            together("y"), together("predicted"), together("lower"), together("upper"), together("abstain")
        )

    def score(self) -> dict[str, Any]:
        return score_row(self.predicted, self.y, lower=self.lower, upper=self.upper, abstain=self.abstain)


Fit = Callable[[Design, str, tuple[str, ...]], Fitted]


def score_target(
    design: Design,
    target: str,
    device: str,
    *,
    fit: Fit = fit_predictor,
    splits: Callable[[pd.DataFrame], Iterator[Fold]] = folds,
) -> list[dict[str, Any]]:
    """Scores of ours and of the peers on every split of rows of one stage and tool.

    Args:
        design: rows of one device, or of several (then whole devices are held out), in which ``target`` was
            measured (others are left out).
        target: a key of ``MEASURES``, ``oom`` or ``layer_latency``.
        device: name for the rows; of several devices each row has the held-out one's.
        fit: how ours is fitted; tests put in broken ones.
        splits: the splits to judge by; by default :func:`folds`.

    Returns:
        Rows of ``predictor_scores``; several folds of one split also as group ``all``. In the splits of
        ``TRANSFER`` the group is ``k=<points>``: errors of ours on what was held out after that many of its
        points, drawn at random, were measured, on the rows that were not.
    """
    y_all = values_of(design.frame, target)
    known = np.isfinite(y_all)
    design = design.rows(known)
    if len(design) < MIN_ROWS:
        return []
    y = y_all[known]
    snapshot = snapshot_of(design, target)
    tool = str(design.frame["tool"].iloc[0]) if "tool" in design.frame else "ai3"
    stage = str(design.frame["stage"].iloc[0]) if "stage" in design.frame else "inference"
    held_by: dict[tuple[str, str, str], list[tuple[str, _Held]]] = {}
    transferred: dict[tuple[str, str, str], list[_Held]] = {}
    for fold in splits(design.frame):
        train, held = design.rows(fold.train), design.rows(fold.held)
        y_train, y_held = y[fold.train], y[fold.held]
        if len(train) < FEWEST_LEFT and fold.split != "config":
            continue
        fitted = _fitted(train, held, target, fold.new, fit)
        methods = {OURS: _ours(fitted, held, y_held)}
        peers = baselines_of(target, tool, fold.new)
        methods |= {name: _Held(y_held, method(train, held, y_train)) for name, method in peers.items()}
        scored_device = fold.group if fold.new == "device" else device
        if fold.split in TRANSFER and target in MEASURES:
            for k, after in _after_points(fitted, held, y_held):
                transferred.setdefault((scored_device, TRANSFER[fold.split], f"k={k}"), []).append(after)
        for name, result in methods.items():
            held_by.setdefault((scored_device, fold.split, name), []).append((fold.group, result))
    common = {"target": target, "stage": stage, "snapshot": snapshot}
    rows = [
        common
        | {"device": name, "method": OURS, "split": split, "group": group, **_Held.joined(parts).score()}
        for (name, split, group), parts in transferred.items()
    ]
    for (scored_device, split, method), parts in held_by.items():
        base = common | {"device": scored_device, "method": method, "split": split}
        rows += [base | {"group": group, **result.score()} for group, result in parts if len(parts) > 1]
        rows.append(base | {"group": "all", **_Held.joined([result for _, result in parts]).score()})
    return rows


def _fitted(train: Design, held: Design, target: str, new: str, fit: Fit) -> Fitted:
    fitted = fit(train, target, (new,))
    return fitted.at_device(str(held.frame["device"].iloc[0])) if new == "device" else fitted


def _ours(fitted: Fitted, held: Design, y_held: np.ndarray) -> _Held:
    answer = fitted.answer(held)
    abstain = np.array([bool(reason) for reason in answer.reasons])
    return _Held(y_held, answer.predicted, answer.lower, answer.upper, abstain)


def _after_points(fitted: Fitted, held: Design, y_held: np.ndarray) -> Iterator[tuple[int, _Held]]:
    """Held-out predictions after k points of what is new were measured, for each k and each random choice of
    points."""
    outlook = fitted.outlook(held)
    if not set(outlook.kinds) <= fitted.deviations.keys():
        return
    for k in POINTS:
        for repeat in range(REPEATS if k else 1):
            chosen = np.random.default_rng(repeat).permutation(len(y_held))
            given, rest = chosen[:k], chosen[k:]
            if len(rest):
                after = fitted.given(outlook.rows(given), y_held[given])
                yield k, _Held(y_held[rest], *after.interval(outlook.rows(rest)))


def score_oom(design: Design, device: str, *, fit: Fit = fit_predictor) -> list[dict[str, Any]]:
    """Scores of out-of-memory judgements: ``mape`` is the share judged wrongly, in percent.

    Both ours and perf4sight's features judge by predicted memory against the threshold that divides the
    training rows best; ``constant`` says what most training rows did.
    """
    frame = design.frame
    if frame["oom"].nunique() < 2:
        return []
    rows = []
    wrong: dict[tuple[str, str], list[tuple[str, np.ndarray]]] = {}
    for fold in folds(frame):
        train, held = design.rows(fold.train), design.rows(fold.held)
        truth = held.frame["oom"].to_numpy() > 0.5
        fits = np.isfinite(train.frame["memory_used_mib"].to_numpy(float))
        if fits.sum() < JUDGED_ROWS or train.frame["oom"].nunique() < 2:
            continue
        fitted = fit(train.rows(fits), "memory", ()).with_limit(train)
        judged = {OURS: fitted.out_of_memory(held) > 0.5}
        peer = baselines_of("memory", "perf4sight")["perf4sight"]
        y = train.frame["memory_used_mib"].to_numpy(float)[fits]
        needed = peer(train.rows(fits), design, y)
        limit = best_threshold(needed[fold.train], train.frame["oom"].to_numpy() > 0.5)
        judged["perf4sight"] = needed[fold.held] > limit
        judged["constant"] = np.full(len(truth), train.frame["oom"].mean() >= 0.5)
        for method, says in judged.items():
            wrong.setdefault((fold.split, method), []).append((fold.group, says != truth))
    for (split, method), parts in wrong.items():
        base = {
            "target": "oom",
            "device": device,
            "stage": str(frame["stage"].iloc[0]),
            "method": method,
            "split": split,
            "snapshot": snapshot_of(design, "oom"),
        }
        groups = (
            [*parts, ("all", np.concatenate([part for _, part in parts]))]
            if len(parts) > 1
            else [("all", parts[0][1])]
        )
        rows += [
            base | {"group": group, "n": len(part), "mape": float(part.mean() * 100)}
            for group, part in groups
        ]
    return rows


def shuffled_target_score(design: Design, target: str, *, fit: Fit = fit_predictor) -> tuple[float, float]:
    """Error in percent on a held-out network after fitting on the true and on shuffled training values.

    A predictor that learns from its training rows must be far worse on shuffled ones: where it is not,
    held-out values have found a way into it.
    """
    y_all = values_of(design.frame, target)
    design = design.rows(np.isfinite(y_all))
    y = y_all[np.isfinite(y_all)]
    held = np.zeros(len(y), dtype=bool)
    names = np.unique(design.frame["model"].to_numpy())
    held[(design.frame["model"] == names[-1]).to_numpy()] = True
    if held.all():
        raise ValueError("one network alone: nothing to hold out")
    errors = []
    for shuffled in (False, True):
        train = design.rows(~held)
        values = y[~held].copy()
        if shuffled:
            np.random.default_rng(SEED).shuffle(values)
        column = MEASURES[target][0]
        train.frame = train.frame.assign(**{column: values})
        predicted, _, _ = fit(train, target, ("network",)).predict(design.rows(held))
        errors.append(float(relative_errors_pct(predicted, y[held]).mean()))
    return errors[0], errors[1]
