"""Pruned-model directories: a fast subset of the matrix in benchmarks/pruning_matrix.py, and their
failures."""

import json
import os
import signal
import threading
import time

import pytest
import torch

from perf_assets.measuring.networks import names, pruning, pruning_methods, tracing, zoo


# One cell for each way a network is handled: plain, residual and grouped graphs, auxiliary heads, attention,
# the two that torch-pruning cannot trace, and weights set to zero.
@pytest.mark.parametrize(
    ("base", "method", "ratio", "size", "aux_heads", "engine"),
    [
        ("lenet5", "structured_magnitude", 0.95, None, False, "torch_pruning"),
        ("googlenet", "structured_magnitude", 0.5, 64, True, "torch_pruning"),
        ("shufflenet_v2_x1_0", "structured_magnitude", 0.25, 64, False, "sequential_chains"),
        ("lenet5", "global_unstructured", 0.5, None, False, "torch_prune"),
        ("lenet5", "random_weighted", 0.5, None, False, "torch_pruning"),
    ],
)
def test_pruned_model_is_verified_and_loads_back(tmp_path, base, method, ratio, size, aux_heads, engine):
    spec = pruning.create(tmp_path / "m", base, method, ratio, input_size=size, aux_heads=aux_heads, seed=3)
    assert (spec["status"], spec.get("reason"), spec.get("engine")) == ("ok", None, engine)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["spec.json", "state_dict.pt"]
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]
    model, loaded_spec = pruning.load(tmp_path / "m")
    assert loaded_spec == spec
    assert sum(p.numel() for p in model.parameters()) == spec["params"]
    assert tracing.architecture_key(model) == spec["architecture_key"]
    assert tracing.architecture_key(pruning.rebuild(spec)) == spec["architecture_key"]
    channels, _ = zoo.input_shape(base)
    assert model(torch.randn(1, channels, spec["input_size"], spec["input_size"])).isfinite().all()
    if method in names.STRUCTURED_METHODS:
        assert spec["params"] < spec["base_params"]
        assert spec["macs"] < spec["base_macs"]
    else:
        assert (spec["params"], spec["macs"]) == (spec["base_params"], spec["base_macs"])
        assert sum(layer["zeros"] for layer in spec["layers"]) / spec["params"] == spec["sparsity"]
        assert spec["sparsity"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("base", ["resnet18", "regnet_y_400mf", "swin_t", "mobilenet_v2"])
@pytest.mark.parametrize("ratio", [0.05, 0.95])
def test_structured_pruning_shrinks_and_still_trains(base, ratio):
    model = zoo.build(base)
    before = sum(p.numel() for p in model.parameters())
    size = zoo.smallest_input(base)
    pruning_methods.prune_model(model, "structured_random", ratio, input_size=size)
    assert sum(p.numel() for p in model.parameters()) < before
    assert not model.training
    outputs = model(torch.randn(2, 3, size, size))
    outputs.sum().backward()
    assert outputs.isfinite().all()
    assert outputs.shape == (2, 1000)


@pytest.mark.parametrize("method", names.UNSTRUCTURED_METHODS)
def test_zeroed_weights_are_permanent(method):
    model = zoo.build("lenet5")
    assert pruning_methods.prune_model(model, method, 0.5) == "torch_prune"
    weights = [m.weight for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert zeros == pytest.approx(0.5, abs=0.02)
    assert not [name for name, _ in (*model.named_parameters(), *model.named_buffers()) if "mask" in name]


@pytest.mark.parametrize(
    ("base", "method"),
    [*(("resnet18", method) for method in names.GLOBAL_METHODS), ("mobilenet_v2", "random_weighted")],
)
def test_global_pruning_removes_the_ratio_of_all_parameters(base, method):
    model = zoo.build(base)
    before = sum(p.numel() for p in model.parameters())
    pruning_methods.prune_model(model, method, 0.5, seed=4, input_size=zoo.smallest_input(base))
    left = sum(p.numel() for p in model.parameters()) / before
    assert 0.43 <= left <= 0.5
    outputs = model(torch.randn(2, 3, 64, 64))
    outputs.sum().backward()
    assert outputs.isfinite().all()
    assert outputs.shape == (2, 1000)


def test_random_weighted_draws_where_to_prune_by_its_seed():
    """Of many seeds, some thin out the first layers and some the last ones."""

    def kept_shares(seed):
        layers = [torch.nn.Conv2d(3 if index == 0 else 32, 32, 3, padding=1) for index in range(12)]
        model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(32 * 64, 10))
        pruning_methods.prune_model(model, "random_weighted", 0.5, seed=seed, input_size=8)
        return layers[0].out_channels, layers[-1].out_channels

    shares = [kept_shares(seed) for seed in range(8)]
    assert any(first < last for first, last in shares)
    assert any(first > last for first, last in shares)


def test_global_pruning_of_a_network_that_cannot_be_traced_says_what_to_use():
    model = zoo.build("shufflenet_v2_x1_0")
    with pytest.raises(ValueError, match="use structured_magnitude"):
        pruning_methods.prune_model(model, "random_weighted", 0.5)


def test_same_seed_same_network_and_zero_ratio_changes_nothing():
    def pruned(seed, ratio):
        model = zoo.build("lenet5")
        pruning_methods.prune_model(
            model, "structured_random", ratio, seed=seed, input_size=32, in_channels=1
        )
        return list(model.parameters())

    first, again, other = pruned(1, 0.5), pruned(1, 0.5), pruned(2, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    untouched = zoo.build("lenet5").parameters()
    assert all(torch.equal(a, b) for a, b in zip(pruned(1, 0.0), untouched, strict=True))


def test_chains_remove_only_what_nobody_else_sees():
    """Removing channels whose weights are all zero must not change the output."""
    model = zoo.build("shufflenet_v2_x1_0", seed=5)
    block = model.stage3[1].branch2
    with torch.no_grad():
        for layer in (block[0], block[1], block[3], block[4]):
            layer.weight[::2] = 0
            if getattr(layer, "bias", None) is not None:
                layer.bias[::2] = 0
    images = torch.randn(2, 3, 64, 64)
    before = block(torch.ones(1, block[0].in_channels, 8, 8))
    pruning_methods.prune_chains(torch.nn.Sequential(block), 0.5, random=False)
    assert block[0].out_channels == block[3].groups == before.shape[1] // 2
    assert torch.allclose(block(torch.ones(1, block[0].in_channels, 8, 8)), before, atol=1e-6)
    assert model(images).shape == (2, 1000)


def test_time_limit_kills_the_child_and_says_so(tmp_path):
    started = time.monotonic()
    spec = pruning.create(tmp_path / "m", "resnet18", "structured_magnitude", 0.5, time_limit_s=0.5)
    assert time.monotonic() - started < 30
    assert (spec["status"], spec["reason"]) == ("unsupported", "not finished in 0.5 s")
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["spec.json"]
    with pytest.raises(ValueError, match="is unsupported: not finished"):
        pruning.load(tmp_path / "m")


def test_a_killed_child_is_a_reason(tmp_path):
    def kill_child():
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/cmdline") as file:
                        found = str(tmp_path) in file.read()
                except OSError:
                    continue
                if found and int(pid) != os.getpid():
                    os.kill(int(pid), signal.SIGKILL)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=kill_child)
    thread.start()
    spec = pruning.create(tmp_path / "m", "lenet5", "l1_unstructured", 0.5)
    thread.join()
    assert (spec["status"], spec["reason"]) == ("unsupported", "ended by SIGKILL")


def test_what_the_network_refuses_is_a_reason(tmp_path):
    spec = pruning.create(tmp_path / "m", "lenet5", "l1_unstructured", 0.5, input_size=20)
    assert spec["status"] == "unsupported"
    assert "[400, 120]" in spec["reason"]


def test_loading_trusts_nothing(tmp_path):
    (tmp_path / "m").mkdir()
    spec = {
        "format": pruning.FORMAT,
        "version": pruning.VERSION,
        "status": "ok",
        "base": "lenet5",
        "aux_heads": False,
        "sizes": {},
        "shapes": {},
    }
    (tmp_path / "m" / "spec.json").write_text(json.dumps(spec))

    class Harm:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/harmed",)

    torch.save({"features.0.weight": Harm()}, tmp_path / "m" / "state_dict.pt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        pruning.load(tmp_path / "m")
    assert not (tmp_path / "harmed").exists()
    (tmp_path / "m" / "spec.json").write_text(json.dumps({"format": "something else"}))
    with pytest.raises(ValueError, match="create it again"):
        pruning.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("method", "ratio"), [("l2", 0.5), ("l1_unstructured", 0.96), ("l1_unstructured", -0.1)]
)
def test_requests_outside_the_rules_are_refused(tmp_path, method, ratio):
    with pytest.raises(ValueError, match=r"unknown pruning method|outside 0 to 0\.95"):
        pruning.create(tmp_path / "m", "lenet5", method, ratio)
