"""A network that only this machine has, and a sweep of it: what goes to boards takes its module along."""

from pathlib import Path

_SWEEP = """
name = "board"
networks = ["board_net:net"]
vary = "batch_size"
smallest = 1
largest = {largest}
[options]
module_folder = "modules"
input_size = 8
passes = ["latency"]
protocol = {{ warmup_steps = 1, measured_steps = 3 }}
"""
_NET = "from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())\n"


def write_own_network(folder: Path, sweep_file: Path, largest: int) -> Path:
    """Write the sweep, and the module below ``folder``; returns the module."""
    sweep_file.write_text(_SWEEP.format(largest=largest))
    (folder / "modules").mkdir()
    module = folder / "modules" / "board_net.py"
    module.write_text(_NET)
    return module
