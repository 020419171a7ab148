"""How a network is pruned, in place: by dependency graphs, by chains where these fail, or by masks of
weights.

Directories, child processes and verification stand in ``pruning``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from perf_assets.measuring.networks.inputs import Inputs, tensors_in
from perf_assets.measuring.networks.names import (
    GLOBAL_METHODS,
    PRUNING_METHODS,
    STRUCTURED_METHODS,
    UNSTRUCTURED_METHODS,
)

# torch-pruning 1.6 divides by zero on the channel shuffle and never finishes tracing shifted windows.
_CHAIN_PRUNED = {"ShuffleNetV2", "SwinTransformer"}
_GLOBAL_STEPS = 50
"""Steps from no channel removed to all: what the last one removes too much is about two percent of them."""
_LARGEST_LAYER_RATIO = 0.97
"""Of one layer's channels; without a bound, global pruning cuts a network in two."""
_PER_CHANNEL_LAYERS = (
    nn.ReLU,
    nn.ReLU6,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Dropout,
    nn.Identity,
    nn.BatchNorm2d,
)


def prune_model(
    model: nn.Module,
    method: str,
    ratio: float,
    *,
    seed: int = 0,
    input_size: int = 224,
    in_channels: int = 3,
    inputs: Inputs | None = None,
) -> str:
    """Prune a network in place; returns what did it: ``torch_pruning``, ``sequential_chains`` or
    ``torch_prune``.

    Structured methods remove channels with torch-pruning's dependency graph (Fang et al., CVPR 2023,
    arXiv 2301.12900), by the L2 norm of a group or at random, the same ratio in every group; the classifier's
    outputs stay. The global ones compare groups of the whole network and stop when the ratio of all parameters is
    gone; ``random_weighted`` draws, by the seed, whether early layers, late layers or all alike are preferred. They
    stop early where every layer is down to a few channels. ShuffleNet and Swin, which it cannot trace, lose inner channels of their sequential blocks
    (:func:`prune_chains`). Unstructured methods set weights of convolutions, linear layers and fused
    attention projections to zero. ``inputs`` is a batch of two of what the network takes, where that is no
    images.

    Raises:
        ValueError: unknown method, or a global one of a network that cannot be traced.
    """
    torch.manual_seed(seed)
    if method in UNSTRUCTURED_METHODS:
        _prune_unstructured(model, method, ratio)
        return "torch_prune"
    if method not in STRUCTURED_METHODS:
        raise ValueError(f"unknown pruning method {method!r}: use one of {', '.join(PRUNING_METHODS)}")
    is_traceable = not _CHAIN_PRUNED & {kind.__name__ for kind in type(model).__mro__}
    if method in GLOBAL_METHODS and not is_traceable:
        raise ValueError(
            f"{method} needs a traced network: use structured_magnitude or structured_random here"
        )
    if not is_traceable:
        prune_chains(model, ratio, random=method == "structured_random")
        return "sequential_chains"
    inputs = inputs or Inputs((torch.randn(2, in_channels, input_size, input_size),))
    if method in GLOBAL_METHODS:
        _prune_globally(model, method, ratio, inputs)
    else:
        _prune_graph(model, method, ratio, inputs)
    return "torch_pruning"


def prune_chains(model: nn.Module, ratio: float, *, random: bool) -> None:
    """Remove inner channels of sequential blocks, in place: no tracing, and safe for any network.

    Within one ``nn.Sequential``, what a convolution or linear layer hands to the next one through layers that
    act per channel is seen by nobody else, so those channels can go. Block outputs keep their width.
    """
    for block in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        producer: nn.Module | None = None
        between: list[nn.Module] = []
        for layer in block:
            if isinstance(layer, nn.Conv2d | nn.Linear) and _is_depthwise(layer):
                between.append(layer)
            elif isinstance(layer, nn.Conv2d | nn.Linear) and getattr(layer, "groups", 1) == 1:
                if producer is not None:
                    _shrink_chain(producer, between, layer, ratio, random=random)
                producer, between = layer, []
            elif isinstance(layer, _PER_CHANNEL_LAYERS):
                between.append(layer)
            else:
                producer, between = None, []


def _shrink_chain(
    producer: nn.Module, between: list[nn.Module], consumer: nn.Module, ratio: float, *, random: bool
) -> None:
    width = producer.weight.shape[0]
    scores = torch.rand(width) if random else producer.weight.detach().flatten(1).norm(dim=1)
    kept = scores.topk(max(1, round(width * (1 - ratio)))).indices.sort().values

    def keep(module: nn.Module, name: str, dim: int = 0) -> None:
        old = getattr(module, name)
        if old is not None:
            new = old.detach().index_select(dim, kept).clone()
            setattr(module, name, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)

    for module in (producer, *between):
        depthwise = _is_depthwise(module)
        for name in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, name, None) is not None:
                keep(module, name)
        for size in ("out_channels", "out_features", "num_features"):
            if hasattr(module, size):
                setattr(module, size, len(kept))
        if depthwise:
            module.in_channels = module.groups = len(kept)
    keep(consumer, "weight", dim=1)
    setattr(consumer, "in_channels" if isinstance(consumer, nn.Conv2d) else "in_features", len(kept))


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1


