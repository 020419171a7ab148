"""Per-layer accounting on a clock that the test turns; counters and host facts from real outputs."""

import json
import mmap
import time

import pytest
import torch
from torch import nn

from perf_assets.measuring.devices import counters, host
from perf_assets.measuring.devices.nvml import NvmlReader
from perf_assets.measuring.networks import zoo
from perf_assets.measuring.profiling import layers
from perf_assets.measuring.profiling.algorithms import force
from perf_assets.measuring.profiling.layer_energy import layer_energies
from perf_assets_tests.measuring.devices.test_energy import FakeNvml


class Turned:
    """A clock that the network's own layers turn."""

    def __init__(self):
        self.now_ms = 0.0

    def stamp(self):
        return self.now_ms

    def elapsed_ms(self, start, end):
        return end - start


class Costly(nn.Module):
    """A layer that takes a known time."""

    def __init__(self, clock, cost_ms):
        super().__init__()
        self.clock, self.cost_ms = clock, cost_ms

    def forward(self, x):
        self.clock.now_ms += self.cost_ms
        return x


class Block(nn.Module):
    def __init__(self, clock):
        super().__init__()
        self.clock, self.inner, self.shared = clock, Costly(clock, 5.0), Costly(clock, 1.0)

    def forward(self, x):
        x = self.shared(self.shared(self.inner(x)))
        self.clock.now_ms += 2.0  # a bare addition, say
        return x


def test_layer_times_add_up_to_the_whole():
    clock = Turned()
    model = nn.Sequential(Block(clock), Costly(clock, 10.0))
    rows = {row["layer"]: row for row in layers.time_layers(model, lambda: model(torch.zeros(1)), 4, clock)}
    assert {name: row["median_ms"] for name, row in rows.items()} == {
        "0.inner": 5.0,
        "0.shared": 2.0,
        "0:self": 2.0,
        "1": 10.0,
        "network:self": 0.0,
    }
    assert rows["0.shared"]["calls"] == 2
    assert clock.now_ms == 4 * sum(row["mean_ms"] for row in rows.values())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_forced_convolutions_keep_their_description():
    model = zoo.build("lenet5")
    images = torch.randn(1, 1, 32, 32)
    force(model, "gemm", images)
    rows = layers.time_layers(model, lambda: model(images), 2)
    first = rows[0]
    assert (
        first["layer"],
        first["kind"],
        first["in_channels"],
        first["out_channels"],
        first["kernel_size"],
    ) == ("features.0", "conv", 1, 6, 5)
    assert [row["kind"] for row in rows].count("conv") == 2
    assert [row["kind"] for row in rows].count("linear") == 3


def test_hooks_are_gone_after_a_failure():
    model = zoo.build("lenet5")
    with pytest.raises(RuntimeError):
        layers.time_layers(model, lambda: model(torch.randn(1, 3, 32, 32)), 2)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_perf_output_tells_nothing_it_did_not_count():
    lines = [
        {"counter-value": "311.595411", "unit": "msec", "event": "task-clock", "pcnt-running": 100.00},
        {"counter-value": "<not supported>", "unit": "", "event": "cycles:u", "pcnt-running": 100.00},
        {"counter-value": "0.000000", "unit": "", "event": "context-switches:u", "pcnt-running": 100.00},
        {"counter-value": "120.000000", "unit": "", "event": "page-faults:u", "pcnt-running": 55.5},
    ]
    text = "\n".join([*map(json.dumps, lines), "", '{"cut off'])
    rows = {row["counter"]: row for row in counters.parse_perf(text)}
    assert (rows["task-clock"]["value"], rows["task-clock"]["unit"]) == (311.595411, "msec")
    assert rows["cycles"]["value"] is None
    assert rows["context-switches"]["value"] is None, "perf confines it to user space, where it reads 0"
    assert (rows["page-faults"]["value"], rows["page-faults"]["running_pct"]) == (120.0, 55.5)


def test_usage_is_counted_with_or_without_perf():
    def work():
        with mmap.mmap(-1, 2**24) as fresh:  # pages that the process cannot have touched before
            fresh.write(bytes(2**24))
        sum(i * i for i in range(2 * 10**6))

    rows, reason = counters.count(work, use_perf=False)
    values = {row["counter"]: row["value"] for row in rows}
    assert reason == "not asked for"
    assert values["user_time"] > 0
    assert values["minor_faults"] > 0
    rows, reason = counters.count(work)
    sources = {row["source"] for row in rows}
    assert sources == ({"perf", "getrusage"} if reason is None else {"getrusage"})


def test_facts_of_the_host_fit_in_json_and_peaks_reset():
    facts = json.loads(json.dumps(host.host_facts() | host.environment()))
    assert facts["cpus"] >= facts["cpus_allowed"] >= 1
    assert facts["memory_total_mib"] > facts["memory_available_mib"] > 0
    assert facts["torch"].startswith("2.")
    if not host.reset_peak_rss():
        pytest.skip("this kernel does not reset peaks")
    before_mib = host.peak_rss_mib()
    held = bytearray(300 * 2**20)
    assert host.peak_rss_mib() - before_mib > 250
    del held
    host.reset_peak_rss()
    assert host.peak_rss_mib() - before_mib < 150


def test_energy_of_layers_that_are_alike_is_measured_once():
    """At a steady 70 W: two measurements would differ. Of a convolution that is called twice, both calls count."""
    alike = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)]
    model = nn.Sequential(*alike, nn.ReLU(), alike[1], nn.ReLU())
    images = torch.randn(1, 4, 16, 16)
    found = layer_energies(model, lambda: model(images), NvmlReader("1234", FakeNvml(time.perf_counter)))
    assert found.keys() == {"0", "1"}
    assert 0 < found["0"] < 70 * 5
    assert found["1"] == pytest.approx(2 * found["0"])
    assert not any(module._forward_pre_hooks for module in model.modules())
