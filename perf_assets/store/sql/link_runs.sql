-- Facts that need several files: run at every publish, over rows that are as the parsers left them.
-- Files are joined by evidence alone (measured values that agree, or the folder together with what was measured),
-- never because nothing else is near; a fact in which they contradict each other keeps them apart. Of several equal
-- candidates the one in the same folder is meant, and last comes run_id, which is made from content: so the order in
-- which files arrive changes nothing. Each link says in run_sources why it was made.

DELETE FROM run_sources;

DELETE FROM load_level_sources;

CREATE OR REPLACE TEMP TABLE link_files AS
SELECT file_id, format, path, regexp_replace(path, '/?[^/]*$', '') AS folder
FROM source_files
WHERE status = 'ingested';

-- A. perf_analyzer: CSV, text report and profile export of one sweep become one run.

CREATE OR REPLACE TEMP TABLE link_tests AS
SELECT r.run_id, r.file_id, f.format, f.path, f.folder, r.parent_run_id, r.model, r.batch_size,
       coalesce(json_extract_string(r.config, '$.ensemble_part') = 'true', false) AS is_part,
       json_extract_string(r.config, '$.model_version') AS model_version,
       json_extract_string(r.config, '$.parent_path') AS parent_path,
       (SELECT count(*) FROM cleaned_load_levels AS l WHERE l.run_id = r.run_id AND l.throughput_per_s IS NOT NULL) AS levels
FROM cleaned_runs AS r JOIN link_files AS f USING (file_id)
WHERE f.format IN ('perf_analyzer_csv', 'perf_analyzer_report', 'perf_analyzer_export');

-- The median agrees to the microsecond. Throughput has six digits in the CSV, two decimals in a report after a
-- warning, and counts requests (not samples) in an export, so there it agrees up to one whole factor, the batch size.
CREATE OR REPLACE TEMP TABLE link_candidates AS
WITH pairs AS (
    SELECT a.run_id, a.format, a.levels, b.run_id AS other_id, b.format AS other_format, b.levels AS other_levels,
           a.folder = b.folder AS same_folder, y.throughput_per_s AS other_throughput,
           x.throughput_per_s AS throughput,
           CASE WHEN a.format = 'perf_analyzer_export' THEN greatest(round(y.throughput_per_s / nullif(x.throughput_per_s, 0)), 1) ELSE 1 END AS factor
    FROM link_tests AS a
    JOIN cleaned_load_levels AS x ON x.run_id = a.run_id
    JOIN cleaned_load_levels AS y ON y.mode = x.mode AND y.level = x.level AND y.p50_us = x.p50_us
    JOIN link_tests AS b ON b.run_id = y.run_id
    WHERE NOT a.is_part AND NOT b.is_part
      AND coalesce(a.model = b.model, true) AND coalesce(a.batch_size = b.batch_size, true)
      AND ((a.format = 'perf_analyzer_report' AND b.format = 'perf_analyzer_csv')
           OR (a.format = 'perf_analyzer_export' AND b.format IN ('perf_analyzer_csv', 'perf_analyzer_report')))
),
agreeing AS (
    SELECT run_id, other_id, any_value(other_format) AS other_format, any_value(same_folder) AS same_folder, count(*) AS common, min(factor) AS factor,
           max(factor) AS largest_factor, least(any_value(levels), any_value(other_levels)) AS needed
    FROM pairs
    WHERE abs(other_throughput - factor * throughput) <= greatest(0.0051, 1e-5 * other_throughput)
    GROUP BY run_id, other_id
)
SELECT *
FROM agreeing
WHERE common = needed AND factor = largest_factor;

CREATE OR REPLACE TEMP TABLE link_best AS
SELECT run_id, other_id, factor,
       concat('median latency and throughput agree at ', common, ' load levels', CASE WHEN factor > 1 THEN concat(' with ', factor::BIGINT, ' samples a request') END, CASE WHEN same_folder THEN '; same folder' END) AS why
