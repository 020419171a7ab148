"""Time of each layer, by hooks, in a pass of its own so that the total is measured without them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from perf_assets.measuring.networks.layer_costs import KIND_OF_MODULE
from perf_assets.measuring.networks.tracing import size_attributes
from perf_assets.measuring.profiling.algorithms import ForcedConv2d


class HostStamps:
    """Time stamps by the host's clock."""

    def stamp(self) -> float:
        """Now."""
        return time.perf_counter()

    def elapsed_ms(self, start: float, end: float) -> float:
        """Time between two stamps."""
        return (end - start) * 1e3


class CudaStamps:
    """Time stamps by CUDA events; they can be compared once the device has been waited for."""

    def stamp(self) -> torch.cuda.Event:
        """An event on the current stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed_ms(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Time between two events."""
        return start.elapsed_time(end)


@dataclass
class _Call:
    module: nn.Module
    parent: _Call | None
    start: Any
    end: Any = None
    inner_ms: float = 0.0


def time_layers(
    model: nn.Module,
    run: Callable[[], object],
    passes: int,
    clock: HostStamps | CudaStamps | None = None,
    synchronize: Callable[[], object] = lambda: None,
) -> list[dict[str, Any]]:
    """Time every module's forward call over several passes.

    A module that calls no other is a layer. What a module does around the modules it calls (additions,
    concatenations, reshaping) is its own time, under its name with ``:self`` appended.

    Args:
        model: the network.
        run: one pass of it.
        passes: passes to time.
        clock: host stamps, or CUDA events for a network on a GPU.
        synchronize: waits for the device, called once per pass.

    Returns:
        Fields of the log's ``layer`` lines (without ``share_pct``), in order of execution; times are those of
        all calls of a layer in one pass.
    """
    clock = clock or HostStamps()
    names = {module: name or "network" for name, module in model.named_modules()}
    finished: list[_Call] = []
    stack: list[_Call] = []

    def enter(module: nn.Module, _: Any) -> None:
        stack.append(_Call(module, stack[-1] if stack else None, clock.stamp()))

    def leave(*_: Any) -> None:
        stack[-1].end = clock.stamp()
        finished.append(stack.pop())

    handles = [module.register_forward_pre_hook(enter) for module in names]
    handles += [module.register_forward_hook(leave) for module in names]
    passes_ms: dict[nn.Module, list[float]] = {}
    calls: dict[nn.Module, int] = {}
    containers: set[nn.Module] = set()
    try:
        for _ in range(passes):
            finished.clear()
            run()
            synchronize()
            own_ms: dict[nn.Module, float] = {}
            calls = {}
            for call in finished:  # inner calls finish before the one around them
                spent_ms = clock.elapsed_ms(call.start, call.end)
                own_ms[call.module] = own_ms.get(call.module, 0.0) + spent_ms - call.inner_ms
                calls[call.module] = calls.get(call.module, 0) + 1
                if call.parent:
                    call.parent.inner_ms += spent_ms
                    containers.add(call.parent.module)
            for module, spent_ms in own_ms.items():
                passes_ms.setdefault(module, []).append(spent_ms)
    finally:
        for handle in handles:
            handle.remove()
    return [
        _row(index, names[module] + ":self" * (module in containers), module, calls[module], times_ms)
        for index, (module, times_ms) in enumerate(passes_ms.items())
    ]


def _row(index: int, name: str, module: nn.Module, calls: int, times_ms: list[float]) -> dict[str, Any]:
    described = module.conv if isinstance(module, ForcedConv2d) else module
    sizes = size_attributes(described)
    width = sizes.get("num_features")
    return {
        "layer_index": index,
        "layer": name,
        "kind": KIND_OF_MODULE.get(type(described).__name__, "other"),
        "in_channels": sizes.get("in_channels", sizes.get("in_features", width)),
        "out_channels": sizes.get("out_channels", sizes.get("out_features", width)),
        **{size: _first(sizes.get(size)) for size in ("kernel_size", "stride", "padding", "groups")},
        "calls": calls,
        "mean_ms": float(np.mean(times_ms)),
        "std_ms": float(np.std(times_ms, ddof=1)) if len(times_ms) > 1 else None,
        "min_ms": float(np.min(times_ms)),
        "max_ms": float(np.max(times_ms)),
        "median_ms": float(np.median(times_ms)),
    }


def _first(size: Any) -> int | None:
    return size[0] if isinstance(size, tuple) and size else size
