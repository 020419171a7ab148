"""How often comparisons of equal groups are called different, and how often real changes are found. Prints Markdown.

Run with ``python -m benchmarks.comparisons [draws]``.
"""

import sys

import numpy as np

from perf_assets.analysis.comparisons.groups import judge
from perf_assets.analysis.comparisons.metrics import METRICS

CV = 0.05
NOISES = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "heavy-tailed": lambda rng, size: rng.standard_t(3, size) / np.sqrt(3),
    "skewed": lambda rng, size: rng.exponential(size=size) - 1,
}
LATENCY = METRICS["latency_ms"]


def verdicts(noise: str, sizes: tuple[int, int], factor: float, draws: int, seed: int) -> dict[str, float]:
    """Share of each verdict on a first group and a second one that is ``factor`` times as slow."""
    rng = np.random.default_rng(seed)
    counts: dict[str, int] = {}
    for _ in range(draws):
        values = np.maximum(1 + CV * NOISES[noise](rng, sum(sizes)), 0.05)
        first, second = np.log(values[: sizes[0]]), np.log(values[sizes[0] :] * factor)
        (answer,) = judge([(LATENCY, [(first, second)])])
        counts[answer.verdict] = counts.get(answer.verdict, 0) + 1
    return {verdict: count / draws for verdict, count in sorted(counts.items())}


def called_different(shares: dict[str, float]) -> float:
    """Share of the draws that are called faster or slower."""
    return shares.get("faster", 0.0) + shares.get("slower", 0.0)


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(f"{draws} draws, CV {CV:.0%}, nominal 1 %\n")
    print(
        "| groups | change | noise | called different | same | cannot tell |\n| --- | --- | --- | --- | --- | --- |"
    )
    for factor, sizes in (
        (1.0, (5, 5)),
        (1.0, (20, 20)),
        (1.0, (30, 10)),
        (1.1, (5, 5)),
        (1.1, (10, 10)),
        (1.1, (30, 5)),
        (1.1, (30, 10)),
    ):
        for seed, noise in enumerate(NOISES):
            shares = verdicts(noise, sizes, factor, draws, seed)
            cells = [called_different(shares), shares.get("same", 0.0), shares.get("cannot tell", 0.0)]
            shown = " | ".join(f"{cell:.2%}" for cell in cells)
            print(f"| {sizes[0]} v {sizes[1]} | {factor - 1:+.0%} | {noise} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
