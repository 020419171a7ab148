"""Invariants of the published tables, each as SQL that returns the rows that break it.

Plain queries without parameters: asset checks run them, and so can anyone with a DuckDB shell.
"""

from __future__ import annotations

from typing import NamedTuple


class Check(NamedTuple):
    """What must hold, in words, and a query for the rows where it does not."""

    description: str
    sql: str


CHECKS: dict[str, Check] = {
    "littles_law": Check(
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
    "sources_agree": Check(
        "CSV, text report and export of one load test say the same: throughput to six digits (two decimals after "
        "a warning), mean and percentiles to the microsecond, the number of requests exactly.",
        """
        SELECT a.run_id, a.mode, a.level, a.format, b.format AS other_format,
               a.throughput_per_s, b.throughput_per_s AS other_throughput_per_s, a.avg_us, b.avg_us AS other_avg_us,
               a.p50_us, b.p50_us AS other_p50_us, a.p99_us, b.p99_us AS other_p99_us, a.requests, b.requests AS other_requests
        FROM load_level_sources AS a
        JOIN load_level_sources AS b USING (run_id, mode, level)
        WHERE a.source_run_id < b.source_run_id
          AND (abs(a.throughput_per_s - b.throughput_per_s) > greatest(0.0051, 1e-5 * a.throughput_per_s)
            OR abs(a.response_throughput_per_s - b.response_throughput_per_s) > greatest(0.0051, 1e-5 * a.response_throughput_per_s)
            OR abs(a.avg_us - b.avg_us) > 1 OR abs(a.p50_us - b.p50_us) > 1 OR abs(a.p90_us - b.p90_us) > 1
            OR abs(a.p95_us - b.p95_us) > 1 OR abs(a.p99_us - b.p99_us) > 1 OR a.requests <> b.requests)
        """,
    ),
    "percentiles_in_order": Check(
        "The median is at most the 90th percentile, that at most the 95th, that at most the 99th.",
        """
        SELECT run_id, mode, level, p50_us, p90_us, p95_us, p99_us
        FROM cleaned_load_levels
        WHERE p50_us > p90_us OR p90_us > p95_us OR p95_us > p99_us OR p50_us > p99_us
        """,
    ),
    "composing_queue_fits": Check(
        "An ensemble waits for its composing models within its own latency, so their queues are no longer than it.",
        """
        SELECT run_id, mode, level, composing_queue_us, avg_us
        FROM cleaned_load_levels
        WHERE composing_queue_us > coalesce(avg_us, p99_us)
        """,
    ),
    "layers_fit_into_run": Check(
        "The layers of a profile take no longer together than the whole network, within 10 %. Sanity sweeps are left "
        "out: they time two passes after one warm-up.",
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
    "twins_count_once": Check(
        "No measurement of perf4sight stands in the tables twice, once from a plain file and once from its -gt twin.",
        """
        SELECT a.run_id, b.run_id AS other_run_id, a.name, a.batch_size
        FROM cleaned_runs AS a
        JOIN cleaned_runs AS b ON a.tool = b.tool AND a.name = b.name AND a.batch_size = b.batch_size
            AND coalesce(a.latency_ms = b.latency_ms, a.memory_used_mib = b.memory_used_mib AND a.memory_allocated_mib = b.memory_allocated_mib)
        WHERE a.tool = 'perf4sight' AND a.status = 'ok' AND a.file_id < b.file_id
          AND json_extract_string(a.config, '$.layout') <> json_extract_string(b.config, '$.layout')
        """,
    ),
}
"""All checks by name."""
