"""Where the shapes of a network come from: a dropped layer table, a pruned model, the zoo, or a user's own
module."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from perf_assets.measuring.networks import layer_costs

if TYPE_CHECKING:
    from torch import nn

_ZOO_NAMES = {
    "mobilenetv2": "mobilenet_v2",
    "mobilenetv3": "mobilenet_v3_large",
    "mnasnet": "mnasnet1_0",
    "squeezenet": "squeezenet1_0",
    "lenet": "lenet5",
}
"""Names in logs → torchvision's; each network answers to both."""

PRUNED_MODELS_QUERY = """
SELECT model, pruning_ratio, pruning_method, seed, folder FROM pruned_models WHERE status = 'ok'
ORDER BY pruning_method NOT LIKE 'structured%', pruning_method, seed
"""
"""Pruned models on disk, those that shrink first: where several share a ratio, the first one is asked."""


class UnknownNetworkError(ValueError):
    """No layer table, and no network of that name: the message says what can be done."""


def canonical(network: str) -> str:
    """One name for both spellings of a network."""
    return _ZOO_NAMES.get(network, network)


def imported(path: str) -> nn.Module:
    """A network of a user's own: what ``package.module:name`` is, or gives when called without arguments.

    Raises:
        UnknownNetworkError: it cannot be imported or called, or is no ``torch.nn.Module``.
    """
    from torch import nn

    module_name, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
        network = found if isinstance(found, nn.Module) else found()
    except Exception as error:  # whatever a user's module raises is for the user to read
        raise UnknownNetworkError(
            f"cannot make a network of {path!r} ({type(error).__name__}: {error}): "
            "name a torch.nn.Module, or what makes one without arguments, as package.module:name"
        ) from error
    if not isinstance(network, nn.Module):
        raise UnknownNetworkError(f"{path!r} gives {type(network).__name__}, not a torch.nn.Module")
    return network


