"""Layer tables and analytic features, against independent counts."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from perf_assets.measuring.networks import layer_costs, tracing, zoo
from perf_assets.measuring.networks.names import NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_and_params_agree_with_torch(name):
    model = zoo.build(name, device="meta")
    channels, size = zoo.input_shape(name)
    table = tracing.layer_table(model, size, channels)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as flops:
            model(torch.empty(1, channels, size, size, device="meta"))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    assert sum(row["macs"] for row in table) == flops.get_total_flops() // 2
    assert sum(row["params"] for row in table) == sum(p.numel() for p in model.parameters())
    assert [row["layer_index"] for row in table] == list(range(len(table)))


def test_resnet50_has_its_published_size():
    table = tracing.layer_table(zoo.build("resnet50", device="meta"), 224)
    found = layer_costs.network_features(table, 1)
    assert found["params"] == 25_557_032
    assert found["macs"] == pytest.approx(4.089e9, rel=1e-3)  # torchvision's GFLOPS column
    counts = [found[f"{kind}_count"] for kind in ("conv", "batchnorm", "relu", "maxpool", "add", "linear")]
    assert counts == [53, 53, 49, 1, 16, 1]


def test_table_without_torch_details_gives_the_same_features():
    """A foreign table (shapes of convolutions, no MACs, no functional operations) fills in to the same
    numbers."""
    table = tracing.layer_table(zoo.build("vgg16_bn", device="meta"), 224)
    needed = ("kind", "in_channels", "out_channels", "kernel_size", "groups", "in_hw", "out_hw", "params")
    foreign = [{k: "" if row[k] is None else str(row[k]) for k in needed} for row in table]
    ours, theirs = (layer_costs.network_features(t, [1, 64]) for t in (table, foreign))
    in_place = {"activation_bytes", "gradient_bytes"}  # only the traced table knows that ReLU writes in place
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours.keys() - in_place)
    columns = {name: [row[name] for row in foreign] for name in needed}
    again = layer_costs.network_features(columns, [1, 64])
    assert all(np.array_equal(again[name], theirs[name]) for name in theirs)


def test_perf4sight_terms_by_hand():
    """One 3×3 convolution, 2→4 channels, groups 1, 8×8 → 8×8, batch 5: numbers worked out from the
    formulas."""
    row = {
        "kind": "conv",
        "in_channels": 2,
        "out_channels": 4,
        "kernel_size": 3,
        "groups": 1,
        "in_hw": 8,
        "out_hw": 8,
    }
    found = layer_costs.perf4sight_features([row], 5)
    assert len(found) == 56
    assert found["tensor_weight"] == 72
    assert found["tensor_all"] == 72 + 5 * 72 + 2 * 5 * 2 * 64 + 2 * 5 * 4 * 64
    assert found["gemm_memory_forward"] == 5 * 64 * 9 * 2
    assert found["gemm_ops"] == 2 * 5 * 4 * 64 * 9 * 2 + 5 * 2 * 64 * 9 * 4
    assert found["fft_memory_forward"] == 8 * 9 * 4 * 2 + 8 * 9 * 5 * 2
    assert found["fft_ops_weight"] == 8 * 6 * (10 + 20 + 8) + 5 * 4 * 2 * 64
    assert found["winograd_4x3_memory_forward"] == 3 * 5 * 4 * 36 * 4
    assert found["winograd_3x2_ops_weight"] == 5 * 4 * 2 * 16 * 9 * 16
    assert len(layer_costs.perf4sight_features([row], 5, "inference")) == 15


def test_features_are_affine_in_the_batch_size():
    table = tracing.layer_table(zoo.build("squeezenet1_1", device="meta"), 224)
    together = layer_costs.network_features(table, np.array([1, 7, 256]))
    for position, batch in enumerate((1, 7, 256)):
        alone = layer_costs.network_features(table, batch)
        assert all(together[name][position] == pytest.approx(alone[name], rel=1e-12) for name in alone)


def test_tracing_leaves_the_model_alone_and_respects_the_mode():
    model = zoo.build("googlenet", aux_heads=True, device="meta")
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    evaluation, training = (tracing.layer_table(model, 224, training=mode) for mode in (False, True))
    assert not model.training
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert any(row["layer"].startswith("aux1") for row in training)
    assert not any(row["layer"].startswith("aux1") for row in evaluation)


def test_cache_is_keyed_by_architecture(tmp_path):
    first = tracing.network_features(zoo.build("lenet5", seed=1), 32, 1, cache=tmp_path)
    again = tracing.network_features(zoo.build("lenet5", seed=2), 32, 1, cache=tmp_path)
    wider = tracing.network_features(zoo.build("lenet5", num_classes=11), 32, 1, cache=tmp_path)
    assert first == again
    assert wider["architecture_key"] != first["architecture_key"]
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_memory_estimate_follows_tensor_lifetimes():
    """resnet18 saves its activations: memory grows by their size, on top of weights, gradients and
    momentum."""
    model = zoo.build("resnet18", device="meta")
    small, large = (tracing.estimate_peak_memory(model, batch, 64) for batch in (4, 64))
    weights_mib = sum(p.numel() for p in model.parameters()) * 4 / 2**20
    assert large["param_mib"] == pytest.approx(weights_mib, rel=0.01)
    assert small["peak_mib"] > 3 * weights_mib
    activation_mib = (
        layer_costs.network_features(tracing.layer_table(model, 64), 1)["activation_bytes"] / 2**20
    )
    growth_mib = (large["peak_mib"] - small["peak_mib"]) / 60
    assert 0.8 * activation_mib < growth_mib < 1.8 * activation_mib
    assert tracing.estimate_peak_memory(model, 64, 64, stage="inference")["peak_mib"] < large["peak_mib"] / 2


def test_errors_name_the_cure():
    with pytest.raises(ValueError, match="layer_table"):
        layer_costs.network_features([])
    with pytest.raises(ValueError, match="use one of conv"):
        layer_costs.network_features([{"kind": "Conv2d"}])
    with pytest.raises(ValueError, match="use one of inference, training"):
        layer_costs.network_features([{"kind": "relu", "out_channels": 1, "out_hw": 1}], 1, "test")
    with pytest.raises(ValueError, match="unknown network 'resnet51'"):
        zoo.build("resnet51")


def test_formulas_load_without_torch():
    code = (
        "import sys, perf_assets.measuring.networks.layer_costs; assert not {'torch', 'pandas'} & "
        "set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
