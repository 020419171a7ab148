"""Is the profiler right on this GPU? Its numbers beside references that were made another way, in one table.

    make test-gpu        or   python -m benchmarks.gpu_checks [--network vgg11] [--limit-s 480] [--device cuda]

Every algorithm against a CUDA graph of the same step, kernel names, ``guess`` against torch.utils.benchmark and
triton's do_bench, sums of layers, energy by counter and by trapezoid, memory against torch's own peak. Verdicts are
``ok``, ``flagged`` (it is off, and the run says so itself), ``skipped`` with the reason, and ``WRONG``. Ends with exit
code 1 when something is wrong, and with 2 and one line where there is no GPU. ``--device cpu`` runs what of it a
processor can do.
"""

import argparse
import contextlib
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from perf_assets.measuring.devices.nvml import NvmlReader
from perf_assets.measuring.devices.power import PowerUnavailableError
from perf_assets.measuring.networks import loading
from perf_assets.measuring.networks.inputs import Inputs
from perf_assets.measuring.profiling import algorithms, arithmetic, cudnn, kernels, passes, protocol, run
from perf_assets.measuring.profiling.settings import Settings
from perf_assets.measuring.profiling.spec import ProfileSpec
from perf_assets.measuring.profiling.timers import CudaTimer, HostTimer
from perf_assets.measuring.profiling.torch_device import is_out_of_memory, torch_device, uuid_of
from perf_assets.measuring.recording.log import read_log
from perf_assets.schema.vocabularies import CUDNN_ALGORITHMS

BATCH_SIZES = (1, 64)
GRAPH_TOLERANCE = 0.05
REFERENCE_TOLERANCE = 0.03
ENERGY_TOLERANCE = 0.03
MEMORY_TOLERANCE_MIB = 1.0
PROTOCOL = Settings(max_time_s=2.0, warmup_max_s=1.5, min_time_s=0.3)


@dataclass
class Table:
    """Rows as they come, and what became of them."""

    limit_s: float
    begun_s: float = field(default_factory=time.monotonic)
    verdicts: list[str] = field(default_factory=list)

    def row(self, check: str, case: str, value: str, verdict: str) -> None:
        """Print one check's outcome."""
        self.verdicts.append(verdict.partition(":")[0])
        print(f"{check:22}{case:36}{value:>34}  {verdict}", flush=True)

    def has_time(self, check: str, case: str) -> bool:
        """Is there time for another case? Where there is none, the row says so."""
        if time.monotonic() - self.begun_s < self.limit_s:
            return True
        self.row(check, case, "", f"skipped: the limit of {self.limit_s:g} s is reached")
        return False


def within(value: float, reference: float, tolerance: float) -> bool:
    """Is a value within a share of its reference?"""
    return abs(value / reference - 1) <= tolerance


def timer_of(device: torch.device) -> HostTimer | CudaTimer:
    """The profiler's own timer of a device."""
    if device.type == "cpu":
        return HostTimer()
    reader = None
    with contextlib.suppress(PowerUnavailableError):
        reader = NvmlReader(uuid_of(device) or "")
    return CudaTimer(device, reader)


@contextlib.contextmanager
def prepared(
    spec: ProfileSpec, device: torch.device
) -> Iterator[tuple[Callable[[], object], nn.Module, Inputs]]:
    """The step that the profiler would time, built once more from the same parts."""
    with arithmetic.settings(spec, device):
        model, _ = run.load_network(spec)
        inputs = loading.make_inputs(spec, model, spec.batch_size, spec.input_size, seed=spec.seed)
        model, inputs = arithmetic.placed(spec, model, inputs, device)
        algorithms.force(model, spec.algorithm, inputs, precision=spec.precision)
        step, _ = passes.steps(spec, model, inputs, device)
        yield step, model, inputs


def _allocated_mib(device: torch.device) -> float:
    """Memory of this process on the device, when what nobody refers to any more is gone."""
    _forget(device)
    return torch.cuda.memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def graph_ms(step: Callable[[], object], device: torch.device) -> float:
    """Device time of a step: captured as a CUDA graph, whose replay the host cannot slow down."""
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(3):  # what is made with the first call must not be captured
            step()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    measured = protocol.measure(graph.replay, timer_of(device), PROTOCOL)
    return measured.summary["latency_ms"]


def profiled(spec: ProfileSpec) -> dict[str, Any]:
    """The log of a run of the profiler, as people start it."""
    with tempfile.TemporaryDirectory() as folder:
        path, _ = run.profile(spec, Path(folder))
        return read_log(path)