FROM link_candidates
QUALIFY row_number() OVER (
    PARTITION BY run_id ORDER BY other_format = 'perf_analyzer_csv' DESC, same_folder DESC, common DESC, other_id
) = 1;

-- A sweep whose first level never got stable leaves a CSV without rows beside its report.
INSERT INTO link_best
SELECT a.run_id, any_value(b.run_id), 1, 'same folder, and neither holds a level that was measured'
FROM link_tests AS a
JOIN link_tests AS b ON b.folder = a.folder AND b.format = 'perf_analyzer_csv' AND b.levels = 0 AND NOT b.is_part
WHERE a.format = 'perf_analyzer_report' AND a.levels = 0 AND NOT a.is_part
  AND coalesce(a.model = b.model, true) AND coalesce(a.batch_size = b.batch_size, true)
  AND (SELECT count(*) FROM link_tests AS o WHERE o.folder = a.folder AND o.format = a.format AND o.levels = 0 AND NOT o.is_part) = 1
GROUP BY a.run_id
HAVING count(*) = 1;

CREATE OR REPLACE TEMP TABLE link_merged AS
SELECT a.run_id, coalesce(b.other_id, a.other_id) AS kept_id, a.factor, a.why
FROM link_best AS a LEFT JOIN link_best AS b ON b.run_id = a.other_id;

-- B. Composing models: a CSV beside the ensemble's joins it by its name, else by its levels.

CREATE OR REPLACE TEMP TABLE link_parents AS
WITH pairs AS (
    SELECT p.run_id, e.run_id AS ensemble_id, p.levels, count(*) AS common,
           max(abs(x.throughput_per_s - y.throughput_per_s) / nullif(y.throughput_per_s, 0)) AS off,
           bool_or(e.path = p.parent_path) AS is_named,
           bool_or(p.folder = e.folder) AS same_folder
    FROM link_tests AS p
    JOIN cleaned_load_levels AS x ON x.run_id = p.run_id
    JOIN cleaned_load_levels AS y ON y.mode = x.mode AND y.level = x.level
    JOIN link_tests AS e ON e.run_id = y.run_id
    WHERE p.is_part AND p.format = 'perf_analyzer_csv'
      AND NOT e.is_part AND e.run_id NOT IN (SELECT run_id FROM link_merged)
    GROUP BY p.run_id, e.run_id, p.levels
)
SELECT run_id, ensemble_id,
       concat(CASE WHEN is_named THEN 'named after the ensemble''s file; ' END, 'load levels are the ensemble''s, throughput within ', round(100 * off, 1), ' %', CASE WHEN same_folder THEN '; same folder' END) AS why
FROM pairs
WHERE common = levels AND (is_named OR (same_folder AND off <= 0.05) OR (levels > 1 AND off <= 0.01))
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY is_named DESC, same_folder DESC, off, ensemble_id) = 1;

UPDATE cleaned_runs AS r SET parent_run_id = p.ensemble_id
FROM link_parents AS p
WHERE r.run_id = p.run_id;

-- The parts that a merged report lists are parts of the kept run: one with the CSV's where there is one, else its own.
INSERT INTO link_merged
SELECT part.run_id, min(csv.run_id), 1, 'composing model of the same name and version, of a report that is the ensemble''s'
FROM link_tests AS part
JOIN link_merged AS m ON m.run_id = part.parent_run_id
JOIN link_parents AS p ON p.ensemble_id = m.kept_id
JOIN link_tests AS csv ON csv.run_id = p.run_id AND csv.model = part.model
WHERE part.is_part AND (part.model_version IS NULL OR coalesce(csv.model_version, '') IN ('', part.model_version))
GROUP BY part.run_id;

UPDATE cleaned_runs AS r SET parent_run_id = m.kept_id
FROM link_merged AS m
WHERE r.parent_run_id = m.run_id;

-- C. Model Analyzer: the readings of a GPU table belong to the runs of the inference table.

