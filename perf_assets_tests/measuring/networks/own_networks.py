"""Networks of a person's own: what tests name as ``package.module:name``."""

import os

import torch
from torch import nn


class TwoHeads(nn.Module):
    """Images and whole numbers in, a dict out; refuses to be built outside a measuring process."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        if os.environ.get("PERF_ASSETS_TEST_PID") == str(os.getpid()):
            raise RuntimeError("this code must not run here")
        self.words = nn.Embedding(10, width)
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3))
        self.scores = nn.Linear(width, 4)

    def forward(self, images: torch.Tensor, words: torch.Tensor, *, scale: float = 1.0) -> dict:
        features = self.body(images).mean((2, 3)) + self.words(words).mean(1)
        return {"scores": scale * self.scores(features), "features": features}


def batch(batch_size: int, input_size: int | None) -> dict:
    """Named arguments of both kinds."""
    size = input_size or 16
    return {"images": torch.randn(batch_size, 3, size, size), "words": torch.randint(0, 10, (batch_size, 5))}


def classifier() -> nn.Module:
    """Plain images in, class scores out; the input needs no function."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    )


NOT_CALLABLE = 3
