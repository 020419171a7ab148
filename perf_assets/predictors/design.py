"""Design matrix: one row a configuration, its columns terms of cost that can only add (and perf4sight's features).

A term is a quantity that costs time or memory in proportion to it: multiply-accumulates of one kind of convolution,
bytes that an operation reads and writes, the largest workspace. They follow from the layer table of a network, its
batch size and stage, by formulas over shapes. Units are in the names: ``_g`` is 10^9 multiply-accumulates, ``_mib``
is MiB of 32-bit floats.

Two families say where time goes. ``device``: tensors stay on the accelerator (a training step, a usual inference).
``host_staged``: each convolution copies its input, weights and output between host and device and the host does the
rest, as ai3's convolutions do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perf_assets.models import analytic

MIB_PER_FLOAT = analytic.FLOAT_BYTES / 2**20

RUNS_QUERY = """
SELECT tool, model, coalesce(pruning_ratio, 0) AS pruning_ratio, device, coalesce(stage, workload) AS stage,
       algorithm, batch_size, input_size, status,
       latency_ms, memory_used_mib, memory_allocated_mib, memory_reserved_mib, energy_j, quality,
       file_id, run_id
FROM cleaned_runs
WHERE tool IN ('perf4sight', 'ai3', 'perf_assets') AND workload IN ('training', 'inference')
  AND status IN ('ok', 'oom') AND model IS NOT NULL AND device IS NOT NULL AND batch_size IS NOT NULL
  AND coalesce(json_extract_string(config, '$.measures'), '') <> 'layers'
ORDER BY run_id
"""
"""Measured runs of networks: the frame that :func:`measured` takes."""

LAYER_TABLES_QUERY = """
SELECT DISTINCT ON (network, pruning_level_pct, layer_index) * EXCLUDE (file_id)
FROM cleaned_layer_tables
ORDER BY network, pruning_level_pct, layer_index, file_id
"""
"""Layer tables of networks whose shapes were dropped."""

LAYERS_QUERY = """
SELECT r.model, r.device, r.algorithm, r.batch_size, r.input_size, l.layer, l.layer_index, l.in_channels,
       l.out_channels, l.kernel_size, l.mean_ms AS latency_ms