INSERT INTO link_merged
SELECT g.run_id, i.run_id, 1, 'same folder, model, configuration and batch size, and no load level that is not the run''s'
FROM cleaned_runs AS g
JOIN cleaned_runs AS i ON i.tool = g.tool AND i.model = g.model
    AND i.batch_size IS NOT DISTINCT FROM g.batch_size
    AND json_extract_string(i.config, '$.model_config_path') IS NOT DISTINCT FROM json_extract_string(g.config, '$.model_config_path')
JOIN link_files AS gf ON gf.file_id = g.file_id
JOIN link_files AS mf ON mf.file_id = i.file_id AND mf.folder = gf.folder
WHERE g.tool = 'model_analyzer'
  AND json_extract_string(g.config, '$.measures') = 'gpus'
  AND json_extract_string(i.config, '$.measures') IS NULL
  AND coalesce(json_extract_string(i.config, '$.instance_group') = json_extract_string(g.config, '$.instance_group'), true)
  AND NOT EXISTS (
      SELECT 1 FROM cleaned_load_gpus AS x WHERE x.run_id = g.run_id
      AND NOT EXISTS (SELECT 1 FROM cleaned_load_levels AS l WHERE l.run_id = i.run_id AND l.level IS NOT DISTINCT FROM x.level)
  )
QUALIFY row_number() OVER (PARTITION BY g.run_id ORDER BY i.run_id) = 1;

-- D. perf4sight: the rows of a -gt file that its plain twin holds too count once. The plain row is kept.

CREATE OR REPLACE TEMP TABLE link_profiles AS
SELECT r.run_id, r.file_id, r.status, r.model, r.pruning_ratio,
       json_extract_string(r.config, '$.test_var') AS test_var,
       json_extract_string(r.config, '$.layout') AS layout,
       row_number() OVER (PARTITION BY r.file_id, fingerprint ORDER BY r.run_index) AS nth, fingerprint
FROM (
    SELECT *, to_json({
        'test_var': json_extract_string(config, '$.test_var'), 'file': json_extract_string(config, '$.model_file'),
        'model': model, 'stage': stage, 'level': pruning_ratio, 'batch_size': batch_size, 'status': status,
        'latency': latency_ms, 'allocated': memory_allocated_mib, 'reserved': memory_reserved_mib, 'used': memory_used_mib
    })::VARCHAR AS fingerprint
    FROM cleaned_runs
    WHERE tool = 'perf4sight'
) AS r;

CREATE OR REPLACE TEMP TABLE link_twins AS
SELECT t.file_id, p.file_id AS plain_file_id
FROM link_profiles AS t
JOIN link_profiles AS p USING (fingerprint, nth)
JOIN link_files AS tf ON tf.file_id = t.file_id
JOIN link_files AS pf ON pf.file_id = p.file_id
WHERE t.layout = 'columns' AND p.layout = 'dict'
GROUP BY t.file_id, p.file_id
-- Rows out of memory hold no measure to know them by: files of nothing else are twins only side by side.
HAVING count(*) FILTER (t.status = 'ok') > 0
    OR (bool_and(tf.folder = pf.folder) AND NOT EXISTS (SELECT 1 FROM link_profiles AS o WHERE o.file_id = t.file_id AND o.status = 'ok'))
QUALIFY row_number() OVER (
    PARTITION BY t.file_id
    ORDER BY count(*) FILTER (t.status = 'ok') DESC, count(*) DESC, bool_and(tf.folder = pf.folder) DESC, p.file_id
) = 1;

INSERT INTO link_merged
SELECT t.run_id, p.run_id, 1, 'the same row in the file''s twin: every setting and measured value agrees'
FROM link_twins AS w
JOIN link_profiles AS t ON t.file_id = w.file_id
JOIN link_profiles AS p ON p.file_id = w.plain_file_id AND p.fingerprint = t.fingerprint AND p.nth = t.nth;

-- A row that the twin lacks was taken out by hand.
UPDATE cleaned_runs SET quality = list_sort(list_distinct(list_append(quality, 'removed_from_twin')))
WHERE file_id IN (SELECT plain_file_id FROM link_twins)
  AND run_id NOT IN (SELECT kept_id FROM link_merged);

