"""Fixtures: a data folder of its own for every test."""

import os
import shutil

import pytest

from perf_assets.intake.pipeline import ingest
from perf_assets.workspace.paths import DataPaths
from perf_assets_tests.support import EXAMPLES

# Tests write their drops whole, so there is nothing to wait for; the settling itself has its own test.
os.environ["PERF_ASSETS_SETTLE_S"] = "0"
os.environ.pop("PERF_ASSETS_DATA", None)


@pytest.fixture
def data(tmp_path) -> DataPaths:
    """An empty data folder."""
    paths = DataPaths(tmp_path / "data")
    paths.drops.mkdir(parents=True)
    return paths


@pytest.fixture(scope="session")
def examples(tmp_path_factory) -> DataPaths:
    """The shipped drops, taken in. Shared by all tests: read it, do not change it."""
    paths = DataPaths(tmp_path_factory.mktemp("examples") / "data")
    shutil.copytree(EXAMPLES, paths.drops)
    ingest(paths)
    return paths