def check_algorithms(table: Table, network: str, device: torch.device) -> None:
    """Each algorithm at each batch size against its own CUDA graph, and by the names of its kernels."""
    for algorithm in ("guess", *CUDNN_ALGORITHMS):
        for batch_size in BATCH_SIZES:
            case = f"{network} b{batch_size} {algorithm}"
            if not table.has_time("algorithm", case):
                continue
            spec = spec_of(network, device, batch_size=batch_size, algorithm=algorithm, passes=("latency",))
            log = profiled(spec)
            result = log["result"]
            if log["status"] != "ok":
                is_answer = log["status"] in ("unsupported", "oom", "predicted_oom")
                kind = "skipped" if is_answer else "WRONG"
                table.row("algorithm", case, "", f"{kind}: {log['status']}: {result['reason'][:90]}")
                continue
            if device.type != "cuda":
                table.row(
                    "algorithm", case, f"{result['latency_ms']:.4g} ms", "skipped: no CUDA graphs on a CPU"
                )
                continue
            try:
                _forget(device)
                reference_ms, names = graph_and_kernels(spec, device)
            except (RuntimeError, cudnn.CudnnError) as error:
                kind = "skipped: out of memory" if is_out_of_memory(error) else "WRONG"
                table.row("algorithm", case, "", f"{kind}: {str(error).splitlines()[0][:90]}")
                continue
            value = f"{result['latency_ms']:.4g} ms, graph {reference_ms:.4g} ms"
            is_near = within(result["latency_ms"], reference_ms, GRAPH_TOLERANCE)
            is_told = result["verdict"] != "stable"
            told = f"flagged: the run is {result['verdict']}" if is_told else "WRONG"
            table.row("algorithm", case, value, "ok" if is_near else told)
            if algorithm != "guess":
                check_kernels(table, case, algorithm, names, log)


def graph_and_kernels(spec: ProfileSpec, device: torch.device) -> tuple[float, dict[str, list[str]]]:
    """Device time of a spec's step, and the names of the kernels that its forced layers run."""
    with prepared(spec, device) as (step, model, inputs):
        return graph_ms(step, device), kernels.kernels_by_layer(model, inputs, kernels.cuda_kernels)


def check_kernels(
    table: Table, case: str, algorithm: str, names: dict[str, list[str]], log: dict[str, Any]
) -> None:
    """Kernels that ran in a step of our own against what the run says of its own."""
    expected = kernels.judged(algorithm, names)
    silent = [layer for layer, found in names.items() if not found]
    told = log["lines"].get("kernels", [{}])[-1]
    value = f"{len(names) - len(expected['substituted'])} of {len(names)} layers agree"
    if silent or not names:
        verdict = f"WRONG: no kernel was seen in {len(silent) or 'any'} layers"
    elif expected["quality"] != told.get("quality"):
        verdict = f"WRONG: the run says {told.get('quality')}"
    else:
        first = next(iter(expected["substituted"].values()), "")
        verdict = f"flagged: substituted, {first[:80]}" if expected["quality"] else "ok"
    table.row("kernel names", case, value, verdict)


def check_guess(table: Table, network: str, device: torch.device) -> None:
    """What a run of ``guess`` says of latency, layers, memory and energy against references."""
    for batch_size in BATCH_SIZES if device.type == "cuda" else (1,):
        case = f"{network} b{batch_size} guess"
        if not table.has_time("guess", case):
            continue
        spec = spec_of(
            network, device, batch_size=batch_size, passes=("latency", "cold", "layers", "memory", "energy")
        )
        if not warm_up(table, case, spec, device):
            continue
        before_mib = _allocated_mib(device)
        log = profiled(spec)
        if log["status"] != "ok":
            table.row("guess", case, "", f"WRONG: {log['status']}: {log['result']['reason'][:90]}")
            continue
        check_again(table, case, spec, device, log["result"], before_mib)
        check_layers(table, case, log)
        check_energy(table, case, log)


def warm_up(table: Table, case: str, spec: ProfileSpec, device: torch.device) -> bool:
    """Run the step once, so that what libraries keep for good is there before memory is compared; did it run?"""
    try:
        with prepared(spec, device) as (step, _, _):
            step()
    except RuntimeError as error:
        kind = "skipped: out of memory" if is_out_of_memory(error) else "WRONG"
        table.row("guess", case, "", f"{kind}: {str(error).splitlines()[0][:90]}")
        return False
    return True


def check_again(
    table: Table,
    case: str,
    spec: ProfileSpec,
    device: torch.device,
    result: dict[str, Any],
    before_mib: float,
) -> None:
    """Latency and memory of a run against those of the same step, built once more."""
    ours_mib = (result["memory_allocated_mib"] or 0.0) - before_mib
    again_before_mib = _allocated_mib(device)
    with prepared(spec, device) as (step, _, _):
        check_memory(table, case, step, device, ours_mib, again_before_mib)
        check_latency(table, case, step, result)