-- E. ai3: the layers of a profile are a part of the run that the overall table tells of. The same folder or the same
-- device says so; layers that take longer than the whole network are another measurement's. (Sanity sweeps time two
-- passes after one warm-up: there the times tell nothing.)

CREATE OR REPLACE TEMP TABLE link_layers AS
SELECT l.run_id, o.run_id AS overall_id,
       concat('same model, algorithm, input size', CASE WHEN l.device IS NOT NULL THEN ' and device' END, CASE WHEN lf.folder = pf.folder THEN '; same folder' END, '; the layers take no longer than the run') AS why
FROM cleaned_runs AS l
JOIN cleaned_runs AS o ON o.tool = l.tool AND o.model = l.model AND o.algorithm = l.algorithm
    AND o.input_size = l.input_size AND o.device IS NOT DISTINCT FROM l.device
JOIN link_files AS lf ON lf.file_id = l.file_id
JOIN link_files AS pf ON pf.file_id = o.file_id
WHERE l.tool = 'ai3' AND json_extract_string(l.config, '$.measures') = 'layers'
  AND json_extract_string(o.config, '$.measures') IS NULL
  AND (l.batch_size IS NULL OR l.batch_size = o.batch_size)
  AND (lf.folder = pf.folder OR l.device IS NOT NULL)
  AND (json_extract_string(o.config, '$.sweep_stage') IS NOT DISTINCT FROM 'sanity'
       OR (SELECT sum(mean_ms) FROM cleaned_layers AS x WHERE x.run_id = l.run_id) <= 1.25 * o.latency_ms)
QUALIFY row_number() OVER (
    PARTITION BY l.run_id
    ORDER BY (lf.folder = pf.folder) DESC,
        json_extract_string(o.config, '$.sweep_stage') IS NOT DISTINCT FROM json_extract_string(l.config, '$.sweep_stage') DESC,
        o.run_id
) = 1;

UPDATE cleaned_runs AS r SET parent_run_id = b.overall_id
FROM link_layers AS b
WHERE r.run_id = b.run_id;

-- F. Results that a tool writes twice, as JSON and as a table or text of fewer digits: the JSON is kept.

CREATE OR REPLACE TEMP TABLE link_doubles AS
SELECT t.run_id, j.run_id AS kept_id,
       concat('requests, throughput and latency agree', CASE WHEN tf.folder = jf.folder THEN '; same folder' END) AS why
FROM cleaned_runs AS t
JOIN cleaned_runs AS j ON j.tool = t.tool AND coalesce(j.model = t.model, true)
JOIN link_files AS tf ON tf.file_id = t.file_id
JOIN link_files AS jf ON jf.file_id = j.file_id
JOIN cleaned_load_levels AS x ON x.run_id = t.run_id
JOIN cleaned_load_levels AS y ON y.run_id = j.run_id AND y.requests = x.requests
WHERE ((tf.format = 'genai_perf' AND jf.format = 'aiperf_json') OR (tf.format = 'vllm_bench_text' AND jf.format = 'vllm_bench'))
  -- Two decimals of requests per second, and of milliseconds.
  AND abs(x.throughput_per_s - y.throughput_per_s) <= 0.0051
  AND coalesce(abs(x.avg_us - y.avg_us) <= 5.1, true) AND coalesce(abs(x.p50_us - y.p50_us) <= 5.1, true)
  AND coalesce(abs(x.ttft_p50_us - y.ttft_p50_us) <= 5.1, true)
  AND coalesce(abs(t.duration_s - j.duration_s) <= 0.0051, true)
  AND (x.avg_us IS NOT NULL AND y.avg_us IS NOT NULL OR x.ttft_p50_us IS NOT NULL AND y.ttft_p50_us IS NOT NULL)
QUALIFY row_number() OVER (PARTITION BY t.run_id ORDER BY (tf.folder = jf.folder) DESC, j.run_id) = 1;

INSERT INTO link_merged
SELECT run_id, kept_id, 1, why FROM link_doubles;

-- G. What each file said, before the rows become one.

