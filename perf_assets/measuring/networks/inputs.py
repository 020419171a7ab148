"""What a network is called with and what it answers: tensors of any kind, in tuples, dicts or alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map


@dataclass(frozen=True)
class Inputs:
    """Arguments of one call of a network, by position and by name."""

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    def call(self, model: nn.Module) -> Any:
        """Call the network."""
        return model(*self.positional, **self.named)

    def tensors(self) -> list[torch.Tensor]:
        """All tensors among the arguments."""
        leaves = tree_leaves([list(self.positional), dict(self.named)])
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
        """The same arguments with every tensor changed."""

        def apply(leaf: Any) -> Any:
            return change(leaf) if isinstance(leaf, torch.Tensor) else leaf

        return Inputs(tree_map(apply, self.positional), tree_map(apply, dict(self.named)))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Inputs:
        """On a device; floating tensors in another type, whole numbers and truths as they are."""
        return self.mapped(
            lambda tensor: tensor.to(device, dtype if dtype and tensor.is_floating_point() else tensor.dtype)
        )

    def first(self, count: int, batch_size: int) -> Inputs:
        """The first samples: of tensors whose first dimension is the batch."""
        return self.mapped(
            lambda tensor: tensor[:count] if tensor.dim() and len(tensor) == batch_size else tensor
        )


def as_inputs(arguments: Any) -> Inputs:
    """Arguments of a call from what a function of a person's own returned.

    Raises:
        TypeError: neither a tensor, nor a tuple, nor a dict.
    """
    if isinstance(arguments, Inputs):
        return arguments
    if isinstance(arguments, torch.Tensor):
        return Inputs((arguments,))
    if isinstance(arguments, tuple | list):
        return Inputs(tuple(arguments))
    if isinstance(arguments, Mapping):
        return Inputs(named=dict(arguments))
    raise TypeError(
        f"inputs returned {type(arguments).__name__}: return a tensor, a tuple of arguments or a dict of named ones"
    )


def tensors_in(outputs: Any) -> Iterator[torch.Tensor]:
    """All tensors of a network's answer, in order: dicts, tuples and objects with fields are looked into."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from tensors_in(value)
    elif isinstance(outputs, tuple | list):
        for value in outputs:
            yield from tensors_in(value)
    elif hasattr(outputs, "__dict__"):
        yield from tensors_in(vars(outputs))


def loss(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    """A number to train on: the network's own loss, or cross entropy of a classifier, or a mean of squares.

    Class scores are answers of shape (batch, classes); auxiliary heads count 0.3 each, as GoogLeNet was
    trained. The mean of squares stands in where only the network's author knows the task: its backward pass
    costs what another loss would.

    Raises:
        ValueError: the answer holds no floating tensor.
    """
    own = outputs.get("loss") if isinstance(outputs, Mapping) else None
    if own is not None:
        return own.mean()
    heads = [head for head in tensors_in(outputs) if head.is_floating_point()]
    if not heads:
        raise ValueError("the network's answer holds no floating tensor: nothing to train on")
    if all(head.dim() == 2 and len(head) == len(labels) for head in heads):
        losses = [nn.functional.cross_entropy(head, labels) for head in heads]
        return losses[0] + 0.3 * sum(losses[1:])
    return torch.stack([head.float().square().mean() for head in heads]).sum()
