"""What a predictor knows, and when it gives no answer that deserves trust: it abstains, and says why.

Four things make an answer a guess: a category that was never measured; sizes far beyond those measured; work
of a kind that the measured networks hardly do; and left-out groups that were missed by more than a factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from perf_assets.analysis.predictors.features.design import Design
from perf_assets.analysis.predictors.features.shapes import canonical
from perf_assets.analysis.predictors.fit.novelty import variant_names
from perf_assets.schema.device_catalog import device_facts

SIZES = {
    "log_macs": "arithmetic",
    "log_activation": "activations",
    "log_batch_size": "batch size",
    "log_moved": "bytes",
}
"""Feature → what it is the logarithm of."""
SIZE_FACTOR = 3.0
DEVICE_FACTOR = 2.0
"""How far beyond what was measured sizes, and a device's facts, may lie."""
WIDEST_FACTOR = 2.0
"""An interval that reaches further than this factor to either side says that the answer is a guess."""
KINDS = {"share_linear": "linear layers", "share_unknown": "operations of unknown kind"}
SHARE_MARGIN = 0.25
"""How much more of a network's work may be of a kind than of any measured network's."""


@dataclass
class Known:
    """Categories, sizes and kinds of work among the rows that were learnt from.

    ``sizes`` and ``kinds`` are (low, high) by name, sizes as logarithms; ``cost_shares`` the largest share of
    each term in a row's cost, and ``most_unseen`` the share beyond it that left-out groups had.
    """

    devices: list[str]
    algorithms: list[str]
    levels: dict[str, list[float]]
    variants: list[str]
    sizes: dict[str, tuple[float, float]]
    kinds: dict[str, tuple[float, float]]
    cost_shares: dict[str, float]
    most_unseen: float

    @classmethod
    def of(cls, design: Design, cost_shares: pd.DataFrame, most_unseen: float) -> Known:
        """What the rows of a design hold.

        Args:
            design: training rows.
            cost_shares: share of each term in each row's cost, shape (n, terms).
            most_unseen: the largest :func:`unseen_share` of rows whose group was left out.
        """
        frame, shape = design.frame, design.shape
        model = frame["model"].astype(str).map(canonical)
        return cls(
            sorted(set(frame["device"].astype(str))),
            sorted(set(frame["algorithm"].astype(str))),
            {
                str(name): sorted(map(float, set(levels)))
                for name, levels in frame.groupby(model)["pruning_ratio"]
            },
            sorted(set(variant_names(frame))),
            {name: (float(shape[name].min()), float(shape[name].max())) for name in SIZES if name in shape},
            {
                name: (float(design.terms[name].min()), float(design.terms[name].max()))
                for name in KINDS
                if name in design.terms
            },
            {str(name): float(cost_shares[name].max()) for name in cost_shares},
            most_unseen,
        )

    def reasons(self, design: Design, cost_shares: pd.DataFrame, half_widths: np.ndarray) -> list[str]:
        """Why each row's answer is a guess, in words: a text a row, empty where it is none.

        Args:
            design: rows asked about.
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
                    share > most + SHARE_MARGIN,
                    [
                        f"{text} do {value:.0%} of its work, at most {most:.0%} of what was measured"
                        for value in share
                    ],
                )
        for name, (low, high) in self.sizes.items():
            size = design.shape[name].to_numpy(float)
            margin = np.log(SIZE_FACTOR)
            add(
                size > high + margin,
                [f"{SIZES[name]} {np.exp(value - high):.3g} times the largest measured" for value in size],
            )
            add(
                size < low - margin,
                [f"{SIZES[name]} {np.exp(value - low):.2g} times the smallest measured" for value in size],
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
            unseen > max(SHARE_MARGIN, self.most_unseen),
            [f"{value:.0%} of its cost is of kinds that hardly were measured" for value in unseen],
        )
        far = {name: self._far(name) for name in frame["device"].astype(str).unique()}
        add(frame["device"].astype(str).map(far).to_numpy(bool), "a device unlike those measured")
        add(np.isnan(half_widths), "too few groups were measured to say how far off it may be")
        add(
            half_widths > np.log(WIDEST_FACTOR),
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
            if not min(measured) / DEVICE_FACTOR <= asked <= max(measured) * DEVICE_FACTOR:
                return True
        return False


def unseen_share(cost_shares: pd.DataFrame, largest: dict[str, float]) -> np.ndarray:
    """Share of each row's cost that lies beyond the largest share that its term had in any training row,
    shape (n,)."""
    most = np.array([largest.get(str(name), 0.0) for name in cost_shares])
    return np.maximum(cost_shares.to_numpy(float) - most, 0).sum(axis=1)