INSERT INTO run_sources (run_id, file_id, source_run_id, format, why)
SELECT g.kept_id, r.file_id, g.run_id, f.format, g.why
FROM (
    SELECT run_id, kept_id, why FROM link_merged
    UNION
    SELECT kept_id, kept_id, 'the run that the others were joined to' FROM link_merged
) AS g
JOIN cleaned_runs AS r ON r.run_id = g.run_id
JOIN link_files AS f ON f.file_id = r.file_id;

INSERT INTO load_level_sources (
    run_id, file_id, source_run_id, format, mode, level, throughput_per_s, response_throughput_per_s, requests,
    avg_us, std_us, p50_us, p90_us, p95_us, p99_us
)
SELECT s.run_id, s.file_id, s.source_run_id, s.format, l.mode, l.level, l.throughput_per_s * coalesce(m.factor, 1),
       l.response_throughput_per_s, l.requests, l.avg_us, l.std_us, l.p50_us, l.p90_us, l.p95_us, l.p99_us
FROM run_sources AS s
JOIN cleaned_load_levels AS l ON l.run_id = s.source_run_id
LEFT JOIN link_merged AS m ON m.run_id = s.source_run_id;

-- Parts of another file's run keep rows of their own; that they are parts has a reason too.
INSERT INTO run_sources (run_id, file_id, source_run_id, format, why)
SELECT p.run_id, r.file_id, p.run_id, f.format, concat('part of ', p.parent_id, ': ', p.why)
FROM (
    SELECT run_id, ensemble_id AS parent_id, why FROM link_parents
    UNION ALL
    SELECT run_id, overall_id, why FROM link_layers
) AS p
JOIN cleaned_runs AS r ON r.run_id = p.run_id
JOIN link_files AS f ON f.file_id = r.file_id
WHERE p.run_id NOT IN (SELECT source_run_id FROM run_sources);

-- H. The kept run takes over what its own file does not say: first from the report, then from the export.

-- What a table or text repeats of its JSON adds nothing.
DELETE FROM cleaned_load_levels WHERE run_id IN (SELECT run_id FROM link_doubles);

DELETE FROM cleaned_load_gpus WHERE run_id IN (SELECT run_id FROM link_doubles);

DELETE FROM cleaned_counters WHERE run_id IN (SELECT run_id FROM link_doubles);

UPDATE cleaned_runs SET quality = list_filter(quality, lambda flag: flag <> 'gpu_columns_missing')
WHERE run_id IN (SELECT run_id FROM link_doubles);

CREATE OR REPLACE TEMP TABLE link_order AS
SELECT m.run_id, m.kept_id, m.factor, r.file_id,
       row_number() OVER (PARTITION BY m.kept_id ORDER BY f.format = 'perf_analyzer_report' DESC, f.format, m.run_id) AS priority
FROM link_merged AS m
JOIN cleaned_runs AS r ON r.run_id = m.run_id
JOIN link_files AS f ON f.file_id = r.file_id;

CREATE OR REPLACE TEMP TABLE link_levels AS
SELECT o.kept_id, l.mode, l.level,
       arg_min(l.response_throughput_per_s, o.priority) AS response_throughput_per_s,
       arg_min(l.send_rate_per_s, o.priority) AS send_rate_per_s,
       arg_min(l.delayed_pct, o.priority) AS delayed_pct,
       arg_min(l.requests, o.priority) AS requests,
       arg_min(l.avg_us, o.priority) AS avg_us,
       arg_min(l.std_us, o.priority) AS std_us,
       arg_min(l.request_response_us, o.priority) AS request_response_us,
       arg_min(l.response_wait_us, o.priority) AS response_wait_us,
       arg_min(l.composing_queue_us, o.priority) AS composing_queue_us,
       arg_min(l.batch_size, o.priority) AS batch_size,
       arg_min(l.stable, o.priority) AS stable,
       flatten(list(l.quality)) AS quality
FROM link_order AS o JOIN cleaned_load_levels AS l ON l.run_id = o.run_id
GROUP BY o.kept_id, l.mode, l.level;

