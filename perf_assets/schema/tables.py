"""Every published table, column by column: the one source of DDL, Parquet types, checks, UI columns and docs.

A column is named once here, with its type, unit and meaning. Parsers fill rows by these names, storage
creates and describes the DuckDB tables from them, and ``docs/tables.md`` is printed from them.
Absent values are NULL, never 0 and never a magic word. Times are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

TEXT = "VARCHAR"
INTEGER = "BIGINT"
NUMBER = "DOUBLE"
FLAG = "BOOLEAN"
TIME = "TIMESTAMP"
JSON = "JSON"
FLAGS = "VARCHAR[]"
METRICS = "MAP(VARCHAR, DOUBLE)"
LABELS = "MAP(VARCHAR, VARCHAR)"


@dataclass(frozen=True)
class Column:
    """One column: DuckDB type, unit ("" where it has none) and what it means."""

    name: str
    type: str
    unit: str
    description: str


@dataclass(frozen=True)
class Table:
    """One published table. ``key`` names the columns that together are unique, or is empty."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)


FILE_ID = Column(
    "file_id", TEXT, "", "sha256 of the file, hex; of a run directory, over its members' names and hashes"
)
RUN_ID = Column(
    "run_id", TEXT, "", "the run this row belongs to: file_id's first 16 digits and the run's position in it"
)


def _table(name: str, description: str, *columns: Column, key: tuple[str, ...] = ()) -> Table:
    return Table(name, description, columns, key)


def _text(name: str, description: str) -> Column:
    return Column(name, TEXT, "", description)


def _count(name: str, description: str, unit: str = "") -> Column:
    return Column(name, INTEGER, unit, description)


def _number(name: str, unit: str, description: str) -> Column:
    return Column(name, NUMBER, unit, description)


SOURCE_FILES = _table(
    "source_files",
    "A file (or run directory) found under drops, and what became of it.",
    FILE_ID,
    _text("path", "where it lies under drops, with / between folders"),
    _text("format", "the parser's name, NULL where none recognised it"),
    _text("status", "ingested, duplicate, replaced, rejected or unsupported"),
    _count("bytes", "size as dropped", "B"),
    _count("lines", "lines of text; lines = records + rejected + ignored. NULL where it was not read"),
    _count("runs", "runs found in it"),
    _count("records", "lines that became rows"),
    _count("rejected", "lines that could not be used: see rejected_lines"),
    _count("ignored", "headers, blank lines and comments"),
    _count("parser_version", "version of the parser that read it"),
    _text("error", "why it was not taken in, and the cure"),
    Column("ingested_at", TIME, "UTC", "when it was read"),
    Column("modified_at", TIME, "UTC", "the file's own modification time when it was read"),
    key=("path", "file_id"),
)

REJECTED_LINES = _table(
    "rejected_lines",
    "A line that could not or would not be used.",
    FILE_ID,
    _text("member", "file inside a run directory, NULL for a plain file"),
    _count("line_number", "counted from 1"),
    _text("reason", "short code"),
    _text("detail", "what was wrong, in words"),
    _text("text", "the line, at most 500 characters"),
)

CLEANED_TELEMETRY = _table(
    "cleaned_telemetry",
    "One device at one poll.",
    FILE_ID,
    Column("run_id", TEXT, "", "the run, where it is known"),
    _count("line_number", "the line of the file it stands on"),
    _text("device_id", "bus id, module number or index as the tool prints it"),
    _text("device_name", "product name"),
    _text("host", "machine, where the log says it"),
    _count("session", "polling session in this file, from 0; a hole of more than 60 s starts a new one"),
    Column("polled_at", TIME, "UTC", "when the device was read"),
    _text("time_source", "utc, the zone that a local time was read in, or how it was inferred"),
    _number("utilization_pct", "%", "compute utilization"),
    _number("memory_utilization_pct", "%", "memory controller utilization"),
    _number("power_w", "W", "power draw"),
    _number("power_limit_w", "W", "power limit"),
    _number("memory_used_mib", "MiB", "device memory in use"),
    _number("memory_total_mib", "MiB", "device memory in all"),
    _number("temperature_c", "degC", "device temperature"),
    _number("sm_clock_mhz", "MHz", "compute clock"),
    _number("memory_clock_mhz", "MHz", "memory clock"),
    Column("metrics", METRICS, "", "every other number of the poll, by the tool's own name and unit"),
    Column("labels", LABELS, "", "every other text of the poll, by the tool's own name"),
)

