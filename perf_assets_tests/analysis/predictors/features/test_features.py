"""From runs and shapes to designs: what teaches, and what is refused. On a small world of known costs."""

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.predictors.evaluation import leakage
from perf_assets.analysis.predictors.features.configurations import measured
from perf_assets.analysis.predictors.features.shapes import NetworkTables, UnknownNetworkError
from perf_assets.analysis.predictors.serve.predictor_set import (
    fit_targets,
)
from perf_assets.schema.device_catalog import catalog, device_facts, devices
from perf_assets_tests.analysis.predictors import small


def test_flagged_and_failed_runs_teach_nothing_but_their_outcome():
    runs = small.runs()
    runs.loc[0, "latency_ms"] = 1e6
    runs.at[0, "quality"] = ["swap_thrashing"]
    frame = measured(runs)
    row = frame[(frame.model == "narrow") & (frame.pruning_ratio == 0) & (frame.batch_size == 2)].iloc[0]
    assert np.isnan(row["latency_ms"])
    assert row["oom"] == 0
    failed = frame[frame["oom"] > 0.5]
    assert len(failed)
    assert failed["memory_used_mib"].isna().all()


def test_networks_are_known_by_both_spellings_and_when_pruned(tmp_path):
    from perf_assets.measuring.networks import pruning

    spec = pruning.create(tmp_path / "one", "squeezenet1_1", "structured_magnitude", 0.5, input_size=64)
    assert spec["status"] == "ok", spec
    pruned = pd.DataFrame([{"model": "squeezenet1_1", "pruning_ratio": 0.5, "folder": str(tmp_path / "one")}])
    dropped = pd.DataFrame([dict(row, network="mobilenetv2") for row in small.layer_rows("wide", 30)])
    networks = NetworkTables(dropped, pruned=pruned)
    assert networks.get("mobilenet_v2", 0.3) is networks.get("mobilenetv2", 0.3)
    assert networks.levels("mobilenet_v2") == [0.3]
    whole, half = (networks.get("squeezenet1_1", ratio, 64) for ratio in (0, 0.5))
    assert half["params"].sum() == spec["params"] < whole["params"].sum()
    with pytest.raises(UnknownNetworkError, match="50%"):
        networks.get("squeezenet1_1", 0.4)


def test_values_that_cannot_be_right_are_named_and_not_learnt_from(tmp_path):
    """One file in seconds among milliseconds, one value of memory that is absurd."""
    runs = measured(small.runs())
    seconds = runs["files"].map(lambda files: files == ["wide_50.csv"])
    absurd = int(np.flatnonzero((runs["model"] == "narrow") & runs["memory_used_mib"].notna())[3])
    runs["latency_ms"] = runs["latency_ms"].mask(seconds, runs["latency_ms"] / 1000)
    runs.loc[absurd, "memory_used_mib"] = 1e300
    problems = leakage.outliers(runs, pd.DataFrame({"tool": [], "device": []}), small.tables())
    assert len(problems) == runs.loc[seconds, "latency_ms"].notna().sum() + 1
    assert sum("wide_50.csv" in text and "latency" in text for text in problems) == len(problems) - 1
    assert sum("1e+300" in text and runs["files"][absurd][0] in text for text in problems) == 1

    without = runs.copy()
    without["latency_ms"] = without["latency_ms"].mask(seconds)
    without.loc[absurd, "memory_used_mib"] = np.nan
    fits = [fit_targets(frame, small.tables(), ("latency", "memory"), tmp_path) for frame in (runs, without)]
    assert fits[0] == fits[1]


def test_a_processor_that_no_data_sheet_is_known_of_is_no_accelerator():
    """Both stand between the devices of their kind that are known."""
    kinds = catalog().kinds
    for name, is_processor in (("epyc-9999", True), ("rtx-9999", False)):
        own = [facts for device, facts in devices().items() if (kinds.get(device) == "cpu") == is_processor]
        peaks = [facts.peak_fp32_tflops for facts in own]
        bandwidths = [facts.memory_bandwidth_gbps for facts in own]
        facts = device_facts(name)
        assert min(peaks) <= facts.peak_fp32_tflops <= max(peaks)
        assert facts.memory_bandwidth_gbps <= max(bandwidths)
    assert device_facts("epyc-9999").peak_fp32_tflops < device_facts("rtx-9999").peak_fp32_tflops / 5
