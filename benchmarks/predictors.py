"""Accuracy of the predictors beside their peers, from dropped logs to scores: ``make bench-predictors``.

    python -m benchmarks.predictors [FOLDER]

FOLDER holds logs of perf4sight and ai3, and layer tables; the default is the samples' ``predictors`` folder.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from perf_assets.analysis.predictors import pipeline as prediction
from perf_assets.intake.pipeline import ingest
from perf_assets.workspace.paths import DataPaths
from perf_assets_tests.support import SAMPLES

SPLITS = ("config", "unseen_pruning_level", "leave_one_network_out", "leave_one_device_out", "random_leaky")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=SAMPLES / "predictors")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        sys.exit(f"no logs in {folder}: name a folder, or set PERF_ASSETS_SAMPLES")
    with tempfile.TemporaryDirectory() as temporary:
        paths = DataPaths(Path(temporary))
        shutil.copytree(folder, paths.drops)
        ingest(paths)
        started_s = time.perf_counter()
        seen = prediction.read_measurements(paths)
        for asset in prediction.TARGETS:
            prediction.fit(paths, asset, seen)
        scores = prediction.publish_scores(paths)
        fitted_s = time.perf_counter() - started_s
        show(scores)
        coverage(scores)
        print(f"\nfit and evaluation, from SQL to scores: {fitted_s:.0f} s")
        speed(paths, seen)
        transfer(scores)


def show(scores: list[dict]) -> None:
    """A line a target, device and split; the methods side by side, ours first."""
    lines: dict[tuple, dict[str, dict]] = {}
    for row in scores:
        if row["group"] == "all":
            lines.setdefault((row["target"], row["device"], row["split"]), {})[row["method"]] = row
    print(
        f"{'target':17}{'device':8}{'split':23}{'n':>6}  {'ours':>6} {'cover':>6} {'abst.':>6}  peers (mean "
        "error in %; oom: judged wrongly)"
    )
    for (target, device, split), methods in sorted(
        lines.items(), key=lambda item: (item[0][0], item[0][1], SPLITS.index(item[0][2]))
    ):
        ours = methods.pop("perf_assets", {})
        cells = [
            f"{ours[name]:6.1f}" if ours.get(name) is not None else "     -"
            for name in ("coverage", "abstained")
        ]
        peers = ", ".join(f"{name} {row['mape']:.2f}" for name, row in methods.items())
        label = split + (" (leaky)" if split == "random_leaky" else "")
        print(
            f"{target:17}{device:8}{label:23}{ours.get('n', 0):6}  {ours.get('mape', float('nan')):6.2f} "
            f"{' '.join(cells)}  {peers}"
        )


def coverage(scores: list[dict]) -> None:
    """A line a split: how often 90 % intervals held, on average over targets and devices, and the range of
    them."""
    print()
    for split in SPLITS:
        own = [
            row["coverage"]
            for row in scores
            if row["group"] == "all" and row["split"] == split and row.get("coverage") is not None
        ]
        if own:
            print(
                f"90 % intervals, {split}: {sum(own) / len(own):.1f} % on average, "
                f"{min(own):.0f}-{max(own):.0f} over {len(own)} targets and devices"
            )


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
