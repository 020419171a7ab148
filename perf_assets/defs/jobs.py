"""Jobs: what sensors and schedules start."""

import dagster as dg

NIGHTLY_SWEEP = "sweeps/nightly.toml"
NIGHTLY_STUDY = "studies/nightly.toml"

ingest_job = dg.define_asset_job(
    "ingest_drops",
    selection=dg.AssetSelection.groups("ingestion"),
    description="Take in all pending drops and publish the tables; the plots follow on their own.",
)


predictors_job = dg.define_asset_job(
    "fit_predictors",
    selection=dg.AssetSelection.groups("predictors"),
    description="Fit all predictors to the published runs, score them, and predict every measured network.",
)


regressions_job = dg.define_asset_job(
    "find_regressions",
    selection=dg.AssetSelection.groups("comparisons"),
    description="Test the newest runs of each configuration against its history.",
)


causal_job = dg.define_asset_job(
    "search_causal_graphs",
    selection=dg.AssetSelection.groups("causal"),
    description="Search again what drives time, memory and outcomes of the published runs.",
)


report_job = dg.define_asset_job(
    "write_report",
    selection=dg.AssetSelection.groups("reports"),
    description="Write the report: one page of what is in the store.",
)


def _sweep_job(stage: str, description: str):  # Dagster does not export the type
    return dg.define_asset_job(
        f"{stage}_sweep",
        selection=dg.AssetSelection.assets("device_profiles"),
        config={"ops": {"device_profiles": {"config": {"sweep": NIGHTLY_SWEEP, "stage": stage}}}},
        description=description,
    )


sanity_sweep = _sweep_job("sanity", "One small point of every combination of the nightly sweep.")
quick_sweep = _sweep_job("quick", "Ten sizes of every combination of the nightly sweep.")
full_sweep = _sweep_job("full", "A hundred sizes (or the sweep's budget) where the sanity point is ok.")

load_study = dg.define_asset_job(
    "load_study",
    selection=dg.AssetSelection.assets("load_studies"),
    config={"ops": {"load_studies": {"config": {"study": NIGHTLY_STUDY}}}},
    description="The nightly load study of a server.",
)
