"""Names of networks and of ways to prune them, and what they give to the things on disk. Needs no torch."""

from __future__ import annotations

import importlib.util
import re

from perf_assets.workspace.validation import one_of

NETWORKS = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "lenet5",
    "mnasnet1_0",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "regnet_y_400mf",
    "resnet18",
    "resnet50",
    "resnet152",
    "resnext50_32x4d",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "swin_t",
    "vgg16",
    "vgg16_bn",
    "vit_b_16",
    "wide_resnet50_2",
)
"""Networks that the tests and the pruning matrix cover."""

_CLASSIFIERS = """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
    densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4
    efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s
    googlenet inception_v3 lenet5 maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2
    mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf
    regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf
    regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50
    resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0
    shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b
    swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32
    vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
"""
CLASSIFIERS = tuple(_CLASSIFIERS.split())
"""Every network that a plain name can build: torchvision's classifiers and LeNet-5."""

LIBRARIES = ("timm", "transformers")
"""Packages whose networks are named ``package:network``, where the package is installed."""

GLOBAL_METHODS = ("global_structured_magnitude", "global_structured_random", "random_weighted")
"""Whole channels removed wherever in the network they matter least, until the ratio of all parameters is gone."""

STRUCTURED_METHODS = ("structured_magnitude", "structured_random", *GLOBAL_METHODS)
"""Whole channels removed: tensors shrink."""

UNSTRUCTURED_METHODS = ("l1_unstructured", "random_unstructured", "ln_structured", "global_unstructured")
"""Weights set to zero by ``torch.nn.utils.prune``: tensors keep their shapes, and dense kernels their
latency."""

PRUNING_METHODS = STRUCTURED_METHODS + UNSTRUCTURED_METHODS

LARGEST_RATIO = 0.95
"""Largest share that may be asked to be pruned away."""

_OBJECT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def pruned_model_name(base: str, method: str, ratio: float, seed: int = 0, variant: str = "") -> str:
    """Name of a pruned model's directory: network, method, share asked to be pruned away, seed.

    ``variant`` tells networks of one name apart that were built with other arguments.
    """
    network = re.sub(r"[^A-Za-z0-9_.-]", "_", base)
    return f"{network}{f'-{variant}' if variant else ''}-{method}-{ratio:.2f}-seed{seed}"


def is_own(network: str) -> bool:
    """Is this name a person's own module, ``package.module:name``, whose code only a measuring process
    runs?"""
    return ":" in network and network.partition(":")[0] not in LIBRARIES


def check_object_name(key: str, value: str) -> None:
    """Refuse what cannot name an object in a module; nothing is imported.

    Raises:
        ValueError: it is not ``package.module:name``.
    """
    if not _OBJECT.fullmatch(value):
        raise ValueError(f"{key} {value!r} is not 'package.module:name': write the module, a colon, the name")


def check_network_name(network: str) -> None:
    """Refuse names that no network has. Own modules are not imported here; what a library has is asked only
    where it is installed.

    Raises:
        ValueError: there is no such network; the message lists the near ones.
    """
    library, _, name = network.partition(":")
    if not name and ":" not in network:
        one_of("network", network, CLASSIFIERS)
    elif library not in LIBRARIES:
        check_object_name("network", network)
    elif not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise ValueError(f"network {network!r}: name one of {library}'s networks after the colon")
    elif importlib.util.find_spec(library) is not None:
        one_of(f"network of {library}", name, _names_of(library, name))


def _names_of(library: str, name: str) -> tuple[str, ...]:
    if library == "timm":
        import timm

        return tuple(timm.list_models())
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    # A class is as good a name as a type of model: BertForSequenceClassification beside bert.
    return (name,) if hasattr(transformers, name) else tuple(CONFIG_MAPPING_NAMES)
