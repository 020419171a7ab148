"""Simulations written by hand after real measurements. They share no equation with the random studies and only
judge the choice made on those."""

from __future__ import annotations

import numpy as np

from benchmarks.causal_data.study import Study, Truth, skewed_choice


def _levels(values: np.ndarray, table: dict) -> np.ndarray:
    return np.array([table[value] for value in values], dtype=float)


def _noise(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    return np.exp(rng.normal(0, spread, n))


def inference_sweep(seed: int, n: int) -> Study:
    """Pruned networks on three GPUs: a roofline's max(), launch overhead, memory that runs out."""
    rng = np.random.default_rng([5501, seed])
    t = Truth()
    device = t.add("configuration", "device", skewed_choice(rng, ["edge", "desktop", "server"], n))
    model = t.add(
        "configuration", "model", skewed_choice(rng, ["mobile", "res18", "res50", "vgg", "vit"], n, device)
    )
    batch = t.add("configuration", "batch", skewed_choice(rng, [1, 4, 16, 64, 128], n, device).astype(float))
    ratio = t.add("configuration", "ratio", rng.choice([0.0, 0.2, 0.4, 0.6, 0.8], n))
    t.add("configuration", "workers", rng.choice([1.0, 2.0, 4.0, 8.0], n))
    precision = t.add("configuration", "precision", skewed_choice(rng, ["fp32", "fp16"], n))
    macs = (
        _levels(model, {"mobile": 0.3, "res18": 1.8, "res50": 4.1, "vgg": 15.5, "vit": 17.6})
        * (1 - ratio) ** 1.5
    )
    macs = t.add("resources", "macs_g", macs * _noise(rng, n, 0.05), ("model", "ratio"))
    width = np.where(precision == "fp16", 2.0, 4.0)
    weights = _levels(model, {"mobile": 3.5, "res18": 11.7, "res50": 25.6, "vgg": 138, "vit": 86}) * (
        1 - ratio
    )
    weights = t.add(
        "resources", "weights_mib", weights * width * _noise(rng, n, 0.05), ("model", "ratio", "precision")
    )
    activation = _levels(model, {"mobile": 7, "res18": 9, "res50": 28, "vgg": 36, "vit": 22}) * batch * width
    activation = t.add(
        "resources", "activations_mib", activation * _noise(rng, n, 0.1), ("model", "batch", "precision")
    )
    peak = _levels(device, {"edge": 1.0, "desktop": 12.0, "server": 60.0}) * np.where(
        precision == "fp16", 2.0, 1.0
    )
    band = _levels(device, {"edge": 60, "desktop": 450, "server": 1800})
    compute_ms = 2 * macs * batch / (peak * batch / (batch + 8))
    moved_ms = 2.2 * activation / band
    latency = (np.maximum(compute_ms, moved_ms) + 0.4) * _noise(rng, n, 0.08)
    latency = t.add(
        "performance",
        "latency_ms",
        latency,
        ("macs_g", "activations_mib", "batch", "device", "precision"),
    )
    idle = _levels(device, {"edge": 5, "desktop": 40, "server": 80})
    full = _levels(device, {"edge": 15, "desktop": 250, "server": 500})
    load = latency / (latency + 4.0)
    power = t.add(
        "performance",
        "power_w",
        (idle + (full - idle) * load) * _noise(rng, n, 0.06),
        ("device", "latency_ms"),
    )
    t.add("performance", "energy_j", power * latency / 1e3 * _noise(rng, n, 0.05), ("power_w", "latency_ms"))
    base = _levels(model, {"mobile": 71, "res18": 69, "res50": 76, "vgg": 72, "vit": 81})
    accuracy = base - 60 * np.maximum(ratio - 0.3, 0) ** 1.3 + rng.normal(0, 2.0, n)
    t.add("outcome", "accuracy_pct", accuracy, ("model", "ratio"))
    capacity = _levels(device, {"edge": 900, "desktop": 7000, "server": 20000})
    oom = activation * 1.3 + weights > capacity * _noise(rng, n, 0.2)
    t.add("outcome", "ran_out", oom.astype(float), ("activations_mib", "device"))
    return t.study("inference sweep")


def training_cluster(seed: int, n: int) -> Study:
    """Data-parallel training: a step waits for the slower of loading and computing, then for the all-reduce."""
    rng = np.random.default_rng([5502, seed])
    t = Truth()
    host = t.add("configuration", "host", skewed_choice(rng, ["a", "b", "c", "d"], n))
    ranks = t.add("configuration", "ranks", skewed_choice(rng, [1, 2, 4, 8], n, host).astype(float))
    model = t.add("configuration", "model", skewed_choice(rng, ["unet_s", "unet_l", "res", "swin"], n))
    batch = t.add("configuration", "batch", skewed_choice(rng, [8, 16, 32, 64], n, model).astype(float))
    size = t.add("configuration", "size", skewed_choice(rng, [64, 128, 256], n).astype(float))
    workers = t.add("configuration", "workers", rng.choice([1.0, 2.0, 4.0, 8.0], n))
    cores = t.add(
        "resources",
        "cpu_load",
        workers * ranks / (workers * ranks + 10) * _noise(rng, n, 0.15),
        ("workers", "ranks"),
    )
    memory = _levels(model, {"unet_s": 2, "unet_l": 9, "res": 6, "swin": 13}) * batch * (size / 64) ** 1.6
    memory = t.add(
        "resources", "memory_mib", (memory + 500) * _noise(rng, n, 0.08), ("model", "batch", "size")
    )
    work = t.add(
        "resources",
        "flops_g",
        memory**0.9
        * _levels(model, {"unet_s": 1, "unet_l": 2, "res": 0.5, "swin": 4})
        * _noise(rng, n, 0.15),
        ("memory_mib", "model"),
    )
    load_s = batch * (size / 64) ** 2 / np.minimum(workers, 4) / 150 * (1 + cores)
    load_s = t.add(
        "performance", "load_s", load_s * _noise(rng, n, 0.15), ("batch", "size", "workers", "cpu_load")
    )
    compute_s = work / _levels(host, {"a": 4e3, "b": 9e3, "c": 1.5e4, "d": 2.5e3})
    step_s = (np.maximum(load_s, compute_s) + 0.03 * np.log2(ranks)) * _noise(rng, n, 0.1)
    step_s = t.add("performance", "step_s", step_s, ("load_s", "flops_g", "host", "ranks"))
    rate = t.add(
        "performance",
        "samples_per_s",
        ranks * batch / step_s * _noise(rng, n, 0.05),
        ("ranks", "batch", "step_s"),
    )
    power = _levels(host, {"a": 900, "b": 1400, "c": 2600, "d": 600}) * (0.3 + 0.7 * np.tanh(rate / 400))
    t.add("performance", "power_w", power * _noise(rng, n, 0.07), ("host", "samples_per_s"))
    dice = _levels(model, {"unet_s": 80, "unet_l": 86, "res": 78, "swin": 88}) - 3 * np.maximum(
        np.log2(ranks * batch / 64), 0
    )
    t.add("outcome", "dice_pct", dice + rng.normal(0, 2, n), ("model", "ranks", "batch"))
    t.add("outcome", "ran_out", (memory > 4000 * _noise(rng, n, 0.3)).astype(float), ("memory_mib",))
    return t.study("training cluster")


def service_load(seed: int, n: int) -> Study:
    """A server under load: utilisation saturates, the queue grows past the knee, the tail is a max()."""
    rng = np.random.default_rng([5503, seed])
    t = Truth()
    device = t.add("configuration", "device", skewed_choice(rng, ["t4", "a10", "l40"], n))
    model = t.add(
        "configuration", "model", skewed_choice(rng, ["bert", "res50", "yolo", "whisper"], n, device)
    )
    instances = t.add("configuration", "instances", skewed_choice(rng, [1, 2, 3, 4], n, device).astype(float))
    clients = t.add(
        "configuration", "clients", skewed_choice(rng, [1, 2, 4, 8, 16, 32], n, instances).astype(float)
    )
    batching = t.add("configuration", "batching", skewed_choice(rng, ["off", "on"], n))
    t.add("configuration", "payload", skewed_choice(rng, ["json", "binary"], n))
    memory = (
        _levels(model, {"bert": 1.4, "res50": 0.6, "yolo": 0.9, "whisper": 3.2}) * instances + 0.5
    ) * _noise(rng, n, 0.08)
    memory = t.add("resources", "memory_gib", memory, ("model", "instances"))
    compute = _levels(model, {"bert": 9, "res50": 4, "yolo": 7, "whisper": 45}) / _levels(
        device, {"t4": 1, "a10": 2.1, "l40": 4}
    )
    compute = compute * np.where(batching == "on", 1.4, 1.0) * _noise(rng, n, 0.12)
    compute = t.add("performance", "compute_ms", compute, ("model", "device", "batching"))
    busy = np.minimum(clients / instances, 1.0) * 0.9 * _noise(rng, n, 0.08)
    busy = t.add("resources", "busy_share", busy, ("clients", "instances"))
    waiting = np.maximum(clients - instances, 0) * compute / instances + 0.3
    waiting = t.add(
        "performance", "queue_ms", waiting * _noise(rng, n, 0.2), ("clients", "instances", "compute_ms")
    )
    tail = np.maximum(2.0 * compute, 1.3 * (waiting + compute)) * _noise(rng, n, 0.1)
    tail = t.add("performance", "p99_ms", tail, ("queue_ms", "compute_ms"))
    rate = clients / (waiting + compute) * 1e3 * _noise(rng, n, 0.08)
    t.add("performance", "rate_per_s", rate, ("clients", "queue_ms", "compute_ms"))
    watts = (
        _levels(device, {"t4": 30, "a10": 60, "l40": 90})
        + _levels(device, {"t4": 40, "a10": 90, "l40": 210}) * busy**0.6
    )
    t.add("performance", "power_w", watts * _noise(rng, n, 0.06), ("device", "busy_share"))
    t.add("outcome", "slow", (tail > 60 * _noise(rng, n, 0.3)).astype(float), ("p99_ms",))
    t.add(
        "outcome",
        "ran_out",
        (memory > _levels(device, {"t4": 6, "a10": 9, "l40": 14}) * _noise(rng, n, 0.25)).astype(float),
        ("memory_gib", "device"),
    )
    return t.study("service load")


def language_serving(seed: int, n: int) -> Study:
    """A language model behind a batching server: prefill bound by compute, decoding by bandwidth, a cache that fills."""
    rng = np.random.default_rng([5505, seed])
    t = Truth()
    card = t.add("configuration", "card", skewed_choice(rng, ["a10", "a100", "h100"], n))
    model = t.add("configuration", "model", skewed_choice(rng, ["1b", "7b", "13b"], n, card))
    prompt = t.add(
        "configuration", "prompt", skewed_choice(rng, [128, 512, 2048, 8192], n, model).astype(float)
    )
    t.add("configuration", "tokenizer", skewed_choice(rng, ["fast", "slow"], n))
    users = t.add("configuration", "users", skewed_choice(rng, [1, 4, 16, 64], n, card).astype(float))
    bits = t.add("configuration", "bits", skewed_choice(rng, [4, 8, 16], n, model).astype(float))
    billions = _levels(model, {"1b": 1.1, "7b": 6.9, "13b": 13.0})
    weights = t.add(
        "resources", "weights_gib", (billions * bits / 8 + 0.3) * _noise(rng, n, 0.04), ("model", "bits")
    )
    cache = users * prompt * _levels(model, {"1b": 0.03, "7b": 0.5, "13b": 0.8}) / 1024
    cache = t.add("resources", "cache_gib", cache * _noise(rng, n, 0.12), ("users", "prompt", "model"))
    speed = _levels(card, {"a10": 70, "a100": 250, "h100": 700})
    first = billions * prompt / speed / 20 * np.maximum(1.0, users / 16) + 0.02
    first = t.add(
        "performance", "first_token_s", first * _noise(rng, n, 0.12), ("model", "prompt", "card", "users")
    )
    band = _levels(card, {"a10": 500, "a100": 1500, "h100": 2800})
    gap = (weights + 0.6 * cache) / band * 1000 + 3.0
    gap = t.add("performance", "gap_ms", gap * _noise(rng, n, 0.08), ("weights_gib", "cache_gib", "card"))
    rate = users / gap * 1000 * _noise(rng, n, 0.06)
    rate = t.add("performance", "tokens_per_s", rate, ("users", "gap_ms"))
    watts = _levels(card, {"a10": 150, "a100": 300, "h100": 500}) * (0.35 + 0.65 * np.tanh(rate / 600))
    t.add("performance", "power_w", watts * _noise(rng, n, 0.06), ("card", "tokens_per_s"))
    t.add("outcome", "impatient", (first > 1.0 * _noise(rng, n, 0.4)).astype(float), ("first_token_s",))
    room = _levels(card, {"a10": 20, "a100": 38, "h100": 75})
    t.add(
        "outcome",
        "ran_out",
        (weights + cache > room * _noise(rng, n, 0.2)).astype(float),
        ("weights_gib", "cache_gib", "card"),
    )
    return t.study("language serving")


def edge_training(seed: int, n: int) -> Study:
    """Training on small boards: unified memory, throttling above a temperature, a slow card for storage."""
    rng = np.random.default_rng([5506, seed])
    t = Truth()
    board = t.add("configuration", "board", skewed_choice(rng, ["nano", "tx2", "orin"], n))
    net = t.add("configuration", "net", skewed_choice(rng, ["mnas", "squeeze", "res18", "res50"], n))
    pruned = t.add("configuration", "pruned", skewed_choice(rng, [0, 30, 50, 70, 90], n, net).astype(float))
    batch = t.add("configuration", "batch", skewed_choice(rng, [2, 8, 32, 128], n, board).astype(float))
    cooling = t.add("configuration", "cooling", skewed_choice(rng, ["fan", "none"], n, board))
    t.add("configuration", "seed_group", skewed_choice(rng, ["a", "b", "c"], n))
    kept = 1 - pruned / 100
    macs = (
        _levels(net, {"mnas": 0.33, "squeeze": 0.35, "res18": 1.8, "res50": 4.1})
        * kept**1.4
        * _noise(rng, n, 0.06)
    )
    macs = t.add("resources", "macs_g", macs, ("net", "pruned"))
    memory = _levels(net, {"mnas": 22, "squeeze": 14, "res18": 12, "res50": 60}) * batch * kept**0.7 + 300
    memory = t.add("resources", "memory_mib", memory * _noise(rng, n, 0.07), ("net", "batch", "pruned"))
    compute = 6 * macs * batch / _levels(board, {"nano": 0.4, "tx2": 0.9, "orin": 3.5})
    step = (compute + 0.02 * memory / _levels(board, {"nano": 1, "tx2": 2, "orin": 6}) + 15) * _noise(
        rng, n, 0.1
    )
    step = t.add("performance", "step_ms", step, ("macs_g", "batch", "board", "memory_mib"))
    watts = _levels(board, {"nano": 6, "tx2": 11, "orin": 28}) * (0.4 + 0.6 * step / (step + 60))
    watts = t.add("performance", "power_w", watts * _noise(rng, n, 0.06), ("board", "step_ms"))
    heat = 35 + watts * np.where(cooling == "fan", 0.9, 2.2) + rng.normal(0, 2.5, n)
    heat = t.add("performance", "heat_c", heat, ("power_w", "cooling"))
    t.add("outcome", "throttled", (heat > 60 + rng.normal(0, 4, n)).astype(float), ("heat_c",))
    accuracy = _levels(net, {"mnas": 73, "squeeze": 58, "res18": 69, "res50": 76}) - 25 * (pruned / 100) ** 3
    t.add("outcome", "accuracy_pct", accuracy + rng.normal(0, 1.5, n), ("net", "pruned"))
    return t.study("edge training")


SIMULATIONS = (inference_sweep, training_cluster, service_load, language_serving, edge_training)
