"""The asset ``regressions``: rows, numeric metadata, and a check that fails with the numbers."""

from datetime import datetime, timedelta

import dagster as dg

from perf_assets.defs.assets.comparisons import regressions
from perf_assets.defs.resources import DataFolder
from perf_assets.intake import pipeline
from perf_assets_tests.cli.test_comparing import write_profile
from perf_assets_tests.support import sql


def test_a_slower_night_fails_the_check(data, monkeypatch):
    monkeypatch.setenv("PERF_ASSETS_DATA", str(data.root))
    for night in range(8):
        for repeat in range(5):
            latency_ms = (12 if night == 7 else 10) + 0.02 * repeat
            when = datetime(2026, 3, 1) + timedelta(days=night, minutes=repeat)
            write_profile(data, f"n{night}_{repeat}.jsonl", latency_ms, when)
    pipeline.ingest(data)
    result = dg.materialize([regressions], resources={"data_folder": DataFolder()})
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.metadata["alarms_up"].value == 1
    assert check.metadata["worse"].value.records[0].data["verdict"] == "slower"
    (made,) = result.asset_materializations_for_node("regressions")
    assert made.metadata["alarms_down"].value == 0
    assert sql(data, "SELECT count(*) FROM regressions WHERE is_newest") == [(1,)]