FROM cleaned_layers AS l JOIN cleaned_runs AS r USING (run_id)
WHERE r.tool = 'ai3' AND r.status = 'ok' AND r.input_size IS NOT NULL AND l.kind = 'conv' AND l.mean_ms > 0
ORDER BY r.run_id, l.layer_index
"""
"""Timed convolutions of profiled networks."""

KEYS = ("tool", "model", "pruning_ratio", "device", "stage", "algorithm", "batch_size", "input_size")
"""What names a configuration."""

MEASURES = {
    "latency": ("latency_ms", "ms"),
    "memory": ("memory_used_mib", "MiB"),
    "memory_allocated": ("memory_allocated_mib", "MiB"),
    "memory_reserved": ("memory_reserved_mib", "MiB"),
    "energy": ("energy_j", "J"),
}
"""Target → column of ``cleaned_runs`` and unit."""

BAD_QUALITY = frozenset({"swap_thrashing", "running_sums", "contended", "throttled", "unstable"})
"""Flags of runs that nothing is learnt from; they stay in the tables."""

ALGORITHMS = (
    "gemm",
    "implicit gemm",
    "implicit precomp gemm",
    "guess",
    "fft",
    "fft tiling",
    "winograd",
    "winograd nonfused",
)

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


def measured(runs: pd.DataFrame) -> pd.DataFrame:
    """Measured runs as one row a configuration: repeated measurements become their median, flagged ones none.

    Args:
        runs: rows of :data:`RUNS_QUERY`.

    Returns:
        Columns :data:`KEYS`, ``latency_ms`` … ``energy_j`` (NaN where not measured), ``oom`` (1.0 where the
        configuration ran out of memory, 0.0 where it fitted) and ``file_ids`` (where it was measured).
    """
    runs = runs.copy()
    runs["algorithm"] = runs["algorithm"].astype(object).where(runs["algorithm"].notna(), "")
    runs["input_size"] = runs["input_size"].astype("Float64").fillna(0).astype(int)
    runs["batch_size"] = runs["batch_size"].astype(int)
    runs["pruning_ratio"] = runs["pruning_ratio"].astype(float).round(6)
    columns = [column for column, _ in MEASURES.values()]
    bad = np.array([not BAD_QUALITY.isdisjoint(_flags(flags)) for flags in runs["quality"]], dtype=bool)
    failed = (runs["status"] == "oom").to_numpy()
    for column in columns:
        values = runs[column].astype(float)
        # Nothing costs 0 or less: such a cell is no measurement.
        runs[column] = values.mask(bad | failed | (values <= 0).to_numpy())
    runs["oom"] = failed.astype(float)
    groups = runs.groupby(list(KEYS), dropna=False, sort=True)
    frame = groups[columns].median()
    frame["oom"] = (groups["oom"].mean() >= 0.5).astype(float)
    frame["file_ids"] = groups["file_id"].agg(lambda ids: sorted(set(ids)))
    return frame.reset_index()


def _flags(flags: Any) -> list[str]:
    return list(flags) if isinstance(flags, (list, tuple, np.ndarray)) else []


@dataclass
class Design:
    """Configurations with their columns, row by row the same.

    ``frame`` has :data:`KEYS` and measures; ``terms`` the costs; ``shape`` scale-free features (ratios and
    logarithms) that residuals are learnt on; ``perf4sight`` the peer's features.
    """

    frame: pd.DataFrame
    terms: pd.DataFrame
    shape: pd.DataFrame
    perf4sight: pd.DataFrame
    skipped: dict[str, str] = field(default_factory=dict)

    def rows(self, chosen: np.ndarray) -> Design:
        """The chosen rows: a mask, or positions."""
        chosen = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen)
        parts = (
            part.iloc[chosen].reset_index(drop=True)
            for part in (self.frame, self.terms, self.shape, self.perf4sight)
        )
        return Design(*parts, self.skipped)

    def __len__(self) -> int:
        return len(self.frame)


def design(frame: pd.DataFrame, tables: NetworkTables, *, with_peer: bool = True) -> Design:
    """Build the design matrix of configurations.

    Args:
        frame: columns ``model``, ``batch_size`` and, where they matter, the other :data:`KEYS`.
        tables: where shapes come from.
        with_peer: also compute perf4sight's features.

    Returns:
        The design. Rows whose network has no shapes are left out; ``skipped`` says which and why.
    """
    frame = complete_keys(frame)
    parts: list[tuple[np.ndarray, pd.DataFrame, pd.DataFrame, pd.DataFrame]] = []
    skipped: dict[str, str] = {}
    by = ["tool", "model", "pruning_ratio", "stage", "algorithm", "input_size"]
    for key, group in frame.groupby(by, sort=False):
        tool, model, ratio, stage, algorithm, size = tuple(key)  # ty: ignore[invalid-argument-type]
        try:
            arrays = tables.get(str(model), float(ratio), int(size) or None)
        except UnknownNetworkError as error:
            skipped[f"{model} {ratio:g} {size}"] = str(error)
            continue
        batch = group["batch_size"].to_numpy(float)
        staged = family_of(str(tool)) == "host_staged"
        memory = memory_terms(arrays, batch, str(stage))
        device = device_terms(arrays, batch)
        costs = memory | (staged_terms(arrays, batch, str(algorithm)) if staged else device)
        peer: dict[str, np.ndarray] = {}
        if with_peer and not staged:
            peer = analytic.perf4sight_features({**arrays}, batch, str(stage))  # ty: ignore[invalid-argument-type]
        shape = shape_features(memory, device, batch)
        if staged:
            shape = shape.assign(
                **{f"is_{name.replace(' ', '_')}": float(name == algorithm) for name in ALGORITHMS}
            )
        parts.append(
            (group.index.to_numpy(), pd.DataFrame(costs), shape, pd.DataFrame(peer, index=range(len(group))))
        )
    if not parts:
        empty = pd.DataFrame()
        return Design(frame.iloc[:0].reset_index(drop=True), empty, empty, empty, skipped)
    order = np.concatenate([part[0] for part in parts])
    back = np.argsort(order, kind="stable")
    terms, shape, peer = (
        pd.concat([part[i] for part in parts], ignore_index=True).iloc[back].reset_index(drop=True)
        for i in (1, 2, 3)
    )
    kept = frame.loc[np.sort(order)].reset_index(drop=True)
    return Design(kept, terms.fillna(0.0), shape.fillna(0.0), peer, skipped)


def complete_keys(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every column of :data:`KEYS`, filled with what is usual, and a fresh index."""
    frame = frame.reset_index(drop=True).copy()
    usual = {
        "tool": "",
        "pruning_ratio": 0.0,
        "device": "",
        "stage": "training",
        "algorithm": "",
        "input_size": 0,
    }
    for name, value in usual.items():
        if name not in frame:
            frame[name] = value
        frame[name] = frame[name].where(frame[name].notna(), value)
    frame["pruning_ratio"] = frame["pruning_ratio"].astype(float)
    frame["input_size"] = frame["input_size"].astype(int)
    return frame


