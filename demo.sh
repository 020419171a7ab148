#!/usr/bin/env bash
# Runs the main job on the shipped drops, measures a little, and shows what came of it. 'make demo' prepares the environment.
set -euo pipefail
data=${PERF_ASSETS_DATA:-data}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

quietly() { # COMMAND...: its output matters only where it fails
    "$@" >"$log" 2>&1 || { cat "$log"; exit 1; }
}

echo "== Taking in the shipped drops: dagster asset materialize --select 'group:ingestion or group:plots'"
quietly dagster asset materialize --select 'group:ingestion or group:plots'
perf-assets sql --csv "SELECT count(*) || ' files of ' || count(DISTINCT format) || ' formats: ' || sum(runs)::BIGINT || ' runs, '
    || sum(lines)::BIGINT || ' lines, of which ' || sum(rejected)::BIGINT || ' are rejected, each with its reason'
    FROM source_files WHERE status = 'ingested'" | tail -n 1

echo "== Do more cards make it faster?"
perf-assets sql "SELECT device_count AS cards, round(min(duration_s), 1) AS training_s,
    round(first(duration_s ORDER BY device_count) OVER () / min(duration_s), 2) AS speed_up
    FROM cleaned_runs WHERE name LIKE 'v100-%' GROUP BY device_count, duration_s ORDER BY cards"

echo "== Did anything become slower?"
quietly dagster asset materialize --select regressions
perf-assets sql "SELECT split_part(split_part(configuration, 'model=', 2), ',', 1) AS model, metric, run_group[:10] AS night,
    round(median, 3) AS now, round(baseline_median, 3) AS before, verdict
    FROM regressions WHERE is_newest AND verdict IN ('slower', 'worse') ORDER BY metric"

echo "== How fast is this processor? dagster asset materialize --select device_profiles"
quietly dagster asset materialize --select device_profiles
perf-assets sql "SELECT model, batch_size, device, round(latency_ms, 3) AS latency_ms, round(throughput_per_s) AS images_per_s,
    quality FROM cleaned_runs WHERE tool = 'perf_assets' AND (config->'spec'->>'sweep') = 'demo'
    ORDER BY started_at DESC LIMIT 1"

echo "== What takes resnet34, which was never measured here? A grid of three other networks, a fit, then the truth (a minute)"
quietly perf-assets sweep sweeps/processor.toml --stage quick
device=$(perf-assets sql --csv "SELECT device FROM cleaned_runs WHERE (config->'spec'->>'sweep') = 'processor' LIMIT 1" | tail -n 1)
# Held out, so that a second demo predicts it as blindly as the first; nothing to fit is told below.
perf-assets fit --eval-networks resnet34 >"$log" 2>&1 || true
quietly perf-assets sweep sweeps/unseen.toml
perf-assets predict --model resnet34 --device "$device" --stage inference --batch-size 3 --input-size 64 2>/dev/null ||
    echo "Not predicted: other work kept this processor busy, and nothing is learnt from runs that were disturbed"

echo "== Requests per second of a small server here, by its instances and by requests under way (half a minute)"
quietly perf-assets load-test --again studies/demo_load.toml
perf-assets sql "PIVOT (SELECT cleaned_load_levels.model_instances AS instances, level::INT AS level, round(cleaned_load_levels.throughput_per_s, 1) AS per_s
    FROM cleaned_load_levels JOIN cleaned_runs USING (run_id) WHERE config->>'study' = 'demo_load')
    ON level USING max(per_s) ORDER BY instances"

quietly perf-assets report
echo "Tables: $data/perf.duckdb    Figures: $data/plots    Your own logs: anywhere under $data/drops"
echo "The UI: 'make ui', then http://localhost:3000"
echo "The report: $data/report.html"