CLEANED_RUNS = _table(
    "cleaned_runs",
    "One run (attempt) of anything.",
    RUN_ID,
    FILE_ID,
    _count("run_index", "position of the run in its file, from 0"),
    _text("tool", "what wrote it: unet, pruning_profiler, perf4sight, ai3, perf_analyzer, traccc, ..."),
    _text("workload", "training, inference, load_test or reconstruction"),
    _text("name", "the run's own name"),
    _text("status", "ok, oom, failed, incomplete, superseded, missing or unknown"),
    _text("model", "network or served model"),
    _text("dataset", "data the run read"),
    _text("host", "machine or platform"),
    _text("device", "accelerator (or CPU) it ran on"),
    _count("device_count", "devices used"),
    _count("world_size", "ranks"),
    _count("batch_size", "samples per step"),
    _count("input_size", "input height = width", "px"),
    _count("num_workers", "loader workers"),
    _text("stage", "training or inference of a profile; sanity, quick or full of a sweep stands in config"),
    _text("algorithm", "convolution algorithm"),
    _text("pruning_method", "how the network was pruned"),
    _number("pruning_ratio", "", "share pruned away, 0-1, as asked for"),
    _count("epochs", "epochs asked for"),
    _number("accuracy_pct", "%", "best accuracy (or Dice score) reached"),
    Column("started_at", TIME, "UTC", "first time stamp of the run"),
    _number("duration_s", "s", "from first to last time stamp, or the total that the tool prints"),
    _number(
        "latency_ms", "ms", "time of one step, inference or request (mean, or median where config says so)"
    ),
    _number("latency_std_ms", "ms", "standard deviation of that"),
    _number("throughput_per_s", "1/s", "samples, requests or events per second"),
    _number("memory_allocated_mib", "MiB", "peak allocated by the framework"),
    _number("memory_reserved_mib", "MiB", "peak reserved by the framework"),
    _number("memory_used_mib", "MiB", "peak used on the device or system"),
    _number("process_rss_mib", "MiB", "peak resident set of the process"),
    _number("mean_power_w", "W", "mean power"),
    _number("energy_j", "J", "energy of the run, or per inference where config says so"),
    Column("quality", FLAGS, "", "flags such as running_sums; empty where nothing is wrong"),
    _text("command", "command line"),
    Column("config", JSON, "", "every other argument and fact, as JSON"),
    _text("parent_run_id", "the run that this one is a part of (a composing model of an ensemble)"),
    key=("run_id",),
)

CLEANED_EPOCHS = _table(
    "cleaned_epochs",
    "One logged row of a training log (one per rank).",
    RUN_ID,
    FILE_ID,
    _count("line_number", "the line of the file it stands on"),
    _text("phase", "loaders_init, train, eval, total_train_time or total_eval_time"),
    _count("epoch", "from 1; NULL for loaders_init; of the totals, the number of epochs"),
    _count("rank", "rank, where the log says it"),
    _number("duration_s", "s", "duration of the phase"),
    _number("loss", "", "mean loss"),
    _number("dice", "", "mean Dice score, 0-1"),
)

