"""Names of the kernels that a layer really ran, and whether they contradict the algorithm that was asked for.

cuDNN may run another kernel than the one named and compute the same numbers: only the names tell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from perf_assets.measuring.networks.inputs import Inputs
from perf_assets.measuring.profiling.algorithms import ForcedConv2d

_MUST = {"fft": "fft", "fft tiling": "fft", "winograd": "winograd", "winograd nonfused": "winograd"}
"""Word that some kernel of an algorithm bears."""
_FAMILIES = ("winograd", "fft", "direct")
"""Words of kernels that are no matrix product."""
_PRODUCTS = ("gemm", "implicit gemm", "implicit precomp gemm")


def contradiction(algorithm: str, names: Collection[str]) -> str | None:
    """Why kernels of these names cannot be the algorithm; None where they may be.

    Only a clear contradiction counts: a matrix product bears many names.
    """
    lowered = [name.lower() for name in names]
    must = _MUST.get(algorithm)
    if must and not any(must in name for name in lowered):
        return f"no kernel is called {must}: {_shortened(names)}"
    if algorithm in _PRODUCTS:
        other = next((name for name in lowered if any(word in name for word in _FAMILIES)), None)
        if other:
            return f"ran {_shortened([other])}"
    return None


def kernels_by_layer(
    model: nn.Module, inputs: Inputs, names_of: Callable[[Callable[[], Any]], list[str]]
) -> dict[str, list[str]]:
    """Kernel names of every forced layer of a network, each run once more on the input that it gets.

    Args:
        model: the network, with forced layers.
        inputs: one batch.
        names_of: runs a function and tells the kernels that it started, as :func:`cuda_kernels` does.
    """
    found: dict[str, list[str]] = {}

    def look(name: str, layer: nn.Module, images: tuple[torch.Tensor, ...]) -> None:
        found[name] = names_of(lambda: layer.forward(*images))

    hooks = [
        layer.register_forward_pre_hook(lambda layer, images, name=name: look(name, layer, images))
        for name, layer in model.named_modules()
        if isinstance(layer, ForcedConv2d)
    ]
    try:
        with torch.inference_mode():
            inputs.call(model)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def cuda_kernels(work: Callable[[], Any]) -> list[str]:
    """Run a function under torch's profiler; names of the kernels that ran on the GPU meanwhile."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        work()
        torch.cuda.synchronize()
    kinds = torch.autograd.DeviceType
    return sorted({event.name for event in recorded.events() if event.device_type == kinds.CUDA})


def judged(algorithm: str, by_layer: dict[str, list[str]]) -> dict[str, Any]:
    """Fields of the log's ``kernels`` line: names by layer, layers that contradict, and the quality flag."""
    reasons = {
        name: reason
        for name, names in by_layer.items()
        if names and (reason := contradiction(algorithm, names))
    }
    return {
        "kernels": by_layer,
        "substituted": reasons,
        "quality": ["algorithm_substituted"] if reasons else [],
    }


def _shortened(names: Collection[str]) -> str:
    return ", ".join(name[:60] for name in sorted(names)) or "none ran"
