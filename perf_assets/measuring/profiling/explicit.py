"""Convolutions written out in tensor operations, and oneDNN's: algorithms by name on the processor.

All take (images, weight, bias, *, stride, padding, dilation, groups) like ``F.conv2d``, and are differentiable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

FFT_TILE = 32
"""Height = width, in pixels, of the tiles of ``fft tiling``; cuDNN's have the same size."""


def onednn(images, weight, bias, *, stride, padding, dilation, groups):
    """oneDNN's convolution, whatever the framework would have chosen."""
    return torch.ops.aten.mkldnn_convolution(images, weight, bias, padding, stride, dilation, groups)


def gemm(images, weight, bias, *, stride, padding, dilation, groups):
    """im2col: the receptive field of every output pixel as a column in memory, then one matrix product."""
    height, width = _output_size(images, weight, stride, padding, dilation)
    columns = F.unfold(images, weight.shape[2:], dilation, padding, stride)
    columns = columns.reshape(images.shape[0], groups, -1, height * width)
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1)
    result = (kernels @ columns).reshape(images.shape[0], -1, height, width)
    return _biased(result, bias)


def direct(images, weight, bias, *, stride, padding, dilation, groups):
    """Sum over the kernel's taps of the shifted image times that tap; nothing is unfolded."""
    height, width = _output_size(images, weight, stride, padding, dilation)
    batch, out_channels = images.shape[0], weight.shape[0]
    images = F.pad(images, (padding[1], padding[1], padding[0], padding[0]))
    kernels = weight.reshape(groups, out_channels // groups, weight.shape[1], *weight.shape[2:])
    result = images.new_zeros(batch, groups, out_channels // groups, height * width)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            top, left = row * dilation[0], column * dilation[1]
            shifted = images[
                :,
                :,
                top : top + (height - 1) * stride[0] + 1 : stride[0],
                left : left + (width - 1) * stride[1] + 1 : stride[1],
            ]
            result = result + kernels[..., row, column] @ shifted.reshape(batch, groups, -1, height * width)
    return _biased(result.reshape(batch, out_channels, height, width), bias)


def fft(images, weight, bias, *, stride, padding, dilation, groups):
    """Product of the Fourier transforms of the padded image and the kernel (cross-correlation)."""
    images = F.pad(images, (padding[1], padding[1], padding[0], padding[0]))
    size = images.shape[2:]
    spectrum = _spectral_product(torch.fft.rfft2(images.float()), weight, size)
    full = torch.fft.irfft2(spectrum, s=size)
    result = full[..., : size[0] - weight.shape[2] + 1, : size[1] - weight.shape[3] + 1]
    return _biased(result.to(images.dtype), bias)


def fft_tiling(images, weight, bias, *, stride, padding, dilation, groups):
    """The same on overlapping tiles (overlap-save), so that transforms stay small."""
    height, width = _output_size(images, weight, stride, padding, dilation)
    rows, columns = (
        max(min(FFT_TILE, outputs + k - 1), 2 * (k - 1), k)
        for outputs, k in zip((height, width), weight.shape[2:], strict=True)
    )
    step_rows, step_columns = rows - weight.shape[2] + 1, columns - weight.shape[3] + 1
    tiles_down, tiles_across = -(-height // step_rows), -(-width // step_columns)
    bottom = (tiles_down - 1) * step_rows + rows - images.shape[2] - padding[0]
    right = (tiles_across - 1) * step_columns + columns - images.shape[3] - padding[1]
    images = F.pad(images, (padding[1], right, padding[0], bottom))
    tiles = images.unfold(2, rows, step_rows).unfold(
        3, columns, step_columns
    )  # (b, c, down, across, rows, columns)
    batch, channels = images.shape[:2]
    tiles = tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels, rows, columns)
    spectrum = _spectral_product(torch.fft.rfft2(tiles.float()), weight, (rows, columns))
    result = torch.fft.irfft2(spectrum, s=(rows, columns))[..., :step_rows, :step_columns]
    result = result.reshape(batch, tiles_down, tiles_across, -1, step_rows, step_columns)
    result = result.permute(0, 3, 1, 4, 2, 5).reshape(
        batch, -1, tiles_down * step_rows, tiles_across * step_columns
    )
    return _biased(result[..., :height, :width].to(images.dtype), bias)


def winograd(images, weight, bias, *, stride, padding, dilation, groups):
    """Winograd F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308): 2x2 outputs of 4x4 tiles by 16 products
    each."""
    height, width = _output_size(images, weight, stride, padding, dilation)
    tiles_down, tiles_across = -(-height // 2), -(-width // 2)
    bottom = 2 * tiles_down + 2 - images.shape[2] - padding[0]
    right = 2 * tiles_across + 2 - images.shape[3] - padding[1]
    images = F.pad(images, (padding[1], right, padding[0], bottom))
    # Both sides of a transform at once, as one product with its Kronecker square: thousands of 4x4 products
    # crawl.
    transforms = (
        images.new_tensor(matrix) for matrix in (_WINOGRAD_INPUT, _WINOGRAD_KERNEL, _WINOGRAD_OUTPUT)
    )
    to_tile, to_kernel, from_tile = (torch.kron(matrix, matrix) for matrix in transforms)
    batch, channels = images.shape[:2]
    tiles = images.unfold(2, 4, 2).unfold(3, 4, 2)  # (batch, channels, down, across, 4, 4)
    tiles = (to_tile @ tiles.permute(4, 5, 1, 0, 2, 3).reshape(16, -1)).reshape(16, channels, -1)
    kernels = (to_kernel @ weight.permute(2, 3, 0, 1).reshape(9, -1)).reshape(16, -1, channels)
    products = torch.bmm(kernels, tiles).reshape(16, -1)
    result = (from_tile @ products).reshape(2, 2, -1, batch, tiles_down, tiles_across)
    result = result.permute(3, 2, 4, 0, 5, 1).reshape(batch, -1, 2 * tiles_down, 2 * tiles_across)
    return _biased(result[..., :height, :width], bias)


_WINOGRAD_INPUT = [[1.0, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]
_WINOGRAD_KERNEL = [[1.0, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
_WINOGRAD_OUTPUT = [[1.0, 1, 1, 0], [0, 1, -1, -1]]

EXPLICIT: dict[str, Callable[..., torch.Tensor]] = {
    "direct": direct,
    "gemm": gemm,
    "fft": fft,
    "fft tiling": fft_tiling,
    "winograd": winograd,
}
"""Implementations on the processor by name."""


def _spectral_product(images: torch.Tensor, weight: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    kernels = torch.fft.rfft2(weight.float(), s=size).conj()
    # One matrix product per frequency.
    product = images.permute(2, 3, 0, 1) @ kernels.permute(2, 3, 1, 0)
    return product.permute(2, 3, 0, 1)


def _output_size(images: Any, weight: Any, stride: Any, padding: Any, dilation: Any) -> tuple[int, int]:
    height, width = (
        (images.shape[2 + axis] + 2 * padding[axis] - dilation[axis] * (weight.shape[2 + axis] - 1) - 1)
        // stride[axis]
        + 1
        for axis in range(2)
    )
    return height, width


def _biased(result: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return result if bias is None else result + bias.view(1, -1, 1, 1)
