"""``perf-assets``: the group of all commands, and how errors of ours end."""

from __future__ import annotations

import sys

import click

from perf_assets.cli import (
    causal,
    comparing,
    curating,
    intake,
    loading,
    measuring,
    operating,
    planning,
    plotting,
    predicting,
    query,
    recording,
    reporting,
    setup,
)
from perf_assets.workspace.errors import PerfAssetsError

DEBUG = "--debug"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="perf-assets", prog_name="perf-assets")
@click.option(DEBUG, is_flag=True, expose_value=False, help="Show the traceback of an error.")
def cli() -> None:
    """Device-performance logs as tables."""


for command in (
    setup.init,
    setup.doctor,
    intake.ingest,
    intake.rebuild,
    intake.check,
    intake.explain,
    query.sql,
    query.tables,
    plotting.plot,
    plotting.gallery,
    reporting.report,
    measuring.sweep,
    measuring.profile,
    recording.record,
    loading.load_test,
    operating.status,
    operating.ui,
    predicting.fit,
    predicting.predict,
    planning.plan,
    causal.causal,
    comparing.compare,
    comparing.regressions,
    curating.tag,
    curating.note,
    curating.exclude,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; an error is one line, with ``--debug`` a traceback."""
    try:
        cli()
    except Exception as error:
        if DEBUG in sys.argv[1:]:
            raise
        raise SystemExit(f"perf-assets: {_in_one_line(error)}") from None


def _in_one_line(error: Exception) -> str:
    if isinstance(error, (PerfAssetsError, OSError)):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("perf_assets"):
        cure = "install the whole package, or requirements/node.txt on a node"
        return f"this command needs {error.name}, which is not installed: {cure}"
    said = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {said} (an error of ours; 'perf-assets {DEBUG} ...' shows where)"
