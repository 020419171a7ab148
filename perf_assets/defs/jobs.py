"""Jobs: what sensors and schedules start."""

import dagster as dg

ingest_job = dg.define_asset_job(
    "ingest_drops",
    selection=dg.AssetSelection.groups("ingestion", "plots"),
    description="Take in all pending drops, publish the tables, draw the plots.",
)