CLEANED_LAYERS = _table(
    "cleaned_layers",
    "One layer of a profiled run at one input size.",
    RUN_ID,
    FILE_ID,
    _count("layer_index", "order in the network, from 0"),
    _text("layer", "name in the network"),
    _text("kind", "conv, linear, ..."),
    _count("input_size", "input of the network the layer was timed in, height = width", "px"),
    _count("in_hw", "input of the layer itself, height = width, where the log says it", "px"),
    _count("in_channels", "input channels"),
    _count("out_channels", "output channels"),
    _count("kernel_size", "kernel height = width", "px"),
    _count("stride", "stride", "px"),
    _count("padding", "padding", "px"),
    _number("mean_ms", "ms", "mean time of one pass"),
    _number("std_ms", "ms", "its standard deviation"),
    _number("min_ms", "ms", "fastest pass"),
    _number("max_ms", "ms", "slowest pass"),
    _number("median_ms", "ms", "median pass"),
    _number("share_pct", "%", "share of the run's time"),
    _number("mean_power_w", "W", "mean power while it ran"),
    _number("energy_j", "J", "energy of one pass"),
)

CLEANED_LOAD_LEVELS = _table(
    "cleaned_load_levels",
    "One load level of a load test.",
    RUN_ID,
    FILE_ID,
    _text("mode", "concurrency or request_rate"),
    _number("level", "", "requests in flight, or requests asked for per second"),
    _count("model_instances", "instances of the model on the server"),
    _count("gpu_count", "GPUs the server used"),
    _count("batch_size", "samples per request"),
    _number("throughput_per_s", "1/s", "inferences per second"),
    _number("response_throughput_per_s", "1/s", "responses per second of a streaming model"),
    _number("send_rate_per_s", "1/s", "request rate really sent"),
    _number("delayed_pct", "%", "requests sent late"),
    _count("requests", "requests measured"),
    _number("avg_us", "us", "mean latency"),
    _number("std_us", "us", "standard deviation of the latency"),
    _number("p50_us", "us", "median latency"),
    _number("p75_us", "us", "75th percentile"),
    _number("p90_us", "us", "90th percentile"),
    _number("p95_us", "us", "95th percentile"),
    _number("p99_us", "us", "99th percentile"),
    Column("percentiles_us", METRICS, "us", "every percentile of the log, by its name"),
    _number("client_send_us", "us", "client: sending"),
    _number("network_us", "us", "network and server's sending and receiving"),
    _number("queue_us", "us", "server: waiting in the queue"),
    _number("compute_input_us", "us", "server: preparing inputs"),
    _number("compute_infer_us", "us", "server: the model itself"),
    _number("compute_output_us", "us", "server: preparing outputs"),
    _number(
        "compute_us",
        "us",
        "server: inputs, model and outputs together, where the log has one number for them",
    ),
    _number("client_recv_us", "us", "client: receiving"),
    _number("cache_hit_us", "us", "server: response cache hits"),
    _number("cache_miss_us", "us", "server: response cache misses"),
    _number("request_response_us", "us", "client: sending and receiving together"),
    _number("response_wait_us", "us", "client: waiting for the response"),
    _number(
        "composing_queue_us",
        "us",
        "queue time of an ensemble's composing models: hidden in network_us of a CSV, already part of queue_us "
        "in a text report, so greatest(queue_us, composing_queue_us) is the queueing in all",
    ),
    Column("stable", FLAG, "", "the tool reached a stable measurement"),
    Column("quality", FLAGS, "", "flags such as components_do_not_add_up; empty where nothing is wrong"),
    key=("run_id", "mode", "level"),
)

CLEANED_LOAD_GPUS = _table(
    "cleaned_load_gpus",
    "One GPU at one load level.",
    RUN_ID,
    FILE_ID,
    _number("level", "", "the load level"),
    _text("gpu_uuid", "the GPU"),
    _number("utilization", "0-1", "mean utilization as a fraction"),
    _number("power_w", "W", "mean power"),
    _number("memory_used_bytes", "B", "largest memory in use"),
    _number("memory_total_bytes", "B", "memory in all"),
    key=("run_id", "level", "gpu_uuid"),
)

