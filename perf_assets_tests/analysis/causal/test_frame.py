"""What becomes of columns and rows before any search."""

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.causal.encoding import encode
from perf_assets.analysis.causal.frame import FLAG, NOT_STATED, QUANTITY, RARE, SETTING, build
from perf_assets.analysis.causal.settings import CausalSettings, of_tool
from perf_assets_tests.analysis.causal import TIERS, made_up_runs


def frame_of(runs, tiers=TIERS):
    return build(runs, CausalSettings(tool="any", tiers=tiers))


def test_no_run_is_left_out_for_its_outcome():
    runs = made_up_runs()
    frame = frame_of(runs)
    assert len(frame.rows) == len(runs)
    assert frame.rows["oom"].sum() == (runs["status"] == "oom").sum() > 100
    assert frame.kinds == {
        "host": SETTING,
        "model": SETTING,
        "batch_size": SETTING,
        "num_workers": SETTING,
        "memory_used_mib": QUANTITY,
        "latency_ms": QUANTITY,
        "accuracy_pct": QUANTITY,
        "oom": FLAG,
    }
    assert frame.set_aside == {"failed": "constant"}


def test_a_run_that_died_was_not_measured():
    runs = made_up_runs()
    frame = frame_of(runs)
    dead = (runs["status"] == "oom").to_numpy()
    assert frame.rows.loc[dead, ["memory_used_mib", "latency_ms", "accuracy_pct"]].isna().all(axis=None)
    assert frame.rows.loc[~dead, "memory_used_mib"].notna().all()
    # Long tails are logs; a bell is not.
    assert frame.logs == {"memory_used_mib", "latency_ms"}
    np.testing.assert_allclose(frame.rows.loc[~dead, "latency_ms"], np.log(runs.loc[~dead, "latency_ms"]))


def test_what_is_unknown_where_runs_died_is_no_cause_of_death():
    encoded = encode(frame_of(made_up_runs()))
    assert ("memory_used_mib", "oom") in encoded.untried
    assert ("oom", "accuracy_pct") in encoded.untried
    oom = encoded.names.index("oom")
    assert {encoded.names[i] for i in encoded.tried[oom]} == {"host", "model", "batch_size", "num_workers"}
    assert encoded.used[oom].all()


def test_states_nobody_knows_are_unknown_outcomes_and_earlier_attempts_go():
    runs = made_up_runs()
    runs.loc[:49, "status"] = "unknown"
    runs.loc[50:79, "status"] = "superseded"
    runs.loc[80:119, "status"] = "failed"
    frame = frame_of(runs)
    assert frame.superseded == 30
    assert len(frame.rows) == len(runs) - 30
    assert frame.rows["oom"].isna().sum() == 50
    assert frame.rows["failed"].sum() == 40
    # Who ran out of memory had no chance to fail otherwise.
    assert frame.rows.loc[frame.rows["oom"] == 1, "failed"].isna().all()


def test_useless_columns_are_set_aside_by_name():
    runs = made_up_runs(300)
    runs["dataset"] = "imagenet"
    runs["device"] = runs["host"].map({"laptop": "gtx", "server": "p40"})
    runs["algorithm"] = runs["model"].map({"small": "a", "large": "a", "wide": "b"})
    runs["pruning_method"] = [None] * 200 + ["l1", "ln"] * 50
    runs["throughput_per_s"] = 1000 * runs["batch_size"] / runs["latency_ms"]
    runs["energy_j"] = np.nan
    runs["mean_power_w"] = 70.0
    tiers = TIERS | {
        "configuration": (
            *TIERS["configuration"],
            "device",
            "algorithm",
            "dataset",
            "pruning_method",
            "stage",
        ),
        "performance": ("latency_ms", "throughput_per_s", "energy_j", "mean_power_w"),
    }
    frame = frame_of(runs, tiers)
    assert frame.set_aside == {
        "dataset": "constant",
        "device": "a copy of host",
        "algorithm": "fixed by model",
        "pruning_method": "stated in only 33% of the runs",
        "stage": "no such column",
        "throughput_per_s": "an exact function of latency_ms and the settings",
        "energy_j": "never measured",
        "mean_power_w": "constant",
        "failed": "constant",
    }
    assert set(frame.names) == {*runs.columns[3:10], "oom"}


def test_levels_of_settings():
    runs = made_up_runs(400)
    runs["model"] = runs["model"].where(runs.index % 10 > 0)
    runs.loc[:2, "host"] = "borrowed"
    runs["num_workers"] = np.arange(400) % 40
    frame = frame_of(runs)
    assert frame.levels["batch_size"] == ["4", "16", "64"]
    assert frame.levels["model"][-1] == NOT_STATED
    assert frame.levels["host"] == ["laptop", "server", RARE]
    assert frame.levels["num_workers"][0] == "-0.001 to 7.8"
    assert len(frame.levels["num_workers"]) == 5
    assert frame.numeric == {"batch_size", "num_workers"}


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_hardly_any_rows(rows):
    frame = build(made_up_runs(50).head(rows), of_tool("any"))
    assert len(frame.rows) == rows
    encode(frame)


def test_no_column_at_all():
    frame = build(pd.DataFrame({"status": ["ok"] * 30, "run_id": range(30)}), of_tool("any"))
    assert frame.names == []
