"""Planning: ``plan``, which answers what to run, where, under which power limit, and what to measure next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perf_assets.cli.predicting import INPUT, STAGE, own_networks, plain_errors
from perf_assets.cli.render import print_table, say
from perf_assets.workspace.paths import data_paths

if TYPE_CHECKING:
    import pandas as pd

    from perf_assets.analysis.predictors.serve.predictor_set import Predictor

_SHOWN = {
    "latency": "latency ms",
    "latency_p90": "p90 ms",
    "memory": "memory MiB",
    "energy": "energy J",
    "pruning_ratio": "pruned",
}
_PRUNED_BY = "structured_random"
"""How a sweep prunes what the tables know by its share alone: whole channels, whichever."""


@click.command()
@click.option("--device", "devices", required=True, multiple=True, help="Device; several are compared.")
@STAGE
@click.option("--model", "models", multiple=True, help="Network; default is every measured one.")
@click.option("--max-memory-mib", type=float, help="Largest memory in use.")
@click.option("--max-latency-ms", type=float, help="Largest time of one step.")
@click.option(
    "--sure", is_flag=True, help="Judge by what nine in ten stay below (p90), not by the predictions."
)
@click.option("--measure-next", type=click.IntRange(min=1), help="Name so many points to measure next.")
@click.option(
    "--next-sweep",
    type=click.Path(path_type=Path),
    help="Write those points as a sweep: perf-assets sweep FILE.",
)
@click.option(
    "--max-slower-pct",
    type=click.FloatRange(min=0),
    help="Which power limit saves most joules for at most so much more time.",
)
@INPUT
def plan(
    devices: tuple[str, ...],
    stage: str,
    models: tuple[str, ...],
    max_memory_mib: float | None,
    max_latency_ms: float | None,
    measure_next: int | None,
    next_sweep: Path | None,
    max_slower_pct: float | None,
    input_size: int | None,
    *,
    sure: bool,
) -> None:
    """Show the largest batch that fits on each device, which device is fastest, which batch sizes and pruning levels
    are worth their cost, and what to measure next; or which power limit saves most."""
    if next_sweep is not None and (measure_next is None or len(devices) > 1):
        raise click.ClickException("--next-sweep goes with --measure-next NUMBER and one --device")
    if max_slower_pct is not None:
        if sure or any(option is not None for option in (max_memory_mib, max_latency_ms, measure_next)):
            raise click.ClickException(
                "--max-slower-pct is a question of its own: leave the other limits out"
            )
        _power_limits(devices, stage, models, max_slower_pct)
        return
    import pandas as pd

    from perf_assets.analysis.predictors import pipeline
    from perf_assets.analysis.predictors.serve import capacity

    asked, parts = [], []
    with plain_errors():
        paths = data_paths()
        seen = pipeline.read_measurements(paths)
        for device in devices:
            predictor = pipeline.load(paths, device, stage, seen, own_networks(models))
            learnt = seen.runs["device"].isin(predictor.learnt_on) & (seen.runs["stage"] == stage)
            measured = seen.runs[learnt & (seen.runs["tool"] == predictor.tool)]
            named = list(models) or sorted(measured["model"].unique())
            parts.append(capacity.grid(predictor, named, input_size=input_size or 0))
            asked.append((predictor, measured[measured["device"] == device]))
        predictions = pd.concat(parts, ignore_index=True)
        if predictions.empty:
            raise ValueError(
                f"no shapes of {', '.join(models)}: drop a layer table, or use torchvision's names"
            )
    meets = capacity.feasible(predictions, max_memory_mib, max_latency_ms, sure=sure)
    if not meets.any():
        raise click.ClickException("no configuration meets these limits")
    if "latency" in predictions:
        predictions["latency_p90"] = capacity.p90(predictions, "latency")
    names = [
        "model",
        "pruning_ratio",
        "batch_size",
        "latency",
        "latency_p90",
        "memory",
        "energy",
        "abstain",
    ]
    columns = [*(["device"] if len(devices) > 1 else []), *(name for name in names if name in predictions)]
    tables = {"largest batch": (capacity.largest_batches(predictions, meets), columns)}
    if len(devices) > 1 and "latency" in predictions:
        extra = ["images_per_s", "next_device", "times_as_fast"]
        fastest = capacity.fastest_devices(predictions, meets)
        tables["which device (most images a second)"] = (fastest, [*columns, *extra])
    worth = "worth their cost (no other is faster per image, less pruned and smaller)"
    tables[worth] = (capacity.pareto(predictions, meets), columns)
    if measure_next is not None and "latency" in predictions:
        points = _to_measure(asked, predictions[meets], measure_next)
        title = "to measure next (each narrows the intervals of its network most, given those above it)"
        narrowed = ["device", "model", "pruning_ratio", "batch_size", "latency", "reach_now", "reach_after"]
        tables[title] = (points, narrowed)
        if next_sweep is not None:
            _write_sweep(next_sweep, points, stage)
    for title, (rows, shown) in tables.items():
        click.echo(title)
        header = [_SHOWN.get(name, name.replace("_", " ")) for name in shown]
        filled = rows[shown].astype(object).where(rows[shown].notna(), None)
        print_table(header, [*filled.itertuples(index=False, name=None)])


def _power_limits(
    devices: tuple[str, ...], stage: str, models: tuple[str, ...], max_slower_pct: float
) -> None:
    """Print which power limit saves most energy, measured and predicted."""
    from perf_assets.analysis.predictors import pipeline

    with plain_errors():
        rows = pipeline.power_limits(data_paths(), devices, stage, models, max_slower_pct)
    click.echo(f"power limits that save most for at most {max_slower_pct:g} % more time")
    header = {
        "from_w": "from W",
        "limit_w": "best W",
        "saved_pct": "saved %",
        "saved_lower_pct": "from %",
        "saved_upper_pct": "to %",
        "slower_pct": "slower %",
    }
    numbers = [name for name in header if name.endswith("_pct")]
    rows[numbers] = rows[numbers].round(1) + 0.0
    rows = rows.astype(object).where(rows.notna(), None)
    print_table(
        [header.get(name, name.replace("_", " ")) for name in rows], rows.itertuples(index=False, name=None)
    )


def _to_measure(
    asked: list[tuple[Predictor, pd.DataFrame]], allowed: pd.DataFrame, count: int
) -> pd.DataFrame:
    """Of all devices together the points that narrow intervals most."""
    import pandas as pd

    from perf_assets.analysis.predictors.serve.next_points import next_points

    parts = [
        next_points(predictor, allowed[allowed["device"] == predictor.device], measured, count)
        for predictor, measured in asked
    ]
    points = pd.concat(parts, ignore_index=True)
    narrowed = points["reach_now"] / points["reach_after"]
    return points.loc[narrowed.sort_values(ascending=False, kind="stable").index].head(count)


def _write_sweep(file: Path, points: pd.DataFrame, stage: str) -> None:
    """Write points as a list that a sweep takes; says which ones it cannot measure."""
    from perf_assets.analysis.predictors.features.shapes import canonical
    from perf_assets.measuring.networks.names import check_network_name

    lines = ['name = "measure_next"']
    left_out = []
    for point in points.to_dict("records"):
        network = canonical(str(point["model"]))
        try:
            check_network_name(network)
        except ValueError:
            left_out.append(str(point["model"]))
            continue
        fields: dict[str, Any] = {"network": network, "stage": stage, "batch_size": int(point["batch_size"])}
        if point["input_size"]:
            fields["input_size"] = int(point["input_size"])
        if point["pruning_ratio"]:
            fields |= {"pruning_method": _PRUNED_BY, "pruning_ratio": round(point["pruning_ratio"], 4)}
        lines += ["", "[[points]]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items())]
    if left_out:
        say(
            f"not in {file}, a sweep builds networks by name and knows none called {', '.join(sorted(set(left_out)))}"
        )
    if len(lines) == 1:
        raise click.ClickException("none of these points can be measured by a sweep; nothing was written")
    file.write_text("\n".join(lines) + "\n")
    say(f"next: perf-assets sweep {file}")
