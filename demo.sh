#!/usr/bin/env bash
# Runs the main job on the shipped drops and shows what came of it. 'make demo' prepares the environment.
set -euo pipefail

echo "== dagster asset materialize --select 'group:ingestion or group:plots'"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! dagster asset materialize --select 'group:ingestion or group:plots' >"$log" 2>&1; then
    cat "$log"
    exit 1
fi
grep -c STEP_SUCCESS "$log" | xargs -I{} echo "{} steps succeeded"

echo
echo "== What was taken in, and what was not"
perf-assets sql "SELECT format, status, count(*) AS files, sum(runs)::BIGINT AS runs, sum(lines)::BIGINT AS lines,
    sum(records)::BIGINT AS used, sum(rejected)::BIGINT AS rejected, sum(ignored)::BIGINT AS ignored
    FROM source_files GROUP BY ALL ORDER BY format NULLS LAST, status"

echo
echo "== Rejected lines, with the reason"
perf-assets sql "SELECT path, line_number AS line, reason, detail
    FROM rejected_lines JOIN source_files USING (file_id) ORDER BY path, line LIMIT 12"

echo
query="SELECT format, device_id, session, samples, round(energy_j / 1000, 1) AS energy_kj,
    round(mean_power_w, 1) AS mean_power_w FROM telemetry_sessions JOIN source_files USING (file_id)
    ORDER BY ALL"
echo "== perf-assets sql \"$query\""
perf-assets sql "$query"

echo
echo "== A sanity profile of one small network on this machine's processor, through drops into SQL"
if ! dagster asset materialize --select device_profiles >"$log" 2>&1; then
    cat "$log"
    exit 1
fi
perf-assets sql "SELECT model, batch_size, stage, device, host, status, round(latency_ms, 4) AS latency_ms,
    round(throughput_per_s) AS images_per_s, round(process_rss_mib) AS rss_mib, quality,
    (SELECT count(*) FROM cleaned_layers WHERE cleaned_layers.run_id = cleaned_runs.run_id) AS layers,
    config->'energy'->>'energy_reason' AS why_no_energy
    FROM cleaned_runs WHERE tool = 'perf_assets' AND (config->'spec'->>'sweep') = 'demo'
    ORDER BY started_at DESC LIMIT 1"

echo
echo "== An instance study of a small server on this machine: throughput grows until as many requests are under way as"
echo "   there are instances (half a minute)"
perf-assets load-test --again studies/demo_load.toml

echo
echo "Tables: ${PERF_ASSETS_DATA:-data}/perf.duckdb    Figures: ${PERF_ASSETS_DATA:-data}/plots"
perf-assets report >/dev/null
echo "The UI: 'make ui', then http://localhost:3000. Your own logs: put them anywhere under ${PERF_ASSETS_DATA:-data}/drops."
echo "The report: ${PERF_ASSETS_DATA:-data}/report.html"