def family_of(tool: str) -> str:
    """Where a tool's runs spend their time: ``device`` or ``host_staged``."""
    return "host_staged" if tool == "ai3" else "device"


def memory_terms(arrays: Mapping[str, np.ndarray], batch: np.ndarray, stage: str) -> dict[str, np.ndarray]:
    """Terms of memory in MiB at each batch size, arrays of shape (n,).

    Training keeps what backward needs: outputs of convolutions and normalisations, of max pooling also 8-byte
    indices (hence three times), of average pooling; ReLU works in place. Inference keeps one layer's input and
    output. Workspaces of convolutions are used again and again, so the largest counts, for each algorithm that a
    library may choose: im2col columns, Winograd F(4x4, 3x3) tiles (36 points), FFT of padded planes.
    """
    kind, conv = arrays["kind"], _conv(arrays)
    elements = np.nan_to_num(arrays["out_elements"])
    if stage == "inference":
        inputs = np.nan_to_num(arrays["in_channels"] * arrays["in_hw"] ** 2)
        activation = (inputs + elements).max()
    else:
        kept = np.select(
            [kind == "conv", kind == "batchnorm", kind == "maxpool", kind == "avgpool"], [1, 1, 3, 1], 0
        )
        activation = (kept * elements).sum()
    i, o, k, s, n, m, g = conv
    e = i / g
    b = batch[:, None]
    spread, dense = (k > 1) | (s > 1), g == 1
    winograd = (k == 3) & (s == 1) & dense
    padded = np.ceil((n + k - 1) / 8) * 8
    fft = (k > 1) & (s == 1) & dense
    return {
        "activation_mib": batch * activation * MIB_PER_FLOAT,
        "parameter_mib": np.full(len(batch), arrays["params"].sum() * MIB_PER_FLOAT),
        "largest_output_mib": _largest(b * (o * m**2), np.ones(len(o), dtype=bool)),
        "largest_im2col_mib": _largest(b * (m**2 * k**2 * e), spread),
        "largest_winograd_mib": _largest(36 * (b * (np.ceil(m / 4) ** 2 * (i + o)) + i * o), winograd),
        "largest_fft_mib": _largest(padded * (padded / 2 + 1) * 2 * (b * (i + o) + i * o), fft),
    }


