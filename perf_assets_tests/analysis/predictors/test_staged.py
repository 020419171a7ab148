"""Networks and layers whose convolutions the host stages: a small world whose truth follows the physics."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.predictors.evaluation import leakage
from perf_assets.analysis.predictors.features.configurations import measured
from perf_assets.analysis.predictors.features.design import design
from perf_assets.analysis.predictors.features.layers import layer_design, layer_designs
from perf_assets.analysis.predictors.features.outliers import without_odd
from perf_assets.analysis.predictors.features.shapes import NetworkTables
from perf_assets.analysis.predictors.features.targets import values_of
from perf_assets.analysis.predictors.features.terms_staged import staged_layer_terms, staged_terms
from perf_assets.analysis.predictors.fit.calibration import fit_predictor
from perf_assets.analysis.predictors.fit.cost_model import Belief, relative_errors_pct
from perf_assets.analysis.predictors.serve.files import load_fitted, save_fitted
from perf_assets_tests.analysis.predictors import small

ALGORITHMS = ("gemm", "implicit gemm")
NETWORKS = ("narrow", "wide", "pointwise")
SIZES = range(32, 160, 8)
IDLE_W, WORK_W = 80.0, 150.0


class Tables(NetworkTables):
    """Shapes of the small networks at any input size."""

    def get(self, network, pruning_ratio=0.0, input_size=None):
        rows = pd.DataFrame(small.layer_rows(network, 0))
        factor = (input_size or 64) / 64
        for name in ("in_hw", "out_hw"):
            rows[name] = np.where(rows[name] > 1, np.maximum(np.round(rows[name] * factor), 1), 1)
        return NetworkTables(rows).get(network)


def layer_ms(terms):
    """True times of convolutions, ms: copies at 5 GB/s and slower at their start, 0.3 ms each, and
    arithmetic."""
    copied = sum(terms[f"copy_{name}_mib"] for name in ("in", "out", "weight"))
    macs = sum(values for name, values in terms.items() if name.startswith("macs_"))
    images = sum(values for name, values in terms.items() if name.startswith("images_"))
    return 0.3 + 0.21 * copied + 0.15 * terms["copy_start_mib"] + 0.1 * macs + 0.02 * images


def runs(noise=0.02):
    """Rows of ``RUNS_QUERY``: latencies as :func:`layer_ms` and work of the host, power idle and above it."""
    random, rows = np.random.default_rng(0), []
    for model in NETWORKS:
        for size in SIZES:
            for algorithm in ALGORITHMS:
                terms = staged_terms(Tables().get(model, 0.0, size), np.ones(1), algorithm)
                macs = sum(values for name, values in terms.items() if name.startswith("macs_"))
                images = sum(values for name, values in terms.items() if name.startswith("images_"))
                time = (
                    1
                    + 0.3 * terms["launches"]
                    + 0.21 * (terms["copy_in_mib"] + terms["copy_out_mib"] + terms["copy_weight_mib"])
                    + 0.15 * terms["copy_start_mib"]
                    + 0.1 * macs
                    + 0.02 * images
                    + 0.1 * terms["host_elementwise_mib"]
                )[0]
                time *= np.exp(random.normal(0, noise))
                work_ms = (0.1 * macs + 0.02 * images)[0]
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
                        "energy_j": (IDLE_W * time + WORK_W * work_ms) / 1000,
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
                terms = staged_layer_terms(arrays, np.ones(len(conv)), algorithm)
                time = layer_ms(terms)[conv] * np.exp(random.normal(0, noise, conv.sum()))
                parts.append(
                    pd.DataFrame(
                        {
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


@pytest.mark.parametrize(("target", "limit_pct"), [("latency", 5), ("energy", 6)])
def test_a_held_out_network_is_predicted(rows, target, limit_pct):
    assert held_out_pct(rows, target) < limit_pct


def test_a_host_is_taken_to_be_as_old_as_its_accelerator():
    newer, older = ("h100", "l40s"), "v100"
    every = pd.concat([runs().assign(device=name) for name in (*newer, older)], ignore_index=True)
    every["latency_ms"] *= np.where(every["device"] == older, 1.5, 1.0)
    rows = design(measured(every), Tables(), with_peer=False)
    own = (rows.frame["device"] == older).to_numpy()
    fitted = fit_predictor(rows.rows(~own), "latency", ("device",), trees=20)
    y = values_of(rows.frame, "latency")[own]
    assert relative_errors_pct(fitted.at_device(older).predict(rows.rows(own))[0], y).mean() < 15


def test_layers_of_a_held_out_network_are_predicted_from_their_own_sizes():
    rows = layer_design(timed_layers(), Tables())
    assert rows.skipped == {}
    assert held_out_pct(rows, "layer_latency") < 5


def test_odd_times_of_layers_are_named_and_not_learnt_from():
    layers = timed_layers().assign(files=[["ai3/layers.csv"]] * len(timed_layers()))
    layers.loc[7, "latency_ms"] *= 1000
    [problem] = leakage.odd(measured(runs()), layers, Tables())
    assert f"layer {layers['layer'][7]}" in problem
    assert "ai3/layers.csv" in problem
    [(device, rows)] = layer_designs(layers, Tables())
    assert device == "l40s"
    assert without_odd(rows).frame["latency_ms"].isna().sum() == 1


def test_layers_that_the_network_has_not_are_counted():
    layers = timed_layers().head(8)
    layers.loc[0, "layer"] = "nonesuch"
    rows = layer_design(layers, Tables())
    assert len(rows) == 7
    assert "1 timed layers" in rows.skipped["narrow layers"]


def test_trees_are_believed_of_networks_that_were_measured(rows):
    """A quirk that no term knows, on one network at some sizes: seen there, it must be predicted there."""
    frame = rows.frame.copy()
    quirk = (frame["model"] == "wide") & (frame["input_size"] > 96)
    frame["latency_ms"] *= np.where(quirk, 1.5, 1.0)
    odd = replace(rows, frame=frame)
    fitted = fit_predictor(odd, "latency", trees=60)
    errors = relative_errors_pct(fitted.predict(odd)[0], values_of(frame, "latency"))
    assert errors[quirk].mean() < 10
    # Of a stranger with the same shapes, trees are believed only as far as left-out groups speak for them.
    fitted = replace(fitted, beliefs=fitted.beliefs | {"network": Belief(residual=0.0)})
    stranger = replace(odd, frame=frame.assign(model="stranger"))
    assert relative_errors_pct(fitted.predict(stranger)[0], values_of(frame, "latency"))[quirk].mean() > 15


def test_energy_follows_from_latency_and_survives_files(rows, tmp_path):
    fitted = fit_predictor(rows, "energy", trees=20)
    assert fitted.time is not None
    predicted = fitted.predict(rows)[0]
    power_w = 1000 * predicted / rows.frame["latency_ms"].to_numpy(float)
    assert (power_w > 0.8 * IDLE_W).all()
    file = save_fitted(fitted, tmp_path, "energy-ai3-l40s-inference")
    loaded, _ = load_fitted(file)
    assert np.array_equal(loaded.predict(rows)[0], predicted)
    assert loaded.beliefs == fitted.beliefs
    assert loaded.time is not None
    assert loaded.time.beliefs == fitted.time.beliefs


def test_two_networks_make_the_next_one_no_surer_than_a_variant_of_theirs(rows):
    two = rows.rows(rows.frame["model"] != "wide")
    fitted = fit_predictor(two, "energy", trees=20)
    network, variant = fitted.deviations["network"], fitted.deviations["variant"]
    assert network.half_width >= variant.half_width
    assert network.half_width >= fitted.time.deviations["network"].half_width
    asked = fit_predictor(two, "energy", ("network",), trees=20).deviations["network"]
    assert asked.half_width == pytest.approx(network.half_width)


def test_large_outputs_are_mapped_anew_and_others_not():
    shape = {
        "kind": np.array(["conv", "conv"]),
        "groups": np.ones(2),
        "in_channels": np.full(2, 3.0),
        "out_channels": np.full(2, 64.0),
        "kernel_size": np.full(2, 3.0),
        "in_hw": np.array([352.0, 384.0]),
        "out_hw": np.array([352.0, 384.0]),
        "macs": np.ones(2),
    }
    terms = staged_layer_terms(shape, np.ones(2), "gemm")
    # 64 planes of 352 x 352 floats are 30.25 MiB, of 384 x 384 36 MiB; the limit is 32.
    assert terms["fault_mib"].tolist() == [0.0, 36.0]
    assert terms["images_gemm_mib"][1] == pytest.approx(27 * 384**2 * 4 / 2**20)
    assert terms["macs_fft_g"].tolist() == [0.0, 0.0]


def test_terms_of_a_network_are_sums_over_images_and_layers():
    arrays = Tables().get("wide", 0.0, 64)
    one, four = (staged_terms(arrays, np.array([float(batch)]), "gemm") for batch in (1, 4))
    both = staged_terms(arrays, np.array([4.0, 1.0]), "gemm")
    for name in both:
        assert both[name].tolist() == [four[name][0], one[name][0]]
    assert four["copy_in_mib"] == pytest.approx(4 * one["copy_in_mib"])
    assert four["copy_weight_mib"] == one["copy_weight_mib"]
    assert four["launches"] == one["launches"]
