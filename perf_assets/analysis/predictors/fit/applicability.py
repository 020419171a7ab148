"""Where a predictor applies, and where it gives no answer that deserves trust: it abstains, and says why.

Four things make an answer a guess: a category that was never measured; sizes far beyond those measured; work
of a kind that the measured networks hardly do; and left-out groups that were missed by more than a factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors import constants as known
from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.shapes import canonical
from perf_assets.schema.device_catalog import device_facts

COST = "its cost"
BATCH_SIZE = "batch size"
"""Sizes that may lie beyond what was measured. Arithmetic or bytes alone may: they count by what they cost."""
KINDS = {"share_linear": "linear layers", "share_unknown": "operations of unknown kind"}


@dataclass
class Applicability:
    """Categories, sizes and kinds of work among the rows that were learnt from.

    ``sizes`` and ``kinds`` are (low, high) by name; ``cost_shares`` the largest share of each term in a row's
    cost.
    """

    devices: list[str]
    algorithms: list[str]
    levels: dict[str, list[float]]
    sizes: dict[str, tuple[float, float]]
    kinds: dict[str, tuple[float, float]]
    cost_shares: dict[str, float]

    @classmethod
    def of(cls, design: Design, costs: np.ndarray, cost_shares: pd.DataFrame) -> Applicability:
        """What the rows of a design hold.

        Args:
            design: training rows.
            costs: sum of each row's costs, shape (n,).
            cost_shares: share of each term in each row's cost, shape (n, terms).
        """
        frame = design.frame
        model = frame["model"].astype(str).map(canonical)
        return cls(
            sorted(set(frame["device"].astype(str))),
            sorted(set(frame["algorithm"].astype(str))),
            {
                str(name): sorted(map(float, set(levels)))
                for name, levels in frame.groupby(model)["pruning_ratio"]
            },
            {name: (float(size.min()), float(size.max())) for name, size in _sizes(design, costs).items()},
            {
                name: (float(design.terms[name].min()), float(design.terms[name].max()))
                for name in KINDS
                if name in design.terms
            },
            {str(name): float(cost_shares[name].max()) for name in cost_shares},
        )

    def reasons(
        self, design: Design, costs: np.ndarray, cost_shares: pd.DataFrame, half_widths: np.ndarray
    ) -> list[str]:
        """Why each row's answer is a guess, in words: a text a row, empty where it is none.

        Args:
            design: rows asked about.
            costs: sum of each row's costs.
            cost_shares: share of each term in each row's predicted cost.
            half_widths: of their intervals, in logarithms.
        """
        frame = design.frame
        found: list[tuple[np.ndarray, np.ndarray]] = []

        def add(where: np.ndarray, texts: list[str] | str) -> None:
            found.append((np.asarray(where), np.broadcast_to(np.array(texts, dtype=object), len(frame))))

        algorithm = frame["algorithm"].astype(str)
        add(
            ~algorithm.isin(self.algorithms), [f"algorithm {name!r} was never measured" for name in algorithm]
        )
        for name, text in KINDS.items():
            if name in design.terms and name in self.kinds:
                share, most = design.terms[name].to_numpy(float), self.kinds[name][1]
                add(
                    share > most + known.SHARE_MARGIN,
                    [
                        f"{text} do {value:.0%} of its work, at most {most:.0%} of what was measured"
                        for value in share
                    ],
                )
        for name, size in _sizes(design, costs).items():
            low, high = self.sizes[name]
            add(
                size > high * known.SIZE_FACTOR,
                [f"{name} {value / high:.3g} times the largest measured" for value in size],
            )
            add(
                size < low / known.SIZE_FACTOR,
                [f"{name} {value / low:.2g} times the smallest measured" for value in size],
            )
        levels = [self.levels.get(canonical(str(name)), [0.0, 1.0]) for name in frame["model"]]
        ratio = frame["pruning_ratio"].to_numpy(float)
        beyond = np.array(
            [
                len(own) > 1 and not own[0] - 1e-6 <= value <= own[-1] + 1e-6
                for value, own in zip(ratio, levels, strict=True)
            ]
        )
        add(
            beyond,
            [
                f"pruned by {value:.0%}, measured were {own[0]:.0%} to {own[-1]:.0%}"
                for value, own in zip(ratio, levels, strict=True)
            ],
        )
        unseen = unseen_share(cost_shares, self.cost_shares)
        add(
            unseen > known.SHARE_MARGIN,
            [f"{value:.0%} of its cost is of kinds that hardly were measured" for value in unseen],
        )
        far = {name: self._far(name) for name in frame["device"].astype(str).unique()}
        add(frame["device"].astype(str).map(far).to_numpy(bool), "a device unlike those measured")
        add(np.isnan(half_widths), "too few groups were measured to say how far off it may be")
        add(
            half_widths > np.log(known.WIDEST_FACTOR),
            [f"its interval reaches {np.exp(value):.2g} times as far" for value in half_widths],
        )
        return [
            "; ".join([str(texts[row]) for where, texts in found if where[row]][:2])
            for row in range(len(frame))
        ]

    def _far(self, device: str) -> bool:
        """Whether a device's arithmetic or bandwidth lies far outside the measured devices'."""
        if device in self.devices:
            return False
        facts = [device_facts(name) for name in (*self.devices, device)]
        for name in ("peak_fp32_tflops", "memory_bandwidth_gbps"):
            *measured, asked = (getattr(fact, name) for fact in facts)
            if not min(measured) / known.DEVICE_FACTOR <= asked <= max(measured) * known.DEVICE_FACTOR:
                return True
        return False


def _sizes(design: Design, costs: np.ndarray) -> dict[str, np.ndarray]:
    """Sizes of rows by name, shape (n,) each."""
    sizes = {COST: costs}
    if "batch_size" in design.frame:
        sizes[BATCH_SIZE] = design.frame["batch_size"].fillna(1).to_numpy(float)
    return sizes


def unseen_share(cost_shares: pd.DataFrame, largest: dict[str, float]) -> np.ndarray:
    """Share of each row's cost that lies beyond the largest share that its term had in any training row,
    shape (n,)."""
    most = np.array([largest.get(str(name), 0.0) for name in cost_shares])
    return np.maximum(cost_shares.to_numpy(float) - most, 0).sum(axis=1)
