"""A network and its input from a request: torchvision's, timm's, transformers', and modules of a person's own.

Building an own module runs its code: only measuring processes call this for one.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perf_assets.measuring.networks import zoo
from perf_assets.measuring.networks.inputs import Inputs, as_inputs
from perf_assets.measuring.networks.request import NetworkRequest

TOKENS = 128
"""Length of a sequence where neither the request nor the network's configuration says less."""


def build(
    request: NetworkRequest, *, seed: int = 0, aux_heads: bool = False, device: str = "cpu"
) -> nn.Module:
    """Build the network in evaluation mode.

    Args:
        request: which network, how built and with which weights.
        seed: seed of random weights; the caller's random state is left as it was.
        aux_heads: see :func:`perf_assets.measuring.networks.zoo.build`.
        device: ``cpu``, or ``meta`` for shapes without memory.

    Raises:
        ValueError: the name means nothing here.
        TypeError: it is no module, and makes none.
        FileNotFoundError: the weights file is missing.
    """
    library, _, name = request.network.partition(":")
    if not name:
        kwargs = dict(request.network_kwargs)
        return zoo.build(
            request.network, aux_heads=aux_heads, seed=seed, weights=request.weights, device=device, **kwargs
        )
    makers = {"timm": _timm, "transformers": _transformers}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if library in makers:
            model = makers[library](name, request.network_kwargs)
        else:
            model = _own(request)
    if request.weights is not None:
        model.load_state_dict(torch.load(request.weights, map_location="cpu", weights_only=True))
    return model.to(device).eval()


def own_input_size(request: NetworkRequest, model: Any) -> int | None:
    """Input size that the network was made for: height = width in pixels, or a sequence's length; None where
    only its author knows."""
    if request.inputs is not None:
        return None
    if request.network.startswith("timm:"):
        return int(_timm_size(model)[-1])
    if request.network.startswith("transformers:"):
        config = model.config
        if _takes(model) == "pixel_values":
            return int(_first(config.image_size))
        return min(TOKENS, getattr(config.get_text_config(), "max_position_embeddings", None) or TOKENS)
    return zoo.input_shape(request.network)[1]


def make_inputs(
    request: NetworkRequest,
    model: nn.Module,
    batch_size: int,
    input_size: int | None = None,
    *,
    seed: int = 0,
) -> Inputs:
    """One batch of random input, on the processor in float32; the same for the same seed.

    Args:
        request: whose ``inputs`` makes it, or the kind of network.
        model: the network, of which only its configuration is looked at.
        batch_size: samples.
        input_size: pixels or tokens; None for the network's own.
        seed: of the random numbers.

    Raises:
        ValueError: nothing is known of what the network takes.
    """
    size = input_size or own_input_size(request, model)
    if request.inputs is not None:
        factory = _imported(request.inputs, request.module_folder, "inputs")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = as_inputs(factory(batch_size=batch_size, input_size=input_size))
    elif request.network.startswith("transformers:"):
        made = _transformers_inputs(model, batch_size, size, seed)
    else:
        channels = in_channels(request, model)
        generator = torch.Generator().manual_seed(seed)
        made = Inputs((torch.randn(batch_size, channels, size, size, generator=generator),))
    return Inputs(made.positional, {**made.named, **request.forward_kwargs})


def in_channels(request: NetworkRequest, model: Any) -> int | None:
    """Channels of the images it takes; None for a network that takes something else."""
    if request.inputs is not None:
        return None
    if request.network.startswith("timm:"):
        return int(_timm_size(model)[0])
    if request.network.startswith("transformers:"):
        return int(model.config.num_channels) if _takes(model) == "pixel_values" else None
    if ":" in request.network:
        return next((part.in_channels for part in model.modules() if isinstance(part, nn.Conv2d)), 3)
    return zoo.input_shape(request.network)[0]


def _timm(name: str, kwargs: dict[str, Any]) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise ValueError(f"timm:{name} needs timm: install perf-assets[networks]") from None
    return timm.create_model(name, pretrained=False, **kwargs)


def _timm_size(model: Any) -> tuple[int, ...]:
    return tuple(model.pretrained_cfg.get("input_size") or (3, 224, 224))


def _transformers(name: str, kwargs: dict[str, Any]) -> nn.Module:
    try:
        import transformers
    except ImportError:
        raise ValueError(f"transformers:{name} needs transformers: install perf-assets[networks]") from None
    found = getattr(transformers, name, None)
    if isinstance(found, type) and getattr(found, "config_class", None) is not None:
        return found(found.config_class(**kwargs))
    return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(name, **kwargs))


def _transformers_inputs(model: Any, batch_size: int, size: int, seed: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    takes, config = _takes(model), model.config
    if takes == "pixel_values":
        shape = (batch_size, config.num_channels, size, size)
        return Inputs(named={takes: torch.randn(shape, generator=generator)})
    if takes != "input_ids":
        raise ValueError(f"{type(model).__name__} takes {takes}: name a function that makes it in 'inputs'")
    words = config.get_text_config().vocab_size
    tokens = torch.randint(0, words, (batch_size, size), generator=generator)
    named = {"input_ids": tokens}
    if config.is_encoder_decoder:
        named["decoder_input_ids"] = tokens
    return Inputs(named=named)


def _takes(model: Any) -> str:
    return model.main_input_name


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) else value


def _own(request: NetworkRequest) -> nn.Module:
    maker = _imported(request.network, request.module_folder, "network")
    model = maker(**request.network_kwargs)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"network {request.network} made a {type(model).__name__}: name a module class, "
            "or a function that returns a module"
        )
    return model


def _imported(name: str, folder: str | None, key: str) -> Any:
    """The object ``package.module:name``; ``key`` is the field that named it."""
    module_name, _, path = name.partition(":")
    if folder and str(Path(folder).resolve()) not in sys.path:
        sys.path.insert(0, str(Path(folder).resolve()))
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{key} {name}: {error}; set module_folder to where the module lies") from error
    if not callable(found):
        raise TypeError(f"{key} {name} is a {type(found).__name__}: name a class or a function")
    return found
