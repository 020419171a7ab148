"""Simulated memory of a step by hand, and against what was measured."""

import numpy as np
import pandas as pd
import pytest

from perf_assets.analysis.predictors.features.terms import memory_terms
from perf_assets.measuring.networks import layer_costs
from perf_assets.measuring.networks.memory.allocator import MIB
from perf_assets.measuring.networks.memory.dataflow import Dataflow, Operation, operations
from perf_assets.measuring.networks.memory.step import STEADY, Protocol, step_memory, step_memory_curve
from perf_assets_tests.measuring.networks.layers import arrays_of
from perf_assets_tests.support import SAMPLES, needs_samples


@pytest.mark.parametrize("network", ["vgg16", "resnet18", "resnet50", "mnasnet1_0", "googlenet"])
def test_shapes_alone_give_the_same_peak(network: str):
    full = arrays_of(network)
    rows = np.isin(full["kind"], ["conv", "batchnorm", "maxpool", "avgpool", "linear"])
    bare = {name: column[rows] for name, column in full.items()}
    params = full["params"].sum()
    assert step_memory(operations(bare), params, 32, "training") == pytest.approx(
        step_memory(operations(full), params, 32, "training"), rel=0.05
    )


def test_inference_needs_less_than_training():
    arrays = arrays_of("resnet18")
    dataflow, params = operations(arrays), arrays["params"].sum()
    training, _ = step_memory(dataflow, params, 64, "training")
    inference, _ = step_memory(dataflow, params, 64, "inference")
    assert params * 4 / MIB < inference < training / 3


def test_curve_grows_with_the_batch_and_meets_the_simulation():
    arrays = arrays_of("squeezenet1_0")
    dataflow, params = operations(arrays), arrays["params"].sum()
    allocated, reserved = step_memory_curve(dataflow, params, np.array([8.0, 12.0, 16.0]), "training")
    assert allocated[0] < allocated[1] < allocated[2]
    assert (reserved >= allocated).all()
    assert (allocated[2], reserved[2]) == step_memory(dataflow, params, 16, "training")


class TestStep:
    """One operation with parameters of 16 MiB, at a batch of 4 images of 4 MiB that become 8 MiB each."""

    PARAMS = 4 * MIB

    def _peaks(
        self, protocol: Protocol = STEADY, stage: str = "training", **operation
    ) -> tuple[float, float]:
        convolution = Operation("conv", (0,), 1, keeps=(0,), params=self.PARAMS, **operation)
        return step_memory(Dataflow([convolution], [MIB, 2 * MIB]), self.PARAMS, 4, stage, protocol)

    def test_inference_holds_parameters_input_and_output(self):
        assert self._peaks(stage="inference") == (16 + 16 + 32, 64)

    def test_gradients_and_momenta_come_with_the_first_step(self):
        # Parameters, input, gradients of output and parameters; the momentum follows when the output's has
        # gone.
        assert self._peaks(Protocol((1.0,), empties_cache=False)) == (16 + 16 + 32 + 16, 80)
        # Gradients and momenta stay, and a new gradient is added to the first. The momentum sits in what was
        # the output's block, so that the next output needs another.
        assert self._peaks() == (3 * 16 + 16 + 32 + 16, 80 + 32)

    def test_readings_are_averaged_by_weight(self):
        assert self._peaks(Protocol((2.0, 3.0), empties_cache=True))[0] == pytest.approx(
            (2 * 80 + 3 * 112) / 5
        )

    def test_filter_gradients_may_take_either_workspace(self):
        plain, _ = self._peaks()
        needed, _ = self._peaks(workspaces=((0.0, 1 * MIB), (MIB, 2 * MIB)))
        # 4 MiB, or 4 an image and 8 besides.
        assert needed == plain + (4 + 24) / 2


@needs_samples("predictors")
@pytest.mark.parametrize("network", ["resnet50", "mobilenetv2", "squeezenet"])
def test_unpruned_networks_measured_on_a_device(network: str):
    """Nothing is fitted, and yet both are close to what was measured."""
    shapes = pd.read_csv(SAMPLES / "predictors/tx2/layer_tables.csv")
    shapes = shapes[(shapes["net"] == network) & (shapes["level"] == 0)]
    shapes = shapes.rename(columns={"kernel": "kernel_size"})
    kinds = shapes["type"].map(layer_costs.KIND_OF_MODULE)
    table = {name: shapes[name].tolist() for name in shapes} | {"kind": kinds.tolist()}
    arrays = layer_costs.layer_arrays(table)
    measured = pd.read_csv(SAMPLES / f"predictors/tx2/memory/{network}_0.csv", sep="|")
    measured = measured[measured["passed"].astype(str) == "True"]
    batch = measured["params"].str.extract(r"'bs': (\d+)")[0].astype(float).to_numpy()
    dataflow, params = operations(arrays), float(arrays["params"].sum())
    terms = memory_terms(dataflow, params, batch, "training", "perf4sight")
    for column, name, most in (("mem_alloc", "allocated_mib", 0.03), ("mem_reserved", "reserved_mib", 0.06)):
        errors = np.abs(terms[name] / measured[column].astype(float).to_numpy() - 1)[batch >= 8]
        assert np.median(errors) < most, column
