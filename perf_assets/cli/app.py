"""``perf-assets``: the group of all commands, and how errors of ours end."""

from __future__ import annotations

import click

from perf_assets.cli import (
    causal,
    comparing,
    curating,
    intake,
    loading,
    measuring,
    operating,
    plotting,
    predicting,
    query,
    recording,
    reporting,
    setup,
)
from perf_assets.workspace.errors import PerfAssetsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="perf-assets", prog_name="perf-assets")
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
    predicting.plan,
    causal.causal,
    comparing.compare,
    comparing.regressions,
    curating.tag,
    curating.note,
    curating.exclude,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors of ours are one line, not a traceback."""
    try:
        cli()
    except (PerfAssetsError, OSError) as error:
        raise SystemExit(f"perf-assets: {error}") from error
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("perf_assets"):
            raise
        cure = "install the whole package, or requirements/node.txt on a node"
        raise SystemExit(
            f"perf-assets: this command needs {error.name}, which is not installed: {cure}"
        ) from None
