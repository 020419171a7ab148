"""What the profiler itself costs, and how much of a step its layers explain.

    python -m benchmarks.profiler_overhead [network ...]

Interleaved in one process: a bare loop over ``time.perf_counter`` against the protocol's blocks, as a median
ratio with its interval; beside them ``torch.utils.benchmark``. Then the sum of the layers' times over the
step's.
"""

import statistics
import sys
import time

import torch
import torch.utils.benchmark

from perf_assets.analysis.comparisons.paired import judge_pairs
from perf_assets.measuring.networks import zoo
from perf_assets.measuring.profiling.layers import time_layers
from perf_assets.measuring.profiling.timers import HostTimer

ROUNDS = 150


def main() -> None:
    names = sys.argv[1:] or ["resnet18", "vgg16", "densenet121", "mobilenet_v2"]
    print(
        f"{'network':16}{'bare ms':>10}{'ours / bare':>14}{'99.7 % interval':>20}{'torch / bare':>14}{'layers':>9}"
    )
    for name in names:
        model = zoo.build(name)
        images = torch.randn(1, 3, 224, 224)

        def step(model: torch.nn.Module = model, images: torch.Tensor = images) -> None:
            with torch.inference_mode():
                model(images)

        timer = HostTimer()
        reference = torch.utils.benchmark.Timer(
            "step()", globals={"step": step}, num_threads=torch.get_num_threads()
        )
        bare_ms, ours_ms, torch_ms, shares = [], [], [], []
        for _ in range(10):
            step()
        for index in range(ROUNDS):
            for which in ("bare", "ours") if index % 2 else ("ours", "bare"):
                if which == "bare":
                    start_s = time.perf_counter()
                    step()
                    bare_ms.append((time.perf_counter() - start_s) * 1e3)
                else:
                    ours_ms.append(timer.time_block(step, 1).latency_ms)
            if index % 5 == 0:
                torch_ms.append(reference.timeit(1).mean * 1e3 / bare_ms[-1])
                layers_ms = sum(row["median_ms"] for row in time_layers(model, step, 1))
                shares.append(layers_ms / bare_ms[-1])
        found = judge_pairs(bare_ms, ours_ms)
        print(
            f"{name:16}{statistics.median(bare_ms):10.3f}{found.ratio:14.4f}{f'{found.low:.4f}-{found.high:.4f}':>20}"
            f"{statistics.median(torch_ms):14.4f}{statistics.median(shares):9.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
