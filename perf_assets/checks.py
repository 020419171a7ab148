"""Invariants of the published tables, each as SQL that returns the rows that break it."""

from __future__ import annotations

from dataclasses import dataclass

from perf_assets.schema import TABLES


@dataclass(frozen=True)
class Check:
    """``sql`` returns offending rows; none means that the invariant holds. ``is_error`` is False for a warning."""

    name: str
    table: str
    description: str
    sql: str
    is_error: bool = True


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
        SELECT file_id, device_id, session, energy_j, mean_power_w * date_diff('ms', started_at, ended_at) / 1000
        FROM telemetry_sessions
        WHERE samples >= 30
          AND abs(energy_j - mean_power_w * date_diff('ms', started_at, ended_at) / 1000) > energy_j / 5
        """,
        is_error=False,
    ),
    *_unique_keys(),
)
"""All checks, by the table they look at."""
