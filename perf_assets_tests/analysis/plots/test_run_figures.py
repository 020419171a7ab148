"""Figures of runs, on small frames whose truth is plain."""

import pandas as pd
import pytest

from perf_assets.analysis.plots import (
    algorithm_curves,
    device_scaling,
    energy,
    layer_breakdown,
    memory_limits,
    metric_history,
    pruned_networks,
    reconstruction,
    roofline,
    run_throughput,
    training_time,
)


def test_speed_up_of_the_published_gaudi_runs():
    """Total training times (s) on 1, 2, 4 and 8 cards."""
    runs = pd.DataFrame({"devices": [1, 2, 4, 8], "value": [592.8, 621.0, 412.5, 872.7]})
    scaled = device_scaling.speed_up(runs, faster_is_more=False)
    assert scaled["speed_up"].round(2).tolist() == [1.00, 0.95, 1.44, 0.68]
    assert scaled["efficiency_pct"].round(1).tolist() == [100.0, 47.7, 35.9, 8.5]
    frame = runs.assign(work="training", configuration="unet", measure="total training time (s)")
    up, share = device_scaling.draw(frame).axes
    assert [text.get_text() for text in up.texts] == ["ideal", "1.00", "0.95", "1.44", "0.68"]
    assert up.get_xticks().tolist() == [1, 2, 4, 8]
    assert share.get_ylim()[0] == 0


def epochs(run_id: str, size: int, seconds: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": run_id,
            "run_id": run_id,
            "dataset": "slices",
            "input_size": size,
            "device": "hpu",
            "devices": 1,
            "batch_size": 64,
            "epoch": range(1, len(seconds) + 1),
            "train_s": seconds,
        }
    )


def test_another_input_size_is_another_panel_and_epochs_are_whole():
    frame = pd.concat([epochs("a", 64, [9.0, 4.0, 5.0, 6.0]), epochs("b", 128, [9.0, 8.0])])
    axes = training_time.draw(frame).axes
    assert [ax.get_title(loc="left") for ax in axes[::2]] == ["slices, 64 px", "slices, 128 px"]
    assert all(tick == int(tick) for tick in axes[0].get_xticks())
    # the first epoch warms up: the bar is the median of the others
    assert axes[1].patches[0].get_width() == 5.0
    assert "n = 3" in axes[1].texts[0].get_text()
    assert axes[1].get_xlim()[0] == 0


def test_the_band_of_the_past_knows_nothing_of_the_present():
    values = pd.Series([10.0, 11.0, 10.0, 9.0, 10.0, 50.0, 10.0])
    median, low, high = metric_history.past_band(values)
    assert median.isna().tolist() == [True] * 5 + [False] * 2
    assert median.iloc[5] == 10.0
    # MAD of 10, 11, 10, 9, 10 is 0
    assert (low.iloc[5], high.iloc[5]) == (10.0, 10.0)
    frame = pd.DataFrame(
        {
            "configuration": "toy",
            "metric": "latency (ms)",
            "value": values,
            "started_at": pd.date_range("2026-01-01", periods=7),
        }
    )
    (ax,) = metric_history.draw(frame).axes
    assert ax.get_ylim()[0] == 0
    assert ax.lines[-1].get_ydata().tolist() == [50.0]


def test_throughput_is_a_curve_where_a_network_ran_at_several_batches():
    rows = {"device": "a30", "stage": "inference", "input_size": 224.0, "precision": None, "pruned": False}
    frame = pd.DataFrame(
        {
            "series": ["net", "net", "one"],
            "batch_size": [1, 8, 4],
            "images_per_s": [100.0, 600.0, 50.0],
            "n": 1,
        }
    ).assign(**rows)
    frame = frame.assign(lowest_per_s=frame["images_per_s"], highest_per_s=frame["images_per_s"])
    (ax,) = run_throughput.draw(frame).axes
    assert ax.lines[0].get_ydata().tolist() == [100, 600]
    assert "1 more" in ax.get_title(loc="left")
    (ax,) = run_throughput.draw(frame[frame["batch_size"] != 8]).axes
    assert [bar.get_width() for bar in ax.patches] == [100, 50]


