"""Load studies: what is declared in a TOML file.

A study of a server::

    name = "instances"

    [server]
    kind = "embedded"            # embedded, openai_twin, triton, command or running
    service_ms = 20.0            # embedded: how long a request takes

    [model]
    name = "timed"
    instances = [1, 2, 3]        # one run each; of a running server only a note
    batch_sizes = [1]

    [load]
    source = "generator"         # generator, perf_analyzer or openai
    protocol = "grpc"            # or http
    mode = "concurrency"         # or request_rate
    levels = [1, 2, 3, 4]
    requests = 60                # of one repeat

    [repeats]
    least = 3
    most = 7
    tolerance = 0.05             # half-width of the interval at which repeats end
    budget_s = 30.0              # of one level

    [search]                     # instead of levels, or beside them
    objective = "p99<50ms"       # or "throughput", for the knee of the curve
    largest = 32

A study of commands (traccc, say) runs each of them under the recorder instead::

    name = "pileup"

    [commands]
    command = ["traccc_throughput_mt", "--input-directory=tml/mu{mu}", "--input-events=10"]
    name = "out_cpu_mu{mu}"

    [commands.parameters]
    mu = [20, 60, 100]
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from perf_assets.measuring.load_tests.serving.served_model import Behaviour
from perf_assets.workspace.validation import StrictModel, read_toml, validated

EXAMPLE = "studies/demo_load.toml"
_OBJECTIVE = re.compile(
    r"(?P<metric>p50|p75|p90|p95|p99|avg|ttft_p50|ttft_p99|itl_p50|itl_p99)\s*<\s*"
    r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>us|ms|s)\Z"
)
_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_EMBEDDED = ("embedded", "openai_twin")


class Server(StrictModel):
    """What is put under load, and how it is started."""

    kind: Literal["embedded", "openai_twin", "triton", "command", "running"]
    url: str | None = Field(default=None, description="HOST:PORT of gRPC, or http://HOST:PORT")
    http_url: str | None = Field(default=None, description="of a server that speaks both")
    command: tuple[str, ...] = Field(default=(), description="{http_port} and {grpc_port} are filled in")
    environment: Mapping[str, str] = Field(default_factory=dict)
    grpc_port: int = Field(default=0, ge=0, le=65535)
    http_port: int = Field(default=0, ge=0, le=65535)
    ready_timeout_s: float = Field(default=60.0, gt=0)
    stop_timeout_s: float = Field(default=15.0, gt=0)
    # Of Triton.
    program: str = Field(default="tritonserver", description="path of tritonserver")
    repository: str | None = Field(default=None, description="model repository; it is copied, never changed")
    arguments: tuple[str, ...] = ()
    gpus: tuple[int, ...] = Field(
        default=(), description="GPUs to use, in order; device_counts takes the first"
    )
    # Of the embedded servers.
    service_ms: float = Field(default=20.0, ge=0)
    per_sample_ms: float = Field(default=0.0, ge=0)
    exponential: bool = False
    seed: int = 0
    tokens: int = Field(default=16, ge=1)
    first_token_ms: float = Field(default=30.0, ge=0)
    token_ms: float = Field(default=5.0, ge=0)
    stall_at_request: int = Field(default=0, ge=0)
    stall_ms: float = Field(default=0.0, ge=0)
    fail_every: int = Field(default=0, ge=0)
    wrong_shape: bool = False
    die_at_request: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "running" and not (self.url or self.http_url):
            raise ValueError("server.url is missing: a running server needs its address")
        if self.kind == "command" and not self.command:
            raise ValueError("server.command is missing: write the program and its arguments as a list")
        if self.kind == "triton" and not self.repository:
            raise ValueError("server.repository is missing: name the folder of Triton's models")
        return self

    def behaviour(self, instances: int) -> Behaviour:
        """Of the model in an embedded server."""
        own = {name: getattr(self, name) for name in Behaviour.__dataclass_fields__ if name != "instances"}
        return Behaviour(instances=instances, **own)


class Model(StrictModel):
    """Which model, in which shapes and numbers."""

    name: str = "timed"
    instances: tuple[int, ...] = Field(default=(1,), min_length=1)
    device_counts: tuple[int, ...] = Field(default=(), description="GPUs; empty: as the server has it")
    batch_sizes: tuple[int, ...] = Field(default=(1,), min_length=1)
    shapes: Mapping[str, tuple[int, ...]] = Field(
        default_factory=dict, description="sizes of inputs that vary"
    )
    input: str | None = Field(default=None, description="input JSON, .npy or .csv")
    # Of an OpenAI-compatible endpoint.
    prompt: str = "Tell a story of a detector."
    max_tokens: int = Field(default=64, ge=1)
    chat: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("instances", "batch_sizes", "device_counts"):
            values = getattr(self, name)
            if any(not 1 <= value <= 4096 for value in values) or len(set(values)) != len(values):
                raise ValueError(f"model.{name} = {list(values)}: write different numbers from 1 to 4096")
        return self


class Load(StrictModel):
    """Which load, from which source."""

    source: Literal["generator", "perf_analyzer", "openai"] = "generator"
    protocol: Literal["grpc", "http"] = "grpc"
    mode: Literal["concurrency", "request_rate"] = "concurrency"
    levels: tuple[float, ...] = ()
    requests: int = Field(default=100, ge=1, le=1_000_000, description="measured in one repeat")
    warmup_requests: int = Field(default=5, ge=0, le=100_000)
    timeout_s: float = Field(default=30.0, gt=0, description="of one request")
    limit_s: float = Field(default=300.0, gt=0, description="of one repeat")
    most_in_flight: int = Field(default=0, ge=0, le=1024, description="open loop; 0: by rate and latency")
    seed: int = 0
    perf_analyzer: str = Field(default="perf_analyzer", description="path of the real perf_analyzer")
    perf_analyzer_arguments: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for level in self.levels:
            if level <= 0 or (self.mode == "concurrency" and level != int(level)):
                raise ValueError(
                    f"load.levels: {level:g} is no {self.mode.replace('_', ' ')}: use "
                    + ("whole numbers from 1" if self.mode == "concurrency" else "numbers above 0")
                )
        if self.mode == "concurrency" and any(level > 1024 for level in self.levels):
            raise ValueError("load.levels: at most 1024 requests can be under way")
        if len(set(self.levels)) != len(self.levels):
            raise ValueError("load.levels: a level stands there twice")
        return self


class Repeats(StrictModel):
    """How often a level is measured."""

    least: int = Field(default=3, ge=1)
    most: int = Field(default=7, ge=1)
    tolerance: float = Field(default=0.05, gt=0, le=1)
    budget_s: float = Field(default=60.0, gt=0, description="of one level; one repeat is always measured")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"repeats.least = {self.least} is more than repeats.most = {self.most}")
        return self


class Search(StrictModel):
    """What the highest load is searched for."""

    objective: str
    largest: float = Field(default=64.0, gt=0)
    smallest: float = Field(default=1.0, gt=0)
    precision: float = Field(
        default=0.05, gt=0, le=0.5, description="open loop: width at which it ends, as a share"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse_objective(self.objective)
        if self.smallest >= self.largest:
            raise ValueError("search.smallest is not below search.largest")
        return self


class Commands(StrictModel):
    """Commands that are recorded, one for each combination of the parameters."""

    command: tuple[str, ...] = Field(min_length=1)
    name: str = Field(min_length=1)
    parameters: Mapping[str, tuple[str | int | float, ...]] = Field(default_factory=dict)
    repeats: int = Field(default=1, ge=1, le=1000)
    timeout_s: float = Field(default=3600.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for text in (*self.command, self.name):
            for name in re.findall(r"\{(\w*)\}", text):
                if name not in self.parameters:
                    known = ", ".join(self.parameters) or "none"
                    raise ValueError(f"commands: {text!r} names the parameter {name!r}; there are: {known}")
        return self

    def combinations(self) -> Iterator[tuple[str, list[str]]]:
        """Name and command of each combination."""
        for values in itertools.product(*self.parameters.values()):
            chosen = dict(zip(self.parameters, map(str, values), strict=True))

            def filled(text: str, chosen: dict[str, str] = chosen) -> str:
                return re.sub(r"\{(\w+)\}", lambda match: chosen[match[1]], text)

            yield filled(self.name), [filled(each) for each in self.command]


class Study(StrictModel):
    """A declared study; fields as in the module's examples."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="a name, not a path")
    server: Server | None = None
    model: Model = Model()
    load: Load = Load()
    repeats: Repeats = Repeats()
    search: Search | None = None
    commands: Commands | None = None
    idle_s: float = Field(default=2.0, ge=0, description="polled without load, where power is told")
    hz: float = Field(default=10.0, gt=0, le=100, description="samples of host and devices per second")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.server is None) == (self.commands is None):
            raise ValueError(
                "write either a [server] that is put under load, or [commands] that are recorded"
            )
        if self.server is None:
            return self
        if not self.load.levels and self.search is None:
            raise ValueError("load.levels is missing: write the levels to measure, or a [search]")
        is_openai = self.load.source == "openai"
        if self.server.kind in _EMBEDDED and is_openai != (self.server.kind == "openai_twin"):
            raise ValueError("server.kind 'openai_twin' and load.source 'openai' go together")
        if self.server.kind == "running" and len(self.model.instances) > 1:
            raise ValueError("model.instances: those of a running server cannot be changed: name one")
        if (
            self.server.kind == "command"
            and len(self.model.instances) > 1
            and "{instances}" not in " ".join(self.server.command)
        ):
            raise ValueError("model.instances: server.command has no {instances} to take them")
        if self.search is not None and self.load.mode == "concurrency" and self.search.largest > 1024:
            raise ValueError("search.largest: at most 1024 requests can be under way")
        return self

    @property
    def key(self) -> str:
        """Same for the same study."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Cell:
    """One configuration of the server: one run."""

    instances: int
    device_count: int | None
    batch_size: int

    @property
    def name(self) -> str:
        """As people write it into names of files."""
        devices = "" if self.device_count is None else f"_{self.device_count}gpus"
        return f"{self.instances}insts{devices}_batch{self.batch_size}"


def cells(study: Study) -> list[Cell]:
    """Every configuration of the server that a study asks for."""
    model = study.model
    return [
        Cell(instances, devices, batch)
        for instances, devices, batch in itertools.product(
            model.instances, model.device_counts or (None,), model.batch_sizes
        )
    ]


@dataclass(frozen=True)
class Objective:
    """A latency that a load must keep below a limit; ``metric`` is a column of ``cleaned_load_levels``. Without a
    limit it is the knee of the throughput curve."""

    text: str
    metric: str | None = None
    limit_us: float | None = None


def parse_objective(text: str) -> Objective:
    """Read an objective like ``p99<50ms``; ``throughput`` is the knee of the curve.

    Raises:
        ValueError: it is none.
    """
    if text.strip() == "throughput":
        return Objective("throughput")
    match = _OBJECTIVE.match(text.strip())
    if match is None:
        raise ValueError(
            f"objective {text!r}: write it like p99<50ms (avg, p50, p90, p95, p99, ttft_p99, itl_p99; us, ms or s),"
            " or throughput"
        )
    limit_us = float(match["number"]) * _US[match["unit"]]
    return Objective(f"{match['metric']}<{match['number']}{match['unit']}", f"{match['metric']}_us", limit_us)


def read_study(path: str | Path) -> Study:
    """Read a study.

    Raises:
        InvalidInputError: it is missing or wrong; the message names the file, the key and the cure.
    """
    return parse_study(read_toml(Path(path), EXAMPLE), str(path))


def parse_study(fields: Mapping[str, Any], where: str = "study") -> Study:
    """Make a study of what a file or launch says.

    Raises:
        InvalidInputError: a key, type or combination that cannot be.
    """
    return validated(Study, fields, where)
