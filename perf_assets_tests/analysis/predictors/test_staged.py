"""Networks and layers whose convolutions the host stages: a small world whose costs are counted by hand."""

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.predictors.evaluation import leakage
from perf_assets.analysis.predictors.features.configurations import measured
from perf_assets.analysis.predictors.features.costs import values_of
from perf_assets.analysis.predictors.features.design import design
from perf_assets.analysis.predictors.features.layers import layer_design, layer_designs
from perf_assets.analysis.predictors.features.outliers import without_outliers
from perf_assets.analysis.predictors.features.shapes import NetworkTables
from perf_assets.analysis.predictors.features.terms_staged import staged_layer_terms, staged_terms
from perf_assets.analysis.predictors.fit.cost_model import relative_errors_pct
from perf_assets.analysis.predictors.fit.predictor import fit_predictor
from perf_assets.analysis.predictors.serve.files import load_fitted, save_fitted
from perf_assets.measuring.networks.layer_costs import layer_arrays
from perf_assets.measuring.networks.memory.dataflow import operations
from perf_assets_tests.analysis.predictors import small

ALGORITHMS = ("gemm", "implicit gemm")
NETWORKS = ("narrow", "wide", "pointwise")
SIZES = range(32, 160, 8)
IDLE_W = 80.0


class Tables(NetworkTables):
    """Shapes of the small networks at any input size."""

    def get(self, network, pruning_ratio=0.0, input_size=None):
        rows = pd.DataFrame(small.layer_rows(network, 0))
        factor = (input_size or 64) / 64
        for name in ("in_hw", "out_hw"):
            rows[name] = np.where(rows[name] > 1, np.maximum(np.round(rows[name] * factor), 1), 1)
        return NetworkTables(rows).get(network)


def true_layer_ms(arrays, algorithm):
    """Times of convolutions in this world: 0.3 ms each, copies at 5 GB/s, 10 or 8 GFLOP/ms; shape (layers,), 0
    where there is none."""
    i, o, k, n, m = (
        np.nan_to_num(arrays[name])
        for name in ("in_channels", "out_channels", "kernel_size", "in_hw", "out_hw")
    )
    copied_mb = (i * n**2 + o * m**2 + i * o * k**2) * 4e-6
    gmacs = i * o * k**2 * m**2 / 1e9
    times = 0.3 + copied_mb / 5 + gmacs * (0.2 if algorithm == "gemm" else 0.25)
    return np.where(arrays["kind"] == "conv", times, 0.0)


