"""Convolution algorithms by name, really forced: every layer is checked and none is reported as what it was
not.

On a GPU an algorithm is cuDNN's own (:mod:`perf_assets.measuring.profiling.cudnn`). On the processor it is an
explicit implementation from tensor operations or oneDNN
(:mod:`perf_assets.measuring.profiling.explicit`); names that only cuDNN tells apart are
unsupported there. ``guess`` leaves the choice to the framework.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from perf_assets.measuring.networks.inputs import Inputs, as_inputs
from perf_assets.measuring.profiling import cudnn
from perf_assets.measuring.profiling.explicit import EXPLICIT, onednn
from perf_assets.measuring.profiling.spec import INCOMPATIBLE_POLICIES, PROVIDERS
from perf_assets.measuring.profiling.torch_device import is_out_of_memory
from perf_assets.schema.vocabularies import ALGORITHMS, CUDNN_ALGORITHMS
from perf_assets.workspace.validation import one_of

TOLERANCES = {"float32": 1e-4, "float32_strict": 1e-4, "tf32": 5e-3, "float16": 2e-2, "bfloat16": 5e-2}
"""Largest difference of a layer's output from the framework's, as a share of the output's largest value."""


class UnsupportedError(RuntimeError):
    """An algorithm cannot be forced here; the message says where and why."""


class WrongOutputError(RuntimeError):
    """An algorithm computed something else than the framework."""


@dataclass
class Forced:
    """What :func:`force` did to a network; the fields of the log's ``algorithm`` line."""

    algorithm: str
    provider: str
    layers: int
    layers_forced: int
    largest_error: float | None = None
    tolerance: float | None = None
    checked_samples: int | None = None
    """Samples of the batch that were compared; None for all of them."""
    incompatible: dict[str, str] = field(default_factory=dict)


