"""Share of a folder's images that a network classifies right, and how fast they were read and classified."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perf_assets.measuring.networks.inputs import tensors_in
from perf_assets.measuring.profiling import arithmetic
from perf_assets.measuring.profiling.algorithms import UnsupportedError
from perf_assets.measuring.profiling.spec import ProfileSpec
from perf_assets.measuring.recording.log import LogWriter

_MEANS, _DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours, which torchvision's networks are trained with."""
_RESIZE_SHARE = 256 / 224
"""The shorter side before the middle is cut out, over the network's input."""


def measure_accuracy(
    spec: ProfileSpec, model: nn.Module, image_shape: tuple[int, ...], device: torch.device, log: LogWriter
) -> dict[str, Any]:
    """Classify every image of the spec's folder once.

    Args:
        spec: names the folder, the batch size and the number of loader processes.
        model: the network on its device.
        image_shape: (channels, height, width) that it takes.
        device: where it runs.
        log: gets the line ``accuracy``.

    Returns:
        ``accuracy_pct``, of all images the share whose largest score is that of their class.

    Raises:
        UnsupportedError: there is no such folder, or the network has fewer classes than it.
    """
    loader = _loader(spec, image_shape)
    classes = len(loader.dataset.classes)
    correct = images_seen = 0
    model.eval()
    begun_s = time.perf_counter()
    for images, labels in loader:
        images = images.to(device, arithmetic.stored_type(spec.precision))
        with torch.inference_mode(), arithmetic.autocast(spec, device):
            scores = next(tensors_in(model(images)))
        if scores.dim() != 2 or scores.shape[1] < classes:
            raise UnsupportedError(
                f"image_folder {spec.image_folder} has {classes} classes and the network answers {tuple(scores.shape)}:"
                " name a folder of its own classes"
            )
        correct += int((scores.argmax(dim=1).cpu() == labels).sum())
        images_seen += len(labels)
    duration_s = time.perf_counter() - begun_s
    accuracy_pct = 100 * correct / images_seen
    log.write(
        "accuracy",
        accuracy_pct=accuracy_pct,
        images=images_seen,
        correct=correct,
        classes=classes,
        loader_workers=spec.loader_workers,
        duration_s=duration_s,
        images_per_s=images_seen / duration_s,
    )
    return {"accuracy_pct": accuracy_pct}


def _loader(spec: ProfileSpec, image_shape: tuple[int, ...]) -> Any:
    from torchvision import datasets, transforms

    channels, height, width = image_shape
    means, deviations = (_MEANS, _DEVIATIONS) if channels == 3 else ((0.5,), (0.5,))
    steps = [
        *([transforms.Grayscale()] if channels == 1 else []),
        transforms.Resize(round(height * _RESIZE_SHARE)),
        transforms.CenterCrop((height, width)),
        transforms.ToTensor(),
        transforms.Normalize(means, deviations),
    ]
    try:
        found = datasets.ImageFolder(str(Path(spec.image_folder or "")), transforms.Compose(steps))
    except FileNotFoundError as error:
        first = str(error).splitlines()[0]
        raise UnsupportedError(
            f"image_folder: {first}: name a folder with a folder of images a class"
        ) from error
    return torch.utils.data.DataLoader(found, batch_size=spec.batch_size, num_workers=spec.loader_workers)
