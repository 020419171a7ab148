"""Prune 20 networks at 6 ratios, verify each, and print what became of them.

    python -m benchmarks.pruning_matrix [--method structured_magnitude] [--out FOLDER]

Each cell is the share of parameters kept, or ``unsupported`` with its reason below the table.
"""

import argparse
import tempfile
from pathlib import Path

from perf_assets.measuring.networks import names, pruning

RATIOS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95)
MATRIX = (
    *(
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "googlenet",
        "inception_v3",
        "mnasnet1_0",
    ),
    *("mobilenet_v2", "mobilenet_v3_large", "regnet_y_400mf", "resnet18", "resnet50", "resnet152"),
    *(
        "resnext50_32x4d",
        "shufflenet_v2_x1_0",
        "squeezenet1_1",
        "vgg16",
        "vgg16_bn",
        "vit_b_16",
        "wide_resnet50_2",
    ),
)
"""The 20 networks; with the extra rows below, 23."""
EXTRA = (("swin_t", False), ("googlenet", True), ("inception_v3", True))  # True: with auxiliary heads


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--method", default="structured_magnitude", choices=names.PRUNING_METHODS)
    arguments.add_argument("--out", type=Path, help="keep the pruned models here")
    options = arguments.parse_args()
    ok, reasons = 0, []
    print(f"{'network':24}" + "".join(f"{ratio:>13}" for ratio in RATIOS), flush=True)
    for base, aux_heads in (*((name, False) for name in MATRIX), *EXTRA):
        label, cells = base + (" +aux" if aux_heads else ""), []
        for ratio in RATIOS:
            with tempfile.TemporaryDirectory() as scratch:
                folder = (
                    options.out or Path(scratch)
                ) / f"{base}-{options.method}-{ratio}{'-aux' * aux_heads}"
                spec = pruning.create(folder, base, options.method, ratio, aux_heads=aux_heads)
            if spec["status"] == "ok":
                ok += 1
                cells.append(f"{spec['params'] / spec['base_params']:.3f} {spec['duration_s']:5.1f}s")
            else:
                cells.append("unsupported")
                reasons.append(f"{label} at {ratio}: {spec['reason']}")
        print(f"{label:24}" + "".join(f"{cell:>13}" for cell in cells), flush=True)
    total = (len(MATRIX) + len(EXTRA)) * len(RATIOS)
    print(f"{ok} of {total} pruned and verified", *reasons, sep="\n")


if __name__ == "__main__":
    main()