def device_terms(arrays: Mapping[str, np.ndarray], batch: np.ndarray) -> dict[str, np.ndarray]:
    """Terms of time where tensors stay on the device: shape (n,) each.

    Multiply-accumulates are split by the kernels that libraries have for them; two terms round them up to the
    tiles of matrix kernels, one counts Winograd's. The other terms are MiB read and written. Depthwise
    convolutions do nine operations a byte or fewer, so they count by bytes.
    """
    kind = arrays["kind"]
    i, o, k, s, n, m, g = _conv(arrays)
    e = i / g
    macs = o * e * k**2 * m**2
    dense = g == 1
    grouped = ~dense & (e > 1)
    depthwise = ~dense & (e <= 1)
    one, three, strided = dense & (k == 1), dense & (k == 3) & (s == 1), dense & (k == 3) & (s > 1)
    large = (dense & ~one & ~three & ~strided) | grouped
    traffic = i * n**2 + o * m**2
    elements = np.nan_to_num(arrays["out_elements"])
    pooled = (kind == "maxpool") | (kind == "avgpool")
    # Where no normalisation follows, a bias and an activation do, which layer tables of shapes alone leave out.
    plain = (kind == "conv") & (np.append(kind[1:], "") != "batchnorm")
    b = batch[:, None]
    matrix = dense | grouped

    def up(values: np.ndarray, to: int) -> np.ndarray:
        return np.ceil(values / to) * to

    def total(values: np.ndarray, of: np.ndarray, scale: float) -> np.ndarray:
        return batch * (values[of].sum() * scale)

    all_layers = np.ones(len(kind), dtype=bool)
    return {
        "macs_1x1_g": total(macs, one, 1e-9),
        "macs_3x3_g": total(macs, three, 1e-9),
        "macs_3x3_strided_g": total(macs, strided, 1e-9),
        "macs_large_g": total(macs, large, 1e-9),
        "macs_tiles_gemm_g": (up(o, 32) * up(b * m**2, 128) * up(e * k**2, 8))[:, matrix].sum(axis=1) * 1e-9,
        "macs_tiles_channels_g": total(up(o, 32) * up(e * k**2, 64) * m**2, matrix, 1e-9),
        "macs_winograd_g": (36 * b * np.ceil(m / 4) ** 2 * i * o)[:, three].sum(axis=1) * 1e-9,
        "traffic_1x1_mib": total(traffic, one, MIB_PER_FLOAT),
        "traffic_3x3_mib": total(traffic, three | strided, MIB_PER_FLOAT),
        "traffic_large_mib": total(traffic, large, MIB_PER_FLOAT),
        "traffic_depthwise_mib": total(traffic, depthwise, MIB_PER_FLOAT),
        "traffic_columns_in_mib": total(m**2 * k**2 * e, matrix, MIB_PER_FLOAT),
        "traffic_columns_out_mib": total(m**2 * k**2 * o, matrix, MIB_PER_FLOAT),
        "traffic_batchnorm_mib": total(elements, kind == "batchnorm", MIB_PER_FLOAT),
        "traffic_activation_mib": total(elements, plain, MIB_PER_FLOAT),
        "traffic_pool_mib": total(
            np.nan_to_num(arrays["in_channels"] * arrays["in_hw"] ** 2) + elements, pooled, MIB_PER_FLOAT
        ),
        "traffic_parameter_mib": np.full(len(batch), arrays["params"][all_layers].sum() * MIB_PER_FLOAT),
        "launches": np.full(len(batch), float((kind == "conv").sum())),
    }


