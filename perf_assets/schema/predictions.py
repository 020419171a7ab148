"""Predictions and how well they do. Columns with unit and meaning; no code."""

from perf_assets.schema.columns import FLAG, Column, count, number, table, text

PREDICTOR_SCORES = table(
    "predictor_scores",
    "How far a method is off on one split of the measured runs: held-out groups, and labelled leaky splits "
    "beside them.",
    text(
        "target",
        "latency, memory (used), memory_allocated, memory_reserved, energy, oom, layer_latency; energy_at_limit and "
        "time_at_limit: of a run, from one measured point, under another power limit",
    ),
    text("device", "the device, such as tx2; of several devices in one fit, the held-out one"),
    text("stage", "training or inference"),
    text(
        "method",
        "perf_assets, or a baseline: perf4sight, ai3, nnls, roofline, boosted_roofline, one_factor, "
        "tdp_times_time, no_change, constant",
    ),
    text(
        "split",
        "leave_one_network_out, leave_one_family_out (of many networks, whole families), leave_one_device_out, "
        "unseen_pruning_level, config, chosen (networks that a fit was told to hold out); transfer_to_network, "
        "transfer_to_family and transfer_to_device (what was held out, after some of its points were measured); "
        "or random_leaky, whose test rows have near twins among the training rows",
    ),
    text(
        "group",
        "the held-out group; 'all' for all of them together; of transfers k=0, k=1, ... measured points, "
        "over 20 random choices of them",
    ),
    count("n", "held-out rows"),
    number(
        "mape", "%", "mean absolute error relative to the measured value; of oom, the share judged wrongly"
    ),
    number("median_ape", "%", "median of that error; NULL for oom"),
    number("p95_ape", "%", "95th percentile of that error; NULL for oom"),
    number("coverage", "%", "share of the rows inside their 90 % interval; NULL where a method has none"),
    number(
        "abstained",
        "%",
        "share of the rows outside what the method knows; they count in mape and coverage all the same",
    ),
    number("mape_answered", "%", "mape of the rows that the method answered; NULL where it answered none"),
    number("coverage_answered", "%", "coverage of the rows that the method answered"),
    text("snapshot", "hash of the training rows: 16 hex digits"),
)

PREDICTIONS = table(
    "predictions",
    "A predictor's answer for one configuration.",
    text("target", "latency, memory, memory_allocated, memory_reserved, energy or oom"),
    text("model", "network"),
    number("pruning_ratio", "", "share pruned away, 0-1"),
    text("device", "device"),
    text("stage", "training or inference"),
    text("algorithm", "convolution algorithm, where the runs have one"),
    count("batch_size", "samples per step"),
    count("input_size", "input height = width", "px"),
    number("predicted", "", "the prediction, in unit"),
    number("lower", "", "lower end of the 90 % interval, in unit"),
    number("upper", "", "upper end of the 90 % interval, in unit"),
    text("unit", "ms, MiB, J; probability for oom"),
    Column(
        "abstain", FLAG, "", "true where the configuration lies outside what the predictor has learnt from"
    ),
    text("reason", "why it abstains"),
    Column("was_measured", FLAG, "", "true where a measurement of this was among the training rows"),
    text("snapshot", "hash of the training rows: 16 hex digits"),
)
