"""Memory of one training or inference step, simulated: which tensors live when, and what the allocator makes of it.

No torch and no device: a layer table says which tensors an operation reads and writes (``wiring``), autograd says which
of them it keeps for its gradient, and a model of PyTorch's caching allocator (``caching_allocator``) says how much memory
is handed out and how much is held (:func:`step_memory`). Nothing here is fitted. Of the workspaces of libraries only that
is in it which matters most: filter gradients by Winograd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perf_assets.models.analytic import FLOAT_BYTES
from perf_assets.models.caching_allocator import MIB, CachingAllocator
from perf_assets.models.wiring import WINOGRAD_TILES, Operation, Wiring


@dataclass(frozen=True)
class Protocol:
    """How peaks were read. ``weights`` is what the peak of each step from the first on counts for in the value, in which
    the first step is the one that makes gradients and momenta; ``empties_cache`` is whether unused segments are given
    back before each step."""

    weights: tuple[float, ...]
    empties_cache: bool


STEADY = Protocol((0.0, 1.0), empties_cache=False)
"""A training loop in its course: the second step finds the blocks that the first has left."""


def step_memory(
    wiring: Wiring, params: float, batch_size: int, stage: str, protocol: Protocol = STEADY
) -> tuple[float, float]:
    """Peak of memory handed out and memory held during a step, in MiB.

    Training keeps parameters, from the end of the first step on their gradients and one momentum (SGD), and what
    gradients need; a sum hands its gradient on, a second gradient of a tensor is added to the first. Inference keeps
    nothing.

    Args:
        wiring: what :func:`perf_assets.models.wiring.operations` returns.
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
