"""Number formats, memory layout, compilation and threads that a spec asks for, as settings of torch.

What a spec does not ask for stays as torch has it: that is what people run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import nn

from perf_assets.measuring.networks.inputs import Inputs
from perf_assets.measuring.profiling.spec import ProfileSpec

_STORED_AS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def stored_type(precision: str) -> torch.dtype:
    """Type of weights and inputs in memory."""
    return _STORED_AS.get(precision, torch.float32)


@contextlib.contextmanager
def settings(spec: ProfileSpec, device: torch.device) -> Generator[dict[str, Any]]:
    """Set torch as the spec asks, for a block; what torch then does is handed to the block, for the log."""
    before = _flags()
    if spec.threads:
        torch.set_num_threads(spec.threads)
    torch.backends.cudnn.benchmark = spec.cudnn_benchmark
    if spec.precision in ("float32_strict", "tf32"):
        allowed = spec.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        on_gpu = device.type == "cuda"
        stored = str(stored_type(spec.precision)).removeprefix("torch.")
        cast = str(torch.get_autocast_dtype(device.type)).removeprefix("torch.")
        yield {
            "stored_type": stored,
            "autocast_type": cast if spec.precision == "autocast" else None,
            "convolution_tf32": torch.backends.cudnn.allow_tf32 if on_gpu else None,
            "matmul_tf32": torch.backends.cuda.matmul.allow_tf32 if on_gpu else None,
            "cudnn_benchmark": torch.backends.cudnn.benchmark if on_gpu else None,
            "cudnn_deterministic": torch.backends.cudnn.deterministic if on_gpu else None,
            "memory_format": spec.memory_format,
            "compile_mode": spec.compile_mode,
            "threads": torch.get_num_threads(),
        }
    finally:
        _restore(before)


def placed(
    spec: ProfileSpec, model: nn.Module, inputs: Inputs, device: torch.device
) -> tuple[nn.Module, Inputs]:
    """The network and its input on the device, in the type and memory format that the spec asks for."""
    dtype = stored_type(spec.precision)
    model, inputs = model.to(device, dtype), inputs.to(device, dtype)
    if spec.memory_format == "channels_last":
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.mapped(
            lambda tensor: (
                tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
            )
        )
    return model, inputs


def compiled(spec: ProfileSpec, model: nn.Module) -> Callable[..., Any]:
    """The network as ``torch.compile`` makes it in the mode that the spec asks for, or as it is."""
    return model if spec.compile_mode is None else torch.compile(model, mode=spec.compile_mode)


def autocast(spec: ProfileSpec, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context of a forward pass: torch's autocast in the device's own type where the spec asks for it."""
    return torch.autocast(device.type, enabled=spec.precision == "autocast")


def _flags() -> tuple[Any, ...]:
    return (
        torch.get_num_threads(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
    )


def _restore(flags: tuple[Any, ...]) -> None:
    threads, torch.backends.cudnn.benchmark, convolution_tf32, matmul_tf32 = flags
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    # Setting a flag to what it is already would mix torch's two ways to say it.
    if torch.backends.cudnn.allow_tf32 != convolution_tf32:
        torch.backends.cudnn.allow_tf32 = convolution_tf32
    if torch.backends.cuda.matmul.allow_tf32 != matmul_tf32:
        torch.backends.cuda.matmul.allow_tf32 = matmul_tf32
