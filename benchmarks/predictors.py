"""Accuracy of the predictors beside their peers, from dropped logs to scores: ``make bench-predictors``.

    python -m benchmarks.predictors [FOLDER ...]

FOLDERs hold logs of perf4sight, ai3, timm and NeuSight, and layer tables; the default are the samples'.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from joblib.externals.loky import get_reusable_executor

from perf_assets.analysis.predictors import pipeline as prediction
from perf_assets.intake.pipeline import ingest
from perf_assets.workspace.paths import DataPaths
from perf_assets_tests.support import SAMPLES

DEFAULT_FOLDERS = [SAMPLES / name for name in ("predictors", "predictors_more", "public_devices")]
SPLITS = (
    *("config", "unseen_pruning_level", "leave_one_network_out"),
    *("leave_one_family_out", "leave_one_device_out", "random_leaky"),
)


def drops_of(folders: list[Path], data: Path) -> DataPaths:
    """A data folder that has taken in logs."""
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        sys.exit(f"no logs in {', '.join(missing)}: name a folder, or set PERF_ASSETS_SAMPLES")
    paths = DataPaths(data)
    for folder in folders:
        shutil.copytree(folder, paths.drops / folder.name)
    ingest(paths)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=DEFAULT_FOLDERS)
    with tempfile.TemporaryDirectory() as temporary:
        paths = drops_of(parser.parse_args().folders, Path(temporary))
        before = os.times()
        seen = prediction.read_measurements(paths)
        for asset in prediction.TARGETS:
            prediction.fit(paths, asset, seen)
        scores = prediction.publish_scores(paths)
        show(scores)
        coverage(scores)
        get_reusable_executor().shutdown(wait=True)
        cpu_s = sum(os.times()[:4]) - sum(before[:4])
        print(f"\nfit and evaluation, from SQL to scores: {cpu_s / 60:.1f} CPU minutes")
        speed(paths, seen)
        transfer(scores)


def show(scores: list[dict]) -> None:
    """A line a target, device, split and held-out network; the methods side by side, ours first."""
    lines: dict[tuple, dict[str, dict]] = {}
    for row in scores:
        if row["group"] == "all" or row["split"] == "leave_one_network_out":
            key = (
                row["target"],
                row["device"],
                row["stage"],
                SPLITS.index(row["split"]) if row["split"] in SPLITS else -1,
                row["group"],
            )
            if key[3] >= 0:
                lines.setdefault(key, {})[row["method"]] = row
    print(
        "| target | device | stage | split | held out | n | ours | answered | covered | abstained | peers |"
    )
    print("|" + "---|" * 11)
    for (target, device, stage, split, group), methods in sorted(lines.items()):
        ours = methods.pop("perf_assets", {})
        cells = [
            "-" if ours.get(name) is None else f"{ours[name]:.1f}"
            for name in ("mape", "mape_answered", "coverage_answered", "abstained")
        ]
        peers = ", ".join(f"{name} {row['mape']:.1f}" for name, row in sorted(methods.items()))
        label = SPLITS[split] + (" (leaky)" if SPLITS[split] == "random_leaky" else "")
        print(
            f"| {target} | {device} | {stage} | {label} | {group} | {ours.get('n', 0)} | {' | '.join(cells)} | {peers} |"
        )


def coverage(scores: list[dict]) -> None:
    """How often 90 % intervals of what was answered held, for each split and over all grouped ones."""
    print()
    all_rows = all_inside = 0.0
    for split in SPLITS:
        own = [
            row
            for row in scores
            if row["group"] == "all" and row["split"] == split and row["method"] == "perf_assets"
        ]
        own = [row for row in own if row.get("coverage_answered") is not None]
        answered = [row["n"] * (1 - row["abstained"] / 100) for row in own]
        inside = sum(n * row["coverage_answered"] / 100 for n, row in zip(answered, own, strict=True))
        if own:
            print(f"90 % intervals, {split}: {100 * inside / sum(answered):.1f} % of what was answered")
        if split != "random_leaky":
            all_rows, all_inside = all_rows + sum(answered), all_inside + inside
    print(f"90 % intervals, all grouped splits together: {100 * all_inside / max(all_rows, 1):.1f} %")


def speed(paths: DataPaths, seen: prediction.Measurements) -> None:
    """Time of 10,000 configurations of known networks."""
    import numpy as np
    import pandas as pd

    for tool, device, stage in [("perf4sight", "tx2", "training")]:
        own = seen.runs[(seen.runs["tool"] == tool) & (seen.runs["device"] == device)]
        if own.empty:
            return
        predictor = prediction.load(paths, device, stage, seen)
        random = np.random.default_rng(0)
        models = random.choice(sorted(own["model"].unique()), 10_000)
        frame = pd.DataFrame({"model": models, "batch_size": random.integers(1, 257, 10_000)})
        frame["pruning_ratio"] = [random.choice(predictor.tables.levels(model)) for model in models]
        started_s = time.perf_counter()
        answers = predictor.predict(frame)
        took_s = time.perf_counter() - started_s
        print(f"{len(answers)} configurations, {len(predictor.fitted)} targets: {took_s:.1f} s")


def transfer(scores: list[dict]) -> None:
    """A line a target and device: errors on what was held out, after k of its points were measured."""
    curves: dict[tuple, list[dict]] = {}
    for row in scores:
        if row["split"].startswith("transfer"):
            curves.setdefault((row["target"], row["device"], row["split"]), []).append(row)
    print("\nmean error in % (coverage) after k measured points of what was held out")
    for (target, device, split), rows in sorted(curves.items()):
        rows.sort(key=lambda row: int(row["group"].removeprefix("k=")))
        cells = ", ".join(f"{row['group']} {row['mape']:.1f} ({row['coverage']:.0f})" for row in rows)
        print(f"{target:17}{device:8}{split:23}{cells}")


if __name__ == "__main__":
    main()
