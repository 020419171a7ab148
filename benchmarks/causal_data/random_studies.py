"""Studies drawn at random, graph and forms; the settings of the search were chosen on them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.causal_data.study import Study, Truth, skewed_choice

_FORMS = ("linear", "saturating", "threshold", "curved", "levels")


def random_study(seed: int, n: int) -> Study:
    """A random graph over four tiers with a random form for every cause: linear, saturating, threshold, curved, max()."""
    rng = np.random.default_rng([811, seed])
    truth = Truth()
    settings: list[str] = []
    for i in range(int(rng.integers(4, 7))):
        name = f"setting_{i}"
        given = truth.columns[rng.choice(settings)] if settings and rng.random() < 0.4 else None
        if rng.random() < 0.5:
            values = skewed_choice(rng, [f"level_{k}" for k in range(int(rng.integers(2, 5)))], n, given)
        else:
            values = skewed_choice(rng, [2**k for k in range(int(rng.integers(3, 7)))], n, given).astype(
                float
            )
        truth.add("configuration", name, values)
        settings.append(name)
    earlier = list(settings)
    for tier, count in (("resources", rng.integers(2, 5)), ("performance", rng.integers(2, 5))):
        for i in range(int(count)):
            name = f"{tier}_{i}"
            causes = tuple(rng.choice(earlier, int(rng.integers(1, 4)), replace=False))
            score = _combined(rng, truth, causes, n)
            truth.add(tier, name, np.exp(rng.uniform(0.3, 1.0) * score), causes)
            earlier.append(name)
    for i in range(2):
        causes = tuple(rng.choice(earlier, int(rng.integers(1, 4)), replace=False))
        score = _combined(rng, truth, causes, n)
        outcome = score if i == 0 else (score > np.quantile(score, rng.uniform(0.6, 0.9))).astype(float)
        truth.add("outcome", f"outcome_{i}", outcome, causes)
    return truth.study(f"random {seed}")


def _combined(rng: np.random.Generator, truth: Truth, causes: tuple[str, ...], n: int) -> np.ndarray:
    parts = [_effect(rng, truth.columns[cause]) * rng.uniform(0.6, 1.4) for cause in causes]
    if len(parts) > 1 and rng.random() < 0.35:
        total = np.maximum(parts[0], parts[1]) + sum(parts[2:])
    elif len(parts) > 1 and rng.random() < 0.2:
        total = sum(parts) + 0.5 * parts[0] * parts[1]
    else:
        total = sum(parts)
    total = (total - total.mean()) / total.std()
    return total + rng.normal(0, rng.uniform(0.2, 0.7), n)


def _effect(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    form = rng.choice(_FORMS)
    if values.dtype == object or form == "levels":
        codes = (
            pd.factorize(values)[0]
            if values.dtype == object
            else pd.qcut(values, 4, labels=False, duplicates="drop")
        )
        effect = rng.normal(0, 1, int(codes.max()) + 1)[codes]
    else:
        x = np.log(values) if values.min() > 0 else values.astype(float)
        x = (x - x.mean()) / x.std()
        sign = rng.choice([-1.0, 1.0])
        effect = (
            sign
            * {
                "linear": x,
                "saturating": np.tanh(1.5 * x + rng.uniform(-0.5, 0.5)),
                "threshold": (x > rng.uniform(-0.5, 0.8)).astype(float),
                "curved": x + 0.4 * x**2,
            }[form]
        )
    deviation = effect.std()
    return (effect - effect.mean()) / (deviation if deviation > 0 else 1.0)
