"""How ``floor`` and ``cause_level`` of the score search were chosen: on random graphs that no reported figure uses.

    python -m benchmarks.causal_choose

Prints mean skeleton F1, directed precision and recall over 20 graphs per number of rows.
"""

from __future__ import annotations

import numpy as np

from benchmarks.causal_data.random_studies import random_study
from benchmarks.causal_data.study import Study, scores
from perf_assets.analysis.causal.encoding import encode
from perf_assets.analysis.causal.frame import build
from perf_assets.analysis.causal.score_search import score_search
from perf_assets.analysis.causal.settings import CausalSettings

FLOORS = (0.0, 0.02, 0.05, 0.08)
LEVELS = (0.01, 0.001, 0.0001)
ROWS = (200, 1000, 10_000)
GRAPHS = 20


def encoded_of(study: Study):
    """The study as the searches see it."""
    tiers = {tier: tuple(columns) for tier, columns in study.tiers.items()}
    return encode(build(study.rows.assign(status="ok"), CausalSettings(tool="made_up", tiers=tiers)))


def main() -> None:
    print("| rows | floor | level | skeleton F1 | worst F1 | directed precision | recall |")
    print("|---|---|---|---|---|---|---|")
    for n in ROWS:
        studies = [random_study(seed, n) for seed in range(GRAPHS)]
        tables = [encoded_of(study) for study in studies]
        for floor in FLOORS:
            for level in LEVELS:
                found = [
                    scores(score_search(table, floor, level), table.names, study.edges)
                    for table, study in zip(tables, studies, strict=True)
                ]
                f1, precision, recall = (
                    np.mean([getattr(one, name) for one in found])
                    for name in ("skeleton_f1", "directed_precision", "skeleton_recall")
                )
                worst = min(one.skeleton_f1 for one in found)
                print(
                    f"| {n} | {floor} | {level} | {f1:.3f} | {worst:.2f} | {precision:.3f} | {recall:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