UPDATE cleaned_load_levels AS k SET
    response_throughput_per_s = coalesce(k.response_throughput_per_s, f.response_throughput_per_s),
    send_rate_per_s = coalesce(k.send_rate_per_s, f.send_rate_per_s),
    delayed_pct = coalesce(k.delayed_pct, f.delayed_pct),
    requests = coalesce(k.requests, f.requests),
    avg_us = coalesce(k.avg_us, f.avg_us),
    std_us = coalesce(k.std_us, f.std_us),
    request_response_us = coalesce(k.request_response_us, f.request_response_us),
    response_wait_us = coalesce(k.response_wait_us, f.response_wait_us),
    composing_queue_us = coalesce(k.composing_queue_us, f.composing_queue_us),
    batch_size = coalesce(k.batch_size, f.batch_size),
    stable = coalesce(k.stable, f.stable),
    quality = list_sort(list_distinct(list_concat(k.quality, f.quality)))
FROM link_levels AS f
WHERE k.run_id = f.kept_id AND k.mode = f.mode AND k.level = f.level;

-- Levels that only another file has (an unstable one that ended the sweep) come along.
UPDATE cleaned_load_levels AS l SET run_id = b.kept_id
FROM (
    SELECT o.run_id, o.kept_id, x.mode, x.level
    FROM link_order AS o JOIN cleaned_load_levels AS x ON x.run_id = o.run_id
    WHERE NOT EXISTS (
        SELECT 1 FROM cleaned_load_levels AS k
        WHERE k.run_id = o.kept_id AND k.mode IS NOT DISTINCT FROM x.mode AND k.level IS NOT DISTINCT FROM x.level
    )
    QUALIFY row_number() OVER (PARTITION BY o.kept_id, x.mode, x.level ORDER BY o.priority) = 1
) AS b
WHERE l.run_id = b.run_id AND l.mode IS NOT DISTINCT FROM b.mode AND l.level IS NOT DISTINCT FROM b.level;

DELETE FROM cleaned_load_levels WHERE run_id IN (SELECT run_id FROM link_merged);

UPDATE cleaned_load_gpus AS g SET run_id = b.kept_id
FROM (
    SELECT o.run_id, o.kept_id, x.level, x.gpu_uuid
    FROM link_order AS o JOIN cleaned_load_gpus AS x ON x.run_id = o.run_id
    WHERE NOT EXISTS (
        SELECT 1 FROM cleaned_load_gpus AS k
        WHERE k.run_id = o.kept_id AND k.level IS NOT DISTINCT FROM x.level AND k.gpu_uuid = x.gpu_uuid
    )
    QUALIFY row_number() OVER (PARTITION BY o.kept_id, x.level, x.gpu_uuid ORDER BY o.priority) = 1
) AS b
WHERE g.run_id = b.run_id AND g.level IS NOT DISTINCT FROM b.level AND g.gpu_uuid = b.gpu_uuid;

DELETE FROM cleaned_load_gpus WHERE run_id IN (SELECT run_id FROM link_merged);

UPDATE cleaned_counters AS c SET run_id = m.kept_id
FROM link_merged AS m
WHERE c.run_id = m.run_id;

UPDATE cleaned_runs AS k SET
    batch_size = coalesce(f.batch_size, k.batch_size),
    model = coalesce(k.model, f.model),
    device = coalesce(k.device, f.device),
    device_raw = CASE WHEN k.device IS NULL AND f.device IS NOT NULL THEN f.device_raw ELSE coalesce(k.device_raw, f.device_raw) END,
    device_kind = coalesce(k.device_kind, f.device_kind),
    started_at = coalesce(k.started_at, f.started_at),
    duration_s = coalesce(k.duration_s, f.duration_s),
    quality = list_sort(list_distinct(list_concat(k.quality, f.quality)))