CLEANED_STAGES = _table(
    "cleaned_stages",
    "One timed stage of a reconstruction.",
    RUN_ID,
    FILE_ID,
    _text("stage", "name of the stage, white space collapsed"),
    _text("device", "cpu, cuda, sycl, ... NULL where the log does not say"),
    _number("total_ms", "ms", "time in all"),
    _number("per_event_ms", "ms", "time per event"),
    _number("events_per_s", "1/s", "events per second"),
)

CLEANED_COUNTERS = _table(
    "cleaned_counters",
    "One counter of a run.",
    RUN_ID,
    FILE_ID,
    _text("source", "perf, nvprof, livealloc, ..."),
    _text("scope", "process, a kernel's name, a device"),
    _text("counter", "the counter's own name"),
    _number("value", "", "the value (an average where there is a range), in unit"),
    _number("value_min", "", "smallest, in unit"),
    _number("value_max", "", "largest, in unit"),
    _count("invocations", "times the kernel ran"),
    _text("unit", "unit of the values; level for the tools' 0-10 scales"),
    _number("running_pct", "%", "share of the time the counter was on (multiplexing)"),
    _number("running_s", "s", "time the counter was on"),
)

CLEANED_SAMPLES = _table(
    "cleaned_samples",
    "One host sample during a run.",
    RUN_ID,
    FILE_ID,
    Column("sampled_at", TIME, "UTC", "when it was taken"),
    Column("metrics", METRICS, "", "every number of the sample, by the tool's own name"),
)

CLEANED_LAYER_TABLES = _table(
    "cleaned_layer_tables",
    "One layer of a network whose shapes alone are known (no measurement).",
    FILE_ID,
    _text("network", "the network"),
    _number("pruning_level_pct", "%", "share of parameters pruned away"),
    _count("layer_index", "order in the network, from 0"),
    _text("layer", "name in the network"),
    _text("kind", "conv, batchnorm, relu, maxpool, avgpool, linear, add, concat or other"),
    _count("in_channels", "input channels (features of a linear layer)"),
    _count("out_channels", "output channels (features of a linear layer)"),
    _count("kernel_size", "kernel height = width", "px"),
    _count("stride", "stride", "px"),
    _count("padding", "padding", "px"),
    _count("groups", "groups of a convolution"),
    _count("in_hw", "input height = width", "px"),
    _count("out_hw", "output height = width", "px"),
    _count("params", "parameters"),
    _count("macs", "multiply-accumulates for one image"),
)

RUN_SOURCES = _table(
    "run_sources",
    "A file that tells of a run which several files tell of. Runs that stand in one file alone are not listed.",
    RUN_ID,
    FILE_ID,
    _text(
        "source_run_id", "the run_id that the run had by this file alone; equal to run_id for the kept one"
    ),
    _text("format", "the parser's name"),
    key=("run_id", "source_run_id"),
)

LOAD_LEVEL_SOURCES = _table(
    "load_level_sources",
    "What each file says of one load level, where several files tell of the same run: to compare them.",
    RUN_ID,
    FILE_ID,
    _text("source_run_id", "the run_id that the run had by this file alone"),
    _text("format", "the parser's name"),
    _text("mode", "concurrency or request_rate"),
    _number("level", "", "requests in flight, or requests asked for per second"),
    _number(
        "throughput_per_s",
        "1/s",
        "inferences per second; of an export (which counts requests) times the batch size",
    ),
    _number("response_throughput_per_s", "1/s", "responses per second of a streaming model"),
    _count("requests", "requests measured"),
    _number("avg_us", "us", "mean latency"),
    _number("std_us", "us", "standard deviation of the latency"),
    _number("p50_us", "us", "median latency"),
    _number("p90_us", "us", "90th percentile"),
    _number("p95_us", "us", "95th percentile"),
    _number("p99_us", "us", "99th percentile"),
    key=("source_run_id", "mode", "level"),
)

