"""Taking drops in: ``ingest`` and ``rebuild``, and ``explain`` for what was not taken in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perf_assets.cli.render import print_table, progress, say, shown
from perf_assets.workspace.paths import data_paths

if TYPE_CHECKING:
    from perf_assets.intake.explain import Finding
    from perf_assets.intake.pipeline import IngestReport

EXIT_REFUSED = 3
"""Exit code when everything was read but some drop was not taken in."""


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
def ingest(paths: tuple[Path, ...]) -> None:
    """Take in all pending drops, or just PATHS: files and folders, copied into drops first if they lie
    elsewhere.

    Exits with 0, or with 3 when some drop could not be taken in.
    """
    from perf_assets.intake import pipeline
    from perf_assets.intake.copying import copy_in

    folder = data_paths()
    only = copy_in(paths, folder) if paths else None
    with progress() as show:
        report = pipeline.ingest(folder, show, lambda pid: say(f"process {pid} is ingesting; waiting"), only)
    _print_report(report)
    refused = report.count("rejected") + report.count("unsupported") + len(report.oddities)
    if report.count("ingested"):
        say("next: perf-assets sql 'SELECT * FROM cleaned_runs', perf-assets plot, perf-assets report")
    sys.exit(EXIT_REFUSED if refused else 0)


@click.command()
def rebuild() -> None:
    """Make every table again from the raw copies, with the parsers as they are now."""
    from perf_assets.intake import pipeline

    with progress() as show:
        report = pipeline.rebuild(data_paths(), show)
    _print_report(report)


@click.command()
def check() -> None:
    """Look at every byte that is kept: raw copies, ledger, parts, tables. Heal what can be healed, name the
    rest.

    Exits with 0, or with 3 when some content is lost.
    """
    from perf_assets.intake import health, pipeline

    folder = data_paths()
    with progress() as show:
        findings = health.check(folder, show)
        if findings.healed:
            pipeline.ingest(folder, show)
    for line in findings.healed:
        click.echo(f"healed: {line}")
    for line in findings.lost:
        click.echo(f"lost: {shown(line)}")
    if not findings.healed and not findings.lost:
        click.echo(f"all is as it was written: {findings.copies} raw copies, ledger, parts and tables")
    sys.exit(EXIT_REFUSED if findings.lost else 0)


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(exists=True, path_type=Path))
def explain(path: Path) -> None:
    """Say which format reads FILE, or what each format missed in it and what would make it readable.

    Nothing is taken in. Exits with 0, or with 3 when no format reads it.
    """
    from perf_assets.intake import explain as library
    from perf_assets.workspace.settings import local_timezone

    try:
        answer = library.explain(path, local_timezone())
    except OSError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{path}: {answer.verdict}")
    if answer.cure:
        click.echo(answer.cure)
    near = [each for each in answer.findings if each.claims or (answer.format is None and each.found)]
    if near:
        print_table(
            ["format", "lines used", "what it missed", "first line it could not use"],
            [(each.format, each.used, each.failure or each.missed, _shown_rejection(each)) for each in near],
        )
    if answer.format is None and answer.findings:
        far = ", ".join(each.format for each in answer.findings if each not in near)
        click.echo(f"nothing in it looks like {far}")
    sys.exit(0 if answer.format is not None else EXIT_REFUSED)


def _shown_rejection(finding: Finding) -> str | None:
    rejection = finding.first_rejection
    return f"line {rejection.line}: {rejection.detail}" if rejection else None


def _print_report(report: IngestReport) -> None:
    """A line a format and outcome of what was read, then what was not taken in and why."""
    counts: dict[tuple[str, str], list[int]] = {}
    for entry in report.read:
        row = counts.setdefault((entry.format or "-", entry.status or "-"), [0, 0, 0, 0])
        for i, value in enumerate((1, entry.runs, entry.records, entry.rejected)):
            row[i] += value or 0
    if counts:
        print_table(
            ["format", "status", "files", "runs", "lines used", "lines rejected"],
            [(*key, *row) for key, row in sorted(counts.items())],
        )
    elif not report.duplicates:
        click.echo("nothing new under drops")
    if report.duplicates:
        are = "file holds" if report.duplicates == 1 else "files hold"
        click.echo(f"{report.duplicates} {are} the same as another: their runs count once")
    for line in report.healed:
        click.echo(f"healed: {line}")
    refused = [entry for entry in (*report.read, *report.oddities) if entry.error]
    if refused:
        print_table(["not taken in", "why"], [(entry.path, entry.error) for entry in refused])
    for path in report.unsettled:
        click.echo(f"{path}: still being written, left for the next time")