def staged_terms(
    arrays: Mapping[str, np.ndarray], batch: np.ndarray, algorithm: str
) -> dict[str, np.ndarray]:
    """Terms of time where the host stages each convolution: shape (n,) each, sums over the network."""
    layers = staged_layer_terms(arrays, np.ones(len(arrays["kind"])), algorithm)
    per_image = {name: np.nansum(values) for name, values in layers.items()}
    kind = arrays["kind"]
    elements = np.nan_to_num(arrays["out_elements"])
    inputs = np.nan_to_num(arrays["in_channels"] * arrays["in_hw"] ** 2)
    host = np.isin(kind, ("relu", "batchnorm", "maxpool", "avgpool", "add"))
    fixed = {"copy_weight_mib", "launches", *(name for name in per_image if name.startswith("transform_"))}
    terms = {
        name: (np.ones(len(batch)) if name in fixed else batch) * value for name, value in per_image.items()
    }
    return terms | {
        "host_elementwise_mib": batch * ((inputs + elements)[host].sum() * MIB_PER_FLOAT),
        "host_concat_mib": batch * (2 * elements[kind == "concat"].sum() * MIB_PER_FLOAT),
        "host_linear_mib": np.full(len(batch), arrays["params"][kind == "linear"].sum() * MIB_PER_FLOAT),
    }


def staged_layer_terms(
    arrays: Mapping[str, np.ndarray], batch: np.ndarray, algorithm: str
) -> dict[str, np.ndarray]:
    """The same for each layer by itself: shape (layers,), zero for what is no convolution."""
    conv = arrays["kind"] == "conv"
    i, o, k, n, m = (
        np.nan_to_num(arrays[name])
        for name in ("in_channels", "out_channels", "kernel_size", "in_hw", "out_hw")
    )
    e = i / arrays["groups"]
    weights = o * e * k**2 * MIB_PER_FLOAT
    terms = {
        "copy_in_mib": batch * i * n**2 * MIB_PER_FLOAT,
        "copy_out_mib": batch * o * m**2 * MIB_PER_FLOAT,
        "copy_weight_mib": weights,
        "launches": np.ones(len(conv)),
    }
    for name in ALGORITHMS:
        own = float(name == algorithm)
        terms[f"macs_{name.replace(' ', '_')}_g"] = own * batch * np.nan_to_num(arrays["macs"]) * 1e-9
        terms[f"transform_{name.replace(' ', '_')}_mib"] = own * _transformed_mib(name, i, o, e, k, n)
    return {name: np.where(conv, values, 0.0) for name, values in terms.items()}


def _transformed_mib(
    algorithm: str, i: np.ndarray, o: np.ndarray, e: np.ndarray, k: np.ndarray, n: np.ndarray
) -> np.ndarray:
    """Weights as an algorithm transforms them anew in each call, in MiB.

    FFT has a complex plane for each pair of channels, padded to the image, or to 32 x 32 tiles; Winograd
    F(4x4, 3x3) has 36 points.
    """
    padded = np.ceil((n + k - 1) / 8) * 8
    points = {"fft": padded * (padded + 2), "fft tiling": np.full(len(k), 32.0 * 34)}.get(algorithm)
    if points is None:
        points = np.full(len(k), 36.0) if algorithm.startswith("winograd") else k**2
    return np.where(k > 1, points, 1.0) * o * e * MIB_PER_FLOAT


def shape_features(
    memory: Mapping[str, np.ndarray], device: Mapping[str, np.ndarray], batch: np.ndarray
) -> pd.DataFrame:
    """Scale-free features: what share of the work is of which kind, and logarithms of sizes."""
    kinds = [
        name for name in device if name.startswith("macs_") and "tiles" not in name and "winograd" not in name
    ]
    # Depthwise work counts by its bytes here as everywhere.
    macs = np.maximum(sum(device[name] for name in kinds), 1e-9)
    activation = np.maximum(memory["activation_mib"], 1e-9)
    columns = {f"share_{name}": device[name] / macs for name in kinds}
    columns |= {f"ratio_{name}": device[name] / activation for name in device
                if name.startswith("traffic_") and "columns" not in name and "parameter" not in name}  # fmt: skip
    columns |= {f"ratio_{name}": memory[name] / activation for name in memory if name != "activation_mib"}
    logs = {"macs_per_activation": macs / activation, "macs": macs, "macs_per_launch": macs / np.maximum(device["launches"], 1),
            "activation": activation, "parameters": memory["parameter_mib"], "batch_size": batch}  # fmt: skip
    columns |= {f"log_{name}": np.log(np.maximum(value, 1e-9)) for name, value in logs.items()}
    return pd.DataFrame(columns)