def runs(noise=0.02):
    """Rows of ``RUNS_QUERY``: convolutions, and a host that handles 10 GB/s of what is normalised."""
    random, rows = np.random.default_rng(0), []
    for model in NETWORKS:
        for size in SIZES:
            arrays = Tables().get(model, 0.0, size)
            normalised_mb = arrays["out_elements"][arrays["kind"] == "batchnorm"].sum() * 4e-6
            for algorithm in ALGORITHMS:
                time = 1 + true_layer_ms(arrays, algorithm).sum() + 2 * normalised_mb / 10
                time *= np.exp(random.normal(0, noise))
                rows.append(
                    {
                        "tool": "ai3",
                        "model": model,
                        "pruning_ratio": 0.0,
                        "device": "l40s",
                        "stage": "inference",
                        "algorithm": algorithm,
                        "batch_size": 1,
                        "input_size": size,
                        "status": "ok",
                        "latency_ms": time,
                        "memory_used_mib": np.nan,
                        "memory_allocated_mib": np.nan,
                        "memory_reserved_mib": np.nan,
                        "energy_j": IDLE_W * time / 1000,
                        "quality": [],
                        "path": f"{model}.csv",
                        "run_id": f"{model}{algorithm}{size}",
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def rows():
    return design(measured(runs()), Tables(), with_peer=False)


def timed_layers(noise=0.02):
    random, parts = np.random.default_rng(0), []
    for model in NETWORKS:
        for size in SIZES:
            arrays = Tables().get(model, 0.0, size)
            conv = arrays["kind"] == "conv"
            for algorithm in ALGORITHMS:
                time = true_layer_ms(arrays, algorithm)[conv] * np.exp(random.normal(0, noise, conv.sum()))
                parts.append(
                    pd.DataFrame(
                        {
                            "tool": "ai3",
                            "model": model,
                            "device": "l40s",
                            "algorithm": algorithm,
                            "batch_size": 1,
                            "input_size": size,
                            "layer": arrays["layer"][conv],
                            "layer_index": np.flatnonzero(conv),
                            "in_channels": arrays["in_channels"][conv],
                            "out_channels": arrays["out_channels"][conv],
                            "kernel_size": arrays["kernel_size"][conv],
                            "latency_ms": time,
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True)


def held_out_pct(rows, target, name="wide"):
    own = (rows.frame["model"] == name).to_numpy()
    fitted = fit_predictor(rows.rows(~own), target, trees=40)
    return relative_errors_pct(fitted.predict(rows.rows(own))[0], values_of(rows.frame, target)[own]).mean()


@pytest.mark.parametrize(("target", "limit_pct"), [("latency", 12), ("energy", 12)])
def test_a_held_out_network_is_predicted(rows, target, limit_pct):
    assert held_out_pct(rows, target) < limit_pct


def test_layers_of_a_held_out_network_are_predicted_from_their_own_sizes():
    rows = layer_design(timed_layers(), Tables())
    assert rows.skipped == {}
    assert held_out_pct(rows, "layer_latency") < 8


def test_odd_times_of_layers_are_named_and_not_learnt_from():
    layers = timed_layers().assign(files=[["ai3/layers.csv"]] * len(timed_layers()))
    layers.loc[7, "latency_ms"] *= 1000
    [problem] = leakage.outliers(measured(runs()), layers, Tables())
    assert f"layer {layers['layer'][7]}" in problem
    assert "ai3/layers.csv" in problem
    [(tool, device, rows)] = layer_designs(layers, Tables())
    assert (tool, device) == ("ai3", "l40s")
    assert without_outliers(rows).frame["latency_ms"].isna().sum() == 1


def test_layers_that_the_network_has_not_are_counted():
    layers = timed_layers().head(8)
    layers.loc[0, "layer"] = "nonesuch"
    rows = layer_design(layers, Tables())
    assert len(rows) == 7
    assert "1 timed layers" in rows.skipped["narrow layers"]


def test_energy_survives_files(rows, tmp_path):
    fitted = fit_predictor(rows, "energy", trees=20)
    predicted = fitted.predict(rows)[0]
    file = save_fitted(fitted, tmp_path, "energy-ai3-l40s-inference")
    loaded, _ = load_fitted(file)
    assert np.array_equal(loaded.predict(rows)[0], predicted)
    for kind, deviation in fitted.deviations.items():
        assert loaded.deviations[kind].half_width == deviation.half_width


def one_convolution(size):
    return {
        "kind": np.array(["conv"]),
        "groups": np.ones(1),
        "in_channels": np.full(1, 3.0),
        "out_channels": np.full(1, 64.0),
        "kernel_size": np.full(1, 3.0),
        "in_hw": np.array([size]),
        "out_hw": np.array([size]),
        "macs": np.ones(1),
    }


def test_terms_of_one_convolution_by_hand():
    terms = staged_layer_terms(one_convolution(384.0), np.ones(1), "gemm")
    mib = 4 / 2**20
    assert terms["copied_mib"][0] == pytest.approx((3 * 384**2 + 64 * 384**2 + 64 * 27) * mib)
    assert terms["workspace_gemm_mib"][0] == pytest.approx(27 * 384**2 * mib)
    assert terms["macs_fft_g"][0] == 0
    # Winograd F(4x4, 3x3) in memory: 36 points of 96 x 96 tiles of each plane, and of each pair of planes.
    terms = staged_layer_terms(one_convolution(384.0), np.ones(1), "winograd nonfused")
    assert terms["workspace_winograd_nonfused_mib"][0] == pytest.approx(36 * (96**2 * 67 + 3 * 64) * mib)


def test_the_host_pays_for_windows_of_pooling_and_for_what_it_writes():
    """A convolution of 8 planes of 10 x 10, normalised, and pooled by 3 x 3 to 5 x 5 and to one value."""
    sizes = {"in_channels": 8, "out_channels": 8}
    rows = [
        {"kind": "conv", "in_channels": 3, "out_channels": 8, "kernel_size": 3, "in_hw": 10, "out_hw": 10},
        {"kind": "batchnorm", **sizes, "in_hw": 10, "out_hw": 10},
        {"kind": "maxpool", **sizes, "kernel_size": 3, "in_hw": 10, "out_hw": 5},
        {"kind": "avgpool", **sizes, "in_hw": 5, "out_hw": 1},
    ]
    arrays = layer_arrays(rows)
    terms = staged_terms(arrays, operations(arrays), np.array([2.0]), "gemm")
    mib = 2 * 4 / 2**20
    assert terms["host_window_mib"][0] == pytest.approx((8 * 25 * 9 + 8 * 25) * mib)
    # The table has no activations: one follows the normalisation.
    assert terms["host_elementwise_mib"][0] == pytest.approx(2 * 800 * mib)


def test_terms_of_a_network_are_sums_over_images_and_layers():
    arrays = Tables().get("wide", 0.0, 64)
    dataflow = operations(arrays)
    one, four = (staged_terms(arrays, dataflow, np.array([float(batch)]), "gemm") for batch in (1, 4))
    both = staged_terms(arrays, dataflow, np.array([4.0, 1.0]), "gemm")
    for name in both:
        assert both[name].tolist() == [four[name][0], one[name][0]]
    assert four["macs_gemm_g"] == pytest.approx(4 * one["macs_gemm_g"])
    assert four["launches"] == one["launches"]
