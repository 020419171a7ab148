"""Convolution by one named cuDNN algorithm, through the library that comes with torch.

torch offers no such choice. These calls are deprecated since cuDNN 9 and still exported; an algorithm that
cuDNN does not have for a layer is a :class:`CudnnError` with cuDNN's own words. Forward pass only, float32 or
float16.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch

from perf_assets.schema.vocabularies import CUDNN_ALGORITHMS

_NCHW = 0
_CROSS_CORRELATION = 1
_DATA_TYPES = {torch.float32: 0, torch.float16: 2}
_FLOAT = 0
_DEFAULT_MATH, _FMA_MATH = 0, 3
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


@functools.cache
def _handle(device_index: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    with torch.cuda.device(device_index):
        _call("cudnnCreate", ctypes.byref(handle))
    return handle


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
        ValueError: tensors are not on a GPU, or of another type than float32 or float16.
    """
    if not images.is_cuda or images.dtype not in _DATA_TYPES:
        raise ValueError(f"cuDNN needs float32 or float16 on a GPU, not {images.dtype} on {images.device}")
    images, weight = images.contiguous(), weight.contiguous()
    shape = [images.shape[0], weight.shape[0]]
    for axis in range(2):
        reach = dilation[axis] * (weight.shape[2 + axis] - 1) + 1
        shape.append((images.shape[2 + axis] + 2 * padding[axis] - reach) // stride[axis] + 1)
    result = torch.empty(shape, dtype=images.dtype, device=images.device)
    data_type = _DATA_TYPES[images.dtype]
    with torch.cuda.device(images.device):
        handle = _handle(images.device.index)
        _call("cudnnSetStream", handle, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
        descriptors = [ctypes.c_void_p() for _ in range(4)]
        source, kernel, convolution, target = descriptors
        kinds = ("Tensor", "Filter", "Convolution", "Tensor")
        for kind, descriptor in zip(kinds, descriptors, strict=True):
            _call(f"cudnnCreate{kind}Descriptor", ctypes.byref(descriptor))
        try:
            _call("cudnnSetTensor4dDescriptor", source, _NCHW, data_type, *images.shape)
            _call("cudnnSetTensor4dDescriptor", target, _NCHW, data_type, *shape)
            _call("cudnnSetFilter4dDescriptor", kernel, data_type, _NCHW, *weight.shape)
            _call(
                "cudnnSetConvolution2dDescriptor",
                convolution,
                *padding,
                *stride,
                *dilation,
                _CROSS_CORRELATION,
                _FLOAT,
            )
            _call("cudnnSetConvolutionGroupCount", convolution, groups)
            # FMA keeps TF32 out of float32 convolutions, as torch does without allow_tf32.
            math = (
                _DEFAULT_MATH
                if torch.backends.cudnn.allow_tf32 or images.dtype != torch.float32
                else _FMA_MATH
            )
            _call("cudnnSetConvolutionMathType", convolution, math)
            number = CUDNN_ALGORITHMS[algorithm]
            size = ctypes.c_size_t()
            _call(
                "cudnnGetConvolutionForwardWorkspaceSize",
                handle,
                source,
                kernel,
                convolution,
                target,
                number,
                ctypes.byref(size),
            )
            workspace = torch.empty(size.value, dtype=torch.uint8, device=images.device)
            one, zero = ctypes.c_float(1.0), ctypes.c_float(0.0)
            _call(
                "cudnnConvolutionForward",
                handle,
                ctypes.byref(one),
                source,
                _pointer(images),
                kernel,
                _pointer(weight),
                convolution,
                number,
                _pointer(workspace),
                size,
                ctypes.byref(zero),
                target,
                _pointer(result),
            )
        finally:
            for kind, descriptor in zip(kinds, descriptors, strict=True):
                getattr(library(), f"cudnnDestroy{kind}Descriptor")(descriptor)
    return result if bias is None else result.add_(bias.view(1, -1, 1, 1))


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