PREDICTOR_SCORES = _table(
    "predictor_scores",
    "How far a method is off on one split of the measured runs: held-out groups, and labelled leaky splits beside them.",
    _text(
        "target", "latency, memory (used), memory_allocated, memory_reserved, energy, oom or layer_latency"
    ),
    _text("device", "the device, such as tx2; of several devices in one fit, the held-out one"),
    _text("stage", "training or inference"),
    _text("method", "perf_assets, or a baseline: perf4sight, ai3, roofline, tdp_times_time, constant"),
    _text(
        "split",
        "leave_one_network_out, leave_one_device_out, unseen_pruning_level, config; transfer_to_network and"
        " transfer_to_device (what was held out, after some of its points were measured); or random_leaky, whose test"
        " rows have near twins among the training rows",
    ),
    _text(
        "group",
        "the held-out group; 'all' for all of them together; of transfers k=0, k=1, ... measured points, over 20 random choices of them",
    ),
    _count("n", "held-out rows"),
    _number(
        "mape", "%", "mean absolute error relative to the measured value; of oom, the share judged wrongly"
    ),
    _number("median_ape", "%", "median of that error; NULL for oom"),
    _number("p95_ape", "%", "95th percentile of that error; NULL for oom"),
    _number("coverage", "%", "share of the rows inside their 90 % interval; NULL where a method has none"),
    _number(
        "abstained",
        "%",
        "share of the rows outside what the method knows; they count in the errors all the same",
    ),
    _text("snapshot", "hash of the training rows: 16 hex digits"),
)

PREDICTIONS = _table(
    "predictions",
    "A predictor's answer for one configuration.",
    _text("target", "latency, memory, memory_allocated, memory_reserved, energy or oom"),
    _text("model", "network"),
    _number("pruning_ratio", "", "share pruned away, 0-1"),
    _text("device", "device"),
    _text("stage", "training or inference"),
    _text("algorithm", "convolution algorithm, where the runs have one"),
    _count("batch_size", "samples per step"),
    _count("input_size", "input height = width", "px"),
    _number("predicted", "", "the prediction, in unit"),
    _number("lower", "", "lower end of the 90 % interval, in unit"),
    _number("upper", "", "upper end of the 90 % interval, in unit"),
    _text("unit", "ms, MiB, J; probability for oom"),
    Column(
        "abstain", FLAG, "", "true where the configuration lies outside what the predictor has learnt from"
    ),
    _text("reason", "why it abstains"),
    Column("was_measured", FLAG, "", "true where a measurement of this was among the training rows"),
    _text("snapshot", "hash of the training rows: 16 hex digits"),
)

PRUNED_MODELS = _table(
    "pruned_models",
    "A network pruned by one method at one ratio, and what came of it.",
    _text("name", "name of its directory"),
    _text("model", "network"),
    _text("pruning_method", "how it was pruned"),
    _number("pruning_ratio", "", "share asked to be pruned away, 0-1"),
    _count("seed", "of random weights and random importance"),
    _text("status", "ok (verified) or unsupported"),
    _text("reason", "why it is unsupported"),
    _text("architecture_key", "hash of the realised architecture"),
    _count("input_size", "input height = width it was verified with", "px"),
    _count("params", "parameters left"),
    _number("params_kept_pct", "%", "parameters left of the unpruned network's"),
    _count("macs", "multiply-accumulates for one image"),
    _count("weight_bytes", "size of the weights", "B"),
    _number("sparsity_pct", "%", "share of weights that are zero"),
    _text("folder", "its directory: spec.json and a state dict"),
    key=("name",),
)

