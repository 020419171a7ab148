"""What all terms of cost share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perf_assets.measuring.networks import layer_costs

MIB_PER_FLOAT = layer_costs.FLOAT_BYTES / 2**20

CONSTANT = "constant"
"""Name of the term that is 1 for every configuration."""

Prior = dict[str, tuple[str, float]]
"""Term → (family, expected cost of one unit of it)."""

FAMILY_DOUBT = {"transforms": 1000.0}
"""By what factor the expected cost of a family may be off where that is much more than usual: it is drawn so
much less. What no data sheet tells is as good as unknown."""


def convolutions(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Of the convolutions: input and output channels, kernel, stride, input and output size, groups."""
    conv = arrays["kind"] == "conv"
    names = ("in_channels", "out_channels", "kernel_size", "stride", "in_hw", "out_hw", "groups")
    return tuple(arrays[name][conv] for name in names)