FROM (
    SELECT o.kept_id,
           -- An export does not tell the batch size, but how much larger the throughput of the others is does.
           coalesce(arg_min(r.batch_size, o.priority), max(o.factor) FILTER (o.factor > 1))::BIGINT AS batch_size,
           arg_min(r.model, o.priority) AS model, arg_min(r.device, o.priority) AS device,
           coalesce(arg_min(r.device_raw, o.priority) FILTER (r.device IS NOT NULL), arg_min(r.device_raw, o.priority)) AS device_raw,
           arg_min(r.device_kind, o.priority) AS device_kind,
           arg_min(r.started_at, o.priority) AS started_at, arg_min(r.duration_s, o.priority) AS duration_s,
           flatten(list(r.quality)) AS quality
    FROM link_order AS o JOIN cleaned_runs AS r ON r.run_id = o.run_id
    WHERE r.tool <> 'perf4sight'
    GROUP BY o.kept_id
) AS f
WHERE k.run_id = f.kept_id;

-- Settings and versions that another file tells go to config. Where both say it, the kept run's word stands.
UPDATE cleaned_runs AS k SET config = json_merge_patch(f.config, coalesce(k.config, '{}'::JSON))
FROM (
    SELECT o.kept_id, list_reduce(list(r.config ORDER BY o.priority DESC), lambda a, b: json_merge_patch(a, b)) AS config
    FROM link_order AS o JOIN cleaned_runs AS r ON r.run_id = o.run_id
    WHERE r.tool = 'perf_analyzer' AND r.config IS NOT NULL
    GROUP BY o.kept_id
) AS f
WHERE k.run_id = f.kept_id;

DELETE FROM cleaned_runs WHERE run_id IN (SELECT run_id FROM link_merged);

-- I. What follows for the joined runs.

UPDATE cleaned_runs AS r SET quality = list_filter(r.quality, lambda flag: flag <> 'gpu_columns_missing')
WHERE r.run_id IN (SELECT kept_id FROM link_merged)
  AND r.run_id IN (SELECT run_id FROM cleaned_load_gpus);

-- The mean latency of the summary level, where the kept file had the median only.
UPDATE cleaned_runs AS r SET
    latency_ms = l.avg_us / 1000,
    latency_std_ms = coalesce(l.std_us / 1000, r.latency_std_ms),
    latency_statistic = 'mean'
FROM cleaned_load_levels AS l
WHERE l.run_id = r.run_id AND r.run_id IN (SELECT kept_id FROM link_merged)
  AND l.level = json_extract_string(r.config, '$.summary_level')::DOUBLE AND l.avg_us IS NOT NULL;

UPDATE cleaned_runs AS r SET mean_power_w = g.power_w
FROM (
    SELECT run_id, level, sum(power_w) AS power_w
    FROM cleaned_load_gpus
    WHERE utilization > 0
    GROUP BY run_id, level
) AS g
WHERE g.run_id = r.run_id AND r.run_id IN (SELECT kept_id FROM link_merged) AND r.mean_power_w IS NULL
  AND g.level = json_extract_string(r.config, '$.summary_level')::DOUBLE;

-- The queueing of an ensemble is that of its composing models. An inner ensemble repeats its own steps: leave it out.
UPDATE cleaned_load_levels AS e SET composing_queue_us = q.queue_us
FROM (
    SELECT r.parent_run_id, l.mode, l.level, sum(l.queue_us) AS queue_us
    FROM cleaned_runs AS r JOIN cleaned_load_levels AS l ON l.run_id = r.run_id
    WHERE r.tool = 'perf_analyzer' AND r.parent_run_id IS NOT NULL AND l.compute_us IS NULL AND l.queue_us IS NOT NULL
    GROUP BY r.parent_run_id, l.mode, l.level
) AS q
WHERE e.run_id = q.parent_run_id AND e.mode = q.mode AND e.level = q.level;

DROP TABLE link_files;

DROP TABLE link_tests;

DROP TABLE link_candidates;

DROP TABLE link_best;

DROP TABLE link_merged;

DROP TABLE link_parents;

DROP TABLE link_layers;

DROP TABLE link_doubles;

DROP TABLE link_profiles;

DROP TABLE link_twins;

DROP TABLE link_order;

DROP TABLE link_levels
