"""What pollers of devices measured. Columns with unit and meaning; no code."""

from perf_assets.schema.columns import (
    FILE_ID,
    LABELS,
    METRICS,
    RUN_ID,
    TEXT,
    TIME,
    Column,
    count,
    number,
    table,
    text,
)

CLEANED_TELEMETRY = table(
    "cleaned_telemetry",
    "One device at one poll.",
    FILE_ID,
    Column("run_id", TEXT, "", "the run, where it is known"),
    count("line_number", "the line of the file it stands on"),
    text("device_id", "bus id, module number or index as the tool prints it"),
    text("device_name", "product name"),
    text("host", "machine, where the log says it"),
    count("session", "polling session in this file, from 0; a hole of more than 60 s starts a new one"),
    Column("polled_at", TIME, "UTC", "when the device was read"),
    text("time_source", "utc, the zone that a local time was read in, or how it was inferred"),
    number("utilization_pct", "%", "compute utilization"),
    number("memory_utilization_pct", "%", "memory controller utilization"),
    number("power_w", "W", "power draw"),
    number("power_limit_w", "W", "power limit"),
    number("memory_used_mib", "MiB", "device memory in use"),
    number("memory_total_mib", "MiB", "device memory in all"),
    number("temperature_c", "degC", "device temperature"),
    number("sm_clock_mhz", "MHz", "compute clock"),
    number("memory_clock_mhz", "MHz", "memory clock"),
    Column("metrics", METRICS, "", "every other number of the poll, by the tool's own name and unit"),
    Column("labels", LABELS, "", "every other text of the poll, by the tool's own name"),
)

RUN_TELEMETRY = table(
    "run_telemetry",
    "What a poll log says of a run that it watched: one device in one session.",
    RUN_ID,
    text("telemetry_file_id", "the poll log: file_id in cleaned_telemetry"),
    text("device_id", "the device, as the poll log calls it"),
    count("session", "session of the poll log"),
    number("overlap_s", "s", "time of the run that polls cover"),
    number("energy_j", "J", "trapezoid over that time; of time shared with other runs an equal part"),
    number("mean_power_w", "W", "mean power of the device over that time, whoever caused it"),
    number("mean_utilization_pct", "%", "mean utilization of the device over that time"),
    text(
        "matched_by",
        "recording: the polls name the run; host: both name it; device: the same product at the same time; inferred: a proposal, for the run's log "
        "does not say when it was",
    ),
    number("share", "", "0-1: the run's part of that time where it shared the device with others; 1 alone"),
    number(
        "clock_offset_s", "s", "poller's clock minus the run's, where a busy stretch of its length shows it"
    ),
    text("remark", "what else was taken for granted, in words"),
    key=("run_id", "telemetry_file_id", "device_id", "session"),
)

TELEMETRY_SESSIONS = table(
    "telemetry_sessions",
    "One device in one session of one poll log (a hole of more than 60 s starts a new session).",
    FILE_ID,
    text("device_id", "the device"),
    text("device_name", "product name"),
    count("session", "from 0"),
    Column("started_at", TIME, "UTC", "first poll"),
    Column("ended_at", TIME, "UTC", "last poll"),
    count("samples", "polls"),
    number("energy_j", "J", "trapezoid over the device's own time stamps"),
    number("mean_power_w", "W", "mean of the polls"),
    number("max_power_w", "W", "largest poll"),
    number("mean_utilization_pct", "%", "mean of the polls"),
    number("max_memory_mib", "MiB", "largest memory in use"),
    key=("file_id", "device_id", "session"),
)