@dataclass
class NetworkTables:
    """Layer tables by network, pruning ratio and input size: dropped ones first, else a pass on the meta
    device.

    Args:
        dropped: rows of ``cleaned_layer_tables`` (:data:`LAYER_TABLES_QUERY`).
        cache: folder that keeps meta passes of the zoo's networks; None keeps them in memory alone.
        networks: further networks by name, of a user's own making.
        pruned: rows of :data:`PRUNED_MODELS_QUERY`.
        totals: rows of ``configurations.TOTALS_QUERY``.
    """

    dropped: pd.DataFrame = field(default_factory=pd.DataFrame)
    cache: Path | None = None
    networks: dict[str, nn.Module] = field(default_factory=dict)
    pruned: pd.DataFrame = field(default_factory=pd.DataFrame)
    totals: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __post_init__(self) -> None:
        self._arrays: dict[tuple[str, float, int | None], dict[str, np.ndarray]] = {}
        self._modules: dict[tuple[str, float], nn.Module] = {}
        self._folders: dict[tuple[str, float], str] = {}
        self._totals: dict[tuple[str, int], tuple[float, float, float]] = {}
        for row in self.totals.to_dict("records"):
            own = float(row["gmacs"]), float(row["activations_m"]), float(row["params_m"])
            self._totals[str(row["model"]), int(row["input_size"])] = own
        if not self.pruned.empty:
            for row in self.pruned.iloc[::-1].itertuples():
                self._folders[canonical(str(row.model)), round(float(row.pruning_ratio), 6)] = str(row.folder)
        if self.dropped.empty:
            return
        for key, rows in self.dropped.groupby(["network", "pruning_level_pct"]):
            network, level_pct = tuple(key)  # ty: ignore[invalid-argument-type]
            arrays = layer_costs.layer_arrays(
                {name: _plain(rows[name]) for name in rows if name in layer_costs.COLUMNS}
            )
            self._arrays[canonical(str(network)), round(float(level_pct) / 100, 6), None] = arrays

    def with_networks(self, networks: Mapping[str, nn.Module]) -> NetworkTables:
        """These tables, and further networks by name."""
        return replace(self, networks=self.networks | dict(networks)) if networks else self

    def levels(self, network: str) -> list[float]:
        """Pruning ratios of which there are shapes."""
        name = canonical(network)
        known = {ratio for model, ratio, size in self._arrays if model == name and size is None}
        known |= {ratio for model, ratio in self._folders if model == name}
        return sorted(known or {0.0})

    def get(
        self, network: str, pruning_ratio: float = 0.0, input_size: int | None = None
    ) -> dict[str, np.ndarray]:
        """Columns of the layer table as arrays, see :func:`layer_costs.layer_arrays`.

        Args:
            network: name in ``networks``, in a dropped table, or of the zoo.
            pruning_ratio: 0-1, as dropped tables and pruned models name it.
            input_size: px; by default what the table was made at, or the network was published with.

        Raises:
            UnknownNetworkError: there is no such table and none can be made.
        """
        if network in self.networks and pruning_ratio == 0:
            # Its own key: a user's network may bear the name of a known one.
            key = (f"networks:{network}", 0.0, input_size)
            if key not in self._arrays:
                self._arrays[key] = self._trace(network, 0.0, input_size)
            return self._arrays[key]
        name, ratio = canonical(network), round(pruning_ratio, 6)
        if (name, ratio, input_size) in self._arrays:
            return self._arrays[name, ratio, input_size]
        dropped = self._arrays.get((name, ratio, None))
        if dropped is not None and input_size in (None, int(np.nan_to_num(dropped["in_hw"][0]))):
            return dropped
        if ratio != 0 and (name, ratio) not in self._folders:
            raise UnknownNetworkError(
                f"no shapes of {network} pruned by {100 * pruning_ratio:g}%: drop a layer table "
                "(net,level,idx,layer,type,...) "
                "or prune it (asset pruned_models); known are "
                f"{', '.join(f'{known:.0%}' for known in self.levels(network))}"
            )
        self._arrays[name, ratio, input_size] = self._trace(network, ratio, input_size)
        return self._arrays[name, ratio, input_size]

    def totals_of(
        self, network: str, pruning_ratio: float = 0.0, input_size: int | None = None
    ) -> tuple[float, float, float]:
        """10^9 multiply-accumulates and 10^6 values written by convolutions and linear layers for one image, and
        10^6 parameters: as a table has them, else of the network's layers.

        Raises:
            UnknownNetworkError: neither is known.
        """
        known = self._totals.get((network, input_size or 0)) if pruning_ratio == 0 else None
        if known is not None:
            return known
        arrays = self.get(network, pruning_ratio, input_size)
        matrix = np.isin(arrays["kind"], ("conv", "linear"))
        written = np.nan_to_num(arrays["out_elements"])[matrix].sum()
        return (
            float(np.nansum(arrays["macs"])) / 1e9,
            float(written) / 1e6,
            float(arrays["params"].sum()) / 1e6,
        )

    def _trace(self, network: str, ratio: float, input_size: int | None) -> dict[str, np.ndarray]:
        from perf_assets.measuring.networks import tracing, zoo

        own = self.networks.get(network) if ratio == 0 else None
        channels, published = zoo.input_shape(canonical(network)) if own is None else (_channels(own), 224)
        try:
            module = own if own is not None else self._module(canonical(network), ratio)
            # The cache knows networks by their modules; what a user's forward does between them it cannot
            # see.
            traced = tracing.network_features(
                module, input_size or published, channels, cache=self.cache if own is None else None
            )
        except (
            Exception
        ) as error:  # a network's own code may raise anything at an input that it does not take
            raise UnknownNetworkError(
                f"no shapes of {network!r} at input {input_size or 'as published'}: {str(error)[:200]}; "
                "try another input size, or drop a layer table (net,level,idx,layer,type,...)"
            ) from error
        return layer_costs.layer_arrays(traced["layers"])

    def _module(self, name: str, ratio: float) -> nn.Module:
        from perf_assets.measuring.networks import pruning, zoo

        if (name, ratio) not in self._modules:
            self._modules[name, ratio] = (
                pruning.rebuild(pruning.read_spec(self._folders[name, ratio]))
                if ratio
                else zoo.build(name, device="meta")
            )
        return self._modules[name, ratio]


def _channels(network: nn.Module) -> int:
    """Input channels of a network: those of its first convolution; 3 where it has none."""
    from torch import nn

    return next((part.in_channels for part in network.modules() if isinstance(part, nn.Conv2d)), 3)


def _plain(column: pd.Series) -> list[Any]:
    """Values with None for what is absent, whatever pandas calls it."""
    return [None if pd.isna(value) else value for value in column]
