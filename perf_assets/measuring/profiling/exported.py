"""Networks as other runtimes run them: exported once, then called like the network itself."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from perf_assets.measuring.networks.inputs import Inputs, tensors_in
from perf_assets.measuring.profiling.algorithms import TOLERANCES, UnsupportedError, WrongOutputError
from perf_assets.measuring.profiling.torch_device import is_out_of_memory

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


def exported(
    runtime: str, model: nn.Module, inputs: Inputs, device: torch.device, precision: str
) -> Callable[..., Any]:
    """The network as a runtime runs it, for these inputs; its answer was compared with torch's.

    Args:
        runtime: ``torchscript`` or ``onnxruntime``.
        model: the network in evaluation mode, on its device.
        inputs: what it is called with; positional ones only.
        device: where it runs.
        precision: selects the tolerance.

    Raises:
        UnsupportedError: the runtime is not installed, lacks the device, or cannot take this network.
        WrongOutputError: it computes something else than torch.
    """
    if inputs.named:
        raise UnsupportedError(f"{runtime}: inputs by name cannot be exported: return a tuple from 'inputs'")
    make = _torchscript if runtime == "torchscript" else _onnx
    with torch.no_grad():
        expected = _in_one_row(inputs.call(model))
        try:
            run, answer = make(model, inputs, device)
        # Exporters raise whatever comes to them; out of memory is an answer of its own.
        except (ValueError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error) or isinstance(error, UnsupportedError):
                raise
            first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise UnsupportedError(f"{runtime} cannot take this network: {first}") from error
        found = answer()
    difference = float((found - expected).abs().max() / expected.abs().max())
    # Of a whole network: the errors of its layers add up.
    tolerance = 10 * TOLERANCES[precision]
    if not difference <= tolerance:
        raise WrongOutputError(
            f"{runtime}: output differs by {difference:.1e} of the largest, {tolerance:g} allowed"
        )
    return run


def _torchscript(
    model: nn.Module, inputs: Inputs, _: torch.device
) -> tuple[Callable[..., Any], Callable[[], torch.Tensor]]:
    traced = torch.jit.trace(model, inputs.positional, check_trace=False)
    network = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    return network, lambda: _in_one_row(network(*inputs.positional))


def _onnx(
    model: nn.Module, inputs: Inputs, device: torch.device
) -> tuple[Callable[..., Any], Callable[[], torch.Tensor]]:
    try:
        import onnxruntime
    except ImportError:
        raise UnsupportedError("onnxruntime is not installed: pip install onnxruntime onnx") from None
    provider = _PROVIDERS[device.type]
    if provider not in onnxruntime.get_available_providers():
        raise UnsupportedError(f"this onnxruntime has no {provider}: install onnxruntime-gpu")
    file = io.BytesIO()
    names = [f"input_{index}" for index in range(len(inputs.positional))]
    torch.onnx.export(model, inputs.positional, file, input_names=names, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=[provider])
    binding = session.io_binding()
    place = device.type, device.index or 0
    kept = [tensor.contiguous() for tensor in inputs.positional]
    # Bound once, in the device's own memory: a copy with each call would be timed as the network's.
    for name, tensor in zip(names, kept, strict=True):
        kind = torch.empty(0, dtype=tensor.dtype).numpy().dtype.type
        binding.bind_input(name, *place, kind, tuple(tensor.shape), tensor.data_ptr())
    for output in session.get_outputs():
        binding.bind_output(output.name, *place)

    def run(*_: torch.Tensor, kept: list[torch.Tensor] = kept) -> list[torch.Tensor]:
        session.run_with_iobinding(binding)
        return []  # what it answers was looked at when it was made; a copy to torch would be timed

    def answer() -> torch.Tensor:
        run()
        return _in_one_row([torch.from_numpy(each) for each in binding.copy_outputs_to_cpu()]).to(device)

    return run, answer


def _in_one_row(outputs: Any) -> torch.Tensor:
    floating = [tensor.flatten() for tensor in tensors_in(outputs) if tensor.is_floating_point()]
    return torch.cat(floating).float()
