"""How right the causal graphs are, on data whose truth is known. Prints Markdown tables; docs/causal.md quotes them.

    python -m benchmarks.causal SAMPLES [PART...]

SAMPLES is a folder with ``causal/NAME.txt`` and ``causal/NAME.graph.txt`` of bnlearn networks (causal-learn's test
data). Parts: bnlearn, mixed, pruning, effects, null, cost; all by default.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.causal_choose import encoded_of
from benchmarks.causal_data.random_studies import random_study
from benchmarks.causal_data.simulations import SIMULATIONS
from benchmarks.causal_data.study import Edges, Study, scores
from perf_assets.analysis.causal import graph as searching
from perf_assets.analysis.causal.audit import false_edge_shares
from perf_assets.analysis.causal.effects import adjusted, comparison, placebo
from perf_assets.analysis.causal.encoding import Encoded
from perf_assets.analysis.causal.frame import build
from perf_assets.analysis.causal.graph import edges_of, searches
from perf_assets.analysis.causal.pc_search import pc_search
from perf_assets.analysis.causal.score_search import score_search
from perf_assets.analysis.causal.settings import CausalSettings
from perf_assets.analysis.causal.stability import frequencies

DRAWS_OF_ROWS = {1000: 3, 10_000: 1}
NETWORKS = ("sachs", "child", "alarm", "insurance")
DRAWS = 200


def main() -> None:
    samples, parts = Path(sys.argv[1]), sys.argv[2:]
    for name, part in PARTS.items():
        if not parts or name in parts:
            part(samples)
            print(flush=True)


def table(columns: list[str], rows: list[list[object]]) -> None:
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print_row(row)


def print_row(row: list[object]) -> None:
    cells = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
    print("| " + " | ".join(cells) + " |", flush=True)


def bnlearn(samples: Path) -> None:
    """PC with three tiers by depth, level 0.01, on 10,000 rows."""
    rows = []
    for name in NETWORKS:
        data = pd.read_csv(samples / "causal" / f"{name}.txt", sep=r"\s+")
        truth = {
            tuple(pair)
            for pair in re.findall(r"(\w+) --> (\w+)", (samples / "causal" / f"{name}.graph.txt").read_text())
        }
        encoded = discrete(data, truth)
        start = time.process_time()
        found = pc_search(encoded, 0.01)
        seconds = time.process_time() - start
        one = scores(found, encoded.names, truth)
        tiers = dict(zip(encoded.names, encoded.tiers, strict=True))
        against = sum(
            tiers[encoded.names[i]] > tiers[encoded.names[j]]
            for i, j in zip(*np.nonzero(found & ~found.T), strict=True)
        )
        rows.append(
            [
                name,
                len(encoded.names),
                len(truth),
                one.skeleton_f1,
                one.directed_precision,
                one.directed,
                one.undirected,
                int(against),
                f"{seconds:.1f}",
            ]
        )
    print("PC (G-test, level 0.01, three tiers by depth), 10,000 rows\n")
    table(
        [
            "network",
            "columns",
            "true edges",
            "skeleton F1",
            "directed precision",
            "arrows",
            "left open",
            "against a tier",
            "CPU s",
        ],
        rows,
    )


def discrete(data: pd.DataFrame, truth: Edges) -> Encoded:
    """A network of categories, with its columns in three equal tiers by depth in the true graph."""
    names = list(data.columns)
    depth = dict.fromkeys(names, 0)
    for _ in names:
        for a, b in truth:
            depth[b] = max(depth[b], depth[a] + 1)
    deepest = max(depth.values())
    tiers = np.array([min(2, 3 * depth[name] // (deepest + 1)) for name in names])
    codes = np.column_stack([pd.factorize(data[name], sort=True)[0] for name in names])
    blank = [np.zeros((len(data), 1))] * len(names)
    every = np.ones(len(data), dtype=bool)
    # PC reads names, tiers and bins only. No tier here is a configuration, whose columns have no edges: shift by one.
    return Encoded(
        names, tiers + 1, blank, [None] * len(names), codes, [[]] * len(names), [every] * len(names), []
    )


def mixed(_: Path) -> None:
    """The score search, PC with tiers, PC without, and the notebook's way, on the simulations."""
    print("Mixed data that no setting was chosen on; means of 3 draws of 1000 rows, one draw of 10,000\n")
    columns = ["data", "rows", "method", "skeleton F1", "precision", "recall", "directed precision"]
    table(columns, [])
    measures = ("skeleton_f1", "skeleton_precision", "skeleton_recall", "directed_precision")
    for simulation in SIMULATIONS:
        for n, draws in DRAWS_OF_ROWS.items():
            per_method: dict[str, list] = {}
            for seed in range(draws):
                study = simulation(seed, n)
                found = {name: scores(*one, study.edges) for name, one in methods(study).items()}
                for name, value in (found | confirmed(study, seed)).items():
                    per_method.setdefault(name, []).append(value)
            for method, values in per_method.items():
                means = [float(np.mean([getattr(one, name) for one in values])) for name in measures]
                print_row([study.name, n, method, *means])


