"""Memory of one training or inference step, simulated: which tensors live when, and what the allocator makes of it.

No torch and no device: a layer table says which tensors an operation reads and writes (:func:`operations`), autograd
says which of them it keeps for its gradient, and a model of PyTorch's caching allocator says how much memory is handed
out and how much is held (:func:`step_memory`). Nothing here is fitted. Of the workspaces of libraries only that is in
it which matters most: filter gradients by Winograd.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perf_assets.models.analytic import FLOAT_BYTES

MIB = 2**20
WINOGRAD_TILES = ((2, 16), (4, 36))
"""Winograd F(3x3, 2x2) and F(3x3, 4x4) (Lavin and Gray, arXiv 1509.09308): outputs of a tile in each dimension, and the
points that it is transformed to. What allocators held and handed out says that cuDNN computes gradients of 3x3 filters so,
with all transformed tiles in memory, and forward passes and gradients of inputs by kernels that need next to none. Which
tiles it takes is not documented."""


@dataclass(frozen=True)
class Protocol:
    """How peaks were read. ``weights`` is what the peak of each step from the first on counts for in the value, in which
    the first step is the one that makes gradients and momenta; ``empties_cache`` is whether unused segments are given
    back before each step."""

    weights: tuple[float, ...]
    empties_cache: bool


STEADY = Protocol((0.0, 1.0), empties_cache=False)
"""A training loop in its course: the second step finds the blocks that the first has left."""


@dataclass(frozen=True)
class Operation:
    """One operation. ``reads`` and ``writes`` are tensors by number; in place, it writes what it reads first.

    ``kind`` is a kind of layer tables, ``sum`` or ``concat``. ``keeps`` are the tensors that its gradient needs,
    ``extra`` elements for one image that it keeps besides (indices of max pooling), ``params`` its parameters,
    ``workspaces`` what may be needed beside their gradient while it is computed, see :data:`WINOGRAD_TILES`.
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
        """Whether the gradient of what it writes is handed on as it is (sums), or in slices (concatenations)."""
        return self.kind in ("sum", "concat")


@dataclass
class Wiring:
    """Operations of a forward pass in order, and the elements of each tensor for one image; tensor 0 is the input."""

    operations: list[Operation]
    elements: list[float]


def operations(arrays: Mapping[str, np.ndarray]) -> Wiring:
    """Which tensors each operation reads and writes, as far as shapes tell.

    An operation reads what was written just before if that has its input's shape. If not, a branch begins or ends:
    tensors that nobody has read yet are joined where their channels add up to the input's, else the latest tensor of
    the input's shape is read again. A branch whose last tensor has the shape of one that is waiting is added to it,
    in place. Tables of shapes alone leave out sums, concatenations and activations; where there are no activations,
    one in place follows each normalisation (unless it is added to something), each sum, and each convolution without
    normalisation, or the concatenation of such.

    Args:
        arrays: what :func:`perf_assets.models.analytic.layer_arrays` returns.
    """
    return _Wirer(arrays).wired()


