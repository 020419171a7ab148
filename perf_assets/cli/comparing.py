"""Comparing runs: ``compare`` and ``regressions``. Statistics stand in ``analysis.comparisons``."""

from __future__ import annotations

import json
import sys

import click

from perf_assets.cli.render import print_table, say, shown
from perf_assets.workspace.paths import data_paths

HISTORY = "earlier"


class _ComparisonError(click.ClickException):
    exit_code = 3  # 1 and 2 say something of the runs


@click.command()
@click.argument("groups", nargs=-1, required=True, metavar="[A] B")
@click.option(
    "--baseline",
    is_flag=False,
    flag_value=HISTORY,
    help="The group to compare B against; without a value, all earlier runs of B's configurations.",
)
@click.option("--metric", "metrics", multiple=True, help="Only this metric; may be given several times.")
@click.option("--level", default=0.01, show_default=True, type=click.FloatRange(0, 0.5, min_open=True))
@click.option("--same-within", default=2.0, show_default=True, type=click.FloatRange(0), help="Percent.")
@click.option("--anyway", is_flag=True, help="Compare also groups that did different work.")
@click.option("--with-excluded", is_flag=True, help="Count runs that were excluded.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown for a pull request.")
def compare(
    groups: tuple[str, ...],
    baseline: str | None,
    metrics: tuple[str, ...],
    level: float,
    same_within: float,
    *,
    anyway: bool,
    with_excluded: bool,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Is group B faster, slower or the same as group A? A group is a run_id (or several, with commas), a
    name, tag:…, revision:…, path:… or where:SQL.

    Exit code: 0 where nothing is worse, 1 where something is, 2 where that cannot be told, 3 after an error.
    """
    from perf_assets.analysis.comparisons import selection, showing
    from perf_assets.analysis.comparisons.groups import compare_groups
    from perf_assets.store.database import NoDatabaseError, open_readonly

    if len(groups) != (2 if baseline is None else 1):
        raise click.UsageError(
            "name two groups, A and B; or B alone with --baseline (after B, or with a value)"
        )
    try:
        with open_readonly(data_paths().database) as connection:
            second = selection.select(connection, groups[-1], with_excluded=with_excluded)
            if baseline == HISTORY:
                first = selection.earlier(connection, second.rows)
            else:
                first = selection.select(connection, baseline or groups[0], with_excluded=with_excluded)
        result = compare_groups(
            first.rows,
            second.rows,
            metrics or None,
            level=level,
            same_within=same_within / 100,
            anyway=anyway,
        )
    except (NoDatabaseError, ValueError) as error:
        raise _ComparisonError(str(error)) from error
    if as_json:
        click.echo(json.dumps(showing.plain(result, str(first), str(second)), indent=2))
    elif as_markdown:
        click.echo(showing.markdown(result, str(first), str(second)), nl=False)
    else:
        click.echo(shown(showing.first_line(result)))
        click.echo(shown(f"second: {second}, first: {first}"))
        if result.metrics:
            print_table(showing.COLUMNS, showing.rows(result))
        for note in result.notes:
            say(shown(note))
    sys.exit(result.exit_code)


_SHOWN = (
    "configuration",
    "metric",
    "run_group",
    "median",
    "baseline_median",
    "ratio",
    "detectable",
    "verdict",
)


@click.command()
@click.option("--all", "show_all", is_flag=True, help="Show the newest group of every configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def regressions(*, show_all: bool, as_json: bool) -> None:
    """Test each configuration's newest runs against its history, and publish the table regressions.

    Exit code: 0 where nothing became worse, 1 where something did, 3 after an error.
    """
    from perf_assets.analysis.comparisons.pipeline import publish_regressions
    from perf_assets.analysis.comparisons.regressions import alarms
    from perf_assets.store.database import NoDatabaseError

    try:
        rows = publish_regressions(data_paths())
    except NoDatabaseError as error:
        raise _ComparisonError(str(error)) from error
    worse, better = alarms(rows)
    chosen = [row for row in rows if row["is_newest"]] if show_all else [*worse, *better]
    if as_json:
        click.echo(json.dumps(chosen, indent=2, default=str))
    elif chosen:
        print_table(_SHOWN, [[row[name] for name in _SHOWN] for row in chosen])
    newest = sum(row["is_newest"] for row in rows)
    undecided = sum(row["is_newest"] and row["verdict"] == "cannot tell" for row in rows)
    say(f"{newest} histories: {len(worse)} worse, {len(better)} better, {undecided} cannot tell")
    sys.exit(1 if worse else 0)
