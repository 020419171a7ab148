"""Measuring on devices: ``sweep`` and ``profile``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from perf_assets.cli.render import print_table, say
from perf_assets.workspace.paths import data_paths

_MEASURED = """
    SELECT model, batch_size, input_size, stage, algorithm, coalesce(device, device_kind) AS device, host,
        status,
        latency_ms, throughput_per_s, array_to_string(quality, ', ') AS quality
    FROM cleaned_runs
    WHERE tool = 'perf_assets' AND (config->'spec'->>'sweep') = ?
    ORDER BY started_at DESC
    LIMIT 20
"""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--stage", default="sanity", show_default=True, help="sanity, quick or full.")
@click.option("--executor", default="local", show_default=True, help="local or slurm.")
@click.option(
    "--device", default="cpu", show_default=True, help="A device of this machine, or a table of cluster.toml."
)
@click.option("--site-file", type=click.Path(path_type=Path), help="cluster.toml of another place.")
@click.option("--again", is_flag=True, help="Measure points that were measured before as well.")
def sweep(file: Path, stage: str, executor: str, device: str, site_file: Path | None, again: bool) -> None:
    """Measure what the sweep FILE asks for and the tables do not hold yet, and take it in."""
    from perf_assets.measuring.sweeps.campaign import CampaignError, Place, run_campaign
    from perf_assets.measuring.sweeps.grid import read_sweep
    from perf_assets.store.database import open_readonly, query

    paths = data_paths()
    try:
        report = run_campaign(
            paths,
            read_sweep(file),
            stage,
            Place(executor, device),
            again=again,
            site_file=site_file,
            on_output=click.echo,
            on_status=lambda engine, job_id, status: say(f"{engine} job {job_id} is {status.state}"),
        )
    except (CampaignError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    with open_readonly(paths.database) as connection:
        columns, rows = query(connection, _MEASURED, parameters=[report.sweep])
    print_table(columns, rows)


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the log. [default: drops/perf_assets/profiles]"
)
def profile(spec: Path, out: Path | None) -> None:
    """Measure the one configuration of the JSON file SPEC on this machine; its log is a drop like any
    other."""
    from perf_assets.measuring.devices.lock import DeviceBusyError
    from perf_assets.measuring.profiling.__main__ import measure
    from perf_assets.measuring.profiling.spec import read_spec

    try:
        code = measure(read_spec(spec), out or data_paths().drops / "perf_assets" / "profiles")
    except (DeviceBusyError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)