class _Wirer:
    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.kind: list[str] = arrays["kind"].tolist()
        columns = ("in_channels", "in_hw", "out_channels", "out_hw", "out_elements", "params", "inplace",
                   "kernel_size", "kernel_width", "stride", "groups")  # fmt: skip
        self.columns = {name: np.nan_to_num(arrays[name]).tolist() for name in columns}
        self.has_activations = "relu" in self.kind
        self.has_joins = not {"add", "concat"}.isdisjoint(self.kind)
        first = (self.columns["in_channels"][0], self.columns["in_hw"][0])
        self.shapes: list[tuple[float, float]] = [first]
        self.elements: list[float] = [first[0] * first[1] ** 2]
        self.operations: list[Operation] = []
        self.waiting: list[int] = []
        self.last = 0
        self.is_bare = False
        """Whether an activation may follow what was written last."""
        self.normalised: set[int] = set()

    def wired(self) -> Wiring:
        for row, kind in enumerate(self.kind):
            self._row(row, kind)
        return Wiring(self.operations, self.elements)

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
        read = self._source(shape, flat=kind == "linear")
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
        """Of a filter gradient by Winograd in tiles of each size: elements for one image, and for all together."""
        column = self.columns
        sizes = (column[name][row] for name in ("kernel_size", "kernel_width", "stride", "groups"))
        if self.kind[row] != "conv" or tuple(sizes) != (3, 3, 1, 1):
            return ()
        inputs, outputs, size = column["in_channels"][row], column["out_channels"][row], column["out_hw"][row]
        # Inputs and gradients of outputs by tile, and their products by pair of channels.
        return tuple(
            (points * math.ceil(size / tile) ** 2 * (inputs + outputs), points * inputs * outputs)
            for tile, points in WINOGRAD_TILES
        )

    def _source(self, shape: tuple[float, float], *, flat: bool) -> int:
        """The tensor that is read, after the joins that must have come before."""
        if shape == self.shapes[self.last] or flat or self.last == 0:
            twin = next((tensor for tensor in self.waiting if self.shapes[tensor] == shape), None)
            if twin is not None and not self.has_joins:
                self._sum(twin, self.last)
            elif self.is_bare:
                self._activate(self.last)
            return self.last
        if self.last not in self.waiting:
            self.waiting.append(self.last)
        joined = [tensor for tensor in self.waiting if self.shapes[tensor][1] == shape[1]]
        if not self.has_joins and len(joined) > 1 and sum(self.shapes[t][0] for t in joined) == shape[0]:
            self._concatenate(joined, shape, shape[0] * shape[1] ** 2)
            return self.last
        for tensor in range(len(self.shapes) - 1, -1, -1):
            if self.shapes[tensor] == shape and tensor not in self.waiting:
                return tensor
        # Joined in a way that channels do not tell.
        self._concatenate(joined or [self.last], shape, shape[0] * shape[1] ** 2)
        return self.last

    def _new(self, shape: tuple[float, float], elements: float) -> int:
        self.shapes.append(shape)
        self.elements.append(elements)
        self.last = len(self.shapes) - 1
        return self.last

    def _write(
        self, kind: str, read: int, shape: tuple[float, float], elements: float, *, extra: float = 0.0, params: float = 0.0,
        workspaces: tuple[tuple[float, float], ...] = (), keeps_output: bool = False, in_place: bool = False,
    ) -> None:  # fmt: skip
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
        """An addition that the table has: to what waits with that shape, else to the latest other such tensor."""
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