def methods(study: Study) -> dict[str, tuple[np.ndarray, list[str]]]:
    encoded = encoded_of(study)
    defaults = CausalSettings(tool="made_up")
    return {
        "tiered score search": (score_search(encoded, defaults.floor, defaults.cause_level), encoded.names),
        "PC with tiers": (pc_search(encoded, defaults.level), encoded.names),
        "PC without tiers": (pc_search(_untiered(encoded), defaults.level), encoded.names),
        "the notebook: Fisher-Z on codes": (notebook(study), list(study.rows.columns)),
    }


def _untiered(encoded: Encoded) -> Encoded:
    return Encoded(**{**vars(encoded), "tiers": np.ones_like(encoded.tiers), "untried": []})


def notebook(study: Study) -> np.ndarray:
    """causal-learn's PC as the study's notebook calls it: categories as codes, Fisher-Z, level 0.05, no tiers."""
    from causallearn.search.ConstraintBased.PC import pc

    codes = study.rows.apply(
        lambda column: column if column.dtype.kind == "f" else pd.factorize(column, sort=True)[0]
    )
    data = codes.to_numpy(dtype=float)
    ends = pc(data, 0.05, "fisherz", show_progress=False).G.graph
    arrow = (ends.T == 1) & (ends == -1)
    linked = (ends != 0) & (ends.T != 0)
    return arrow | (linked & ~arrow & ~arrow.T)


def confirmed(study: Study, seed: int, half_samples: int = 10) -> dict[str, object]:
    """Edges that both searches have in 90 % of the halves; few halves, to keep the benchmark short."""
    encoded = encoded_of(study)
    settings = CausalSettings(tool="made_up", half_samples=half_samples)
    graphs, linked, arrows = {}, {}, {}
    for method, search in searches(settings).items():
        graphs[method] = search(encoded)
        linked[method], arrows[method] = frequencies(search, encoded, half_samples, seed)
    at = {name: i for i, name in enumerate(encoded.names)}
    found = np.zeros((len(at), len(at)), dtype=bool)
    for edge in edges_of(encoded, graphs, linked, arrows, settings.stable):
        if edge.confirmed and edge.method == searching.SCORE:
            found[at[edge.source], at[edge.target]] = True
            found[at[edge.target], at[edge.source]] |= edge.kind == searching.UNDIRECTED
    return {"confirmed by both": scores(found, encoded.names, study.edges)}


def pruning(_: Path) -> None:
    """The public pruning corpus rebuilt from its published counts: does the graph of out-of-memory come out?"""
    runs = pruning_corpus()
    settings = CausalSettings(tool="pruning_profiler")
    start = time.process_time()
    found = searching.find(runs, settings)
    edges = [f"{edge.source} → {edge.target} ({edge.method}, {edge.frequency:.2f}{', confirmed' if edge.confirmed else ''})" for edge in found.edges]  # fmt: skip
    print(
        f"Pruning corpus as published, {len(runs)} runs, {int((runs['status'] == 'oom').sum())} out of memory, {time.process_time() - start:.0f} CPU s here\n"
    )
    print("\n".join(f"- {edge}" for edge in edges))


def pruning_corpus(seed: int = 0) -> pd.DataFrame:
    """The full design 3 hosts x 4 networks x 3 methods x 8 ratios x 6 batches x 4 workers, with its counts of OOM.

    Published: Laptop vgg16 424, googlenet 192, resnet 96; PC vgg16 190, googlenet 96; Server none. The largest
    batches fail first.
    """
    rng = np.random.default_rng(seed)
    grid = pd.MultiIndex.from_product(
        [["Laptop", "PC", "Server"], ["resnet", "alexnet", "vgg16", "googlenet"], ["l1_unstructured", "ln_structured", "random_unstructured"], [round(0.1 * i, 1) for i in range(8)], [4, 8, 16, 32, 64, 128], [1, 2, 4, 8]],
        names=["host", "model", "pruning_method", "pruning_ratio", "batch_size", "num_workers"],
    ).to_frame(index=False)  # fmt: skip
    failed = {
        ("Laptop", "vgg16"): 424,
        ("Laptop", "googlenet"): 192,
        ("Laptop", "resnet"): 96,
        ("PC", "vgg16"): 190,
        ("PC", "googlenet"): 96,
    }
    grid["status"] = "ok"
    for (host, model), count in failed.items():
        own = grid[(grid["host"] == host) & (grid["model"] == model)]
        order = own["batch_size"] + rng.uniform(0, 1, len(own))
        grid.loc[order.nlargest(count).index, "status"] = "oom"
    n = len(grid)
    base = grid["model"].map({"resnet": 68.0, "alexnet": 56.0, "vgg16": 71.0, "googlenet": 69.0})
    harm = grid["pruning_method"].map(
        {"l1_unstructured": 15.0, "ln_structured": 80.0, "random_unstructured": 70.0}
    )
    accuracy = (base - harm * grid["pruning_ratio"] + rng.normal(0, 2, n)).clip(lower=0.1)
    grid["accuracy_pct"] = accuracy.where(grid["status"] == "ok")
    memory = grid["model"].map({"resnet": 1.0, "alexnet": 1.2, "vgg16": 3.0, "googlenet": 1.3})
    grid["memory_used_mib"] = (
        900
        * memory
        * grid["host"].map({"Laptop": 0.9, "PC": 1.0, "Server": 1.4})
        * np.exp(rng.normal(0, 0.3, n))
    )
    grid["duration_s"] = (
        2.2 * rng.integers(1, 5, n) * grid["host"].map({"Laptop": 1.3, "PC": 1.0, "Server": 1.8})
    )
    return grid.assign(run_id=[f"run {i}" for i in range(n)])


