"""Networks by name: torchvision's classifiers and LeNet-5, with seeded random weights or a local weights
file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from perf_assets.measuring.networks.names import CLASSIFIERS
from perf_assets.workspace.validation import one_of

_INPUT_SHAPES = {"lenet5": (1, 32), "inception_v3": (3, 299)}
_SMALLEST_INPUTS = {"lenet5": 32, "vit_b_16": 224, "alexnet": 63, "inception_v3": 75, "squeezenet1_1": 33}


class LeNet5(nn.Module):
    """LeNet-5 of LeCun et al. 1998 with ReLU and max pooling: input (batch, 1, 32, 32), output (batch,
    classes)."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classifier = nn.Sequential(
            nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores of images of shape (batch, 1, 32, 32)."""
        return self.classifier(torch.flatten(self.features(images), 1))


def build(
    name: str,
    *,
    num_classes: int | None = None,
    aux_heads: bool = False,
    seed: int = 0,
    weights: str | Path | None = None,
    device: str = "cpu",
    **options: Any,
) -> nn.Module:
    """Build a network in evaluation mode.

    Args:
        name: one of :data:`perf_assets.measuring.networks.names.CLASSIFIERS`.
        num_classes: outputs; default is what the network was published with (1000; LeNet-5: 10).
        aux_heads: keep the auxiliary classifiers of googlenet and inception_v3 (they act in training mode
            only).
        seed: seed of the random weights; the caller's random state is left as it was.
        weights: a local file with a state dict, loaded with ``weights_only=True``; nothing is ever
            downloaded.
        device: ``meta`` builds shapes without memory.
        options: further arguments of the network's own constructor.

    Raises:
        ValueError: unknown name, or auxiliary heads asked of a network that has none.
        FileNotFoundError: the weights file is missing.
        RuntimeError: the weights do not fit the network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            with torch.device(device):
                model = _build(name, num_classes, aux_heads, options)
        except NotImplementedError:  # regnet computes its widths with tensors, which the meta device cannot
            model = _build(name, num_classes, aux_heads, options).to(device)
    if weights is not None:
        model.load_state_dict(torch.load(weights, map_location=device, weights_only=True))
    return model.eval()


def input_shape(name: str) -> tuple[int, int]:
    """Input channels, and the height = width in pixels that the network was published with."""
    return _INPUT_SHAPES.get(name, (3, 224))


def smallest_input(name: str) -> int:
    """Smallest input height = width in pixels that the network accepts (LeNet-5 and ViT accept only this
    one)."""
    return _SMALLEST_INPUTS.get(name, 32)


def _build(name: str, num_classes: int | None, aux_heads: bool, options: dict[str, Any]) -> nn.Module:
    one_of("network", name, CLASSIFIERS)
    options = options | ({} if num_classes is None else {"num_classes": num_classes})
    if name == "lenet5":
        if aux_heads:
            raise ValueError("lenet5 has no auxiliary heads: leave aux_heads out")
        return LeNet5(**options)
    import torchvision  # takes longer to load than torch, and LeNet-5 does without

    if name in ("googlenet", "inception_v3"):
        # Their own initialisation draws from a truncated normal distribution, which takes half a minute.
        options = {"aux_logits": aux_heads, "init_weights": False} | options
    elif aux_heads:
        raise ValueError(f"{name} has no auxiliary heads: leave aux_heads out")
    return torchvision.models.get_model(name, weights=None, **options)