def check_latency(table: Table, case: str, step: Callable[[], object], result: dict[str, Any]) -> None:
    """Hot against torch.utils.benchmark, cold against triton's do_bench, which flushes the cache as well."""
    from torch.utils.benchmark import Timer  # here, as it warns where there is no GPU

    reference = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    theirs_ms = reference.blocked_autorange(min_run_time=1.0).median * 1e3
    told = f"flagged: the run is {result['verdict']}" if result["verdict"] != "stable" else "WRONG"
    value = f"{result['latency_ms']:.4g} ms, theirs {theirs_ms:.4g} ms"
    is_near = within(result["latency_ms"], theirs_ms, REFERENCE_TOLERANCE)
    table.row("torch.utils.benchmark", case, value, "ok" if is_near else told)
    try:
        from triton.testing import do_bench
    except ImportError:
        table.row("do_bench", case, "", "skipped: triton is not installed")
        return
    try:
        theirs_ms = do_bench(step, warmup=100, rep=500, return_mode="median")
    except RuntimeError as error:
        table.row("do_bench", case, "", f"skipped: {str(error).splitlines()[0][:90]}")
        return
    value = f"{result['cold_latency_ms']:.4g} ms, theirs {theirs_ms:.4g} ms"
    is_near = within(result["cold_latency_ms"], theirs_ms, REFERENCE_TOLERANCE)
    table.row("do_bench", case, value, "ok" if is_near else told)


def check_layers(table: Table, case: str, log: dict[str, Any]) -> None:
    """Sum of the layers over the whole."""
    share = log["result"]["layers_explained_share"]
    low, high = passes.EXPLAINED_SHARES
    is_told = "layers_do_not_add_up" in log["lines"]["layers"][-1]["quality"]
    if low <= share <= high:
        verdict = "WRONG: flagged for nothing" if is_told else "ok"
    else:
        verdict = "flagged: layers_do_not_add_up" if is_told else "WRONG"
    table.row("sum of layers", case, f"{share:.3f} of the whole", verdict)


def check_energy(table: Table, case: str, log: dict[str, Any]) -> None:
    """The counter against the trapezoid over polled power."""
    line = log["lines"]["energy"][-1]
    counter_j, trapezoid_j = line.get("counter_energy_j"), line.get("trapezoid_energy_j")
    if counter_j is None or trapezoid_j is None:
        table.row(
            "energy", case, "", f"skipped: {line.get('energy_reason') or 'the device tells only one of them'}"
        )
        return
    value = f"counter {counter_j:.4g} J, trapezoid {trapezoid_j:.4g} J"
    is_told = bool(line.get("quality"))
    wrong = f"flagged: {', '.join(line['quality'])}" if is_told else "WRONG"
    table.row("energy", case, value, "ok" if within(counter_j, trapezoid_j, ENERGY_TOLERANCE) else wrong)


def check_memory(
    table: Table,
    case: str,
    step: Callable[[], object],
    device: torch.device,
    ours_mib: float,
    before_mib: float,
) -> None:
    """The peak of two steps against torch's own counter around two steps, each without what was there before."""
    if device.type != "cuda":
        table.row("memory", case, "", "skipped: torch counts allocations on GPUs only")
        return
    step()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(2):
        step()
        torch.cuda.synchronize(device)
    theirs_mib = torch.cuda.max_memory_allocated(device) / 2**20 - before_mib
    is_near = abs(ours_mib - theirs_mib) <= MEMORY_TOLERANCE_MIB
    table.row("memory", case, f"{ours_mib:.2f} MiB, torch {theirs_mib:.2f} MiB", "ok" if is_near else "WRONG")


def spec_of(network: str, device: torch.device, **fields: Any) -> ProfileSpec:
    """A spec with a short protocol, so that all checks fit their time."""
    return ProfileSpec(network=network, device=str(device), protocol=PROTOCOL, lock_timeout_s=60.0, **fields)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="vgg11", help="every algorithm can do its layers")
    parser.add_argument("--second", default="resnet50", help="a network of many short layers, for guess")
    parser.add_argument("--limit-s", type=float, default=480.0, help="no case begins later")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    try:
        device = torch_device(options.device)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    # A case that has begun is finished: about twenty seconds.
    table = Table(options.limit_s - 20.0)
    facts = run.device_facts(device)
    print(f"{facts['name']}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}\n")
    print(f"{'check':22}{'case':36}{'value':>34}  verdict")
    for network in (options.network, options.second):
        check_guess(table, network, device)
    check_algorithms(table, options.network, device)
    counts = {verdict: table.verdicts.count(verdict) for verdict in ("ok", "flagged", "skipped", "WRONG")}
    spent_s = time.monotonic() - table.begun_s
    print(f"\n{', '.join(f'{count} {verdict}' for verdict, count in counts.items())} in {spent_s:.0f} s")
    return 1 if counts["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
