"""Where the shapes of a network come from: a dropped layer table, a network of the zoo, or a user's own module."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perf_assets.models import analytic

_ZOO_NAMES = {
    "mobilenetv2": "mobilenet_v2",
    "mobilenetv3": "mobilenet_v3_large",
    "mnasnet": "mnasnet1_0",
    "squeezenet": "squeezenet1_0",
    "lenet": "lenet5",
}


class UnknownNetworkError(ValueError):
    """No layer table, and no network of that name: the message says what can be done."""


@dataclass
class NetworkTables:
    """Layer tables by network, pruning ratio and input size: dropped ones first, else a pass on the meta device.

    Args:
        dropped: rows of ``cleaned_layer_tables`` (:data:`LAYER_TABLES_QUERY`).
        cache: folder that keeps meta passes; None keeps them in memory alone.
        networks: further networks by name, of a user's own making (``torch.nn.Module``).
    """

    dropped: pd.DataFrame = field(default_factory=pd.DataFrame)
    cache: Path | None = None
    networks: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._arrays: dict[tuple[str, float, int | None], dict[str, np.ndarray]] = {}
        self._modules: dict[str, Any] = dict(self.networks)
        self._known: dict[str, list[float]] = {}
        if self.dropped.empty:
            return
        for key, rows in self.dropped.groupby(["network", "pruning_level_pct"]):
            network, level_pct = tuple(key)  # ty: ignore[invalid-argument-type]
            arrays = analytic.layer_arrays(
                {name: _plain(rows[name]) for name in rows if name in analytic.COLUMNS}
            )
            ratio = round(float(level_pct) / 100, 6)
            self._arrays[str(network), ratio, None] = arrays
            self._known.setdefault(str(network), []).append(ratio)

    def levels(self, network: str) -> list[float]:
        """Pruning ratios of which there are shapes."""
        return sorted(self._known.get(network, [0.0]))

    def get(
        self, network: str, pruning_ratio: float = 0.0, input_size: int | None = None
    ) -> dict[str, np.ndarray]:
        """Columns of the layer table as arrays, see :func:`analytic.layer_arrays`.

        Raises:
            UnknownNetworkError: there is no such table and none can be made.
        """
        key = (network, round(pruning_ratio, 6), input_size)
        if key in self._arrays:
            return self._arrays[key]
        dropped = self._arrays.get((network, key[1], None))
        if dropped is not None and input_size in (None, int(np.nan_to_num(dropped["in_hw"][0]))):
            return dropped
        if key[1] != 0:
            raise UnknownNetworkError(
                f"no layer table of {network} pruned by {pruning_ratio:.0%}: drop one (net,level,idx,layer,type,...), "
                f"known are {', '.join(f'{ratio:.0%}' for ratio in self.levels(network))}"
            )
        self._arrays[key] = self._trace(network, input_size)
        return self._arrays[key]

    def _trace(self, network: str, input_size: int | None) -> dict[str, np.ndarray]:
        from perf_assets.models import features, zoo

        name = _ZOO_NAMES.get(network, network)
        try:
            if network not in self._modules:
                self._modules[network] = zoo.build(name, device="meta")
            channels, published = zoo.input_shape(name)
            traced = features.network_features(
                self._modules[network], input_size or published, channels, cache=self.cache
            )
        except (ValueError, RuntimeError) as error:
            raise UnknownNetworkError(
                f"no shapes of {network!r} at input {input_size or 'as published'}: {str(error)[:200]}; "
                "or drop a layer table (net,level,idx,layer,type,...)"
            ) from error
        return analytic.layer_arrays(traced["layers"])


def _plain(column: pd.Series) -> list[Any]:
    """Values with None for what is absent, whatever pandas calls it."""
    return [None if pd.isna(value) else value for value in column]
