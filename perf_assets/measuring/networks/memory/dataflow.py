"""Which tensors each operation of a layer table reads, writes and keeps for its gradient, as far as shapes
tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

GRADIENT_WINOGRAD_TILES = ((2, 16), (4, 36))
"""Winograd F(3x3, 2x2) and F(3x3, 4x4) (Lavin and Gray, arXiv 1509.09308): outputs of a tile in each
dimension, and the points that it is transformed to. What allocators held and handed out says that cuDNN
computes gradients of 3x3 filters so, with all transformed tiles in memory, and forward passes and gradients
of inputs by kernels that need next to none. Which tiles it takes is not documented."""


@dataclass(frozen=True)
class Operation:
    """One operation. ``reads`` and ``writes`` are tensors by number; in place, it writes what it reads first.

    ``kind`` is a kind of layer tables, ``sum`` or ``concat``. ``keeps`` are the tensors that its gradient
    needs, ``extra`` elements for one image that it keeps besides (indices of max pooling), ``params`` its
    parameters, ``workspaces`` what may be needed beside their gradient while it is computed, see
    :data:`GRADIENT_WINOGRAD_TILES`.
    """

    kind: str
    reads: tuple[int, ...]
    writes: int
    keeps: tuple[int, ...] = ()
    extra: float = 0.0
    params: float = 0.0
    workspaces: tuple[tuple[float, float], ...] = ()

    @property
    def joins(self) -> bool:
        """Whether the gradient of what it writes is handed on as it is (sums), or in slices
        (concatenations)."""
        return self.kind in ("sum", "concat")


@dataclass
class Dataflow:
    """Operations of a forward pass in order, and the elements of each tensor for one image; tensor 0 is the
    input."""

    operations: list[Operation]
    elements: list[float]


def operations(arrays: Mapping[str, np.ndarray]) -> Dataflow:
    """Which tensors each operation reads and writes, as far as shapes tell.

    An operation reads what was written just before if that has its input's shape. If not, a branch begins or
    ends: tensors that nobody has read yet are joined where their channels add up to the input's, else the
    latest tensor of the input's shape is read again. A branch whose last tensor has the shape of one that is
    waiting is added to it, in place, if no further branch begins where it began. Tables of shapes alone leave
    out sums, concatenations and activations; where there are no activations, one in place follows each
    normalisation (unless it is added to something), each sum, and each convolution without normalisation, or
    the concatenation of such.

    Args:
        arrays: what :func:`perf_assets.measuring.networks.layer_costs.layer_arrays` returns.
    """
    return _Wirer(arrays).wired()


class _Wirer:
    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.kind: list[str] = arrays["kind"].tolist()
        columns = (
            "in_channels",
            "in_hw",
            "out_channels",
            "out_hw",
            "out_elements",
            "params",
            "inplace",
            "kernel_size",
            "kernel_width",
            "stride",
            "groups",
        )
        self.columns = {name: np.nan_to_num(arrays[name]).tolist() for name in columns}
        self.has_activations = "relu" in self.kind
        self.has_joins = not {"add", "concat"}.isdisjoint(self.kind)
        first = (self.columns["in_channels"][0], self.columns["in_hw"][0])
        self.shapes: list[tuple[float, float]] = [first]
        self.elements: list[float] = [first[0] * first[1] ** 2]
        self.operations: list[Operation] = []
        self.waiting: list[int] = []
        self.fork = 0
        """Where the latest branch began."""
        self.last = 0
        self.is_bare = False
        """Whether an activation may follow what was written last."""
        self.normalised: set[int] = set()

    def wired(self) -> Dataflow:
        for row, kind in enumerate(self.kind):
            self._row(row, kind)
        return Dataflow(self.operations, self.elements)

    def _row(self, row: int, kind: str) -> None:
        column = self.columns
        shape = (column["in_channels"][row], column["in_hw"][row])
        out = (column["out_channels"][row], column["out_hw"][row])
        elements = column["out_elements"][row]
        if kind == "concat":
            self._join(out, elements)
            return
        if kind == "add":
            self._add(out, elements, in_place=bool(column["inplace"][row]))
            return
        read = self._source(row, shape)
        if kind == "relu":
            self._write(kind, read, out, elements, keeps_output=True, in_place=bool(column["inplace"][row]))
            return
        # Pooling keeps its input's values too; indices of maxima are 64-bit integers, two floats each.
        indices = 2 * elements if kind == "maxpool" else 0.0
        spaces = self._workspaces(row)
        self._write(kind, read, out, elements, extra=indices, params=column["params"][row], workspaces=spaces)
        following = self.kind[row + 1] if row + 1 < len(self.kind) else ""
        self.is_bare = kind == "batchnorm" or (kind == "conv" and following != "batchnorm")
        if kind == "batchnorm":
            self.normalised.add(self.last)

    def _workspaces(self, row: int) -> tuple[tuple[float, float], ...]:
        """Of a filter gradient by Winograd in tiles of each size: elements for one image, and for all
        together."""
        column = self.columns
        sizes = (column[name][row] for name in ("kernel_size", "kernel_width", "stride", "groups"))
        if self.kind[row] != "conv" or tuple(sizes) != (3, 3, 1, 1):
            return ()
        inputs, outputs, size = column["in_channels"][row], column["out_channels"][row], column["out_hw"][row]
        # Inputs and gradients of outputs by tile, and their products by pair of channels.
        return tuple(
            (points * math.ceil(size / tile) ** 2 * (inputs + outputs), points * inputs * outputs)
            for tile, points in GRADIENT_WINOGRAD_TILES
        )

    def _source(self, row: int, shape: tuple[float, float]) -> int:
        """The tensor that a row reads, after the joins that must have come before."""
        if shape == self.shapes[self.last] or self.kind[row] == "linear" or self.last == 0:
            twin = next((tensor for tensor in self.waiting if self.shapes[tensor] == shape), None)
            if twin is not None and not self.has_joins and self._is_added(row, twin):
                self._sum(twin, self.last)
            elif self.is_bare:
                self._activate(self.last)
            return self.last
        if self.last not in self.waiting:
            self.waiting.append(self.last)
        joined = [tensor for tensor in self.waiting if self.shapes[tensor][1] == shape[1]]
        channels = sum(self.shapes[tensor][0] for tensor in joined)
        if (
            not self.has_joins
            and len(joined) > 1
            and channels == shape[0]
            and not self._begins_next_branch(row, shape, channels)
        ):
            self._concatenate(joined, shape, shape[0] * shape[1] ** 2)
            return self.last
        for tensor in range(len(self.shapes) - 1, -1, -1):
            if self.shapes[tensor] == shape and tensor not in self.waiting:
                self.fork = tensor
                return tensor
        # Joined in a way that channels do not tell.
        self._concatenate(joined or [self.last], shape, shape[0] * shape[1] ** 2)
        return self.last

    def _is_added(self, row: int, twin: int) -> bool:
        """Whether a row that reads what was written last, or its sum with a twin that waits, reads the
        sum."""
        if self.kind[row] == "batchnorm" and twin in self.normalised:
            return False  # the branch is to be normalised as its twin was
        following = next(self._jumps(row), None)
        return following is None or following[1] != self.shapes[self.fork]

    def _begins_next_branch(self, row: int, shape: tuple[float, float], channels: float) -> bool:
        """Whether a row that reads what branches began with, and might read what ended ones have together,
        begins the next
        of them: then they add up to what is read later."""
        if shape != self.shapes[self.fork]:
            return False
        for ended, following in self._jumps(row):
            channels += ended[0]
            if following != shape:
                return following == (channels, shape[1])
        return False

    def _jumps(self, row: int) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
        """After a row: shapes of what a row writes and the next one reads, where they differ."""
        column = self.columns
        for later in range(row + 1, len(self.kind)):
            written = (column["out_channels"][later - 1], column["out_hw"][later - 1])
            read = (column["in_channels"][later], column["in_hw"][later])
            if read != written:
                yield written, read

    def _new(self, shape: tuple[float, float], elements: float) -> int:
        self.shapes.append(shape)
        self.elements.append(elements)
        self.last = len(self.shapes) - 1
        return self.last

    def _write(
        self,
        kind: str,
        read: int,
        shape: tuple[float, float],
        elements: float,
        *,
        extra: float = 0.0,
        params: float = 0.0,
        workspaces: tuple[tuple[float, float], ...] = (),
        keeps_output: bool = False,
        in_place: bool = False,
    ) -> None:
        written = read if in_place else self._new(shape, elements)
        self.last = written
        kept = (written,) if keeps_output else (read,)
        self.operations.append(Operation(kind, (read,), written, kept, extra, params, workspaces))

    def _activate(self, tensor: int) -> None:
        """An activation in place, where the table has none of its own."""
        if self.has_activations:
            return
        self.operations.append(Operation("relu", (tensor,), tensor, (tensor,)))

    def _sum(self, into: int, other: int) -> None:
        self.operations.append(Operation("sum", (into, other), into))
        self.waiting = [tensor for tensor in self.waiting if tensor not in (into, other)]
        self.last = into
        self._activate(self.last)

    def _add(self, shape: tuple[float, float], elements: float, *, in_place: bool) -> None:
        """An addition that the table has: to what waits with that shape, else to the latest other such
        tensor."""
        candidates = [*reversed(self.waiting), *range(len(self.shapes) - 1, -1, -1)]
        other = next((t for t in candidates if t != self.last and self.shapes[t] == shape), self.last)
        read = (self.last, other)
        written = self.last if in_place else self._new(shape, elements)
        self.operations.append(Operation("sum", read, written))
        self.waiting = [tensor for tensor in self.waiting if tensor not in read]
        self.last = written

    def _join(self, shape: tuple[float, float], elements: float) -> None:
        """A concatenation that the table has: of the latest tensors whose channels add up to it."""
        if self.last not in self.waiting:
            self.waiting.append(self.last)
        parts: list[int] = []
        for tensor in [*reversed(self.waiting), *range(len(self.shapes) - 1, -1, -1)]:
            missing = shape[0] - sum(self.shapes[part][0] for part in parts)
            same_size = self.shapes[tensor][1] == shape[1]
            if tensor not in parts and same_size and self.shapes[tensor][0] <= missing:
                parts.append(tensor)
        self._concatenate(parts or [self.last], shape, elements)

    def _concatenate(self, parts: list[int], shape: tuple[float, float], elements: float) -> None:
        active = self.normalised.intersection(parts)
        for tensor in sorted(active):
            self._activate(tensor)
        written = self._new(shape, elements)
        self.operations.append(Operation("concat", tuple(parts), written))
        self.waiting = [tensor for tensor in self.waiting if tensor not in parts]
        if not active:
            self._activate(written)
