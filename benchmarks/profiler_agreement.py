"""The profiler's latency over that of torch.utils.benchmark, on the processor.

    python -m benchmarks.profiler_agreement [network ...]

In one process, both time the same step; in each of seven repeats one after the other, the first one in turn. Printed is
the median of the repeats' ratios, their extremes, and what else used the processors: above a few percent, wait for a
quiet machine. The goal is 0.98 to 1.02.
"""

import os
import statistics
import sys
import time
import warnings

import torch
from torch.utils.benchmark import Timer

from perf_assets.measuring.devices import host
from perf_assets.measuring.networks import loading
from perf_assets.measuring.profiling import arithmetic, passes, protocol, run
from perf_assets.measuring.profiling.settings import Settings
from perf_assets.measuring.profiling.spec import ProfileSpec
from perf_assets.measuring.profiling.timers import HostTimer

NETWORKS = ("lenet5", "resnet18", "mobilenet_v2", "squeezenet1_1", "alexnet")
BATCH_SIZES = {"inference": 1, "training": 4}
REPEATS = 7
WINDOW_S = 1.5
PROTOCOL = Settings(min_time_s=WINDOW_S, max_time_s=WINDOW_S, warmup_max_s=1.0, max_blocks=100_000)
CPU = torch.device("cpu")


def ratios_of(spec: ProfileSpec) -> list[tuple[float, float]]:
    """(ours, theirs) of each repeat, in milliseconds."""
    with arithmetic.settings(spec, CPU):
        model, _ = run.load_network(spec)
        inputs = loading.make_inputs(spec, model, spec.batch_size, spec.input_size)
        model, inputs = arithmetic.placed(spec, model, inputs, CPU)
        step, _ = passes.steps(spec, model, inputs, CPU)
        timer = HostTimer()
        reference = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
        step()

        def ours() -> float:
            return protocol.measure(step, timer, PROTOCOL).summary["latency_ms"]

        def theirs() -> float:
            return reference.blocked_autorange(min_run_time=WINDOW_S).median * 1e3

        pairs = []
        for repeat in range(REPEATS):
            if repeat % 2:
                theirs_ms, ours_ms = theirs(), ours()
            else:
                ours_ms, theirs_ms = ours(), theirs()
            pairs.append((ours_ms, theirs_ms))
    return pairs


def others_share(since: tuple[float, float, int]) -> float:
    """Share of the machine's processor time that other processes used since a moment of :func:`moment`."""
    now_s, own_s, ticks = moment()
    used_s = (ticks - since[2]) / 100 - (own_s - since[1])
    return max(0.0, used_s / (now_s - since[0]) / (os.cpu_count() or 1))


def moment() -> tuple[float, float, int]:
    """Now, this process's processor time, and the machine's busy ticks."""
    return time.monotonic(), time.process_time(), sum(host.busy_ticks() or (0, 0))


def main() -> None:
    # torch's own warning about few runs: seven repeats are our answer to it.
    warnings.simplefilter("ignore")
    print(
        f"{'network':16}{'stage':12}{'batch':>6}{'ours ms':>11}{'theirs ms':>11}{'ratio':>9}{'extremes':>18}{'others':>8}"
    )
    for name in sys.argv[1:] or NETWORKS:
        for stage, batch_size in BATCH_SIZES.items():
            begun = moment()
            pairs = ratios_of(ProfileSpec(network=name, stage=stage, batch_size=batch_size))
            ratios = [ours / theirs for ours, theirs in pairs]
            ours_ms, theirs_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(
                f"{name:16}{stage:12}{batch_size:6}{ours_ms:11.3f}{theirs_ms:11.3f}{statistics.median(ratios):9.4f}"
                f"{f'{min(ratios):.3f} - {max(ratios):.3f}':>18}{others_share(begun):8.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
