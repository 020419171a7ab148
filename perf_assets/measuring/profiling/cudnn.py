"""Convolution by one named cuDNN algorithm, through the library that comes with torch.

torch offers no such choice. These calls are deprecated since cuDNN 9 and still exported; an algorithm that
cuDNN does not have for a layer is a :class:`CudnnError` with cuDNN's own words. Forward pass only, float32,
float16 or bfloat16.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import torch

from perf_assets.schema.vocabularies import CUDNN_ALGORITHMS

_NCHW = 0
_CROSS_CORRELATION = 1
_DATA_TYPES = {torch.float32: 0, torch.float16: 2, torch.bfloat16: 9}
_FLOAT = 0
_DEFAULT_MATH, _TENSOR_MATH, _FMA_MATH = 0, 1, 3
_ONE, _ZERO = ctypes.c_float(1.0), ctypes.c_float(0.0)
_NOT_SUPPORTED = range(3000, 4000)


class CudnnError(RuntimeError):
    """A cuDNN call failed; ``unsupported`` tells a missing algorithm from a broken set-up."""

    def __init__(self, call: str, status: int, words: str) -> None:
        super().__init__(f"{call}: {words} ({status})")
        # cuDNN 8 has one status 9 for this, cuDNN 9 the range from 3000.
        self.unsupported = status == 9 or status in _NOT_SUPPORTED


@functools.cache
def library() -> ctypes.CDLL:
    """The cuDNN that torch uses.

    Raises:
        CudnnError: there is none.
    """
    try:
        import nvidia.cudnn

        folders = [Path(folder) / "lib" for folder in nvidia.cudnn.__path__]
    except ImportError:
        folders = []
    paths = [str(path) for folder in folders for path in sorted(folder.glob("libcudnn.so.*"))]
    for path in (*paths, "libcudnn.so.9", "libcudnn.so.8"):
        try:
            loaded = ctypes.CDLL(path)
        except OSError:
            continue
        loaded.cudnnGetErrorString.restype = ctypes.c_char_p
        return loaded
    raise CudnnError("loading", 0, "no libcudnn found: install a CUDA build of torch")


def convolve(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    algorithm: str,
) -> torch.Tensor:
    """Convolution of CUDA tensors by one algorithm of :data:`CUDNN_ALGORITHMS`.

    Args:
        images: (batch, channels, height, width).
        weight: (out channels, channels / groups, height, width).
        bias: (out channels,) or None.
        stride: of height and width, in pixels; so are padding and dilation.
        padding: zeros added on each side.
        dilation: distance of the kernel's taps.
        groups: groups of channels.
        algorithm: the name.

    Raises:
        CudnnError: the algorithm does not support this layer, device or data type.
        ValueError: tensors are not on a GPU, or of another type than float32, float16 or bfloat16.
    """
    if not images.is_cuda or images.dtype not in _DATA_TYPES:
        raise ValueError(
            f"cuDNN needs float32, float16 or bfloat16 on a GPU, not {images.dtype} on {images.device}"
        )
    with torch.cuda.device(images.device):
        stream = torch.cuda.current_stream().cuda_stream
        plan = plan_of(
            images.device.index,
            images.dtype,
            tuple(images.shape),
            tuple(weight.shape),
            stride,
            padding,
            dilation,
            groups,
            algorithm,
            tf32=torch.backends.cudnn.allow_tf32,
        )
        result = plan.run(images.contiguous(), weight.contiguous(), stream)
    return result if bias is None else result.add_(bias.view(1, -1, 1, 1))


@dataclass(frozen=True)
class Plan:
    """All that cuDNN must be told of one layer at one shape: asked for once, so that a call costs one launch."""

    handle: ctypes.c_void_p
    source: ctypes.c_void_p
    kernel: ctypes.c_void_p
    convolution: ctypes.c_void_p
    target: ctypes.c_void_p
    shape: tuple[int, ...]
    algorithm: int
    workspace_bytes: int

    def run(self, images: torch.Tensor, weight: torch.Tensor, stream: int) -> torch.Tensor:
        """Output for images and weight of the plan's shapes, whole in memory, on a stream of the current
        device."""
        result = torch.empty(self.shape, dtype=images.dtype, device=images.device)
        workspace = torch.empty(self.workspace_bytes, dtype=torch.uint8, device=images.device)
        _call("cudnnSetStream", self.handle, ctypes.c_void_p(stream))
        _call(
            "cudnnConvolutionForward",
            self.handle,
            ctypes.byref(_ONE),
            self.source,
            _pointer(images),
            self.kernel,
            _pointer(weight),
            self.convolution,
            self.algorithm,
            _pointer(workspace),
            ctypes.c_size_t(self.workspace_bytes),
            ctypes.byref(_ZERO),
            self.target,
            _pointer(result),
        )
        return result


@functools.cache
def plan_of(
    device_index: int,
    dtype: torch.dtype,
    image_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    algorithm: str,
    *,
    tf32: bool,
) -> Plan:
    """Plan of a layer; arguments as of :func:`convolve`. It lives as long as the process, as a run's layers do.

    Args:
        device_index: of the current device.
        dtype: of images, weight and output.
        image_shape, weight_shape: of the tensors.
        stride, padding, dilation, groups, algorithm: of the convolution.
        tf32: whether float32 may be computed in TF32.

    Raises:
        CudnnError: the algorithm does not support this.
    """
    shape = [image_shape[0], weight_shape[0]]
    for axis in range(2):
        reach = dilation[axis] * (weight_shape[2 + axis] - 1) + 1
        shape.append((image_shape[2 + axis] + 2 * padding[axis] - reach) // stride[axis] + 1)
    handle, data_type, number = _handle(device_index), _DATA_TYPES[dtype], CUDNN_ALGORITHMS[algorithm]
    kinds = ("Tensor", "Filter", "Convolution", "Tensor")
    source, kernel, convolution, target = descriptors = [ctypes.c_void_p() for _ in kinds]
    for kind, descriptor in zip(kinds, descriptors, strict=True):
        _call(f"cudnnCreate{kind}Descriptor", ctypes.byref(descriptor))
    try:
        _call("cudnnSetTensor4dDescriptor", source, _NCHW, data_type, *image_shape)
        _call("cudnnSetTensor4dDescriptor", target, _NCHW, data_type, *shape)
        _call("cudnnSetFilter4dDescriptor", kernel, data_type, _NCHW, *weight_shape)
        sizes = (*padding, *stride, *dilation)
        _call("cudnnSetConvolution2dDescriptor", convolution, *sizes, _CROSS_CORRELATION, _FLOAT)
        _call("cudnnSetConvolutionGroupCount", convolution, groups)
        _call("cudnnSetConvolutionMathType", convolution, _math(dtype, tf32=tf32))
        size = ctypes.c_size_t()
        where = (handle, source, kernel, convolution, target)
        _call("cudnnGetConvolutionForwardWorkspaceSize", *where, number, ctypes.byref(size))
    except CudnnError:
        for kind, descriptor in zip(kinds, descriptors, strict=True):
            getattr(library(), f"cudnnDestroy{kind}Descriptor")(descriptor)
        raise
    return Plan(handle, source, kernel, convolution, target, tuple(shape), number, size.value)


def _math(dtype: torch.dtype, *, tf32: bool) -> int:
    if dtype != torch.float32:
        return (
            _TENSOR_MATH  # as torch sets it; without it, half precision is converted and computed in float32
        )
    return _DEFAULT_MATH if tf32 else _FMA_MATH  # FMA keeps TF32 out


@functools.cache
def _handle(device_index: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _call("cudnnCreate", ctypes.byref(handle))
    return handle


def _pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _call(name: str, *arguments: object) -> None:
    try:
        function = getattr(library(), name)
    except AttributeError:
        raise CudnnError(name, 0, "this cuDNN no longer has the call: use algorithm 'guess'") from None
    status = function(*arguments)
    if status:
        raise CudnnError(name, status, library().cudnnGetErrorString(status).decode())
