"""Fixtures: a data folder of its own for every test."""

import os

import pytest

from perf_assets.workspace.paths import DataPaths

# Tests write their drops whole, so there is nothing to wait for; the settling itself has its own test.
os.environ["PERF_ASSETS_SETTLE_S"] = "0"
os.environ.pop("PERF_ASSETS_DATA", None)


@pytest.fixture
def data(tmp_path) -> DataPaths:
    """An empty data folder."""
    paths = DataPaths(tmp_path / "data")
    paths.drops.mkdir(parents=True)
    return paths