class CachingAllocator:
    """PyTorch's caching allocator, in its rules for sizes: what is handed out, and what is held.

    Sizes are rounded to 512 bytes. Requests of up to 1 MiB come from segments of 2 MiB, others of less than 10 MiB
    from segments of 20 MiB, larger ones from segments of their own in steps of 2 MiB. The smallest free block that is
    large enough is taken and split if enough is left; free neighbours are merged; segments are given back only by
    :meth:`empty_cache`. (``c10/cuda/CUDACachingAllocator.cpp``)
    """

    def __init__(self) -> None:
        self.allocated_bytes = self.reserved_bytes = 0
        self.peak_bytes = self.peak_reserved_bytes = 0
        self._free: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        # Block → [bytes, pool, block before, block after, in use]; 0 is no block.
        self._blocks: dict[int, list] = {}
        self._count = 0

    def allocate(self, size_bytes: float) -> int:
        """A block's number."""
        size = max(512, -int(-size_bytes // 512) * 512)
        pool = int(size > MIB)
        free = self._free[pool]
        at = bisect.bisect_left(free, (size, 0))
        if at < len(free):
            held, block = free.pop(at)
        else:
            held = 2 * MIB if not pool else 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
            self.reserved_bytes += held
            self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
            block = self._new(held, pool, 0, 0)
        state = self._blocks[block]
        rest = held - size
        if rest > MIB if pool else rest >= 512:
            right = self._new(rest, pool, block, state[3])
            if state[3]:
                self._blocks[state[3]][2] = right
            state[0], state[3] = size, right
            bisect.insort(free, (rest, right))
        state[4] = True
        self.allocated_bytes += state[0]
        self.peak_bytes = max(self.peak_bytes, self.allocated_bytes)
        return block

    def release(self, block: int) -> None:
        """Give a block back to its pool."""
        state = self._blocks[block]
        self.allocated_bytes -= state[0]
        state[4] = False
        free = self._free[state[1]]
        for side in (2, 3):
            other = state[side]
            if other and not self._blocks[other][4]:
                merged = self._blocks.pop(other)
                free.pop(bisect.bisect_left(free, (merged[0], other)))
                state[0] += merged[0]
                state[side] = merged[side]
                if merged[side]:
                    self._blocks[merged[side]][5 - side] = block
        bisect.insort(free, (state[0], block))

    def reset_peaks(self) -> None:
        """Peaks start again from what is allocated and reserved now."""
        self.peak_bytes, self.peak_reserved_bytes = self.allocated_bytes, self.reserved_bytes

    def empty_cache(self) -> None:
        """Give back the segments of which nothing is in use."""
        for free in self._free:
            # A block with no neighbours is all of its segment.
            whole = [entry for entry in free if not any(self._blocks[entry[1]][2:4])]
            for entry in whole:
                free.remove(entry)
                del self._blocks[entry[1]]
                self.reserved_bytes -= entry[0]

    def _new(self, size: int, pool: int, before: int, after: int) -> int:
        self._count += 1
        self._blocks[self._count] = [size, pool, before, after, False]
        return self._count


def step_memory(
    wiring: Wiring, params: float, batch_size: int, stage: str, protocol: Protocol = STEADY
) -> tuple[float, float]:
    """Peak of memory handed out and memory held during a step, in MiB.

    Training keeps parameters, from the end of the first step on their gradients and one momentum (SGD), and what
    gradients need; a sum hands its gradient on, a second gradient of a tensor is added to the first. Inference keeps
    nothing.

    Args:
        wiring: what :func:`operations` returns.
        params: parameters of the network.
        batch_size: images per step.
        stage: ``training`` or ``inference``.
        protocol: how the peaks are read.
    """
    needs_workspaces = stage == "training" and any(operation.workspaces for operation in wiring.operations)
    # Which a library takes is not known: the mean over its choices.
    choices = range(len(WINOGRAD_TILES) if needs_workspaces else 1)
    peaks = [_peaks(wiring, params, batch_size, stage, protocol, choice) for choice in choices]
    allocated, reserved = np.mean(peaks, axis=0)
    return float(allocated), float(reserved)


def _peaks(
    wiring: Wiring, params: float, batch_size: int, stage: str, protocol: Protocol, workspace: int
) -> np.ndarray:
    """What :func:`step_memory` returns, if the library takes the workspaces with that number."""
    allocator = CachingAllocator()
    weights = [operation.params for operation in wiring.operations if operation.params]
    rest = params - sum(weights)
    # Parameters that no operation of the table has.
    others = [rest] if rest > 0 else []
    for count in [*weights, *others]:
        allocator.allocate(count * FLOAT_BYTES)
    step = _Step(wiring, batch_size, allocator, workspace)
    readings = []
    for number in range(len(protocol.weights)):
        allocator.reset_peaks()
        if protocol.empties_cache:
            allocator.empty_cache()
        step.forward(keep=stage == "training")
        if stage == "training":
            step.backward()
            # Momenta; the other parameters' gradients have not been made by any operation.
            for count in [*others, *weights, *others] if number == 0 else []:
                allocator.allocate(count * FLOAT_BYTES)
        readings.append((allocator.peak_bytes / MIB, allocator.peak_reserved_bytes / MIB))
    return np.average(readings, axis=0, weights=protocol.weights)


def step_memory_curve(
    wiring: Wiring, params: float, batch_sizes: np.ndarray, stage: str, protocol: Protocol = STEADY
) -> tuple[np.ndarray, np.ndarray]:
    """Memory handed out and memory held at many batch sizes (each at least 1), in MiB, shape (n,) each.

    Powers of two are simulated by :func:`step_memory`; between two of them memory is close to proportional.
    """
    exponents = np.log2(batch_sizes)
    knots = 2 ** np.union1d(np.floor(exponents), np.ceil(exponents)).astype(int)
    simulated = np.array([step_memory(wiring, params, int(batch), stage, protocol) for batch in knots])
    allocated, reserved = (np.interp(batch_sizes, knots, column) for column in simulated.T)
    return allocated, reserved


class _Step:
    """Blocks of tensors and gradients during one step. A block is released when nobody refers to it any more."""

    def __init__(self, wiring: Wiring, batch_size: int, allocator: CachingAllocator, workspace: int) -> None:
        self.workspace = workspace
        self.operations = wiring.operations
        self.result = wiring.operations[-1].writes
        self.element_bytes = FLOAT_BYTES * batch_size
        self.tensor_bytes = [max(elements, 1.0) * self.element_bytes for elements in wiring.elements]
        self.allocator = allocator
        self.references: dict[int, int] = {}
        # The input stays from step to step, as do the gradients of parameters once they are there.
        self.tensors = {0: self._allocate(self.tensor_bytes[0])}
        self.has_gradients = False
        self.kept: list[list[int]] = []
        last_use = {tensor: index for index, operation in enumerate(self.operations)
                    for tensor in (*operation.reads, operation.writes)}  # fmt: skip
        self.ends: list[list[int]] = [[] for _ in self.operations]
        for tensor, index in last_use.items():
            if tensor not in (0, self.result):
                self.ends[index].append(tensor)

    def _allocate(self, size_bytes: float) -> int:
        block = self.allocator.allocate(size_bytes)
        self.references[block] = 1
        return block

    def _let_go(self, block: int) -> None:
        self.references[block] -= 1
        if not self.references[block]:
            del self.references[block]
            self.allocator.release(block)

    def forward(self, *, keep: bool) -> None:
        """Write every tensor; keep what gradients need, if asked for."""
        self.kept = []
        for operation, ended in zip(self.operations, self.ends, strict=True):
            if operation.writes not in self.tensors:
                self.tensors[operation.writes] = self._allocate(self.tensor_bytes[operation.writes])
            if keep:
                kept = [self.tensors[tensor] for tensor in operation.keeps]
                for block in kept:
                    self.references[block] += 1
                if operation.extra:
                    kept.append(self._allocate(operation.extra * self.element_bytes))
                self.kept.append(kept)
            for tensor in ended:
                self._let_go(self.tensors.pop(tensor))
        if not keep:
            self._let_go(self.tensors.pop(self.result))

    def backward(self) -> None:
        """Gradients of every tensor and parameter, from the result's back; what was kept is let go on the way."""
        self._let_go(self.tensors.pop(self.result))
        gradients = {self.result: self._allocate(self.tensor_bytes[self.result])}
        for operation, kept in zip(reversed(self.operations), reversed(self.kept), strict=True):
            incoming = gradients.pop(operation.writes, None)
            if incoming is not None:
                for tensor in operation.reads:
                    if tensor != 0:
                        self._pass_on(gradients, tensor, incoming if operation.joins else None)
                if operation.params:
                    self._parameter_gradient(operation)
                self._let_go(incoming)
            for block in kept:
                self._let_go(block)
        for block in gradients.values():
            self._let_go(block)
        self.has_gradients = True

    def _parameter_gradient(self, operation: Operation) -> None:
        gradient = self._allocate(operation.params * FLOAT_BYTES)
        if operation.workspaces:
            for_image, for_all = operation.workspaces[self.workspace]
            self._let_go(self._allocate(for_image * self.element_bytes + for_all * FLOAT_BYTES))
        # A later one is added to that of the first step.
        if self.has_gradients:
            self._let_go(gradient)

    def _pass_on(self, gradients: dict[int, int], tensor: int, shared: int | None) -> None:
        """A gradient for a tensor: the shared block, or one of its own; a second one is added to the first."""
        if shared is None:
            block = self._allocate(self.tensor_bytes[tensor])
        else:
            block = shared
            self.references[block] += 1
        if tensor in gradients:
            self._let_go(block)
        else:
            gradients[tensor] = block