NETWORK_FEATURES = _table(
    "network_features",
    "A network's analytic features for one image, from shapes alone.",
    _text("network", "network"),
    _text("pruned_model", "the pruned model, NULL for the network itself"),
    _text("architecture_key", "hash of the realised architecture"),
    _text("stage", "training or inference"),
    _count("input_size", "input height = width", "px"),
    _count("layers", "operations of a forward pass"),
    _count("params", "parameters"),
    _count("macs", "multiply-accumulates"),
    _count("activation_bytes", "all layers' outputs", "B"),
    _count("gradient_bytes", "gradients of parameters and activations", "B"),
    _count("estimated_batch_size", "batch of the memory estimate"),
    _number("estimated_peak_mib", "MiB", "estimated peak memory of one step at that batch"),
    Column("features", METRICS, "", "every feature by name"),
    key=("network", "pruned_model", "stage", "input_size"),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        SOURCE_FILES,
        REJECTED_LINES,
        CLEANED_TELEMETRY,
        CLEANED_RUNS,
        CLEANED_EPOCHS,
        CLEANED_LAYERS,
        CLEANED_LOAD_LEVELS,
        CLEANED_LOAD_GPUS,
        CLEANED_STAGES,
        CLEANED_COUNTERS,
        CLEANED_SAMPLES,
        CLEANED_LAYER_TABLES,
        RUN_SOURCES,
        LOAD_LEVEL_SOURCES,
        PREDICTOR_SCORES,
        PREDICTIONS,
        PRUNED_MODELS,
        NETWORK_FEATURES,
    )
}
"""All stored tables, by name."""

DERIVED_TABLES: dict[str, Table] = {table.name: table for table in (RUN_SOURCES, LOAD_LEVEL_SOURCES)}
"""The tables that linking files fills anew at every publish (``storage/sql/link_runs.sql``)."""

COMPUTED_TABLES: dict[str, Table] = {
    table.name: table for table in (PREDICTOR_SCORES, PREDICTIONS, PRUNED_MODELS, NETWORK_FEATURES)
}
"""The tables that assets compute from the others; each is one Parquet file under ``data/computed``."""

PARSED_TABLES: dict[str, Table] = {
    name: table
    for name, table in TABLES.items()
    if name != "source_files" and name not in DERIVED_TABLES and name not in COMPUTED_TABLES
}
"""The tables that parsers fill."""


VIEWS: dict[str, Table] = {
    view.name: view
    for view in (
        _table(
            "telemetry_sessions",
            "One device in one session of one poll log (a hole of more than 60 s starts a new session).",
            FILE_ID,
            _text("device_id", "the device"),
            _text("device_name", "product name"),
            _count("session", "from 0"),
            Column("started_at", TIME, "UTC", "first poll"),
            Column("ended_at", TIME, "UTC", "last poll"),
            _count("samples", "polls"),
            _number("energy_j", "J", "trapezoid over the device's own time stamps"),
            _number("mean_power_w", "W", "mean of the polls"),
            _number("max_power_w", "W", "largest poll"),
            _number("mean_utilization_pct", "%", "mean of the polls"),
            _number("max_memory_mib", "MiB", "largest memory in use"),
            key=("file_id", "device_id", "session"),
        ),
    )
}
"""Views over the tables; each is defined in ``storage/sql/<name>.sql``."""


@cache
def arrow_schema(table_name: str) -> pa.Schema:
    """Arrow schema of a table, for Parquet parts. JSON travels as text."""
    import pyarrow as pa

    types = {
        TEXT: pa.string(),
        JSON: pa.string(),
        INTEGER: pa.int64(),
        NUMBER: pa.float64(),
        FLAG: pa.bool_(),
        TIME: pa.timestamp("us"),
        FLAGS: pa.list_(pa.string()),
        METRICS: pa.map_(pa.string(), pa.float64()),
        LABELS: pa.map_(pa.string(), pa.string()),
    }
    return pa.schema([(column.name, types[column.type]) for column in TABLES[table_name].columns])