class ForcedConv2d(nn.Module):
    """A convolution with the weights of another one, computed by a given function."""

    def __init__(self, conv: nn.Conv2d, compute: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.conv = conv
        self._compute = compute

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Output of the convolution for images of shape (batch, channels, height, width)."""
        conv = self.conv
        padding = conv.padding
        if conv.padding_mode != "zeros" or isinstance(padding, str):
            images = F.pad(
                images,
                conv._reversed_padding_repeated_twice,
                mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode,
            )
            padding = (0, 0)
        return self._compute(
            images,
            conv.weight,
            conv.bias,
            stride=conv.stride,
            padding=padding,
            dilation=conv.dilation,
            groups=conv.groups,
        )


def force(
    model: nn.Module,
    algorithm: str,
    batch: Inputs | torch.Tensor,
    *,
    stage: str = "inference",
    precision: str = "float32",
    provider: str = "auto",
    incompatible: str = "refuse",
) -> Forced:
    """Make a network compute its convolutions by one algorithm, in place, and check every layer's output.

    Args:
        model: the network, on its device.
        algorithm: one of :data:`ALGORITHMS`.
        batch: what the network is called with, for the check.
        stage: ``training`` needs gradients, which only the explicit implementations have.
        precision: selects the tolerance.
        provider: ``auto``, or ``ai3`` to swap layers through that package where it is installed.
        incompatible: what to do with layers that the algorithm cannot do: ``refuse``, or leave them to
            ``guess``.

    Returns:
        What was forced; ``layers_forced`` is below ``layers`` only with ``incompatible="guess"``.

    Raises:
        ValueError: unknown name.
        UnsupportedError: the algorithm does not exist on this device, or not for some layers.
        WrongOutputError: a layer's output differs from the framework's by more than the tolerance.
    """
    one_of("algorithm", algorithm, ALGORITHMS)
    if provider not in PROVIDERS or incompatible not in INCOMPATIBLE_POLICIES:
        raise ValueError(f"provider is one of {PROVIDERS}, incompatible one of {INCOMPATIBLE_POLICIES}")
    convolutions = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    if algorithm == "guess":
        return Forced(algorithm, "framework", len(convolutions), len(convolutions))
    inputs = as_inputs(batch)
    if not convolutions:
        raise UnsupportedError(f"{algorithm}: the network has no convolutions: use 'guess'")
    if provider == "ai3":
        return _force_ai3(model, algorithm, inputs, len(convolutions), precision)
    device = inputs.tensors()[0].device
    compute, provider = _implementation(algorithm, device.type, stage)
    # cuDNN itself says what it does not have; these limits are those of the explicit ones.
    limited = provider == "explicit"
    reasons = {
        name: reason
        for name, conv in convolutions.items()
        if limited and (reason := _why_not(algorithm, conv))
    }
    sound = {name: conv for name, conv in convolutions.items() if name not in reasons}
    try:
        largest_error, refused = _check_layers(model, inputs, sound, compute)
        checked = None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Two outputs of one layer at a time are more than the run itself will hold: its memory is not judged here.
        checked = 1
        few = inputs.first(checked, len(inputs.tensors()[0]))
        largest_error, refused = _check_layers(model, few, sound, compute)
    reasons |= refused
    if reasons and incompatible == "refuse":
        name, reason = next(iter(reasons.items()))
        raise UnsupportedError(
            f"{algorithm}: {len(reasons)} of {len(convolutions)} layers, first {name}: {reason}"
        )
    on_gpu = device.type == "cuda"
    # torch's own float32 computes convolutions in TF32 where the GPU can.
    tf32 = precision == "float32" and on_gpu and torch.backends.cudnn.allow_tf32
    tolerance = TOLERANCES["tf32" if tf32 else precision]
    worst = max(largest_error, key=largest_error.__getitem__, default=None)
    if worst is not None and not largest_error[worst] <= tolerance:
        raise WrongOutputError(
            f"{algorithm}: layer {worst} differs from the framework by {largest_error[worst]:.1e} "
            f"of its largest output, tolerance {tolerance:g}"
        )
    for name, conv in sound.items():
        if name not in refused:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, ForcedConv2d(conv, compute))
    return Forced(
        algorithm,
        provider,
        len(convolutions),
        len(convolutions) - len(reasons),
        largest_error[worst] if worst else None,
        tolerance,
        checked,
        reasons,
    )


def _implementation(algorithm: str, device: str, stage: str) -> tuple[Callable[..., torch.Tensor], str]:
    if device == "cuda":
        if algorithm not in CUDNN_ALGORITHMS:
            raise UnsupportedError(
                f"{algorithm} does not exist on a GPU: use one of {', '.join(CUDNN_ALGORITHMS)}"
            )
        if stage == "training":
            raise UnsupportedError(
                f"{algorithm}: cuDNN is forced in the forward pass only: train with 'guess'"
            )
        return functools.partial(cudnn.convolve, algorithm=algorithm), "cudnn"
    if algorithm == "onednn":
        if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.aten, "mkldnn_convolution"):
            raise UnsupportedError("onednn: this torch was built without it")
        return onednn, "onednn"
    if algorithm not in EXPLICIT:
        raise UnsupportedError(
            f"{algorithm} exists in cuDNN only: on the processor use one of "
            f"{', '.join((*EXPLICIT, 'onednn'))}"
        )
    return EXPLICIT[algorithm], "explicit"


def _why_not(algorithm: str, conv: nn.Conv2d) -> str | None:
    """Why an algorithm cannot do a layer, by its mathematics; None where it can."""
    if algorithm.startswith("winograd"):
        if conv.kernel_size != (3, 3):
            return f"Winograd is for 3x3 kernels, this one is {conv.kernel_size[0]}x{conv.kernel_size[1]}"
        if conv.stride != (1, 1):
            return f"Winograd needs stride 1, this one has {conv.stride[0]}"
    if algorithm.startswith("fft") and conv.stride != (1, 1):
        return f"an FFT computes every output, this layer has stride {conv.stride[0]}"
    if algorithm.startswith(("winograd", "fft")):
        if conv.dilation != (1, 1):
            return f"needs dilation 1, this one has {conv.dilation[0]}"
        if conv.groups != 1:
            return f"needs groups 1, this one has {conv.groups}"
    return None


def _check_layers(
    model: nn.Module,
    inputs: Inputs,
    convolutions: Mapping[str, nn.Conv2d],
    compute: Callable[..., torch.Tensor],
) -> tuple[dict[str, float], dict[str, str]]:
    """Largest relative error by layer, and the reason by layer that the implementation refused."""
    errors: dict[str, float] = {}
    refused: dict[str, str] = {}

    def check(name: str, conv: nn.Conv2d, images: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        try:
            ours = ForcedConv2d(conv, compute)(*images)
        except cudnn.CudnnError as error:
            if not error.unsupported:
                raise
            refused[name] = str(error)
            return
        # Sample by sample: a difference of the whole batch would need as much memory as the layer itself.
        pairs = list(zip(ours, output, strict=True))
        scale = max(float(theirs.abs().max()) for _, theirs in pairs) or torch.finfo(torch.float32).tiny
        differences = [float((our.float() - theirs.float()).abs().max()) for our, theirs in pairs]
        error = max(differences, key=lambda each: (math.isnan(each), each)) / scale
        errors[name] = max(error, errors.get(name, 0.0))

    hooks = [
        conv.register_forward_hook(functools.partial(lambda name, *a: check(name, *a), name))
        for name, conv in convolutions.items()
    ]
    training = model.training
    try:
        with torch.no_grad():
            inputs.call(model.eval())
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return errors, refused


def _force_ai3(model: nn.Module, algorithm: str, inputs: Inputs, layers: int, precision: str) -> Forced:
    try:
        import ai3
    except ImportError:
        raise UnsupportedError("ai3 is not installed: its package is called aithree") from None
    if not hasattr(ai3, "swap_conv2d"):
        raise UnsupportedError("the installed ai3 is another package of that name: install aithree instead")
    with torch.no_grad():
        expected = inputs.call(model)
        try:
            ai3.swap_conv2d(model, algorithm)
            found = inputs.call(model)
        except (RuntimeError, ValueError) as error:
            raise UnsupportedError(f"ai3, {algorithm}: {error}") from error
    # ai3 swaps whole networks, so only the network's output can be compared; errors add up over its layers.
    tolerance = 10 * TOLERANCES[precision]
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= tolerance:
        raise WrongOutputError(
            f"ai3, {algorithm}: output differs by {error:.1e} of the largest, {tolerance:g} allowed"
        )
    return Forced(algorithm, "ai3", layers, layers, error, tolerance)
