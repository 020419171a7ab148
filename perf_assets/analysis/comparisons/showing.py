"""A comparison in words: rows for a terminal, Markdown for a pull request, plain values for JSON. Nothing is judged
here."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from perf_assets.analysis.comparisons.groups import GroupComparison, MetricComparison

COLUMNS = ("metric", "first", "second", "change", "interval", "verdict", "why")


def first_line(comparison: GroupComparison) -> str:
    """What has to be known before any figure: why nothing was compared, or how the groups are unlike."""
    if comparison.refused:
        return f"Not compared: {comparison.refused}."
    if comparison.unlike:
        return f"Not alike: {'; '.join(comparison.unlike)}."
    return "The groups are alike in device, versions, data set and input size, as far as their logs say."


def rows(comparison: GroupComparison) -> list[tuple[str, ...]]:
    """One row a metric, in the order of :data:`COLUMNS`."""
    return [
        (
            f"{metric.metric} [{metric.unit}]",
            _median(metric.baseline_median, metric.baseline_interval, metric.baseline_n),
            _median(metric.median, metric.interval, metric.n),
            _change(metric.ratio),
            f"{_change(metric.lower)} to {_change(metric.upper)}",
            metric.verdict,
            metric.reason,
        )
        for metric in comparison.metrics
    ]


def markdown(comparison: GroupComparison, first: str, second: str) -> str:
    """GitHub-flavoured Markdown."""
    lines = [
        f"### {_escaped(second)} against {_escaped(first)}",
        "",
        f"**{_escaped(first_line(comparison))}**",
        "",
    ]
    if comparison.metrics:
        lines += [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
        lines += [_line([_escaped(cell) for cell in row]) for row in rows(comparison)]
        lines.append("")
    lines += [f"- {_escaped(note)}" for note in comparison.notes]
    return "\n".join(lines).rstrip() + "\n"


def plain(comparison: GroupComparison, first: str, second: str) -> dict[str, Any]:
    """Values that JSON can hold; what is infinite is null."""
    return {
        "first": first,
        "second": second,
        "refused": comparison.refused,
        "unlike": comparison.unlike,
        "notes": comparison.notes,
        "exit_code": comparison.exit_code,
        "metrics": [_plain_metric(metric) for metric in comparison.metrics],
    }


def _plain_metric(metric: MetricComparison) -> dict[str, Any]:
    values = dataclasses.asdict(metric)
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _median(median: float, interval: tuple[float, float], n: int) -> str:
    if n < 3:
        return f"{median:.5g} (n = {n})"
    return f"{median:.5g} ({interval[0]:.5g} to {interval[1]:.5g}, n = {n})"


def _change(ratio: float) -> str:
    return f"{ratio - 1:+.1%}" if ratio < 10 else f"×{ratio:.3g}"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """A text that cannot leave its cell: names come from logs."""
    for sign in "\\|<>*_`[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
