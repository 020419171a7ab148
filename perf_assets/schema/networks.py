"""Networks: their layers, pruned variants and features. Columns with unit and meaning; no code."""

from perf_assets.schema.columns import FILE_ID, METRICS, Column, count, number, table, text

CLEANED_LAYER_TABLES = table(
    "cleaned_layer_tables",
    "One layer of a network whose shapes alone are known (no measurement).",
    FILE_ID,
    text("network", "the network"),
    number("pruning_level_pct", "%", "share of parameters pruned away"),
    count("layer_index", "order in the network, from 0"),
    text("layer", "name in the network"),
    text("kind", "conv, batchnorm, relu, maxpool, avgpool, linear, add, concat or other"),
    count("in_channels", "input channels (features of a linear layer)"),
    count("out_channels", "output channels (features of a linear layer)"),
    count("kernel_size", "kernel height = width", "px"),
    count("stride", "stride", "px"),
    count("padding", "padding", "px"),
    count("groups", "groups of a convolution"),
    count("in_hw", "input height = width", "px"),
    count("out_hw", "output height = width", "px"),
    count("params", "parameters"),
    count("macs", "multiply-accumulates for one image"),
)

PRUNED_MODELS = table(
    "pruned_models",
    "A network pruned by one method at one ratio, and what came of it.",
    text("name", "name of its directory"),
    text("model", "network"),
    text("pruning_method", "how it was pruned"),
    number("pruning_ratio", "", "share asked to be pruned away, 0-1"),
    count("seed", "of random weights and random importance"),
    text("status", "ok (verified) or unsupported"),
    text("reason", "why it is unsupported"),
    text("architecture_key", "hash of the realised architecture"),
    count("input_size", "input height = width it was verified with", "px"),
    count("params", "parameters left"),
    number("params_kept_pct", "%", "parameters left of the unpruned network's"),
    count("macs", "multiply-accumulates for one image"),
    count("weight_bytes", "size of the weights", "B"),
    number("sparsity_pct", "%", "share of weights that are zero"),
    text("folder", "its directory: spec.json and a state dict"),
    key=("name",),
)

NETWORK_FEATURES = table(
    "network_features",
    "A network's analytic features for one image, from shapes alone.",
    text("network", "network"),
    text("pruned_model", "the pruned model, NULL for the network itself"),
    text("architecture_key", "hash of the realised architecture"),
    text("stage", "training or inference"),
    count("input_size", "input height = width", "px"),
    count("layers", "operations of a forward pass"),
    count("params", "parameters"),
    count("macs", "multiply-accumulates"),
    count("activation_bytes", "all layers' outputs", "B"),
    count("gradient_bytes", "gradients of parameters and activations", "B"),
    count("estimated_batch_size", "batch of the memory estimate"),
    number("estimated_peak_mib", "MiB", "estimated peak memory of one step at that batch"),
    Column("features", METRICS, "", "every feature by name"),
    key=("network", "pruned_model", "stage", "input_size"),
)
