"""Memory of one training or inference step, simulated: which tensors live when, and what they need.

No torch and no device: a layer table says which tensors an operation reads and writes (``dataflow``),
autograd says which of them it keeps for its gradient, and a model of PyTorch's caching allocator
(``allocator``) says how much memory is handed out and how much is held (:func:`step_memory`). Nothing here is
fitted. Of the workspaces of libraries only that is in it which matters most: filter gradients by Winograd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perf_assets.measuring.networks.layer_costs import FLOAT_BYTES
from perf_assets.measuring.networks.memory.allocator import MIB, CachingAllocator
from perf_assets.measuring.networks.memory.dataflow import GRADIENT_WINOGRAD_TILES, Dataflow, Operation


@dataclass(frozen=True)
class Protocol:
    """How peaks were read. ``weights`` is what the peak of each step from the first on counts for in the
    value, in which the first step is the one that makes gradients and momenta; ``empties_cache`` is whether
    unused segments are given back before each step."""

    weights: tuple[float, ...]
    empties_cache: bool


STEADY = Protocol((0.0, 1.0), empties_cache=False)
"""A training loop in its course: the second step finds the blocks that the first has left."""


def step_memory(
    dataflow: Dataflow, params: float, batch_size: int, stage: str, protocol: Protocol = STEADY
) -> tuple[float, float]:
    """Peak of memory handed out and memory held during a step, in MiB.

    Training keeps parameters, from the end of the first step on their gradients and one momentum (SGD), and
    what gradients need; a sum hands its gradient on, a second gradient of a tensor is added to the first.
    Inference keeps nothing.

    Args:
        dataflow: what :func:`perf_assets.measuring.networks.memory.dataflow.operations` returns.
        params: parameters of the network.
        batch_size: images per step.
        stage: ``training`` or ``inference``.
        protocol: how the peaks are read.
    """
    allocated, reserved = _simulated(_requests(dataflow, params, stage, protocol), batch_size, protocol)
    return float(allocated), float(reserved)


def step_memory_curve(
    dataflow: Dataflow, params: float, batch_sizes: np.ndarray, stage: str, protocol: Protocol = STEADY
) -> tuple[np.ndarray, np.ndarray]:
    """Memory handed out and memory held at many batch sizes (each at least 1), in MiB, shape (n,) each.

    Powers of two up to 16 and of four from there on are simulated as by :func:`step_memory`; between two of
    them memory is close to proportional.
    """
    exponents = np.log2(batch_sizes)
    step = np.where(exponents > 4, 2, 1)
    knots = 2 ** np.union1d(np.floor(exponents / step) * step, np.ceil(exponents / step) * step).astype(int)
    requests = _requests(dataflow, params, stage, protocol)
    simulated = np.array([_simulated(requests, int(batch), protocol) for batch in knots])
    allocated, reserved = (np.interp(batch_sizes, knots, column) for column in simulated.T)
    return allocated, reserved


def _requests(dataflow: Dataflow, params: float, stage: str, protocol: Protocol) -> list[_Requests]:
    """What is asked of the allocator, for each choice of workspaces that a library has."""
    training = stage == "training"
    needs_workspaces = training and any(operation.workspaces for operation in dataflow.operations)
    choices = range(len(GRADIENT_WINOGRAD_TILES) if needs_workspaces else 1)
    return [_Requests(dataflow, params, training, len(protocol.weights), choice) for choice in choices]


def _simulated(requests: list[_Requests], batch_size: int, protocol: Protocol) -> np.ndarray:
    """Both peaks in MiB. Which workspaces a library takes is not known: the mean over its choices."""
    return np.mean([own.peaks(batch_size, protocol) for own in requests], axis=0)


class _Requests:
    """What a few steps ask of the allocator: it is the same for every batch, only sizes differ.

    A block is released when nobody refers to it any more.
    """

    def __init__(self, dataflow: Dataflow, params: float, training: bool, steps: int, workspace: int) -> None:
        # Block n is asked for by n and released by -n; 0 is the start of a step.
        self.events: list[int] = []
        # Elements of block n for each image, and besides.
        self.per_image, self.fixed = [0.0], [0.0]
        self.references: dict[int, int] = {}
        self.workspace = workspace
        self.operations = dataflow.operations
        self.result = dataflow.operations[-1].writes
        self.elements = [max(elements, 1.0) for elements in dataflow.elements]
        last_use = {
            tensor: index
            for index, operation in enumerate(self.operations)
            for tensor in (*operation.reads, operation.writes)
        }
        self.ends: list[list[int]] = [[] for _ in self.operations]
        for tensor, index in last_use.items():
            if tensor not in (0, self.result):
                self.ends[index].append(tensor)
        weights = [operation.params for operation in dataflow.operations if operation.params]
        rest = params - sum(weights)
        # Parameters that no operation of the table has.
        others = [rest] if rest > 0 else []
        for count in [*weights, *others]:
            self._ask(fixed=count)
        # The input stays from step to step, as do the gradients of parameters once they are there.
        self.tensors = {0: self._ask(self.elements[0])}
        self.has_gradients = False
        self.kept: list[list[int]] = []
        for _ in range(steps):
            self.events.append(0)
            self._forward(keep=training)
            if training:
                self._backward()
                # Momenta; the other parameters' gradients have not been made by any operation.
                for count in [] if self.has_gradients else [*others, *weights, *others]:
                    self._ask(fixed=count)
                self.has_gradients = True

    def peaks(self, batch_size: int, protocol: Protocol) -> np.ndarray:
        """Memory handed out and held at a batch size, in MiB, shape (2,)."""
        allocator = CachingAllocator()
        sizes_bytes = FLOAT_BYTES * (batch_size * np.array(self.per_image) + np.array(self.fixed))
        sizes, blocks = sizes_bytes.tolist(), {}
        readings = []
        for event in [*self.events, 0]:
            if event > 0:
                blocks[event] = allocator.allocate(sizes[event])
            elif event < 0:
                allocator.release(blocks.pop(-event))
            else:
                readings.append((allocator.peak_bytes, allocator.peak_reserved_bytes))
                allocator.reset_peaks()
                if protocol.empties_cache:
                    allocator.empty_cache()
        # The first is of what was there before the first step.
        return np.average(readings[1:], axis=0, weights=protocol.weights) / MIB

    def _ask(self, per_image: float = 0.0, fixed: float = 0.0) -> int:
        self.per_image.append(per_image)
        self.fixed.append(fixed)
        block = len(self.fixed) - 1
        self.events.append(block)
        self.references[block] = 1
        return block

    def _let_go(self, block: int) -> None:
        self.references[block] -= 1
        if not self.references[block]:
            del self.references[block]
            self.events.append(-block)

    def _forward(self, *, keep: bool) -> None:
        """Write every tensor; keep what gradients need, if asked for."""
        self.kept = []
        for operation, ended in zip(self.operations, self.ends, strict=True):
            if operation.writes not in self.tensors:
                self.tensors[operation.writes] = self._ask(self.elements[operation.writes])
            if keep:
                kept = [self.tensors[tensor] for tensor in operation.keeps]
                for block in kept:
                    self.references[block] += 1
                if operation.extra:
                    kept.append(self._ask(operation.extra))
                self.kept.append(kept)
            for tensor in ended:
                self._let_go(self.tensors.pop(tensor))
        if not keep:
            self._let_go(self.tensors.pop(self.result))

    def _backward(self) -> None:
        """Gradients of every tensor and parameter, from the result's back; what was kept is let go on the
        way."""
        self._let_go(self.tensors.pop(self.result))
        gradients = {self.result: self._ask(self.elements[self.result])}
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

    def _parameter_gradient(self, operation: Operation) -> None:
        gradient = self._ask(fixed=operation.params)
        if operation.workspaces:
            self._let_go(self._ask(*operation.workspaces[self.workspace]))
        # A later one is added to that of the first step.
        if self.has_gradients:
            self._let_go(gradient)

    def _pass_on(self, gradients: dict[int, int], tensor: int, shared: int | None) -> None:
        """A gradient for a tensor: the shared block, or one of its own; a second one is added to the
        first."""
        if shared is None:
            block = self._ask(self.elements[tensor])
        else:
            block = shared
            self.references[block] += 1
        if tensor in gradients:
            self._let_go(block)
        else:
            gradients[tensor] = block