def layer_design(layers: pd.DataFrame, tables: NetworkTables) -> Design:
    """Design matrix of timed convolutions, with each layer's true sizes from the shapes of its network.

    Args:
        layers: rows of :data:`LAYERS_QUERY`; their ``input_size`` is the network's.
        tables: where shapes come from.

    Returns:
        One row a timed convolution that the network has under that name; others are counted in ``skipped``.
    """
    frames, terms, shapes = [], [], []
    skipped: dict[str, str] = {}
    for key, group in layers.groupby(["model", "input_size", "algorithm"], sort=True):
        model, size, algorithm = tuple(key)  # ty: ignore[invalid-argument-type]
        try:
            arrays = tables.get(str(model), 0.0, int(size))
        except UnknownNetworkError as error:
            skipped[f"{model} {size}"] = str(error)
            continue
        place = {name: row for row, name in enumerate(arrays["layer"]) if arrays["kind"][row] == "conv"}
        known = group["layer"].isin(list(place)).to_numpy()
        if not known.all():
            skipped[f"{model} layers"] = f"{int((~known).sum())} timed layers that the network has not"
        group = group[known]
        rows = np.array([place[name] for name in group["layer"]], dtype=int)
        chosen = {name: values[rows] for name, values in arrays.items()}
        batch = group["batch_size"].astype("Float64").fillna(1).to_numpy(float)
        columns = pd.DataFrame(staged_layer_terms(chosen, batch, str(algorithm)))
        frames.append(group.assign(tool="ai3", stage="inference", pruning_ratio=0.0, in_hw=chosen["in_hw"], out_hw=chosen["out_hw"], groups=chosen["groups"],
                                   stride=chosen["stride"], padding=chosen["padding"]))  # fmt: skip
        terms.append(columns)
        shapes.append(_layer_shape(columns, chosen))
    if not frames:
        empty = pd.DataFrame()
        return Design(layers.iloc[:0], empty, empty, empty, skipped)
    joined: Sequence[pd.DataFrame] = [pd.concat(part, ignore_index=True) for part in (frames, terms, shapes)]
    return Design(*joined, pd.DataFrame(index=joined[0].index), skipped)


def _layer_shape(terms: pd.DataFrame, arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    moved = terms[["copy_in_mib", "copy_out_mib", "copy_weight_mib"]].sum(axis=1)
    macs = terms[[name for name in terms if name.startswith("macs_")]].sum(axis=1)
    return pd.DataFrame({
        "log_moved": np.log(np.maximum(moved, 1e-9)),
        "share_in": terms["copy_in_mib"] / moved,
        "share_weight": terms["copy_weight_mib"] / moved,
        "log_macs_per_moved": np.log(np.maximum(macs / moved, 1e-9)),
        "kernel_size": arrays["kernel_size"],
    } | {name: (terms[name] > 0).astype(float) for name in terms if name.startswith("macs_")})  # fmt: skip


def _conv(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Of the convolutions: input and output channels, kernel, stride, input and output size, groups."""
    conv = arrays["kind"] == "conv"
    names = ("in_channels", "out_channels", "kernel_size", "stride", "in_hw", "out_hw", "groups")
    return tuple(arrays[name][conv] for name in names)


def _largest(elements: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Largest over the chosen layers, in MiB, shape (n,): 0 where there are none."""
    if not of.any():
        return np.zeros(len(elements))
    return elements[:, of].max(axis=1) * MIB_PER_FLOAT