def test_energy_bars_are_kilojoules_and_samples_joules():
    shared = {"device": "a30", "stage": "inference", "input_size": 224.0, "n": 2}
    frame = pd.DataFrame(
        {
            "part": ["run", "sample"],
            "model": "net",
            "series": "net",
            "batch_size": [float("nan"), 4.0],
            "energy_j": [165_600.0, 0.5],
        }
    ).assign(**shared)
    frame = frame.assign(lowest_j=frame["energy_j"], highest_j=frame["energy_j"])
    sample, run = energy.draw(frame).axes
    assert run.patches[0].get_width() == pytest.approx(165.6)
    assert run.get_xlabel() == "energy of a run (kJ)"
    assert sample.patches[0].get_width() == 0.5
    assert sample.get_xlabel() == "energy per sample (J)"


def test_algorithms_are_lines_and_networks_columns():
    frame = pd.DataFrame(
        {
            "algorithm": ["gemm", "gemm", "fft", "fft"],
            "input_size": [224, 256] * 2,
            "latency_ms": [1.0, 2, 3, 4],
        }
    ).assign(model="net", device="a30", stage="inference", batch_size=1, precision=None)
    (ax,) = algorithm_curves.draw(frame.assign(power_w=float("nan"), energy_j=float("nan"))).axes
    assert {line.get_label(): line.get_ydata().tolist() for line in ax.lines} == {
        "gemm": [1, 2],
        "fft": [3, 4],
    }


def test_layers_are_sorted_and_add_up():
    n = layer_breakdown.MAX_LAYERS + 2
    frame = pd.DataFrame({"mean_ms": [float(i + 1) for i in range(n)], "layer": [f"l{i}" for i in range(n)]})
    shared = {"run_id": "r", "name": "net", "kind": "conv", "in_channels": None, "std_ms": 0.0}
    ax = layer_breakdown.draw(
        frame.assign(layer_index=range(n), out_channels=None, kernel_size=None, **shared)
    ).axes[0]
    widths = [bar.get_width() for bar in ax.patches]
    assert widths[0] == n
    assert sum(widths) == frame["mean_ms"].sum()
    assert ax.get_yticklabels()[-1].get_text() == "2 others: conv"


def test_pruned_but_not_faster_is_seen():
    frame = pd.DataFrame(
        {
            "pruning_ratio": [0.0, 0.5],
            "latency_kept_pct": [100.0, 98.0],
            "memory_kept_pct": [100.0, 60.0],
            "macs_kept_pct": [100.0, 40.0],
            "asked_pct": [100.0, 50.0],
        }
    ).assign(
        model="net", pruning_method="l1", device="tx2", stage="training", input_size=None, batch_size=8.0
    )
    latency, memory = pruned_networks.draw(frame).axes
    assert sorted(latency.lines[-1].get_xdata()) == [40, 100]
    assert sorted(latency.lines[-1].get_ydata()) == [98, 100]
    assert sorted(memory.lines[-1].get_ydata()) == [60, 100]
    assert latency.get_xlabel() == "multiply-adds kept (%)"
    unknown = pruned_networks.draw(frame.assign(macs_kept_pct=float("nan"))).axes[0]
    assert unknown.get_xlabel() == "weights kept, as asked for (%)"


def test_the_map_counts_runs_out_of_memory():
    frame = pd.DataFrame(
        {"model": ["a", "a", "b"], "batch_size": [8, 64, 64], "oom": [0, 3, 1], "runs": [4, 4, 4]}
    )
    ax = memory_limits.draw(frame.assign(device="Laptop", stage="inference")).axes[0]
    assert {text.get_text() for text in ax.texts} == {"0/4", "3/4", "1/4"}
    assert ax.images[0].get_array().tolist() == [[0, 75], [None, 25]]


def test_ratios_only_where_the_cpu_was_measured_too():
    frame = pd.DataFrame(
        {
            "part": "chain",
            "mu": [20.0, 60, 20, 60, 140],
            "series": ["cpu", "cpu", "aas", "aas", "aas"],
            "value": [10.0, 2, 50, 8, 1],
            "n": 1,
        }
    )
    chain, ratio = reconstruction.draw(frame.assign(run=None, stage=None)).axes
    assert chain.get_yscale() == "log"
    assert ratio.lines[0].get_xdata().tolist() == [20, 60]
    assert ratio.lines[0].get_ydata().tolist() == [5, 4]


def test_the_roof_is_the_data_sheet():
    frame = pd.DataFrame({"model": ["net"], "device": "tx2", "stage": "inference", "n": 1})
    (ax,) = roofline.draw(frame.assign(gflops=100.0, flop_per_byte=20.0)).axes
    assert max(ax.lines[-1].get_ydata()) == 665
