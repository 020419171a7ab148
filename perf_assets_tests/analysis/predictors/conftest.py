"""A small world of known costs, fitted once."""

import pandas as pd
import pytest

from perf_assets.analysis.predictors.features.configurations import measured
from perf_assets.analysis.predictors.features.design import design
from perf_assets.analysis.predictors.serve.predictor_set import (
    fit_targets,
)
from perf_assets_tests.analysis.predictors import small


@pytest.fixture(scope="package")
def rows():
    return design(measured(small.runs()), small.tables())


@pytest.fixture(scope="package")
def fitted_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictors")
    scores = fit_targets(measured(small.runs()), small.tables(), ("latency", "memory"), folder)
    return folder, scores


@pytest.fixture(scope="package")
def several_devices():
    """The small world on three accelerators, one of them slower than its data sheet says."""
    slowness = {"h100": 1.0, "l40s": 1.5, "v100": 1.2}
    return measured(pd.concat([small.runs(device=name, slowness=slow) for name, slow in slowness.items()]))


@pytest.fixture(scope="package")
def several_devices_rows(several_devices):
    return design(several_devices, small.tables())
