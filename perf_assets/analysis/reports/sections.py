"""What the report tells, a section a question: its SQL, and when it is left out. Nothing is drawn or written
here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One table of the report. ``reads`` is the table that must have rows, or the section is left out."""

    title: str
    says: str
    reads: str
    sql: str


SECTIONS = (
    Section(
        "What is in the store",
        "Files by format and what became of them. Lines are records, rejected, or ignored (headers, blanks, "
        "comments).",
        "source_files",
        """
        SELECT coalesce(format, '-') AS format, status, count(*) AS files, sum(runs)::BIGINT AS runs,
               sum(lines)::BIGINT AS lines, sum(records)::BIGINT AS records, sum(rejected)::BIGINT AS rejected
        FROM source_files GROUP BY ALL ORDER BY ALL
        """,
    ),
    Section(
        "Newest runs",
        "The thirty that began last, or were taken in last where a log tells no time.",
        "cleaned_runs",
        """
        SELECT coalesce(r.started_at, f.ingested_at) AS "when", r.tool, r.name, r.status, r.model,
               coalesce(r.device, r.device_kind) AS device, r.batch_size, round(r.latency_ms, 3) AS
                   latency_ms,
               round(r.throughput_per_s, 2) AS throughput_per_s, round(r.energy_j, 2) AS energy_j, f.path
        FROM cleaned_runs AS r JOIN source_files AS f USING (file_id)
        WHERE r.status <> 'superseded'
        ORDER BY coalesce(r.started_at, f.ingested_at) DESC, r.run_id LIMIT 30
        """,
    ),
    Section(
        "Regressions",
        "Each new group of runs against its own history; ratio below or above 1 with its interval.",
        "regressions",
        "SELECT * EXCLUDE (snapshot) FROM regressions ORDER BY verdict <> 'slower', verdict, metric LIMIT 100",
    ),
    Section(
        "Load tests",
        "For each test the level with the highest throughput, and its 99th percentile.",
        "cleaned_load_levels",
        """
        SELECT r.tool, r.name, r.model, l.mode, arg_max(l.level, l.throughput_per_s) AS best_level,
               any_value(l.model_instances) AS instances, any_value(l.gpu_count) AS gpus,
               round(max(l.throughput_per_s), 1) AS throughput_per_s,
               round(arg_max(l.p99_us, l.throughput_per_s) / 1000, 2) AS p99_ms, count(*) AS levels, f.path
        FROM cleaned_load_levels AS l JOIN cleaned_runs AS r USING (run_id)
        JOIN source_files AS f ON f.file_id = r.file_id
        GROUP BY ALL ORDER BY r.tool, r.name
        """,
    ),
    Section(
        "Training over devices",
        "Mean time of an epoch after the first, of the last complete run of each log.",
        "cleaned_epochs",
        """
        SELECT r.name, r.dataset, coalesce(r.device, r.device_kind) AS device, r.world_size, r.batch_size,
               round(avg(e.duration_s), 2) AS epoch_s, count(*) AS epochs, f.path
        FROM cleaned_runs AS r JOIN cleaned_epochs AS e USING (run_id) JOIN source_files AS f ON f.file_id =
            r.file_id
        WHERE r.status = 'ok' AND e.phase = 'train' AND e.epoch > 1
        GROUP BY ALL ORDER BY r.name
        """,
    ),
    Section(
        "Energy of polled devices",
        "By the trapezoid over each device's own time stamps, a row a polling session.",
        "telemetry_sessions",
        """
        SELECT f.path, s.device_id, s.device_name, s.session, s.samples, s.started_at,
               round(s.energy_j / 1000, 2) AS energy_kj, round(s.mean_power_w, 1) AS mean_power_w,
               round(s.mean_utilization_pct, 1) AS mean_utilization_pct
        FROM telemetry_sessions AS s JOIN source_files AS f USING (file_id)
        ORDER BY s.energy_j DESC NULLS LAST LIMIT 50
        """,
    ),
    Section(
        "Energy of runs and inferences",
        "As the tool measured it; energy_basis says of what.",
        "cleaned_runs",
        """
        SELECT r.tool, r.model, coalesce(r.device, r.device_kind) AS device, r.algorithm, r.batch_size,
               r.input_size, r.energy_basis, round(r.energy_j, 3) AS energy_j,
               round(r.mean_power_w, 1) AS mean_power_w, f.path
        FROM cleaned_runs AS r JOIN source_files AS f USING (file_id)
        WHERE r.energy_j IS NOT NULL AND r.status = 'ok' ORDER BY ALL LIMIT 50
        """,
    ),
    Section(
        "Predictors beside their peers",
        "Mean absolute error in percent on what was held out; coverage of intervals of 90 %.",
        "predictor_scores",
        """
        SELECT target, device, split, method, n, round(mape, 1) AS mape_pct, round(coverage, 1) AS
            coverage_pct,
               round(abstained, 1) AS abstained_pct
        FROM predictor_scores WHERE "group" = 'all' ORDER BY target, device, split, mape
        """,
    ),
    Section(
        "Files that were not taken in",
        "Each with the reason and the cure.",
        "source_files",
        "SELECT path, status, error FROM source_files WHERE status IN ('rejected', 'unsupported') ORDER BY "
        "path",
    ),
    Section(
        "Lines that were not used",
        "By file and reason.",
        "rejected_lines",
        """
        SELECT f.path, r.reason, count(*) AS lines, min(r.line_number) AS first_line, any_value(r.detail) AS
            detail
        FROM rejected_lines AS r JOIN source_files AS f USING (file_id) WHERE f.status = 'ingested'
        GROUP BY ALL ORDER BY lines DESC LIMIT 50
        """,
    ),
    Section(
        "Runs to be careful with",
        "Flags that parsers and the profiler gave: contended, throttled, running sums, ...",
        "cleaned_runs",
        """
        SELECT flag, r.tool, count(*) AS runs, min(f.path) AS for_example
        FROM (SELECT *, unnest(quality) AS flag FROM cleaned_runs) AS r JOIN source_files AS f USING (file_id)
        GROUP BY ALL ORDER BY runs DESC
        """,
    ),
)