def _prune_graph(model: nn.Module, method: str, ratio: float, inputs: Inputs) -> None:
    import torch_pruning

    importance = (
        torch_pruning.importance.RandomImportance()
        if method == "structured_random"
        else torch_pruning.importance.MagnitudeImportance(p=2)
    )
    _pruner(
        model,
        inputs,
        importance=importance,
        pruning_ratio=ratio,
        pruning_ratio_dict=_narrow_layer_ratios(model, ratio, list(_classifiers(model))),
    ).step()
    model.eval()


def _prune_globally(model: nn.Module, method: str, ratio: float, inputs: Inputs) -> None:
    """Remove the least important channels of the whole network, step by step, until enough parameters are gone."""
    import torch_pruning

    importance = {
        "global_structured_magnitude": torch_pruning.importance.MagnitudeImportance(p=2),
        "global_structured_random": torch_pruning.importance.RandomImportance(),
        "random_weighted": _WeightedRandomImportance(model),
    }[method]
    wanted = _params(model) * (1 - ratio)
    pruner = _pruner(
        model,
        inputs,
        importance=importance,
        pruning_ratio=1.0,
        global_pruning=True,
        max_pruning_ratio=_LARGEST_LAYER_RATIO,
        iterative_steps=_GLOBAL_STEPS,
    )
    for _ in range(_GLOBAL_STEPS - 1):
        if _params(model) <= wanted:
            break
        pruner.step()
    model.eval()


def _params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class _WeightedRandomImportance:
    """A random score a channel, times a weight of its layer: as torch-pruning calls an importance.

    Of the seeds, 30 % weigh early layers more (late ones are pruned), 30 % late ones, 40 % none.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        kind = float(torch.rand(1))
        depth = torch.arange(len(layers), dtype=torch.float32)
        weights = torch.exp(-0.1 * (depth if kind < 0.3 else depth.flip(0)))
        self._weights = dict(zip(layers, weights if kind < 0.6 else torch.ones(len(layers)), strict=True))

    def __call__(self, group: Any, **_: Any) -> torch.Tensor:
        """Scores of a group's channels; the group is weighed as the layer that it begins with."""
        dependency, channels = group[0]
        return torch.rand(len(channels)) * self._weights.get(dependency.target.module, 1.0)


def _pruner(model: nn.Module, inputs: Inputs, **how: Any) -> Any:
    """torch-pruning's pruner of a network whose classifiers keep their outputs."""
    import torch_pruning

    return torch_pruning.pruner.BasePruner(
        model,
        inputs,
        ignored_layers=list(_classifiers(model)),
        # Without it attention is cut to widths that its heads do not divide; with it only the MLPs shrink.
        num_heads={m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)},
        # Auxiliary heads act in training mode only; traced in evaluation mode they would keep their old
        # width.
        forward_fn=lambda model, inputs: inputs.call(model.train(_has_aux_heads(model))),
        output_transform=lambda outputs: list(tensors_in(outputs)),
        **how,
    )


def _narrow_layer_ratios(model: nn.Module, ratio: float, ignored: list[nn.Module]) -> dict[nn.Module, float]:
    """Ratios that leave one channel of the layers so narrow that the ratio would leave none.

    torch-pruning skips such layers altogether, so that more pruning would shrink the network less.
    """
    ratios = {}
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d | nn.Linear)
            and module not in ignored
            and getattr(module, "groups", 1) == 1
        ):
            width = module.weight.shape[0]
            if int(width * (1 - ratio)) < 1:
                ratios[module] = 1 - 1.01 / width  # a little more than one channel, against rounding down
    return ratios


def _has_aux_heads(model: nn.Module) -> bool:
    return bool(getattr(model, "aux_logits", False))


def _classifiers(model: nn.Module) -> Iterator[nn.Module]:
    """The layers that put out the class scores: the last one of the network, and of each auxiliary head."""
    heads = [module for name, module in model.named_children() if name.lower().startswith("aux")]
    for part in (*heads, model):
        layers = [m for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        if layers:
            yield layers[-1]


def _prune_unstructured(model: nn.Module, method: str, ratio: float) -> None:
    targets = [(module, "weight") for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    targets += [
        (module, "in_proj_weight")
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None
    ]
    if method == "global_unstructured":
        prune.global_unstructured(targets, pruning_method=prune.L1Unstructured, amount=ratio)
    for module, name in targets:
        if method == "l1_unstructured":
            prune.l1_unstructured(module, name, amount=ratio)
        elif method == "random_unstructured":
            prune.random_unstructured(module, name, amount=ratio)
        elif method == "ln_structured":
            prune.ln_structured(module, name, amount=ratio, n=2, dim=0)
        # At once: until the mask is folded in, memory holds the weights twice.
        prune.remove(module, name)
