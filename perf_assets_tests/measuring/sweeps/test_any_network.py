"""Networks that are not torchvision's, each measured by one sweep file: tiny, random weights, no downloads."""

import os

import pytest
import torch

from perf_assets.intake.pipeline import ingest
from perf_assets.measuring.networks import loading, tracing
from perf_assets.measuring.networks.catalog import feature_rows, prune_set
from perf_assets.measuring.networks.inputs import as_inputs, loss
from perf_assets.measuring.networks.names import CLASSIFIERS
from perf_assets.measuring.networks.request import NetworkRequest
from perf_assets.measuring.sweeps.grid import read_sweep
from perf_assets.measuring.sweeps.runner import run_sweep
from perf_assets_tests.support import sql

OWN = "perf_assets_tests.measuring.networks.own_networks"

COMMON = """
smallest = 2
largest = 2
vary = "batch_size"
pruned_models = "{pruned}"
[options]
input_size = {size}
passes = ["latency", "layers"]
protocol = {{ warmup_steps = 1, measured_steps = 3 }}
"""
SWEEPS = {
    "transformers encoder": (
        'networks = ["transformers:bert"]',
        12,
        "[options.network_kwargs]\nhidden_size = 24\nnum_hidden_layers = 1\nvocab_size = 50",
    ),
    "timm network": ('networks = ["timm:resnet18"]', 32, "[options.network_kwargs]\nnum_classes = 7"),
    "own module": (
        f'networks = ["{OWN}:TwoHeads"]\nstages = ["training"]\nalgorithms = ["gemm"]',
        16,
        f'[options.network_kwargs]\nwidth = 4\n[options.forward_kwargs]\nscale = 2.0\n[factors]\ninputs = ["{OWN}:batch"]',
    ),
    "pruned own module": (
        f'networks = ["{OWN}:classifier"]\nunpruned = false',
        16,
        '[[pruning]]\nmethod = "structured_magnitude"\nratios = [0.5]',
    ),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_any_network_by_one_sweep_file(data, tmp_path, monkeypatch, name):
    if "transformers" in name or "timm" in name:
        pytest.importorskip(name.split()[0])
    monkeypatch.setenv("PERF_ASSETS_TEST_PID", str(os.getpid()))
    head, size, tail = SWEEPS[name]
    file = tmp_path / "sweep.toml"
    file.write_text(f'name = "any"\n{head}{COMMON.format(pruned=tmp_path / "pruned", size=size)}{tail}')
    sweep = read_sweep(file)
    report = run_sweep(sweep, "sanity", data.drops)
    ingest(data)
    rows = sql(
        data,
        "SELECT status, model, input_size, pruning_ratio, latency_ms > 0, (config->'result'->>'params')::INT,"
        " config->'result'->>'reason' FROM cleaned_runs",
    )
    assert [row[0] for row in rows] == ["ok"] * len(sweep.stages), (rows, report)
    assert {row[1:3] for row in rows} == {(sweep.networks[0], size)}
    assert all(row[4] for row in rows)
    assert sql(data, "SELECT count(*) FROM cleaned_layers")[0][0] > 4
    if "pruned" in name:
        whole = sum(p.numel() for p in loading.build(NetworkRequest(network=sweep.networks[0])).parameters())
        assert (rows[0][3], rows[0][5] < 0.6 * whole) == (0.5, True)
    assert run_sweep(sweep, "sanity", data.drops).points.keys() == {"known"}


def test_features_of_own_modules_come_from_a_process_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PERF_ASSETS_TEST_PID", str(os.getpid()))
    pruned = prune_set(tmp_path / "pruned", [f"{OWN}:classifier"], ["l1_unstructured"], [0.5])
    assert pruned[0]["status"] == "ok", pruned[0]["reason"]
    rows = feature_rows([f"{OWN}:classifier"], pruned, ["inference"], tmp_path / "cache")
    assert [row["pruned_model"] for row in rows] == [None, pruned[0]["name"]]
    assert all(row["macs"] > 0 and row["estimated_peak_mib"] > 0 and row["features"] for row in rows)


@pytest.mark.parametrize(
    ("request_fields", "problem"),
    [
        ({"network": f"{OWN}:Nothing"}, "has no attribute 'Nothing'; set module_folder"),
        ({"network": "no_such_package:net"}, "No module named 'no_such_package'; set module_folder"),
        ({"network": f"{OWN}:NOT_CALLABLE"}, "is a int: name a class or a function"),
        ({"network": f"{OWN}:batch", "network_kwargs": {"batch_size": 1, "input_size": 8}}, "made a dict"),
        ({"network": "timm:resnet18", "weights": "absent.pt"}, "absent.pt"),
    ],
)
def test_what_is_no_network_says_so(request_fields, problem):
    with pytest.raises((ValueError, TypeError, OSError), match=problem):
        loading.build(NetworkRequest(**request_fields))


def test_weights_of_a_person_and_a_module_folder(tmp_path):
    (tmp_path / "elsewhere_net.py").write_text(
        "from torch import nn\ndef net(width=3):\n    return nn.Sequential(nn.Linear(width, 2))\n"
    )
    request = NetworkRequest(
        network="elsewhere_net:net", module_folder=str(tmp_path), network_kwargs={"width": 4}
    )
    model = loading.build(request, seed=1)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    weighted = request.model_copy(update={"weights": str(tmp_path / "weights.pt")})
    again = loading.build(weighted, seed=2)
    assert torch.equal(again[0].weight, model[0].weight)
    assert not torch.equal(loading.build(request, seed=2)[0].weight, model[0].weight)
    assert weighted.variant != request.variant


def test_a_forward_that_looks_at_values_is_traced_on_real_tensors():
    class Looks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)

        def forward(self, numbers):
            return self.linear(numbers) if float(numbers.sum()) > 0 else numbers

    rows = {row["kind"]: row for row in tracing.layer_table(Looks(), inputs=as_inputs(torch.ones(2, 4)))}
    assert (rows["linear"]["layer"], rows["linear"]["macs"]) == ("linear", 16)


def test_loss_of_any_answer():
    labels = torch.zeros(2, dtype=torch.long)
    scores = torch.randn(2, 3)
    entropy = torch.nn.functional.cross_entropy(scores, labels)
    assert torch.equal(loss(scores, labels), entropy)
    assert torch.isclose(loss((scores, scores), labels), 1.3 * entropy)
    assert torch.equal(loss({"loss": torch.tensor(3.0), "scores": scores}, labels), torch.tensor(3.0))
    assert torch.isclose(loss({"map": torch.full((2, 3, 4), 2.0)}, labels), torch.tensor(4.0))
    with pytest.raises(ValueError, match="nothing to train on"):
        loss([labels], labels)


def test_plain_names_are_those_that_torchvision_builds():
    import torchvision

    assert {*torchvision.models.list_models(module=torchvision.models), "lenet5"} == set(CLASSIFIERS)
