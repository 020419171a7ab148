"""Does a pruned network run faster than its base? Paired and interleaved on the processor.

    python -m benchmarks.pruned_speed [network ...]

Structured pruning at 50 % should; zeroing half of the weights should not.
"""

import sys

import torch

from perf_assets.analysis.comparisons.paired import compare
from perf_assets.measuring.networks import pruning_methods, tracing, zoo
from perf_assets.measuring.profiling.timers import HostTimer


def inference(model: torch.nn.Module, images: torch.Tensor):
    def step() -> None:
        with torch.inference_mode():
            model(images)

    return step


def main() -> None:
    print(
        f"{'network':12}{'method':24}{'ratio of latency':>18}{'99.7 % interval':>20}  {'verdict':10}"
        f"{'weights MiB':>14}{'estimated peak MiB':>20}"
    )
    images = torch.randn(2, 3, 224, 224)
    for name in sys.argv[1:] or ["vgg16", "resnet50"]:
        base = zoo.build(name)
        for method in ("structured_magnitude", "random_unstructured"):
            pruned = zoo.build(name)
            pruning_methods.prune_model(pruned, method, 0.5)
            found = compare(inference(base, images), inference(pruned, images), HostTimer(), pairs=40)
            weights, peaks = [], []
            for model in (base, pruned):
                weights.append(sum(p.numel() for p in model.parameters()) * 4 / 2**20)
                peaks.append(tracing.estimate_peak_memory(model, 2, stage="inference")["peak_mib"])
            print(
                f"{name:12}{method:24}{found.ratio:18.3f}{f'{found.low:.3f}-{found.high:.3f}':>20}  "
                f"{found.verdict:10}"
                f"{f'{weights[0]:.0f} → {weights[1]:.0f}':>14}{f'{peaks[0]:.0f} → {peaks[1]:.0f}':>20}",
                flush=True,
            )


if __name__ == "__main__":
    main()