def effects(_: Path) -> None:
    """Of effects whose truth is known: how many 95 % intervals hold it, over 200 draws each."""
    rows = []
    for interacts in (False, True):
        covered, zero = [], []
        for seed in range(DRAWS):
            frame, truth = effect_study(seed, 1000, interacts)
            compared = comparison(frame, "batch", "latency", "8", "1")
            one = adjusted(frame, "latency", compared, 200, seed)
            covered.append(one.lower <= truth <= one.upper)
            empty = placebo(frame, "latency", compared, 100, seed)
            zero.append(empty.lower <= 0 <= empty.upper)
        rows.append(
            [
                "differs by network" if interacts else "the same for all",
                DRAWS,
                float(np.mean(covered)),
                float(np.mean(zero)),
            ]
        )
    print("Effect of the batch on latency, 1000 rows, batch chosen by network and device\n")
    table(["the effect", "draws", "truth inside the interval", "placebo covers 0"], rows)


def effect_study(seed: int, n: int, interacts: bool):
    """Runs whose batch depends on network and device, and the mean effect of batch 8 instead of 1 over these runs."""
    rng = np.random.default_rng([5504, seed])
    model, device = rng.integers(0, 4, n), rng.integers(0, 3, n)
    shift = 0.5 * (model == 3) + 0.4 * (device == 0)
    step = np.clip(np.round(rng.normal(1.5 + shift, 1.0, n)), 0, 3).astype(int)
    slope = 0.25 + (0.1 * (model == 2) - 0.15 * (device == 1) if interacts else 0.0)
    latency = 3 + 0.4 * model - 0.3 * device + slope * step + rng.normal(0, 0.3, n)
    runs = pd.DataFrame({
        "model": np.array(["a", "b", "c", "d"])[model], "device": np.array(["x", "y", "z"])[device],
        "batch": 2.0**step, "latency": latency, "status": "ok",
    })  # fmt: skip
    tiers = {"configuration": ("model", "device", "batch"), "performance": ("latency",)}
    frame = build(runs, CausalSettings(tool="made_up", tiers=tiers))
    assert not frame.logs
    return frame, float(np.mean(3 * slope * np.ones(n)))


def null(_: Path) -> None:
    """Share of all possible edges between shuffled columns."""
    rows = []
    for simulation in SIMULATIONS:
        study = simulation(0, 3000)
        tiers = {tier: tuple(columns) for tier, columns in study.tiers.items()}
        settings = CausalSettings(tool="made_up", tiers=tiers)
        shares = false_edge_shares(build(study.rows.assign(status="ok"), settings), settings, rounds=10)
        rows.append([study.name, *(f"{100 * share:.2f} %" for share in shares.values())])
    print("Edges between shuffled columns, of all possible ones (3000 rows, 10 rounds)\n")
    table(["data", "tiered score search", "PC"], rows)


def cost(_: Path) -> None:
    """CPU seconds of 100 half-samples of 10,000 rows x 15 columns."""
    import resource

    study = next(
        study for study in (random_study(seed, 10_000) for seed in range(100)) if study.rows.shape[1] == 15
    )
    encoded = encoded_of(study)
    rows = []
    for method, search in searches(CausalSettings(tool="made_up")).items():
        processes = 2 if method == "pc" else 1
        before, start = _cpu_s(resource), time.monotonic()
        frequencies(search, encoded, 100, processes=processes)
        if processes > 1:
            from joblib.externals.loky import get_reusable_executor

            # Children count once they have ended.
            get_reusable_executor().shutdown(wait=True)
        rows.append(
            [method, processes, f"{_cpu_s(resource) - before:.1f}", f"{time.monotonic() - start:.1f}"]
        )
    print(f"100 half-samples of {encoded.n} rows x {len(encoded.names)} columns\n")
    table(["search", "processes", "CPU s", "wall s"], rows)


def _cpu_s(resource) -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


PARTS = {
    "bnlearn": bnlearn,
    "mixed": mixed,
    "pruning": pruning,
    "effects": effects,
    "null": null,
    "cost": cost,
}

if __name__ == "__main__":
    main()
