"""Run a study: each configuration of its server, each level, as often as it takes; what is finished stays.

Whatever goes wrong (a server that never gets ready, dies, answers nonsense) ends the study with one clear error:
finished levels are in the log, the server is ended, and the next start goes on where this one stopped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perf_assets.measuring.load_tests import perf_analyzer, search
from perf_assets.measuring.load_tests.generator import Bounds, Load, closed_loop, open_loop
from perf_assets.measuring.load_tests.kserve import GrpcEndpoint, HttpEndpoint
from perf_assets.measuring.load_tests.levels import (
    CONCURRENCY,
    REQUEST_RATE,
    judge,
    repeat_numbers,
    spread,
    summarise,
)
from perf_assets.measuring.load_tests.openai import OpenAiEndpoint
from perf_assets.measuring.load_tests.requests import LoadError, ServerGoneError
from perf_assets.measuring.load_tests.serving.repository import check_effective, copied_repository
from perf_assets.measuring.load_tests.serving.servers import RunningServer, running_server, wait_ready
from perf_assets.measuring.load_tests.study import Cell, Study, cells, parse_objective
from perf_assets.measuring.load_tests.study_log import StudyLog, path_for, place_of, windows_s
from perf_assets.measuring.load_tests.telemetry import Telemetry, telemetry
from perf_assets.measuring.load_tests.tensors import random_entry, read_entries
from perf_assets.measuring.recording.record import record
from perf_assets.workspace.clock import utc_now
from perf_assets.workspace.locks import LockTimeoutError, exclusive

_LEAST_IN_FLIGHT = 32
_ROOM = 20
"""Open loop: so many times what would be under way if nothing waited may be under way."""
_METHODS = {
    CONCURRENCY: "closed loop: the next request follows the answer; latency from sending to the whole answer",
    REQUEST_RATE: "open loop: Poisson arrivals; latency from the scheduled moment, so no coordinated omission",
}
_PA_METHOD = "perf_analyzer with --request-count; latency from sending, late requests look quick"


@dataclass
class StudyReport:
    """What a study did: its log (or, of commands, the recordings), and how much it found done already."""

    paths: list[Path] = field(default_factory=list)
    measured: int = 0
    known: int = 0
    answers: list[str] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)


def run_study(
    study: Study, out: Path, say: Callable[[str], None] = print, *, again: bool = False
) -> StudyReport:
    """Measure what a study declares and its newest unfinished log does not hold yet.

    Args:
        study: what is declared.
        out: folder of the logs.
        say: told each finished level and answer in a line.
        again: begin a new log, even where one waits to be finished.

    Raises:
        LoadError: it had to stop; the message says why and what helps.
    """
    out.mkdir(parents=True, exist_ok=True)
    if study.commands is not None:
        return _record_commands(study, out, say)
    try:
        with exclusive(out / f".{study.name}-{study.key[:8]}.lock", timeout_s=0):
            path = path_for(study, out, again=again)
            with StudyLog(path, study) as log:
                return _StudyRun(study, log, out, say).run()
    except LockTimeoutError:
        raise LoadError(
            f"study {study.name} runs already with its logs in {out}: wait for it, or end it"
        ) from None


def _record_commands(study: Study, out: Path, say: Callable[[str], None]) -> StudyReport:
    report = StudyReport()
    commands = study.commands
    assert commands is not None
    for name, command in commands.combinations():
        for repeat in range(commands.repeats):
            recording = record(
                command,
                out,
                name=name,
                hz=study.hz,
                idle_s=study.idle_s,
                pass_on=False,
                limit_s=commands.timeout_s,
            )
            report.paths.append(recording.folder)
            report.exit_codes.append(recording.exit_code)
            report.measured += 1
            say(
                f"{name} {repeat + 1}/{commands.repeats}: {recording.result['status']}, "
                f"{recording.result['duration_s']:.3f} s"
            )
    return report


class _StudyRun:
    def __init__(self, study: Study, log: StudyLog, out: Path, say: Callable[[str], None]) -> None:
        self._study = study
        self._log = log
        self._say = say
        self._out = out
        self._report = StudyReport([log.path])

    def run(self) -> StudyReport:
        cell: Cell | None = None
        try:
            with telemetry(self._study.hz, self._study.idle_s, self._out, self._log.write) as watching:
                for cell in cells(self._study):
                    if cell.name not in self._log.ended_cells:
                        self._run_cell(cell, watching)
        except (LoadError, ServerGoneError) as error:
            reason = str(error)
            self._log.write("problem", cell=cell.name if cell else None, reason=reason)
            self._log.write("result", status="failed", reason=reason)
            finished = len(self._log.finished) + self._report.measured
            raise LoadError(
                f"study {self._study.name}{f', {cell.name}' if cell else ''}: {reason} ({finished} finished levels are"
                f" kept in {self._log.path}; the next start goes on there)"
            ) from None
        self._log.write("result", status="ok", reason=None)
        return self._report

    def _run_cell(self, cell: Cell, watching: Telemetry) -> None:
        study = self._study
        work = self._out / f".work-{study.name}-{study.key[:8]}"
        with running_server(study, cell, work, lambda folder: self._repository(cell, folder)) as running:
            endpoint = self._endpoint(running)
            with contextlib.closing(endpoint):
                server = study.server
                assert server is not None
                ready_s = wait_ready(running, endpoint.is_ready, server.ready_timeout_s)
                told = self._prepare(endpoint, cell, running)
                watching.follow(running.pid, is_here=running.is_here)
                is_pa = study.load.source == "perf_analyzer"
                self._log.write(
                    "cell",
                    cell=cell.name,
                    model=study.model.name,
                    model_instances=cell.instances,
                    device_count=cell.device_count,
                    batch_size=cell.batch_size,
                    source=study.load.source,
                    protocol=study.load.protocol,
                    server_kind=server.kind,
                    method=_PA_METHOD if is_pa else _METHODS[study.load.mode],
                    ready_s=ready_s,
                    server=told,
                )
                measuring = _CellRun(
                    study, cell, endpoint, running, watching, self._log, self._say, self._report
                )
                measuring.run()
        self._log.write("cell_end", cell=cell.name)
        with contextlib.suppress(OSError):
            _remove(work)

    def _repository(self, cell: Cell, folder: Path) -> Path:
        server = self._study.server
        assert server is not None and server.repository is not None  # noqa: PT018 - study checks it
        gpus = server.gpus[: cell.device_count] if cell.device_count else None
        return copied_repository(
            Path(server.repository), folder, self._study.model.name, cell.instances, gpus
        )

    def _endpoint(self, running: RunningServer) -> Any:
        study = self._study
        model, timeout_s = study.model, study.load.timeout_s
        if study.load.source == "openai":
            address = running.http_address or running.grpc_address or ""
            return OpenAiEndpoint(
                address, model.name, timeout_s, model.prompt, model.max_tokens, chat=model.chat
            )
        if study.load.protocol == "grpc":
            if running.grpc_address is None:
                raise LoadError(
                    "load.protocol is grpc: write server.url as HOST:PORT of the server's gRPC port"
                )
            return GrpcEndpoint(running.grpc_address, model.name, timeout_s)
        if running.http_address is None:
            raise LoadError("load.protocol is http: write server.http_url as http://HOST:PORT")
        return HttpEndpoint(running.http_address, model.name, timeout_s)

    def _prepare(self, endpoint: Any, cell: Cell, running: RunningServer) -> dict[str, Any] | None:
        """Build the requests, warm up with one of them, and check what took effect."""
        model = self._study.model
        if isinstance(endpoint, OpenAiEndpoint):
            endpoint.check_model()
            return None
        told = endpoint.configuration()
        inputs = endpoint.metadata().get("inputs", [])
        is_batched = int((told or {}).get("max_batch_size", 0)) > 0
        if cell.batch_size > 1 and told is not None and not is_batched:
            raise LoadError(
                f"model {model.name!r} takes no batches: leave batch_sizes out, or give it max_batch_size"
            )
        if model.input is not None:
            entries = read_entries(Path(model.input), inputs)
        else:
            entries = [
                random_entry(
                    inputs, cell.batch_size, model.shapes, is_batched=is_batched, seed=self._study.load.seed
                )
            ]
        endpoint.prepare(entries)
        if running.keeper is not None:
            check_effective(told, model.name, cell.instances)
        return None if told is None else {"instance_group": told.get("instance_group"), "inputs": inputs}


@dataclass
class _CellRun:
    """The levels of one configuration."""

    study: Study
    cell: Cell
    endpoint: Any
    running: RunningServer
    watching: Telemetry
    log: StudyLog
    say: Callable[[str], None]
    report: StudyReport
    loads: dict[tuple[str, float], list[Load]] = field(default_factory=dict)
    repeats: dict[tuple[str, float], list[dict[str, Any]]] = field(default_factory=dict)
    probes: dict[tuple[str, float], search.Probe] = field(default_factory=dict)
    unloaded_us: float | None = None

    def run(self) -> None:
        self.watching.note_idle()
        mode = self.study.load.mode
        for level in self.study.load.levels:
            self.measure(mode, level, None)
        if self.study.search is not None:
            self._search(self.study.search, mode)

    def measure(
        self, mode: str, level: float, is_enough: Callable[[search.Probe], bool] | None
    ) -> search.Probe:
        """Measure a level until its interval is tight (or ``is_enough``), or take it from the log."""
        key = (self.cell.name, mode, float(level))
        if key in self.log.finished and (mode, level) not in self.loads:
            self.report.known += 1
            return search.Probe(level, self.log.finished[key], self.log.latencies_us.get(key, ()))
        if (known := self.probes.get((mode, level))) and (is_enough is None or is_enough(known)):
            return known
        limits, started_s = self.study.repeats, time.monotonic()
        loads = self.loads.setdefault((mode, level), [])
        repeats = self.repeats.setdefault((mode, level), [])
        before = self.endpoint.statistics()
        while True:
            self._repeat(mode, level, loads, repeats)
            summary = summarise(repeats, loads, mode)
            judged = judge(summary, loads, mode, level, limits.tolerance)
            summary |= {"verdict": judged.verdict, "verdict_reason": judged.reason}
            latencies_us = [each.latency_ns / 1e3 for load in loads for each in load.answered]
            probe = search.Probe(level, summary, latencies_us)
            if len(repeats) >= limits.most or time.monotonic() - started_s > limits.budget_s:
                break
            if is_enough is not None:
                if is_enough(probe):
                    break
            elif judged.verdict == "failed" or (
                len(repeats) >= limits.least and spread(repeats, loads, mode) <= limits.tolerance
            ):
                break
        summary |= self._server_parts(before, summary)
        summary |= self.watching.energy(windows_s(loads), summary["requests"], summary.get("tokens"))
        self.log.write("level", cell=self.cell.name, mode=mode, level=level, **summary)
        self.report.measured += 1
        self._tell(mode, level, summary)
        if judged.verdict == "failed":
            errors = [each.error for load in loads for each in load.requests if each.error]
            raise LoadError(
                f"{_shown(mode, level)}: {judged.reason}: {errors[-1] if errors else 'no answer'}"
            )
        self.probes[mode, level] = probe
        return probe

    def _repeat(self, mode: str, level: float, loads: list[Load], repeats: list[dict[str, Any]]) -> None:
        place = place_of(self.cell.name, mode, level, len(repeats))
        started_at = utc_now().isoformat()
        self.running.check_alive()
        try:
            load = self._load(mode, level, len(repeats))
        except ServerGoneError as error:
            for _ in range(20):  # it takes a moment until its end is known
                self.running.check_alive()
                time.sleep(0.1)
            raise LoadError(f"the server is gone: {error}{self.running.last_words()}") from None
        self.running.check_alive()
        numbers = repeat_numbers(load, mode, level, self.cell.batch_size)
        self.log.write("repeat", **place, started_at=started_at, **numbers)
        self.log.write_requests(place, load)
        loads.append(load)
        repeats.append(numbers)
        if mode == CONCURRENCY and level == 1 and numbers.get("p50_us"):
            self.unloaded_us = numbers["p50_us"]

    def _load(self, mode: str, level: float, repeat: int) -> Load:
        load = self.study.load
        if load.source == "perf_analyzer":
            return perf_analyzer.measure(self.study, self.endpoint.address, mode, level, self.cell.batch_size)
        if mode == CONCURRENCY:
            bounds = Bounds(load.requests, load.warmup_requests, load.limit_s)
            return closed_loop(self.endpoint.sender, int(level), bounds)
        if self.unloaded_us is None:
            alone = closed_loop(self.endpoint.sender, 1, Bounds(5, 1, load.limit_s))
            latencies_ns = sorted(each.latency_ns for each in alone.answered)
            self.unloaded_us = latencies_ns[len(latencies_ns) // 2] / 1e3 if latencies_ns else 0.0
        under_way = load.most_in_flight or max(
            _LEAST_IN_FLIGHT, min(1024, round(_ROOM * level * self.unloaded_us / 1e6))
        )
        bounds = Bounds(load.requests, load.warmup_requests, load.limit_s, under_way)
        return open_loop(self.endpoint.sender, level, bounds, f"{load.seed} {level:g} {repeat}")

    def _server_parts(self, before: dict[str, float] | None, summary: dict[str, Any]) -> dict[str, float]:
        """Mean times of the server's components since ``before``, by its own statistics."""
        after = self.endpoint.statistics()
        if before is None or after is None or summary.get("avg_us") is None:
            return {}
        served = after["success_count"] - before["success_count"]
        if served <= 0:
            return {}
        parts = {
            f"{name}_us": (after[f"{name}_ns"] - before[f"{name}_ns"]) / served / 1e3
            for name in ("queue", "compute_input", "compute_infer", "compute_output")
        }
        return parts | {"network_us": max(0.0, summary["avg_us"] - sum(parts.values()))}

    def _search(self, wanted: Any, mode: str) -> None:
        objective = parse_objective(wanted.objective)
        used_before = self._requests()
        found = search.find(wanted, objective, mode, self.measure)
        at = found.at
        answer = _answer(found, self.cell)
        self.log.write(
            "knee",
            cell=self.cell.name,
            objective=found.objective,
            mode=found.mode,
            level=found.level,
            lower=found.lower,
            upper=found.upper,
            method=found.method,
            requests_used=self._requests() - used_before,
            answer=answer,
            **{name: at.get(name) for name in ("throughput_per_s", "p99_us", "joules_per_request")},
        )
        self.report.answers.append(answer)
        self.say(answer)

    def _requests(self) -> int:
        return sum(len(load.requests) for loads in self.loads.values() for load in loads)

    def _tell(self, mode: str, level: float, summary: dict[str, Any]) -> None:
        throughput, p99_us = summary.get("throughput_per_s"), summary.get("p99_us")
        numbers = "" if throughput is None else f"{throughput:.4g}/s, "
        numbers += "" if p99_us is None else f"p99 {p99_us / 1e3:.4g} ms, "
        self.say(
            f"{self.cell.name} {_shown(mode, level)}: {numbers}{summary['verdict']} ({summary['verdict_reason']})"
        )


def _answer(found: search.Found, cell: Cell) -> str:
    """The answer that people want, in one line."""
    of = f"{cell.instances} instance{'s' if cell.instances > 1 else ''}"
    unit = "requests under way" if found.mode == CONCURRENCY else "requests/s"
    if found.level is None:
        return f"{of}: no load meets {found.objective}"
    at = found.at.get("throughput_per_s")
    tail = "" if at is None or found.mode == REQUEST_RATE else f", {at:.4g}/s"
    what = "the knee is at" if found.objective == "throughput" else f"{found.objective} holds up to"
    return f"{of}: {what} {found.level:.4g} {unit}{tail}"


def _shown(mode: str, level: float) -> str:
    return f"{'concurrency' if mode == CONCURRENCY else 'rate'} {level:g}"


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
