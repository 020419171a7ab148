"""Facts about the machine, without root; every one is optional and None where the machine does not tell."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def host_facts() -> dict[str, Any]:
    """Processors, memory, load, product and limits of this machine.

    The host's name is kept as it is; its machine id only as a hash, because the id itself is meant to be
    private.
    """
    cpu = _cpu_facts()
    memory = _meminfo()
    machine_id = _read("/etc/machine-id")
    return {
        "hostname": platform.node(),
        "machine_id_hash": hashlib.sha256(machine_id.encode()).hexdigest()[:16] if machine_id else None,
        "kernel": platform.release(),
        "os": _os_name(),
        "cpu_model": cpu.get("model name") or platform.processor() or None,
        "cpu_flags": sorted(
            flag for flag in cpu.get("flags", "").split() if flag.startswith(("avx", "amx", "fma", "sse4"))
        ),
        "cpus": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "cpu_governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cpu_max_mhz": _number(_read("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"), 1e-3),
        "caches_kib": _caches(),
        "memory_total_mib": _number(memory.get("MemTotal"), 1 / 1024),
        "memory_available_mib": _number(memory.get("MemAvailable"), 1 / 1024),
        "load_average": list(os.getloadavg()),
        "cgroup_cpu_max": _read("/sys/fs/cgroup/cpu.max"),
        "cgroup_memory_max": _read("/sys/fs/cgroup/memory.max"),
        "product": _read("/sys/class/dmi/id/product_name"),
        "board": _read("/sys/class/dmi/id/board_name"),
        "bios": _read("/sys/class/dmi/id/bios_version"),
    }


def engine_facts() -> dict[str, Any]:
    """What started this process: the engine and its job, as they are told in the environment."""
    slurm_job = os.environ.get("SLURM_JOB_ID")
    return {
        "name": os.environ.get("PERF_ASSETS_ENGINE") or ("slurm" if slurm_job else None),
        "job_id": slurm_job,
        "job_name": os.environ.get("PERF_ASSETS_JOB_NAME") or os.environ.get("SLURM_JOB_NAME"),
        "node": os.environ.get("SLURMD_NODENAME"),
    }


def environment() -> dict[str, Any]:
    """Versions of what takes part, and the git revision of this code (with ``-dirty`` where it was
    changed)."""
    import torch

    return {
        "python": platform.python_version(),
        "perf_assets": _version("perf-assets"),
        "git_revision": _git_revision(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "mkldnn": torch.backends.mkldnn.is_available(),
        "torch_threads": torch.get_num_threads(),
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(("OMP_", "MKL_", "ONEDNN_", "CUDA_", "CUDNN_", "PYTORCH_", "SLURM_JOB"))
        },
    } | versions("torch", "torchvision", "torch-pruning", "numpy", "nvidia-ml-py", "onnxruntime")


def versions(*packages: str) -> dict[str, str | None]:
    """Installed versions, by the packages' names with underscores; None where one is not installed."""
    return {name.replace("-", "_"): _version(name) for name in packages}


def rss_mib() -> float | None:
    """Resident memory of this process."""
    return _number(_status().get("VmRSS"), 1 / 1024)


def reset_peak_rss() -> bool:
    """Start this process's peak resident memory afresh; false where the kernel refuses."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def peak_rss_mib() -> float | None:
    """Peak resident memory of this process since the last reset."""
    return _number(_status().get("VmHWM"), 1 / 1024)


def system_used_mib() -> float | None:
    """Memory of the machine that is not available to a new program."""
    memory = _meminfo()
    if "MemTotal" not in memory or "MemAvailable" not in memory:
        return None
    return _number(memory["MemTotal"], 1 / 1024) - _number(memory["MemAvailable"], 1 / 1024)


def busy_ticks() -> tuple[int, int] | None:
    """Ticks of processor time that the machine has spent busy, and stolen from it, since it started."""
    line = (_read("/proc/stat") or "").partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, line[1:9])
    return user + nice + system + irq + softirq, steal


def _status() -> dict[str, str]:
    return _fields(_read("/proc/self/status"))


def _meminfo() -> dict[str, str]:
    return _fields(_read("/proc/meminfo"))


def _cpu_facts() -> dict[str, str]:
    return _fields((_read("/proc/cpuinfo") or "").partition("\n\n")[0])


def _fields(text: str | None) -> dict[str, str]:
    pairs = (line.partition(":") for line in (text or "").splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _caches() -> dict[str, float]:
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(index / name) for name in ("level", "type", "size"))
        if level and kind and size and size.endswith("K"):
            caches[f"L{level}{'' if kind == 'Unified' else kind[0].lower()}"] = float(size[:-1])
    return caches


def _os_name() -> str | None:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    return None


def _git_revision() -> str | None:
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        git(
            "ls-files", "--error-unmatch", __file__
        )  # installed inside somebody else's repository, its revision is not ours
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    return None


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text().strip() or None
    except OSError:
        return None


def _number(text: str | None, factor: float) -> float | None:
    try:
        return float(text.split()[0]) * factor if text else None
    except ValueError:
        return None
