"""Invariants of the published tables, each as SQL that returns the rows that break it."""

from __future__ import annotations

from dataclasses import dataclass

from perf_assets.schema.tables import TABLES


@dataclass(frozen=True)
class Check:
    """``sql`` returns offending rows; none means that the invariant holds. ``is_error`` is False for a
    warning."""

    name: str
    table: str
    description: str
    sql: str
    is_error: bool = True
    is_blocking: bool = False
    """Where it fails, nothing that is made of the table is made in the same run."""


def _unique_keys() -> list[Check]:
    return [
        Check(
            f"{table.name}_key_is_unique",
            table.name,
            f"({', '.join(table.key)}) is unique.",
            f"SELECT {', '.join(table.key)}, count(*) AS rows FROM {table.name} GROUP BY ALL HAVING rows > 1",  # noqa: S608
        )
        for table in TABLES.values()
        if table.key
    ]


CHECKS: tuple[Check, ...] = (
    Check(
        "lines_are_conserved",
        "source_files",
        "Every line of an ingested text file is a record, rejected or ignored.",
        """
        SELECT path, lines, records, rejected, ignored
        FROM source_files
        WHERE status = 'ingested' AND lines <> records + rejected + ignored
        """,
        is_blocking=True,
    ),
    Check(
        "rejected_lines_are_listed",
        "rejected_lines",
        "As many rejected lines are listed as were counted.",
        """
        SELECT path, rejected, count(line_number) AS listed
        FROM source_files LEFT JOIN rejected_lines USING (file_id)
        WHERE status = 'ingested'
        GROUP BY ALL
        HAVING listed < rejected
        """,
    ),
    Check(
        "few_lines_are_rejected",
        "rejected_lines",
        "At most one line in ten of a file is rejected; more hints at another format or a broken tool.",
        "SELECT path, lines, rejected FROM source_files WHERE status = 'ingested' AND rejected * 10 > lines",
        is_error=False,
    ),
    Check(
        "every_drop_is_taken_in",
        "source_files",
        "No drop is rejected or unsupported.",
        "SELECT path, status, error FROM source_files WHERE status IN ('rejected', 'unsupported')",
        is_error=False,
    ),
    Check(
        "runs_belong_to_ingested_files",
        "cleaned_runs",
        "Every run comes from a file that is ingested.",
        """
        SELECT run_id FROM cleaned_runs
        WHERE file_id NOT IN (SELECT file_id FROM source_files WHERE status = 'ingested')
        """,
    ),
    Check(
        "one_ok_attempt_per_unet_log",
        "cleaned_runs",
        "A U-Net log has at most one run with status ok.",
        """
        SELECT file_id, count(*) AS runs FROM cleaned_runs
        WHERE tool = 'unet' AND status = 'ok' GROUP BY ALL HAVING runs > 1
        """,
    ),
    Check(
        "epochs_belong_to_runs",
        "cleaned_epochs",
        "Every epoch belongs to a run.",
        "SELECT DISTINCT run_id FROM cleaned_epochs ANTI JOIN cleaned_runs USING (run_id)",
    ),
    Check(
        "energy_agrees_with_mean_power",
        "cleaned_telemetry",
        "A session's trapezoid energy and its mean power times its duration differ by less than a fifth.",
        """
        SELECT file_id, device_id, session, energy_j,
               mean_power_w * date_diff('ms', started_at, ended_at) / 1000
        FROM telemetry_sessions
        WHERE samples >= 30
          AND abs(energy_j - mean_power_w * date_diff('ms', started_at, ended_at) / 1000) > energy_j / 5
        """,
        is_error=False,
    ),
    Check(
        "littles_law",
        "cleaned_load_levels",
        "In a closed loop, requests in flight = request rate x mean latency (Little's law), within 10 %. "
        "Without a mean in the log the sum of its parts stands in, where those add up.",
        """
        SELECT run_id, r.name, l.level,
               l.throughput_per_s / coalesce(l.batch_size, 1) * mean_us / 1e6 AS in_flight
        FROM (
            SELECT *, coalesce(avg_us, client_send_us + network_us + queue_us
                + coalesce(compute_us, compute_input_us + compute_infer_us + compute_output_us)
                + coalesce(cache_hit_us, 0) + coalesce(cache_miss_us, 0) + client_recv_us) AS mean_us
            FROM cleaned_load_levels
            WHERE mode = 'concurrency' AND level > 0 AND stable IS DISTINCT FROM false
              AND (avg_us IS NOT NULL OR NOT list_contains(quality, 'components_do_not_add_up'))
        ) AS l
        JOIN cleaned_runs AS r USING (run_id)
        WHERE r.parent_run_id IS NULL AND json_extract_string(r.config, '$.ensemble_part') IS NULL
          AND abs(in_flight - l.level) > 0.1 * l.level
        """,
    ),
    Check(
        "littles_law_of_own_load",
        "cleaned_load_levels",
        "In every closed-loop level of an own load study, requests in flight = request rate x mean latency "
        "(Little's law), within 5 %.",
        """
        SELECT run_id, r.name, l.level, l.throughput_per_s / coalesce(l.batch_size, 1) * l.avg_us / 1e6 AS in_flight
        FROM cleaned_load_levels AS l JOIN cleaned_runs AS r USING (run_id)
        WHERE r.tool = 'perf_assets' AND l.mode = 'concurrency' AND l.verdict <> 'failed'
          AND abs(in_flight - l.level) > 0.05 * l.level
        """,
    ),
    Check(
        "overload_is_told",
        "cleaned_load_levels",
        "No open-loop level of an own load study that sent more than a tenth of its requests late, or left more than a "
        "quarter unanswered, passes as healthy.",
        """
        SELECT run_id, level, delayed_pct, unanswered_pct, verdict
        FROM cleaned_load_levels JOIN cleaned_runs USING (run_id)
        WHERE tool = 'perf_assets' AND mode = 'request_rate' AND requests >= 30
          AND (delayed_pct > 10 OR unanswered_pct > 25)
          AND verdict = 'stable'
        """,
    ),
    Check(
        "sources_agree",
        "load_level_sources",
        "CSV, text report and export of one load test say the same: throughput to six digits (two decimals "
        "after a warning), mean and percentiles to the microsecond, the number of requests exactly.",
        """
        SELECT a.run_id, a.mode, a.level, a.format, b.format AS other_format,
               a.throughput_per_s, b.throughput_per_s AS other_throughput_per_s,
               a.avg_us, b.avg_us AS other_avg_us,
               a.p50_us, b.p50_us AS other_p50_us, a.p99_us, b.p99_us AS other_p99_us,
               a.requests, b.requests AS other_requests
        FROM load_level_sources AS a
        JOIN load_level_sources AS b USING (run_id, mode, level)
        WHERE a.source_run_id < b.source_run_id
          AND (NOT same_throughput(a.throughput_per_s, b.throughput_per_s)
            OR NOT same_throughput(a.response_throughput_per_s, b.response_throughput_per_s)
            OR abs(a.avg_us - b.avg_us) > 1 OR abs(a.p50_us - b.p50_us) > 1 OR abs(a.p90_us - b.p90_us) > 1
            OR abs(a.p95_us - b.p95_us) > 1 OR abs(a.p99_us - b.p99_us) > 1 OR a.requests <> b.requests)
        """,
    ),
    Check(
        "percentiles_in_order",
        "cleaned_load_levels",
        "The median is at most the 90th percentile, that at most the 95th, that at most the 99th.",
        """
        SELECT run_id, mode, level, p50_us, p90_us, p95_us, p99_us
        FROM cleaned_load_levels
        WHERE p50_us > p90_us OR p90_us > p95_us OR p95_us > p99_us OR p50_us > p99_us
        """,
    ),
    Check(
        "composing_queue_fits",
        "cleaned_load_levels",
        "An ensemble waits for its composing models within its own latency, so their queues are no "
        "longer than it.",
        """
        SELECT run_id, mode, level, composing_queue_us, avg_us
        FROM cleaned_load_levels
        WHERE composing_queue_us > coalesce(avg_us, p99_us)
        """,
    ),
    Check(
        "layers_fit_into_run",
        "cleaned_layers",
        "The layers of a profile take no longer together than the whole network, within 10 %. Sanity sweeps are "
        "left out: they time two passes after one warm-up.",
        """
        SELECT o.run_id, o.name, o.input_size, o.latency_ms, l.layers_ms
        FROM cleaned_runs AS o
        JOIN (
            SELECT r.parent_run_id, sum(c.mean_ms) AS layers_ms
            FROM cleaned_layers AS c JOIN cleaned_runs AS r USING (run_id)
            WHERE r.parent_run_id IS NOT NULL
            GROUP BY r.run_id, r.parent_run_id
        ) AS l ON l.parent_run_id = o.run_id
        WHERE l.layers_ms > 1.1 * o.latency_ms
          AND json_extract_string(o.config, '$.sweep_stage') IS DISTINCT FROM 'sanity'
        """,
    ),
    Check(
        "twins_count_once",
        "cleaned_runs",
        "No measurement of perf4sight stands in the tables twice, once from a plain file and once from its "
        "-gt twin.",
        """
        SELECT a.run_id, b.run_id AS other_run_id, a.name, a.batch_size
        FROM cleaned_runs AS a
        JOIN cleaned_runs AS b ON a.tool = b.tool AND a.name = b.name AND a.batch_size = b.batch_size
            AND coalesce(
                a.latency_ms = b.latency_ms,
                a.memory_used_mib = b.memory_used_mib AND a.memory_allocated_mib = b.memory_allocated_mib
            )
        WHERE a.tool = 'perf4sight' AND a.status = 'ok' AND a.file_id < b.file_id
          AND json_extract_string(a.config, '$.layout') <> json_extract_string(b.config, '$.layout')
        """,
    ),
    *_unique_keys(),
)
"""All checks, by the table they look at."""
