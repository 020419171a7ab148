"""Energy of single layers: each runs alone on the input that it gets in the network, for as long as a counter that moves
ten times a second needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from perf_assets.measuring.devices import energy
from perf_assets.measuring.devices.power import PowerReader
from perf_assets.measuring.profiling.algorithms import ForcedConv2d

_MEASURED = (ForcedConv2d, nn.Conv2d, nn.Linear)
"""Layers with most of the work; a layer that only passes numbers on runs too short alone to be told from a launch."""


def layer_energies(
    model: nn.Module,
    step: Callable[[], object],
    reader: PowerReader,
    synchronize: Callable[[], object] = lambda: None,
) -> dict[str, float | None]:
    """Energy of the forward pass of every convolution and linear layer, in joules, all its calls in one step together.

    Each takes about ten seconds; layers that are alike in kind, settings and shapes are measured once.

    Args:
        model: the network, on its device.
        step: one pass of it.
        reader: of the device's power.
        synchronize: waits for the device.

    Returns:
        By the layer's name; None where what was read cannot be believed.
    """
    names = {module: name for name, module in model.named_modules() if isinstance(module, _MEASURED)}
    calls: list[tuple[nn.Module, tuple[Any, ...]]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, given: calls.append((module, given)))
        for module in names
    ]
    try:
        step()
    finally:
        for hook in hooks:
            hook.remove()
    known: dict[str, float | None] = {}
    found: dict[str, float | None] = {}
    for module, given in calls:
        alike = f"{module!r} {[(tensor.shape, tensor.stride()) for tensor in given]}"
        if alike not in known:
            known[alike] = _alone_j(module, given, reader, synchronize)
        each_j, before_j = known[alike], found.get(names[module], 0.0)
        found[names[module]] = None if each_j is None or before_j is None else before_j + each_j
    return found


def _alone_j(
    module: nn.Module, given: tuple[Any, ...], reader: PowerReader, synchronize: Callable[[], object]
) -> float | None:
    def run() -> None:
        with torch.inference_mode():
            module(*given)

    return energy.measure_energy(run, reader, synchronize=synchronize)["energy_j"]
